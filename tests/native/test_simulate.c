/* test_simulate.c - the model: its queue of events, what moves between ranks, and
 * both transports, simulated and in closed form
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "estimate.h"
#include "fabric.h"
#include "pqueue.h"
#include "shape.h"
#include "simulate.h"
#include "tree.h"

static uint32_t state;

/* 0..n-1, the same in each run */
static int rnd (int n)
{
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

static bool near (double a, double b)
{
    return fabs (a - b) <= 1e-9 * (1 + fabs (b));
}

/* ---- the queue of events */

enum { NUMBERS = 100 };

/* The least of the keys that are there, -1 if none is. */
static int least (const double *keys, const bool *there)
{
    int best = -1;

    for (int i = 0; i < NUMBERS; i++) {
        if (there[i] && (best < 0 || keys[i] < keys[best]))
            best = i;
    }
    return best;
}

static void test_pqueue (const char *dir)
{
    double keys[NUMBERS];
    bool there[NUMBERS] = { false };
    struct pqueue *q = pqueue_create (NUMBERS);
    int32_t id;
    double key;

    (void)dir;
    must (q);
    ok (!pqueue_first (q, &id, &key));
    for (int step = 0; step < 20000; step++) {
        int i = rnd (NUMBERS);

        if (rnd (3) == 0) {
            pqueue_remove (q, i);
            there[i] = false;
        }
        else {
            keys[i] = rnd (40); /* so that many are equal */
            pqueue_set (q, i, keys[i]);
            there[i] = true;
        }
        i = least (keys, there);
        ok (pqueue_first (q, &id, &key) == (i >= 0));
        ok (i < 0 || (id == i && key == keys[i]));
    }
    for (int i; (i = least (keys, there)) >= 0; there[i] = false) {
        ok (pqueue_first (q, &id, &key) && id == i);
        pqueue_remove (q, id);
    }
    ok (!pqueue_first (q, &id, &key));
    pqueue_destroy (q);
}

/* ---- what moves between ranks */

enum what { SENT, LANDED, COMPUTED, ASKED, TIMER };

struct event {
    enum what kind;
    int32_t id; /* of a piece its 'what', of a timer the rank */
    double t;
};

/* What happens in a fabric, and pieces that begin when the timer of rank i rings. */
struct watch {
    struct fabric *fabric;
    struct event events[64];
    int count;
    struct piece later[4];
    int fail; /* errno for the first event */
};

static int note (void *arg, enum what kind, double t, int32_t id)
{
    struct watch *w = arg;

    must (w->count < 64);
    w->events[w->count++] = (struct event){ kind, id, t };
    errno = w->fail;
    return w->fail ? -1 : 0;
}

static int on_sent (void *arg, double t, const struct piece *p)
{
    return note (arg, SENT, t, p->what);
}

static int on_landed (void *arg, double t, const struct piece *p)
{
    return note (arg, LANDED, t, p->what);
}

static int on_computed (void *arg, double t, const struct piece *p)
{
    return note (arg, COMPUTED, t, p->what);
}

static int on_asked (void *arg, double t, const struct piece *p)
{
    return note (arg, ASKED, t, p->what);
}

static int on_timer (void *arg, double t, int32_t rank)
{
    struct watch *w = arg;

    if (w->later[rank].bytes > 0)
        must (fabric_send (w->fabric, t, &w->later[rank]) == 0);
    return note (arg, TIMER, t, rank);
}

static const struct fabric_ops ops = { on_sent, on_landed, on_computed, on_asked, on_timer };

static void begin (struct watch *w, const struct network *net, double most)
{
    memset (w, 0, sizeof (*w));
    must ((w->fabric = fabric_create (net, 4, most, &ops, w)));
}

static void end (struct watch *w, double last)
{
    ok (near (fabric_run (w->fabric), last));
    fabric_destroy (w->fabric);
}

/* When that happened; -1: it did not. */
static double when (const struct watch *w, enum what kind, int32_t id)
{
    for (int i = 0; i < w->count; i++) {
        if (w->events[i].kind == kind && w->events[i].id == id)
            return w->events[i].t;
    }
    return -1;
}

static struct piece piece (int from, int to, int what, double bytes)
{
    return (struct piece){ .from = from, .to = to, .what = what, .bytes = bytes };
}

static void test_what_leaves_shares_the_nic (const char *dir)
{
    struct network net = { .bandwidth = 100, .latency = 5 };
    struct piece first = piece (0, 1, 1, 150);
    struct watch w;

    (void)dir;
    begin (&w, &net, 0);
    w.later[1] = piece (0, 2, 2, 50);
    must (fabric_send (w.fabric, 0, &first) == 0);
    fabric_timer (w.fabric, 1, 1);
    end (&w, 7);
    /* 100 bytes alone, then half of the rate for each */
    ok (when (&w, TIMER, 1) == 1);
    ok (near (when (&w, SENT, 1), 2) && near (when (&w, SENT, 2), 2));
    ok (near (when (&w, LANDED, 1), 7) && near (when (&w, LANDED, 2), 7));
    ok (w.events[1].id == 1 && w.events[2].id == 2); /* in the order in which they began */
    /* processors that send less than the NIC would */
    begin (&w, &net, 10);
    must (fabric_send (w.fabric, 0, &first) == 0);
    end (&w, 15 + 5);
    ok (near (when (&w, SENT, 1), 15));
}

static void test_what_comes_passes_in_turn (const char *dir)
{
    double rates[] = { 100, 100, 100, 10 };
    struct network net = { .bandwidth = 1, .rates = rates, .latency = 1 };
    struct piece p[4];
    struct watch w;

    (void)dir;
    /* a slow receiver takes as long as it needs from the first byte on */
    begin (&w, &net, 0);
    p[0] = piece (0, 3, 0, 100);
    must (fabric_send (w.fabric, 0, &p[0]) == 0);
    end (&w, 1 + 10);
    ok (near (when (&w, SENT, 0), 1));
    /* two senders are twice as fast as the receiver */
    begin (&w, &net, 0);
    p[0] = piece (0, 2, 0, 100);
    p[1] = piece (1, 2, 1, 100);
    must (fabric_send (w.fabric, 0, &p[0]) == 0 && fabric_send (w.fabric, 0, &p[1]) == 0);
    end (&w, 1 + 2);
    ok (near (when (&w, LANDED, 0), 2) && near (when (&w, LANDED, 1), 3));
    /* but two pieces of one sender are not */
    begin (&w, &net, 0);
    p[1].from = 0;
    must (fabric_send (w.fabric, 0, &p[0]) == 0 && fabric_send (w.fabric, 0, &p[1]) == 0);
    end (&w, 2 + 1);
    ok (near (when (&w, LANDED, 0), 3) && near (when (&w, LANDED, 1), 3));
    /* a disk bounds it as well */
    net.disk = 50;
    begin (&w, &net, 0);
    must (fabric_send (w.fabric, 0, &p[0]) == 0);
    end (&w, 1 + 2);
}

static void test_uplinks (const char *dir)
{
    const int32_t groups[] = { 0, 0, 1, 1 };
    struct network net = { .bandwidth = 100, .groups = groups, .uplink = 50 };
    struct piece p[3] = { piece (0, 1, 0, 100), piece (0, 2, 1, 100), piece (1, 3, 2, 100) };
    struct watch w;

    (void)dir;
    begin (&w, &net, 0);
    must (fabric_send (w.fabric, 0, &p[0]) == 0);
    end (&w, 1); /* stays in its group */
    begin (&w, &net, 0);
    must (fabric_send (w.fabric, 0, &p[1]) == 0 && fabric_send (w.fabric, 0, &p[2]) == 0);
    end (&w, 4); /* one behind the other */
    ok (near (when (&w, LANDED, 1), 2) && near (when (&w, LANDED, 2), 4));
}

static void test_bursts (const char *dir)
{
    struct network net = { .bandwidth = 100, .burst = 50 };
    struct piece p = piece (0, 1, 0, 150);
    struct watch w;

    (void)dir;
    begin (&w, &net, 0);
    w.later[1] = p;
    w.later[2] = p;
    fabric_timer (w.fabric, 10, 1);
    fabric_timer (w.fabric, 11.2, 2); /* after a rest that filled 20 bytes */
    end (&w, 11.2 + 1.3);
    ok (near (w.events[1].t, 11)); /* sent */
}

static void test_work_and_questions (const char *dir)
{
    struct network net = { .bandwidth = 100, .latency = 3, .processors = 2 };
    struct watch w;

    (void)dir;
    begin (&w, &net, 0);
    for (int i = 0; i < 3; i++) {
        struct piece p = piece (0, 1, i, 1);

        must (fabric_compute (w.fabric, 1, &p, 2) == 0);
        must (fabric_ask (w.fabric, 1, &p) == 0);
    }
    end (&w, 5);
    ok (when (&w, COMPUTED, 0) == 3 && when (&w, COMPUTED, 1) == 3 && when (&w, COMPUTED, 2) == 5);
    for (int i = 0; i < 3; i++)
        ok (when (&w, ASKED, i) == 4);
    /* each rank has its own */
    net.processors = 0;
    begin (&w, &net, 0);
    for (int i = 0; i < 3; i++) {
        struct piece p = piece (0, i == 2 ? 2 : 1, i, 1);

        must (fabric_compute (w.fabric, 1, &p, 2) == 0);
    }
    end (&w, 5);
    ok (when (&w, COMPUTED, 0) == 3 && when (&w, COMPUTED, 1) == 5 && when (&w, COMPUTED, 2) == 3);
    /* who cannot go on ends it all */
    begin (&w, &net, 0);
    w.fail = ENOSPC;
    fabric_timer (w.fabric, 0, 0);
    fabric_timer (w.fabric, 1, 1);
    errno = 0;
    ok (fabric_run (w.fabric) == -1 && errno == ENOSPC && w.count == 1);
    fabric_destroy (w.fabric);
}

/* ---- the transports */

static const char *const specs[] = { "flat",
                                     "chain",
                                     "kary:2",
                                     "binomial",
                                     "two-tree",
                                     "multi-tree:3",
                                     "edst",
                                     "split-binary",
                                     "scatter-allgather:3",
                                     "rack:4",
                                     "all",
                                     "leaves",
                                     "middle-leaves",
                                     "middle-leaves:strict" };
enum { SPECS = sizeof (specs) / sizeof (specs[0]), RANKS = 40 };

struct answer {
    double connected[RANKS];
    double first[RANKS];
    double last[RANKS];
    double done[RANKS];
    double out[RANKS];
    double times[RANKS]; /* in closed form */
};

static struct forecast forecast_of (struct answer *a)
{
    return (struct forecast){ a->connected, a->first, a->last, a->done, a->out };
}

static struct plan *plan_of (const char *spec, int n)
{
    int32_t topo[RANKS];
    uint8_t members[RANKS];
    struct plan *p;
    struct fault f;

    must (tree_spec ("kary:3", n, topo, &f) == 0);
    for (int i = 0; i < n; i++)
        members[i] = rnd (4) > 0;
    must (shape_plan (spec, topo, n, rnd (2) ? members : NULL, &p, &f) == 0);
    return p;
}

/* Numbers of all kinds. */
static struct network network_of (int n, double *rates, int32_t *groups)
{
    struct network net = { .bandwidth = 1e6, .encryption = rnd (2) ? 3e6 : 0 };

    for (int i = 0; i < n; i++) {
        rates[i] = 1e5 * (1 + rnd (20));
        groups[i] = rnd (4) % n;
    }
    if (rnd (2))
        net.latency = 1e-3 * rnd (50);
    if (rnd (2))
        net.burst = rnd (100000);
    if (rnd (2))
        net.per_chunk = net.per_connection = net.per_blob = net.per_load = 1e-3 * rnd (30);
    if (rnd (2))
        net.rates = rates;
    if (rnd (2)) {
        net.groups = groups;
        net.uplink = 1e5 * (1 + rnd (20));
    }
    if (rnd (3) == 0)
        net.disk = 5e5;
    if (rnd (3) == 0)
        net.processors = 1 + rnd (3);
    net.broker = rnd (2) ? 2e6 : 0;
    net.start = rnd (2);
    return net;
}

static void check_ranks (const struct plan *p, const struct answer *a, double bytes)
{
    double sent = 0;
    int receive = 0;

    for (int r = 0; r < p->n; r++) {
        bool part = p->parents[r] != TREE_ABSENT;

        ok ((a->done[r] >= 0) == part && (a->times[r] >= 0) == part);
        ok (isfinite (a->done[r]) && isfinite (a->times[r]));
        sent += a->out[r];
        if (r > 0 && part) {
            receive++;
            ok (a->connected[r] >= 0 && a->connected[r] <= a->done[r]);
            ok (bytes == 0 || (a->first[r] > 0 && a->first[r] <= a->last[r]));
            ok (a->last[r] <= a->done[r]);
        }
    }
    ok (near (sent, receive * bytes));
}

static void test_direct (const char *dir)
{
    (void)dir;
    for (int round = 0; round < 600; round++) {
        int n = 1 + rnd (RANKS);
        double bytes = rnd (4) ? rnd (3000000) : 0;
        double rates[RANKS];
        int32_t groups[RANKS];
        struct network net = network_of (n, rates, groups);
        struct plan *p = plan_of (specs[round % SPECS], n);
        struct answer a;
        struct answer again;
        struct forecast out = forecast_of (&a);
        struct forecast other = forecast_of (&again);
        struct fault f;

        memset (&a, 0, sizeof (a));
        memset (&again, 0, sizeof (again));
        must (simulate_direct (p, &net, bytes, 65536, &out, &f) == 0);
        must (estimate_direct (p, &net, bytes, 65536, a.times, &f) == 0);
        check_ranks (p, &a, bytes);
        must (simulate_direct (p, &net, bytes, 65536, &other, &f) == 0);
        memcpy (again.times, a.times, sizeof (a.times));
        ok (!memcmp (&a, &again, sizeof (a)));
        plan_destroy (p);
    }
}

static void test_later_phases_wait (const char *dir)
{
    struct network net = { .bandwidth = 1e6 };
    struct plan *p = plan_of ("middle-leaves:strict", 30);
    struct answer a;
    struct forecast out = forecast_of (&a);
    double early = 0;
    double late = INFINITY;
    struct fault f;

    (void)dir;
    must (simulate_direct (p, &net, 1e6, 65536, &out, &f) == 0);
    for (int r = 1; r < p->n; r++) {
        if (p->parents[r] >= 0 && p->phase[r] == 0)
            early = fmax (early, a.done[r]);
        else if (p->parents[r] >= 0)
            late = fmin (late, a.first[r]);
    }
    ok (early > 0 && isfinite (late) && late > early);
    plan_destroy (p);
}

static void test_content (const char *dir)
{
    enum { BLOBS = 20 };

    (void)dir;
    for (int round = 0; round < 300; round++) {
        int n = 1 + rnd (RANKS);
        int nblobs = rnd (BLOBS);
        int distinct = 1 + rnd (BLOBS);
        int window = 1 + rnd (4);
        int32_t blobs[BLOBS];
        bool used[BLOBS] = { false };
        int count = 0;
        double rates[RANKS];
        int32_t groups[RANKS];
        struct network net = network_of (n, rates, groups);
        struct plan *p = plan_of (specs[SPECS - 1 - round % 4], n);
        struct answer a;
        struct forecast out = forecast_of (&a);
        struct fault f;

        for (int b = 0; b < nblobs; b++) {
            blobs[b] = b < distinct ? b : rnd (b);
            count += !used[blobs[b]];
            used[blobs[b]] = true;
        }
        must (simulate_content (p, &net, 65536, 65536, blobs, nblobs, window, &out, &f) == 0);
        must (estimate_content (p, &net, 65536, nblobs, count, window, a.times, &f) == 0);
        for (int r = 1; r < n; r++) {
            int children = 0;

            ok ((a.done[r] >= 0) == (p->deliver[r] == 1));
            ok ((a.times[r] >= 0) == (p->deliver[r] == 1));
            for (int c = 1; c < n; c++)
                children += p->parents[c] == r;
            /* each child gets each content once */
            ok (near (a.out[r], 65536.0 * children * count));
        }
        plan_destroy (p);
    }
}

static void test_refused (const char *dir)
{
    struct network net = { .bandwidth = 1e6 };
    struct plan *p = plan_create (2, 4);
    const int32_t blobs[] = { 0 };
    struct answer a;
    struct forecast out = forecast_of (&a);
    struct fault f;

    (void)dir;
    must (p);
    for (int i = 0; i < 8; i++)
        p->parents[i] = i % 4 - 1;
    ok (simulate_content (p, &net, 1, 1, blobs, 1, 1, &out, &f) < 0);
    ok_fault (&f, EINVAL, "brokers have one tree");
    ok (estimate_content (p, &net, 1, 1, 1, 1, a.times, &f) < 0);
    ok_fault (&f, EINVAL, "brokers have one tree");
    p->parents[1] = 2;
    p->parents[2] = 1;
    ok (simulate_direct (p, &net, 1, 1, &out, &f) < 0);
    ok_fault (&f, EINVAL, "plan: tree 0");
    ok (estimate_direct (p, &net, 1, 1, a.times, &f) < 0);
    ok_fault (&f, EINVAL, "plan: tree 0");
    plan_destroy (p);
}

int main (void)
{
    run (test_pqueue);
    run (test_what_leaves_shares_the_nic);
    run (test_what_comes_passes_in_turn);
    run (test_uplinks);
    run (test_bursts);
    run (test_work_and_questions);
    run (test_direct);
    run (test_later_phases_wait);
    run (test_content);
    run (test_refused);
    return check_end ();
}
