/* shape.c - plans, and the strategies that lay them out
 *
 * Most strategies are laid out over positions 0..m-1, the ranks that take part
 * with the root first; position i is rank at[i]. docs/strategies.md has the
 * sources, the bounds and the proofs.
 */
#include "shape.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

/* More stripes are more connections per rank, so the defaults stop here. */
#define DEFAULT_MAX_STRIPES 8

enum argument {
    ARG_NONE,
    ARG_TREE,    /* what tree_spec () makes of it */
    ARG_STRIPES, /* optional, 1..PLAN_MAX_STRIPES */
    ARG_COUNT,   /* optional, 1 or more */
    ARG_STRICT,  /* optional, the word "strict" */
};

struct request;

struct shape {
    const char *name;
    enum argument argument;
    int (*lay) (struct request *rq);
};

struct request {
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

/* ---- plans ---- */

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

/* ---- what the strategies share ---- */

static int no_memory (struct request *rq)
{
    return fault_set (rq->fault,
                      ENOMEM,
                      -1,
                      "strategy '%s': out of memory for %d ranks",
                      rq->spec,
                      rq->n);
}

static int make_plan (struct request *rq, int stripes)
{
    if (!(rq->plan = plan_create (stripes, rq->n)))
        return no_memory (rq);
    return 0;
}

static bool is_member (const struct request *rq, int rank)
{
    return !rq->members || rq->members[rank];
}

/* In tree 's', put the rank at position 'i' under that at position 'up'. */
static void put (struct request *rq, int s, int i, int up)
{
    rq->plan->parents[(size_t)s * rq->n + rq->at[i]] = rq->at[up];
}

static int smaller (int a, int b)
{
    return a < b ? a : b;
}

/* ---- one tree ---- */

static int lay_tree (struct request *rq, const char *spec)
{
    int32_t *up;

    if (make_plan (rq, 1) < 0)
        return -1;
    if (!(up = malloc (sizeof (*up) * rq->m)))
        return no_memory (rq);
    if (tree_spec (spec, rq->m, up, rq->fault) < 0) {
        free (up);
        return -1;
    }
    for (int i = 1; i < rq->m; i++)
        put (rq, 0, i, up[i]);
    free (up);
    return 0;
}

static int lay_flat (struct request *rq)
{
    return lay_tree (rq, "kary:0");
}

static int lay_chain (struct request *rq)
{
    return lay_tree (rq, "kary:1");
}

static int lay_flux (struct request *rq)
{
    return lay_tree (rq, rq->spec);
}

/* ---- two-tree (Sanders, Speck and Traeff 2009) ---- */

/* The in-order binary tree over 1..last: odd numbers are leaves. */
static int inorder_parent (int i, int last)
{
    int bit = i & -i;
    int64_t up = (i ^ bit) | ((int64_t)bit << 1);

    return up > last ? i ^ bit : (int)up;
}

/* Tree 1 is tree 0 mirrored or, where that would leave the odd positions odd,
 * shifted by one, so that inner positions become leaves.
 */
static int second_position (int i, int last)
{
    if (i == 0)
        return 0;
    if (last % 2 == 0)
        return last + 1 - i;
    return i % last + 1;
}

static int lay_two_tree (struct request *rq)
{
    int last = rq->m - 1;

    if (make_plan (rq, 2) < 0)
        return -1;
    for (int i = 1; i <= last; i++) {
        int up = inorder_parent (i, last);

        put (rq, 0, i, up);
        put (rq, 1, second_position (i, last), second_position (up, last));
    }
    return 0;
}

/* ---- multi-tree (SplitStream) ---- */

/* The most stripes, up to a bound, with which no rank sends more than it gets. */
static int multi_tree_stripes (int last)
{
    int stripes = smaller (DEFAULT_MAX_STRIPES, last);

    while (stripes > 1 && last % stripes > 1)
        stripes--;
    return stripes;
}

/* In tree s the positions of group s are inner: they come first in 'line', and
 * each takes as children an even share of what follows it there.
 */
static void lay_forest_tree (struct request *rq, int s, int32_t *line)
{
    int stripes = rq->plan->stripes;
    int last = rq->m - 1;
    int inner = (last - s + stripes - 1) / stripes;
    int next = 0;

    for (int g = 0; g < stripes; g++) {
        for (int i = 1 + (s + g) % stripes; i <= last; i += stripes)
            line[next++] = i;
    }
    put (rq, s, line[0], 0);
    next = 1;
    for (int j = 0; j < inner; j++) {
        int share = (last - 1) / inner + (j < (last - 1) % inner);

        while (share-- > 0)
            put (rq, s, line[next++], line[j]);
    }
}

static int lay_multi_tree (struct request *rq)
{
    int last = rq->m - 1;
    int stripes = rq->argument ? rq->argument : multi_tree_stripes (last);
    int32_t *line;

    stripes = smaller (stripes, last);
    if (make_plan (rq, stripes < 1 ? 1 : stripes) < 0)
        return -1;
    if (!(line = malloc (sizeof (*line) * rq->m)))
        return no_memory (rq);
    for (int s = 0; s < stripes; s++)
        lay_forest_tree (rq, s, line);
    free (line);
    return 0;
}

/* ---- edst (Johnsson and Ho 1989) ---- */

/* The trees are over a cube of 2^dim nodes. Where there are more positions than
 * that, some nodes are pairs of positions: one of the two, the entry, receives
 * and passes on to the other, and either may serve the children of the node.
 */
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
static void cube_lay (struct request *rq, struct cube *c, bool leaves)
{
    for (int j = 0; j < c->dim; j++) {
        for (int v = 1; v < c->nodes; v++) {
            int which = cube_entry (c, v, j);

            if (!(v & (1 << j)) != leaves)
                continue;
            put (rq, j, cube_position (c, v, which), cube_server (c, cube_parent (v, j), j));
            if (v <= c->extra)
                put (rq, j, cube_position (c, v, !which), cube_position (c, v, which));
        }
    }
}

static int lay_edst (struct request *rq)
{
    struct cube c = { 0 };

    while ((2LL << c.dim) <= rq->m)
        c.dim++;
    c.nodes = 1 << c.dim;
    c.extra = rq->m - c.nodes;
    if (make_plan (rq, c.dim < 1 ? 1 : c.dim) < 0)
        return -1;
    if (!(c.left = malloc (2 * (size_t)c.nodes)))
        return no_memory (rq);
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

/* ---- split-binary ---- */

static int lay_split_binary (struct request *rq)
{
    int last = rq->m - 1;
    int size[2] = { (last + 1) / 2, last / 2 };
    int first[2] = { 1, 1 + size[0] };

    if (make_plan (rq, 2) < 0)
        return -1;
    for (int s = 0; s < 2; s++) {
        int other = !s;

        for (int i = 0; i < size[s]; i++)
            put (rq, s, first[s] + i, i == 0 ? 0 : first[s] + (i - 1) / 2);
        for (int i = 0; i < size[other]; i++) {
            if (size[s] == 0)
                put (rq, s, first[other] + i, 0);
            else
                put (rq, s, first[other] + i, first[s] + smaller (i, size[s] - 1));
        }
    }
    return 0;
}

/* ---- scatter-allgather ---- */

static int lay_ring (struct request *rq)
{
    int last = rq->m - 1;
    int stripes = smaller (rq->argument ? rq->argument : DEFAULT_MAX_STRIPES, last);

    if (make_plan (rq, stripes < 1 ? 1 : stripes) < 0)
        return -1;
    for (int s = 0; s < stripes; s++) {
        int start = (int)((int64_t)s * last / stripes);

        for (int i = 0; i < last; i++)
            put (rq, s, 1 + i, i == start ? 0 : 1 + (i + last - 1) % last);
    }
    return 0;
}

/* ---- rack ---- */

/* One group, at line[0..size-1]: its first position receives stripe 0, its last
 * one stripe 1, and each stripe runs through the group as a chain.
 */
static void lay_group (struct request *rq, const int32_t *line, int size, const int up[2])
{
    put (rq, 0, line[0], up[0]);
    put (rq, 1, line[size - 1], up[1]);
    for (int i = 1; i < size; i++) {
        put (rq, 0, line[i], line[i - 1]);
        put (rq, 1, line[i - 1], line[i]);
    }
}

/* 'group' is scratch for the group of each position, 'start' for where each
 * group starts in 'line'. Groups are taken in order of their first position,
 * so that of the root comes first.
 */
static void lay_groups (struct request *rq, int32_t *group, int32_t *start, int32_t *line)
{
    int up[2] = { 0, 0 };
    int count = 0;

    for (int g = 0; g < rq->n; g++)
        start[g] = -1;
    for (int i = 0; i < rq->m; i++) {
        int32_t *known = &start[rq->groups[rq->at[i]]];

        if (*known < 0)
            *known = count++;
        group[i] = *known;
    }
    memset (start, 0, sizeof (*start) * (count + 1));
    for (int i = 1; i < rq->m; i++)
        start[group[i] + 1]++;
    for (int g = 0; g < count; g++)
        start[g + 1] += start[g];
    for (int i = 1; i < rq->m; i++)
        line[start[group[i]]++] = i;
    /* now start[g] is where group g ends */
    for (int g = 0; g < count; g++) {
        int begin = g > 0 ? start[g - 1] : 0;
        int size = start[g] - begin;

        if (size == 0)
            continue;
        lay_group (rq, line + begin, size, up);
        up[0] = line[begin];
        up[1] = line[begin + size - 1];
    }
}

static int lay_rack (struct request *rq)
{
    int32_t *scratch;
    int32_t *groups = NULL;
    int size = rq->argument;

    if (make_plan (rq, 2) < 0)
        return -1;
    if (!(scratch = malloc (sizeof (*scratch) * ((size_t)rq->n * 4 + 1))))
        return no_memory (rq);
    if (!rq->groups) {
        groups = scratch + (size_t)rq->n * 3 + 1;
        while (size == 0 || (!rq->argument && (int64_t)size * size < rq->n))
            size++;
        for (int i = 0; i < rq->n; i++)
            groups[i] = i / size;
        rq->groups = groups;
    }
    lay_groups (rq, scratch, scratch + rq->n, scratch + (size_t)rq->n * 2 + 1);
    if (groups)
        rq->groups = NULL;
    free (scratch);
    return 0;
}

/* ---- the topology's own tree ---- */

/* Keep the tree's paths from the root to the ranks that 'deliver'. */
static void prune (struct request *rq)
{
    for (int i = 1; i < rq->n; i++) {
        if (!rq->plan->deliver[i])
            continue;
        for (int r = i; rq->plan->parents[r] == TREE_ABSENT; r = rq->topo[r])
            rq->plan->parents[r] = rq->topo[r];
    }
}

/* The members on level 'one' and level 'two' want the data, or all if 'one' is -1. */
static int lay_levels (struct request *rq, const int32_t *depths, int one, int two)
{
    if (make_plan (rq, 1) < 0)
        return -1;
    for (int i = 0; i < rq->n; i++) {
        bool wanted = one < 0 || depths[i] == one || depths[i] == two;

        rq->plan->deliver[i] = wanted && is_member (rq, i);
    }
    prune (rq);
    return 0;
}

static int lay_topology (struct request *rq)
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
        return no_memory (rq);
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

/* ---- the table ---- */

static const struct shape shapes[] = {
    { "flat", ARG_NONE, lay_flat },
    { "chain", ARG_NONE, lay_chain },
    { "kary", ARG_TREE, lay_flux },
    { "binomial", ARG_TREE, lay_flux },
    { "mincrit", ARG_TREE, lay_flux },
    { "tbon", ARG_NONE, lay_topology },
    { "two-tree", ARG_NONE, lay_two_tree },
    { "multi-tree", ARG_STRIPES, lay_multi_tree },
    { "edst", ARG_NONE, lay_edst },
    { "split-binary", ARG_NONE, lay_split_binary },
    { "scatter-allgather", ARG_STRIPES, lay_ring },
    { "rack", ARG_COUNT, lay_rack },
    { "all", ARG_NONE, lay_topology },
    { "leaves", ARG_NONE, lay_topology },
    { "middle-leaves", ARG_STRICT, lay_topology },
};
#define SHAPE_COUNT ((int)(sizeof (shapes) / sizeof (shapes[0])))

const char *shape_name (int i)
{
    return i >= 0 && i < SHAPE_COUNT ? shapes[i].name : NULL;
}

static int parse_count (struct request *rq, const char *arg, int max)
{
    char *end;
    long value;

    errno = 0;
    value = strtol (arg, &end, 10);
    if (arg[0] < '0' || arg[0] > '9' || *end != '\0' || errno != 0 || value < 1 || value > max)
        return fault_set (rq->fault,
                          EINVAL,
                          -1,
                          "strategy '%s': '%s' must be a whole number from 1 to %d",
                          rq->spec,
                          arg,
                          max);
    rq->argument = (int)value;
    return 0;
}

static int parse_argument (struct request *rq, const char *arg)
{
    int32_t parents[1];

    if (rq->shape->argument == ARG_TREE) {
        if (tree_spec (rq->spec, 1, parents, NULL) == 0)
            return 0;
        if (!strcmp (rq->shape->name, "binomial"))
            goto no_argument;
        return fault_set (rq->fault,
                          EINVAL,
                          -1,
                          "strategy '%s': K must be a whole number in decimal, as in '%s:2'",
                          rq->spec,
                          rq->shape->name);
    }
    if (!arg)
        return 0;
    switch (rq->shape->argument) {
        case ARG_STRIPES:
            return parse_count (rq, arg, PLAN_MAX_STRIPES);
        case ARG_COUNT:
            return parse_count (rq, arg, INT32_MAX);
        case ARG_STRICT:
            if (!strcmp (arg, "strict")) {
                rq->argument = 1;
                return 0;
            }
            return fault_set (rq->fault,
                              EINVAL,
                              -1,
                              "strategy '%s': the only argument that it takes is '%s:strict'",
                              rq->spec,
                              rq->shape->name);
        default:
            break;
    }
no_argument:
    return fault_set (rq->fault,
                      EINVAL,
                      -1,
                      "strategy '%s': it takes no argument, write '%s'",
                      rq->spec,
                      rq->shape->name);
}

static int unknown (struct request *rq, int len)
{
    char names[256] = "";

    for (int i = 0; i < SHAPE_COUNT; i++) {
        size_t used = strlen (names);

        snprintf (names + used, sizeof (names) - used, "%s%s", i ? ", " : "", shapes[i].name);
    }
    return fault_set (rq->fault,
                      ENOENT,
                      -1,
                      "strategy '%s': there is no '%.*s', use one of: %s",
                      rq->spec,
                      len,
                      rq->spec,
                      names);
}

static int parse (struct request *rq)
{
    size_t len = strcspn (rq->spec, ":");
    const char *arg = rq->spec[len] ? rq->spec + len + 1 : NULL;

    for (int i = 0; i < SHAPE_COUNT; i++) {
        if (strlen (shapes[i].name) == len && !strncmp (rq->spec, shapes[i].name, len)) {
            rq->shape = &shapes[i];
            return parse_argument (rq, arg);
        }
    }
    return unknown (rq, (int)len);
}

int shape_check (const char *spec, struct fault *f)
{
    struct request rq = { .spec = spec, .fault = f };

    return parse (&rq);
}

/* The root takes part whether it wants the data or not. */
static int find_positions (struct request *rq)
{
    if (!(rq->at = malloc (sizeof (*rq->at) * rq->n)))
        return no_memory (rq);
    rq->at[rq->m++] = 0;
    for (int i = 1; i < rq->n; i++) {
        if (is_member (rq, i))
            rq->at[rq->m++] = i;
    }
    return 0;
}

static int lay (struct request *rq, struct plan **out)
{
    int rc;

    if (rq->n < 1)
        return fault_set (rq->fault,
                          EINVAL,
                          -1,
                          "strategy '%s': size %d makes no sense, give 1 or more ranks",
                          rq->spec,
                          rq->n);
    if (find_positions (rq) < 0)
        return -1;
    rc = rq->shape->lay (rq);
    if (rc == 0) {
        if (rq->shape->lay != lay_topology) {
            for (int i = 0; i < rq->n; i++)
                rq->plan->deliver[i] = is_member (rq, i);
        }
        *out = rq->plan;
    }
    else
        plan_destroy (rq->plan);
    free (rq->at);
    return rc;
}

int shape_plan (const char *spec,
                const int32_t *topo,
                int n,
                const uint8_t *members,
                struct plan **out,
                struct fault *f)
{
    struct request rq = {
        .spec = spec,
        .topo = topo,
        .n = n,
        .members = members,
        .fault = f,
    };

    if (parse (&rq) < 0)
        return -1;
    return lay (&rq, out);
}

int shape_rack (const int32_t *groups,
                int n,
                const uint8_t *members,
                struct plan **out,
                struct fault *f)
{
    struct request rq = {
        .spec = "rack",
        .groups = groups,
        .n = n,
        .members = members,
        .fault = f,
    };

    for (int i = 0; i < n; i++) {
        if (groups[i] < 0 || groups[i] >= n)
            return fault_set (f,
                              EINVAL,
                              i,
                              "strategy 'rack': rank %d is in group %d, which is not of 0-%d",
                              i,
                              groups[i],
                              n - 1);
    }
    if (parse (&rq) < 0)
        return -1;
    return lay (&rq, out);
}
