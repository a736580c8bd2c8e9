/* openat.c - open what stands below a directory, and nothing else */
#include "openat.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One component. What is no directory is told from a link. */
static int step (int dirfd, const char *name, int flags)
{
    struct stat sb;
    int fd = openat (dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 && errno == ENOTDIR
        && fstatat (dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = S_ISLNK (sb.st_mode) ? ELOOP : ENOTDIR;
    }
    return fd;
}

int open_stepwise (int topfd, const char *path, int flags)
{
    char buf[PATH_MAX];
    char *name = buf;
    char *slash;
    int dirfd = topfd;
    int fd;

    if (strlen (path) >= sizeof (buf)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy (buf, path);
    for (;;) {
        if ((slash = strchr (name, '/')))
            *slash = '\0';
        fd = step (dirfd, name, slash ? O_PATH | O_DIRECTORY : flags);
        if (dirfd != topfd) {
            int saved_errno = errno;
            close (dirfd);
            errno = saved_errno;
        }
        if (fd < 0 || !slash)
            return fd;
        dirfd = fd;
        name = slash + 1;
    }
}

int open_below (int topfd, const char *path, int flags)
{
    static _Atomic bool missing;
    struct open_how how = {
        .flags = flags | O_CLOEXEC, /* O_NOFOLLOW would make it ENOTDIR */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    int fd;

    if (!atomic_load_explicit (&missing, memory_order_relaxed)) {
        fd = syscall (SYS_openat2, topfd, path, &how, sizeof (how));
        /* a container may forbid what it does not know: EPERM. The steps find
         * out whether it was that.
         */
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != E2BIG))
            return fd;
        if (errno == ENOSYS)
            atomic_store_explicit (&missing, true, memory_order_relaxed);
    }
    return open_stepwise (topfd, path, flags);
}

const char *open_error (int errnum)
{
    if (errnum == EMFILE)
        return "out of file descriptors: raise the limit (ulimit -n)";
    if (errnum == ENFILE)
        return "out of file descriptors: the whole system has too many open "
               "files, raise its limit (sysctl fs.file-max)";
    return strerror (errnum);
}
