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
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "peer.h"

#define CHUNK 8192
#define ROUNDS 40
/* memory: the allocators of the sanitizers take it by the megabyte */
#define GROWTH_MAX (16 << 20)

/* What is freed is kept back by AddressSanitizer, and would look like growth. */
const char *__asan_default_options (void)
{
    return "quarantine_size_mb=1";
}

static size_t resident (void)
{
    FILE *f = fopen ("/proc/self/statm", "r");
    size_t size;
    size_t pages;

    must (f && fscanf (f, "%zu %zu", &size, &pages) == 2);
    fclose (f);
    return pages * sysconf (_SC_PAGESIZE);
}

/* The root runs, rank 1 waits to be started, rank 2 is ours. */
static struct cluster *start_root (const char *dir, int encrypt)
{
    struct cluster_config cc = {
        .strategy = "flat",
        .n = 3,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%d-%%d", dir, encrypt),
        .workers = 2,
        .encrypt = encrypt,
        .chunk_size = CHUNK,
        .relays = 1 << 0,
        .left_out = 1 << 2,
    };
    struct cluster *c;

    make_file (cc.source, 40 * CHUNK + 1, 1);
    c = cluster_create (&cc);
    cluster_start (c, 0);
    return c;
}

/* The transfer beside it ends, and is right. */
static void finish (struct cluster *c)
{
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (c->rc[0] == 0 && cluster_is_delivered (c, 1));
    ok (c->records[1].bad_chunks == 0);
    cluster_destroy (c);
}

static uint64_t count_refused (struct cluster *c)
{
    return __atomic_load_n (&c->records[0].refused, __ATOMIC_RELAXED);
}

/* The root counts what it turns away after it did so. */
static bool is_refused (struct cluster *c, uint64_t n)
{
    for (int i = 0; i < 20000 && count_refused (c) < n; i++)
        poll (NULL, 0, 1);
    return count_refused (c) == n;
}

static int dial (struct cluster *c)
{
    struct timeval limit = { .tv_sec = 20 };
    int fd = cluster_connect (c, 0);

    must (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof (limit)) == 0);
    return fd;
}

/* All that the root says until it hangs up: bytes, or -1 if it does not. */
static ssize_t hear_out (int fd)
{
    ssize_t total = 0;
    char buf[4096];
    ssize_t n;

    while ((n = recv (fd, buf, sizeof (buf), 0)) > 0)
        total += n;
    return n == 0 || errno == ECONNRESET ? total : -1;
}

static void hang_up (struct cluster *c)
{
    close (dial (c));
}

static void say (struct cluster *c, const char *text, size_t size)
{
    int fd = dial (c);

    must (send (fd, text, size, MSG_NOSIGNAL) == (ssize_t)size);
    ok (hear_out (fd) >= 0);
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
    int fd = dial (c);
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
    ok (!peer_open (&p, key, dial (c), true));
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
    must (peer_open (&p, c->key, dial (c), true));
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

    must (peer_open (&p, c->key, dial (c), true));
    ok (peer_send_data (&p, buf, wire_encode (&msg, buf) / 2));
    peer_close (&p);
}

static void attack (const char *dir, void (*fn) (struct cluster *c))
{
    struct cluster *c = start_root (dir, 1);
    size_t before;

    for (int i = 0; i < ROUNDS; i++)
        fn (c);
    before = resident ();
    cluster_start (c, 1);
    for (int i = 0; i < ROUNDS; i++)
        fn (c);
    ok (is_refused (c, 2 * ROUNDS));
    ok (resident () < before + GROWTH_MAX);
    finish (c);
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

/* Between a child and the root: it passes on what both say, and keeps what the
 * child said, up to 'limit' bytes of it.
 */
struct proxy {
    int child;
    int root;
    size_t limit;
    pthread_t thread;
    _Atomic size_t size;
    unsigned char said[1 << 16];
};

static bool pass (int from, int to, struct proxy *keep)
{
    unsigned char buf[4096];
    ssize_t n = recv (from, buf, sizeof (buf), 0);

    if (n <= 0)
        return false;
    if (keep) {
        if ((size_t)n > keep->limit - keep->size)
            n = keep->limit - keep->size;
        memcpy (keep->said + keep->size, buf, n);
        keep->size += n;
    }
    if (send (to, buf, n, MSG_NOSIGNAL) != n)
        return false;
    return !keep || keep->size < keep->limit;
}

static void *proxy_run (void *arg)
{
    struct proxy *x = arg;
    struct pollfd fds[] = {
        { .fd = x->child, .events = POLLIN },
        { .fd = x->root, .events = POLLIN },
    };

    while (poll (fds, 2, 20000) > 0) {
        if (fds[1].revents && !pass (x->root, x->child, NULL))
            break;
        if (fds[0].revents && !pass (x->child, x->root, x))
            break;
    }
    close (x->root);
    close (x->child);
    return NULL;
}

/* Returns the child's end. */
static int proxy_start (struct proxy *x, struct cluster *c, size_t limit)
{
    int fds[2];

    must (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    x->child = fds[1];
    x->root = dial (c);
    x->limit = limit;
    x->size = 0;
    must (pthread_create (&x->thread, NULL, proxy_run, x) == 0);
    return fds[0];
}

/* A child greets the root and gets a chunk. Returns how much it had said when
 * it was welcome.
 */
static size_t record_child (struct proxy *x, struct cluster *c)
{
    unsigned char data[CHUNK];
    struct wire_msg msg;
    struct peer p;
    size_t greeted;

    must (peer_open (&p, c->key, proxy_start (x, c, sizeof (x->said)), true));
    must (peer_hello (&p, c, 2, &msg) && msg.type == WIRE_WELCOME);
    greeted = x->size;
    if (!c->config.encrypt)
        conn_clear (&p.conn);
    must (peer_wait_for (&p, WIRE_OFFER, &msg));
    must (peer_send (&p, &(struct wire_msg){ .type = WIRE_GET, .get = { 1, 3 } }));
    must (peer_receive (&p, &msg) && msg.type == WIRE_DATA
          && peer_receive_data (&p, data, msg.data.length));
    peer_close (&p);
    must (pthread_join (x->thread, NULL) == 0);
    return greeted;
}

/* What a child has said is worth nothing when it is said again: not to the rank
 * that has heard it, and not to that of another broadcast.
 */
static void test_replay (const char *dir)
{
    static struct proxy x;

    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct cluster *c = start_root (dir, encrypt);

        record_child (&x, c);
        cluster_start (c, 1);
        for (int i = 0; i < ROUNDS; i++) {
            int fd = dial (c);
            ssize_t heard;

            must (send (fd, x.said, x.size, MSG_NOSIGNAL) > 0);
            heard = hear_out (fd);
            /* no more than the root's part of the handshake */
            ok (heard >= 0 && heard < 1000);
            close (fd);
        }
        ok (is_refused (c, ROUNDS));
        finish (c);
    }
}

/* The child's part of the greeting ends at every so many bytes. */
static void test_truncated (const char *dir)
{
    static struct proxy x;
    struct cluster *c = start_root (dir, 1);
    size_t greeted = record_child (&x, c);
    int cut = 0;

    ok (greeted > 200 && greeted < 1000);
    cluster_start (c, 1);
    for (size_t limit = 1; limit < greeted; limit += 7) {
        struct wire_msg msg;
        struct peer p;

        if (peer_open (&p, c->key, proxy_start (&x, c, limit), true))
            ok (!peer_hello (&p, c, 2, &msg));
        peer_close (&p);
        must (pthread_join (x.thread, NULL) == 0);
        cut++;
    }
    ok (is_refused (c, cut));
    finish (c);
}

/* A child asks the same question without end, and does not hear the answers. */
static void test_deaf_child (const char *dir)
{
    struct cluster *c = start_root (dir, 1);
    unsigned char buf[1000 * 16];
    struct peer p;
    size_t before;
    size_t size = 0;

    while (size < sizeof (buf)) {
        struct wire_msg msg = { .type = WIRE_PING, .ping.sent = size };
        unsigned char one[WIRE_SIZE_MAX];

        must (wire_encode (&msg, one) == 16);
        memcpy (buf + size, one, 16);
        size += 16;
    }
    peer_join (&p, c, 2);
    before = resident ();
    cluster_start (c, 1);
    while (peer_send_data (&p, buf, sizeof (buf)))
        continue;
    ok (errno != EAGAIN);
    ok (resident () < before + GROWTH_MAX);
    peer_close (&p);
    finish (c);
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

/* Its child, rank 3, comes to nothing, and says so; the others do not mind. */
static void be_parent (const char *dir,
                       struct wire_msg greeting,
                       struct wire_msg offer,
                       int errnum,
                       const char *text)
{
    struct cluster_config cc = {
        .strategy = "kary:2",
        .n = 4,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%%d", dir),
        .workers = 2,
        .encrypt = 1,
        .chunk_size = CHUNK,
        .timeout = 2,
        .left_out = 1 << 1,
    };
    struct parent par = { .greeting = greeting, .offer = offer };
    struct cluster *c;
    size_t before;

    make_file (cc.source, 40 * CHUNK, 1);
    c = par.c = cluster_create (&cc);
    must (pthread_create (&par.thread, NULL, parent_run, &par) == 0);
    before = resident ();
    cluster_start_all (c);
    cluster_wait (c);
    par.ended = true;
    must (pthread_join (par.thread, NULL) == 0);
    ok (resident () < before + GROWTH_MAX);
    cluster_publish (c);
    cluster_end_all (c);
    ok (par.served > 0 && cluster_is_delivered (c, 0) && cluster_is_delivered (c, 2));
    cluster_ok_failed (c, 3, errnum, text);
    ok (access (c->dests[3], F_OK) < 0);
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
                   .offer.manifest_bytes = 2ULL << 30,
               },
               ETIMEDOUT,
               "nothing has come");
}

/* It refuses whoever comes, in words that are not fit for a terminal. */
static void test_refusals (const char *dir)
{
    struct wire_msg refuse = { .type = WIRE_REFUSE, .refuse.code = EPERM };

    memset (refuse.refuse.text, '\033', WIRE_TEXT_MAX);
    memcpy (refuse.refuse.text, "\nno!\n", 5);
    be_parent (dir, refuse, refuse, EPERM, "rank 1 refused: ?no!??");
}

int main (void)
{
    signal (SIGPIPE, SIG_IGN);
    run (test_strangers);
    run (test_old_version);
    run (test_half_greeting);
    run (test_replay);
    run (test_truncated);
    run (test_deaf_child);
    run (test_huge_offer);
    run (test_refusals);
    return check_end ();
}
