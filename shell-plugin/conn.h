/* conn.h - a connection between two ranks that never blocks
 *
 * It starts in TLS, which proves both sides' key. After the greetings, which
 * are inside TLS, it may go on in the clear.
 */
#ifndef FLUX_TREE_CONN_H
#define FLUX_TREE_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tls.h"
#include "wire.h"

/* room for a window of requests, and a few messages more */
#define CONN_OUT_SIZE 4096

/* A key of AES-GCM is good for 2^24.5 records (RFC 8446, 5.5), or 388 GB. */
#ifndef CONN_REKEY_BYTES
#define CONN_REKEY_BYTES (64ULL << 30)
#endif

struct conn {
    int fd;
    SSL *ssl;
    bool clear; /* the greetings are over, and TLS with them */
    uint64_t keyed; /* bytes written with the same key */
    size_t have;
    unsigned char in[WIRE_SIZE_MAX];
    size_t out_start;
    size_t out_end;
    unsigned char out[CONN_OUT_SIZE];
};

/* All of these return -1 with errno set when the connection is lost, and 0
 * when they have to wait.
 */
int conn_open (struct conn *c, struct tls *tls, int fd, bool connecting);
void conn_close (struct conn *c);
/* Messages are not held back; and a peer whose host has vanished without a word
 * is lost after so many seconds.
 */
void conn_set_limit (struct conn *c, double timeout);

/* 1 when done. *wants_write says what to wait for when it returns 0. */
int conn_handshake (struct conn *c, bool *wants_write);

/* 1 when a message has come. */
int conn_receive (struct conn *c, struct wire_msg *msg);

/* Put a message in the queue. Returns -1 with errno = ENOBUFS if it is full. */
int conn_queue (struct conn *c, const struct wire_msg *msg);
/* 1 when the queue is empty. */
int conn_flush (struct conn *c);

/* Bytes moved. */
ssize_t conn_read (struct conn *c, void *buf, size_t len);
ssize_t conn_write (struct conn *c, const void *buf, size_t len);

/* Much will be read: take in several records by one system call. */
void conn_expect_bulk (struct conn *c);

/* The rest goes on in the clear. */
void conn_clear (struct conn *c);

#endif
