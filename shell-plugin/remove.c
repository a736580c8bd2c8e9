/* remove.c - take away a temporary file or tree
 *
 * A tree is taken down from its top: a directory in it that is not empty is
 * moved up to the top first. So neither the open files nor the paths grow with
 * the depth.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_impl.h"

/* Open a directory with all rights, which its final mode may have taken. */
static DIR *open_dir (int dirfd, const char *name)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct stat sb;
    DIR *dir;
    int fd;

    if ((fd = openat (dirfd, name, flags)) < 0
        && (errno != EACCES || fchmodat (dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) < 0
            || (fd = openat (dirfd, name, flags)) < 0))
        return NULL;
    if (fstat (fd, &sb) == 0 && (sb.st_mode & 0700) != 0700)
        (void)fchmod (fd, 0700);
    if (!(dir = fdopendir (fd)))
        close (fd);
    return dir;
}

/* 1 if it is a directory that is not empty. */
static int remove_simple (int dirfd, const char *name)
{
    if (unlinkat (dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    if (unlinkat (dirfd, name, AT_REMOVEDIR) == 0)
        return 0;
    return errno == ENOTEMPTY || errno == EEXIST ? 1 : -1;
}

/* Move a directory up to 'topfd', under a name that is free there. */
static int move_up (int topfd, int dirfd, const char *name, unsigned long *counter)
{
    char new[32];

    for (;;) {
        snprintf (new, sizeof (new), "%lu", (*counter)++);
        if (renameat (dirfd, name, topfd, new) == 0)
            return 0;
        if (errno == EACCES && fchmodat (dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0
            && renameat (dirfd, name, topfd, new) == 0)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
            return -1;
    }
}

/* Empty a directory that stands in the top but for those that it moves up. */
static int empty (int topfd, const char *name, unsigned long *counter)
{
    struct dirent *d;
    DIR *dir;
    int rc = 0;

    if (!(dir = open_dir (topfd, name)))
        return -1;
    while (rc == 0 && (d = readdir (dir))) {
        if (!strcmp (d->d_name, ".") || !strcmp (d->d_name, ".."))
            continue;
        if ((rc = remove_simple (dirfd (dir), d->d_name)) > 0)
            rc = move_up (topfd, dirfd (dir), d->d_name, counter);
    }
    closedir (dir);
    return rc;
}

/* One pass over the top. Returns how many things it took away, or -1 with
 * errno set after it has done what it could.
 */
static long sweep (DIR *top, unsigned long *counter)
{
    struct dirent *d;
    long count = 0;
    int errnum = 0;

    rewinddir (top);
    while ((d = readdir (top))) {
        int rc;

        if (!strcmp (d->d_name, ".") || !strcmp (d->d_name, ".."))
            continue;
        if ((rc = remove_simple (dirfd (top), d->d_name)) > 0
            && (rc = empty (dirfd (top), d->d_name, counter)) == 0)
            rc = unlinkat (dirfd (top), d->d_name, AT_REMOVEDIR);
        if (rc < 0)
            errnum = errno;
        count++;
    }
    errno = errnum;
    return errnum ? -1 : count;
}

int remove_at (int parentfd, const char *name)
{
    unsigned long counter = 0;
    long count;
    DIR *top;
    int rc;

    if ((rc = remove_simple (parentfd, name)) <= 0)
        return rc;
    if (!(top = open_dir (parentfd, name)))
        return -1;
    while ((count = sweep (top, &counter)) > 0)
        continue;
    closedir (top);
    return count < 0 ? -1 : unlinkat (parentfd, name, AT_REMOVEDIR);
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
