/* test_peer.c - children and parents that do not keep to the protocol
 *
 * They speak it by the real code, up to where they break it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "check.h"
#include "cluster.h"
#include "node_impl.h"
#include "peer.h"

#define CHUNK 8192
#define BLOCK 65536 /* of the manifest */

static struct cluster_config base (const char *dir)
{
    return (struct cluster_config){
        .strategy = "chain",
        .n = 4,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%%d", dir),
        .workers = 2,
        .encrypt = 1,
        .chunk_size = CHUNK,
    };
}

static void finish (struct cluster *c)
{
    cluster_wait (c);
    cluster_publish (c);
    cluster_destroy (c);
}

static struct cluster *start_root (const char *dir, int encrypt)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    if (access (cc.source, F_OK) < 0)
        make_file (cc.source, 10 * CHUNK, 1);
    cc.n = 2;
    cc.left_out = 1 << 1;
    cc.encrypt = encrypt;
    cc.relays = 1 << 0;
    c = cluster_create (&cc);
    cluster_start_all (c);
    return c;
}

/* What a child should do, by hand, in both modes. */
static void test_good_child (const char *dir)
{
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct cluster *c = start_root (dir, encrypt);
        struct wire_msg msg;
        struct peer p;
        unsigned char data[CHUNK];

        peer_join (&p, c, 1);
        ok (peer_send (&p, &(struct wire_msg){ .type = WIRE_PING, .ping.sent = 42 }));
        ok (peer_wait_for (&p, WIRE_PONG, &msg) && msg.pong.sent == 42);
        peer_close (&p);
        peer_join (&p, c, 1);
        ok (peer_wait_for (&p, WIRE_OFFER, &msg)
            && msg.offer.manifest_bytes == c->manifest_size
            && sum_equal (msg.offer.manifest_sum,
                          sum_of (c->manifest, c->manifest_size)));
        ok (peer_send (&p, &(struct wire_msg){ .type = WIRE_GET, .get = { 1, 9 } }));
        ok (peer_receive (&p, &msg) && msg.type == WIRE_DATA && msg.data.chunk == 9
            && msg.data.length == CHUNK && msg.data.space == 1);
        ok (peer_receive_data (&p, data, CHUNK)
            && sum_equal (msg.data.sum, sum_of (data, CHUNK)));
        /* the root reads the rest by itself, and says what it comes to */
        ok (peer_wait_for (&p, WIRE_DIGEST, &msg));
        peer_close (&p);
        finish (c);
    }
}

static void is_refused (struct cluster *c, struct wire_msg hello, const char *text)
{
    struct wire_msg msg;
    struct peer p;

    hello.type = WIRE_HELLO;
    must (peer_open (&p, c->key, cluster_connect (c, 0), true));
    ok (peer_send (&p, &hello));
    if (text)
        ok (peer_receive (&p, &msg) && msg.type == WIRE_REFUSE
            && strstr (msg.refuse.text, text));
    ok (peer_is_ended (&p));
    peer_close (&p);
}

/* A child that asks for what there is not, or does not keep to the order. */
static void test_bad_child (const char *dir)
{
    struct cluster *c = start_root (dir, 1);
    struct wire_msg absurd[] = {
        { .type = WIRE_GET, .get = { 1, 10 } },
        { .type = WIRE_GET, .get = { 1, UINT64_MAX } },
        { .type = WIRE_GET, .get = { 0, 1ULL << 48 } },
        { .type = WIRE_GET, .get = { SPACE_SUMS, 0 } }, /* only to resume */
        { .type = WIRE_GET, .get = { SPACE_COUNT, 0 } },
        { .type = WIRE_GET, .get = { UINT8_MAX, UINT64_MAX } },
        { .type = WIRE_HELLO },
        { .type = WIRE_DIGEST },
        { .type = WIRE_DATA, .data = { 1, UINT32_MAX, 0, { 0, 0 } } },
    };
    struct wire_msg hello = {
        .hello.magic = WIRE_MAGIC,
        .hello.version = WIRE_VERSION,
        .hello.rank = 1,
    };
    struct wire_msg msg;
    struct peer p;

    for (size_t i = 0; i < sizeof (absurd) / sizeof (absurd[0]); i++) {
        peer_join (&p, c, 1);
        ok (peer_wait_for (&p, WIRE_OFFER, &msg));
        ok (peer_send (&p, &absurd[i]));
        ok (peer_is_ended (&p));
        peer_close (&p);
    }
    /* more requests than may be open, without taking what comes */
    peer_join (&p, c, 1);
    ok (peer_wait_for (&p, WIRE_OFFER, &msg));
    for (int i = 0; i < 100000; i++) {
        if (!peer_send (&p, &(struct wire_msg){ .type = WIRE_GET, .get = { 1, i % 10 } }))
            break;
    }
    ok (peer_is_ended (&p));
    peer_close (&p);
    /* a request before the offer, and one hello that does not fit after another */
    memcpy (hello.hello.id, c->id, sizeof (c->id));
    hello.hello.version++;
    is_refused (c, hello, "another version of the protocol");
    hello.hello.version--;
    hello.hello.rank = 0;
    is_refused (c, hello, "no such rank");
    hello.hello.rank = 2;
    is_refused (c, hello, "no such rank");
    hello.hello.rank = UINT32_MAX;
    is_refused (c, hello, "no such rank");
    hello.hello.rank = 1;
    hello.hello.tree = 1;
    is_refused (c, hello, "no such rank or tree");
    hello.hello.tree = 0;
    hello.hello.id[0] ^= 1;
    is_refused (c, hello, "another broadcast");
    hello.hello.magic ^= 1;
    is_refused (c, hello, NULL);
    /* none of which bothers a good one */
    peer_join (&p, c, 1);
    ok (peer_wait_for (&p, WIRE_DIGEST, &msg));
    peer_close (&p);
    cluster_wait (c);
    cluster_end_all (c);
    ok (c->records[0].refused == 7);
    ok (c->rc[0] == 0);
    cluster_destroy (c);
}

static void test_garbage (const char *dir)
{
    const char *texts[] = { "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "" };
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.n = 2;
    c = cluster_create (&cc);
    cluster_start (c, 0);
    for (int i = 0; i < 30; i++) {
        const char *text = texts[i % 3];
        int fd = cluster_connect (c, 0);
        char buf[100];

        must (send (fd, text, strlen (text), MSG_NOSIGNAL) >= 0);
        if (i % 3 == 0) {
            while (recv (fd, buf, sizeof (buf), 0) > 0)
                continue;
        }
        close (fd);
    }
    cluster_start (c, 1);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (cluster_is_delivered (c, 0) && cluster_is_delivered (c, 1));
    ok (c->records[0].refused >= 10);
    cluster_destroy (c);
}

/* More connections than a rank accepts of those that do not show the key: the
 * rest is turned away, and a child is served while they are there.
 */
static void test_flood (const char *dir)
{
    enum { FLOOD = 400, KEPT = 2 * 2 * STRANGERS_MAX };
    struct cluster_config cc = base (dir);
    struct cluster *c;
    int fds[FLOOD];
    int ended = 0;
    char buf;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.n = 2;
    cc.timeout = 8; /* less than they have to show the key */
    c = cluster_create (&cc);
    cluster_start (c, 0);
    for (int i = 0; i < FLOOD; i++)
        fds[i] = cluster_connect (c, 0);
    while (__atomic_load_n (&c->records[0].refused, __ATOMIC_RELAXED)
           < FLOOD - KEPT)
        poll (NULL, 0, 1);
    cluster_start (c, 1);
    cluster_wait (c);
    cluster_publish (c);
    for (int i = 0; i < FLOOD; i++) {
        ended += recv (fds[i], &buf, 1, MSG_DONTWAIT) == 0;
        close (fds[i]);
    }
    ok (ended >= FLOOD - KEPT);
    cluster_end_all (c);
    ok (cluster_is_delivered (c, 0) && cluster_is_delivered (c, 1));
    cluster_destroy (c);
}

enum lie {
    LIE_SUM,      /* a wrong checksum */
    LIE_LENGTH,   /* a length that is not the chunk's */
    LIE_ABSURD,   /* a length that is no chunk's */
    LIE_CHUNK,    /* a chunk that nobody asked for */
    LIE_STOP,     /* gone in the middle of a chunk */
    LIE_MESSAGE,  /* a message that only children send */
    LIE_CLOCK,    /* a time that cannot be */
    LIE_OFFER,    /* a manifest that nobody could hold */
    LIE_OFFERS,   /* the same offer again and again */
    LIE_PONGS,    /* answers that nobody asked for */
    LIE_COUNT,
    LIE_NONE,
};

struct parent {
    struct cluster *c;
    int rank;
    int listener;
    enum lie lie;
    _Atomic int delay_us; /* before each chunk of the payload */
    uint64_t have; /* as it says */
    uint32_t ahead;
    bool tells_digest;
    double idle_s; /* for so long it only says that it gets on */
    bool comes_again;
    pthread_t thread;
    bool served; /* it came so far that it could lie */
};

/* What all chunks come to. */
static struct sum digest_of (const char *source)
{
    unsigned char sums[100 * SUM_SIZE];
    unsigned char data[CHUNK];
    int count = 0;
    int fd;

    must ((fd = open (source, O_RDONLY | O_CLOEXEC)) >= 0);
    for (; read (fd, data, CHUNK) == CHUNK; count++) {
        struct sum sum = sum_of (data, CHUNK);

        must (count < 100);
        put64 (sums + count * SUM_SIZE, sum.lo);
        put64 (sums + count * SUM_SIZE + 8, sum.hi);
    }
    close (fd);
    return sum_of (sums, count * SUM_SIZE);
}

static bool send_chunk (struct peer *p, struct parent *par, const struct wire_msg *get)
{
    unsigned char data[BLOCK];
    struct wire_msg msg = { .type = WIRE_DATA };
    struct cluster *c = par->c;
    bool lies = get->get.space == 1;
    size_t len = CHUNK;

    if (get->get.space == 0) {
        size_t at = get->get.chunk * BLOCK;
        len = c->manifest_size - at < BLOCK ? c->manifest_size - at : BLOCK;
        memcpy (data, c->manifest + at, len);
    }
    else {
        int fd = open (c->config.source, O_RDONLY | O_CLOEXEC);

        must (fd >= 0 && pread (fd, data, len, get->get.chunk * CHUNK) == CHUNK);
        close (fd);
        usleep (par->delay_us);
        par->served = true;
    }
    msg.data.space = get->get.space;
    msg.data.chunk = get->get.chunk;
    msg.data.length = len;
    msg.data.sum = sum_of (data, len);
    if (lies && par->lie == LIE_SUM)
        msg.data.sum.lo ^= 1;
    if (lies && par->lie == LIE_LENGTH)
        msg.data.length++;
    if (lies && par->lie == LIE_ABSURD)
        msg.data.length = UINT32_MAX;
    if (lies && par->lie == LIE_CHUNK)
        msg.data.chunk += 1 << 20;
    if (lies && par->lie == LIE_MESSAGE)
        msg.type = WIRE_GET;
    if (lies && par->lie == LIE_STOP)
        len /= 2;
    if (!peer_send (p, &msg) || !peer_send_data (p, data, len))
        return false;
    if (lies && par->lie == LIE_STOP) {
        usleep (100000); /* what is on its way may be lost with the connection */
        return false;
    }
    return true;
}

static void get_on (struct peer *p, double seconds)
{
    int64_t end = node_clock_ns () + seconds * 1e9;
    struct wire_msg msg;

    for (uint64_t work = 0; peer_receive (p, &msg) && node_clock_ns () < end; work++) {
        struct wire_msg pong = {
            .type = WIRE_PONG,
            .pong.sent = msg.ping.sent,
            .pong.seen = node_clock_ns (),
            .pong.work = work,
            .pong.ahead = WIRE_NOBODY,
        };

        ok (msg.type == WIRE_PING);
        if (!peer_send (p, &pong))
            return;
    }
}

static void serve (struct peer *p, struct parent *par)
{
    struct wire_msg msg;
    struct wire_msg welcome = {
        .type = WIRE_WELCOME,
        .welcome = { WIRE_MAGIC, WIRE_VERSION, 1, par->rank, 12345 },
    };
    struct wire_msg offer = {
        .type = WIRE_OFFER,
        .offer.manifest_bytes = par->c->manifest_size,
        .offer.manifest_sum = sum_of (par->c->manifest, par->c->manifest_size),
    };
    struct wire_msg digest = { .type = 0 };

    if (par->tells_digest) {
        digest.type = WIRE_DIGEST;
        digest.digest.sum = digest_of (par->c->config.source);
    }
    if (par->lie == LIE_OFFER) {
        offer.offer.manifest_bytes = UINT64_MAX;
        par->served = true;
    }
    if (!peer_receive (p, &msg) || msg.type != WIRE_HELLO || !peer_send (p, &welcome))
        return;
    if (par->idle_s > 0) {
        get_on (p, par->idle_s);
        return;
    }
    while (peer_receive (p, &msg)) {
        if (msg.type == WIRE_PING) {
            struct wire_msg pong = {
                .type = WIRE_PONG,
                .pong.sent = msg.ping.sent,
                .pong.seen = node_clock_ns (),
                .pong.have = par->have,
                .pong.ahead = par->ahead,
                .pong.hops = 1,
            };

            if (par->lie == LIE_CLOCK) {
                pong.pong.seen = INT64_MIN;
                par->served = true;
            }
            if (!peer_send (p, &pong) || !peer_send (p, &offer))
                return;
            if (par->lie == LIE_OFFERS || par->lie == LIE_PONGS) {
                par->served = true;
                while (peer_send (p, par->lie == LIE_PONGS ? &pong : &offer))
                    continue;
                return;
            }
            offer.offer.clock_error = 1;
            if (digest.type && !peer_send (p, &digest))
                return;
            digest.type = 0;
        }
        else if (msg.type != WIRE_GET || !send_chunk (p, par, &msg))
            return;
    }
}

static void *parent_run (void *arg)
{
    struct parent *par = arg;
    struct pollfd fd = { .fd = par->listener, .events = POLLIN };
    struct peer p;
    int conn;

    do {
        if (poll (&fd, 1, par->served ? 1000 : 20000) <= 0
            || (conn = accept4 (par->listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
            return NULL;
        if (peer_open (&p, par->c->key, conn, false))
            serve (&p, par);
        peer_close (&p);
    } while (par->comes_again);
    return NULL;
}

/* Whatever the parent does, its child notices, and gets all from the root. */
static void test_bad_parent (const char *dir)
{
    struct cluster_config cc = base (dir);

    make_file (cc.source, 20 * CHUNK, 1);
    cc.n = 3;
    cc.left_out = 1 << 1;
    for (int lie = 0; lie < LIE_COUNT; lie++) {
        struct parent par = { .rank = 1, .lie = lie, .ahead = WIRE_NOBODY };
        struct cluster *c;

        cc.dest = path ("%s/out-%d-%%d", dir, lie);
        c = par.c = cluster_create (&cc);
        par.listener = c->listeners[1];
        must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
        cluster_start_all (c);
        cluster_wait (c);
        cluster_publish (c);
        cluster_end_all (c);
        must (pthread_join (par.thread, NULL) == 0);
        if (!ok (par.served && cluster_is_delivered (c, 2)))
            printf ("# lie %d\n", lie);
        ok (c->records[2].retries == 1 && c->records[2].parents[0] == 0);
        ok (c->records[2].bad_chunks == (lie == LIE_SUM));
        ok (c->records[2].bytes_in == 20 * CHUNK);
        cluster_destroy (c);
    }
}

/* A parent that is slow is left for the root: when it has much that comes
 * slowly, when it says that the root is far ahead of it; and it is not when
 * nobody is.
 */
static void test_slow_parent (const char *dir)
{
    struct cluster_config cc = base (dir);

    make_file (cc.source, 1000 * CHUNK, 1);
    cc.n = 3;
    cc.left_out = 1 << 1;
    for (int kind = 0; kind < 3; kind++) {
        struct parent par = {
            .rank = 1,
            .lie = LIE_NONE,
            .delay_us = 10000,
            .have = kind == 0 ? 1000 : 0,
            .ahead = kind == 1 ? 0 : WIRE_NOBODY,
        };
        struct cluster *c;

        cc.dest = path ("%s/out-%d-%%d", dir, kind);
        c = par.c = cluster_create (&cc);
        par.listener = c->listeners[1];
        must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
        cluster_start_all (c);
        if (kind == 2) {
            struct pollfd fd = { .fd = node_fd (c->nodes[2]), .events = POLLIN };

            ok (poll (&fd, 1, 3000) == 0);
            cluster_end_all (c);
            ok (c->records[2].moves == 0 && c->records[2].parents[0] == 1);
        }
        else {
            cluster_wait (c);
            cluster_publish (c);
            cluster_end_all (c);
            ok (cluster_is_delivered (c, 2));
            ok (c->records[2].moves == 1 && c->records[2].retries == 0);
            ok (c->records[2].parents[0] == 0);
            ok (c->records[2].bytes_in == 1000 * CHUNK);
            ok (c->records[0].bytes_out > 0);
        }
        cluster_end_all (c);
        must (pthread_join (par.thread, NULL) == 0);
        cluster_destroy (c);
    }
}

/* A rank that has sealed reads back a chunk that its disk has damaged, which its
 * parent gives it again slowly, or not in time: it has not got its name before.
 */
static void test_sealed_and_lost (const char *dir)
{
    struct cluster_config cc = base (dir);

    make_file (cc.source, 20 * CHUNK, 1);
    cc.left_out = 1 << 1;
    cc.timeout = 1;
    for (int in_time = 0; in_time < 2; in_time++) {
        struct parent par = {
            .rank = 1,
            .lie = LIE_NONE,
            .ahead = WIRE_NOBODY,
            .tells_digest = true,
        };
        struct cluster *c;

        cc.dest = path ("%s/out-%d-%%d", dir, in_time);
        c = par.c = cluster_create (&cc);
        par.listener = c->listeners[1];
        must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
        cluster_start (c, 0);
        cluster_start (c, 2);
        cluster_wait_sealed (c, 2);
        ok (c->rc[2] == 0);
        if (!in_time)
            cluster_end (c, 0);
        /* it may have been complete for longer than the time limit */
        usleep (1200000);
        write_at (path ("%s/.tmp-2", dir), 0, 10, 9);
        par.delay_us = in_time ? 700000 : 3000000;
        cluster_start (c, 3);
        while (__atomic_load_n (&c->records[2].bad_chunks, __ATOMIC_RELAXED) == 0)
            usleep (1000);
        c->rc[2] = node_publish (c->nodes[2], &c->faults[2]);
        if (in_time)
            ok (cluster_is_delivered (c, 2) && c->records[2].retries == 0);
        else {
            cluster_ok_failed (c, 2, ETIMEDOUT, "nothing has come from rank");
            ok (access (c->dests[2], F_OK) < 0);
        }
        cluster_end_all (c);
        must (pthread_join (par.thread, NULL) == 0);
        cluster_destroy (c);
    }
}

/* The parent gets on, but has nothing yet: nobody below it gives up meanwhile. */
static void test_patience (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct parent par = { .rank = 1, .lie = LIE_NONE, .idle_s = 2.5 };
    struct cluster *c;

    make_file (cc.source, 20 * CHUNK, 1);
    cc.left_out = 1 << 1;
    cc.timeout = 1;
    c = par.c = cluster_create (&cc);
    par.listener = c->listeners[1];
    must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_publish (c);
    ok (cluster_is_delivered (c, 2) && cluster_is_delivered (c, 3));
    cluster_end_all (c);
    must (pthread_join (par.thread, NULL) == 0);
    cluster_destroy (c);
}

/* Whoever sends nothing but what is of no use is not believed for ever. */
static void test_only_lies (const char *dir)
{
    enum lie lies[] = { LIE_SUM, LIE_STOP };

    for (int i = 0; i < 2; i++) {
        struct cluster_config cc = base (dir);
        struct parent par = { .lie = lies[i], .ahead = WIRE_NOBODY, .comes_again = true };
        struct pollfd fd = { .events = POLLIN };
        struct cluster *c;

        if (i == 0)
            make_file (cc.source, 20 * CHUNK, 1);
        cc.n = 2;
        cc.left_out = 1 << 0;
        cc.timeout = 1;
        c = par.c = cluster_create (&cc);
        par.listener = c->listeners[0];
        must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
        cluster_start (c, 1);
        fd.fd = node_fd (c->nodes[1]);
        if (ok (poll (&fd, 1, 5000) == 1)) {
            cluster_wait (c);
            cluster_ok_failed (c, 1, EBADMSG, "no chunk has come whole and right for 1");
            ok ((c->records[1].bad_chunks > 1) == (lies[i] == LIE_SUM));
        }
        cluster_end_all (c);
        must (pthread_join (par.thread, NULL) == 0);
        cluster_destroy (c);
    }
}

int main (void)
{
    run (test_good_child);
    run (test_bad_child);
    run (test_garbage);
    run (test_flood);
    run (test_bad_parent);
    run (test_slow_parent);
    run (test_sealed_and_lost);
    run (test_patience);
    run (test_only_lies);
    return check_end ();
}
