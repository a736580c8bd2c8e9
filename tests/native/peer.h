/* peer.h - the other end of a connection, which does as the test says
 *
 * It speaks the real protocol by the real code, over a socket that blocks, but
 * not for ever.
 */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>

#include "cluster.h"
#include "conn.h"

struct peer {
    struct tls *tls;
    struct conn conn;
};

/* As the side that connects or that accepts. 'fd' is the peer's from now on.
 * False if the handshake failed.
 */
bool peer_open (struct peer *p, const unsigned char *key, int fd, bool connecting);
void peer_close (struct peer *p);

/* False if the connection is lost, or nothing comes. */
bool peer_send (struct peer *p, const struct wire_msg *msg);
bool peer_send_data (struct peer *p, const void *data, size_t len);
bool peer_receive (struct peer *p, struct wire_msg *msg);
bool peer_receive_data (struct peer *p, void *data, size_t len);

/* The next message of this type. False if DATA comes first. */
bool peer_wait_for (struct peer *p, int type, struct wire_msg *msg);
/* The other side ends the connection, whatever it still had to say. */
bool peer_is_ended (struct peer *p);

/* Say who it is. False if there is no answer. */
bool peer_hello (struct peer *p, struct cluster *c, int rank, struct wire_msg *reply);
/* Become a child of the root. */
void peer_join (struct peer *p, struct cluster *c, int rank);

#endif
