/* test_replay.c - what a child has said is said again, or not to its end */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "hostile.h"
#include "peer.h"

#define ROUNDS 40

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
    x->root = hostile_dial (c);
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
    unsigned char data[HOSTILE_CHUNK];
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
        struct cluster *c = hostile_root (dir, encrypt);

        cluster_start (c, 0);
        record_child (&x, c);
        cluster_start (c, 1);
        for (int i = 0; i < ROUNDS; i++) {
            int fd = hostile_dial (c);
            ssize_t heard;

            must (send (fd, x.said, x.size, MSG_NOSIGNAL) > 0);
            heard = hostile_hear_out (fd);
            /* no more than the root's part of the handshake */
            ok (heard >= 0 && heard < 1000);
            close (fd);
        }
        ok (hostile_is_refused (c, ROUNDS));
        hostile_finish (c);
    }
}

/* The child's part of the greeting ends at every so many bytes. */
static void test_truncated (const char *dir)
{
    static struct proxy x;
    struct cluster *c = hostile_root (dir, 1);
    size_t greeted;
    int cut = 0;

    cluster_start (c, 0);
    greeted = record_child (&x, c);
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
    ok (hostile_is_refused (c, cut));
    hostile_finish (c);
}

int main (void)
{
    signal (SIGPIPE, SIG_IGN);
    run (test_replay);
    run (test_truncated);
    return check_end ();
}
