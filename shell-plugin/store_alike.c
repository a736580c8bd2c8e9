/* store_alike.c - is what has the final name the payload already?
 *
 * Here its names, kinds, sizes, link targets and holes are compared. Its data is
 * the caller's business, who knows the checksums.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "store_impl.h"

static bool is_zero (int fd, off_t from, off_t to)
{
    static const char zeros[4096];
    char buf[sizeof (zeros)];

    while (from < to) {
        size_t left = to - from;
        size_t len = left < sizeof (buf) ? left : sizeof (buf);
        ssize_t n = pread (fd, buf, len, from);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || memcmp (buf, zeros, n))
            return false;
        from += n;
    }
    return true;
}

/* Only what is data in the file has to be read. */
static bool is_empty (int fd, off_t from, off_t to)
{
    while (from < to) {
        off_t end;

        if ((from = lseek (fd, from, SEEK_DATA)) < 0)
            return errno == ENXIO; /* a hole up to the end */
        if (from >= to)
            break;
        if ((end = lseek (fd, from, SEEK_HOLE)) < 0)
            return false;
        if (!is_zero (fd, from, end < to ? end : to))
            return false;
        from = end;
    }
    return true;
}

bool store_holes_are_empty (const struct store *st, const struct entry *e, int fd)
{
    off_t at = 0;

    for (uint32_t i = 0; i < e->nsegments; i++) {
        const struct segment *s = &st->m->segments[e->segments + i];

        if (!is_empty (fd, at, s->file_offset))
            return false;
        at = s->file_offset + s->length;
    }
    return is_empty (fd, at, e->size);
}

static bool has_holes (const struct store *st, const struct entry *e)
{
    return e->size > 0
           && (e->nsegments != 1
               || st->m->segments[e->segments].length != e->size);
}

static bool same_target (const struct store *st, const struct entry *e, int dirfd)
{
    const char *want = st->m->strings + e->target;
    char target[PATH_MAX + 1];
    ssize_t n;

    n = readlinkat (dirfd, st->m->strings + e->name, target, sizeof (target));
    return n >= 0 && (size_t)n == strlen (want) && !memcmp (target, want, n);
}

static bool same_holes (struct store *st, uint32_t index)
{
    bool same;
    int fd;

    if (!has_holes (st, &st->m->entries[index]))
        return true;
    if ((fd = place_dir (st->final, index)) < 0)
        return false;
    same = store_holes_are_empty (st, &st->m->entries[index], fd);
    place_dir_done (st->final, index);
    return same;
}

static bool same_size (const struct entry *e, const struct stat *sb)
{
    return S_ISREG (sb->st_mode) && (uint64_t)sb->st_size == e->size;
}

static bool is_alike (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    struct stat sb;
    bool same;
    int fd;

    if (index == 0)
        return e->type == ENTRY_DIR
               || (fstat (st->final->topfd, &sb) == 0 && same_size (e, &sb)
                   && same_holes (st, 0));
    if (e->type == ENTRY_LINK) {
        if ((fd = place_dir (st->final, e->parent)) < 0)
            return false;
        same = same_target (st, e, fd);
        place_dir_done (st->final, e->parent);
        return same;
    }
    if (place_stat (st->final, index, &sb) < 0)
        return false;
    if (e->type == ENTRY_DIR)
        return S_ISDIR (sb.st_mode);
    return same_size (e, &sb) && same_holes (st, index);
}

static int found (int dirfd, const char *name)
{
    (void)dirfd;
    (void)name;
    return 1;
}

/* A directory that is in the payload has nothing else in it. */
static bool is_alone (struct store *st, const struct extra *x, uint32_t index)
{
    int rc;
    int fd;

    if (index == 0 && store_is_contents (st))
        return true;
    if ((fd = place_dir (st->final, index)) < 0)
        return false;
    rc = extra_each (x, fd, index, found);
    place_dir_done (st->final, index);
    return rc == 0;
}

bool store_is_alike (struct store *st)
{
    struct extra *x;
    bool same = true;

    if (!st->final || !(x = extra_create (st->m)))
        return false;
    for (uint32_t i = 0; same && i < st->m->nentries; i++) {
        same = is_alike (st, i)
               && (st->m->entries[i].type != ENTRY_DIR || is_alone (st, x, i));
    }
    extra_destroy (x);
    return same;
}

void store_keep (struct store *st)
{
    place_destroy (st->here);
    st->here = st->final;
    st->kept = true;
}
