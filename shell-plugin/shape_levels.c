/* shape_levels.c - the topology's own tree, for all ranks or those of some levels */
#include "shape_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

/* Keep the tree's paths from the root to the ranks that 'deliver'. */
static void prune (struct shape_request *rq)
{
    for (int i = 1; i < rq->n; i++) {
        if (!rq->plan->deliver[i])
            continue;
        for (int r = i; rq->plan->parents[r] == TREE_ABSENT; r = rq->topo[r])
            rq->plan->parents[r] = rq->topo[r];
    }
}

/* The members on level 'one' and level 'two' want the data, or all if 'one' is -1. */
static int lay_levels (struct shape_request *rq, const int32_t *depths, int one, int two)
{
    if (lay_begin (rq, 1) < 0)
        return -1;
    for (int i = 0; i < rq->n; i++) {
        bool wanted = one < 0 || depths[i] == one || depths[i] == two;

        rq->plan->deliver[i] = wanted && lay_is_member (rq, i);
    }
    prune (rq);
    return 0;
}

int lay_topology (struct shape_request *rq)
{
    int32_t *depths;
    int deepest = 0;
    int middle;
    int rc = -1;

    if (!rq->topo)
        return fault_set (rq->fault,
                          EINVAL,
                          -1,
                          "strategy '%s': it follows the topology, so give it one",
                          rq->spec);
    if (!(depths = malloc (sizeof (*depths) * rq->n)))
        return lay_no_memory (rq);
    if (tree_check (rq->topo, rq->n, depths, rq->fault) < 0)
        goto done;
    for (int i = 0; i < rq->n; i++) {
        if (depths[i] > deepest)
            deepest = depths[i];
    }
    middle = (deepest + 1) / 2;
    if (!strcmp (rq->shape->name, "leaves"))
        rc = lay_levels (rq, depths, deepest, deepest);
    else if (!strcmp (rq->shape->name, "middle-leaves"))
        rc = lay_levels (rq, depths, middle, deepest);
    else
        rc = lay_levels (rq, depths, -1, -1);
    if (rc == 0 && rq->argument) { /* strict */
        for (int i = 0; i < rq->n; i++) {
            if (rq->plan->parents[i] != TREE_ABSENT && depths[i] > middle)
                rq->plan->phase[i] = 1;
        }
    }
done:
    free (depths);
    return rc;
}
