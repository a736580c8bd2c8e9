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

/* A destination, to write and to read. 'dest' means what it means to cp: an
 * existing directory receives the payload under its own name, anything else is
 * the new name. If the payload is a directory without a name, then it is what
 * the directory 'dest' holds: if 'dest' exists, what stands in the payload's
 * top is moved into it, all or nothing, and its own mode and time are left
 * alone. 'tmp' is the temporary name, one component.
 */
struct store *store_create (const struct manifest *m,
                            const char *dest,
                            const char *tmp,
                            bool overwrite,
                            struct fault *f);

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

/* Removes what was not published. */
void store_destroy (struct store *st);

/* cffi begin */
/* Remove the temporary name 'tmp' that a killed rank may have left for 'dest'.
 */
int store_discard (const char *dest, const char *tmp);
/* cffi end */

#endif
