/* receive.c - ask a parent for chunks, and take in what comes
 *
 * First those of the manifest, then the checksums if they are wanted, then the
 * payload. What is asked for and does not come is lacking again.
 */
#include <errno.h>

#include "clock.h"
#include "loop.h"

#define WINDOW_BYTES (8 << 20)

void up_drop_requests (struct up *u)
{
    struct node *node = u->loop->node;

    for (int i = 0; i < u->nasked; i++)
        table_return (node->tables[u->asked[i].space], u->asked[i].chunk);
    u->nasked = 0;
    if (u->fill_slot)
        cache_release (node->cache, u->fill_slot);
    u->fill_slot = NULL;
    u->filling = false;
}

/* Bytes are a sign of life, but somebody or something on the way may spoil or cut
 * every chunk: then it is not waited for ever.
 */
void up_waste (struct up *u)
{
    struct node *node = u->loop->node;
    int64_t since = atomic_load (&node->wasted_ns);

    if (since == 0)
        atomic_store (&node->wasted_ns, clock_ns ());
    else if (clock_ns () - since > node->config.timeout * 1e9)
        node_failf (node,
                    EBADMSG,
                    "no chunk has come whole and right for %.0f seconds, the "
                    "last one from rank %d",
                    node->config.timeout,
                    up_rank (u));
}

int up_window (struct node *node)
{
    int window = WINDOW_BYTES / node->manifest->chunk_size;

    if (window < 4)
        return 4;
    return window > WIRE_WINDOW_MAX ? WIRE_WINDOW_MAX : window;
}

static int wanted_space (struct node *node)
{
    if (atomic_load (&node->ready))
        return SPACE_PAYLOAD;
    return atomic_load (&node->prepared) ? SPACE_SUMS : SPACE_MANIFEST;
}

/* Keep the window full. */
int up_ask (struct up *u)
{
    struct node *node = u->loop->node;
    int space = wanted_space (node);

    if (!u->offered || (u->is_scout && space != SPACE_PAYLOAD))
        return 0;
    if (space == SPACE_PAYLOAD)
        u->window = up_window (node);
    while (u->nasked < u->window) {
        struct wire_msg msg = { .type = WIRE_GET, .get.space = space };

        if (u->is_scout && u->trial_left == 0)
            break;
        if (!table_take (node->tables[space], u->tree, &msg.get.chunk))
            break;
        u->asked[u->nasked].space = space;
        u->asked[u->nasked].chunk = msg.get.chunk;
        u->nasked++;
        if (u->is_scout) {
            u->trial_left--;
            if (u->trial_ns == 0)
                u->trial_ns = clock_ns ();
        }
        if (conn_queue (&u->conn, &msg) < 0)
            return -1;
    }
    return 0;
}

static unsigned char *fill_place (struct up *u)
{
    struct node *node = u->loop->node;

    switch (u->fill.space) {
        case SPACE_MANIFEST:
            return node->blob + u->fill.chunk * MANIFEST_CHUNK_SIZE;
        case SPACE_SUMS:
            return node->tables[SPACE_PAYLOAD]->sums
                   + u->fill.chunk * SUMS_CHUNK_SIZE;
        default:
            u->fill_slot = cache_take (node->cache);
            node_mark (node, TIME_FIRST_BYTE, false);
            return u->fill_slot->data;
    }
}

int up_on_data (struct up *u, const struct wire_msg *msg)
{
    struct node *node = u->loop->node;
    int i;

    for (i = 0; i < u->nasked; i++) {
        if (u->asked[i].space == msg->data.space
            && u->asked[i].chunk == msg->data.chunk)
            break;
    }
    if (i == u->nasked
        || msg->data.length
               != table_length (node->tables[msg->data.space],
                                msg->data.chunk)) {
        errno = EPROTO;
        return -1;
    }
    u->fill = u->asked[i];
    u->fill_sum = msg->data.sum;
    u->fill_length = msg->data.length;
    u->fill_have = 0;
    u->fill_data = fill_place (u);
    u->filling = true;
    return 0;
}

int up_fill (struct up *u)
{
    struct node *node = u->loop->node;

    while (u->fill_have < u->fill_length) {
        ssize_t n = conn_read (&u->conn,
                               u->fill_data + u->fill_have,
                               u->fill_length - u->fill_have);

        if (n <= 0)
            return n;
        u->fill_have += n;
        u->bytes += n;
        u->heard_ns = clock_ns ();
        node_progress (node, u->heard_ns);
    }
    return 1;
}

static int land_payload (struct up *u)
{
    struct node *node = u->loop->node;
    struct table *t = node->tables[SPACE_PAYLOAD];
    struct record *r = node->config.record;
    int (*write_it) (struct store *, uint64_t, const void *, size_t, struct fault *) =
        table_was_lost (t, u->fill.chunk) ? store_rewrite : store_write;
    struct fault f;

    if (write_it (node->dest,
                  u->fill.chunk * node->manifest->chunk_size,
                  u->fill_data,
                  u->fill_length,
                  &f)
        < 0) {
        node_fail (node, &f);
        errno = f.errnum;
        return -1;
    }
    cache_publish (node->cache, u->fill_slot, u->fill.chunk);
    cache_release (node->cache, u->fill_slot);
    u->fill_slot = NULL;
    record_add (r, bytes_in, u->fill_length);
    record_add (r, chunks_in, 1);
    node_mark (node, TIME_LAST_BYTE, true);
    node_landed (node, u->fill.chunk, u->fill_sum);
    node_kick (node, u->loop);
    return 0;
}

int up_land (struct up *u)
{
    struct node *node = u->loop->node;
    struct table *t = node->tables[u->fill.space];

    u->filling = false;
    if (!sum_equal (sum_of (u->fill_data, u->fill_length), u->fill_sum)
        || !table_accepts (t, u->fill.chunk, u->fill_sum)) {
        record_add (node->config.record, bad_chunks, 1);
        up_waste (u);
        errno = EBADMSG;
        return -1;
    }
    atomic_store (&node->wasted_ns, 0);
    for (int i = 0; i < u->nasked; i++) {
        if (u->asked[i].space == u->fill.space
            && u->asked[i].chunk == u->fill.chunk) {
            u->asked[i] = u->asked[--u->nasked];
            break;
        }
    }
    if (u->is_scout && u->trial_left == 0 && u->nasked == 0)
        u->trial_end_ns = clock_ns ();
    else if (u->is_scout && u->trial_half_ns == 0 && u->bytes >= u->trial_half)
        u->trial_half_ns = clock_ns ();
    if (u->fill.space == SPACE_PAYLOAD)
        return land_payload (u);
    if (table_land (t, u->fill.chunk, u->fill_sum)) {
        if (u->fill.space == SPACE_MANIFEST)
            node_manifest_landed (node, u->loop);
        else
            node_check_sums (node);
    }
    node_kick (node, u->loop);
    return 0;
}
