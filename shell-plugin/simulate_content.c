/* simulate_content.c - how an archive would go through the content caches of
 * brokers
 *
 * A rank that keeps the data loads one blob after the other through its own
 * broker. A broker that lacks a blob asks its parent for it, once, whoever else
 * wants it meanwhile; what comes is passed on to each child that waits for it.
 */
#include "simulate.h"

#include <errno.h>
#include <stdlib.h>

#include "fabric.h"

enum {
    BLOB_HAVE = 1,    /* in the broker's cache */
    BLOB_PENDING = 2, /* asked for */
    BLOB_WANTED = 4,  /* the parent knows that it is */
    BLOB_LOADING = 8, /* the rank itself waits for it */
};

/* What one broker has to send to a child: its own, in order. */
struct line {
    int32_t *blobs;
    int head;
    int count;
    int room;
};

struct sim {
    const struct plan *plan;
    const struct network *net;
    struct forecast *out;
    struct fabric *fabric;
    double disk;        /* of the rank: brokers write nothing */
    const int32_t *blobs;
    int nblobs;
    int window;
    double size;
    double last_size;
    uint8_t *state;     /* [n * nblobs] BLOB_* */
    struct line *lines; /* [n] to that rank */
    int32_t *child;     /* [n] the first one, -1: none */
    int32_t *sibling;   /* [n] */
    int32_t *next;      /* [n] the next one to load */
    int32_t *loaded;    /* [n] */
};

static uint8_t *state_of (struct sim *m, int32_t rank, int32_t blob)
{
    return &m->state[(int64_t)rank * m->nblobs + blob];
}

static double size_of (const struct sim *m, int32_t blob)
{
    return blob == m->blobs[m->nblobs - 1] ? m->last_size : m->size;
}

/* The broker of 'rank' lacks a blob: ask its parent, if it has not yet. */
static int ask (struct sim *m, double t, int32_t rank, int32_t blob)
{
    struct piece piece = {
        .from = rank,
        .to = m->plan->parents[rank],
        .flow = rank,
        .what = blob,
    };

    if (*state_of (m, rank, blob) & BLOB_PENDING)
        return 0;
    *state_of (m, rank, blob) |= BLOB_PENDING;
    return fabric_ask (m->fabric, t, &piece);
}

static int send_next (struct sim *m, double t, int32_t child)
{
    struct line *l = &m->lines[child];
    struct piece piece = {
        .from = m->plan->parents[child],
        .to = child,
        .flow = child,
        .what = l->blobs[l->head],
    };

    piece.bytes = size_of (m, piece.what);
    m->out->out[piece.from] += piece.bytes;
    return fabric_send (m->fabric, t, &piece);
}

/* Pass a blob on to a child, behind what it gets already. */
static int serve (struct sim *m, double t, int32_t child, int32_t blob)
{
    struct line *l = &m->lines[child];

    if (l->head + l->count == l->room) {
        int room = 2 * l->count + 4;
        int32_t *blobs = malloc (sizeof (*blobs) * room);

        if (!blobs)
            return -1;
        for (int i = 0; i < l->count; i++)
            blobs[i] = l->blobs[l->head + i];
        free (l->blobs);
        l->blobs = blobs;
        l->head = 0;
        l->room = room;
    }
    l->blobs[l->head + l->count++] = blob;
    return l->count == 1 ? send_next (m, t, child) : 0;
}

/* The rank has a blob: its own part of the work is to write it. */
static int load (struct sim *m, double t, int32_t rank, int32_t blob)
{
    struct piece piece = { .from = rank, .to = rank, .flow = -1, .what = blob };

    *state_of (m, rank, blob) &= ~BLOB_LOADING;
    if (m->out->first[rank] < 0)
        m->out->first[rank] = t;
    return fabric_compute (m->fabric,
                           t,
                           &piece,
                           m->net->per_load + (m->disk > 0 ? size_of (m, blob) / m->disk : 0));
}

/* Keep the window full. */
static int fill (struct sim *m, double t, int32_t rank)
{
    while (m->next[rank] < m->nblobs && m->next[rank] - m->loaded[rank] < m->window) {
        int32_t blob = m->blobs[m->next[rank]++];
        uint8_t *state = state_of (m, rank, blob);

        if (*state & BLOB_LOADING) { /* an equal one is on its way for this rank */
            m->loaded[rank]++;
            continue;
        }
        *state |= BLOB_LOADING;
        if ((*state & BLOB_HAVE ? load (m, t, rank, blob) : ask (m, t, rank, blob)) < 0)
            return -1;
    }
    if (m->loaded[rank] == m->nblobs)
        m->out->done[rank] = t;
    return 0;
}

static int on_asked (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;

    *state_of (m, p->from, p->what) |= BLOB_WANTED;
    if (*state_of (m, p->to, p->what) & BLOB_HAVE)
        return serve (m, t, p->from, p->what);
    return ask (m, t, p->to, p->what);
}

static int on_sent (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;
    struct line *l = &m->lines[p->to];

    l->head++;
    return --l->count > 0 ? send_next (m, t, p->to) : 0;
}

static int on_landed (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;
    const struct network *net = m->net;

    m->out->last[p->to] = t;
    return fabric_compute (m->fabric,
                           t,
                           p,
                           net->per_blob + (net->broker > 0 ? p->bytes / net->broker : 0));
}

static int on_computed (void *arg, double t, const struct piece *p)
{
    struct sim *m = arg;
    uint8_t *state = state_of (m, p->to, p->what);

    if (p->flow < 0) { /* the rank's own part */
        m->loaded[p->to]++;
        return fill (m, t, p->to);
    }
    *state |= BLOB_HAVE;
    for (int32_t c = m->child[p->to]; c >= 0; c = m->sibling[c]) {
        if (*state_of (m, c, p->what) & BLOB_WANTED && serve (m, t, c, p->what) < 0)
            return -1;
    }
    return *state & BLOB_LOADING ? load (m, t, p->to, p->what) : 0;
}

static int on_timer (void *arg, double t, int32_t rank)
{
    return fill (arg, t, rank);
}

static const struct fabric_ops ops = {
    .sent = on_sent,
    .landed = on_landed,
    .computed = on_computed,
    .asked = on_asked,
    .timer = on_timer,
};

static int sim_run (struct sim *m)
{
    int n = m->plan->n;

    for (int r = 0; r < n; r++)
        m->child[r] = m->sibling[r] = -1;
    for (int r = n - 1; r > 0; r--) {
        int32_t parent = m->plan->parents[r];

        if (parent >= 0) {
            m->sibling[r] = m->child[parent];
            m->child[parent] = r;
        }
    }
    for (int b = 0; b < m->nblobs; b++)
        *state_of (m, 0, b) = BLOB_HAVE;
    for (int r = 1; r < n; r++) {
        if (m->plan->deliver[r]) {
            m->out->connected[r] = m->net->start;
            fabric_timer (m->fabric, m->net->start, r);
        }
    }
    return fabric_run (m->fabric) < 0 ? -1 : 0;
}

int simulate_content (const struct plan *p,
                      const struct network *net,
                      double blob_size,
                      double last_size,
                      const int32_t *blobs,
                      int nblobs,
                      int window,
                      struct forecast *out,
                      struct fault *f)
{
    struct network brokers = *net;
    struct sim m = {
        .plan = p,
        .net = net,
        .out = out,
        .disk = net->disk,
        .blobs = blobs,
        .nblobs = nblobs,
        .window = window,
        .size = blob_size,
        .last_size = last_size,
    };
    size_t n = p->n;
    int rc = -1;

    brokers.disk = 0;
    if (plan_check (p, f) < 0)
        return -1;
    if (p->stripes != 1)
        return fault_set (f, EINVAL, -1, "model: brokers have one tree, and the plan has %d", p->stripes);
    forecast_init (out, p->n);
    if ((m.state = calloc (n, nblobs ? nblobs : 1)) && (m.lines = calloc (n, sizeof (*m.lines)))
        && (m.child = malloc (sizeof (*m.child) * n))
        && (m.sibling = malloc (sizeof (*m.sibling) * n))
        && (m.next = calloc (n, sizeof (*m.next))) && (m.loaded = calloc (n, sizeof (*m.loaded)))
        && (m.fabric = fabric_create (&brokers, p->n, 0, &ops, &m)))
        rc = sim_run (&m);
    for (size_t i = 0; m.lines && i < n; i++)
        free (m.lines[i].blobs);
    fabric_destroy (m.fabric);
    free (m.state);
    free (m.lines);
    free (m.child);
    free (m.sibling);
    free (m.next);
    free (m.loaded);
    return rc < 0 ? fault_set (f, ENOMEM, -1, "model: out of memory for %d ranks", p->n) : 0;
}
