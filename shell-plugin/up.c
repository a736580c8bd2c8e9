/* up.c - get chunks from the parent in one tree
 *
 * The chunks that are lacking are asked for one by one, a window of them at a
 * time. When the parent is lost, what was asked of it is lacking again, and
 * the next ancestor is asked in the same way: a first transfer and a repaired
 * one do not differ.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

#define PINGS 4
#define RETRY_NS 100000000 /* before all ancestors are tried again */
#define WINDOW_BYTES (8 << 20)

/* An ancestor of which nothing has come for this part of the time limit, and at
 * least for so long, not even the answer to a ping, hangs, or its network does:
 * the next one is asked.
 */
#define HUNG_PART 10
#define HUNG_MIN_NS 1000000000LL

static struct path *up_path (struct up *u)
{
    return &u->loop->node->paths[u->tree];
}

static int up_rank (struct up *u)
{
    return up_path (u)->ancestors[u->via].rank;
}

bool up_is_done (struct up *u)
{
    struct node *node = u->loop->node;

    return atomic_load (&node->digest_known) && atomic_load (&node->ready)
           && table_is_complete (node->tables[SPACE_PAYLOAD]);
}

static void drop_requests (struct up *u)
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

static void disconnect (struct up *u)
{
    drop_requests (u);
    conn_close (&u->conn);
    u->state = UP_IDLE;
    u->wants_write = false;
    u->offered = false;
    u->pings = 0;
    u->ping_ns = 0;
}

/* The connection is lost, for the reason in errno: go on with the next
 * ancestor. After the root comes the parent again, in case it was not up yet;
 * the time limit ends that.
 */
static void lose (struct up *u)
{
    struct node *node = u->loop->node;

    if (errno == EACCES && u->state == UP_HANDSHAKE) {
        node_failf (node,
                    EACCES,
                    "rank %d does not have the key of this broadcast",
                    up_rank (u));
    }
    disconnect (u);
    if (up_is_done (u))
        return;
    record_add (node->config.record, retries, 1);
    if (++u->via == up_path (u)->count) {
        u->via = 0;
        u->retry_ns = clock_ns () + RETRY_NS;
    }
    u->loop->again = true;
}

static void watch (struct up *u, bool wants_write)
{
    if (u->wants_write != wants_write) {
        u->wants_write = wants_write;
        loop_rewatch (u->loop, u->conn.fd, &u->handler, wants_write);
    }
}

static int up_connect (struct up *u)
{
    struct node *node = u->loop->node;
    struct ancestor *a = &up_path (u)->ancestors[u->via];
    int fd;

    if ((fd = socket (a->addr.ss_family,
                      SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                      0))
        < 0) {
        if (errno == EMFILE || errno == ENFILE)
            node_failf (node, errno, LOOP_NO_DESCRIPTORS);
        else
            node_failf (node, errno, "socket: %s", strerror (errno));
        return -1;
    }
    if ((connect (fd, (struct sockaddr *)&a->addr, a->len) < 0
         && errno != EINPROGRESS)) {
        close (fd);
        return -1;
    }
    if (conn_open (&u->conn, node->tls, fd, true) < 0) {
        close (fd);
        return -1;
    }
    conn_set_limit (&u->conn, node->config.timeout);
    __atomic_store_n (&node->config.record->parents[u->tree],
                      a->rank,
                      __ATOMIC_RELAXED);
    u->state = UP_CONNECTING;
    u->heard_ns = clock_ns ();
    u->wants_write = true;
    return loop_watch (u->loop, fd, &u->handler, true);
}

static int send_hello (struct up *u)
{
    struct node *node = u->loop->node;
    struct wire_msg msg = {
        .type = WIRE_HELLO,
        .hello.magic = WIRE_MAGIC,
        .hello.version = WIRE_VERSION,
        .hello.tree = u->tree,
        .hello.rank = node->config.rank,
    };

    memcpy (msg.hello.id, node->id, sizeof (node->id));
    return conn_queue (&u->conn, &msg);
}

static int send_ping (struct up *u)
{
    struct wire_msg msg = { .type = WIRE_PING, .ping.sent = clock_ns () };

    u->ping_ns = msg.ping.sent;
    u->pings++;
    return conn_queue (&u->conn, &msg);
}

static int on_welcome (struct up *u, const struct wire_msg *msg)
{
    struct node *node = u->loop->node;

    if (msg->type == WIRE_REFUSE) {
        node_failf (node,
                    EPERM,
                    "rank %d refused: %s",
                    up_rank (u),
                    msg->refuse.text);
        errno = EPERM;
        return -1;
    }
    if (msg->type != WIRE_WELCOME || msg->welcome.magic != WIRE_MAGIC
        || msg->welcome.version != WIRE_VERSION
        || msg->welcome.encrypted != (node->config.encrypt ? 1 : 0)
        || (int)msg->welcome.rank != up_rank (u)) {
        errno = EPROTO;
        return -1;
    }
    if (node->config.encrypt)
        conn_expect_bulk (&u->conn);
    else
        conn_clear (&u->conn);
    u->same_machine = msg->welcome.machine == node->machine
                      && !node->config.measure_clock;
    u->best_error = -1;
    u->state = UP_RUNNING;
    node_mark (node, TIME_CONNECTED, false);
    return send_ping (u);
}

/* The parent's clock is known to the root's, and ours to the parent's: on one
 * machine it is the same one, else half a round trip is the most that it can
 * be off (Cristian 1989).
 */
static void set_clock (struct up *u)
{
    if (!u->offered || u->best_error < 0)
        return;
    node_set_clock (u->loop->node,
                    u->offer_offset + u->edge_offset,
                    u->offer_error + u->best_error);
}

/* A clock's reading, or the difference of two: 36 years are enough, and can be
 * reckoned with.
 */
static bool is_time (int64_t ns)
{
    return ns > -(1LL << 60) && ns < 1LL << 60;
}

static int on_pong (struct up *u, const struct wire_msg *msg)
{
    int64_t error;

    if (u->ping_ns == 0 || msg->pong.sent != u->ping_ns
        || !is_time (msg->pong.seen)) {
        errno = EPROTO;
        return -1;
    }
    error = (clock_ns () - u->ping_ns) / 2;
    u->ping_ns = 0;
    if (u->same_machine) {
        u->best_error = 0;
        u->edge_offset = 0;
    }
    else if (u->best_error < 0 || error < u->best_error) {
        u->best_error = error;
        u->edge_offset = msg->pong.seen - (msg->pong.sent + error);
    }
    set_clock (u);
    return u->pings < PINGS ? send_ping (u) : 0;
}

static int on_offer (struct up *u, const struct wire_msg *msg)
{
    if (!is_time (msg->offer.clock_offset) || !is_time (msg->offer.clock_error)
        || msg->offer.clock_error < 0) {
        errno = EPROTO;
        return -1;
    }
    u->offered = true;
    u->offer_offset = msg->offer.clock_offset;
    u->offer_error = msg->offer.clock_error;
    set_clock (u);
    return node_offer (u->loop->node,
                       msg->offer.manifest_bytes,
                       msg->offer.manifest_sum,
                       u->loop);
}

static int on_data (struct up *u, const struct wire_msg *msg)
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
    if (u->fill.space == SPACE_MANIFEST)
        u->fill_data = node->blob + u->fill.chunk * MANIFEST_CHUNK_SIZE;
    else {
        u->fill_slot = cache_take (node->cache);
        u->fill_data = u->fill_slot->data;
        node_mark (node, TIME_FIRST_BYTE, false);
    }
    u->filling = true;
    return 0;
}

/* 1 when the payload is complete. */
static int fill (struct up *u)
{
    struct node *node = u->loop->node;

    while (u->fill_have < u->fill_length) {
        ssize_t n = conn_read (&u->conn,
                               u->fill_data + u->fill_have,
                               u->fill_length - u->fill_have);

        if (n <= 0)
            return n;
        u->fill_have += n;
        u->heard_ns = clock_ns ();
        atomic_store_explicit (&node->progress_ns,
                               u->heard_ns,
                               memory_order_relaxed);
    }
    return 1;
}

static int land_payload (struct up *u)
{
    struct node *node = u->loop->node;
    struct record *r = node->config.record;
    struct fault f;

    if (store_write (node->dest,
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
    if (table_land (node->tables[SPACE_PAYLOAD], u->fill.chunk, u->fill_sum))
        node_check_received (node);
    node_kick (node, u->loop);
    return 0;
}

static int land (struct up *u)
{
    struct node *node = u->loop->node;

    u->filling = false;
    if (!sum_equal (sum_of (u->fill_data, u->fill_length), u->fill_sum)) {
        record_add (node->config.record, bad_chunks, 1);
        errno = EBADMSG;
        return -1;
    }
    for (int i = 0; i < u->nasked; i++) {
        if (u->asked[i].space == u->fill.space
            && u->asked[i].chunk == u->fill.chunk) {
            u->asked[i] = u->asked[--u->nasked];
            break;
        }
    }
    if (u->fill.space == SPACE_PAYLOAD)
        return land_payload (u);
    if (table_land (node->tables[SPACE_MANIFEST], u->fill.chunk, u->fill_sum))
        node_manifest_landed (node, u->loop);
    node_kick (node, u->loop);
    return 0;
}

static int on_message (struct up *u, const struct wire_msg *msg)
{
    switch (msg->type) {
        case WIRE_PONG:
            return on_pong (u, msg);
        case WIRE_OFFER:
            return on_offer (u, msg);
        case WIRE_DATA:
            return on_data (u, msg);
        case WIRE_DIGEST:
            node_digest (u->loop->node, msg->digest.sum, u->loop);
            return 0;
        default:
            errno = EPROTO;
            return -1;
    }
}

/* Keep the window full. */
static int ask (struct up *u)
{
    struct node *node = u->loop->node;
    int space = SPACE_MANIFEST;

    if (!u->offered)
        return 0;
    if (atomic_load (&node->ready)) {
        space = SPACE_PAYLOAD;
        u->window = WINDOW_BYTES / node->manifest->chunk_size;
        if (u->window < 4)
            u->window = 4;
        if (u->window > WIRE_WINDOW_MAX)
            u->window = WIRE_WINDOW_MAX;
    }
    while (u->nasked < u->window) {
        struct wire_msg msg = { .type = WIRE_GET, .get.space = space };

        if (!table_take (node->tables[space], u->tree, &msg.get.chunk))
            break;
        u->asked[u->nasked].space = space;
        u->asked[u->nasked].chunk = msg.get.chunk;
        u->nasked++;
        if (conn_queue (&u->conn, &msg) < 0)
            return -1;
    }
    return 0;
}

/* 1 while there may be more, 2 when a chunk has landed, 0 when it has to wait. */
static int step (struct up *u)
{
    struct wire_msg msg;
    bool wants_write = true;
    int rc;

    switch (u->state) {
        case UP_HANDSHAKE:
            if ((rc = conn_handshake (&u->conn, &wants_write)) <= 0) {
                watch (u, wants_write);
                return rc;
            }
            watch (u, false);
            u->state = UP_GREETING;
            return send_hello (u) < 0 ? -1 : 1;
        case UP_GREETING:
            if ((rc = conn_receive (&u->conn, &msg)) > 0)
                rc = on_welcome (u, &msg) < 0 ? -1 : 1;
            return rc;
        case UP_RUNNING:
            if (u->filling) {
                if ((rc = fill (u)) > 0)
                    rc = land (u) < 0 ? -1 : 2;
            }
            else if ((rc = conn_receive (&u->conn, &msg)) > 0)
                rc = on_message (u, &msg) < 0 ? -1 : 1;
            return rc;
        default:
            return 0;
    }
}

void up_pump (struct up *u)
{
    int rc;

    if (u->state == UP_IDLE && !up_is_done (u) && clock_ns () >= u->retry_ns
        && up_connect (u) < 0)
        lose (u);
    if (u->state == UP_IDLE || u->state == UP_CONNECTING)
        return;
    do {
        rc = ask (u);
        if (rc == 0 && u->state >= UP_GREETING) {
            if ((rc = conn_flush (&u->conn)) >= 0)
                watch (u, rc == 0);
        }
        if (rc >= 0 && (rc = step (u)) > 0)
            u->heard_ns = clock_ns ();
    } while (rc == 1);
    if (rc < 0)
        lose (u);
    else if (rc > 0)
        u->loop->again = true; /* children first: they wait for what landed */
}

static void up_ready (struct handler *h, uint32_t events)
{
    struct up *u = (struct up *)h;

    if (u->state == UP_CONNECTING) {
        int errnum = 0;
        socklen_t len = sizeof (errnum);

        if (getsockopt (u->conn.fd, SOL_SOCKET, SO_ERROR, &errnum, &len) < 0
            || errnum != 0) {
            errno = errnum;
            lose (u);
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        u->state = UP_HANDSHAKE;
    }
    up_pump (u);
}

/* An ancestor that is there answers a ping, also while it has nothing to send.
 * What it sends instead, behind which the answer waits, does as well.
 */
static void check_heard (struct up *u)
{
    int64_t hung = u->loop->node->config.timeout * 1e9 / HUNG_PART;
    int64_t quiet = clock_ns () - u->heard_ns;

    if (hung < HUNG_MIN_NS)
        hung = HUNG_MIN_NS;
    if (quiet > hung && u->state > UP_CONNECTING) {
        up_pump (u); /* it may have been this thread that was held up */
        if (u->state == UP_IDLE)
            return;
        quiet = clock_ns () - u->heard_ns;
    }
    if (quiet > hung) {
        errno = ETIMEDOUT;
        lose (u);
    }
    else if (u->state == UP_RUNNING && quiet > hung / 3 && u->ping_ns == 0) {
        if (send_ping (u) < 0)
            lose (u);
        else
            up_pump (u);
    }
}

void up_tick (struct up *u)
{
    struct node *node = u->loop->node;
    int64_t quiet = clock_ns ()
                    - atomic_load_explicit (&node->progress_ns,
                                            memory_order_relaxed);

    if (up_is_done (u))
        return;
    if (quiet > node->config.timeout * 1e9)
        node_failf (node,
                    ETIMEDOUT,
                    "nothing has come from rank %d for %.0f seconds",
                    up_rank (u),
                    node->config.timeout);
    else if (u->state == UP_IDLE)
        up_pump (u);
    else
        check_heard (u);
}

struct up *up_create (struct loop *l, int tree)
{
    struct up *u;

    if (!(u = calloc (1, sizeof (*u))))
        return NULL;
    u->handler.ready = up_ready;
    u->loop = l;
    u->tree = tree;
    u->conn.fd = -1;
    u->window = 4;
    return u;
}

void up_destroy (struct up *u)
{
    if (u) {
        disconnect (u);
        free (u);
    }
}
