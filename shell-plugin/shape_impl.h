/* shape_impl.h - what the files of the strategies share
 *
 * Most strategies are laid out over positions 0..m-1, the ranks that take part
 * with the root first; position i is rank at[i]. docs/strategies.md has the
 * sources, the bounds and the proofs.
 */
#ifndef FLUX_TREE_SHAPE_IMPL_H
#define FLUX_TREE_SHAPE_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "plan.h"

enum argument {
    ARG_NONE,
    ARG_TREE,    /* what tree_spec () makes of it */
    ARG_STRIPES, /* optional, 1..PLAN_MAX_STRIPES */
    ARG_COUNT,   /* optional, 1 or more */
    ARG_STRICT,  /* optional, the word "strict" */
};

struct shape_request;

struct shape {
    const char *name;
    enum argument argument;
    int (*lay) (struct shape_request *rq);
};

struct shape_request {
    const char *spec;
    const struct shape *shape;
    int argument; /* 0: not given */
    const int32_t *topo;
    const int32_t *groups;
    int n;
    const uint8_t *members;
    int m;       /* positions */
    int32_t *at; /* [m] position -> rank */
    struct plan *plan;
    struct fault *fault;
};

/* Always returns -1. */
int lay_no_memory (struct shape_request *rq);

/* Start a plan of 'stripes' trees. */
int lay_begin (struct shape_request *rq, int stripes);

static inline bool lay_is_member (const struct shape_request *rq, int rank)
{
    return !rq->members || rq->members[rank];
}

/* In tree 's', put the rank at position 'i' under that at position 'up'. */
static inline void lay_put (struct shape_request *rq, int s, int i, int up)
{
    rq->plan->parents[(size_t)s * rq->n + rq->at[i]] = rq->at[up];
}

static inline int smaller (int a, int b)
{
    return a < b ? a : b;
}

/* Each lays out a strategy: it makes the plan and puts ranks into its trees.
 * Who keeps the data is up to the caller, except after lay_topology ().
 */
int lay_flat (struct shape_request *rq);
int lay_chain (struct shape_request *rq);
int lay_flux (struct shape_request *rq); /* kary, binomial, mincrit */
int lay_two_tree (struct shape_request *rq);
int lay_split_binary (struct shape_request *rq);
int lay_multi_tree (struct shape_request *rq);
int lay_ring (struct shape_request *rq); /* scatter-allgather */
int lay_edst (struct shape_request *rq);
int lay_rack (struct shape_request *rq);
int lay_topology (struct shape_request *rq); /* tbon, all, leaves, middle-leaves */

#endif
