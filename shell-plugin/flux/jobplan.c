/* jobplan.c - the plan of a job's broadcast */
#include "jobplan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "jobtopo.h"
#include "network_json.h"
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

/* Which shells stand together: NULL in *groups if nobody has said. */
static int find_groups (struct bcast *b, int32_t **groups, struct fault *f)
{
    const struct given *racks = &b->options->racks;
    const char **hosts = NULL;
    int rc = -1;

    *groups = NULL;
    if (!racks->text && !racks->json)
        return 0;
    if (!(*groups = malloc (sizeof (**groups) * b->size))
        || !(hosts = malloc (sizeof (*hosts) * b->size))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto done;
    }
    for (int i = 0; i < b->size; i++)
        hosts[i] = bcast_host (b, i);
    if (racks->json)
        rc = network_groups (*groups, racks->json, b->size, "option tree-bcast.racks", f);
    else
        rc = groups_find (racks->text, hosts, b->size, *groups, f);
done:
    if (rc < 0) {
        free (*groups);
        *groups = NULL;
    }
    free (hosts);
    return rc;
}

double jobplan_bandwidth (struct bcast *b)
{
    double rate = b->options->bandwidth;
    const char *text;

    if (rate == 0 && (text = flux_shell_getenv (b->shell, "FLUX_TREE_BANDWIDTH"))
        && value_rate (text, &rate) < 0)
        return 0;
    return rate;
}

/* Where 'flux-tree calibrate' writes: malloced, or NULL. */
static char *network_path (struct bcast *b, bool *named)
{
    const char *given = b->options->network.text;
    const char *base;
    char *path;

    if (!given)
        given = flux_shell_getenv (b->shell, "FLUX_TREE_NETWORK");
    if ((*named = given && *given))
        return strdup (given);
    if ((base = flux_shell_getenv (b->shell, "XDG_CONFIG_HOME")) && *base)
        return asprintf (&path, "%s/flux-tree/network.json", base) < 0 ? NULL : path;
    if (!(base = flux_shell_getenv (b->shell, "HOME")))
        base = "";
    return asprintf (&path, "%s/.config/flux-tree/network.json", base) < 0 ? NULL : path;
}

/* What is known of the network, without the racks. */
static int find_network (struct bcast *b, struct network *net, struct fault *f)
{
    const struct options *o = b->options;
    double bandwidth = jobplan_bandwidth (b);
    bool named;
    char *path;
    int rc;

    if (o->network.json)
        rc = network_from_json (net,
                                o->network.json,
                                b->size,
                                o->bandwidth,
                                "option tree-bcast.network",
                                f);
    else {
        if (!(path = network_path (b, &named)))
            return fault_set (f, ENOMEM, -1, "out of memory");
        rc = network_load (net, path, b->size, bandwidth, o->network.text != NULL, f);
        if (rc < 0 && errno == ENOENT && !named)
            rc = 1;
        free (path);
    }
    if (rc > 0)
        network_init (net, bandwidth > 0 ? bandwidth : CHOOSE_BANDWIDTH);
    return rc < 0 ? -1 : 0;
}

static int choose (struct bcast *b,
                   double bytes,
                   const uint8_t *members,
                   const int32_t *groups,
                   struct choice *choice,
                   struct fault *f)
{
    const struct options *o = b->options;
    struct network net;
    struct network mine;
    int rc;

    if (find_network (b, &net, f) < 0)
        return -1;
    mine = net;
    if (groups)
        mine.groups = groups;
    if (!o->encrypt)
        mine.encryption = 0;
    rc = choose_plan (&mine, b->size, members, bytes, o->chunk_size, choice, f);
    network_finish (&net);
    return rc;
}

/* Of the strategy that the options name. */
static int lay_out (struct bcast *b, double bytes, struct choice *choice, struct fault *f)
{
    const struct options *o = b->options;
    int32_t *topo = NULL;
    int32_t *groups = NULL;
    uint8_t *members = NULL;
    int rc = -1;

    if ((shape_follows_topology (o->strategy)
         || (o->members && shape_follows_topology (o->members)))
        && !(topo = jobtopo_create (b, f)))
        return -1;
    if (find_members (b, topo, &members, f) < 0 || find_groups (b, &groups, f) < 0)
        goto done;
    if (!strcmp (o->strategy, "auto"))
        rc = choose (b, bytes, members, groups, choice, f);
    else if (groups)
        rc = shape_rack (groups, b->size, members, &choice->plan, f);
    else
        rc = shape_plan (o->strategy, topo, b->size, members, &choice->plan, f);
done:
    free (members);
    free (groups);
    free (topo);
    return rc;
}

struct plan *jobplan_create (struct bcast *b,
                             double bytes,
                             struct choice *choice,
                             struct fault *f)
{
    struct options *o = b->options;
    struct plan *p = o->plan;

    *choice = (struct choice){ .spec = o->strategy };
    if (!p) {
        if (lay_out (b, bytes, choice, f) < 0)
            return NULL;
        p = choice->plan;
        choice->plan = NULL;
        return p;
    }
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
