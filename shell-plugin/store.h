/* store.h - the payload on disk: the source at the root, the destination
 * elsewhere
 *
 * A destination is built beside its final name under a temporary one, and
 * renamed at the end, so that nobody ever sees half of it. A store may be used
 * by several threads at once.
 */
#ifndef FLUX_TREE_STORE_H
#define FLUX_TREE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fault.h"
#include "manifest.h"

struct store;

/* The source at 'path', to read from. 'm' must outlive the store. */
struct store *store_open (const struct manifest *m,
                          const char *path,
                          struct fault *f);

enum store_flag {
    STORE_OVERWRITE = 1, /* what has the final name may be replaced */
    STORE_RESUME = 2,    /* see store_begin */
    STORE_SYNC = 4,      /* on disk before it gets its name, and its name too */
};

/* A destination, to write and to read. 'dest' means what it means to cp: an
 * existing directory receives the payload under its own name, anything else is
 * the new name. If the payload is a directory without a name, then it is what
 * the directory 'dest' holds: if 'dest' exists, what stands in the payload's
 * top is moved into it, all or nothing, and its own mode and time are left
 * alone. 'tmp' is the temporary name, one component; STORE_RESUME has its own,
 * which follows from the payload and the final name.
 */
struct store *store_create (const struct manifest *m,
                            const char *dest,
                            const char *tmp,
                            int flags,
                            struct fault *f);

/* With STORE_RESUME only: nothing was made or refused by store_create. First
 * see whether what has the final name is the payload already:
 *
 *   if (store_is_alike (st)
 *       && every chunk is right, as store_recall (st, RECALL_FINAL) gets it)
 *       store_keep (st);
 *
 * else store_begin, and then take over what is right chunk by chunk, from what
 * an interrupted run left (RECALL_PARTIAL: it is where it belongs) or from what
 * has the final name (RECALL_FINAL: store_write it). What is not published by
 * such a store stays on disk for the next one with the same payload and name.
 */
enum recall {
    RECALL_PARTIAL,
    RECALL_FINAL,
};

/* Make the temporary name, or take over that of an interrupted run: put in order
 * what stands in it, and keep others from it. EBUSY: another broadcast is at
 * work in it.
 */
int store_begin (struct store *st, struct fault *f);
/* What has the final name has the same names, kinds, sizes and link targets? */
bool store_is_alike (struct store *st);
/* Go on with what has the final name as it stands: only its modes and times are
 * set, by store_seal, and store_publish leaves it where it is.
 */
void store_keep (struct store *st);
/* Payload bytes [offset, offset + len) as they stand there: 1, or 0 if they are
 * not all there, or cannot be read. What nobody wrote to yet is not there.
 */
int store_recall (struct store *st,
                  enum recall from,
                  uint64_t offset,
                  void *buf,
                  size_t len);

/* Read or write payload bytes [offset, offset + len). */
int store_read (struct store *st,
                uint64_t offset,
                void *buf,
                size_t len,
                struct fault *f);
int store_write (struct store *st,
                 uint64_t offset,
                 const void *buf,
                 size_t len,
                 struct fault *f);

/* Destination only: what was written before was read back as something else.
 * Write it anew, which works after store_seal as well.
 */
int store_rewrite (struct store *st,
                   uint64_t offset,
                   const void *buf,
                   size_t len,
                   struct fault *f);

/* Source only: nothing was changed since the manifest was made? */
int store_check_unchanged (struct store *st, struct fault *f);

/* Destination only: set modes and times of what is not complete yet, check
 * every size; then give it its name. After the second, the store can still be
 * read.
 */
int store_seal (struct store *st, struct fault *f);
int store_publish (struct store *st, struct fault *f);

/* Destination only: where it stands until it is published. */
const char *store_tmp_path (const struct store *st);

/* Seconds spent in system calls on files, all threads together. */
double store_seconds (struct store *st);

/* Removes what was not published, but for what STORE_RESUME keeps. */
void store_destroy (struct store *st);

/* cffi begin */
/* Remove the temporary name 'tmp' that a killed rank may have left for 'dest'.
 */
int store_discard (const char *dest, const char *tmp);
/* cffi end */

#endif
