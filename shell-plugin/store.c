/* store.c - a payload on disk: the source, and the end of any */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openat.h"
#include "store_impl.h"

int store_fail (struct store *st,
                uint32_t entry,
                struct fault *f,
                const char *what)
{
    char rel[PATH_MAX];
    char path[FAULT_PATH_SIZE];
    int errnum = errno;

    if (!what && errnum == ELOOP && entry != 0)
        what = "a link stands on its way: somebody else changes what is there";
    if (!what)
        what = open_error (errnum);
    if (manifest_path (st->m, entry, rel, sizeof (rel)) < 0)
        rel[0] = '\0';
    fault_set (f,
               errnum,
               -1,
               "%s %s: %s",
               st->writing ? "destination" : "source",
               fault_path (path, st->path, rel),
               what);
    if (f)
        f->kind = st->writing ? FAULT_DESTINATION : FAULT_SOURCE;
    return -1;
}

bool store_is_whole (const struct store *st, const struct entry *e)
{
    const struct segment *s = &st->m->segments[e->segments];

    return e->nsegments == 1 && s->length == e->size
           && s->offset / st->m->chunk_size
                  == (s->offset + s->length - 1) / st->m->chunk_size;
}

mode_t store_mode (const struct store *st, const struct entry *e)
{
    mode_t mode = e->mode | S_IRUSR;

    if (e->type == ENTRY_DIR)
        mode |= S_IXUSR;
    if (e->type == ENTRY_DIR && store_is_moved (st, e - st->m->entries))
        mode |= S_IWUSR;
    return mode;
}

struct store_times store_times_of (const struct entry *e)
{
    return (struct store_times){ {
        { .tv_nsec = UTIME_OMIT },
        { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns },
    } };
}

struct store *store_alloc (const struct manifest *m, const char *path)
{
    struct store *st;

    if (!(st = calloc (1, sizeof (*st))))
        return NULL;
    pthread_mutex_init (&st->lock, NULL);
    st->m = m;
    st->parentfd = -1;
    if (!(st->path = strdup (path))) {
        store_destroy (st);
        return NULL;
    }
    return st;
}

struct store *store_open (const struct manifest *m,
                          const char *path,
                          struct fault *f)
{
    struct store *st;

    if (!(st = store_alloc (m, path))
        || !(st->here = place_create (st, PLACE_SOURCE))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        store_destroy (st);
        return NULL;
    }
    if ((st->here->topfd = open (path, O_RDONLY | O_CLOEXEC)) < 0
        || (m->entries[0].type == ENTRY_FILE
            && place_check (st->here, &m->entries[0], st->here->topfd) < 0)) {
        store_fail (st,
                    0,
                    f,
                    errno == ESTALE ? "changed while it was read" : NULL);
        store_destroy (st);
        return NULL;
    }
    return st;
}

int store_check_unchanged (struct store *st, struct fault *f)
{
    for (uint32_t i = 0; i < st->m->nentries; i++) {
        const struct entry *e = &st->m->entries[i];
        struct stat sb;

        if (e->type != ENTRY_FILE)
            continue;
        if ((i == 0 ? fstat (st->here->topfd, &sb)
                    : place_stat (st->here, i, &sb))
                < 0
            || !place_is_unchanged (e, &sb)) {
            errno = ESTALE;
            return store_fail (st, i, f, "changed while it was read");
        }
    }
    return 0;
}

const char *store_tmp_path (const struct store *st)
{
    return st->tmp_path;
}

double store_seconds (struct store *st)
{
    return atomic_load_explicit (&st->ns, memory_order_relaxed) / 1e9;
}

void store_destroy (struct store *st)
{
    if (st) {
        int saved_errno = errno;
        if (st->created && !st->published && !st->lasting)
            remove_at (st->parentfd, st->tmp);
        if (st->final != st->here)
            place_destroy (st->final);
        place_destroy (st->here);
        if (st->parentfd >= 0)
            close (st->parentfd);
        free (st->path);
        free (st->tmp);
        free (st->tmp_path);
        free (st->name);
        pthread_mutex_destroy (&st->lock);
        free (st);
        errno = saved_errno;
    }
}
