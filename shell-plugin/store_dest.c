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
    if (vfs.f_blocks == 0 || avail + st->have >= st->m->bytes)
        return 0;
    snprintf (what,
              sizeof (what),
              "no space left on device: %llu bytes needed, %llu free",
              (unsigned long long)(st->m->bytes - st->have),
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

static int create_file (int dirfd, const char *name, uint64_t size)
{
    int fd;

    if ((fd = openat (dirfd,
                      name,
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      0600))
        < 0)
        return -1;
    if (ftruncate (fd, size) < 0) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    return close (fd);
}

static int create_in (struct store *st, const struct entry *e, int dirfd)
{
    const char *name = st->m->strings + e->name;
    struct store_times times = store_times_of (e);

    if (e->type == ENTRY_DIR)
        return mkdirat (dirfd, name, 0700);
    if (e->type == ENTRY_FILE)
        return create_file (dirfd, name, e->size);
    if (symlinkat (st->m->strings + e->target, dirfd, name) < 0)
        return -1;
    return utimensat (dirfd, name, times.t, AT_SYMLINK_NOFOLLOW);
}

int store_create_entry (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    int fd;
    int rc;

    if (e->type == ENTRY_FILE && store_is_whole (st, e))
        return 0;
    if ((fd = place_dir (st->here, e->parent)) < 0)
        return -1;
    rc = create_in (st, e, fd);
    place_dir_done (st->here, e->parent);
    return rc;
}

static int create_top (struct store *st)
{
    const struct entry *top = &st->m->entries[0];

    if (top->type == ENTRY_DIR) {
        if (mkdirat (st->parentfd, st->tmp, 0700) < 0)
            return -1;
        st->created = true;
        st->here->topfd = openat (st->parentfd,
                                  st->tmp,
                                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return st->here->topfd < 0 ? -1 : 0;
    }
    if ((st->here->topfd = openat (st->parentfd,
                                   st->tmp,
                                   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW
                                       | O_CLOEXEC,
                                   0600))
        < 0)
        return -1;
    st->created = true;
    return ftruncate (st->here->topfd, top->size);
}

static int create_entries (struct store *st, struct fault *f)
{
    for (uint32_t i = 1; i < st->m->nentries; i++) {
        if (store_create_entry (st, i) < 0)
            return store_fail (st, i, f, NULL);
    }
    return 0;
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

/* What has the final name, to look at. */
static int open_final (struct store *st)
{
    const struct entry *top = &st->m->entries[0];
    struct stat sb;

    if (!(st->final = place_create (st, PLACE_FOUND)))
        return -1;
    st->final->topfd = openat (st->parentfd,
                               store_is_contents (st) ? "." : st->name,
                               O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
                                   | (top->type == ENTRY_DIR ? O_DIRECTORY : 0));
    if (st->final->topfd >= 0
        && (top->type == ENTRY_DIR
            || (fstat (st->final->topfd, &sb) == 0 && S_ISREG (sb.st_mode))))
        return 0;
    place_destroy (st->final);
    st->final = NULL;
    return 0; /* not there, or not what could be of use */
}

struct store *store_create (const struct manifest *m,
                            const char *dest,
                            const char *tmp,
                            int flags,
                            struct fault *f)
{
    struct store *st;

    if (!(st = store_alloc (m, dest))
        || !(st->here = place_create (st, PLACE_MADE))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    st->writing = true;
    st->overwrite = flags & STORE_OVERWRITE;
    st->resume = flags & STORE_RESUME;
    st->sync = flags & STORE_SYNC;
    if ((st->parentfd = dest_resolve (dest,
                                      manifest_name (m, 0),
                                      m->entries[0].type == ENTRY_DIR,
                                      &st->name,
                                      f))
        < 0)
        goto error;
    if (!(st->tmp = st->resume ? partial_name (m, st->name) : strdup (tmp))
        || name_paths (st, dest) < 0 || (st->resume && open_final (st) < 0)) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    st->umask = get_umask (st->parentfd);
    if (st->resume)
        return st;
    if (check_free (st, f) < 0 || check_room (st, f) < 0)
        goto error;
    if (create_top (st) < 0) {
        store_fail (st, 0, f, NULL);
        goto error;
    }
    if (create_entries (st, f) < 0)
        goto error;
    return st;
error:
    store_destroy (st);
    return NULL;
}

/* Make the top, or take over one. */
static int begin_top (struct store *st, struct fault *f)
{
    int rc;

    while ((rc = partial_open (st, f)) == 0) {
        partial_remove_others (st, st->tmp);
        if (check_room (st, f) < 0)
            return -1;
        if (partial_make (st) == 0)
            return 0;
        if (errno != EEXIST)
            return store_fail (st, 0, f, NULL);
    }
    if (rc < 0)
        return -1;
    st->created = st->taken = st->lasting = true;
    return 0;
}

int store_begin (struct store *st, struct fault *f)
{
    if (check_free (st, f) < 0 || begin_top (st, f) < 0
        || (st->taken ? partial_take_over (st, f) < 0 || check_room (st, f) < 0
                      : create_entries (st, f) < 0))
        return -1;
    st->lasting = true;
    return 0;
}
