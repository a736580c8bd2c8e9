/* up.c - the connection to the parent in one tree
 *
 * When the parent is lost, what was asked of it is lacking again, and the next
 * ancestor is asked in the same way: a first transfer and a repaired one do not
 * differ.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

/* The first few follow one another, to measure the clocks. */
#define PINGS 4
#define PING_NS 250000000
#define RETRY_NS 100000000 /* before all ancestors are tried again */

/* An ancestor of which nothing has come for this part of the time limit, and at
 * least for so long, not even the answer to a ping, hangs, or its network does:
 * the next one is asked.
 */
#define HUNG_PART 10
#define HUNG_MIN_NS 1000000000LL

/* Offers and digests that a parent may send on one connection. One of each is
 * enough; a parent that does not stop would hold up all that this thread does.
 */
#define TOLD_MAX 16

static struct path *up_path (struct up *u)
{
    return &u->loop->node->paths[u->tree];
}

int up_rank (struct up *u)
{
    return up_path (u)->ancestors[u->via].rank;
}

bool up_is_done (struct up *u)
{
    struct node *node = u->loop->node;

    return atomic_load (&node->digest_known) && atomic_load (&node->ready)
           && table_is_complete (node->tables[SPACE_PAYLOAD]);
}

static void disconnect (struct up *u)
{
    up_drop_requests (u);
    conn_close (&u->conn);
    u->state = UP_IDLE;
    u->wants_write = false;
    u->offered = false;
    u->pings = 0;
    u->ping_ns = 0;
    u->work_known = false;
    u->told = 0;
}

void up_go (struct up *u, int via)
{
    disconnect (u);
    u->via = via;
    u->loop->again = true;
}

/* Somebody is there who is no rank of this broadcast, or says that we are none.
 * It may be that only he is wrong, and stands where an ancestor stood; but if
 * all of them say so, another try cannot help.
 */
static void be_denied (struct up *u, int errnum, const char *fmt, ...)
    __attribute__ ((format (printf, 3, 4)));

static void be_denied (struct up *u, int errnum, const char *fmt, ...)
{
    struct node *node = u->loop->node;
    va_list ap;

    if (u->denials++ == 0) {
        va_start (ap, fmt);
        fault_vset (&u->denial, errnum, node->config.rank, fmt, ap);
        va_end (ap);
    }
    if (u->denials == up_path (u)->count && !u->is_scout)
        node_fail (node, &u->denial);
}

/* The connection is lost, for the reason in errno: go on with the next
 * ancestor. After the root comes the parent again, in case it was not up yet;
 * the time limit ends that.
 */
static void lose (struct up *u)
{
    struct node *node = u->loop->node;

    if (errno == EACCES && u->state == UP_HANDSHAKE)
        be_denied (u,
                   EACCES,
                   "rank %d does not have the key of this broadcast",
                   up_rank (u));
    if (u->filling)
        up_waste (u);
    disconnect (u);
    if (u->is_scout)
        u->trial_failed = true;
    if (u->is_scout || up_is_done (u))
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
    if (!u->is_scout)
        up_report_parent (u);
    u->state = UP_CONNECTING;
    u->heard_ns = clock_ns ();
    u->wants_write = true;
    return loop_watch (u->loop, fd, &u->handler, true);
}

void up_report_parent (struct up *u)
{
    __atomic_store_n (&u->loop->node->config.record->parents[u->tree],
                      up_rank (u),
                      __ATOMIC_RELAXED);
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

    u->ping_ns = u->pinged_ns = msg.ping.sent;
    u->pings++;
    return conn_queue (&u->conn, &msg);
}

static int on_welcome (struct up *u, const struct wire_msg *msg)
{
    struct node *node = u->loop->node;

    if (msg->type == WIRE_REFUSE) {
        be_denied (u, EPERM, "rank %d refused: %s", up_rank (u), msg->refuse.text);
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
    u->denials = 0;
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
    struct node *node = u->loop->node;
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
    if (u->work_known && msg->pong.work != u->parent_work) {
        node_progress (node, clock_ns ());
        atomic_fetch_add (&node->passed[u->tree], 1);
    }
    u->parent_work = msg->pong.work;
    u->work_known = true;
    u->parent_have = msg->pong.have;
    u->parent_rate = msg->pong.rate;
    u->ahead = msg->pong.ahead;
    u->hops = msg->pong.hops;
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
    if (!(msg->offer.flags & OFFER_SUMS) != !u->loop->node->config.resume) {
        errno = EPROTO;
        return -1;
    }
    set_clock (u);
    return node_offer (u->loop->node,
                       msg->offer.manifest_bytes,
                       msg->offer.manifest_sum,
                       u->loop);
}

static int on_message (struct up *u, const struct wire_msg *msg)
{
    if ((msg->type == WIRE_OFFER || msg->type == WIRE_DIGEST)
        && ++u->told > TOLD_MAX) {
        errno = EPROTO;
        return -1;
    }
    switch (msg->type) {
        case WIRE_PONG:
            return on_pong (u, msg);
        case WIRE_OFFER:
            return on_offer (u, msg);
        case WIRE_DATA:
            return up_on_data (u, msg);
        case WIRE_DIGEST:
            return node_digest (u->loop->node, msg->digest.sum, u->loop);
        default:
            errno = EPROTO;
            return -1;
    }
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
                if ((rc = up_fill (u)) > 0)
                    rc = up_land (u) < 0 ? -1 : 2;
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

    if (u->state == UP_IDLE && !u->trial_failed && !up_is_done (u)
        && clock_ns () >= u->retry_ns && up_connect (u) < 0)
        lose (u);
    if (u->state == UP_IDLE || u->state == UP_CONNECTING)
        return;
    do {
        rc = up_ask (u);
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
    else if (u->state == UP_RUNNING && u->ping_ns == 0
             && clock_ns () - u->pinged_ns > PING_NS) {
        if (send_ping (u) < 0)
            lose (u);
        else
            up_pump (u);
    }
}

void up_tick (struct up *u)
{
    struct node *node = u->loop->node;
    int64_t now = clock_ns ();
    int64_t quiet = now
                    - atomic_load_explicit (&node->progress_ns,
                                            memory_order_relaxed);

    if (up_is_done (u)) {
        /* it waits for nothing; should it lose a chunk, its time begins then */
        node_progress (node, now);
        u->heard_ns = now;
        return;
    }
    if (quiet > node->config.timeout * 1e9) {
        if (u->denials > 0)
            node_fail (node, &u->denial);
        else
            node_failf (node,
                        ETIMEDOUT,
                        "nothing has come from rank %d for %.0f seconds",
                        up_rank (u),
                        node->config.timeout);
    }
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
    u->ahead = WIRE_NOBODY;
    return u;
}

void up_destroy (struct up *u)
{
    if (u) {
        up_destroy (u->scout);
        disconnect (u);
        free (u);
    }
}
