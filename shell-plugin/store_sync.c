/* store_sync.c - see that a destination is on disk, and its name too
 *
 * For few files each is synced by itself. For many that takes long: of 1 KiB, on
 * ext4 on a virtual disk, 0.2 ms each, while to sync the file system took 0.01
 * to 0.02 ms a file. But that waits for what all others have written as well,
 * and cannot say which file could not be written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "openat.h"
#include "store_impl.h"

#define FEW_ENTRIES 256

static int sync_and_close (int fd)
{
    int rc = fsync (fd);
    int saved_errno = errno;

    close (fd);
    errno = saved_errno;
    return rc;
}

static int sync_file (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    uint32_t parent = e->parent;
    int fd;
    int rc;

    if (index == 0 || !store_is_whole (st, e)) {
        if ((fd = place_dir (st->here, index)) < 0)
            return -1;
        rc = fsync (fd);
        place_dir_done (st->here, index);
        return rc;
    }
    if ((fd = place_dir (st->here, parent)) < 0)
        return -1;
    rc = open_below (fd, manifest_name (st->m, index), O_RDONLY | O_NONBLOCK);
    place_dir_done (st->here, parent);
    return rc < 0 ? -1 : sync_and_close (rc);
}

static int sync_dir (struct store *st, uint32_t index)
{
    int fd;

    if (index == 0)
        return fsync (st->here->topfd);
    if ((fd = place_open_dir (st->here, index)) < 0)
        return -1;
    return sync_and_close (fd);
}

static int sync_each (struct store *st, struct fault *f)
{
    for (uint32_t i = st->m->nentries; i-- > 0;) {
        const struct entry *e = &st->m->entries[i];

        if ((e->type == ENTRY_FILE && sync_file (st, i) < 0)
            || (e->type == ENTRY_DIR && sync_dir (st, i) < 0))
            return store_fail (st, i, f, NULL);
    }
    return 0;
}

int store_sync_data (struct store *st, struct fault *f)
{
    if (!st->sync)
        return 0;
    if (st->m->nentries <= FEW_ENTRIES)
        return sync_each (st, f);
    return syncfs (st->here->topfd) < 0 ? store_fail (st, 0, f, NULL) : 0;
}

int store_sync_name (struct store *st, struct fault *f)
{
    char what[128];

    if (!st->sync || fsync (st->parentfd) == 0)
        return 0;
    snprintf (what,
              sizeof (what),
              "has its name, but that may not be on disk: %.80s",
              open_error (errno));
    return store_fail (st, 0, f, what);
}

int store_set_mode (struct store *st, int dirfd, const char *name, mode_t mode)
{
    int fd;
    int rc;

    if ((fd = open_below (dirfd, name, O_RDONLY | O_NONBLOCK)) < 0)
        return -1;
    rc = fchmod (fd, mode);
    if (rc == 0 && st->sync)
        return sync_and_close (fd);
    close (fd);
    return rc;
}
