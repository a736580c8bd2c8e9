/* feed.c - the root's data as it comes from elsewhere, in frames through a pipe
 *
 * It goes to the root's own destination, chunk by chunk, and from there to the
 * children, as at any other rank. Only at the end is it known to be right: until
 * then no rank learns what the whole must come to, so none can be complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "feed.h"
#include "loop.h"

#define POLL_MS 100
#define PIPE_BYTES (1 << 20)
/* of the time limit: the root, which knows why nothing comes, is to say so before
 * the others find that nothing comes
 */
#define PATIENCE 0.9

struct feed {
    struct node *node;
    struct slot *slot; /* of the chunk that is filled, or NULL */
    uint64_t chunk;
    uint32_t have;     /* of its bytes */
};

static int fail (struct feed *feed, int errnum, const char *why)
{
    struct node *node = feed->node;
    struct fault f;

    fault_set (&f, errnum, 0, "source %.300s: %s", node->config.source, why);
    f.kind = FAULT_SOURCE;
    node_fail (node, &f);
    errno = errnum;
    return -1;
}

/* Wait until there is something to read. */
static int wait_data (struct feed *feed)
{
    struct node *node = feed->node;
    struct pollfd pfd = { .fd = node->config.feed_fd, .events = POLLIN };
    int64_t since = clock_ns ();

    while (!atomic_load (&node->stopping)) {
        int n = poll (&pfd, 1, POLL_MS);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return fail (feed, errno, strerror (errno));
        if (clock_ns () - since > node->config.timeout * PATIENCE * 1e9)
            return fail (feed, ETIMEDOUT, "who pulls it has said nothing for too long");
    }
    errno = ECANCELED;
    return -1;
}

static int read_full (struct feed *feed, void *buf, size_t len)
{
    unsigned char *p = buf;

    while (len > 0) {
        ssize_t n;

        if (wait_data (feed) < 0)
            return -1;
        n = read (feed->node->config.feed_fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail (feed, errno, strerror (errno));
        if (n == 0)
            return fail (feed, EPIPE, "who pulls it has died");
        /* a chunk of a slow source may take longer than the time limit: the
         * others hear in pongs that it comes
         */
        atomic_fetch_add (&feed->node->work, 1);
        p += n;
        len -= n;
    }
    return 0;
}

static int land (struct feed *feed)
{
    struct node *node = feed->node;
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct sum sum = sum_of (feed->slot->data, feed->have);
    struct fault f;
    int rc;

    node_busy (node, HELPER_FEEDER);
    rc = store_write (node->dest,
                      feed->chunk * t->chunk_size,
                      feed->slot->data,
                      feed->have,
                      &f);
    node_idle (node, HELPER_FEEDER);
    if (rc < 0) {
        node_fail (node, &f);
        return -1;
    }
    cache_publish (node->cache, feed->slot, feed->chunk);
    cache_release (node->cache, feed->slot);
    feed->slot = NULL;
    node_mark (node, TIME_LAST_BYTE, true);
    node_landed (node, feed->chunk++, sum);
    node_kick (node, NULL);
    return 0;
}

static int take_data (struct feed *feed, uint32_t length)
{
    struct node *node = feed->node;
    struct table *t = node->tables[SPACE_PAYLOAD];

    while (length > 0) {
        uint32_t n;

        if (feed->chunk == t->nchunks)
            return fail (feed, EPROTO, "more has come than it should hold");
        if (!feed->slot) {
            feed->slot = cache_take (node->cache);
            feed->have = 0;
        }
        n = table_length (t, feed->chunk) - feed->have;
        if (n > length)
            n = length;
        if (read_full (feed, feed->slot->data + feed->have, n) < 0)
            return -1;
        node_mark (node, TIME_FIRST_BYTE, false);
        feed->have += n;
        length -= n;
        if (feed->have == table_length (t, feed->chunk) && land (feed) < 0)
            return -1;
    }
    return 0;
}

static int take_failure (struct feed *feed, uint32_t length)
{
    struct fault f;
    char text[FEED_TEXT_MAX + 1];

    if (read_full (feed, text, length) < 0)
        return -1;
    text[length] = '\0';
    feed_clean (text);
    fault_set (&f, EIO, 0, "%s", text);
    f.kind = FAULT_SOURCE;
    node_fail (feed->node, &f);
    return -1;
}

static int take_end (struct feed *feed)
{
    struct node *node = feed->node;
    struct table *t = node->tables[SPACE_PAYLOAD];

    if (feed->chunk < t->nchunks)
        return fail (feed, EPROTO, "less has come than it should hold");
    pthread_mutex_lock (&node->lock);
    node->copied = true;
    pthread_mutex_unlock (&node->lock);
    (void)node_digest (node, table_digest (t), NULL);
    return 0;
}

/* 1 when all is there. */
static int take_frame (struct feed *feed)
{
    unsigned char head[FEED_HEAD_SIZE];
    struct feed_frame frame;

    if (read_full (feed, head, sizeof (head)) < 0)
        return -1;
    frame = feed_decode (head);
    if (frame.kind == FEED_DATA && frame.length <= FEED_DATA_MAX)
        return take_data (feed, frame.length);
    if (frame.kind == FEED_FAIL && frame.length <= FEED_TEXT_MAX)
        return take_failure (feed, frame.length);
    if (frame.kind == FEED_END && frame.length == 0)
        return take_end (feed) < 0 ? -1 : 1;
    return fail (feed, EPROTO, "who pulls it says what nobody understands");
}

static void *feeder_run (void *arg)
{
    struct feed feed = { .node = arg };
    struct node *node = arg;

    /* fewer turns between the two of us, where that is allowed */
    (void)fcntl (node->config.feed_fd, F_SETPIPE_SZ, PIPE_BYTES);
    while (take_frame (&feed) == 0)
        ;
    if (feed.slot)
        cache_release (node->cache, feed.slot);
    return NULL;
}

int feed_start (struct node *node)
{
    int errnum = pthread_create (&node->feeder, NULL, feeder_run, node);

    node->feeder_started = errnum == 0;
    return errnum;
}

void feed_stop (struct node *node)
{
    if (node->feeder_started)
        pthread_join (node->feeder, NULL);
}
