/* shape.c - the built-in strategies by name, and the arguments that they take */
#include "shape.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shape_impl.h"
#include "tree.h"

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

static int parse_count (struct shape_request *rq, const char *arg, int max)
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

static int parse_argument (struct shape_request *rq, const char *arg)
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

static int unknown (struct shape_request *rq, int len)
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

static int parse (struct shape_request *rq)
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
    struct shape_request rq = { .spec = spec, .fault = f };

    return parse (&rq);
}

int shape_follows_topology (const char *spec)
{
    struct shape_request rq = { .spec = spec };

    return parse (&rq) == 0 && rq.shape->lay == lay_topology;
}

int lay_no_memory (struct shape_request *rq)
{
    return fault_set (rq->fault,
                      ENOMEM,
                      -1,
                      "strategy '%s': out of memory for %d ranks",
                      rq->spec,
                      rq->n);
}

int lay_begin (struct shape_request *rq, int stripes)
{
    if (!(rq->plan = plan_create (stripes, rq->n)))
        return lay_no_memory (rq);
    return 0;
}

/* The root takes part whether it wants the data or not. */
static int find_positions (struct shape_request *rq)
{
    if (!(rq->at = malloc (sizeof (*rq->at) * rq->n)))
        return lay_no_memory (rq);
    rq->at[rq->m++] = 0;
    for (int i = 1; i < rq->n; i++) {
        if (lay_is_member (rq, i))
            rq->at[rq->m++] = i;
    }
    return 0;
}

static int lay (struct shape_request *rq, struct plan **out)
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
                rq->plan->deliver[i] = lay_is_member (rq, i);
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
    struct shape_request rq = {
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
    struct shape_request rq = {
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
