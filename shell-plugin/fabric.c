/* fabric.c - what moves between ranks in a simulation, and when it is there */
#include "fabric.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pqueue.h"

/* Pieces that are served at the same time, each at an equal part of the rate:
 * 'served' grows at rate / count, and a piece is through when it has grown by
 * the piece's bytes. So the next one through is that of the least mark.
 */
struct entry {
    double mark;
    uint64_t order;
    struct piece piece;
};

struct share {
    double rate;
    double served;
    double at; /* when 'served' was reckoned */
    double burst; /* bytes that pass at once, if something came now */
    struct entry *heap;
    int count;
    int room;
};

/* Pieces that are served one after the other. */
struct waiting {
    double done;
    struct piece piece;
};

struct queue {
    double free; /* when the last one is through */
    double due;  /* when it would be, had each come at the rate of the link */
    struct waiting *ring;
    int head;
    int count;
    int room;
};

enum stage {
    STAGE_UP,
    STAGE_GROUP_OUT,
    STAGE_GROUP_IN,
    STAGE_DOWN,
    STAGE_COMPUTE,
    STAGE_ASK,
    STAGE_TIMER,
    STAGE_COUNT,
};

struct fabric {
    const struct network *net;
    const struct fabric_ops *ops;
    void *arg;
    int n;
    int groups;
    int processors;
    int first[STAGE_COUNT + 1]; /* number of the first of each stage */
    struct share *up;
    struct queue *queues; /* by number, less n */
    struct pqueue *events;
    uint64_t order;
};

void fabric_destroy (struct fabric *fb)
{
    if (fb) {
        for (int i = 0; fb->up && i < fb->n; i++)
            free (fb->up[i].heap);
        for (int i = 0; fb->queues && i < fb->first[STAGE_TIMER] - fb->n; i++)
            free (fb->queues[i].ring);
        free (fb->up);
        free (fb->queues);
        pqueue_destroy (fb->events);
        free (fb);
    }
}

static double rate_of (const struct network *net, int32_t rank)
{
    return net->rates ? net->rates[rank] : net->bandwidth;
}

struct fabric *fabric_create (const struct network *net,
                              int n,
                              double most,
                              const struct fabric_ops *ops,
                              void *arg)
{
    struct fabric *fb;
    int sizes[STAGE_COUNT];

    if (!(fb = calloc (1, sizeof (*fb))))
        return NULL;
    fb->net = net;
    fb->ops = ops;
    fb->arg = arg;
    fb->n = n;
    fb->groups = net->groups && net->uplink > 0 ? n : 0;
    fb->processors = net->processors > 0 ? net->processors : n;
    sizes[STAGE_UP] = sizes[STAGE_DOWN] = sizes[STAGE_ASK] = sizes[STAGE_TIMER] = n;
    sizes[STAGE_GROUP_OUT] = sizes[STAGE_GROUP_IN] = fb->groups;
    sizes[STAGE_COMPUTE] = fb->processors;
    for (int i = 0; i < STAGE_COUNT; i++)
        fb->first[i + 1] = fb->first[i] + sizes[i];
    if (!(fb->up = calloc (n, sizeof (*fb->up)))
        || !(fb->queues = calloc (fb->first[STAGE_TIMER] - n, sizeof (*fb->queues)))
        || !(fb->events = pqueue_create (fb->first[STAGE_COUNT]))) {
        fabric_destroy (fb);
        errno = ENOMEM;
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        fb->up[i].rate = rate_of (net, i);
        fb->up[i].burst = net->burst;
        if (most > 0 && most < fb->up[i].rate)
            fb->up[i].rate = most;
    }
    return fb;
}

/* ---- what is served at the same time */

static double least (double a, double b)
{
    return a < b ? a : b;
}

static int entry_before (const struct entry *a, const struct entry *b)
{
    return a->mark < b->mark || (a->mark == b->mark && a->order < b->order);
}

static void share_advance (struct share *s, double t, double most)
{
    double bytes = (t - s->at) * s->rate;

    if (s->count > 0)
        s->served += bytes / s->count;
    else
        s->burst = least (s->burst + bytes, most);
    s->at = t;
}

static void share_schedule (struct fabric *fb, int32_t rank)
{
    struct share *s = &fb->up[rank];

    if (s->count == 0) {
        s->served = 0; /* else it would lose digits in long runs */
        pqueue_remove (fb->events, rank);
    }
    else {
        double left = s->heap[0].mark - s->served;

        pqueue_set (fb->events, rank, s->at + (left > 0 ? left : 0) * s->count / s->rate);
    }
}

int fabric_send (struct fabric *fb, double t, const struct piece *p)
{
    struct share *s = &fb->up[p->from];
    struct entry e = { .order = fb->order++, .piece = *p };
    int at;

    if (s->count == s->room) {
        int room = s->room ? 2 * s->room : 4;
        struct entry *heap = realloc (s->heap, sizeof (*heap) * room);

        if (!heap)
            return -1;
        s->heap = heap;
        s->room = room;
    }
    share_advance (s, t, fb->net->burst);
    e.piece.begin = t;
    e.mark = s->served + p->bytes - least (s->burst, p->bytes);
    s->burst -= least (s->burst, p->bytes);
    for (at = s->count++; at > 0 && entry_before (&e, &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = e;
    share_schedule (fb, p->from);
    return 0;
}

static struct piece share_pop (struct share *s)
{
    struct piece first = s->heap[0].piece;
    struct entry last = s->heap[--s->count];
    int at = 0;
    int child;

    while ((child = 2 * at + 1) < s->count) {
        if (child + 1 < s->count && entry_before (&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!entry_before (&s->heap[child], &last))
            break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return first;
}

/* ---- what is served in turn */

static int queue_add (struct fabric *fb, int id, const struct piece *p, double done)
{
    struct queue *q = &fb->queues[id - fb->n];

    if (q->count == q->room) {
        int room = q->room ? 2 * q->room : 4;
        struct waiting *ring = malloc (sizeof (*ring) * room);

        if (!ring)
            return -1;
        for (int i = 0; i < q->count; i++)
            ring[i] = q->ring[(q->head + i) % q->room];
        free (q->ring);
        q->ring = ring;
        q->head = 0;
        q->room = room;
    }
    q->free = done;
    q->ring[(q->head + q->count++) % q->room] = (struct waiting){ done, *p };
    if (q->count == 1)
        pqueue_set (fb->events, id, done);
    return 0;
}

static struct piece queue_pop (struct fabric *fb, int id)
{
    struct queue *q = &fb->queues[id - fb->n];
    struct piece p = q->ring[q->head].piece;

    q->head = (q->head + 1) % q->room;
    if (--q->count > 0)
        pqueue_set (fb->events, id, q->ring[q->head].done);
    else
        pqueue_remove (fb->events, id);
    return p;
}

/* Cut through: what comes as fast as this link is has passed it when it ends, and
 * so has what comes slowly beside others, if all together are no faster. A link
 * that was idle lets a burst pass faster.
 */
static int pass (struct fabric *fb, double t, int id, const struct piece *p, double rate, double burst)
{
    struct queue *q = &fb->queues[id - fb->n];
    double earliest = p->begin - burst / rate;
    struct piece next = *p;

    if (next.begin < q->due)
        next.begin = q->due;
    q->due = (q->due < earliest ? earliest : q->due) + p->bytes / rate;
    return queue_add (fb, id, &next, q->due > t ? q->due : t);
}

int fabric_compute (struct fabric *fb, double t, const struct piece *p, double seconds)
{
    int id = fb->first[STAGE_COMPUTE] + (fb->net->processors > 0 ? 0 : p->to);
    double begin;

    for (int i = 1; i < fb->net->processors; i++) {
        int other = fb->first[STAGE_COMPUTE] + i;

        if (fb->queues[other - fb->n].free < fb->queues[id - fb->n].free)
            id = other;
    }
    begin = fb->queues[id - fb->n].free;
    return queue_add (fb, id, p, (begin > t ? begin : t) + seconds);
}

int fabric_ask (struct fabric *fb, double t, const struct piece *p)
{
    return queue_add (fb, fb->first[STAGE_ASK] + p->from, p, t + fb->net->latency);
}

void fabric_timer (struct fabric *fb, double t, int32_t rank)
{
    pqueue_set (fb->events, fb->first[STAGE_TIMER] + rank, t);
}

/* ---- the way of a piece */

static int into_host (struct fabric *fb, double t, const struct piece *p)
{
    double latency = fb->net->latency;
    double rate = rate_of (fb->net, p->to);
    struct piece there = *p;

    if (fb->net->disk > 0 && fb->net->disk < rate)
        rate = fb->net->disk;
    there.begin += latency;
    return pass (fb, t + latency, fb->first[STAGE_DOWN] + p->to, &there, rate, fb->net->burst);
}

static int leave_host (struct fabric *fb, double t, const struct piece *p)
{
    const int32_t *groups = fb->net->groups;

    if (fb->groups == 0 || groups[p->from] == groups[p->to])
        return into_host (fb, t, p);
    return pass (fb, t, fb->first[STAGE_GROUP_OUT] + groups[p->from], p, fb->net->uplink, 0);
}

static int step (struct fabric *fb, double t, int32_t id)
{
    struct piece p;

    if (id < fb->n) {
        struct share *s = &fb->up[id];

        share_advance (s, t, fb->net->burst);
        p = share_pop (s);
        share_schedule (fb, id);
        if (leave_host (fb, t, &p) < 0)
            return -1;
        return fb->ops->sent (fb->arg, t, &p);
    }
    if (id >= fb->first[STAGE_TIMER]) {
        pqueue_remove (fb->events, id);
        return fb->ops->timer (fb->arg, t, id - fb->first[STAGE_TIMER]);
    }
    p = queue_pop (fb, id);
    if (id < fb->first[STAGE_GROUP_IN])
        return pass (fb, t, fb->first[STAGE_GROUP_IN] + fb->net->groups[p.to], &p, fb->net->uplink, 0);
    if (id < fb->first[STAGE_DOWN])
        return into_host (fb, t, &p);
    if (id < fb->first[STAGE_COMPUTE])
        return fb->ops->landed (fb->arg, t, &p);
    if (id < fb->first[STAGE_ASK])
        return fb->ops->computed (fb->arg, t, &p);
    return fb->ops->asked (fb->arg, t, &p);
}

double fabric_run (struct fabric *fb)
{
    double t = 0;
    double now;
    int32_t id;

    while (pqueue_first (fb->events, &id, &now)) {
        t = now;
        if (step (fb, t, id) < 0)
            return -1;
    }
    return t;
}
