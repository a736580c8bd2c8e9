/* jobplan.c - the plan of a job's broadcast */
#include "jobplan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "jobtopo.h"
#include "shape.h"
#include "value.h"

/* Who wants the data: NULL in *members is everybody. */
static int find_members (struct bcast *b, const int32_t *topo, uint8_t **members, struct fault *f)
{
    const char *text = b->options->members;
    struct plan *p;

    *members = NULL;
    if (!text || !strcmp (text, "all"))
        return 0;
    if (!(*members = calloc (b->size, 1)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (shape_follows_topology (text)) {
        if (shape_plan (text, topo, b->size, NULL, &p, f) < 0)
            return -1;
        memcpy (*members, p->deliver, b->size);
        plan_destroy (p);
    }
    else if (value_idset (text, b->size, *members) < 0)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "option tree-bcast.members=%.80s: the ranks of this job are 0-%d",
                          text,
                          b->size - 1);
    return 0;
}

struct plan *jobplan_create (struct bcast *b, struct fault *f)
{
    struct options *o = b->options;
    struct plan *p = o->plan;
    int32_t *topo = NULL;
    uint8_t *members = NULL;

    if (p) {
        if (p->n != b->size) {
            fault_set (f,
                       EINVAL,
                       -1,
                       "strategy %.80s: its plan is one of %d ranks, and the job has %d shells",
                       o->strategy,
                       p->n,
                       b->size);
            return NULL;
        }
        o->plan = NULL;
        return p;
    }
    if ((shape_follows_topology (o->strategy)
         || (o->members && shape_follows_topology (o->members)))
        && !(topo = jobtopo_create (b, f)))
        return NULL;
    if (find_members (b, topo, &members, f) < 0
        || shape_plan (o->strategy, topo, b->size, members, &p, f) < 0)
        p = NULL;
    free (members);
    free (topo);
    return p;
}
