/* wire.c - the messages between a rank and its parent */
#include "wire.h"

#include <errno.h>
#include <string.h>

#include "bytes.h"

static const uint8_t body_size[] = {
    [WIRE_HELLO] = 28,
    [WIRE_WELCOME] = 20,
    [WIRE_REFUSE] = 4 + WIRE_TEXT_MAX,
    [WIRE_PING] = 8,
    [WIRE_PONG] = 48,
    [WIRE_OFFER] = 44,
    [WIRE_GET] = 9,
    [WIRE_DATA] = 29,
    [WIRE_DIGEST] = 16,
};

static void put_sum (unsigned char *p, struct sum sum)
{
    put64 (p, sum.lo);
    put64 (p + 8, sum.hi);
}

static struct sum get_sum (const unsigned char *p)
{
    return (struct sum){ .lo = get64 (p), .hi = get64 (p + 8) };
}

size_t wire_encode (const struct wire_msg *m, unsigned char *buf)
{
    unsigned char *p = buf + WIRE_HEAD_SIZE;

    memset (buf, 0, WIRE_HEAD_SIZE);
    buf[0] = m->type;
    put32 (buf + 4, body_size[m->type]);
    switch (m->type) {
        case WIRE_HELLO:
            put32 (p, m->hello.magic);
            put16 (p + 4, m->hello.version);
            put16 (p + 6, m->hello.tree);
            put32 (p + 8, m->hello.rank);
            memcpy (p + 12, m->hello.id, WIRE_ID_SIZE);
            break;
        case WIRE_WELCOME:
            put32 (p, m->welcome.magic);
            put16 (p + 4, m->welcome.version);
            put16 (p + 6, m->welcome.encrypted);
            put32 (p + 8, m->welcome.rank);
            put64 (p + 12, m->welcome.machine);
            break;
        case WIRE_REFUSE:
            put32 (p, m->refuse.code);
            memcpy (p + 4, m->refuse.text, WIRE_TEXT_MAX);
            break;
        case WIRE_PING:
            put64 (p, m->ping.sent);
            break;
        case WIRE_PONG:
            put64 (p, m->pong.sent);
            put64 (p + 8, m->pong.seen);
            put64 (p + 16, m->pong.have);
            put64 (p + 24, m->pong.work);
            put64 (p + 32, m->pong.rate);
            put32 (p + 40, m->pong.ahead);
            put32 (p + 44, m->pong.hops);
            break;
        case WIRE_OFFER:
            put64 (p, m->offer.manifest_bytes);
            put_sum (p + 8, m->offer.manifest_sum);
            put64 (p + 24, m->offer.clock_offset);
            put64 (p + 32, m->offer.clock_error);
            put32 (p + 40, m->offer.flags);
            break;
        case WIRE_GET:
            p[0] = m->get.space;
            put64 (p + 1, m->get.chunk);
            break;
        case WIRE_DATA:
            p[0] = m->data.space;
            put32 (p + 1, m->data.length);
            put64 (p + 5, m->data.chunk);
            put_sum (p + 13, m->data.sum);
            break;
        case WIRE_DIGEST:
            put_sum (p, m->digest.sum);
            break;
    }
    return WIRE_HEAD_SIZE + body_size[m->type];
}

int wire_length (const unsigned char *head)
{
    uint8_t type = head[0];

    if (type < WIRE_HELLO || type > WIRE_DIGEST
        || get32 (head + 4) != body_size[type] || head[1] || head[2]
        || head[3]) {
        errno = EPROTO;
        return -1;
    }
    return WIRE_HEAD_SIZE + body_size[type];
}

int wire_decode (const unsigned char *buf, struct wire_msg *m)
{
    const unsigned char *p = buf + WIRE_HEAD_SIZE;

    if (wire_length (buf) < 0)
        return -1;
    memset (m, 0, sizeof (*m));
    m->type = buf[0];
    switch (m->type) {
        case WIRE_HELLO:
            m->hello.magic = get32 (p);
            m->hello.version = get16 (p + 4);
            m->hello.tree = get16 (p + 6);
            m->hello.rank = get32 (p + 8);
            memcpy (m->hello.id, p + 12, WIRE_ID_SIZE);
            break;
        case WIRE_WELCOME:
            m->welcome.magic = get32 (p);
            m->welcome.version = get16 (p + 4);
            m->welcome.encrypted = get16 (p + 6);
            m->welcome.rank = get32 (p + 8);
            m->welcome.machine = get64 (p + 12);
            break;
        case WIRE_REFUSE:
            m->refuse.code = get32 (p);
            memcpy (m->refuse.text, p + 4, WIRE_TEXT_MAX);
            m->refuse.text[WIRE_TEXT_MAX - 1] = '\0';
            break;
        case WIRE_PING:
            m->ping.sent = get64 (p);
            break;
        case WIRE_PONG:
            m->pong.sent = get64 (p);
            m->pong.seen = get64 (p + 8);
            m->pong.have = get64 (p + 16);
            m->pong.work = get64 (p + 24);
            m->pong.rate = get64 (p + 32);
            m->pong.ahead = get32 (p + 40);
            m->pong.hops = get32 (p + 44);
            break;
        case WIRE_OFFER:
            m->offer.manifest_bytes = get64 (p);
            m->offer.manifest_sum = get_sum (p + 8);
            m->offer.clock_offset = get64 (p + 24);
            m->offer.clock_error = get64 (p + 32);
            m->offer.flags = get32 (p + 40);
            break;
        case WIRE_GET:
            m->get.space = p[0];
            m->get.chunk = get64 (p + 1);
            break;
        case WIRE_DATA:
            m->data.space = p[0];
            m->data.length = get32 (p + 1);
            m->data.chunk = get64 (p + 5);
            m->data.sum = get_sum (p + 13);
            break;
        case WIRE_DIGEST:
            m->digest.sum = get_sum (p);
            break;
    }
    return 0;
}
