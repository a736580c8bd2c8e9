/* estimate.c - how long a broadcast would take, in closed form
 *
 * In each tree, a rank gets its stripe at the least rate of any link above it,
 * where the links that share a NIC or an uplink have equal parts of it; and it
 * starts as many chunks later as there are hops, each at the rate of its link.
 * That is (max load) * bytes / bandwidth + depth * (latency + chunk / rate).
 */
#include "estimate.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static double rate_of (const struct network *net, int32_t rank)
{
    return net->rates ? net->rates[rank] : net->bandwidth;
}

static double least (double a, double b)
{
    return a < b ? a : b;
}

static double most (double a, double b)
{
    return a > b ? a : b;
}

void estimate_begin (const struct plan *p,
                     const struct network *net,
                     const int32_t *depths,
                     double *connected,
                     double *begin)
{
    double latency = net->latency;
    double greetings = 2.0 * p->stripes; /* of a rank with as many children as parents */

    if (net->processors > 0) {
        double ranks = 0;

        for (int r = 1; r < p->n; r++)
            ranks += p->parents[r] >= 0;
        greetings *= ranks / net->processors;
    }
    for (int r = 1; r < p->n; r++) {
        int32_t depth = INT32_MAX;

        if (p->parents[r] < 0)
            continue;
        for (int s = 0; s < p->stripes; s++) {
            if (depths[(size_t)s * p->n + r] < depth)
                depth = depths[(size_t)s * p->n + r];
        }
        connected[r] = net->start + greetings * net->per_connection + 2 * latency;
        begin[r] = connected[r] + depth * (3 * latency + 2 * net->per_chunk) + latency;
    }
}

/* What stands above a link. */
struct work {
    const struct plan *plan;
    const struct network *net;
    int stripes;       /* that carry a chunk */
    int32_t *depths;   /* of all stripes */
    int32_t *order;    /* [total] links, parents first, earlier phases first */
    int32_t *children; /* [n] over all those trees */
    double *group_out; /* [n] links that leave a group, or NULL */
    double *group_in;
    double *rate;      /* [total] at which a stripe comes */
    double *lag;       /* [total] until its first chunk is there */
    double *connected; /* [n] */
    double *begin;     /* [n] */
    double *trip;      /* [n] of blobs: from asking for one to having it */
    size_t total;
};

static void work_finish (struct work *w)
{
    free (w->depths);
    free (w->order);
    free (w->children);
    free (w->group_out);
    free (w->group_in);
    free (w->rate);
    free (w->lag);
    free (w->connected);
    free (w->begin);
    free (w->trip);
}

/* Sort links by keys from 0 on, equal ones as they are. */
static int sort_by (struct work *w, const int32_t *keys, bool by_rank)
{
    int32_t *sorted = malloc (sizeof (*sorted) * w->total);
    int32_t highest = 0;
    size_t *first;

    for (size_t i = 0; i < w->total; i++) {
        int32_t key = keys[by_rank ? i % w->plan->n : i];

        highest = key > highest ? key : highest;
    }
    if (!sorted || !(first = calloc ((size_t)highest + 2, sizeof (*first)))) {
        free (sorted);
        return -1;
    }
    for (size_t i = 0; i < w->total; i++) {
        int32_t key = keys[by_rank ? i % w->plan->n : i];

        first[(key < 0 ? 0 : key) + 1]++;
    }
    for (int32_t k = 0; k <= highest; k++)
        first[k + 1] += first[k];
    for (size_t i = 0; i < w->total; i++) {
        int32_t key = keys[by_rank ? w->order[i] % w->plan->n : w->order[i]];

        sorted[first[key < 0 ? 0 : key]++] = w->order[i];
    }
    free (first);
    free (w->order);
    w->order = sorted;
    return 0;
}

static int work_init (struct work *w,
                      const struct plan *p,
                      const struct network *net,
                      double chunks,
                      struct fault *f)
{
    size_t n = p->n;

    memset (w, 0, sizeof (*w));
    w->plan = p;
    w->net = net;
    w->stripes = least (p->stripes, most (chunks, 1));
    w->total = n * w->stripes;
    if (n * p->stripes > INT32_MAX)
        return fault_set (f, EOVERFLOW, -1, "model: too many ranks and trees");
    if (!(w->depths = malloc (sizeof (*w->depths) * n * p->stripes))
        || !(w->order = malloc (sizeof (*w->order) * w->total))
        || !(w->children = calloc (n, sizeof (*w->children)))
        || !(w->rate = malloc (sizeof (*w->rate) * w->total))
        || !(w->lag = malloc (sizeof (*w->lag) * w->total))
        || !(w->connected = calloc (n, sizeof (*w->connected)))
        || !(w->begin = calloc (n, sizeof (*w->begin)))
        || !(w->trip = calloc (n, sizeof (*w->trip))))
        goto nomem;
    if (net->groups && net->uplink > 0
        && (!(w->group_out = calloc (n, sizeof (*w->group_out)))
            || !(w->group_in = calloc (n, sizeof (*w->group_in)))))
        goto nomem;
    if (plan_depths (p, w->depths, f) < 0)
        return -1;
    for (size_t i = 0; i < w->total; i++) {
        int32_t from = p->parents[i];
        int32_t to = i % n;

        w->order[i] = i;
        if (from >= 0)
            w->children[from]++;
        if (w->group_out && from >= 0 && net->groups[from] != net->groups[to]) {
            w->group_out[net->groups[from]]++;
            w->group_in[net->groups[to]]++;
        }
    }
    if (sort_by (w, w->depths, false) < 0 || sort_by (w, p->phase, true) < 0)
        goto nomem;
    return 0;
nomem:
    return fault_set (f, ENOMEM, -1, "model: out of memory for %d ranks", p->n);
}

/* The part of everything that a link has. */
static double link_rate (const struct work *w, int32_t from, int32_t to, double processor, double disk)
{
    const struct network *net = w->net;
    double in = rate_of (net, to);
    double rate;

    if (disk > 0)
        in = least (in, disk);
    if (processor > 0)
        in = least (in, processor);
    rate = rate_of (net, from);
    if (processor > 0)
        rate = least (rate, processor);
    rate = least (rate / w->children[from], in / w->stripes);
    if (w->group_out && net->groups[from] != net->groups[to]) {
        rate = least (rate, net->uplink / w->group_out[net->groups[from]]);
        rate = least (rate, net->uplink / w->group_in[net->groups[to]]);
    }
    return rate;
}

/* What a tree carries: one chunk in so many, and maybe the last, which is short. */
static double stripe_bytes (const struct plan *p, int stripe, double bytes, double chunk)
{
    double chunks = ceil (bytes / chunk);
    double short_by = fmod (chunks - 1, p->stripes) == stripe ? chunks * chunk - bytes : 0;

    return ceil ((chunks - stripe) / p->stripes) * chunk - short_by;
}

/* Walk over the links from the root down. */
static void walk (struct work *w, double bytes, double chunk, double *times)
{
    const struct plan *p = w->plan;
    const struct network *net = w->net;
    double chunk_cost = net->per_chunk + (net->encryption > 0 ? chunk / net->encryption : 0);
    double processor = net->processors == 0 && chunk_cost > 0 ? chunk / chunk_cost : 0;
    double stripes[PLAN_MAX_STRIPES];
    double before = 0; /* when all of earlier phases are done */
    double latest = 0;
    int32_t phase = 0;

    for (int s = 0; s < w->stripes; s++)
        stripes[s] = stripe_bytes (p, s, bytes, chunk);
    for (size_t i = 0; i < w->total; i++) {
        int32_t link = w->order[i];
        int32_t to = link % p->n;
        int32_t from = p->parents[link];
        int32_t above = link - to + from;
        double stripe = stripes[link / p->n];
        double piece = least (chunk, stripe);
        double own;

        if (from < 0)
            continue;
        if (p->phase[to] > phase) {
            phase = p->phase[to];
            before = latest;
        }
        own = link_rate (w, from, to, processor, net->disk);
        w->rate[link] = own;
        w->lag[link] = most (w->begin[to], before);
        if (from != 0 && p->phase[from] == phase) {
            w->rate[link] = least (own, w->rate[above]);
            w->lag[link] = most (w->lag[link], w->lag[above]);
        }
        w->lag[link] += net->latency + most (piece - net->burst / w->children[from], 0) / own
                        + (net->processors > 0 ? 2 : 1) * chunk_cost;
        times[to] = most (times[to], w->lag[link] + (stripe - piece) / w->rate[link]);
        latest = most (latest, times[to]);
    }
}

int estimate_direct (const struct plan *p,
                     const struct network *net,
                     double bytes,
                     double chunk_size,
                     double *times,
                     struct fault *f)
{
    double chunks = ceil (bytes / chunk_size);
    double each = net->per_chunk * chunks;
    double ranks = 0;
    struct work w;
    int rc = -1;

    if (work_init (&w, p, net, chunks, f) < 0)
        goto done;
    estimate_begin (p, net, w.depths, w.connected, w.begin);
    for (int r = 0; r < p->n; r++) {
        times[r] = p->parents[r] >= 0 ? w.begin[r] : r == 0 ? 0 : -1;
        ranks += p->parents[r] >= 0;
    }
    walk (&w, bytes, chunk_size, times);
    if (net->encryption > 0)
        each += bytes / net->encryption;
    for (int r = 1; r < p->n && net->processors > 0; r++) {
        if (times[r] >= 0)
            times[r] = most (times[r], net->start + 2 * each * ranks / net->processors);
    }
    rc = 0;
done:
    work_finish (&w);
    return rc;
}

/* A rank waits for a blob, has it written, and asks for the next. */
static void walk_blobs (struct work *w, double blob, int nblobs, int distinct, int window, double *times)
{
    const struct plan *p = w->plan;
    const struct network *net = w->net;
    double hop = net->per_blob + (net->broker > 0 ? blob / net->broker : 0);
    double load = net->per_load + (net->disk > 0 ? blob / net->disk : 0);

    for (size_t i = 0; i < w->total; i++) {
        int32_t to = w->order[i];
        int32_t from = p->parents[to];
        bool relay = from > 0 && !p->deliver[from]; /* it has a blob only when asked */
        double rate;
        double send;
        double cycle;

        if (from < 0)
            continue;
        rate = link_rate (w, from, to, 0, 0);
        send = most (blob - net->burst / w->children[from], 0) / rate;
        w->trip[to] = 2 * net->latency + send + hop + (relay ? w->trip[from] : 0);
        cycle = most (blob / rate, hop); /* a bucket that is used without a break has no burst */
        if (p->deliver[to])
            cycle = most (cycle, (w->trip[to] + load) / window);
        w->rate[to] = cycle; /* seconds a blob */
        w->lag[to] = net->latency + send + hop + (relay ? net->latency : 0);
        if (from != 0) {
            w->rate[to] = most (cycle, w->rate[from]);
            w->lag[to] += w->lag[from];
        }
        if (p->deliver[to])
            times[to] = net->start + w->lag[to] + net->latency + (distinct - 1) * w->rate[to]
                        + (nblobs - distinct + 1) * load;
    }
}

int estimate_content (const struct plan *p,
                      const struct network *net,
                      double blob_size,
                      int nblobs,
                      int distinct,
                      int window,
                      double *times,
                      struct fault *f)
{
    struct work w;
    int rc = -1;

    if (work_init (&w, p, net, nblobs, f) < 0)
        goto done;
    for (int r = 0; r < p->n; r++) /* with nothing to load: at once */
        times[r] = r == 0 ? 0 : p->deliver[r] ? net->start : -1;
    if (p->stripes != 1) {
        fault_set (f, EINVAL, -1, "model: brokers have one tree, and the plan has %d", p->stripes);
        goto done;
    }
    if (nblobs > 0)
        walk_blobs (&w, blob_size, nblobs, distinct, window, times);
    rc = 0;
done:
    work_finish (&w);
    return rc;
}
