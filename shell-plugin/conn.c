/* conn.c - a connection between two ranks that never blocks */
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* some records of 16 KiB and their heads */
#define READ_BUFFER_SIZE (4 * (16384 + 256))

int conn_open (struct conn *c, struct tls *tls, int fd, bool connecting)
{
    memset (c, 0, sizeof (*c));
    c->fd = fd;
    if (!(c->ssl = tls_session (tls, fd, connecting))) {
        c->fd = -1; /* still the caller's */
        return -1;
    }
    return 0;
}

void conn_close (struct conn *c)
{
    int saved_errno = errno;

    SSL_free (c->ssl);
    c->ssl = NULL;
    if (c->fd >= 0)
        close (c->fd);
    c->fd = -1;
    errno = saved_errno;
}

void conn_set_limit (struct conn *c, double timeout)
{
    unsigned int ms = timeout < 1 ? 1000 : timeout < 1e6 ? timeout * 1000 : 1e9;
    int idle = ms / 2000 > 0 ? ms / 2000 : 1;
    int one = 1;

    /* not all of it works on all sockets, and it works without */
    (void)setsockopt (c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof (one));
    (void)setsockopt (c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof (ms));
    (void)setsockopt (c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof (idle));
    (void)setsockopt (c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof (idle));
    (void)setsockopt (c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof (one));
}

/* Map a failed TLS call to 0 (wait) or -1 with errno set. */
static int tls_result (struct conn *c, int rc, bool *wants_write)
{
    int err = SSL_get_error (c->ssl, rc);
    int saved_errno = errno;

    ERR_clear_error ();
    if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
        if (wants_write)
            *wants_write = (err == SSL_ERROR_WANT_WRITE);
        return 0;
    }
    if (err == SSL_ERROR_SYSCALL && saved_errno != 0)
        errno = saved_errno;
    else if (err == SSL_ERROR_SSL)
        errno = EPROTO;
    else
        errno = ECONNRESET;
    return -1;
}

int conn_handshake (struct conn *c, bool *wants_write)
{
    int rc;

    ERR_clear_error ();
    errno = 0;
    if ((rc = SSL_do_handshake (c->ssl)) != 1) {
        rc = tls_result (c, rc, wants_write);
        if (rc < 0 && errno == EPROTO)
            errno = EACCES;
        return rc;
    }
    if (!tls_is_authentic (c->ssl)) {
        errno = EACCES;
        return -1;
    }
    return 1;
}

ssize_t conn_read (struct conn *c, void *buf, size_t len)
{
    if (c->clear) {
        ssize_t n = recv (c->fd, buf, len, 0);

        if (n > 0)
            return n;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n == 0)
            errno = ECONNRESET;
        return -1;
    }
    else {
        size_t n;
        int rc;

        ERR_clear_error ();
        errno = 0;
        if ((rc = SSL_read_ex (c->ssl, buf, len, &n)) == 1)
            return n;
        return tls_result (c, rc, NULL);
    }
}

ssize_t conn_write (struct conn *c, const void *buf, size_t len)
{
    if (c->clear) {
        ssize_t n = send (c->fd, buf, len, MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        return n;
    }
    else {
        size_t n;
        int rc;

        ERR_clear_error ();
        errno = 0;
        if ((rc = SSL_write_ex (c->ssl, buf, len, &n)) == 1) {
            c->keyed += n;
            if (c->keyed >= CONN_REKEY_BYTES
                && SSL_key_update (c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED))
                c->keyed = 0;
            return n;
        }
        return tls_result (c, rc, NULL);
    }
}

void conn_expect_bulk (struct conn *c)
{
    SSL_clear_mode (c->ssl, SSL_MODE_RELEASE_BUFFERS); /* used all the time */
    SSL_set_default_read_buffer_len (c->ssl, READ_BUFFER_SIZE);
    SSL_set_read_ahead (c->ssl, 1);
}

void conn_clear (struct conn *c)
{
    c->clear = true;
    SSL_free (c->ssl);
    c->ssl = NULL;
}

/* Read up to 'want' bytes of a message. */
static int fill (struct conn *c, size_t want)
{
    while (c->have < want) {
        ssize_t n = conn_read (c, c->in + c->have, want - c->have);

        if (n <= 0)
            return n;
        c->have += n;
    }
    return 1;
}

int conn_receive (struct conn *c, struct wire_msg *msg)
{
    int length;
    int rc;

    if ((rc = fill (c, WIRE_HEAD_SIZE)) <= 0)
        return rc;
    if ((length = wire_length (c->in)) < 0)
        return -1;
    if ((rc = fill (c, length)) <= 0)
        return rc;
    c->have = 0;
    return wire_decode (c->in, msg) < 0 ? -1 : 1;
}

int conn_queue (struct conn *c, const struct wire_msg *msg)
{
    if (sizeof (c->out) - c->out_end < WIRE_SIZE_MAX) {
        memmove (c->out, c->out + c->out_start, c->out_end - c->out_start);
        c->out_end -= c->out_start;
        c->out_start = 0;
        if (sizeof (c->out) - c->out_end < WIRE_SIZE_MAX) {
            errno = ENOBUFS;
            return -1;
        }
    }
    c->out_end += wire_encode (msg, c->out + c->out_end);
    return 0;
}

int conn_flush (struct conn *c)
{
    while (c->out_start < c->out_end) {
        ssize_t n = conn_write (c,
                                c->out + c->out_start,
                                c->out_end - c->out_start);

        if (n <= 0)
            return n;
        c->out_start += n;
    }
    c->out_start = c->out_end = 0;
    return 1;
}
