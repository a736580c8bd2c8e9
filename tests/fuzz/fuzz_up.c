/* fuzz_up.c - the child's side of a connection, and a parent that says anything
 *
 * Input: a byte of options, then what the parent sends after the handshake,
 * payloads of DATA included. With FUZZ_UP_HONEST it is mended so that it gets
 * further than to the first checksum: no fuzzer finds one by chance.
 */
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "fuzz.h"
#include "fuzz_node.h"
#include "loop.h"

#define INPUT_MAX 65536

/* The DATA that follows 'at', and brings the manifest. */
static void mend_offer (struct wire_msg *offer, const uint8_t *data, size_t size)
{
    while (size >= WIRE_HEAD_SIZE) {
        int length = wire_length (data);
        struct wire_msg msg;

        if (length < 0 || size < (size_t)length)
            return;
        wire_decode (data, &msg);
        data += length;
        size -= length;
        if (msg.type != WIRE_DATA)
            continue;
        if (msg.data.length > size)
            return;
        if (msg.data.space == SPACE_MANIFEST) {
            offer->offer.manifest_bytes = msg.data.length;
            offer->offer.manifest_sum = sum_of (data, msg.data.length);
            return;
        }
        data += msg.data.length;
        size -= msg.data.length;
    }
}

/* 'rest' is what comes behind the message. */
static void mend (const struct up *u,
                  struct wire_msg *msg,
                  const uint8_t *rest,
                  size_t size)
{
    struct table *t = u->loop->node->tables[SPACE_PAYLOAD];

    switch (msg->type) {
        case WIRE_PONG:
            msg->pong.sent = u->ping_ns;
            break;
        case WIRE_OFFER:
            mend_offer (msg, rest, size);
            msg->offer.flags = u->loop->node->config.resume ? OFFER_SUMS : 0;
            break;
        case WIRE_DATA:
            if (msg->data.length <= size)
                msg->data.sum = sum_of (rest, msg->data.length);
            break;
        case WIRE_DIGEST:
            if (t)
                msg->digest.sum = table_digest (t);
            break;
    }
}

/* What holds at any time. */
static void check_up (const struct up *u)
{
    const struct node *node = u->loop->node;

    holds (u->nasked >= 0 && u->nasked <= WIRE_WINDOW_MAX);
    holds (u->state != UP_IDLE || (u->nasked == 0 && !u->fill_slot && u->conn.fd < 0));
    holds (u->fill_have <= u->fill_length);
    if (u->filling)
        holds (u->fill_length
               == table_length (node->tables[u->fill.space], u->fill.chunk));
    holds (!node->blob || node->blob_size <= MANIFEST_BYTES_MAX);
    holds (!node->received || node->digest_known);
}

/* The parent hears what the child asks for. */
static void drain (struct fuzz_peer *p, const struct node *node)
{
    struct wire_msg msg;

    while (fuzz_peer_receive (p, &msg) > 0) {
        holds (msg.type == WIRE_PING || msg.type == WIRE_GET);
        if (msg.type == WIRE_GET)
            holds (msg.get.space < SPACE_COUNT && node->tables[msg.get.space]
                   && msg.get.chunk < node->tables[msg.get.space]->nchunks);
    }
}

static bool is_asked (const struct up *u, uint64_t chunk)
{
    for (int i = 0; i < u->nasked; i++) {
        if (u->asked[i].space == SPACE_PAYLOAD && u->asked[i].chunk == chunk)
            return true;
    }
    return false;
}

/* The thread that looks for what is there from before has nothing in hand: what
 * is neither there nor lacking (1: see table.c) was asked of the parent.
 */
static bool is_checked (const struct up *u)
{
    struct node *node = u->loop->node;
    struct table *t = node->tables[SPACE_PAYLOAD];

    if (!node->checker_started || atomic_load (&node->stopping))
        return true;
    if (!atomic_load (&node->ready))
        return false;
    for (uint64_t c = 0; c < t->nchunks; c++) {
        if ((atomic_load (&t->state[c]) & 3) == 1 && !is_asked (u, c))
            return false;
    }
    return true;
}

static void pump (struct up *u)
{
    do {
        u->loop->again = false;
        if (u->state >= UP_GREETING)
            up_pump (u);
        check_up (u);
        while (!is_checked (u))
            sched_yield ();
    } while (u->loop->again && u->state >= UP_GREETING);
}

static void say (struct up *u, struct fuzz_peer *p, const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size && u->state >= UP_GREETING;) {
        at += fuzz_peer_send (p, data + at, size - at);
        pump (u);
        drain (p, u->loop->node);
    }
}

/* One message and its payload. Returns its length. */
static size_t say_one (struct up *u,
                       struct fuzz_peer *p,
                       int options,
                       const uint8_t *data,
                       size_t size)
{
    unsigned char buf[WIRE_SIZE_MAX];
    struct wire_msg msg;
    size_t length;
    size_t payload = 0;

    if (size < WIRE_HEAD_SIZE || wire_length (data) < 0
        || size < (length = wire_length (data))) {
        say (u, p, data, size);
        return size;
    }
    wire_decode (data, &msg);
    if (options & FUZZ_UP_HONEST)
        mend (u, &msg, data + length, size - length);
    wire_encode (&msg, buf);
    say (u, p, buf, length);
    if (msg.type == WIRE_DATA) {
        payload = msg.data.length < size - length ? msg.data.length : size - length;
        say (u, p, data + length, payload);
    }
    return length + payload;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static struct fuzz_peer p;
    struct node *node;
    struct up *u;
    struct fault f;
    int64_t now = clock_ns ();

    if (size < 1 || size > INPUT_MAX)
        return 0;
    node = fuzz_node_create (2, data[0] & FUZZ_UP_RESUME, NULL, NULL, 0);
    u = node->loops[0].ups;
    u->conn.fd = fuzz_peer_open (&p);
    u->conn.clear = true;
    u->state = UP_GREETING; /* the handshake is behind it, hello is sent */
    u->heard_ns = clock_ns ();
    must (loop_watch (u->loop, u->conn.fd, &u->handler, false) == 0);
    for (size_t at = 1; at < size && u->state >= UP_GREETING;) {
        at += say_one (u, &p, data[0], data + at, size - at);
        /* as a loop does every so often */
        if (u->state >= UP_GREETING)
            up_scout (&node->loops[0].ups, now += 200000000);
        holds (node->loops[0].ups == u); /* nobody is there to move to */
    }
    shutdown (p.conn.fd, SHUT_WR);
    pump (u);
    drain (&p, node);
    holds (u->state == UP_IDLE);
    /* whatever it is that it has got, it can be completed or taken away */
    if (node->received && !node->failed)
        (void)node_seal (node, &f);
    node_destroy (node);
    fuzz_peer_close (&p);
    if (data[0] & FUZZ_UP_RESUME)
        fuzz_discard_partial ();
    holds (count_names (fuzz_dir ()) == 0);
    return 0;
}
