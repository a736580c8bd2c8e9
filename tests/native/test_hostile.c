/* test_hostile.c - strangers on a rank's port, and ranks that mean harm, while
 * another rank gets the payload
 *
 * None of them gets anything, each is counted, and no memory is spent on them
 * that is not given back.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "hostile.h"
#include "peer.h"

#define ROUNDS 40
/* AddressSanitizer needs an eighth of what is allocated for its own */
#define HUGE_OFFER (2ULL << 30)

static void hang_up (struct cluster *c)
{
    close (hostile_dial (c));
}

static void say (struct cluster *c, const char *text, size_t size)
{
    int fd = hostile_dial (c);

    must (send (fd, text, size, MSG_NOSIGNAL) == (ssize_t)size);
    ok (hostile_hear_out (fd) >= 0);
    close (fd);
}

static void ask_http (struct cluster *c)
{
    const char *text = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    say (c, text, strlen (text));
}

static void say_garbage (struct cluster *c)
{
    static const char text[1000] = { 0x16, 3, 1, 0x02, 0, 1, 0, 1, 0xfc };

    say (c, text, sizeof (text));
}

/* As a browser does, or a scanner: without a key. */
static void try_tls (struct cluster *c, int version)
{
    SSL_CTX *ctx = SSL_CTX_new (TLS_client_method ());
    int fd = hostile_dial (c);
    SSL *ssl;

    must (ctx && SSL_CTX_set_max_proto_version (ctx, version));
    must ((ssl = SSL_new (ctx)) && SSL_set_fd (ssl, fd));
    ok (SSL_connect (ssl) != 1);
    SSL_free (ssl);
    SSL_CTX_free (ctx);
    close (fd);
}

static void try_tls12 (struct cluster *c)
{
    try_tls (c, TLS1_2_VERSION);
}

static void try_tls13 (struct cluster *c)
{
    try_tls (c, TLS1_3_VERSION);
}

static void try_wrong_key (struct cluster *c)
{
    unsigned char key[TLS_KEY_SIZE];
    struct peer p;

    memcpy (key, c->key, sizeof (key));
    key[TLS_KEY_SIZE - 1] ^= 1;
    ok (!peer_open (&p, key, hostile_dial (c), true));
    peer_close (&p);
}

static void try_version (struct cluster *c)
{
    struct wire_msg msg = {
        .type = WIRE_HELLO,
        .hello = { WIRE_MAGIC, WIRE_VERSION - 1, 0, 2, { 0 } },
    };
    struct peer p;

    memcpy (msg.hello.id, c->id, sizeof (c->id));
    must (peer_open (&p, c->key, hostile_dial (c), true));
    ok (peer_send (&p, &msg) && peer_receive (&p, &msg)
        && msg.type == WIRE_REFUSE && strstr (msg.refuse.text, "another version"));
    ok (peer_is_ended (&p));
    peer_close (&p);
}

/* It has the key, and says a part of who it is. */
static void stop_in_hello (struct cluster *c)
{
    struct wire_msg msg = { .type = WIRE_HELLO };
    unsigned char buf[WIRE_SIZE_MAX];
    struct peer p;

    must (peer_open (&p, c->key, hostile_dial (c), true));
    ok (peer_send_data (&p, buf, wire_encode (&msg, buf) / 2));
    peer_close (&p);
}

static void attack (const char *dir, void (*fn) (struct cluster *c))
{
    struct cluster *c = hostile_root (dir, 1);
    size_t before;

    cluster_start (c, 0);
    for (int i = 0; i < ROUNDS; i++)
        fn (c);
    before = hostile_memory ();
    cluster_start (c, 1);
    for (int i = 0; i < ROUNDS; i++)
        fn (c);
    ok (hostile_is_refused (c, 2 * ROUNDS));
    ok (hostile_memory () < before + HOSTILE_GROWTH_MAX);
    hostile_finish (c);
}

static void test_strangers (const char *dir)
{
    void (*all[]) (struct cluster *) = { hang_up,   ask_http,  say_garbage,
                                         try_tls12, try_tls13, try_wrong_key };

    for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++) {
        const char *sub = path ("%s/%zu", dir, i);

        make_dir (sub);
        attack (sub, all[i]);
    }
}

static void test_old_version (const char *dir)
{
    attack (dir, try_version);
}

static void test_half_greeting (const char *dir)
{
    attack (dir, stop_in_hello);
}

/* A child asks the same question without end, and does not hear the answers. */
static void test_deaf_child (const char *dir)
{
    struct cluster *c = hostile_root (dir, 1);
    unsigned char buf[1000 * 16];
    struct peer p;
    size_t before;
    size_t size = 0;

    cluster_start (c, 0);
    while (size < sizeof (buf)) {
        struct wire_msg msg = { .type = WIRE_PING, .ping.sent = size };
        unsigned char one[WIRE_SIZE_MAX];

        must (wire_encode (&msg, one) == 16);
        memcpy (buf + size, one, 16);
        size += 16;
    }
    peer_join (&p, c, 2);
    before = hostile_memory ();
    cluster_start (c, 1);
    while (peer_send_data (&p, buf, sizeof (buf)))
        continue;
    ok (errno != EAGAIN);
    ok (hostile_memory () < before + HOSTILE_GROWTH_MAX);
    peer_close (&p);
    hostile_finish (c);
}

/* A parent that has the key, and one answer to whoever connects. */
struct parent {
    struct cluster *c;
    struct wire_msg greeting;
    struct wire_msg offer;
    pthread_t thread;
    _Atomic bool ended;
    int served;
};

static void *parent_run (void *arg)
{
    struct parent *par = arg;
    struct pollfd fd = { .fd = par->c->listeners[1], .events = POLLIN };

    while (!par->ended) {
        struct wire_msg msg;
        struct peer p;
        int conn;

        if (poll (&fd, 1, 10) <= 0)
            continue;
        must ((conn = accept4 (fd.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        if (peer_open (&p, par->c->key, conn, false) && peer_receive (&p, &msg)
            && peer_send (&p, &par->greeting) && peer_send (&p, &par->offer)) {
            par->served++;
            while (peer_receive (&p, &msg))
                continue;
        }
        peer_close (&p);
    }
    return NULL;
}

/* The most that this process ever had: a rank that fails gives it back. */
static size_t peak_memory (void)
{
    struct rusage usage;

    must (getrusage (RUSAGE_SELF, &usage) == 0);
    return (size_t)usage.ru_maxrss << 10;
}

/* The parent of rank 3 answers so. 'text' is how rank 3 fails, or NULL if it gets
 * all from the root; the others do not mind.
 */
static void be_parent (const char *dir,
                       struct wire_msg greeting,
                       struct wire_msg offer,
                       const char *text)
{
    struct cluster_config cc = {
        .strategy = "kary:2",
        .n = 4,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%%d", dir),
        .workers = 2,
        .encrypt = 1,
        .chunk_size = HOSTILE_CHUNK,
        .timeout = 2,
        .left_out = 1 << 1,
    };
    struct parent par = { .greeting = greeting, .offer = offer };
    struct cluster *c;
    size_t before;

    make_file (cc.source, 40 * HOSTILE_CHUNK, 1);
    c = par.c = cluster_create (&cc);
    must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
    before = peak_memory ();
    cluster_start_all (c);
    cluster_wait (c);
    par.ended = true;
    must (pthread_join (par.thread, NULL) == 0);
    ok (peak_memory () < before + HUGE_OFFER / 4);
    cluster_publish (c);
    cluster_end_all (c);
    ok (par.served > 0 && cluster_is_delivered (c, 0) && cluster_is_delivered (c, 2));
    if (text) {
        cluster_ok_failed (c, 3, ETIMEDOUT, text);
        ok (access (c->dests[3], F_OK) < 0);
    }
    else
        ok (cluster_is_delivered (c, 3));
    cluster_destroy (c);
}

/* The most that a manifest may have is announced, and does not come. */
static void test_huge_offer (const char *dir)
{
    be_parent (dir,
               (struct wire_msg){
                   .type = WIRE_WELCOME,
                   .welcome = { WIRE_MAGIC, WIRE_VERSION, 1, 1, 12345 },
               },
               (struct wire_msg){
                   .type = WIRE_OFFER,
                   .offer.manifest_bytes = HUGE_OFFER,
               },
               "nothing has come");
}

/* It refuses whoever comes. */
static void test_refusals (const char *dir)
{
    struct wire_msg refuse = { .type = WIRE_REFUSE, .refuse.code = EPERM };

    be_parent (dir, refuse, refuse, NULL);
}

int main (void)
{
    signal (SIGPIPE, SIG_IGN);
    run (test_strangers);
    run (test_old_version);
    run (test_half_greeting);
    run (test_deaf_child);
    run (test_huge_offer);
    run (test_refusals);
    return check_end ();
}
