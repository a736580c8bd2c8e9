/* tree.h - one rooted tree over the ranks 0..n-1, as an array of parents
 *
 * Rank 0 is the root. Children stand in ascending order of rank, as in Flux.
 */
#ifndef FLUX_TREE_TREE_H
#define FLUX_TREE_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "fault.h"

/* cffi begin */
enum {
    TREE_ROOT = -1,   /* the parent of rank 0 */
    TREE_ABSENT = -2, /* the parent of a rank that takes no part (plans only) */
};

/* Fill in the 'n' parents that Flux builds for tbon.topo=SPEC: "kary:K",
 * "binomial", "mincrit", "mincrit:K", or "custom", which is flat since the
 * parents of a custom topology stand in the configuration, not in the spec.
 */
int tree_spec (const char *spec, int n, int32_t *parents, struct fault *f);

/* Refuse 'parents' that are not one tree under rank 0, naming a rank that is
 * at fault. Fills in 'depths', the distance of each rank from the root. O(n).
 */
int tree_check (const int32_t *parents, int n, int32_t *depths, struct fault *f);

/* Fill in 'order' with the ranks of a good tree, each before its children and
 * these before its next sibling, as they are drawn. Ranks that are absent are
 * left out. Returns the number of ranks, or -1 with errno set. O(n).
 */
int tree_preorder (const int32_t *parents, int n, int32_t *order);

/* Fill in 'sizes', the number of ranks in the subtree of each rank, given the
 * 'count' ranks of tree_preorder (). O(n).
 */
void tree_sizes (const int32_t *parents,
                 int n,
                 const int32_t *order,
                 int count,
                 int32_t *sizes);
/* cffi end */

/* As tree_check (), where messages start with 'what' and, with 'absent_ok',
 * ranks may take no part: those get depth -1.
 */
int tree_verify (const char *what,
                 const int32_t *parents,
                 int n,
                 bool absent_ok,
                 int32_t *depths,
                 struct fault *f);

#endif
