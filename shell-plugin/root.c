/* root.c - what only the root does: it has the source, makes the digest, and
 * may make a copy of its own
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loop.h"

/* after this time without a child that gets anything, we read by ourselves */
#define STALL_NS 200000000

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
    if (!node->is_fed
        && !(node->source = store_open (node->manifest, node->config.source, f)))
        return -1;
    atomic_store (&node->offered, true);
    atomic_store (&node->ready, true);
    return 0;
}

static void add_stall (struct timespec *ts)
{
    clock_gettime (CLOCK_REALTIME, ts);
    ts->tv_nsec += STALL_NS;
    ts->tv_sec += ts->tv_nsec / 1000000000;
    ts->tv_nsec %= 1000000000;
}

static uint64_t chunks_served (struct node *node)
{
    return __atomic_load_n (&node->config.record->chunks_out, __ATOMIC_RELAXED);
}

/* Wait until a child has made us read 'chunk': it is then at hand in memory.
 * When no child has got anything for STALL_NS, they do not want what is left,
 * and '*idle' remembers it until that changes. False if the node is ending.
 */
static bool wait_chunk (struct node *node, uint64_t chunk, uint64_t *idle)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct sum sum;

    pthread_mutex_lock (&node->lock);
    while (node->has_children && !atomic_load (&node->stopping)
           && !table_sum (t, chunk, &sum) && chunks_served (node) != *idle) {
        uint64_t served = chunks_served (node);
        struct timespec ts;

        add_stall (&ts);
        if (pthread_cond_timedwait (&node->cond, &node->lock, &ts) == ETIMEDOUT
            && chunks_served (node) == served)
            *idle = served;
    }
    pthread_mutex_unlock (&node->lock);
    return !atomic_load (&node->stopping);
}

/* Pass on a part of the list of checksums as soon as it is complete. */
static void land_sums (struct node *node, uint64_t chunk)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint64_t part = chunk / (SUMS_CHUNK_SIZE / SUM_SIZE);
    uint32_t length = table_length (node->tables[SPACE_SUMS], part);

    if ((chunk + 1) % (SUMS_CHUNK_SIZE / SUM_SIZE) == 0
        || chunk + 1 == t->nchunks) {
        table_land (node->tables[SPACE_SUMS],
                    part,
                    sum_of (t->sums + part * SUMS_CHUNK_SIZE, length));
        node_kick (node, NULL);
    }
}

/* Every chunk's checksum becomes known when it is first read for a child, or,
 * where all of them are asked for, at once. See that this comes to an end, then
 * tell everybody what the whole must come to.
 */
static void *summer_run (void *arg)
{
    struct node *node = arg;
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct fault f;
    uint64_t idle = UINT64_MAX;

    for (uint64_t c = 0; c < t->nchunks; c++) {
        struct slot *slot;
        struct sum sum;

        if (node->config.resume ? atomic_load (&node->stopping)
                                : !wait_chunk (node, c, &idle))
            return NULL;
        if (!table_sum (t, c, &sum)) {
            node_busy (node, HELPER_SUMMER);
            if (!(slot = node_load (node, c)))
                return NULL;
            cache_release (node->cache, slot);
            node_idle (node, HELPER_SUMMER);
        }
        if (node->config.resume)
            land_sums (node, c);
    }
    if (store_check_unchanged (node->source, &f) < 0)
        node_fail (node, &f);
    else
        (void)node_digest (node, table_digest (t), NULL);
    return NULL;
}

static int copy_chunk (struct node *node, uint64_t chunk, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct slot *slot;
    int rc;

    node_busy (node, HELPER_KEEPER);
    if (!(slot = node_load (node, chunk)))
        return -1;
    rc = store_write (node->dest,
                      chunk * t->chunk_size,
                      slot->data,
                      table_length (t, chunk),
                      f);
    cache_release (node->cache, slot);
    node_idle (node, HELPER_KEEPER);
    if (rc < 0)
        node_fail (node, f);
    return rc;
}

static int copy_all (struct node *node, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint64_t idle = UINT64_MAX;

    for (uint64_t c = 0; c < t->nchunks; c++) {
        if (!wait_chunk (node, c, &idle) || copy_chunk (node, c, f) < 0)
            return -1;
    }
    return 0;
}

/* The same, once all checksums are known, of what is not there yet. */
static int copy_rest (struct node *node, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    unsigned char *buf = NULL;
    int rc;

    pthread_mutex_lock (&node->lock);
    while (!atomic_load (&node->digest_known) && !atomic_load (&node->stopping))
        pthread_cond_wait (&node->cond, &node->lock);
    pthread_mutex_unlock (&node->lock);
    if (atomic_load (&node->stopping))
        return -1;
    if ((rc = resume_open (node, f)) == 0 && !(buf = malloc (t->chunk_size)))
        rc = fault_set (f, ENOMEM, 0, "out of memory");
    if (rc < 0)
        node_fail (node, f);
    for (uint64_t c = 0; rc == 0 && c < t->nchunks; c++) {
        int found;

        if (atomic_load (&node->stopping))
            rc = -1;
        else if ((found = resume_find (node, c, buf, f)) < 0) {
            node_fail (node, f);
            rc = -1;
        }
        else if (found == 0)
            rc = copy_chunk (node, c, f);
    }
    free (buf);
    return rc < 0 ? -1 : 0;
}

/* The root's own copy, when it is among those that keep the data. */
static void *copier_run (void *arg)
{
    struct node *node = arg;
    struct fault f;

    if ((node->config.resume ? copy_rest (node, &f) : copy_all (node, &f)) < 0)
        return NULL;
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
    if (node->is_fed)
        errnum = feed_start (node);
    else {
        errnum = pthread_create (&node->summer, NULL, summer_run, node);
        node->summer_started = errnum == 0;
    }
    if (errnum == 0 && node->dest && !node->is_fed) {
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
    feed_stop (node);
}
