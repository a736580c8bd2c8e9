/* store_dest.c - create a destination under a temporary name, complete it, and
 * give it its own
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store_impl.h"

/* The bits that a new file may lack. umask(2) cannot be asked without being
 * changed for all threads. Where a directory has a default ACL, that counts.
 */
static mode_t get_umask (int dirfd)
{
    FILE *fp;
    char line[256];
    unsigned int mask = 0777;

    if (fgetxattr (dirfd, "system.posix_acl_default", NULL, 0) > 0)
        return mask;
    if ((fp = fopen ("/proc/self/status", "re"))) {
        while (fgets (line, sizeof (line), fp)) {
            if (sscanf (line, "Umask: %o", &mask) == 1)
                break;
        }
        fclose (fp);
    }
    return mask;
}

static int check_room (struct store *st, struct fault *f)
{
    struct statvfs vfs;
    uint64_t avail;
    char what[128];

    if (fstatvfs (st->parentfd, &vfs) < 0)
        return store_fail (st, 0, f, NULL);
    avail = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    /* some file systems do not know how much they have */
    if (vfs.f_blocks == 0 || avail >= st->m->bytes)
        return 0;
    snprintf (what,
              sizeof (what),
              "no space left on device: %llu bytes needed, %llu free",
              (unsigned long long)st->m->bytes,
              (unsigned long long)avail);
    errno = ENOSPC;
    return store_fail (st, 0, f, what);
}

static int check_free (struct store *st, struct fault *f)
{
    struct stat sb;

    if (store_is_contents (st))
        return store_contents_check (st, f);
    if (fstatat (st->parentfd, st->name, &sb, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT)
            return 0;
        return store_fail (st, 0, f, NULL);
    }
    if (!*manifest_name (st->m, 0)) {
        errno = ENOTDIR;
        return store_fail (st,
                           0,
                           f,
                           "is not a directory: remove it, or choose another "
                           "place");
    }
    if (st->overwrite)
        return 0;
    errno = EEXIST;
    return store_fail (st, 0, f, STORE_EXISTS);
}

static int set_times (int dirfd, const char *name, const struct entry *e)
{
    struct timespec times[2] = {
        { .tv_nsec = UTIME_OMIT },
        { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns },
    };

    return utimensat (dirfd, name, times, AT_SYMLINK_NOFOLLOW);
}

/* Everything but the files that are written in one go. */
static int create_entry (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    char rel[PATH_MAX];
    int fd;

    if (e->type == ENTRY_FILE && store_is_whole (st, e))
        return 0;
    if (manifest_path (st->m, index, rel, sizeof (rel)) < 0)
        return -1;
    if (e->type == ENTRY_DIR)
        return mkdirat (st->topfd, rel, 0700);
    if (e->type == ENTRY_LINK) {
        if (symlinkat (st->m->strings + e->target, st->topfd, rel) < 0)
            return -1;
        return set_times (st->topfd, rel, e);
    }
    if ((fd = openat (st->topfd,
                      rel,
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      0600))
        < 0)
        return -1;
    if (ftruncate (fd, e->size) < 0) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    return close (fd);
}

static int create_top (struct store *st)
{
    const struct entry *top = &st->m->entries[0];

    if (top->type == ENTRY_DIR) {
        if (mkdirat (st->parentfd, st->tmp, 0700) < 0)
            return -1;
        st->created = true;
        st->topfd = openat (st->parentfd,
                            st->tmp,
                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return st->topfd < 0 ? -1 : 0;
    }
    if ((st->topfd = openat (st->parentfd,
                             st->tmp,
                             O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                             0600))
        < 0)
        return -1;
    st->created = true;
    return ftruncate (st->topfd, top->size);
}

/* If 'dest' is the directory that receives the payload, messages are about the
 * name in it.
 */
static int name_paths (struct store *st, const char *dest)
{
    const char *slash = dest[strlen (dest) - 1] == '/' ? "" : "/";
    struct stat parent;
    struct stat sb;
    char *path;

    if (stat (dest, &sb) < 0 || fstat (st->parentfd, &parent) < 0
        || sb.st_dev != parent.st_dev || sb.st_ino != parent.st_ino) {
        size_t len = strlen (dest);

        while (len > 1 && dest[len - 1] == '/')
            len--;
        while (len > 0 && dest[len - 1] != '/')
            len--;
        return asprintf (&st->tmp_path, "%.*s%s", (int)len, dest, st->tmp) < 0
                   ? -1
                   : 0;
    }
    if (asprintf (&st->tmp_path, "%s%s%s", dest, slash, st->tmp) < 0) {
        st->tmp_path = NULL;
        return -1;
    }
    if (store_is_contents (st))
        return 0;
    if (asprintf (&path, "%s%s%s", dest, slash, st->name) < 0)
        return -1;
    free (st->path);
    st->path = path;
    return 0;
}

struct store *store_create (const struct manifest *m,
                            const char *dest,
                            const char *tmp,
                            int flags,
                            struct fault *f)
{
    struct store *st;

    if (!(st = store_alloc (m, dest)) || !(st->tmp = strdup (tmp))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    st->writing = true;
    st->overwrite = flags & STORE_OVERWRITE;
    if ((st->parentfd = dest_resolve (dest,
                                      manifest_name (m, 0),
                                      m->entries[0].type == ENTRY_DIR,
                                      &st->name,
                                      f))
        < 0)
        goto error;
    if (name_paths (st, dest) < 0) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    if (check_free (st, f) < 0 || check_room (st, f) < 0)
        goto error;
    st->umask = get_umask (st->parentfd);
    if (create_top (st) < 0) {
        store_fail (st, 0, f, NULL);
        goto error;
    }
    for (uint32_t i = 1; i < m->nentries; i++) {
        if (create_entry (st, i) < 0) {
            store_fail (st, i, f, NULL);
            goto error;
        }
    }
    return st;
error:
    store_destroy (st);
    return NULL;
}

/* To close any of its descriptors makes a network file system write what it
 * has of a file, and say if it could not.
 */
static int flush (int fd)
{
    int copy = fcntl (fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -1 : close (copy);
}

/* Files in one chunk are complete since they were written. */
static int seal_file (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    struct stat sb;
    struct timespec times[2] = {
        { .tv_nsec = UTIME_OMIT },
        { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns },
    };
    int fd;
    int rc = -1;

    if (index != 0 && store_is_whole (st, e))
        return 0;
    if ((fd = index == 0 ? st->topfd : fdcache_acquire (st->files, index)) < 0)
        return -1;
    if (fstat (fd, &sb) == 0) {
        if ((uint64_t)sb.st_size != e->size)
            errno = EIO;
        else if (fchmod (fd, store_mode (st, e)) == 0 && futimens (fd, times) == 0
                 && flush (fd) == 0)
            rc = 0;
    }
    if (index != 0)
        fdcache_release (st->files, index);
    return rc;
}

static int seal_dir (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    char rel[PATH_MAX];

    if (index == 0) {
        struct timespec times[2] = {
            { .tv_nsec = UTIME_OMIT },
            { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns },
        };
        if (store_is_contents (st))
            return 0; /* it stays behind */
        if (fchmod (st->topfd, store_mode (st, e)) < 0)
            return -1;
        return futimens (st->topfd, times);
    }
    if (manifest_path (st->m, index, rel, sizeof (rel)) < 0
        || fchmodat (st->topfd, rel, store_mode (st, e), 0) < 0)
        return -1;
    return set_times (st->topfd, rel, e);
}

int store_seal (struct store *st, struct fault *f)
{
    const struct manifest *m = st->m;

    atomic_store (&st->sealed, true);
    for (uint32_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].type == ENTRY_FILE && seal_file (st, i) < 0)
            return store_fail (st, i, f, NULL);
    }
    if (fdcache_check (st->files) < 0)
        return store_fail (st, 0, f, NULL);
    /* a directory after all that it holds: that sets its time, and needs it
     * writable
     */
    for (uint32_t i = m->nentries; i-- > 0;) {
        if (m->entries[i].type == ENTRY_DIR && seal_dir (st, i) < 0)
            return store_fail (st, i, f, NULL);
    }
    return 0;
}

/* Take away what only the owner of a copy has: contents may come first, as
 * they stand later in the list. What is moved gets its own afterwards.
 */
static int set_final_modes (struct store *st)
{
    char rel[PATH_MAX];

    for (uint32_t i = st->m->nentries; i-- > 0;) {
        const struct entry *e = &st->m->entries[i];

        if (e->type == ENTRY_LINK || store_mode (st, e) == e->mode
            || store_is_moved (st, i))
            continue;
        if (i == 0) {
            if (!store_is_contents (st) && fchmod (st->topfd, e->mode) < 0)
                return -1;
        }
        else if (manifest_path (st->m, i, rel, sizeof (rel)) < 0
                 || fchmodat (st->topfd, rel, e->mode, 0) < 0)
            return -1;
    }
    return 0;
}

/* For file systems without renameat2: nearly as good, but not atomic. */
static int rename_plain (struct store *st)
{
    struct stat sb;

    if (fstatat (st->parentfd, st->name, &sb, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!st->overwrite) {
            errno = EEXIST;
            return -1;
        }
        if ((S_ISDIR (sb.st_mode) || st->m->entries[0].type == ENTRY_DIR)
            && remove_at (st->parentfd, st->name) < 0)
            return -1;
    }
    return renameat (st->parentfd, st->tmp, st->parentfd, st->name);
}

static int rename_with (struct store *st, unsigned int flags)
{
    return renameat2 (st->parentfd, st->tmp, st->parentfd, st->name, flags);
}

bool store_is_unsupported (int errnum)
{
    /* EXDEV: an overlay cannot exchange what stands in a lower layer */
    return errnum == EINVAL || errnum == ENOSYS || errnum == ENOTSUP
           || errnum == EXDEV;
}

/* Give the name to the new one; *replaced if what had it is now under 'tmp'. */
static int take_name (struct store *st, bool *replaced)
{
    int rc = rename_with (st, RENAME_NOREPLACE);

    *replaced = false;
    if (rc < 0 && errno == EEXIST && st->overwrite) {
        rc = rename_with (st, RENAME_EXCHANGE);
        *replaced = rc == 0;
    }
    if (rc < 0 && store_is_unsupported (errno))
        rc = rename_plain (st);
    return rc;
}

int store_publish (struct store *st, struct fault *f)
{
    bool replaced;

    if (set_final_modes (st) < 0)
        return store_fail (st, 0, f, NULL);
    if (store_is_contents (st))
        return store_contents_publish (st, f);
    if (take_name (st, &replaced) < 0)
        return store_fail (st,
                           0,
                           f,
                           errno == EEXIST ? STORE_EXISTS : NULL);
    st->published = true;
    if (replaced && remove_at (st->parentfd, st->tmp) < 0) {
        char what[256];

        snprintf (what,
                  sizeof (what),
                  "was replaced, but what stood there cannot be removed: it is "
                  "beside it, as %.100s",
                  st->tmp);
        return store_fail (st, 0, f, what);
    }
    return 0;
}
