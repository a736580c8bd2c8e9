/* store_seal.c - complete a destination: sizes, modes and times */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "store_impl.h"

/* To close any of its descriptors makes a network file system write what it
 * has of a file, and say if it could not.
 */
static int flush (int fd)
{
    int copy = fcntl (fd, F_DUPFD_CLOEXEC, 0);

    return copy < 0 ? -1 : close (copy);
}

static int set_mode (int fd, const struct stat *sb, mode_t mode)
{
    return (sb->st_mode & 07777) == mode ? 0 : fchmod (fd, mode);
}

static int set_time (int fd, const struct stat *sb, const struct entry *e)
{
    struct store_times times = store_times_of (e);

    if (sb->st_mtim.tv_sec == e->mtime && sb->st_mtim.tv_nsec == e->mtime_ns)
        return 0;
    return futimens (fd, times.t);
}

/* Files in one chunk are complete since they were written, but for those that
 * were there before.
 */
static int seal_whole (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    const char *name = manifest_name (st->m, index);
    struct store_times times = store_times_of (e);
    struct stat sb;
    int fd;
    int rc = -1;

    if (!st->taken && !st->kept)
        return 0;
    if ((fd = place_dir (st->here, e->parent)) < 0)
        return -1;
    if (fstatat (fd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISREG (sb.st_mode) || (uint64_t)sb.st_size != e->size)
            errno = EIO;
        else if (((sb.st_mode & 07777) == store_mode (st, e)
                  || fchmodat (fd, name, store_mode (st, e), AT_SYMLINK_NOFOLLOW)
                         == 0)
                 && (place_is_unchanged (e, &sb)
                     || utimensat (fd, name, times.t, AT_SYMLINK_NOFOLLOW) == 0))
            rc = 0;
    }
    place_dir_done (st->here, e->parent);
    return rc;
}

static int seal_file (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    struct stat sb;
    int fd;
    int rc = -1;

    if (index != 0 && store_is_whole (st, e))
        return seal_whole (st, index);
    if ((fd = place_dir (st->here, index)) < 0)
        return -1;
    if (fstat (fd, &sb) == 0) {
        if ((uint64_t)sb.st_size != e->size)
            errno = EIO;
        else if ((store_is_private (st, index)
                  || set_mode (fd, &sb, store_mode (st, e)) == 0)
                 && set_time (fd, &sb, e) == 0 && flush (fd) == 0)
            rc = 0;
    }
    place_dir_done (st->here, index);
    return rc;
}

static int seal_dir_at (struct store *st, uint32_t index, int fd)
{
    const struct entry *e = &st->m->entries[index];
    struct stat sb;

    if (fstat (fd, &sb) < 0
        || (!store_is_private (st, index)
            && set_mode (fd, &sb, store_mode (st, e)) < 0))
        return -1;
    return set_time (fd, &sb, e);
}

/* Opened anew by its name, so that it is found out if that is a link now. */
static int seal_dir (struct store *st, uint32_t index)
{
    int fd;
    int rc;

    if (index == 0) /* contents leave it behind */
        return store_is_contents (st) ? 0 : seal_dir_at (st, 0, st->here->topfd);
    if ((fd = place_open_dir (st->here, index)) < 0)
        return -1;
    rc = seal_dir_at (st, index, fd);
    close (fd);
    return rc;
}

static int seal_all (struct store *st, struct fault *f)
{
    const struct manifest *m = st->m;

    for (uint32_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].type == ENTRY_FILE && seal_file (st, i) < 0)
            return store_fail (st, i, f, NULL);
    }
    if (fdcache_check (st->here->files) < 0)
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

int store_seal (struct store *st, struct fault *f)
{
    int rc;

    pthread_mutex_lock (&st->lock);
    atomic_store (&st->sealed, true);
    if ((rc = seal_all (st, f)) == 0)
        rc = store_sync_data (st, f);
    pthread_mutex_unlock (&st->lock);
    return rc;
}
