/* dest.c - where a destination leads to */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openat.h"
#include "store_impl.h"

static int fail (struct fault *f, const char *dest, const char *what)
{
    char path[FAULT_PATH_SIZE];
    int errnum = errno;

    fault_set (f,
               errnum,
               -1,
               "destination %s: %s",
               fault_path (path, dest, ""),
               what ? what : open_error (errnum));
    if (f)
        f->kind = FAULT_DESTINATION;
    return -1;
}

int dest_resolve (const char *dest,
                  const char *name,
                  bool is_dir,
                  char **lastp,
                  struct fault *f)
{
    struct stat sb;
    char dir[PATH_MAX];
    const char *last = name;
    size_t len = strlen (dest);
    int fd;

    if (len == 0 || len >= sizeof (dir)) {
        errno = len == 0 ? ENOENT : ENAMETOOLONG;
        return fail (f, dest, NULL);
    }
    memcpy (dir, dest, len + 1);
    if (stat (dest, &sb) < 0 || !S_ISDIR (sb.st_mode)) {
        char *slash;

        if (dir[len - 1] == '/' && !is_dir) {
            errno = ENOTDIR;
            return fail (f,
                                 dest,
                                 "is not a directory: make it first, or leave "
                                 "out the / at the end");
        }
        while (len > 1 && dir[len - 1] == '/')
            dir[--len] = '\0';
        if ((slash = strrchr (dir, '/'))) {
            last = dest + (slash - dir) + 1;
            len -= slash + 1 - dir;
            slash[slash == dir ? 1 : 0] = '\0';
        }
        else {
            last = dest;
            strcpy (dir, ".");
        }
    }
    else
        len = strlen (last);
    if ((fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return fail (f,
                             dest,
                             errno == ENOENT
                                 ? "its directory does not exist: make it first"
                                 : NULL);
    if (!(*lastp = strndup (last, len))) {
        close (fd);
        return fail (f, dest, NULL);
    }
    return fd;
}

static bool is_same (const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Is the directory 'fd' that one, or somewhere below it? */
static bool is_within (int fd, const struct stat *top)
{
    struct stat sb;
    struct stat last = { 0 };
    bool found = false;

    fd = openat (fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* the parent of / is / */
    while (fd >= 0 && !found && fstat (fd, &sb) == 0 && !is_same (&sb, &last)) {
        int up = openat (fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

        found = is_same (&sb, top);
        last = sb;
        close (fd);
        fd = up;
    }
    if (fd >= 0)
        close (fd);
    return found;
}

/* Does the source stand somewhere below the directory 'top'? */
static bool holds_source (const struct stat *top, const char *source)
{
    char *path;
    bool found;
    int fd;

    if (!S_ISDIR (top->st_mode) || !(path = realpath (source, NULL)))
        return false;
    strrchr (path, '/')[1] = '\0';
    fd = open (path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    free (path);
    found = fd >= 0 && is_within (fd, top);
    if (fd >= 0)
        close (fd);
    return found;
}

int dest_is_source (const char *dest,
                    const char *name,
                    const char *source,
                    bool overwrite,
                    struct fault *f)
{
    struct stat src;
    struct stat sb;
    char *last;
    int fd;
    int rc = 0;

    if (stat (source, &src) < 0)
        return 0; /* who opens it says so better */
    if (stat (dest, &sb) == 0 && is_same (&sb, &src))
        return 1;
    if ((fd = dest_resolve (dest, name, S_ISDIR (src.st_mode), &last, f)) < 0)
        return -1;
    if (fstatat (fd, last, &sb, 0) < 0)
        sb.st_mode = 0;
    else if (is_same (&sb, &src))
        rc = 1;
    if (rc == 0 && S_ISDIR (src.st_mode) && is_within (fd, &src)) {
        errno = EINVAL;
        rc = fail (f, dest, "is inside the source: choose a place outside of it");
    }
    else if (rc == 0 && overwrite && holds_source (&sb, source)) {
        errno = EINVAL;
        rc = fail (f,
                   dest,
                   "to overwrite it would remove the source, which it holds: "
                   "choose another place");
    }
    free (last);
    close (fd);
    return rc;
}
