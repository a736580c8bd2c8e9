/* shape.h - plans, and the strategies that lay them out
 *
 * A plan is 'stripes' trees over the same ranks 0..n-1, all under rank 0.
 * Chunk c of the data travels down tree c % stripes.
 */
#ifndef FLUX_TREE_SHAPE_H
#define FLUX_TREE_SHAPE_H

#include <stdint.h>

#include "fault.h"

/* cffi begin */
enum {
    PLAN_MAX_STRIPES = 64,
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

/* The name of built-in strategy 'i', NULL after the last one. */
const char *shape_name (int i);

/* Refuse a 'spec' ("NAME" or "NAME:ARGUMENT") that is no built-in strategy with
 * an argument that it takes: errno is ENOENT where the name is unknown.
 */
int shape_check (const char *spec, struct fault *f);

/* Lay out the built-in strategy 'spec' over 'n' ranks. 'topo' holds the parents
 * of the topology, or is NULL where the strategy follows none; 'members' has a 1
 * for each rank that wants the data, or is NULL for all ranks. Free *out with
 * plan_destroy ().
 */
int shape_plan (const char *spec,
                const int32_t *topo,
                int n,
                const uint8_t *members,
                struct plan **out,
                struct fault *f);

/* As shape_plan ("rack"), where rank i is in group groups[i], of 0..n-1. */
int shape_rack (const int32_t *groups,
                int n,
                const uint8_t *members,
                struct plan **out,
                struct fault *f);
/* cffi end */

#endif
