/* store_place.c - the files of a payload where they stand on disk */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "openat.h"
#include "store_impl.h"

bool place_is_unchanged (const struct entry *e, const struct stat *sb)
{
    return S_ISREG (sb->st_mode) && (uint64_t)sb->st_size == e->size
           && sb->st_mtim.tv_sec == e->mtime
           && sb->st_mtim.tv_nsec == e->mtime_ns;
}

int place_check (const struct place *pl, const struct entry *e, int fd)
{
    struct stat sb;

    if (pl->kind == PLACE_MADE)
        return 0;
    if (fstat (fd, &sb) < 0)
        return -1;
    if (pl->kind == PLACE_SOURCE ? !place_is_unchanged (e, &sb)
                                 : !S_ISREG (sb.st_mode)) {
        errno = ESTALE;
        return -1;
    }
    return 0;
}

/* Open a directory, or a file for as long as it is in use. When a file is
 * sealed its mode may forbid writing. O_NONBLOCK: what was found may be a pipe.
 */
static int open_entry (uint32_t index, void *arg)
{
    struct place *pl = arg;
    const struct entry *e = &pl->st->m->entries[index];
    char rel[PATH_MAX];
    int flags = O_RDONLY | O_NONBLOCK;
    int fd;

    if (manifest_path (pl->st->m, index, rel, sizeof (rel)) < 0)
        return -1;
    if (e->type == ENTRY_DIR)
        return open_below (pl->topfd, rel, O_RDONLY | O_DIRECTORY);
    if (pl->kind == PLACE_MADE && !atomic_load (&pl->st->sealed))
        flags = O_RDWR;
    if ((fd = open_below (pl->topfd, rel, flags)) < 0)
        return -1;
    if (place_check (pl, e, fd) < 0) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

struct place *place_create (struct store *st, enum place_kind kind)
{
    struct place *pl;

    if (!(pl = calloc (1, sizeof (*pl))))
        return NULL;
    pl->st = st;
    pl->kind = kind;
    pl->topfd = -1;
    if (!(pl->files = fdcache_create (open_entry, pl))) {
        free (pl);
        return NULL;
    }
    return pl;
}

void place_destroy (struct place *pl)
{
    if (pl) {
        int saved_errno = errno;
        fdcache_destroy (pl->files);
        if (pl->topfd >= 0)
            close (pl->topfd);
        free (pl);
        errno = saved_errno;
    }
}

int place_dir (struct place *pl, uint32_t index)
{
    /* the top may be another directory once it is published: never cached */
    return index == 0 ? pl->topfd : fdcache_acquire (pl->files, index);
}

void place_dir_done (struct place *pl, uint32_t index)
{
    if (index != 0) {
        int saved_errno = errno;
        fdcache_release (pl->files, index);
        errno = saved_errno;
    }
}

int place_open_dir (struct place *pl, uint32_t index)
{
    uint32_t parent = pl->st->m->entries[index].parent;
    int dirfd;
    int fd;

    if ((dirfd = place_dir (pl, parent)) < 0)
        return -1;
    fd = open_below (dirfd,
                     manifest_name (pl->st->m, index),
                     O_RDONLY | O_DIRECTORY);
    place_dir_done (pl, parent);
    return fd;
}

int place_stat (struct place *pl, uint32_t index, struct stat *sb)
{
    uint32_t parent = pl->st->m->entries[index].parent;
    int fd;
    int rc;

    if ((fd = place_dir (pl, parent)) < 0)
        return -1;
    rc = fstatat (fd, manifest_name (pl->st->m, index), sb, AT_SYMLINK_NOFOLLOW);
    place_dir_done (pl, parent);
    return rc;
}
