/* news.c - what one thread of a node learns, and all of them must know */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "dest.h"
#include "loop.h"

static void wake_owner (struct node *node)
{
    uint64_t one = 1;

    if (write (node->event_fd, &one, sizeof (one)) < 0)
        return; /* it cannot fail but when it is readable already */
}

void node_fail (struct node *node, const struct fault *f)
{
    pthread_mutex_lock (&node->lock);
    if (!node->failed) {
        node->failed = true;
        node->fault = *f;
        if (node->fault.rank < 0)
            node->fault.rank = node->config.rank;
    }
    atomic_store (&node->stopping, true);
    pthread_cond_broadcast (&node->cond);
    pthread_mutex_unlock (&node->lock);
    node_kick (node, NULL);
    wake_owner (node);
}

void node_failf (struct node *node, int errnum, const char *fmt, ...)
{
    struct fault f;
    va_list ap;

    va_start (ap, fmt);
    fault_vset (&f, errnum, node->config.rank, fmt, ap);
    va_end (ap);
    node_fail (node, &f);
}

void node_kick (struct node *node, struct loop *self)
{
    for (int i = 0; i < node->nloops; i++) {
        if (&node->loops[i] == self)
            self->again = true;
        else
            loop_kick (&node->loops[i]);
    }
}

int node_offer (struct node *node,
                uint64_t manifest_bytes,
                struct sum manifest_sum,
                struct loop *self)
{
    int rc = 0;

    if (manifest_bytes == 0 || manifest_bytes > MANIFEST_BYTES_MAX) {
        errno = EPROTO;
        return -1;
    }
    pthread_mutex_lock (&node->lock);
    if (!node->blob) {
        node->blob_size = manifest_bytes;
        node->blob_sum = manifest_sum;
        node->tables[SPACE_MANIFEST] = table_create (manifest_bytes,
                                                     MANIFEST_CHUNK_SIZE,
                                                     node->config.stripes,
                                                     false);
        if (!(node->blob = malloc (manifest_bytes))
            || !node->tables[SPACE_MANIFEST])
            rc = -1;
        else
            atomic_store (&node->offered, true);
    }
    else if (node->blob_size != manifest_bytes
             || !sum_equal (node->blob_sum, manifest_sum)) {
        errno = EPROTO;
        rc = -1;
    }
    pthread_mutex_unlock (&node->lock);
    if (rc < 0 && errno != EPROTO)
        node_failf (node, ENOMEM, "out of memory for the manifest");
    else
        node_kick (node, self);
    return rc;
}

static int make_sums (struct node *node, struct fault *f)
{
    struct table *t;

    if (!(t = table_create (node->tables[SPACE_PAYLOAD]->nchunks * SUM_SIZE,
                            SUMS_CHUNK_SIZE,
                            node->config.stripes,
                            false)))
        return fault_set (f, ENOMEM, node->config.rank, "out of memory");
    node->tables[SPACE_SUMS] = t;
    atomic_store (&node->prepared, true);
    return 0;
}

/* What has to be there before payload can be stored. */
int node_prepare (struct node *node, struct fault *f)
{
    struct node_config *c = &node->config;
    /* for parents and scouts, children, and the threads that go through all */
    int slots = 2 * c->stripes + node->nloops + HELD_SLOTS_MAX + 4;
    int flags = (c->overwrite || !c->deliver ? STORE_OVERWRITE : 0)
                | (c->resume && c->deliver ? STORE_RESUME : 0)
                | (c->sync && c->deliver ? STORE_SYNC : 0);

    /* the list of names is a parent's, and not covered by it */
    if (c->sha256 && node->manifest->entries[0].type != ENTRY_FILE)
        return fault_set (f,
                          EBADMSG,
                          c->rank,
                          "digest is of one file, but a directory comes");
    if (!(node->tables[SPACE_PAYLOAD] = table_create (node->manifest->bytes,
                                                      node->manifest->chunk_size,
                                                      c->stripes,
                                                      node->is_root && !node->is_fed))
        || !(node->cache = cache_create (slots, node->manifest->chunk_size)))
        return fault_set (f, ENOMEM, c->rank, "out of memory");
    if (c->resume && make_sums (node, f) < 0)
        return -1;
    if (node->is_root && !node->is_fed) {
        int same = 0;

        if (c->deliver
            && (same = dest_is_source (c->destination,
                                       manifest_name (node->manifest, 0),
                                       c->source,
                                       c->overwrite,
                                       f))
                   < 0)
            return -1;
        if (same || !c->deliver)
            return 0; /* it has the data where it wants it */
    }
    /* a relay's copy never gets a name, so no other is in its way */
    if (!(node->dest = store_create (node->manifest,
                                     c->destination,
                                     c->tmp,
                                     flags,
                                     f)))
        return -1;
    return 0;
}

void node_manifest_landed (struct node *node, struct loop *self)
{
    struct fault f;

    if (!sum_equal (sum_of (node->blob, node->blob_size), node->blob_sum))
        node_failf (node, EBADMSG, "the manifest is not the root's");
    else if (!(node->manifest = manifest_decode (node->blob,
                                                 node->blob_size,
                                                 &f))
             || node_prepare (node, &f) < 0)
        node_fail (node, &f);
    else {
        /* to make many directories takes its time, which is no silence */
        node_progress (node, clock_ns ());
        if (node->config.resume)
            node_check_sums (node);
        else
            node_set_ready (node, self);
        node_kick (node, self);
    }
}

int node_digest (struct node *node, struct sum digest, struct loop *self)
{
    bool differs;

    pthread_mutex_lock (&node->lock);
    if (!atomic_load (&node->digest_known)) {
        node->digest = digest;
        atomic_store (&node->digest_known, true);
    }
    differs = !sum_equal (digest, node->digest);
    pthread_cond_broadcast (&node->cond);
    pthread_mutex_unlock (&node->lock);
    if (differs) {
        errno = EPROTO;
        return -1;
    }
    if (node->config.resume)
        node_check_sums (node);
    node_check_received (node);
    node_kick (node, self);
    return 0;
}

void node_set_ready (struct node *node, struct loop *self)
{
    pthread_mutex_lock (&node->lock);
    atomic_store (&node->ready, true);
    pthread_cond_broadcast (&node->cond);
    pthread_mutex_unlock (&node->lock);
    node_check_received (node);
    node_kick (node, self);
}

void node_landed (struct node *node, uint64_t chunk, struct sum sum)
{
    bool last = table_land (node->tables[SPACE_PAYLOAD], chunk, sum);

    atomic_fetch_add (&node->work, 1);
    /* it may be what the hasher waits for, or who publishes */
    if (node->config.sha256 || last) {
        pthread_mutex_lock (&node->lock);
        pthread_cond_broadcast (&node->cond);
        pthread_mutex_unlock (&node->lock);
    }
    if (last)
        node_check_received (node);
}

void node_check_received (struct node *node)
{
    struct table *t;
    bool news = false;
    bool wrong = false;

    if (!atomic_load (&node->ready) || !atomic_load (&node->digest_known)
        || (node->hasher_started && !atomic_load (&node->hashed)))
        return;
    t = node->tables[SPACE_PAYLOAD];
    if (!table_is_complete (t))
        return;
    pthread_mutex_lock (&node->lock);
    if (!node->received && (!node->is_root || node->copied)) {
        node->received = news = true;
        wrong = !sum_equal (table_digest (t), node->digest);
        /* before anybody can go on to the states after it */
        if (!wrong)
            __atomic_store_n (&node->config.record->state,
                              RECORD_RECEIVED,
                              __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock (&node->lock);
    if (wrong)
        node_failf (node, EBADMSG, "what was received is not what the root sent");
    else if (news) {
        node_mark (node, TIME_VERIFIED, false);
        wake_owner (node);
    }
}

/* A chunk on disk is not what was written there, or was at the source. The root
 * cannot get it from anywhere; others can, a few times. Always returns NULL.
 */
static struct slot *lose_chunk (struct node *node, uint64_t chunk)
{
    struct fault f;

    record_add (node->config.record, bad_chunks, 1);
    if (!node->is_root
        && table_lose (node->tables[SPACE_PAYLOAD], chunk) < TABLE_LOSSES_MAX) {
        node_kick (node, NULL);
        errno = EAGAIN;
        return NULL;
    }
    if (!node->source || store_check_unchanged (node->source, &f) == 0)
        fault_set (&f,
                   EBADMSG,
                   node->config.rank,
                   "chunk %ju was read back from disk with other contents%s",
                   (uintmax_t)chunk,
                   node->is_root ? "" : ", again and again");
    node_fail (node, &f);
    errno = f.errnum;
    return NULL;
}

struct slot *node_load (struct node *node, uint64_t chunk)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint32_t len = table_length (t, chunk);
    struct slot *slot;
    struct sum sum;
    struct sum known;
    struct fault f;

    if ((slot = cache_find (node->cache, chunk)))
        return slot;
    slot = cache_take (node->cache);
    if (store_read (node->source ? node->source : node->dest,
                    chunk * t->chunk_size,
                    slot->data,
                    len,
                    &f)
        < 0)
        goto error;
    sum = sum_of (slot->data, len);
    if (node->source)
        table_land (t, chunk, sum); /* if it has no checksum yet */
    if (!table_sum (t, chunk, &known)) { /* somebody else has just lost it */
        cache_release (node->cache, slot);
        errno = EAGAIN;
        return NULL;
    }
    if (!sum_equal (sum, known)) {
        cache_release (node->cache, slot);
        return lose_chunk (node, chunk);
    }
    /* only now: what is found there goes out with the checksum of the table */
    cache_publish (node->cache, slot, chunk);
    if (node->source) {
        atomic_fetch_add (&node->work, 1);
        pthread_mutex_lock (&node->lock);
        pthread_cond_broadcast (&node->cond);
        pthread_mutex_unlock (&node->lock);
    }
    return slot;
error:
    cache_release (node->cache, slot);
    node_fail (node, &f);
    errno = f.errnum;
    return NULL;
}
