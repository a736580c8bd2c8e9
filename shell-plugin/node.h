/* node.h - one rank's run: it gets the payload from its parents, one a tree,
 * and serves it to its children while it comes
 *
 * A node runs in threads of its own. Whoever started it waits until node_fd is
 * readable, calls node_seal and node_publish, and goes on to let it serve until
 * every rank is done; who is done is not the node's business.
 */
#ifndef FLUX_TREE_NODE_H
#define FLUX_TREE_NODE_H

#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "record.h"

/* cffi begin */
struct node_config {
    int rank;
    int size;
    int stripes;
    const int32_t *parents;       /* stripes x size: the plan */
    const char *const *addresses; /* size: "1.2.3.4:56" or "[::1]:56"; only
                                   * those of ancestors are looked at */
    int listen_fd;                /* listening; the node takes it over */
    const unsigned char *key;     /* 32 bytes */
    const unsigned char *id;      /* 16 bytes, names the broadcast */
    int encrypt;                  /* 0: greet in TLS, go on in the clear */
    int deliver;                  /* 1: keep the data under its final name */
    int overwrite;
    int resume;                   /* 1: what an interrupted run left, or what
                                   * stands at the destination, is checked, and
                                   * only the rest is fetched; the same for all
                                   * ranks of a broadcast */
    int sync;                     /* 1: on disk before it gets its name */
    const unsigned char *sha256;  /* 32 bytes that the payload, one file, must
                                   * come to; or NULL */
    int measure_clock;            /* 1: even between ranks on one machine */
    const char *source;           /* root only */
    int feed_fd;                  /* root only: the payload comes from there, and
                                   * 'source' is but its name (feed.c); the node
                                   * takes it over. 0: it does not */
    const unsigned char *manifest;/* root only: encoded */
    size_t manifest_size;
    const char *destination;
    const char *tmp;              /* temporary name beside the destination */
    int workers;                  /* threads that move data */
    double timeout;               /* seconds without progress: give up */
    int64_t epoch_ns;             /* begin of the broadcast, root's clock */
    struct record *record;        /* where to report */
};

struct node;

/* Everything in the config is copied but the record, which must outlive the
 * node. listen_fd is closed even if it fails.
 */
struct node *node_create (const struct node_config *config, struct fault *f);

int node_start (struct node *node, struct fault *f);

/* Readable once the rank has everything, or has failed. */
int node_fd (struct node *node);

/* Complete the data: modes, times. To be called once node_fd is readable.
 * Returns -1 with the reason if this rank has failed, here or before.
 */
int node_seal (struct node *node, struct fault *f);

/* Put the data under its final name, as soon as all of it is right: what the
 * disk has damaged since is fetched again first. Ranks that all wait for each
 * other before this succeed or fail together.
 */
int node_publish (struct node *node, struct fault *f);

/* Ends the threads, and removes what has no final name yet. */
void node_destroy (struct node *node);

/* The manifest of a source, encoded, malloced: free it with node_free. The
 * data will be cut into chunks of 'chunk_size' bytes.
 */
unsigned char *node_scan (const char *source, size_t *size, struct fault *f);
/* The same for what is yet to come: it will be what the destination, a directory,
 * holds. A directory stands before what is in it, and its items are sorted by
 * their components, so that none can come twice.
 */
struct node_item {
    const char *path;   /* below the top */
    const char *target; /* of a link; else NULL */
    uint64_t size;      /* of a file */
    uint32_t mode;
    int directory;
    int64_t mtime;      /* seconds since the epoch */
};
unsigned char *node_compose (const struct node_item *items,
                             size_t count,
                             size_t *size,
                             struct fault *f);
/* What a manifest says. */
struct node_summary {
    uint64_t bytes;    /* of the payload */
    uint64_t files;
    uint64_t entries;
    uint32_t chunk_size;
    char name[256];
};
int node_summarize (const unsigned char *manifest,
                    size_t size,
                    struct node_summary *s,
                    struct fault *f);
/* Cut the payload into chunks of another size. */
int node_set_chunk_size (unsigned char *manifest,
                         size_t size,
                         uint32_t chunk_size,
                         struct fault *f);
void node_free (void *p);
int64_t node_clock_ns (void);
/* cffi end */

#endif
