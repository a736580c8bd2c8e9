/* route.h - which broker's cache is asked for a blob
 *
 * The one of this rank, if others will ask it for the same: so that a blob
 * comes down each edge of the TBON once. Where nobody else will, a copy in that
 * cache is of no use, and the broker above is asked itself.
 *
 * Under a flat TBON that would be rank 0 for all of them, which computes the
 * digest of a blob in a mapped file anew each time that somebody asks for it,
 * at a fifth of the speed of the rest. There the brokers of the receivers are
 * asked in turns, and rank 0 is asked for each blob once.
 */
#ifndef FLUX_TREE_ROUTE_H
#define FLUX_TREE_ROUTE_H

#include <flux/core.h>
#include <stdint.h>

struct route {
    uint32_t rank;    /* of this broker */
    uint32_t nodeid;  /* to ask if there are no peers */
    uint32_t *peers;  /* to ask in turns */
    int npeers;
};

/* 'brokers' has the rank of each receiver's broker; none: nothing is known of
 * them.
 */
int route_init (struct route *route, flux_t *h, const uint32_t *brokers, int nbrokers);
uint32_t route_nodeid (const struct route *route, uint32_t piece);
/* Peers are of no use, or cannot be had. */
void route_drop_peers (struct route *route);

#endif
