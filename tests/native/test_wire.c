/* test_wire.c - messages survive the wire, and nothing else gets through */
#include <errno.h>
#include <string.h>

#include "check.h"
#include "wire.h"

static void test_round_trip (const char *dir)
{
    struct wire_msg all[] = {
        { .type = WIRE_HELLO,
          .hello = { WIRE_MAGIC, WIRE_VERSION, 3, 70000, { 1, 2, 255 } } },
        { .type = WIRE_WELCOME, .welcome = { WIRE_MAGIC, 9, 1, 5, UINT64_MAX } },
        { .type = WIRE_REFUSE, .refuse = { EPERM, "because" } },
        { .type = WIRE_PING, .ping.sent = INT64_MIN },
        { .type = WIRE_PONG, .pong = { INT64_MAX, -1, 1ULL << 50, 3, 5, WIRE_NOBODY, 7 } },
        { .type = WIRE_OFFER, .offer = { 1ULL << 40, { 1, 2 }, -3, 4, OFFER_SUMS } },
        { .type = WIRE_GET, .get = { 1, UINT64_MAX - 1 } },
        { .type = WIRE_DATA, .data = { 1, UINT32_MAX, 12, { 34, 56 } } },
        { .type = WIRE_DIGEST, .digest.sum = { 78, 90 } },
    };

    (void)dir;
    for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++) {
        unsigned char buf[WIRE_SIZE_MAX];
        unsigned char again[WIRE_SIZE_MAX];
        struct wire_msg msg;
        size_t len = wire_encode (&all[i], buf);

        ok (len <= WIRE_SIZE_MAX && wire_length (buf) == (int)len);
        ok (wire_decode (buf, &msg) == 0 && msg.type == all[i].type);
        ok (wire_encode (&msg, again) == len && !memcmp (buf, again, len));
    }
}

/* The bytes themselves, so that another version cannot change them unseen. */
static void test_layout (const char *dir)
{
    struct wire_msg msg = { .type = WIRE_GET, .get = { 1, 0x0102030405060708 } };
    unsigned char buf[WIRE_SIZE_MAX];
    const unsigned char want[] = { 7, 0, 0, 0, 9, 0, 0, 0, 1,
                                   8, 7, 6, 5, 4, 3, 2, 1 };

    (void)dir;
    ok (wire_encode (&msg, buf) == sizeof (want));
    ok (!memcmp (buf, want, sizeof (want)));
}

static void test_refused (const char *dir)
{
    struct wire_msg msg = { .type = WIRE_GET };
    unsigned char buf[WIRE_SIZE_MAX];

    (void)dir;
    wire_encode (&msg, buf);
    for (int type = 0; type < 256; type++) {
        buf[0] = type;
        errno = 0;
        ok ((wire_length (buf) == 17) == (type == WIRE_GET));
        ok (type == WIRE_GET || errno == EPROTO);
    }
    buf[0] = WIRE_GET;
    for (int i = 1; i < 8; i++) {
        buf[i] ^= 1;
        ok (wire_length (buf) < 0 && wire_decode (buf, &msg) < 0);
        buf[i] ^= 1;
    }
    /* a text without an end gets one */
    msg = (struct wire_msg){ .type = WIRE_REFUSE };
    memset (msg.refuse.text, 'x', WIRE_TEXT_MAX);
    wire_encode (&msg, buf);
    ok (wire_decode (buf, &msg) == 0);
    ok (strlen (msg.refuse.text) == WIRE_TEXT_MAX - 1);
}

int main (void)
{
    run (test_round_trip);
    run (test_layout);
    run (test_refused);
    return check_end ();
}
