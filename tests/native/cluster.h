/* cluster.h - several ranks as nodes of one process, over the loopback */
#ifndef CLUSTER_H
#define CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "node.h"

#define CLUSTER_MAX 16

struct cluster_config {
    const char *strategy;
    int n;
    const char *source;
    const char *dest;     /* with one %d, the rank */
    int workers;
    int encrypt;
    int overwrite;
    uint32_t chunk_size;
    double timeout;       /* seconds; 30 if 0 */
    int resume;
    const unsigned char *sha256; /* NULL, or 32 bytes */
    uint32_t relays;      /* a bit for each rank that keeps nothing */
    uint32_t left_out;    /* a bit for each rank that is not made a node */
    uint32_t wrong_key;
    uint32_t wrong_id;
    /* or the root's data comes from here, and holds this; 'source' is its name */
    int feed_fd;
    const struct node_item *items;
    size_t nitems;
};

struct cluster {
    struct cluster_config config;
    struct plan *plan;
    unsigned char *manifest;
    size_t manifest_size;
    unsigned char key[32];
    unsigned char id[16];
    int listeners[CLUSTER_MAX]; /* of the ranks that were left out */
    char addresses[CLUSTER_MAX][32];
    char dests[CLUSTER_MAX][512];
    struct node *nodes[CLUSTER_MAX];
    struct record records[CLUSTER_MAX];
    struct fault faults[CLUSTER_MAX];
    int rc[CLUSTER_MAX];        /* 1: runs, 0: sealed, -1: failed */
};

/* Scan the source and create the nodes. */
struct cluster *cluster_create (const struct cluster_config *config);
void cluster_start (struct cluster *c, int rank);
void cluster_start_all (struct cluster *c);
/* Wait until each has sealed, or has failed and ended. */
void cluster_wait (struct cluster *c);
/* Wait until this one has sealed or failed; it is not ended. */
void cluster_wait_sealed (struct cluster *c, int rank);
/* Wait until 'rank' has got a chunk, or is done. */
void cluster_wait_chunk (struct cluster *c, int rank);
/* Publish all that are sealed. */
void cluster_publish (struct cluster *c);
void cluster_end (struct cluster *c, int rank);
/* After this, nobody writes to the records any more. */
void cluster_end_all (struct cluster *c);
void cluster_destroy (struct cluster *c);

/* All of the above; every rank has to end well. */
void cluster_run (const struct cluster_config *config);

/* The rank has sealed, or published, and what it has is the source. */
bool cluster_is_delivered (struct cluster *c, int rank);
/* It has failed, and says this. */
void cluster_ok_failed (struct cluster *c, int rank, int errnum, const char *text);

/* An address of 'rank' to connect to. */
int cluster_connect (struct cluster *c, int rank);

#endif
