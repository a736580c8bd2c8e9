/* remove.c - take away a temporary file or tree */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_impl.h"

static int empty_dir (int fd)
{
    DIR *dir;
    struct dirent *d;
    int rc = 0;

    if (!(dir = fdopendir (fd))) {
        close (fd);
        return -1;
    }
    while ((d = readdir (dir))) {
        if (strcmp (d->d_name, ".") && strcmp (d->d_name, "..")
            && remove_at (dirfd (dir), d->d_name) < 0)
            rc = -1;
    }
    closedir (dir);
    return rc;
}

int remove_at (int dirfd, const char *name)
{
    int fd;

    if (unlinkat (dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if ((fd = openat (dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
        < 0) {
        /* it may have its final mode already, which may forbid reading it */
        if (errno != EACCES || fchmodat (dirfd, name, 0700, 0) < 0
            || (fd = openat (dirfd,
                             name,
                             O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC))
                   < 0)
            return -1;
    }
    (void)fchmod (fd, 0700);
    if (empty_dir (fd) < 0)
        return -1;
    return unlinkat (dirfd, name, AT_REMOVEDIR);
}

/* Whether 'dest' was an existing directory or a new name may have changed
 * since, so both places are looked at: the name is unlike any other.
 */
int store_discard (const char *dest, const char *tmp)
{
    char *last;
    int fd;
    int rc = 0;

    if ((fd = open (dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) {
        rc = remove_at (fd, tmp);
        close (fd);
    }
    if ((fd = dest_resolve (dest, "", true, &last, NULL)) >= 0) {
        if (remove_at (fd, tmp) < 0)
            rc = -1;
        free (last);
        close (fd);
    }
    return rc;
}
