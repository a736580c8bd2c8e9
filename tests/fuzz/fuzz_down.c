/* fuzz_down.c - the parent's side of a connection, and a child that says
 * anything
 *
 * Input: a byte of options, then what the child sends after the handshake.
 */
#include <poll.h>
#include <sys/socket.h>

#include "check.h"
#include "fuzz.h"
#include "fuzz_node.h"
#include "loop.h"

#define PIECE 7 /* less than the head of a message */

/* The root, whose payload is known and summed up: all that it may be asked for
 * is there, some of it in memory and the rest on disk.
 */
static struct node *create_root (void)
{
    const char *source = path ("%s/source", fuzz_dir ());
    unsigned char *manifest;
    struct node *node;
    struct fault f;
    size_t size;

    make_file (source, FUZZ_CHUNKS * FUZZ_CHUNK - 100, 1);
    must ((manifest = node_scan (source, &size, &f)));
    must (node_set_chunk_size (manifest, size, FUZZ_CHUNK, &f) == 0);
    node = fuzz_node_create (0, 1, source, manifest, size);
    node_free (manifest);
    must ((node->manifest = manifest_decode (node->blob, node->blob_size, &f)));
    node_set_clock (node, 0, 0);
    must (node_prepare (node, &f) == 0 && root_setup (node, &f) == 0);
    must (root_start (node, &f) == 0);
    while (!atomic_load (&node->digest_known))
        poll (NULL, 0, 1);
    return node;
}

/* What holds at any time. */
static void check_down (const struct down *d)
{
    const struct node *node = d->loop->node;

    holds (!node->failed);
    holds (d->nwanted >= 0 && d->nwanted <= WIRE_WINDOW_MAX);
    holds (d->conn.out_start <= d->conn.out_end
           && d->conn.out_end <= sizeof (d->conn.out));
    holds (d->conn.have < sizeof (d->conn.in));
    holds (d->state >= DOWN_GREETING);
    holds (d->dead
           || d->state < DOWN_RUNNING
           || (d->rank > 0 && d->rank < node->config.size));
    holds (!d->dead || (!d->slot && !d->held && d->conn.fd < 0));
    holds (atomic_load (&node->held_slots) == (d->held ? 1 : 0));
}

/* The child takes what there is. False if there was nothing. */
static bool drain (struct fuzz_peer *p)
{
    struct wire_msg msg;
    bool some = false;
    uint32_t have = p->have;

    while (fuzz_peer_receive (p, &msg) > 0) {
        some = true;
        holds (msg.type == WIRE_WELCOME || msg.type == WIRE_REFUSE
               || msg.type == WIRE_PONG || msg.type == WIRE_OFFER
               || msg.type == WIRE_DATA || msg.type == WIRE_DIGEST);
    }
    return some || p->have != have;
}

static void pump (struct down *d)
{
    do {
        d->loop->again = false;
        if (!d->dead)
            down_pump (d);
        check_down (d);
    } while (d->loop->again);
}

static void converse (struct down *d,
                      struct fuzz_peer *p,
                      int options,
                      const uint8_t *data,
                      size_t size)
{
    size_t at = 0;

    while (at < size && !d->dead) {
        size_t n = size - at;

        if (options & FUZZ_DOWN_PIECES && n > PIECE)
            n = PIECE;
        n = fuzz_peer_send (p, data + at, n);
        at += n;
        pump (d);
        /* even who is deaf cannot say more before it has heard */
        if (!(options & FUZZ_DOWN_DEAF) || n == 0)
            drain (p);
    }
    while (drain (p))
        pump (d);
    shutdown (p->conn.fd, SHUT_WR);
    pump (d);
    holds (d->dead); /* it has been heard to the end */
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static struct node *node;
    static struct fuzz_peer p;
    struct down *d;

    if (!node)
        node = create_root ();
    if (size < 1)
        return 0;
    must ((d = down_create (&node->loops[0], fuzz_peer_open (&p))));
    conn_clear (&d->conn); /* the handshake is behind it */
    d->state = DOWN_GREETING;
    down_attach (d);
    converse (d, &p, data[0], data + 1, size - 1);
    down_destroy (d);
    fuzz_peer_close (&p);
    holds (atomic_load (&node->ndowns) == 0);
    return 0;
}
