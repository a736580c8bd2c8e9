/* peer.c - the other end of a connection, which does as the test says */
#include "peer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "check.h"

bool peer_open (struct peer *p, const unsigned char *key, int fd, bool connecting)
{
    struct timeval limit = { .tv_sec = 20 };
    sigset_t set;

    sigemptyset (&set);
    sigaddset (&set, SIGPIPE);
    pthread_sigmask (SIG_BLOCK, &set, NULL);
    must (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof (limit)) == 0
          && setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof (limit)) == 0);
    must ((p->tls = tls_create (key, NULL)));
    must (conn_open (&p->conn, p->tls, fd, connecting) == 0);
    return conn_handshake (&p->conn, NULL) == 1;
}

void peer_close (struct peer *p)
{
    conn_close (&p->conn);
    tls_destroy (p->tls);
}

bool peer_send (struct peer *p, const struct wire_msg *msg)
{
    return conn_queue (&p->conn, msg) == 0 && conn_flush (&p->conn) == 1;
}

bool peer_send_data (struct peer *p, const void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = conn_write (&p->conn, (const char *)data + at, len - at);

        if (n <= 0)
            return false;
        at += n;
    }
    return true;
}

bool peer_receive (struct peer *p, struct wire_msg *msg)
{
    return conn_receive (&p->conn, msg) == 1;
}

bool peer_receive_data (struct peer *p, void *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = conn_read (&p->conn, (char *)data + at, len - at);

        if (n <= 0)
            return false;
        at += n;
    }
    return true;
}

bool peer_wait_for (struct peer *p, int type, struct wire_msg *msg)
{
    while (peer_receive (p, msg)) {
        if (msg->type == type)
            return true;
        if (msg->type == WIRE_DATA)
            return false;
    }
    return false;
}

bool peer_is_ended (struct peer *p)
{
    struct wire_msg msg;

    while (peer_receive (p, &msg)) {
        if (msg.type == WIRE_DATA) {
            char buf[65536];

            must (msg.data.length <= sizeof (buf));
            if (!peer_receive_data (p, buf, msg.data.length))
                break;
        }
    }
    return errno != EAGAIN;
}

bool peer_hello (struct peer *p, struct cluster *c, int rank, struct wire_msg *reply)
{
    struct wire_msg msg = {
        .type = WIRE_HELLO,
        .hello.magic = WIRE_MAGIC,
        .hello.version = WIRE_VERSION,
        .hello.rank = rank,
    };

    memcpy (msg.hello.id, c->id, sizeof (c->id));
    return peer_send (p, &msg) && peer_receive (p, reply);
}

void peer_join (struct peer *p, struct cluster *c, int rank)
{
    struct wire_msg msg;

    must (peer_open (p, c->key, cluster_connect (c, 0), true));
    must (peer_hello (p, c, rank, &msg) && msg.type == WIRE_WELCOME);
    ok (msg.welcome.magic == WIRE_MAGIC && msg.welcome.version == WIRE_VERSION
        && msg.welcome.encrypted == c->config.encrypt && msg.welcome.rank == 0);
    if (!c->config.encrypt)
        conn_clear (&p->conn);
}
