/* down.c - serve chunks to a child
 *
 * What a child asked for is sent in the order in which it is there. Nothing is
 * kept in memory for a slow child: what it could not take is found again, or
 * read again from disk, when it can.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

/* a peer that does not say who it is within this time is no rank of ours */
#define GREETING_NS 10000000000
/* chunks that one connection may send before the others get their turn */
#define TURN_CHUNKS 4

static struct node *down_node (struct down *d)
{
    return d->loop->node;
}

static void release_slot (struct down *d)
{
    struct node *node = down_node (d);

    if (d->slot) {
        if (d->held)
            atomic_fetch_sub (&node->held_slots, 1);
        cache_release (node->cache, d->slot);
        d->slot = NULL;
        d->held = false;
    }
}

/* It has shown the key, or is gone. */
static void end_stranger (struct down *d)
{
    if (d->stranger) {
        d->stranger = false;
        d->loop->strangers--;
        atomic_fetch_sub (&down_node (d)->strangers, 1);
    }
}

void down_drop (struct down *d)
{
    if (!d->dead) {
        if (d->state < DOWN_WELCOME)
            record_add (down_node (d)->config.record, refused, 1);
        end_stranger (d);
        release_slot (d);
        conn_close (&d->conn);
        d->dead = true;
        atomic_fetch_sub (&down_node (d)->ndowns, 1);
    }
}

static void watch (struct down *d, bool wants_write)
{
    if (d->wants_write != wants_write) {
        d->wants_write = wants_write;
        loop_rewatch (d->loop, d->conn.fd, &d->handler, wants_write);
    }
}

static int refuse (struct down *d, int errnum, const char *why)
{
    struct wire_msg msg = { .type = WIRE_REFUSE, .refuse.code = errnum };

    record_add (down_node (d)->config.record, refused, 1);
    snprintf (msg.refuse.text, sizeof (msg.refuse.text), "%s", why);
    d->state = DOWN_REFUSE;
    return conn_queue (&d->conn, &msg);
}

static int on_hello (struct down *d, const struct wire_msg *msg)
{
    struct node *node = down_node (d);
    struct wire_msg reply = {
        .type = WIRE_WELCOME,
        .welcome.magic = WIRE_MAGIC,
        .welcome.version = WIRE_VERSION,
        .welcome.encrypted = node->config.encrypt ? 1 : 0,
        .welcome.rank = node->config.rank,
        .welcome.machine = node->machine,
    };

    if (msg->type != WIRE_HELLO || msg->hello.magic != WIRE_MAGIC) {
        errno = EPROTO;
        return -1;
    }
    if (msg->hello.version != WIRE_VERSION)
        return refuse (d,
                       EPROTONOSUPPORT,
                       "another version of the protocol: use the same version "
                       "of flux-tree everywhere");
    if (memcmp (msg->hello.id, node->id, sizeof (node->id)) != 0)
        return refuse (d, EPERM, "this is another broadcast");
    if (msg->hello.rank == 0 || msg->hello.rank >= (uint32_t)node->config.size
        || msg->hello.tree >= node->config.stripes)
        return refuse (d, EINVAL, "there is no such rank or tree");
    d->rank = msg->hello.rank;
    d->tree = msg->hello.tree;
    d->state = DOWN_WELCOME;
    end_stranger (d);
    return conn_queue (&d->conn, &reply);
}

/* A child may know the payload before we do, from its parent in another tree.
 * So which chunks there are is checked when it is served.
 */
static int on_get (struct down *d, const struct wire_msg *msg)
{
    if (!d->offer_sent || msg->get.space >= SPACE_COUNT
        || (msg->get.space == SPACE_SUMS && !down_node (d)->config.resume)
        || d->nwanted == WIRE_WINDOW_MAX) {
        errno = EPROTO;
        return -1;
    }
    d->wanted[d->nwanted].space = msg->get.space;
    d->wanted[d->nwanted].chunk = msg->get.chunk;
    d->nwanted++;
    return 0;
}

static int on_ping (struct down *d, const struct wire_msg *msg)
{
    struct node *node = down_node (d);
    uint64_t ahead = atomic_load (&node->ahead[d->tree]);
    struct wire_msg reply = {
        .type = WIRE_PONG,
        .pong.sent = msg->ping.sent,
        .pong.seen = clock_ns (),
        .pong.work = atomic_load (&node->work)
                     + atomic_load (&node->passed[d->tree]),
        .pong.rate = node->is_root && node->nchildren[d->tree] > 1
                         ? atomic_load (&node->fastest[d->tree])
                         : 0,
        .pong.ahead = ahead & UINT32_MAX,
        .pong.hops = ahead >> 32,
    };

    if (atomic_load (&node->ready))
        reply.pong.have = table_held (node->tables[SPACE_PAYLOAD], d->tree);
    return conn_queue (&d->conn, &reply);
}

/* Take in what the child says. 0 when it has to wait. */
static int hear (struct down *d)
{
    struct wire_msg msg;
    int rc;

    while ((rc = conn_receive (&d->conn, &msg)) > 0) {
        if (d->state == DOWN_GREETING)
            return on_hello (d, &msg);
        if (msg.type == WIRE_GET)
            rc = on_get (d, &msg);
        else if (msg.type == WIRE_PING)
            rc = on_ping (d, &msg);
        else {
            errno = EPROTO;
            rc = -1;
        }
        if (rc < 0)
            return -1;
    }
    return rc;
}

static int send_offer (struct down *d)
{
    struct node *node = down_node (d);
    struct wire_msg msg = {
        .type = WIRE_OFFER,
        .offer.manifest_bytes = node->blob_size,
        .offer.manifest_sum = node->blob_sum,
        .offer.flags = node->config.resume ? OFFER_SUMS : 0,
    };

    pthread_mutex_lock (&node->lock);
    msg.offer.clock_offset = node->clock_offset;
    msg.offer.clock_error = node->clock_error;
    pthread_mutex_unlock (&node->lock);
    d->offer_sent = true;
    return conn_queue (&d->conn, &msg);
}

static int send_digest (struct down *d)
{
    struct wire_msg msg = {
        .type = WIRE_DIGEST,
        .digest.sum = down_node (d)->digest,
    };

    d->digest_sent = true;
    return conn_queue (&d->conn, &msg);
}

/* The first chunk that is wanted and there: its place in the queue, or -1 with
 * errno = EAGAIN, or EPROTO if there is no such chunk at all.
 */
static int find_chunk (struct down *d)
{
    struct node *node = down_node (d);

    for (int i = 0; i < d->nwanted; i++) {
        struct request *r = &d->wanted[i];
        struct table *t;

        if ((r->space == SPACE_PAYLOAD && !atomic_load (&node->ready))
            || (r->space == SPACE_SUMS && !atomic_load (&node->prepared)))
            continue;
        t = node->tables[r->space];
        if (r->chunk >= t->nchunks) {
            errno = EPROTO;
            return -1;
        }
        if (table_has (t, r->chunk))
            return i;
    }
    errno = EAGAIN;
    return -1;
}

/* Begin with a chunk. 0 if there is none to be had. */
static int begin_chunk (struct down *d)
{
    struct node *node = down_node (d);
    struct wire_msg msg = { .type = WIRE_DATA };
    struct table *t;
    int i;

    if ((i = find_chunk (d)) < 0)
        return errno == EAGAIN ? 0 : -1;
    d->send = d->wanted[i];
    t = node->tables[d->send.space];
    if (d->send.space == SPACE_PAYLOAD
        && !(d->slot = node_load (node, d->send.chunk)))
        return errno == EAGAIN ? 0 : -1; /* it will be there again */
    /* loading it has made its checksum known, if it was not */
    if (!table_sum (t, d->send.chunk, &msg.data.sum)) {
        release_slot (d);
        return 0;
    }
    memmove (&d->wanted[i],
             &d->wanted[i + 1],
             (--d->nwanted - i) * sizeof (d->wanted[0]));
    msg.data.space = d->send.space;
    msg.data.chunk = d->send.chunk;
    msg.data.length = table_length (t, d->send.chunk);
    d->send_length = msg.data.length;
    d->sent = 0;
    /* not in the queue: a pong might get between it and its payload */
    d->head_size = wire_encode (&msg, d->head);
    d->head_sent = 0;
    d->sending = true;
    return 1;
}

static int send_head (struct down *d)
{
    while (d->head_sent < d->head_size) {
        ssize_t n = conn_write (&d->conn,
                                d->head + d->head_sent,
                                d->head_size - d->head_sent);

        if (n <= 0)
            return n;
        d->head_sent += n;
    }
    return 1;
}

/* 1 when the payload is sent. */
static int send_payload (struct down *d)
{
    struct node *node = down_node (d);
    struct record *r = node->config.record;
    const unsigned char *data;
    int rc;

    if ((rc = send_head (d)) <= 0)
        return rc;
    if (d->send.space == SPACE_MANIFEST)
        data = node->blob + d->send.chunk * MANIFEST_CHUNK_SIZE;
    else if (d->send.space == SPACE_SUMS)
        data = node->tables[SPACE_PAYLOAD]->sums + d->send.chunk * SUMS_CHUNK_SIZE;
    else {
        if (!d->slot && !(d->slot = node_load (node, d->send.chunk)))
            return -1;
        data = d->slot->data;
    }
    while (d->sent < d->send_length) {
        ssize_t n = conn_write (&d->conn,
                                data + d->sent,
                                d->send_length - d->sent);

        if (n <= 0)
            return n;
        d->sent += n;
        d->bytes += n;
        if (d->send.space == SPACE_PAYLOAD)
            record_add (r, bytes_out, n);
    }
    if (d->send.space == SPACE_PAYLOAD)
        record_add (r, chunks_out, 1);
    release_slot (d);
    d->sending = false;
    d->in_payload = false;
    return 1;
}

/* The child is slow. Keep the chunk for it if there is room, else let it go. */
static void keep_slot (struct down *d)
{
    struct node *node = down_node (d);

    if (!d->slot || d->held)
        return;
    if (atomic_fetch_add (&node->held_slots, 1) < HELD_SLOTS_MAX)
        d->held = true;
    else {
        atomic_fetch_sub (&node->held_slots, 1);
        release_slot (d);
    }
}

/* Send what there is to send. 1 when there may be more, 0 when it has to wait:
 * for the socket if *blocked, else for news.
 */
static int speak (struct down *d, bool *blocked)
{
    struct node *node = down_node (d);
    int chunks = 0;
    int rc;

    *blocked = true;
    for (;;) {
        /* what is queued while a payload goes out comes after it */
        if (!d->in_payload && (rc = conn_flush (&d->conn)) <= 0)
            return rc;
        if (d->state == DOWN_REFUSE) {
            errno = EPERM;
            return -1;
        }
        if (d->state == DOWN_WELCOME) {
            if (!node->config.encrypt)
                conn_clear (&d->conn);
            d->state = DOWN_RUNNING;
        }
        if (d->sending) {
            d->in_payload = true;
            if ((rc = send_payload (d)) <= 0)
                return rc;
            if (++chunks == TURN_CHUNKS)
                return 1;
            continue;
        }
        rc = 0;
        if (!d->offer_sent && atomic_load (&node->offered)
            && atomic_load (&node->clock_known))
            rc = send_offer (d) < 0 ? -1 : 1;
        else if (!d->digest_sent && atomic_load (&node->digest_known)
                 && d->offer_sent)
            rc = send_digest (d) < 0 ? -1 : 1;
        else
            rc = begin_chunk (d);
        if (rc < 0)
            return -1;
        if (rc == 0 && d->conn.out_end == 0) {
            *blocked = false;
            return 0;
        }
    }
}

/* 1 when the handshake is behind us. */
static int greet (struct down *d)
{
    bool wants_write = false;
    int rc;

    if (d->state == DOWN_HANDSHAKE) {
        if ((rc = conn_handshake (&d->conn, &wants_write)) <= 0) {
            if (rc == 0)
                watch (d, wants_write);
            return rc;
        }
        d->state = DOWN_GREETING;
    }
    if (d->state == DOWN_GREETING) {
        if ((rc = hear (d)) < 0 || d->state == DOWN_GREETING)
            return rc;
    }
    return 1;
}

void down_pump (struct down *d)
{
    bool blocked = false;
    int rc;

    if ((rc = greet (d)) > 0) {
        if (d->state == DOWN_RUNNING)
            rc = hear (d);
        if (rc >= 0 && (rc = speak (d, &blocked)) >= 0) {
            keep_slot (d);
            watch (d, rc == 0 && blocked);
            if (rc > 0)
                d->loop->again = true;
        }
    }
    if (rc < 0)
        down_drop (d);
}

static void down_ready (struct handler *h, uint32_t events)
{
    struct down *d = (struct down *)h;

    (void)events;
    if (!d->dead)
        down_pump (d);
}

/* How fast it gets what it asks for; see tick () in loop.c. */
static void measure (struct down *d, int64_t now)
{
    _Atomic uint64_t *fastest = &down_node (d)->fastest[d->tree];
    double seconds = (now - d->measured_ns) / 1e9;

    if (d->measured_ns != 0 && seconds > 0) {
        d->rate += RATE_WEIGHT * ((d->bytes - d->measured_bytes) / seconds - d->rate);
        if (d->rate > atomic_load (fastest))
            atomic_store (fastest, d->rate);
    }
    d->measured_ns = now;
    d->measured_bytes = d->bytes;
}

void down_tick (struct down *d)
{
    int64_t now = clock_ns ();

    if (d->stranger && now - d->since_ns > GREETING_NS)
        down_drop (d);
    else if (d->state == DOWN_RUNNING)
        measure (d, now);
}

struct down *down_create (struct loop *l, int fd)
{
    struct down *d;

    if (!(d = calloc (1, sizeof (*d))))
        return NULL;
    if (conn_open (&d->conn, l->node->tls, fd, false) < 0) {
        free (d);
        return NULL;
    }
    conn_set_limit (&d->conn, l->node->config.timeout);
    d->handler.ready = down_ready;
    d->loop = l;
    d->since_ns = clock_ns ();
    d->rank = -1;
    d->stranger = true;
    atomic_fetch_add (&l->node->ndowns, 1);
    atomic_fetch_add (&l->node->strangers, 1);
    return d;
}

void down_attach (struct down *d)
{
    d->loop->strangers++;
    if (loop_watch (d->loop, d->conn.fd, &d->handler, false) < 0)
        down_drop (d);
}

void down_destroy (struct down *d)
{
    if (d) {
        down_drop (d);
        free (d);
    }
}
