/* report.c - what a rank says of itself in its record */
#include "clock.h"
#include "loop.h"

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
        record_set (fields[what],
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
        record_set (&r->clock_offset, offset / 1e9);
        record_set (&r->clock_error, error / 1e9);
        for (int i = 0; i < TIME_COUNT; i++)
            report_time (node, i);
    }
    pthread_mutex_unlock (&node->lock);
    atomic_store (&node->clock_known, true);
    if (first)
        node_kick (node, NULL);
}

void node_report_alive (struct node *node)
{
    int64_t oldest = INT64_MAX;

    for (int i = 0; i < node->nloops; i++) {
        int64_t ns = atomic_load (&node->loops[i].alive_ns);

        if (ns < oldest)
            oldest = ns;
    }
    for (int i = 0; i < HELPER_COUNT; i++) {
        int64_t ns = atomic_load (&node->busy_ns[i]);

        if (ns != 0 && ns < oldest)
            oldest = ns;
    }
    record_set (&node->config.record->alive,
                (oldest - node->config.epoch_ns) / 1e9);
}

void node_busy (struct node *node, enum node_helper who)
{
    atomic_store (&node->busy_ns[who], clock_ns ());
}

void node_idle (struct node *node, enum node_helper who)
{
    atomic_store (&node->busy_ns[who], 0);
}

void node_report_end (struct node *node)
{
    struct record *r = node->config.record;
    double disk = 0;
    int64_t wait_ns = 0;
    int64_t link_ns = 0;

    for (int i = 0; i < node->nloops; i++) {
        wait_ns += atomic_load (&node->loops[i].wait_ns);
        link_ns += atomic_load (&node->loops[i].link_ns);
    }
    for (int s = 0; !node->is_root && s < node->config.stripes; s++)
        r->links[s] = atomic_load (&node->link_ns[s]) / 1e9;
    if (node->nloops_up > 0) {
        r->wait_data = wait_ns / 1e9 / node->nloops_up;
        r->wait_link = link_ns / 1e9 / node->nloops_up;
    }
    if (node->source)
        disk += store_seconds (node->source);
    if (node->dest)
        disk += store_seconds (node->dest);
    r->wait_disk = disk;
    record_usage (r);
}

/* The rank has failed: say so to whoever watches the record. */
int node_report_failure (struct node *node, struct fault *f)
{
    node_report_end (node);
    return record_failure (node->config.record, f);
}
