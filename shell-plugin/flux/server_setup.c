/* server_setup.c - all are here: the plan, and what each needs to know of it */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "jobplan.h"
#include "server_impl.h"
#include "source.h"

static bool is_dropped (struct server *s, int rank)
{
    return s->peers[rank].state == BROKEN;
}

bool server_is_active (struct server *s, int rank)
{
    bool planned = s->b->options->content ? s->plan->deliver[rank]
                                          : rank == 0 || s->plan->parents[rank] != -2;

    return planned && !is_dropped (s, rank);
}

static int ranks_on (struct server *s, const char *host)
{
    int count = 0;

    for (int i = 0; i < s->b->size; i++)
        count += s->plan->parents[i] != -2 && !strcmp (server_host (s, i), host);
    return count;
}

static json_t *hex (const unsigned char *data, size_t size)
{
    char text[2 * KEY_SIZE + 1];

    for (size_t i = 0; i < size; i++)
        snprintf (text + 2 * i, 3, "%02x", data[i]);
    return json_string (text);
}

/* The brokers of those who fetch, so that they can share the work. */
static json_t *find_brokers (struct server *s)
{
    json_t *brokers = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        int rank;

        if (server_is_active (s, i)
            && flux_shell_rank_info_unpack (s->b->shell, i, "{s:i}", "broker_rank", &rank) == 0)
            json_array_append_new (brokers, json_integer (rank));
    }
    return brokers;
}

/* The nearest rank above that is still with us. */
static int find_parent (struct server *s, const int32_t *parents, int rank)
{
    int r = parents[rank];

    while (r > 0 && is_dropped (s, r))
        r = parents[r];
    return r;
}

/* What rank needs of the plan. */
static json_t *make_part (struct server *s, int rank, const unsigned char *key, json_t *brokers)
{
    const struct plan *p = s->plan;
    bool content = s->b->options->content;
    json_t *paths = json_array ();
    json_t *children = json_array ();

    for (int t = 0; t < p->stripes && !content; t++) {
        const int32_t *parents = p->parents + (size_t)t * p->n;
        json_t *path = json_array ();
        json_t *below = json_array ();

        for (int r = find_parent (s, parents, rank); r >= 0; r = find_parent (s, parents, r))
            json_array_append_new (path, json_pack ("[i,s]", r, s->peers[r].address));
        for (int r = 0; r < p->n; r++) {
            if (!is_dropped (s, r) && find_parent (s, parents, r) == rank)
                json_array_append_new (below, json_integer (r));
        }
        json_array_append_new (paths, path);
        json_array_append_new (children, below);
    }
    return json_pack ("{s:s s:o s:o s:i s:b s:b s:i s:i s:I s:I s:o s:o s:O}",
                      "event", "setup",
                      "key", hex (key, KEY_SIZE),
                      "id", hex (s->id, ID_SIZE),
                      "stripes", content ? 1 : p->stripes,
                      "present", server_is_active (s, rank),
                      "deliver", p->deliver[rank],
                      "phase", p->phase[rank],
                      "ranks_here", ranks_on (s, server_host (s, rank)),
                      "epoch_ns", (json_int_t)s->epoch_ns,
                      "age_ns", (json_int_t)(clock_ns () - s->epoch_ns),
                      "paths", paths,
                      "children", children,
                      "brokers", brokers);
}

/* What travels is known from here on. */
static int summarize_source (struct server *s, struct fault *f)
{
    unsigned char *manifest;
    size_t len;

    if (!s->source)
        return 0;
    manifest = source_manifest (s->source, &len);
    if (node_summarize (manifest, len, &s->summary, f) < 0)
        return -1;
    if (s->b->options->sha256 && (s->summary.files != 1 || s->summary.entries != 1)) {
        fault_set (f,
                   EINVAL,
                   0,
                   "option tree-bcast.digest: is of one file, and %.200s is none: leave it out",
                   source_name (s->source));
        f->kind = FAULT_SOURCE;
        return -1;
    }
    return 0;
}

static int set_chunk_size (struct server *s, struct fault *f)
{
    uint32_t size = s->b->options->chunk_size;
    unsigned char *manifest;
    size_t len;
    int depth = 0;
    int32_t *depths;

    if (!s->source)
        return 0;
    if (!(depths = malloc (sizeof (*depths) * s->plan->n * s->plan->stripes)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (plan_depths (s->plan, depths, f) < 0) {
        free (depths);
        return -1;
    }
    for (int i = 0; i < s->plan->n * s->plan->stripes; i++)
        depth = depths[i] > depth ? depths[i] : depth;
    free (depths);
    if (size == 0)
        size = s->choice.chunk_size;
    if (size == 0)
        size = plan_chunk_size (s->summary.bytes,
                                depth,
                                s->plan->stripes,
                                jobplan_bandwidth (s->b));
    s->summary.chunk_size = size;
    manifest = source_manifest (s->source, &len);
    return node_set_chunk_size (manifest, len, size, f);
}

/* Whether so many keep the data as are asked for, and so many can still get it. */
static int check_enough (struct server *s, struct fault *f)
{
    int need = s->b->options->min_ranks;
    int keep = 0;

    for (int i = 0; i < s->b->size; i++)
        keep += s->plan->deliver[i] != 0;
    if (need > keep)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "option tree-bcast.min-ranks=%d: only %d ranks keep the data: give fewer",
                          need,
                          keep);
    for (int i = 0; i < s->b->size; i++) {
        if (is_dropped (s, i)) {
            *f = *s->peers[i].fault;
            return server_has_enough (s, f) ? 0 : -1;
        }
    }
    return 0;
}

static int make_plan (struct server *s, struct fault *f)
{
    if (summarize_source (s, f) < 0
        || !(s->plan = jobplan_create (s->b, s->summary.bytes, &s->choice, f))
        || set_chunk_size (s, f) < 0) {
        f->rank = -1;
        return -1;
    }
    return check_enough (s, f);
}

/* The key is made here, and stays nowhere. */
static int tell_parts (struct server *s, struct fault *f)
{
    json_t *brokers = s->b->options->content ? find_brokers (s) : json_array ();
    unsigned char key[KEY_SIZE];
    int rc = 0;

    if (getrandom (key, sizeof (key), 0) != sizeof (key))
        rc = fault_set (f, EAGAIN, -1, "no key: the system has no random numbers");
    for (int i = 0; i < s->b->size && rc == 0; i++) {
        json_t *o;

        if (is_dropped (s, i))
            continue;
        if ((o = make_part (s, i, key, brokers))) {
            server_tell (s, i, o);
            bcast_forget (json_object_get (o, "key"));
        }
        else
            rc = fault_set (f, ENOMEM, -1, "out of memory");
        json_decref (o);
    }
    explicit_bzero (key, sizeof (key));
    json_decref (brokers);
    return rc;
}

void server_try_setup (struct server *s)
{
    struct fault f = { .rank = -1 };

    if (s->stage != WIRING || s->missing > 0 || !s->ready)
        return;
    flux_watcher_stop (s->limit_w);
    if (make_plan (s, &f) < 0) {
        server_fail (s, &f);
        return;
    }
    shell_debug ("%d shells are here after %.3f s, strategy %s%s%s",
                 s->b->size,
                 (clock_ns () - s->epoch_ns) / 1e9,
                 s->choice.spec,
                 s->choice.why[0] ? " chosen: " : "",
                 s->choice.why);
    s->stage = RUNNING;
    if (tell_parts (s, &f) < 0)
        server_fail (s, &f);
    server_advance (s);
}
