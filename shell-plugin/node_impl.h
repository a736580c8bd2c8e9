/* node_impl.h - what the files of a node share
 *
 * Threads: each loop serves some connections, and nobody else touches those.
 * What all of them share is the two tables, the store and the cache, which
 * have locks of their own, and the fields below 'lock'.
 */
#ifndef FLUX_TREE_NODE_IMPL_H
#define FLUX_TREE_NODE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "cache.h"
#include "conn.h"
#include "manifest.h"
#include "node.h"
#include "store.h"
#include "table.h"
#include "tls.h"

#define MANIFEST_CHUNK_SIZE 65536
/* of the list of all checksums: small, so that the root can pass it on while it
 * makes it
 */
#define SUMS_CHUNK_SIZE 4096
/* slots that connections may hold on to while they send a chunk */
#define HELD_SLOTS_MAX 8
#define MAX_WORKERS 16
#define DIGEST_SIZE 32
/* connections of a loop that have not shown the key yet: the oldest makes room
 */
#define STRANGERS_MAX 64
#define MAX_STRIPES 64

struct ancestor {
    int rank;
    socklen_t len;
    struct sockaddr_storage addr;
};

enum node_time {
    TIME_STARTED,
    TIME_CONNECTED,
    TIME_FIRST_BYTE,
    TIME_LAST_BYTE,
    TIME_VERIFIED,
    TIME_RENAMED,
    TIME_COUNT,
};

/* Threads beside the loops that go through all chunks. */
enum node_helper {
    HELPER_SUMMER, /* root.c */
    HELPER_KEEPER, /* resume.c, or root.c: sees to the destination */
    HELPER_HASHER, /* digest.c */
    HELPER_FEEDER, /* feed.c */
    HELPER_COUNT,
};

struct path {
    struct ancestor *ancestors; /* parent first, root last */
    int count;
};

struct loop;

struct node {
    struct node_config config; /* strings and arrays are ours */
    struct path *paths;        /* per tree */
    unsigned char key[TLS_KEY_SIZE];
    unsigned char id[WIRE_ID_SIZE];
    unsigned char sha256[DIGEST_SIZE];
    uint64_t machine;
    struct tls *tls;
    int event_fd;
    struct loop *loops;
    int nloops;
    int nloops_up; /* those that receive */
    int max_downs; /* that have shown the key; strangers are counted apart */
    bool is_root;
    bool is_fed; /* the root, and its data comes as that of others does */
    bool has_children;

    unsigned char *blob; /* the manifest, encoded */
    size_t blob_size;
    struct sum blob_sum;
    struct manifest *manifest;
    struct table *tables[SPACE_COUNT];
    struct store *source;
    struct store *dest;
    struct cache *cache;

    /* Set once; what they announce is set before. */
    _Atomic bool offered;      /* blob_size, tables[SPACE_MANIFEST] */
    _Atomic bool clock_known;  /* clock_offset, clock_error */
    _Atomic bool prepared;     /* resume only: tables[SPACE_SUMS] */
    _Atomic bool ready;        /* the rest of the above */
    _Atomic bool digest_known; /* digest */
    _Atomic bool stopping;
    struct sum digest;

    _Atomic int64_t progress_ns; /* when something came last */
    _Atomic int64_t wasted_ns;   /* receive.c: since when nothing was of use */
    _Atomic uint64_t work;       /* changes while this rank gets on, */
    _Atomic uint64_t passed[MAX_STRIPES]; /* or its ancestors in a tree do */
    _Atomic uint64_t ahead[MAX_STRIPES]; /* scout.c: what a pong says of it */
    _Atomic uint64_t fastest[MAX_STRIPES]; /* bytes/s lately to one child */
    int nchildren[MAX_STRIPES];
    _Atomic int64_t link_ns[MAX_STRIPES]; /* the rest of a chunk was waited for */
    _Atomic int64_t busy_ns[HELPER_COUNT]; /* with a chunk, since; 0: not */
    _Atomic int held_slots;
    _Atomic int ndowns;
    _Atomic int strangers; /* of these, in all loops and on the way there */

    pthread_t checker; /* resume.c */
    bool checker_started;
    pthread_t hasher;  /* digest.c */
    bool hasher_started;
    _Atomic bool hashed;

    /* root only */
    pthread_t summer;
    pthread_t copier;
    bool summer_started;
    bool copier_started;
    pthread_t feeder; /* feed.c */
    bool feeder_started;
    bool copied; /* or fed */

    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool received;
    bool failed;
    struct fault fault;
    int64_t clock_offset; /* root's clock less ours, ns */
    int64_t clock_error;  /* +-, ns */
    int64_t times[TIME_COUNT]; /* by our clock, ns; 0: not yet */
};

/* news.c. All of it may be called by any thread; 'self' is the loop that the
 * caller runs in, or NULL.
 */
void node_fail (struct node *node, const struct fault *f);
void node_failf (struct node *node, int errnum, const char *fmt, ...)
    __attribute__ ((format (printf, 3, 4)));
void node_kick (struct node *node, struct loop *self);
/* Something has come, or was done. */
static inline void node_progress (struct node *node, int64_t now)
{
    atomic_store_explicit (&node->progress_ns, now, memory_order_relaxed);
}
/* Payload can be stored, and asked for. */
void node_set_ready (struct node *node, struct loop *self);
/* A chunk of the payload is there. */
void node_landed (struct node *node, uint64_t chunk, struct sum sum);
int node_offer (struct node *node,
                uint64_t manifest_bytes,
                struct sum manifest_sum,
                struct loop *self);
/* The manifest is known: see to what has to be there before payload comes. */
int node_prepare (struct node *node, struct fault *f);
/* The manifest has come. */
void node_manifest_landed (struct node *node, struct loop *self);
/* -1 with errno = EPROTO if another one came before. */
int node_digest (struct node *node, struct sum digest, struct loop *self);
/* See whether that was all. */
void node_check_received (struct node *node);
/* The whole of a chunk that is on disk, or in memory; verified. NULL with errno
 * = EAGAIN if it was damaged, and is fetched again.
 */
struct slot *node_load (struct node *node, uint64_t chunk);
/* resume.c: with config.resume, take over what is there already */
/* The list of checksums may be complete: then go on. */
void node_check_sums (struct node *node);
void resume_stop (struct node *node);
/* Keep what stands at the destination (1), or begin the temporary name (0). */
int resume_open (struct node *node, struct fault *f);
/* Is a chunk there, from before? 1 if so, and it is where it belongs. */
int resume_find (struct node *node, uint64_t chunk, void *buf, struct fault *f);

/* digest.c: with config.sha256, check the whole against it */
int digest_start (struct node *node, struct fault *f);
void digest_stop (struct node *node);

/* report.c */
void node_mark (struct node *node, enum node_time what, bool again);
void node_set_clock (struct node *node, int64_t offset, int64_t error);
void node_report_end (struct node *node);
/* A loop is at work: the rank is, if all of its threads are. */
void node_report_alive (struct node *node);
/* A helper begins with a chunk, or waits for others: it may do so for ever, but
 * not hang with one in a file system.
 */
void node_busy (struct node *node, enum node_helper who);
void node_idle (struct node *node, enum node_helper who);
/* The rank has failed. Always returns -1. */
int node_report_failure (struct node *node, struct fault *f);

/* root.c: what only the root does */
int root_setup (struct node *node, struct fault *f);
int root_start (struct node *node, struct fault *f);
void root_stop (struct node *node);
/* feed.c: with config.feed_fd. An errno value, or 0. */
int feed_start (struct node *node);
void feed_stop (struct node *node);

#endif
