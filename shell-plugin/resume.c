/* resume.c - take over what is on disk already, and fetch only the rest
 *
 * It may be what an interrupted run left, or what has the final name. It is not
 * believed: the root makes the checksums of all chunks first, they travel as a
 * list of their own, and each chunk that is there is checked against it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "loop.h"

static bool is_right (struct node *node,
                      enum recall from,
                      uint64_t chunk,
                      unsigned char *buf)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint32_t length = table_length (t, chunk);

    node_busy (node, HELPER_KEEPER);
    /* to read takes its time, which is no silence */
    node_progress (node, clock_ns ());
    atomic_fetch_add (&node->work, 1);
    return store_recall (node->dest, from, chunk * t->chunk_size, buf, length)
           && sum_equal (sum_of (buf, length), table_expected (t, chunk));
}

/* Is all of it there under the final name? */
static bool is_all_right (struct node *node, unsigned char *buf)
{
    struct table *t = node->tables[SPACE_PAYLOAD];

    if (!store_is_alike (node->dest))
        return false;
    for (uint64_t c = 0; c < t->nchunks; c++) {
        if (atomic_load (&node->stopping)
            || !is_right (node, RECALL_FINAL, c, buf))
            return false;
    }
    return true;
}

int resume_open (struct node *node, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    unsigned char *buf;
    bool kept;

    if (!(buf = malloc (t->chunk_size)))
        return fault_set (f, ENOMEM, node->config.rank, "out of memory");
    kept = is_all_right (node, buf);
    node_idle (node, HELPER_KEEPER); /* what follows may take long */
    free (buf);
    if (!kept)
        return store_begin (node->dest, f);
    store_keep (node->dest);
    record_add (node->config.record, bytes_kept, t->bytes);
    return 1;
}

int resume_find (struct node *node, uint64_t chunk, void *buf, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint32_t length = table_length (t, chunk);
    int found = 1;

    if (!is_right (node, RECALL_PARTIAL, chunk, buf)) {
        if (!is_right (node, RECALL_FINAL, chunk, buf))
            found = 0;
        else if (store_write (node->dest, chunk * t->chunk_size, buf, length, f) < 0)
            found = -1;
    }
    node_idle (node, HELPER_KEEPER);
    if (found > 0)
        record_add (node->config.record, bytes_kept, length);
    return found;
}

static int check_chunk (struct node *node,
                        uint64_t chunk,
                        unsigned char *buf,
                        struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    int found;

    if ((found = resume_find (node, chunk, buf, f)) < 0)
        return -1;
    if (found)
        node_landed (node, chunk, table_expected (t, chunk));
    else
        table_return (t, chunk);
    node_kick (node, NULL);
    return 0;
}

/* While it goes through the chunks, those that are lacking are asked for, and
 * those that are there are served.
 */
static int check_all (struct node *node, struct fault *f)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    unsigned char *buf;
    int rc;

    table_expect (t);
    if (!node->config.deliver) { /* a relay has nothing from before */
        node_set_ready (node, NULL);
        return 0;
    }
    table_claim (t);
    if ((rc = resume_open (node, f)) < 0)
        return -1;
    node_set_ready (node, NULL);
    if (rc == 1) {
        for (uint64_t c = 0; c < t->nchunks; c++)
            node_landed (node, c, table_expected (t, c));
        node_kick (node, NULL);
        return 0;
    }
    if (!(buf = malloc (t->chunk_size)))
        return fault_set (f, ENOMEM, node->config.rank, "out of memory");
    for (uint64_t c = 0; rc == 0 && c < t->nchunks; c++) {
        if (atomic_load (&node->stopping))
            break;
        rc = check_chunk (node, c, buf, f);
    }
    free (buf);
    return rc;
}

static void *check_run (void *arg)
{
    struct node *node = arg;
    struct fault f;
    int rc;

    if (!sum_equal (table_digest (node->tables[SPACE_PAYLOAD]), node->digest))
        rc = fault_set (&f,
                        EBADMSG,
                        node->config.rank,
                        "the list of checksums is not the root's");
    else
        rc = check_all (node, &f);
    if (rc < 0)
        node_fail (node, &f);
    return NULL;
}

void node_check_sums (struct node *node)
{
    int errnum = 0;

    /* the root has made them, and its copier sees to the rest */
    if (node->is_root || !atomic_load (&node->prepared)
        || !atomic_load (&node->digest_known)
        || !table_is_complete (node->tables[SPACE_SUMS]))
        return;
    pthread_mutex_lock (&node->lock);
    if (!node->checker_started) {
        sigset_t all;
        sigset_t old;

        sigfillset (&all);
        pthread_sigmask (SIG_SETMASK, &all, &old);
        errnum = pthread_create (&node->checker, NULL, check_run, node);
        pthread_sigmask (SIG_SETMASK, &old, NULL);
        node->checker_started = errnum == 0;
    }
    pthread_mutex_unlock (&node->lock);
    if (errnum != 0)
        node_failf (node, errnum, "cannot start a thread: %s", strerror (errnum));
}

void resume_stop (struct node *node)
{
    if (node->checker_started)
        pthread_join (node->checker, NULL);
}
