/* digest.c - check a file against a published SHA-256, while it comes
 *
 * The checksums that travel with the chunks find accidents. This is for those
 * who trust neither the disk of the root nor the ranks between: each rank that
 * keeps the file makes the digest of what it reads back.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

#define ZEROS_SIZE 65536

struct hash {
    struct node *node;
    EVP_MD_CTX *md;
    const struct segment *s; /* of what comes next */
    uint64_t file_offset;    /* how far the file has been hashed */
};

/* Wait for a chunk. False if the node is ending. */
static bool wait_chunk (struct node *node, uint64_t chunk)
{
    bool ending;

    pthread_mutex_lock (&node->lock);
    while (!(ending = atomic_load (&node->stopping))) {
        struct table *t = node->tables[SPACE_PAYLOAD];
        struct sum sum;

        if (atomic_load (&node->ready) && table_sum (t, chunk, &sum))
            break;
        pthread_cond_wait (&node->cond, &node->lock);
    }
    pthread_mutex_unlock (&node->lock);
    return !ending;
}

/* A hole reads as zeros. */
static bool hash_zeros (struct hash *h, uint64_t length)
{
    static const unsigned char zeros[ZEROS_SIZE];

    h->file_offset += length;
    while (length > 0) {
        size_t n = length < sizeof (zeros) ? length : sizeof (zeros);

        if (atomic_load (&h->node->stopping)
            || !EVP_DigestUpdate (h->md, zeros, n))
            return false;
        length -= n;
    }
    return true;
}

/* Payload bytes [offset, offset + length). */
static bool hash_data (struct hash *h,
                       uint64_t offset,
                       const unsigned char *data,
                       size_t length)
{
    while (length > 0) {
        uint64_t end = h->s->offset + h->s->length;
        size_t n = length < end - offset ? length : end - offset;
        uint64_t at = h->s->file_offset + (offset - h->s->offset);

        if (!hash_zeros (h, at - h->file_offset)
            || !EVP_DigestUpdate (h->md, data, n))
            return false;
        h->file_offset += n;
        offset += n;
        data += n;
        length -= n;
        if (offset == end)
            h->s++;
    }
    return true;
}

/* False if the node is ending, or has failed. */
static bool hash_chunk (struct hash *h, uint64_t chunk)
{
    struct node *node = h->node;
    struct table *t;
    struct slot *slot;
    bool good;

    for (;;) {
        if (!wait_chunk (node, chunk))
            return false;
        node_busy (node, HELPER_HASHER);
        slot = node_load (node, chunk);
        node_idle (node, HELPER_HASHER);
        if (slot)
            break;
        if (errno != EAGAIN)
            return false;
    }
    t = node->tables[SPACE_PAYLOAD];
    good = hash_data (h, chunk * t->chunk_size, slot->data, table_length (t, chunk));
    cache_release (node->cache, slot);
    return good;
}

static void compare (struct node *node, const unsigned char *digest)
{
    char text[2 * DIGEST_SIZE + 1];
    char what[260] = "what came";
    struct fault f;

    if (!memcmp (digest, node->sha256, DIGEST_SIZE)) {
        atomic_store (&node->hashed, true);
        node_check_received (node);
        return;
    }
    for (int i = 0; i < DIGEST_SIZE; i++)
        snprintf (text + 2 * i, 3, "%02x", digest[i]);
    if (node->is_root)
        snprintf (what, sizeof (what), "source %.250s:", node->config.source);
    fault_set (&f,
               EBADMSG,
               node->config.rank,
               "%s is not the file that digest says: it has sha256:%s: get it again, "
               "or give its own digest",
               what,
               text);
    f.kind = node->is_root ? FAULT_SOURCE : FAULT_OTHER;
    node_fail (node, &f);
}

/* Wait until it is known what there is to come. */
static bool wait_ready (struct node *node)
{
    bool ending;

    pthread_mutex_lock (&node->lock);
    while (!(ending = atomic_load (&node->stopping))
           && !atomic_load (&node->ready))
        pthread_cond_wait (&node->cond, &node->lock);
    pthread_mutex_unlock (&node->lock);
    return !ending;
}

static void *hash_run (void *arg)
{
    struct hash h = { .node = arg };
    unsigned char digest[EVP_MAX_MD_SIZE];
    uint64_t c = 0;
    bool good;

    if (!wait_ready (h.node))
        return NULL;
    h.s = h.node->manifest->segments;
    good = (h.md = EVP_MD_CTX_new ())
           && EVP_DigestInit_ex (h.md, EVP_sha256 (), NULL);
    while (good && c < h.node->tables[SPACE_PAYLOAD]->nchunks)
        good = hash_chunk (&h, c++);
    good = good
           && hash_zeros (&h, h.node->manifest->entries[0].size - h.file_offset)
           && EVP_DigestFinal_ex (h.md, digest, NULL);
    EVP_MD_CTX_free (h.md);
    if (good)
        compare (h.node, digest);
    else if (!atomic_load (&h.node->stopping))
        node_failf (h.node, ENOMEM, "OpenSSL cannot make a SHA-256");
    return NULL;
}

int digest_start (struct node *node, struct fault *f)
{
    sigset_t all;
    sigset_t old;
    int errnum;

    if (!node->config.sha256 || !(node->config.deliver || node->is_root))
        return 0;
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &old);
    node->hasher_started = true; /* it may look at that itself */
    errnum = pthread_create (&node->hasher, NULL, hash_run, node);
    pthread_sigmask (SIG_SETMASK, &old, NULL);
    if (errnum != 0) {
        node->hasher_started = false;
        return fault_set (f, errnum, node->config.rank, "cannot start a thread");
    }
    return 0;
}

void digest_stop (struct node *node)
{
    pthread_mutex_lock (&node->lock);
    pthread_cond_broadcast (&node->cond);
    pthread_mutex_unlock (&node->lock);
    if (node->hasher_started)
        pthread_join (node->hasher, NULL);
}
