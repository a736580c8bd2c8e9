/* fuzz_node.h - a node for fuzz_down and fuzz_up that has no threads: the
 * target calls its state machines by itself
 */
#ifndef FUZZ_NODE_H
#define FUZZ_NODE_H

#include <stdbool.h>
#include <string.h>

#include "loop.h"
#include "wire.h"

#define FUZZ_CHUNK 4096
#define FUZZ_CHUNKS 40 /* of the payload that fuzz_down's node has */
#define FUZZ_UP_PARENT 1

/* Options of fuzz_down, in the first byte of the input. */
#define FUZZ_DOWN_PIECES 1 /* what the child says comes in small pieces */
#define FUZZ_DOWN_DEAF 2   /* it takes nothing before it has said everything */

/* Options of fuzz_up. */
#define FUZZ_UP_HONEST 1 /* checksums and times are made right first */
#define FUZZ_UP_RESUME 2 /* the checksums come before the payload */

static inline struct wire_msg fuzz_hello (int rank)
{
    struct wire_msg msg = {
        .type = WIRE_HELLO,
        .hello.magic = WIRE_MAGIC,
        .hello.version = WIRE_VERSION,
        .hello.rank = rank,
    };

    memset (msg.hello.id, 'i', sizeof (msg.hello.id));
    return msg;
}

/* A directory for what the nodes write. It is removed at the end. */
const char *fuzz_dir (void);
/* What a rank that resumes has left there for the next one. */
void fuzz_discard_partial (void);

/* A rank of the chain 0 -> 1 -> 2, set up but not started. */
struct node *fuzz_node_create (int rank,
                               int resume,
                               const char *source,
                               const unsigned char *manifest,
                               size_t manifest_size);

/* The peer's end of a connection in the clear, as it is after the greetings,
 * and what it reads there. Messages are taken in by the real code.
 */
struct fuzz_peer {
    struct conn conn;
    bool in_data;
    struct wire_msg data; /* the last DATA */
    uint32_t have;
    unsigned char payload[FUZZ_CHUNK > MANIFEST_CHUNK_SIZE ? FUZZ_CHUNK
                                                           : MANIFEST_CHUNK_SIZE];
};

/* Returns the node's end. */
int fuzz_peer_open (struct fuzz_peer *p);
void fuzz_peer_close (struct fuzz_peer *p);

/* As many bytes as fit. */
size_t fuzz_peer_send (struct fuzz_peer *p, const void *data, size_t size);
/* 1 when a message has come; of DATA the payload too, and it is right. */
int fuzz_peer_receive (struct fuzz_peer *p, struct wire_msg *msg);

#endif
