/* test_conn.c - a connection: who has the key, and what when it breaks */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "conn.h"

static const unsigned char key[TLS_KEY_SIZE] = { 1, 2, 3 };
static const unsigned char other_key[TLS_KEY_SIZE] = { 1, 2, 4 };

struct pair {
    struct tls *tls[2];
    struct conn conn[2]; /* 0 connects, 1 accepts */
    int rc[2];           /* of the handshake */
    int errnum[2];
};

static void pair_open (struct pair *p, const unsigned char *a, const unsigned char *b)
{
    int fds[2];

    memset (p, 0, sizeof (*p));
    must (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    must ((p->tls[0] = tls_create (a, NULL)) && (p->tls[1] = tls_create (b, NULL)));
    for (int i = 0; i < 2; i++)
        must (conn_open (&p->conn[i], p->tls[i], fds[i], i == 0) == 0);
}

static void pair_close (struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        conn_close (&p->conn[i]);
        tls_destroy (p->tls[i]);
    }
}

/* A side that fails goes away, as it does in earnest. */
static void pair_handshake (struct pair *p)
{
    for (int turn = 0; turn < 100 && (p->rc[0] == 0 || p->rc[1] == 0); turn++) {
        int i = turn % 2;
        bool wants_write;

        if (p->rc[i] != 0)
            continue;
        errno = 0;
        p->rc[i] = conn_handshake (&p->conn[i], &wants_write);
        p->errnum[i] = errno;
        if (p->rc[i] < 0)
            conn_close (&p->conn[i]);
    }
}

static bool pass (struct pair *p, int from, const struct wire_msg *msg)
{
    struct wire_msg got;

    return conn_queue (&p->conn[from], msg) == 0 && conn_flush (&p->conn[from]) == 1
           && conn_receive (&p->conn[1 - from], &got) == 1 && got.type == msg->type;
}

static void test_right_key (const char *dir)
{
    struct wire_msg ping = { .type = WIRE_PING, .ping.sent = 5 };
    struct wire_msg msg;
    struct pair p;

    (void)dir;
    pair_open (&p, key, key);
    pair_handshake (&p);
    ok (p.rc[0] == 1 && p.rc[1] == 1);
    ok (pass (&p, 0, &ping) && pass (&p, 1, &ping));
    ok (conn_receive (&p.conn[0], &msg) == 0);
    ok (!strcmp (SSL_get_version (p.conn[0].ssl), "TLSv1.3"));
    ok (!strcmp (SSL_get_cipher (p.conn[0].ssl), "TLS_AES_128_GCM_SHA256"));
    pair_close (&p);
}

static void test_wrong_key (const char *dir)
{
    struct pair p;

    (void)dir;
    pair_open (&p, key, other_key);
    pair_handshake (&p);
    ok (p.rc[0] < 0 && p.rc[1] < 0);
    ok (p.errnum[1] == EACCES);
    ok (p.errnum[0] == EACCES || p.errnum[0] == ECONNRESET);
    pair_close (&p);
}

/* A server that would do without the key, or with an old version of TLS. */
static void reach (SSL_CTX *ctx, bool connecting)
{
    struct pair p;
    SSL *ssl;
    int fds[2];
    int rc = 0;

    must (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    memset (&p, 0, sizeof (p));
    must ((p.tls[0] = tls_create (key, NULL)));
    must (conn_open (&p.conn[0], p.tls[0], fds[0], !connecting) == 0);
    must ((ssl = SSL_new (ctx)) && SSL_set_fd (ssl, fds[1]));
    if (connecting)
        SSL_set_connect_state (ssl);
    else
        SSL_set_accept_state (ssl);
    for (int turn = 0; turn < 20 && rc == 0; turn++) {
        bool wants_write;

        (void)SSL_do_handshake (ssl);
        rc = conn_handshake (&p.conn[0], &wants_write);
    }
    ok (rc < 0 && errno == EACCES);
    SSL_free (ssl);
    close (fds[1]);
    conn_close (&p.conn[0]);
    tls_destroy (p.tls[0]);
    SSL_CTX_free (ctx);
}

static void test_no_key (const char *dir)
{
    SSL_CTX *ctx;

    (void)dir;
    must ((ctx = SSL_CTX_new (TLS_client_method ())));
    reach (ctx, true);
    must ((ctx = SSL_CTX_new (TLS_server_method ())));
    reach (ctx, false);
    must ((ctx = SSL_CTX_new (TLS_client_method ())));
    must (SSL_CTX_set_max_proto_version (ctx, TLS1_2_VERSION));
    reach (ctx, true);
}

static void test_no_tls (const char *dir)
{
    struct pair p;
    bool wants_write;

    (void)dir;
    for (int side = 0; side < 2; side++) {
        pair_open (&p, key, key);
        must (send (p.conn[1 - side].fd, "GET / HTTP/1.1\r\n\r\n", 18, 0) == 18);
        while ((p.rc[side] = conn_handshake (&p.conn[side], &wants_write)) == 0)
            continue;
        ok (p.rc[side] < 0 && errno == EACCES);
        pair_close (&p);
    }
}

/* The peer goes away in the middle of the handshake: lost, not without the key. */
static void test_cut_handshake (const char *dir)
{
    struct pair p;
    bool wants_write;

    (void)dir;
    for (int side = 0; side < 2; side++) {
        pair_open (&p, key, key);
        must (conn_handshake (&p.conn[0], &wants_write) == 0);
        if (side == 0)
            must (conn_handshake (&p.conn[1], &wants_write) == 0);
        conn_close (&p.conn[1 - side]);
        while ((p.rc[side] = conn_handshake (&p.conn[side], &wants_write)) == 0)
            continue;
        ok (p.rc[side] < 0 && (errno == ECONNRESET || errno == EPIPE));
        pair_close (&p);
    }
    /* before it said anything */
    pair_open (&p, key, key);
    conn_close (&p.conn[1]);
    while ((p.rc[0] = conn_handshake (&p.conn[0], &wants_write)) == 0)
        continue;
    ok (p.rc[0] < 0 && (errno == ECONNRESET || errno == EPIPE));
    pair_close (&p);
}

/* In the middle of a message, and in its place something else. */
static void test_truncated (const char *dir)
{
    struct wire_msg ping = { .type = WIRE_PING, .ping.sent = 5 };
    struct wire_msg msg;
    unsigned char buf[WIRE_SIZE_MAX];
    struct pair p;

    (void)dir;
    wire_encode (&ping, buf);
    for (int clear = 0; clear < 2; clear++) {
        pair_open (&p, key, key);
        pair_handshake (&p);
        must (p.rc[0] == 1 && p.rc[1] == 1);
        for (int i = 0; clear && i < 2; i++)
            conn_clear (&p.conn[i]);
        ok (conn_write (&p.conn[0], buf, 11) == 11);
        ok (conn_receive (&p.conn[1], &msg) == 0);
        ok (conn_write (&p.conn[0], buf + 11, 5) == 5);
        ok (conn_receive (&p.conn[1], &msg) == 1 && msg.ping.sent == 5);
        ok (conn_write (&p.conn[0], buf, 11) == 11);
        conn_close (&p.conn[0]);
        ok (conn_receive (&p.conn[1], &msg) < 0 && errno == ECONNRESET);
        pair_close (&p);
    }
    pair_open (&p, key, key);
    pair_handshake (&p);
    buf[5] = 1; /* a length that is not its own */
    ok (conn_write (&p.conn[0], buf, 16) == 16);
    ok (conn_receive (&p.conn[1], &msg) < 0 && errno == EPROTO);
    pair_close (&p);
}

/* Bytes that were changed on the way do not get through TLS. */
static void test_forged (const char *dir)
{
    struct wire_msg msg;
    struct pair p;

    (void)dir;
    pair_open (&p, key, key);
    pair_handshake (&p);
    must (send (p.conn[0].fd, "\x17\x03\x03\x00\x20 this is thirty-two bytes long...", 37, 0)
          == 37);
    ok (conn_receive (&p.conn[1], &msg) < 0 && errno == EPROTO);
    pair_close (&p);
}

static void test_clear (const char *dir)
{
    struct wire_msg ping = { .type = WIRE_PING, .ping.sent = 5 };
    unsigned char seen[WIRE_SIZE_MAX];
    unsigned char want[WIRE_SIZE_MAX];
    size_t len = wire_encode (&ping, want);
    struct pair p;

    (void)dir;
    pair_open (&p, key, key);
    pair_handshake (&p);
    /* the last of TLS one way, and the first in the clear behind it at once */
    must (conn_queue (&p.conn[1], &ping) == 0 && conn_flush (&p.conn[1]) == 1);
    conn_clear (&p.conn[1]);
    must (conn_queue (&p.conn[1], &ping) == 0 && conn_flush (&p.conn[1]) == 1);
    ok (conn_receive (&p.conn[0], &(struct wire_msg){ 0 }) == 1);
    ok (recv (p.conn[0].fd, seen, len, MSG_PEEK) == (ssize_t)len);
    ok (!memcmp (seen, want, len));
    conn_clear (&p.conn[0]);
    ok (conn_receive (&p.conn[0], &(struct wire_msg){ 0 }) == 1);
    ok (pass (&p, 0, &ping) && pass (&p, 1, &ping));
    pair_close (&p);
}

static void test_queue (const char *dir)
{
    struct wire_msg ping = { .type = WIRE_PING };
    struct pair p;
    int queued = 0;
    int got = 0;

    (void)dir;
    pair_open (&p, key, key);
    pair_handshake (&p);
    while (conn_queue (&p.conn[0], &ping) == 0)
        queued++;
    ok (errno == ENOBUFS && queued >= 2 * WIRE_WINDOW_MAX);
    ok (conn_flush (&p.conn[0]) == 1);
    while (conn_receive (&p.conn[1], &ping) == 1)
        got++;
    ok (got == queued);
    pair_close (&p);
}

static void count_updates (int write_p,
                           int version,
                           int type,
                           const void *buf,
                           size_t len,
                           SSL *ssl,
                           void *arg)
{
    (void)version;
    (void)ssl;
    if (!write_p && type == SSL3_RT_HANDSHAKE && len > 0
        && *(const unsigned char *)buf == SSL3_MT_KEY_UPDATE)
        (*(int *)arg)++;
}

/* More than the socket takes, in both modes: nothing is lost or doubled. In
 * TLS, the key is changed on the way.
 */
static void test_blocked (const char *dir)
{
    enum { SIZE = 4 << 20 };
    static unsigned char data[SIZE];
    static unsigned char back[SIZE];
    struct pair p;

    (void)dir;
    for (int i = 0; i < SIZE; i++)
        data[i] = i ^ i >> 8 ^ i >> 16;
    for (int clear = 0; clear < 2; clear++) {
        size_t out = 0;
        size_t in = 0;
        bool waited = false;
        int updates = 0;

        pair_open (&p, key, key);
        pair_handshake (&p);
        for (int i = 0; clear && i < 2; i++)
            conn_clear (&p.conn[i]);
        if (!clear) {
            SSL_set_msg_callback (p.conn[1].ssl, count_updates);
            SSL_set_msg_callback_arg (p.conn[1].ssl, &updates);
        }
        while (in < SIZE) {
            ssize_t n = 0;

            while (out < SIZE && (n = conn_write (&p.conn[0], data + out, SIZE - out)) > 0)
                out += n;
            if (!ok (n >= 0))
                break;
            waited |= n == 0;
            while ((n = conn_read (&p.conn[1], back + in, SIZE - in)) > 0)
                in += n;
            if (!ok (n == 0))
                break;
        }
        ok (waited && !memcmp (data, back, SIZE));
        ok (updates == (clear ? 0 : 4));
        pair_close (&p);
    }
}

int main (void)
{
    signal (SIGPIPE, SIG_IGN);
    run (test_right_key);
    run (test_wrong_key);
    run (test_no_key);
    run (test_no_tls);
    run (test_cut_handshake);
    run (test_truncated);
    run (test_forged);
    run (test_clear);
    run (test_queue);
    run (test_blocked);
    return check_end ();
}
