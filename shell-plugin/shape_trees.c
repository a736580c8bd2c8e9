/* shape_trees.c - strategies of one tree: flat, chain and those of Flux */
#include "shape_impl.h"

#include <stdlib.h>

#include "tree.h"

static int lay_tree (struct shape_request *rq, const char *spec)
{
    int32_t *up;

    if (lay_begin (rq, 1) < 0)
        return -1;
    if (!(up = malloc (sizeof (*up) * rq->m)))
        return lay_no_memory (rq);
    if (tree_spec (spec, rq->m, up, rq->fault) < 0) {
        free (up);
        return -1;
    }
    for (int i = 1; i < rq->m; i++)
        lay_put (rq, 0, i, up[i]);
    free (up);
    return 0;
}

int lay_flat (struct shape_request *rq)
{
    return lay_tree (rq, "kary:0");
}

int lay_chain (struct shape_request *rq)
{
    return lay_tree (rq, "kary:1");
}

int lay_flux (struct shape_request *rq)
{
    return lay_tree (rq, rq->spec);
}
