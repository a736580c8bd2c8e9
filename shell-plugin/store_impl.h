/* store_impl.h - what the files of the store share */
#ifndef FLUX_TREE_STORE_IMPL_H
#define FLUX_TREE_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "dest.h"
#include "fdcache.h"
#include "store.h"

enum place_kind {
    PLACE_SOURCE, /* must be as the manifest says */
    PLACE_MADE,   /* ours, to write to until it is sealed */
    PLACE_FOUND,  /* may be anything */
};

/* Something on disk that has, or should have, the names of the manifest. */
struct place {
    struct store *st;
    enum place_kind kind;
    int topfd;             /* the top: a directory, or the one file */
    struct fdcache *files;
};

struct store {
    const struct manifest *m;
    bool writing;
    char *path;           /* as the user named it, for messages */
    struct place *here;   /* the source, or what becomes the destination */
    _Atomic int64_t ns;   /* spent in system calls on files */

    /* destination only */
    struct place *final;  /* STORE_RESUME: what has the final name, or NULL */
    int parentfd;         /* where 'tmp' stands and 'name' will */
    char *tmp;
    char *tmp_path;
    char *name;           /* "": what is in 'tmp' goes into 'parentfd' */
    mode_t umask;
    bool overwrite;
    bool resume;
    bool sync;
    bool created;         /* 'tmp' exists, and is ours */
    bool taken;           /* it is that of an interrupted run */
    bool lasting;         /* it stays when it is not published */
    bool kept;            /* 'here' is 'final' */
    uint64_t have;        /* bytes on disk of what was taken over */
    _Atomic bool sealed;  /* nothing is written any more */
    bool published;
    pthread_mutex_t lock; /* of modes, times and names of what was made */
};

/* store_place.c */
struct place *place_create (struct store *st, enum place_kind kind);
void place_destroy (struct place *pl);
/* The directory that is entry 'index', until place_dir_done. */
int place_dir (struct place *pl, uint32_t index);
void place_dir_done (struct place *pl, uint32_t index);
/* The same for one that is not the top, opened anew by its name. */
int place_open_dir (struct place *pl, uint32_t index);
/* An entry but the top as it stands there. */
int place_stat (struct place *pl, uint32_t index, struct stat *sb);
/* A file of the source has the size and time of the manifest. */
bool place_is_unchanged (const struct entry *e, const struct stat *sb);
/* As that, and for what was found: it is a file. */
int place_check (const struct place *pl, const struct entry *e, int fd);

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
    return store_is_contents (st) && !st->kept && index != 0
           && st->m->entries[index].parent == 0;
}

/* The top that STORE_RESUME leaves must be known for one: it has that mode until
 * it is published.
 */
static inline bool store_is_private (const struct store *st, uint32_t index)
{
    return index == 0 && st->resume && !st->kept;
}

/* The times of an entry, for futimens. */
struct store_times {
    struct timespec t[2];
};
struct store_times store_times_of (const struct entry *e);

/* store_dest.c: make an entry but the top, and but a file in one chunk. */
int store_create_entry (struct store *st, uint32_t index);

/* store_resume.c */
#define PARTIAL_PREFIX ".flux-tree-partial-"
char *partial_name (const struct manifest *m, const char *name);
/* Open the top that an interrupted run left, and keep others from it: 1, or 0
 * if there is none.
 */
int partial_open (struct store *st, struct fault *f);
/* Make a new one, and keep others from it. -1 with errno = EEXIST: somebody
 * else has just done so.
 */
int partial_make (struct store *st);
/* What stands in the one that was opened becomes what may stand there. */
int partial_take_over (struct store *st, struct fault *f);
/* Remove those of the same final name that nobody uses, but 'except'. */
void partial_remove_others (struct store *st, const char *except);
/* The mode that only such a top has. */
mode_t partial_mode (const struct store *st);

/* store_alike.c: what the file has where the payload has holes is zeros? */
bool store_holes_are_empty (const struct store *st, const struct entry *e, int fd);

/* store_extra.c: names in a directory that the manifest does not have there */
struct extra;
struct extra *extra_create (const struct manifest *m);
void extra_destroy (struct extra *x);
/* Call 'fn' with each, and stop when it does not return 0. */
int extra_each (const struct extra *x,
                int dirfd,
                uint32_t dir,
                int (*fn) (int dirfd, const char *name));

/* store_sync.c: nothing is done without STORE_SYNC. */
int store_sync_data (struct store *st, struct fault *f);
int store_sync_name (struct store *st, struct fault *f);
/* Set a final mode, which need not allow to open it. */
int store_set_mode (struct store *st, int dirfd, const char *name, mode_t mode);

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
