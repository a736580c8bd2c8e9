/* choose.c - the strategy that should be fastest on a network
 *
 * Every candidate is laid out and estimated in closed form: O(trees * ranks) each.
 */
#include "choose.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "estimate.h"
#include "shape.h"

/* Of equal ones, the first is taken. */
static const char *const specs[] = {
    "flat",
    "chain",
    "kary:2",
    "binomial",
    "two-tree",
    "edst",
    "multi-tree:4",
    "multi-tree:8",
    "rack",
};
#define SPEC_COUNT ((int)(sizeof (specs) / sizeof (specs[0])))

/* Of more ranks, rank 0 would have a connection to each, for nothing. */
#define FLAT_MOST 64

/* The estimate is not so good that less than that would mean anything. */
#define TIE 1.02
/* What another size of chunks must gain; small ones cost what no model knows. */
#define GAIN 0.99

#define NO_MEMORY "strategy 'auto': out of memory for %d ranks"

struct candidate {
    struct plan *plan; /* NULL: there is none */
    uint32_t chunk_size;
    double seconds;
};

struct search {
    const struct network *net;
    int n;
    const uint8_t *members;
    double bytes;
    uint32_t chunk_size;
    double *times;   /* [n] scratch */
    int32_t *depths; /* [stripes * n] scratch of one candidate */
    struct candidate candidates[SPEC_COUNT];
    struct fault *fault;
};

int choose_check (const char *spec, struct fault *f)
{
    struct fault inner;

    if (!strcmp (spec, "auto"))
        return 0;
    if (!strncmp (spec, "auto:", 5))
        return fault_set (f,
                          EINVAL,
                          -1,
                          "strategy '%s': it takes no argument, write 'auto'",
                          spec);
    if (shape_check (spec, &inner) == 0)
        return 0;
    /* an unknown name is followed by a list of all others */
    return fault_set (f,
                      inner.errnum,
                      -1,
                      "%s%s",
                      inner.text,
                      inner.errnum == ENOENT ? ", auto" : "");
}

/* Whether those who take part are in more than one group; -1 if a group is none. */
static int has_groups (const struct search *s)
{
    const int32_t *groups = s->net->groups;
    bool many = false;

    for (int i = 0; groups && i < s->n; i++) {
        if (groups[i] < 0 || groups[i] >= s->n)
            return fault_set (s->fault,
                              EINVAL,
                              i,
                              "network: rank %d is in group %d, which is not of 0-%d",
                              i,
                              groups[i],
                              s->n - 1);
        if (!s->members || s->members[i])
            many |= groups[i] != groups[0];
    }
    return many;
}

static struct plan *lay (const struct search *s, const char *spec, bool groups)
{
    struct plan *p = NULL;
    int rc;

    if (!strcmp (spec, "rack")) {
        if (!groups)
            return NULL;
        rc = shape_rack (s->net->groups, s->n, s->members, &p, s->fault);
    }
    else if (!strcmp (spec, "flat") && s->n > FLAT_MOST)
        return NULL;
    else
        rc = shape_plan (spec, NULL, s->n, s->members, &p, s->fault);
    return rc == 0 ? p : NULL;
}

/* Of the slowest rank that keeps what it gets; -1 if that cannot be told. */
static double estimate (struct search *s, const struct plan *p, uint32_t chunk_size)
{
    double slowest = 0;

    if (estimate_direct (p, s->net, s->bytes, chunk_size, s->times, s->fault) < 0)
        return -1;
    for (int r = 1; r < s->n; r++) {
        if (p->deliver[r] && s->times[r] > slowest)
            slowest = s->times[r];
    }
    return slowest;
}

static int depth_of (struct search *s, const struct plan *p)
{
    size_t total = (size_t)p->stripes * p->n;
    int32_t *depths;
    int depth = 0;

    if (!(depths = realloc (s->depths, sizeof (*depths) * total)))
        return fault_set (s->fault, ENOMEM, -1, NO_MEMORY, s->n);
    s->depths = depths;
    if (plan_depths (p, depths, s->fault) < 0)
        return -1;
    for (size_t i = 0; i < total; i++)
        depth = depths[i] > depth ? depths[i] : depth;
    return depth;
}

/* Try ever larger, or ever smaller, chunks as long as that is better. */
static void climb (struct search *s, struct candidate *c, uint32_t from, bool up)
{
    uint32_t size = from;

    while (up ? size < PLAN_CHUNK_MAX : size > PLAN_CHUNK_MIN) {
        double seconds;

        size = up ? size * 2 : size / 2;
        seconds = estimate (s, c->plan, size);
        if (seconds < 0 || seconds >= c->seconds * GAIN)
            break;
        c->seconds = seconds;
        c->chunk_size = size;
    }
}

static int try_candidate (struct search *s, struct candidate *c)
{
    int depth = depth_of (s, c->plan);
    uint32_t from = s->chunk_size;

    if (depth < 0)
        return -1;
    if (from == 0)
        from = plan_chunk_size (s->bytes, depth, c->plan->stripes, s->net->bandwidth);
    c->chunk_size = from;
    if ((c->seconds = estimate (s, c->plan, from)) < 0)
        return -1;
    if (s->chunk_size == 0) {
        climb (s, c, from, true);
        if (c->chunk_size == from)
            climb (s, c, from, false);
    }
    return 0;
}

/* The fastest one but 'but', or -1. */
static int fastest (const struct search *s, int but)
{
    int best = -1;

    for (int i = 0; i < SPEC_COUNT; i++) {
        if (s->candidates[i].plan && i != but
            && (best < 0 || s->candidates[i].seconds < s->candidates[best].seconds))
            best = i;
    }
    return best;
}

/* Of those that are about as fast as that, the simplest one. */
static int simplest (const struct search *s, int best)
{
    const struct candidate *all = s->candidates;
    double most = all[best].seconds * TIE;
    int found = -1;

    for (int i = 0; i < SPEC_COUNT; i++) {
        if (all[i].plan && all[i].seconds <= most
            && (found < 0 || all[i].plan->stripes < all[found].plan->stripes))
            found = i;
    }
    return found;
}

static const char *seconds_text (char buf[32], double seconds)
{
    if (seconds >= 99.95)
        snprintf (buf, 32, "%.0f s", seconds);
    else if (seconds >= 0.9995 || seconds == 0)
        snprintf (buf, 32, "%.3g s", seconds);
    else if (seconds >= 0.9995e-3)
        snprintf (buf, 32, "%.3g ms", seconds * 1e3);
    else
        snprintf (buf, 32, "%.3g us", seconds * 1e6);
    return buf;
}

static const char *rate_text (char buf[32], double rate)
{
    static const char *const prefixes[] = { "", "k", "M", "G", "T" };
    double bits = rate * 8;
    int i = 0;

    while (bits >= 999.5 && i < 4) {
        bits /= 1000;
        i++;
    }
    snprintf (buf, 32, "%.3g %sbit/s", bits, prefixes[i]);
    return buf;
}

static void explain (const struct search *s, int chosen, struct choice *out)
{
    const struct candidate *c = &s->candidates[chosen];
    int next = fastest (s, chosen);
    size_t size = sizeof (out->why);
    char text[32];
    char rate[32];
    int used;

    used = snprintf (out->why,
                     size,
                     "%s predicted at %s",
                     seconds_text (text, c->seconds),
                     rate_text (rate, s->net->bandwidth));
    if (out->limit > 0 && c->seconds > 0)
        used += snprintf (out->why + used,
                          size - used,
                          ", %.3g%% of the limit",
                          100 * out->limit / c->seconds);
    if (next >= 0)
        snprintf (out->why + used,
                  size - used,
                  s->candidates[next].seconds > c->seconds ? "; next %s %s"
                                                           : "; on a par with %s (%s)",
                  specs[next],
                  seconds_text (text, s->candidates[next].seconds));
}

static void search_finish (struct search *s)
{
    for (int i = 0; i < SPEC_COUNT; i++)
        plan_destroy (s->candidates[i].plan);
    free (s->times);
    free (s->depths);
}

int choose_plan (const struct network *net,
                 int n,
                 const uint8_t *members,
                 double bytes,
                 uint32_t chunk_size,
                 struct choice *out,
                 struct fault *f)
{
    struct search s = {
        .net = net,
        .n = n,
        .members = members,
        .bytes = bytes,
        .chunk_size = chunk_size,
        .fault = f,
    };
    int groups;
    int chosen;
    int rc = -1;

    if (n < 1)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "strategy 'auto': size %d makes no sense, give 1 or more ranks",
                          n);
    if ((groups = has_groups (&s)) < 0)
        return -1;
    if (!(s.times = malloc (sizeof (*s.times) * n)))
        return fault_set (f, ENOMEM, -1, NO_MEMORY, n);
    for (int i = 0; i < SPEC_COUNT; i++) {
        struct candidate *c = &s.candidates[i];

        if ((c->plan = lay (&s, specs[i], groups)) && try_candidate (&s, c) < 0) {
            plan_destroy (c->plan);
            c->plan = NULL;
        }
    }
    if ((chosen = fastest (&s, -1)) < 0)
        goto done; /* the last of them has said why */
    chosen = simplest (&s, chosen);
    *out = (struct choice){
        .spec = specs[chosen],
        .plan = s.candidates[chosen].plan,
        .chunk_size = s.candidates[chosen].chunk_size,
        .seconds = s.candidates[chosen].seconds,
        .limit = net->bandwidth > 0 ? bytes / net->bandwidth : 0,
    };
    explain (&s, chosen, out);
    s.candidates[chosen].plan = NULL;
    rc = 0;
done:
    search_finish (&s);
    return rc;
}

void choice_finish (struct choice *c)
{
    plan_destroy (c->plan);
    c->plan = NULL;
}
