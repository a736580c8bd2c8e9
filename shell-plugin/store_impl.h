/* store_impl.h - what the files of the store share */
#ifndef FLUX_TREE_STORE_IMPL_H
#define FLUX_TREE_STORE_IMPL_H

#include <stdatomic.h>

#include "dest.h"
#include "fdcache.h"
#include "store.h"

struct store {
    const struct manifest *m;
    bool writing;
    char *path;           /* as the user named it, for messages */
    int topfd;            /* the top: a directory, or the one file */
    struct fdcache *files;
    _Atomic int64_t ns;   /* spent in system calls on files */

    /* destination only */
    int parentfd;         /* where 'tmp' stands and 'name' will */
    char *tmp;
    char *tmp_path;
    char *name;           /* "": what is in 'tmp' goes into 'parentfd' */
    mode_t umask;
    bool overwrite;
    bool created;         /* 'tmp' exists */
    _Atomic bool sealed;  /* nothing is written any more */
    bool published;
};

/* A file that stands in one chunk is written, and read, in one go. */
bool store_is_whole (const struct store *st, const struct entry *e);

/* The mode of an entry until it is published: its owner has to read it, and to
 * write to a directory that is moved into another one.
 */
mode_t store_mode (const struct store *st, const struct entry *e);

/* Is it the contents of a directory that exists? */
static inline bool store_is_contents (const struct store *st)
{
    return st->name && !*st->name;
}

static inline bool store_is_moved (const struct store *st, uint32_t index)
{
    return store_is_contents (st) && index != 0
           && st->m->entries[index].parent == 0;
}

/* store_contents.c: both say why in 'f'. */
int store_contents_check (struct store *st, struct fault *f);
int store_contents_publish (struct store *st, struct fault *f);

/* Does this error of renameat2 say that it cannot be had here? */
bool store_is_unsupported (int errnum);
#define STORE_EXISTS "exists: remove it, or allow overwrite"

/* Remove a file or a tree. A name that does not exist is no error. */
int remove_at (int dirfd, const char *name);

/* Always returns -1. */
int store_fail (struct store *st,
                uint32_t entry,
                struct fault *f,
                const char *what);

struct store *store_alloc (const struct manifest *m, const char *path);

#endif
