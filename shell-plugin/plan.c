/* plan.c - some trees over the same ranks */
#include "plan.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

void plan_destroy (struct plan *p)
{
    if (p) {
        free (p->parents);
        free (p->phase);
        free (p->deliver);
        free (p);
    }
}

struct plan *plan_create (int stripes, int n)
{
    struct plan *p;

    if (stripes < 1 || stripes > PLAN_MAX_STRIPES || n < 1) {
        errno = EINVAL;
        return NULL;
    }
    if (!(p = calloc (1, sizeof (*p)))
        || !(p->parents = malloc (sizeof (*p->parents) * stripes * n))
        || !(p->phase = calloc (n, sizeof (*p->phase)))
        || !(p->deliver = calloc (n, sizeof (*p->deliver)))) {
        plan_destroy (p);
        errno = ENOMEM;
        return NULL;
    }
    p->n = n;
    p->stripes = stripes;
    for (size_t i = 0; i < (size_t)stripes * n; i++)
        p->parents[i] = TREE_ABSENT;
    for (int s = 0; s < stripes; s++)
        p->parents[(size_t)s * n] = TREE_ROOT;
    return p;
}

/* Whoever takes part does so in every tree, and keeps the data or relays it. */
static int check_parts (const struct plan *p, struct fault *f)
{
    for (int s = 0; s < p->stripes; s++) {
        const int32_t *tree = p->parents + (size_t)s * p->n;

        for (int i = 0; i < p->n; i++) {
            if ((tree[i] == TREE_ABSENT) != (p->parents[i] == TREE_ABSENT))
                return fault_set (f,
                                  EINVAL,
                                  i,
                                  "plan: rank %d takes part in tree %d but not in tree %d,"
                                  " it must in all trees or in none",
                                  i,
                                  tree[i] == TREE_ABSENT ? 0 : s,
                                  tree[i] == TREE_ABSENT ? s : 0);
            if (tree[i] >= 0 && p->phase[tree[i]] > p->phase[i])
                return fault_set (f,
                                  EINVAL,
                                  i,
                                  "plan: rank %d is of phase %d but its parent %d in tree %d"
                                  " only of phase %d, a parent may not be later",
                                  i,
                                  p->phase[i],
                                  tree[i],
                                  s,
                                  p->phase[tree[i]]);
        }
    }
    for (int i = 0; i < p->n; i++) {
        if (p->deliver[i] && p->parents[i] == TREE_ABSENT)
            return fault_set (f,
                              EINVAL,
                              i,
                              "plan: rank %d is to keep the data but takes no part,"
                              " give it a parent in every tree",
                              i);
        if (p->phase[i] < 0)
            return fault_set (f,
                              EINVAL,
                              i,
                              "plan: rank %d is of phase %d, phases count from 0",
                              i,
                              p->phase[i]);
    }
    return 0;
}

int plan_depths (const struct plan *p, int32_t *depths, struct fault *f)
{
    if (p->stripes < 1 || p->stripes > PLAN_MAX_STRIPES)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "plan: %d trees make no sense, give 1 to %d",
                          p->stripes,
                          PLAN_MAX_STRIPES);
    for (int s = 0; s < p->stripes; s++) {
        size_t offset = (size_t)s * p->n;
        char what[32];

        snprintf (what, sizeof (what), "plan: tree %d", s);
        if (tree_verify (what, p->parents + offset, p->n, true, depths + offset, f) < 0)
            return -1;
    }
    return check_parts (p, f);
}

int plan_check (const struct plan *p, struct fault *f)
{
    int32_t *depths = NULL;
    int rc;

    if (p->stripes > 0 && p->stripes <= PLAN_MAX_STRIPES && p->n > 0
        && !(depths = malloc (sizeof (*depths) * p->stripes * p->n)))
        return fault_set (f, ENOMEM, -1, "plan: out of memory for %d ranks", p->n);
    rc = plan_depths (p, depths, f);
    free (depths);
    return rc;
}

void plan_children (const struct plan *p, int32_t *children)
{
    memset (children, 0, sizeof (*children) * p->n);
    for (size_t i = 0; i < (size_t)p->stripes * p->n; i++) {
        if (p->parents[i] >= 0)
            children[p->parents[i]]++;
    }
}

/* What a chunk costs beyond its bytes: system calls and wake-ups, in seconds. */
#define CHUNK_OVERHEAD 20e-6

/* 1 Gbit/s, between the slow networks and the fast ones: only the square root
 * of it matters.
 */
#define BANDWIDTH_UNKNOWN 125e6

/* What is received into at once, over all trees, at most. */
#define CHUNK_MEMORY (32 << 20)

uint32_t plan_chunk_size (uint64_t bytes, int depth, int stripes, double bandwidth)
{
    double overhead = CHUNK_OVERHEAD * (bandwidth > 0 ? bandwidth : BANDWIDTH_UNKNOWN);
    double best = sqrt ((bytes > 0 ? bytes : 1) * overhead / (depth > 0 ? depth : 1));
    double rounded = exp2 (rint (log2 (best)));
    double most = CHUNK_MEMORY / (stripes > 0 ? stripes : 1);

    if (most > PLAN_CHUNK_MAX)
        most = PLAN_CHUNK_MAX;
    if (rounded > most)
        rounded = most;
    return rounded < PLAN_CHUNK_MIN ? PLAN_CHUNK_MIN : (uint32_t)rounded;
}
