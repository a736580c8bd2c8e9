/* store_publish.c - give a destination its name */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_impl.h"

static int set_final_mode (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    int fd;
    int rc;

    if (index == 0) {
        if (fchmod (st->here->topfd, e->mode) < 0)
            return -1;
        return st->sync ? fsync (st->here->topfd) : 0;
    }
    if ((fd = place_dir (st->here, e->parent)) < 0)
        return -1;
    rc = store_set_mode (st, fd, manifest_name (st->m, index), e->mode);
    place_dir_done (st->here, e->parent);
    return rc;
}

/* Take away what only the owner of a copy has: contents may come first, as
 * they stand later in the list. What is moved gets its own afterwards.
 */
static int set_final_modes (struct store *st, struct fault *f)
{
    for (uint32_t i = st->m->nentries; i-- > 0;) {
        const struct entry *e = &st->m->entries[i];

        if (e->type == ENTRY_LINK || store_is_moved (st, i)
            || (i == 0 && store_is_contents (st))
            || (store_mode (st, e) == e->mode && !store_is_private (st, i)))
            continue;
        if (set_final_mode (st, i) < 0)
            return store_fail (st, i, f, NULL);
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

static int publish_name (struct store *st, struct fault *f)
{
    struct stat sb;
    bool replaced;
    int rc;

    if (take_name (st, &replaced) < 0)
        return store_fail (st,
                           0,
                           f,
                           errno == EEXIST ? STORE_EXISTS : NULL);
    st->published = true;
    rc = store_sync_name (st, f); /* before what it replaced is gone */
    if (!replaced)
        return rc;
    /* if we are killed now, the next run may know it for what nobody needs. A
     * file may have other names, whose mode it is too.
     */
    if (st->resume
        && fstatat (st->parentfd, st->tmp, &sb, AT_SYMLINK_NOFOLLOW) == 0
        && (S_ISDIR (sb.st_mode) || (S_ISREG (sb.st_mode) && sb.st_nlink == 1)))
        (void)fchmodat (st->parentfd,
                        st->tmp,
                        partial_mode (st),
                        AT_SYMLINK_NOFOLLOW);
    if (remove_at (st->parentfd, st->tmp) < 0) {
        char what[256];

        snprintf (what,
                  sizeof (what),
                  "was replaced, but what stood there cannot be removed: it is "
                  "beside it, as %.100s",
                  st->tmp);
        return store_fail (st, 0, f, what);
    }
    return rc;
}

static int publish (struct store *st, struct fault *f)
{
    int rc;

    if (set_final_modes (st, f) < 0)
        rc = -1;
    else if (st->kept) {
        st->published = true;
        partial_remove_others (st, NULL);
        return store_sync_name (st, f);
    }
    else if (store_is_contents (st))
        rc = store_contents_publish (st, f);
    else
        rc = publish_name (st, f);
    if (!st->resume)
        return rc;
    if (st->published)
        (void)flock (st->here->topfd, LOCK_UN);
    else
        (void)fchmod (st->here->topfd, partial_mode (st));
    return rc;
}

int store_publish (struct store *st, struct fault *f)
{
    int rc;

    pthread_mutex_lock (&st->lock);
    rc = publish (st, f);
    pthread_mutex_unlock (&st->lock);
    return rc;
}
