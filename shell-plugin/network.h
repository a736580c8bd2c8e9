/* network.h - what the model knows of the machines and of what is between them
 *
 * Rates are bytes per second, costs are seconds; 0 is a rate without bound, or
 * no cost. Each rank has one NIC, that sends and receives at the same time.
 */
#ifndef FLUX_TREE_NETWORK_H
#define FLUX_TREE_NETWORK_H

#include <stdint.h>

/* cffi begin */
struct network {
    double bandwidth;      /* of one NIC, in each direction */
    double burst;          /* bytes that pass an idle NIC at once: 0 but for token buckets */
    double latency;        /* from one rank to another, one way */
    double start;          /* until a rank has begun to connect */
    double per_connection; /* processor time that a new connection takes */
    double per_chunk;      /* processor time that a chunk takes at each end */
    double encryption;     /* what a processor encrypts, or decrypts and checks */
    double disk;           /* what a rank can write */
    double uplink;         /* of a group, in each direction */
    int processors;        /* shared by all ranks; 0: each has its own */

    /* of the brokers of Flux, for the content transport */
    double per_blob;       /* processor time that a blob takes in a broker */
    double broker;         /* what a broker takes in, or sends on */
    double per_load;       /* processor time of a rank for a blob that came */

    const double *rates;   /* [n] instead of 'bandwidth', or NULL */
    const int32_t *groups; /* [n] of 0..n-1: behind which uplink, or NULL */
};
/* cffi end */

#endif
