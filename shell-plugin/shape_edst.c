/* shape_edst.c - edge-disjoint trees of a cube (Johnsson and Ho 1989)
 *
 * The trees are over a cube of 2^dim nodes. Where there are more positions than
 * that, some nodes are pairs of positions: one of the two, the entry, receives
 * and passes on to the other, and either may serve the children of the node.
 */
#include "shape_impl.h"

#include <stdlib.h>

struct cube {
    int dim;
    int nodes;
    int extra;   /* nodes 1..extra are pairs */
    int8_t *left; /* [2 * nodes] edges that each of a pair can still serve */
};

/* The parent of node 'v' > 0 in tree 'j': with bit j clear the node that has it
 * set; else the node without the next bit that is set, cyclically below j.
 */
static int cube_parent (int v, int j)
{
    int below = v & ((1 << j) - 1);

    if (!(v & (1 << j)))
        return v | (1 << j);
    if (below == 0)
        below = v & ~(1 << j);
    if (below == 0)
        return 0;
    return v ^ (1 << (31 - __builtin_clz (below)));
}

/* The position of partner 'which', 0 or 1, of node 'v'. */
static int cube_position (const struct cube *c, int v, int which)
{
    return which ? c->nodes + v - 1 : v;
}

static int cube_entry (const struct cube *c, int v, int j)
{
    return v >= 1 && v <= c->extra ? j & 1 : 0;
}

/* Who of node 'v' serves a child in tree 'j': the entry as long as it may. */
static int cube_server (struct cube *c, int v, int j)
{
    int which = cube_entry (c, v, j);

    if (v < 1 || v > c->extra)
        return v;
    if (c->left[2 * v + which] == 0)
        which = !which;
    c->left[2 * v + which]--;
    return cube_position (c, v, which);
}

/* Inner children are served before leaves, since a detour over the partner
 * delays all that is below.
 */
static void cube_lay (struct shape_request *rq, struct cube *c, bool leaves)
{
    for (int j = 0; j < c->dim; j++) {
        for (int v = 1; v < c->nodes; v++) {
            int which = cube_entry (c, v, j);

            if (!(v & (1 << j)) != leaves)
                continue;
            lay_put (rq, j, cube_position (c, v, which), cube_server (c, cube_parent (v, j), j));
            if (v <= c->extra)
                lay_put (rq, j, cube_position (c, v, !which), cube_position (c, v, which));
        }
    }
}

int lay_edst (struct shape_request *rq)
{
    struct cube c = { 0 };

    while ((2LL << c.dim) <= rq->m)
        c.dim++;
    c.nodes = 1 << c.dim;
    c.extra = rq->m - c.nodes;
    if (lay_begin (rq, c.dim < 1 ? 1 : c.dim) < 0)
        return -1;
    if (!(c.left = malloc (2 * (size_t)c.nodes)))
        return lay_no_memory (rq);
    /* Each may have 'dim' children, less the partner where it is the entry. */
    for (int v = 0; v < c.nodes; v++) {
        c.left[2 * v] = c.dim / 2;
        c.left[2 * v + 1] = c.dim - c.dim / 2;
    }
    cube_lay (rq, &c, false);
    cube_lay (rq, &c, true);
    free (c.left);
    return 0;
}
