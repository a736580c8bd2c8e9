/* simulate.c - how a broadcast of the direct transport would go, chunk by chunk
 *
 * A flow is what comes to one rank in one tree. It carries the chunks of that
 * tree in order, one at a time, each as soon as the parent has it whole.
 */
#include "simulate.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "estimate.h"
#include "fabric.h"

/* What a rank asks a parent for at a time, and how many chunks at least and at
 * most: as up.c does.
 */
#define WINDOW_BYTES (8 << 20)
#define WINDOW_MIN 4
#define WINDOW_MAX 64

struct flow {
    int32_t sent;     /* chunks */
    int32_t landed;
    int32_t have;     /* landed, checked and written */
    bool busy;
};

struct sim {
    const struct plan *plan;
    const struct network *net;
    struct forecast *out;
    struct fabric *fabric;
    double chunk;
    double last;         /* bytes of the last chunk */
    int64_t chunks;
    int32_t window;
    double cost;         /* processor time of a chunk, and of a byte */
    double cost_byte;
    struct flow *flows;  /* [stripes * n] */
    int32_t *child;      /* [stripes * n] of a flow's rank in its tree: the first one's flow */
    int32_t *sibling;    /* [stripes * n] the next one; -1: none */
    int64_t *lacking;    /* [n] chunks */
    bool *begun;         /* [n] */
    int32_t *waiting;    /* [phases] ranks that are not done */
    int phases;
    int phase;           /* the one that may begin */
};

static int64_t chunks_of (const struct sim *m, int stripe)
{
    return (m->chunks - stripe + m->plan->stripes - 1) / m->plan->stripes;
}

static int32_t flow_of (const struct sim *m, int stripe, int32_t rank)
{
    return stripe * m->plan->n + rank;
}

/* Let the next chunk of a flow go, if it is there and wanted. */
static int advance (struct sim *m, double t, int32_t id)
{
    int n = m->plan->n;
    int stripe = id / n;
    int32_t rank = id % n;
    int32_t parent = m->plan->parents[id];
    struct flow *w = &m->flows[id];
    int64_t there = parent == 0 ? chunks_of (m, stripe)
                                : m->flows[flow_of (m, stripe, parent)].have;
    struct piece piece = { .from = parent, .to = rank, .flow = id };

    if (w->busy || w->sent >= there || w->sent - w->landed >= m->window || !m->begun[rank]
        || m->plan->phase[rank] > m->phase)
        return 0;
    piece.what = w->sent++;
    piece.bytes = (int64_t)piece.what * m->plan->stripes + stripe == m->chunks - 1 ? m->last
                                                                                   : m->chunk;
    w->busy = true;
    m->out->out[parent] += piece.bytes;
    return fabric_send (m->fabric, t, &piece);
}

static int advance_rank (struct sim *m, double t, int32_t rank)
{
    for (int s = 0; s < m->plan->stripes; s++) {
        if (advance (m, t, flow_of (m, s, rank)) < 0)
            return -1;
    }
    return 0;
}

static int on_sent (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;

    m->flows[p->flow].busy = false;
    return advance (m, t, p->flow);
}

static int on_landed (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;
    struct forecast *out = m->out;

    m->flows[p->flow].landed++;
    if (out->first[p->to] < 0)
        out->first[p->to] = t;
    out->last[p->to] = t;
    if (fabric_compute (m->fabric, t, p, m->cost + m->cost_byte * p->bytes) < 0)
        return -1;
    return advance (m, t, p->flow);
}

/* Whoever waits for the phase that a rank was of can go on, if it was the last. */
static int end_phase (struct sim *m, double t, int32_t rank)
{
    m->waiting[m->plan->phase[rank]]--;
    if (m->waiting[m->phase] > 0)
        return 0;
    while (m->phase < m->phases - 1 && m->waiting[m->phase] == 0)
        m->phase++;
    for (int i = 1; i < m->plan->n; i++) {
        if (m->plan->phase[i] == m->phase && m->lacking[i] > 0 && advance_rank (m, t, i) < 0)
            return -1;
    }
    return 0;
}

static int on_computed (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;

    m->flows[p->flow].have++;
    for (int32_t i = m->child[p->flow]; i >= 0; i = m->sibling[i]) {
        if (advance (m, t, i) < 0)
            return -1;
    }
    if (--m->lacking[p->to] > 0)
        return 0;
    m->out->done[p->to] = t;
    return end_phase (m, t, p->to);
}

static int on_timer (void *arg, double t, int32_t rank)
{
    struct sim *m = arg;

    m->begun[rank] = true;
    return advance_rank (m, t, rank);
}

static const struct fabric_ops ops = {
    .sent = on_sent,
    .landed = on_landed,
    .computed = on_computed,
    .timer = on_timer,
};

static void find_children (struct sim *m)
{
    int32_t total = m->plan->stripes * m->plan->n;

    for (int32_t i = 0; i < total; i++)
        m->child[i] = m->sibling[i] = -1;
    for (int32_t i = total - 1; i >= 0; i--) {
        int32_t parent = m->plan->parents[i];

        if (parent >= 0) {
            int32_t of = flow_of (m, i / m->plan->n, parent);

            m->sibling[i] = m->child[of];
            m->child[of] = i;
        }
    }
}

static int sim_run (struct sim *m, struct fault *f)
{
    int n = m->plan->n;
    int stripes = m->plan->stripes;
    size_t total = (size_t)stripes * n;
    int32_t *depths = malloc (sizeof (*depths) * total);
    double *begin = calloc (n, sizeof (*begin));
    int rc = -1;

    if (!depths || !begin)
        goto done;
    if (plan_depths (m->plan, depths, f) < 0) {
        rc = -2;
        goto done;
    }
    for (int r = 0; r < n; r++) {
        if (m->plan->phase[r] >= m->phases)
            m->phases = m->plan->phase[r] + 1;
    }
    if (!(m->waiting = calloc (m->phases, sizeof (*m->waiting))))
        goto done;
    for (int r = 1; r < n; r++) {
        if (m->plan->parents[r] >= 0) {
            m->lacking[r] = m->chunks;
            m->waiting[m->plan->phase[r]]++;
        }
    }
    while (m->phase < m->phases - 1 && m->waiting[m->phase] == 0)
        m->phase++;
    find_children (m);
    estimate_begin (m->plan, m->net, depths, m->out->connected, begin);
    for (int r = 1; r < n; r++) {
        if (m->lacking[r] > 0)
            fabric_timer (m->fabric, begin[r], r);
        else if (m->plan->parents[r] >= 0)
            m->out->done[r] = begin[r];
    }
    if (fabric_run (m->fabric) >= 0)
        rc = 0;
done:
    free (depths);
    free (begin);
    return rc;
}

void forecast_init (struct forecast *out, int n)
{
    for (int r = 0; r < n; r++) {
        out->connected[r] = out->first[r] = out->last[r] = out->done[r] = -1;
        out->out[r] = 0;
    }
    out->connected[0] = out->done[0] = 0;
}

int simulate_direct (const struct plan *p,
                     const struct network *net,
                     double bytes,
                     double chunk_size,
                     struct forecast *out,
                     struct fault *f)
{
    struct sim m = { .plan = p, .net = net, .out = out, .chunk = chunk_size };
    size_t total = (size_t)p->stripes * p->n;
    double each = net->per_chunk + (net->encryption > 0 ? chunk_size / net->encryption : 0);
    int rc = -1;

    forecast_init (out, p->n);
    m.chunks = bytes > 0 ? ceil (bytes / chunk_size) : 0;
    m.last = bytes - (m.chunks - 1) * chunk_size;
    m.window = WINDOW_BYTES / chunk_size;
    if (m.window < WINDOW_MIN)
        m.window = WINDOW_MIN;
    if (m.window > WINDOW_MAX)
        m.window = WINDOW_MAX;
    /* what the sender's end takes holds back the sender, or all where it is shared */
    m.cost = net->per_chunk * (net->processors > 0 ? 2 : 1);
    m.cost_byte = net->encryption > 0 ? (net->processors > 0 ? 2 : 1) / net->encryption : 0;
    if (total > INT32_MAX)
        return fault_set (f, EOVERFLOW, -1, "model: too many ranks and trees to simulate");
    if ((m.flows = calloc (total, sizeof (*m.flows)))
        && (m.child = malloc (sizeof (*m.child) * total))
        && (m.sibling = malloc (sizeof (*m.sibling) * total))
        && (m.lacking = calloc (p->n, sizeof (*m.lacking)))
        && (m.begun = calloc (p->n, sizeof (*m.begun)))
        && (m.fabric = fabric_create (net,
                                      p->n,
                                      net->processors == 0 && each > 0 ? chunk_size / each : 0,
                                      &ops,
                                      &m)))
        rc = sim_run (&m, f);
    fabric_destroy (m.fabric);
    free (m.flows);
    free (m.child);
    free (m.sibling);
    free (m.lacking);
    free (m.begun);
    free (m.waiting);
    if (rc == -1)
        return fault_set (f, ENOMEM, -1, "model: out of memory for %d ranks", p->n);
    return rc < 0 ? -1 : 0;
}
