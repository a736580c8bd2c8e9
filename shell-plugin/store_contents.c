/* store_contents.c - move what stands in a payload's top into a directory that
 * exists
 *
 * Names are moved one by one. If one cannot be, those before it are moved back,
 * and what they replaced returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_impl.h"

enum move {
    MOVE_NONE = 0,
    MOVE_NEW,       /* the name was free */
    MOVE_EXCHANGED, /* what had the name stands where the new one did */
    MOVE_ASIDE,     /* what had the name stands beside that, as aside_name */
};

int store_contents_check (struct store *st, struct fault *f)
{
    struct stat sb;

    for (uint32_t i = 1; i < st->m->nentries; i++) {
        if (!store_is_moved (st, i))
            continue;
        if (fstatat (st->parentfd,
                     manifest_name (st->m, i),
                     &sb,
                     AT_SYMLINK_NOFOLLOW)
            < 0) {
            if (errno != ENOENT)
                return store_fail (st, i, f, NULL);
        }
        else if (!st->overwrite) {
            errno = EEXIST;
            return store_fail (st, i, f, STORE_EXISTS);
        }
    }
    return 0;
}

/* A name in the temporary directory, unlike any other. */
static void aside_name (const struct store *st, uint32_t index, char buf[NAME_MAX + 1])
{
    snprintf (buf, NAME_MAX + 1, "%.200s.%u", st->tmp, index);
}

/* For file systems without renameat2: nearly as good, but not atomic. */
static int move_plain (struct store *st, uint32_t index, enum move *move)
{
    const char *name = manifest_name (st->m, index);
    char aside[NAME_MAX + 1];
    struct stat sb;
    int saved_errno;

    *move = MOVE_NEW;
    aside_name (st, index, aside);
    if (fstatat (st->parentfd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!st->overwrite) {
            errno = EEXIST;
            return -1;
        }
        if (renameat (st->parentfd, name, st->here->topfd, aside) < 0)
            return -1;
        *move = MOVE_ASIDE;
    }
    if (renameat (st->here->topfd, name, st->parentfd, name) == 0)
        return 0;
    saved_errno = errno;
    if (*move == MOVE_ASIDE)
        (void)renameat (st->here->topfd, aside, st->parentfd, name);
    errno = saved_errno;
    return -1;
}

static int move_in (struct store *st, uint32_t index, enum move *move)
{
    const char *name = manifest_name (st->m, index);
    int rc;

    *move = MOVE_NEW;
    rc = renameat2 (st->here->topfd, name, st->parentfd, name, RENAME_NOREPLACE);
    if (rc < 0 && errno == EEXIST && st->overwrite) {
        *move = MOVE_EXCHANGED;
        rc = renameat2 (st->here->topfd, name, st->parentfd, name, RENAME_EXCHANGE);
    }
    if (rc < 0 && store_is_unsupported (errno))
        rc = move_plain (st, index, move);
    if (rc < 0)
        *move = MOVE_NONE;
    return rc;
}

static void move_back (struct store *st, uint32_t index, enum move move)
{
    const char *name = manifest_name (st->m, index);
    char aside[NAME_MAX + 1];

    if (move == MOVE_EXCHANGED)
        (void)renameat2 (st->here->topfd, name, st->parentfd, name, RENAME_EXCHANGE);
    else if (move != MOVE_NONE)
        (void)renameat (st->parentfd, name, st->here->topfd, name);
    if (move == MOVE_ASIDE) {
        aside_name (st, index, aside);
        (void)renameat (st->here->topfd, aside, st->parentfd, name);
    }
}

static int move_all (struct store *st, unsigned char *moves, struct fault *f)
{
    for (uint32_t i = 1; i < st->m->nentries; i++) {
        enum move move;

        if (!store_is_moved (st, i))
            continue;
        if (move_in (st, i, &move) < 0)
            return store_fail (st, i, f, errno == EEXIST ? STORE_EXISTS : NULL);
        moves[i] = move;
    }
    /* only now, since a directory that cannot be written to cannot be moved */
    for (uint32_t i = 1; i < st->m->nentries; i++) {
        const struct entry *e = &st->m->entries[i];

        if (store_is_moved (st, i) && e->type != ENTRY_LINK
            && store_mode (st, e) != e->mode
            && store_set_mode (st, st->parentfd, manifest_name (st->m, i), e->mode)
                   < 0)
            return store_fail (st, i, f, NULL);
    }
    return 0;
}

int store_contents_publish (struct store *st, struct fault *f)
{
    unsigned char *moves;
    int rc;

    if (!(moves = calloc (st->m->nentries, 1)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if ((rc = move_all (st, moves, f)) < 0) {
        int saved_errno = errno;
        for (uint32_t i = st->m->nentries; i-- > 1;)
            move_back (st, i, moves[i]);
        errno = saved_errno;
    }
    free (moves);
    if (rc < 0)
        return -1;
    st->published = true;
    if (dup3 (st->parentfd, st->here->topfd, O_CLOEXEC) < 0) /* to go on reading */
        return store_fail (st, 0, f, NULL);
    rc = store_sync_name (st, f);
    if (remove_at (st->parentfd, st->tmp) < 0) {
        char what[256];

        snprintf (what,
                  sizeof (what),
                  "has its new contents, but what they replaced cannot be "
                  "removed: it is in it, as %.100s",
                  st->tmp);
        return store_fail (st, 0, f, what);
    }
    return rc;
}
