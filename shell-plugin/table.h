/* table.h - which chunks a rank has, and their checksums
 *
 * Chunk c belongs to tree c % stripes. A table may be used by several threads;
 * table_has takes no lock, as it is asked for every chunk that is served.
 */
#ifndef FLUX_TREE_TABLE_H
#define FLUX_TREE_TABLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sum.h"

#define SUM_SIZE 16

struct table {
    uint64_t bytes;
    uint64_t nchunks;
    uint32_t chunk_size;
    int stripes;

    pthread_mutex_t lock;
    _Atomic uint8_t *state;
    unsigned char *sums; /* SUM_SIZE bytes a chunk, little-endian */
    uint64_t summed;   /* chunks that are there with their checksum */
    uint64_t *cursors; /* per tree: no chunk below it is lacking */
    _Atomic uint64_t *held; /* per tree: chunks that are there */
};

/* If 'held', every chunk is there already, and lacks only its checksum. */
struct table *table_create (uint64_t bytes,
                            uint32_t chunk_size,
                            int stripes,
                            bool held);
void table_destroy (struct table *t);

static inline uint32_t table_length (const struct table *t, uint64_t chunk)
{
    uint64_t left = t->bytes - chunk * t->chunk_size;

    return left < t->chunk_size ? left : t->chunk_size;
}

/* Take a chunk of 'tree' that is lacking and that nobody was asked for. */
bool table_take (struct table *t, int tree, uint64_t *chunk);
/* It did not come: somebody else will be asked. */
void table_return (struct table *t, uint64_t chunk);
/* It is there, and has this checksum. True if it was the last one. */
bool table_land (struct table *t, uint64_t chunk, struct sum sum);

/* Somebody else finds out which chunks are lacking: none is, until he returns
 * it.
 */
void table_claim (struct table *t);
/* 't->sums' has been filled: only chunks with those checksums may land. */
void table_expect (struct table *t);
/* The checksum that it has, or is expected to have. */
struct sum table_expected (const struct table *t, uint64_t chunk);
/* May it land? */
bool table_accepts (struct table *t, uint64_t chunk, struct sum sum);
/* It was there, and was found to be damaged. Only the same may land again.
 * Returns how often that has happened to it, up to TABLE_LOSSES_MAX.
 */
#define TABLE_LOSSES_MAX 3
int table_lose (struct table *t, uint64_t chunk);
bool table_was_lost (struct table *t, uint64_t chunk);

bool table_has (struct table *t, uint64_t chunk);
/* How many chunks of a tree are there. */
uint64_t table_held (struct table *t, int tree);
/* How many chunks a tree has. */
uint64_t table_chunks (const struct table *t, int tree);
/* False if it is not known yet. */
bool table_sum (struct table *t, uint64_t chunk, struct sum *sum);
/* Chunks that are there with their checksum. */
uint64_t table_count (struct table *t);
bool table_is_complete (struct table *t);

/* Checksum over the checksums of all chunks, in order. Only when complete. */
struct sum table_digest (struct table *t);

#endif
