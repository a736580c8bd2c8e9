/* root.c - what only the root does: it has the source, makes the digest, and
 * may make a copy of its own
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "loop.h"

/* chunks that no child asks for within this time are read for the digest */
#define STALL_NS 500000000

int root_setup (struct node *node, struct fault *f)
{
    struct table *t;

    if (!(t = table_create (node->blob_size,
                            MANIFEST_CHUNK_SIZE,
                            node->config.stripes,
                            true)))
        return fault_set (f, ENOMEM, 0, "out of memory");
    node->tables[SPACE_MANIFEST] = t;
    node->blob_sum = sum_of (node->blob, node->blob_size);
    for (uint64_t c = 0; c < t->nchunks; c++)
        table_land (t,
                    c,
                    sum_of (node->blob + c * MANIFEST_CHUNK_SIZE,
                            table_length (t, c)));
    if (!(node->source = store_open (node->manifest, node->config.source, f)))
        return -1;
    atomic_store (&node->offered, true);
    atomic_store (&node->ready, true);
    return 0;
}

/* Wait until the table is complete, or for STALL_NS. */
static bool wait_complete (struct node *node)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct timespec ts;
    bool complete;

    clock_gettime (CLOCK_REALTIME, &ts);
    ts.tv_nsec += STALL_NS;
    ts.tv_sec += ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    pthread_mutex_lock (&node->lock);
    while (!(complete = table_is_complete (t)) && !atomic_load (&node->stopping)) {
        if (pthread_cond_timedwait (&node->cond, &node->lock, &ts) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock (&node->lock);
    return complete;
}

/* Every chunk's checksum becomes known when it is first read for a child. See
 * that this comes to an end, then tell everybody what the whole must come to.
 */
static void *summer_run (void *arg)
{
    struct node *node = arg;
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct fault f;
    uint64_t chunk = 0;

    while (!atomic_load (&node->stopping)) {
        uint64_t before = table_count (t);
        struct sum sum;

        if (table_is_complete (t))
            break;
        if (node->has_children
            && (wait_complete (node) || table_count (t) != before))
            continue;
        while (chunk < t->nchunks && table_sum (t, chunk, &sum))
            chunk++;
        if (chunk < t->nchunks) {
            struct slot *slot = node_load (node, chunk, NULL);

            if (!slot)
                return NULL;
            cache_release (node->cache, slot);
        }
    }
    if (atomic_load (&node->stopping))
        return NULL;
    if (store_check_unchanged (node->source, &f) < 0)
        node_fail (node, &f);
    else
        node_digest (node, table_digest (t), NULL);
    return NULL;
}

/* The root's own copy, when it is among those that keep the data. */
static void *copier_run (void *arg)
{
    struct node *node = arg;
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct fault f;

    for (uint64_t c = 0; c < t->nchunks; c++) {
        struct slot *slot;
        int rc;

        if (atomic_load (&node->stopping)
            || !(slot = node_load (node, c, NULL)))
            return NULL;
        rc = store_write (node->dest,
                          c * t->chunk_size,
                          slot->data,
                          table_length (t, c),
                          &f);
        cache_release (node->cache, slot);
        if (rc < 0) {
            node_fail (node, &f);
            return NULL;
        }
    }
    pthread_mutex_lock (&node->lock);
    node->copied = true;
    pthread_mutex_unlock (&node->lock);
    node_check_received (node);
    return NULL;
}

int root_start (struct node *node, struct fault *f)
{
    sigset_t all;
    sigset_t old;
    int errnum = 0;

    node->copied = node->dest == NULL;
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &old);
    errnum = pthread_create (&node->summer, NULL, summer_run, node);
    node->summer_started = errnum == 0;
    if (errnum == 0 && node->dest) {
        errnum = pthread_create (&node->copier, NULL, copier_run, node);
        node->copier_started = errnum == 0;
    }
    pthread_sigmask (SIG_SETMASK, &old, NULL);
    if (errnum != 0)
        return fault_set (f, errnum, 0, "cannot start a thread");
    return 0;
}

void root_stop (struct node *node)
{
    pthread_mutex_lock (&node->lock);
    pthread_cond_broadcast (&node->cond);
    pthread_mutex_unlock (&node->lock);
    if (node->summer_started)
        pthread_join (node->summer, NULL);
    if (node->copier_started)
        pthread_join (node->copier, NULL);
}
