/* fuzz_wire.c - a stream of bytes, cut into messages as conn.c cuts it
 *
 * Input: what one side sends on a connection, after TLS; payloads of DATA
 * included.
 */
#include <string.h>

#include "fuzz.h"
#include "wire.h"

/* What was understood is all of what was said. */
static void check_message (const uint8_t *data, int length)
{
    unsigned char said[WIRE_SIZE_MAX];
    unsigned char again[WIRE_SIZE_MAX];
    struct wire_msg msg;

    memcpy (said, data, length);
    holds (wire_decode (said, &msg) == 0);
    holds (msg.type == said[0]);
    if (msg.type == WIRE_REFUSE) {
        holds (memchr (msg.refuse.text, 0, sizeof (msg.refuse.text)));
        said[length - 1] = '\0'; /* a text without an end gets one */
    }
    memset (again, 0xa5, sizeof (again));
    holds (wire_encode (&msg, again) == (size_t)length);
    holds (!memcmp (said, again, length));
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (size - at >= WIRE_HEAD_SIZE) {
        unsigned char head[WIRE_HEAD_SIZE];
        int length;

        memcpy (head, data + at, sizeof (head));
        if ((length = wire_length (head)) < 0)
            break;
        holds (length >= WIRE_HEAD_SIZE && length <= WIRE_SIZE_MAX);
        if (size - at < (size_t)length)
            break;
        check_message (data + at, length);
        at += length;
        if (head[0] == WIRE_DATA) {
            struct wire_msg msg;

            wire_decode (data + at - length, &msg);
            at += msg.data.length < size - at ? msg.data.length : size - at;
        }
    }
    return 0;
}
