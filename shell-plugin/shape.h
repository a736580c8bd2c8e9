/* shape.h - the strategies that lay out plans */
#ifndef FLUX_TREE_SHAPE_H
#define FLUX_TREE_SHAPE_H

#include <stdint.h>

#include "fault.h"
#include "plan.h"

/* cffi begin */
/* The name of built-in strategy 'i', NULL after the last one. */
const char *shape_name (int i);

/* Refuse a 'spec' ("NAME" or "NAME:ARGUMENT") that is no built-in strategy with
 * an argument that it takes: errno is ENOENT where the name is unknown.
 */
int shape_check (const char *spec, struct fault *f);

/* 1 if 'spec' is a built-in strategy that starts from the topology. */
int shape_follows_topology (const char *spec);

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
