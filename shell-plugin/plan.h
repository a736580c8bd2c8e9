/* plan.h - some trees over the same ranks
 *
 * A plan is 'stripes' trees over the same ranks 0..n-1, all under rank 0.
 * Chunk c of the data travels down tree c % stripes.
 */
#ifndef FLUX_TREE_PLAN_H
#define FLUX_TREE_PLAN_H

#include <stdint.h>

#include "fault.h"

/* cffi begin */
enum {
    PLAN_MAX_STRIPES = 64,
    PLAN_CHUNK_MIN = 65536,
    PLAN_CHUNK_MAX = 1048576,
};

struct plan {
    int n;            /* ranks */
    int stripes;      /* trees */
    int32_t *parents; /* [stripes * n], tree after tree; TREE_ROOT, TREE_ABSENT */
    int32_t *phase;   /* [n], a rank starts when all of earlier phases are done */
    uint8_t *deliver; /* [n], 1 for a rank that keeps the data, 0 for a relay */
};

/* A plan in which only rank 0 takes part and nobody keeps anything.
 * NULL with errno set if it does not fit.
 */
struct plan *plan_create (int stripes, int n);
void plan_destroy (struct plan *p);

/* Refuse a plan that would not deliver: the fault names the rank. O(stripes * n). */
int plan_check (const struct plan *p, struct fault *f);

/* Fill in 'depths' [stripes * n], the distance of each rank from rank 0 in each
 * tree, -1 for a rank that takes no part. Checks the plan on the way.
 */
int plan_depths (const struct plan *p, int32_t *depths, struct fault *f);

/* Fill in 'children' [n], the number of children of each rank over all trees. */
void plan_children (const struct plan *p, int32_t *children);

/* A good chunk size, in bytes, for 'bytes' of data down 'stripes' trees of that
 * depth: a power of two from PLAN_CHUNK_MIN to PLAN_CHUNK_MAX. 'bandwidth' of
 * one NIC, in bytes per second; 0 if unknown.
 */
uint32_t plan_chunk_size (uint64_t bytes, int depth, int stripes, double bandwidth);
/* cffi end */

#endif
