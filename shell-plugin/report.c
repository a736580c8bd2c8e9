/* report.c - what a rank says of itself in its record */
#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

#include "clock.h"
#include "loop.h"

static void set_double (double *p, double v)
{
    __atomic_store (p, &v, __ATOMIC_RELAXED);
}

/* Called with the lock held. */
static void report_time (struct node *node, enum node_time what)
{
    struct record *r = node->config.record;
    double *fields[TIME_COUNT] = {
        [TIME_STARTED] = &r->started,
        [TIME_CONNECTED] = &r->connected,
        [TIME_FIRST_BYTE] = &r->first_byte,
        [TIME_LAST_BYTE] = &r->last_byte,
        [TIME_VERIFIED] = &r->verified,
        [TIME_RENAMED] = &r->renamed,
    };

    if (node->times[what] != 0)
        set_double (fields[what],
                    (node->times[what] + node->clock_offset
                     - node->config.epoch_ns)
                        / 1e9);
}

void node_mark (struct node *node, enum node_time what, bool again)
{
    int64_t now = clock_ns ();

    pthread_mutex_lock (&node->lock);
    if (node->times[what] == 0 || again) {
        node->times[what] = now;
        if (atomic_load (&node->clock_known))
            report_time (node, what);
    }
    pthread_mutex_unlock (&node->lock);
}

void node_set_clock (struct node *node, int64_t offset, int64_t error)
{
    struct record *r = node->config.record;
    bool first = !atomic_load (&node->clock_known);

    pthread_mutex_lock (&node->lock);
    if (first || error < node->clock_error) {
        node->clock_offset = offset;
        node->clock_error = error;
        set_double (&r->clock_offset, offset / 1e9);
        set_double (&r->clock_error, error / 1e9);
        for (int i = 0; i < TIME_COUNT; i++)
            report_time (node, i);
    }
    pthread_mutex_unlock (&node->lock);
    atomic_store (&node->clock_known, true);
    if (first)
        node_kick (node, NULL);
}

void node_report_end (struct node *node)
{
    struct record *r = node->config.record;
    struct rusage ru;
    double disk = 0;
    int64_t wait_ns = 0;

    for (int i = 0; i < node->nloops; i++)
        wait_ns += atomic_load (&node->loops[i].wait_ns);
    if (node->nloops_up > 0)
        r->wait_data = wait_ns / 1e9 / node->nloops_up;
    if (node->source)
        disk += store_seconds (node->source);
    if (node->dest)
        disk += store_seconds (node->dest);
    r->wait_disk = disk;
    getrusage (RUSAGE_SELF, &ru);
    r->cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec
             + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    r->memory = (uint64_t)ru.ru_maxrss * 1024;
}

/* The rank has failed: say so to whoever watches the record. */
int node_report_failure (struct node *node, struct fault *f)
{
    struct record *r = node->config.record;

    if (f->rank < 0)
        f->rank = node->config.rank;
    node_report_end (node);
    r->kind = f->kind;
    r->errnum = f->errnum;
    snprintf (r->text, sizeof (r->text), "%s", f->text);
    __atomic_store_n (&r->state, RECORD_FAILED, __ATOMIC_RELEASE);
    errno = f->errnum;
    return -1;
}
