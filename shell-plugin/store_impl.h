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
    char *name;
    mode_t umask;
    bool overwrite;
    bool created;         /* 'tmp' exists */
    _Atomic bool sealed;  /* nothing is written any more */
    bool published;
};

/* A file that stands in one chunk is written, and read, in one go. */
bool store_is_whole (const struct store *st, const struct entry *e);

/* The mode of an entry until it is published: its owner has to read it. */
mode_t store_mode (const struct entry *e);

/* Remove a file or a tree. A name that does not exist is no error. */
int remove_at (int dirfd, const char *name);

/* Always returns -1. */
int store_fail (struct store *st,
                uint32_t entry,
                struct fault *f,
                const char *what);

struct store *store_alloc (const struct manifest *m, const char *path);

#endif
