/* cache.h - the chunks that are in memory: those that come in, and the last
 * that were seen, to be served again
 */
#ifndef FLUX_TREE_CACHE_H
#define FLUX_TREE_CACHE_H

#include <stddef.h>
#include <stdint.h>

struct cache;

struct slot {
    unsigned char *data; /* one chunk */
    uint64_t chunk;
    uint64_t used;
    int users;
    int known; /* 'data' is the whole of 'chunk' */
};

struct cache *cache_create (int nslots, size_t chunk_size);
void cache_destroy (struct cache *c);

/* The slot that holds 'chunk', or NULL. */
struct slot *cache_find (struct cache *c, uint64_t chunk);
/* A slot to fill. There are slots enough for all that may hold one at once. */
struct slot *cache_take (struct cache *c);
/* The slot now holds 'chunk'. */
void cache_publish (struct cache *c, struct slot *slot, uint64_t chunk);
/* Every slot found or taken must be released. */
void cache_release (struct cache *c, struct slot *slot);

#endif
