/* source.h - what travels, at the first shell: a file or a directory there, an
 * archive that it fetches first, or what it pulls from a registry meanwhile
 */
#ifndef FLUX_TREE_SOURCE_H
#define FLUX_TREE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "bcast.h"

typedef void (*source_ready_f) (struct source *src, const struct fault *f, void *arg);

struct source;

/* Begin to get it ready; 'ready' is called in the reactor, with NULL or with
 * what went wrong. 'id' names the broadcast.
 */
struct source *source_create (struct bcast *b,
                              const unsigned char *id,
                              int64_t epoch_ns,
                              source_ready_f ready,
                              void *arg);
void source_destroy (struct source *src);

/* As the user named it. */
const char *source_name (const struct source *src);
/* Where it stands; the manifest, encoded. */
const char *source_path (const struct source *src);
unsigned char *source_manifest (const struct source *src, size_t *size);
/* Where it comes while it is pulled, for a node, which takes it over; or 0. */
int source_take_feed (struct source *src);

/* An archive was fetched to where it shall stay: the root needs no copy but
 * source_publish, which is to be called where the others rename theirs.
 */
bool source_is_fetched (const struct source *src);
int source_publish (struct source *src, struct fault *f);

/* The archive 'name' as it stands in the KVS, or NULL. */
json_t *source_lookup (struct bcast *b, const char *name, struct fault *f);

/* Where this rank keeps the data: malloced. */
char *source_destination (struct bcast *b, struct fault *f);
#define TMP_SIZE 64
void source_tmp (char tmp[TMP_SIZE], const unsigned char *id, int rank);

#endif
