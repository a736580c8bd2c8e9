/* feed.h - the frames in which a source comes that is elsewhere: docs/registry.md
 *
 * A frame is a kind and a length, 4 bytes each, little-endian, and so many bytes.
 */
#ifndef FLUX_TREE_FEED_H
#define FLUX_TREE_FEED_H

#include <stdint.h>

#include "bytes.h"

#define FEED_HEAD_SIZE 8
/* of the payload's bytes in one frame */
#define FEED_DATA_MAX (16 << 20)
#define FEED_TEXT_MAX 4096

enum feed_kind {
    FEED_HEAD = 1, /* the encoded manifest: the first frame */
    FEED_DATA = 2, /* the next bytes of the payload */
    FEED_END = 3,  /* that was all, and it was right */
    FEED_FAIL = 4, /* why it cannot go on: a text, the last frame */
};

struct feed_frame {
    uint32_t kind;
    uint32_t length;
};

static inline struct feed_frame feed_decode (const unsigned char head[FEED_HEAD_SIZE])
{
    return (struct feed_frame){ .kind = get32 (head), .length = get32 (head + 4) };
}

/* What a text says that came from elsewhere: one line. */
static inline void feed_clean (char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) {
        if (*p < ' ' || *p == 127)
            *p = ' ';
    }
}

#endif
