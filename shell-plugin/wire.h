/* wire.h - the messages between a rank and its parent
 *
 * docs/protocol.md describes them. Every message is a head of 8 bytes and a
 * body whose length its type fixes; only DATA is followed by a payload.
 * Numbers are little-endian.
 */
#ifndef FLUX_TREE_WIRE_H
#define FLUX_TREE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "sum.h"

#define WIRE_MAGIC 0x42525446 /* "FTRB" */
#define WIRE_VERSION 2
#define WIRE_HEAD_SIZE 8
#define WIRE_BODY_MAX 248
#define WIRE_SIZE_MAX (WIRE_HEAD_SIZE + WIRE_BODY_MAX)
#define WIRE_TEXT_MAX 200
#define WIRE_ID_SIZE 16
/* requests that a child may have open on one connection */
#define WIRE_WINDOW_MAX 64

enum wire_type {
    WIRE_HELLO = 1,   /* child: who I am */
    WIRE_WELCOME = 2, /* parent: you are expected */
    WIRE_REFUSE = 3,  /* parent: go away, because */
    WIRE_PING = 4,    /* child: what is the time? */
    WIRE_PONG = 5,    /* parent: it was this */
    WIRE_OFFER = 6,   /* parent: this is the payload */
    WIRE_GET = 7,     /* child: send this chunk */
    WIRE_DATA = 8,    /* parent: here it is */
    WIRE_DIGEST = 9,  /* parent: what all of it must come to */
};

/* What chunks are counted in. */
enum wire_space {
    SPACE_MANIFEST = 0,
    SPACE_PAYLOAD = 1,
    SPACE_SUMS = 2, /* the checksums of all chunks of the payload */
    SPACE_COUNT = 3,
};

enum wire_offer_flag {
    OFFER_SUMS = 1, /* the checksums may be asked for, and the digest is known */
};

/* In a pong: no ancestor is far ahead. */
#define WIRE_NOBODY UINT32_MAX
/* In the hops of a pong: it may be that all is as it should be. */
#define WIRE_UNSURE (1u << 31)

struct wire_msg {
    uint8_t type;
    union {
        struct {
            uint32_t magic;
            uint16_t version;
            uint16_t tree;
            uint32_t rank;
            uint8_t id[WIRE_ID_SIZE];
        } hello;
        struct {
            uint32_t magic;
            uint16_t version;
            uint16_t encrypted; /* what follows: 1 in TLS, 0 in the clear */
            uint32_t rank;
            uint64_t machine; /* equal where the clock is the same one */
        } welcome;
        struct {
            uint32_t code; /* an errno value */
            char text[WIRE_TEXT_MAX];
        } refuse;
        struct {
            int64_t sent; /* by the child's clock, ns */
        } ping;
        struct {
            int64_t sent; /* as in the ping */
            int64_t seen; /* by the parent's clock, ns */
            uint64_t have; /* chunks of this tree that the parent has */
            uint64_t work; /* changes while the parent gets on */
            uint64_t rate; /* root: bytes/s to its fastest child in this tree;
                            * 0: it has but one, so nobody to compare with */
            uint32_t ahead; /* the nearest ancestor far ahead of who asks it */
            uint32_t hops;  /* ranks between it and the parent, the parent too */
        } pong;
        struct {
            uint64_t manifest_bytes;
            struct sum manifest_sum;
            int64_t clock_offset; /* root's clock less the parent's, ns */
            int64_t clock_error;  /* +-, ns */
            uint32_t flags;       /* enum wire_offer_flag */
        } offer;
        struct {
            uint8_t space;
            uint64_t chunk;
        } get;
        struct {
            uint8_t space;
            uint32_t length; /* of the payload that follows */
            uint64_t chunk;
            struct sum sum;
        } data;
        struct {
            struct sum sum;
        } digest;
    };
};

/* Write 'msg' to 'buf' (WIRE_SIZE_MAX bytes). Returns its length. */
size_t wire_encode (const struct wire_msg *msg, unsigned char *buf);

/* Length of the message that starts with this head, head included.
 * Returns -1 with errno = EPROTO if there is no such message.
 */
int wire_length (const unsigned char *head);

/* Read a whole message. Returns 0, or -1 with errno = EPROTO. */
int wire_decode (const unsigned char *buf, struct wire_msg *msg);

#endif
