/* loop.h - a thread that waits for events on its connections */
#ifndef FLUX_TREE_LOOP_H
#define FLUX_TREE_LOOP_H

#include <stdint.h>

#include "node_impl.h"

/* First member of whatever is waited for. */
struct handler {
    void (*ready) (struct handler *h, uint32_t events);
};

#define LOOP_NO_DESCRIPTORS                                                    \
    "out of file descriptors: raise the limit (ulimit -n)"

/* Of the last tick, in a rate. */
#define RATE_WEIGHT 0.3

struct loop;

struct request {
    uint8_t space;
    uint64_t chunk;
};

/* The connection to the parent in one tree, or to an ancestor in its place. */
struct up {
    struct handler handler;
    struct loop *loop;
    struct up *next;
    int tree;
    int via; /* index into the tree's ancestors */
    int denials; /* one after another; the first of them: */
    struct fault denial;
    enum {
        UP_IDLE,       /* not connected */
        UP_CONNECTING,
        UP_HANDSHAKE,
        UP_GREETING,   /* hello is sent */
        UP_RUNNING,
    } state;
    struct conn conn;
    int64_t retry_ns; /* when to connect again */
    int64_t heard_ns; /* when something came last */
    bool wants_write;

    int window;
    int nasked;
    struct request asked[WIRE_WINDOW_MAX];

    bool filling; /* a payload is coming in: */
    struct request fill;
    struct sum fill_sum;
    uint32_t fill_length;
    uint32_t fill_have;
    unsigned char *fill_data;
    struct slot *fill_slot;

    bool same_machine;
    int pings;
    int64_t ping_ns; /* when the last one was sent, 0: none is open */
    int64_t pinged_ns; /* when the last one was sent */
    int told; /* offers and digests that have come */
    bool offered;
    int64_t offer_offset; /* of the parent's clock */
    int64_t offer_error;
    int64_t best_error; /* of all pings */
    int64_t edge_offset;

    /* scout.c; what the parent said last: */
    uint64_t parent_have;
    uint64_t parent_work;
    uint64_t parent_rate;
    bool work_known;         /* of this parent */
    uint32_t ahead;
    uint32_t hops;
    uint64_t bytes;          /* that have come */
    uint64_t measured_bytes; /* of these, at the last measurement */
    int64_t measured_ns;
    double rate;             /* lately, bytes per second */
    int64_t behind_ns;       /* since when it looks slow, 0: it does not */
    int64_t patience_ns;     /* how long that is put up with, at least */
    struct up *scout;        /* tries another ancestor meanwhile */
    int64_t moved_ns;        /* when it took the place of another one: */
    int moved_via;
    double moved_rate;

    bool is_scout;
    bool trial_failed;
    uint64_t trial_left;     /* chunks that it may still ask for */
    int64_t trial_ns;        /* when it asked for the first one */
    uint64_t trial_half;     /* bytes, of which the first do not count */
    int64_t trial_half_ns;   /* when it had those */
    int64_t trial_end_ns;    /* when it had the last one */
    int64_t created_ns;
};

/* The connection to a child. */
struct down {
    struct handler handler;
    struct loop *loop;
    struct down *next;
    bool dead;
    enum {
        DOWN_HANDSHAKE,
        DOWN_GREETING, /* waits for hello */
        DOWN_WELCOME,  /* the answer is on its way */
        DOWN_REFUSE,   /* likewise; then it is closed */
        DOWN_RUNNING,
    } state;
    struct conn conn;
    int64_t since_ns;
    bool stranger; /* counts as one of the loop's */
    int rank;
    int tree;
    uint64_t bytes;          /* of payload, sent */
    uint64_t measured_bytes; /* of these, at the last measurement */
    int64_t measured_ns;
    double rate;             /* lately, bytes per second */
    bool wants_write;
    bool offer_sent;
    bool digest_sent;

    int nwanted;
    struct request wanted[WIRE_WINDOW_MAX];

    bool sending;    /* a payload is going out: */
    bool in_payload; /* its head is on its way */
    unsigned char head[WIRE_SIZE_MAX];
    uint32_t head_size;
    uint32_t head_sent;
    struct request send;
    uint32_t send_length;
    uint32_t sent;
    struct slot *slot;
    bool held; /* 'slot' counts as one of HELD_SLOTS_MAX */
};

struct loop {
    struct node *node;
    pthread_t thread;
    bool started;
    int epfd;
    int kick_fd;
    struct handler kick;
    struct handler listen;
    int listen_fd; /* -1 but for the first loop */
    int next_loop; /* who gets the next child */
    int strangers; /* of 'downs', those that have not shown the key */
    _Atomic int64_t alive_ns; /* when it last saw to its connections */
    _Atomic bool kicked;
    bool again;    /* something has come: look at every connection */
    struct up *ups;
    struct down *downs;
    pthread_mutex_t inbox_lock;
    struct down *inbox; /* accepted for us by another loop */
    _Atomic int64_t wait_ns; /* with nothing to receive */
    _Atomic int64_t link_ns; /* of that, in the midst of a chunk */
};

int loop_setup (struct loop *l, struct node *node);
int loop_start (struct loop *l);
void loop_stop (struct loop *l);
void loop_cleanup (struct loop *l);
void loop_kick (struct loop *l);

/* Wait for input on 'fd', and for output if 'wants_write'. */
int loop_watch (struct loop *l, int fd, struct handler *h, bool wants_write);
int loop_rewatch (struct loop *l, int fd, struct handler *h, bool wants_write);

/* up.c */
struct up *up_create (struct loop *l, int tree);
int up_rank (struct up *u);
void up_report_parent (struct up *u);
/* Leave the parent for another ancestor. */
void up_go (struct up *u, int via);
void up_destroy (struct up *u);
void up_pump (struct up *u);
/* All of the payload has come, in whatever tree, and the root's digest. */
bool up_is_done (struct up *u);
/* Called a few times a second, as down_tick is. */
void up_tick (struct up *u);

/* receive.c: -1 if the connection is to be given up */
int up_ask (struct up *u);
int up_on_data (struct up *u, const struct wire_msg *msg);
int up_fill (struct up *u); /* 1 when all of the chunk has come */
int up_land (struct up *u);
void up_drop_requests (struct up *u);
/* What came of a chunk is of no use. */
void up_waste (struct up *u);
/* Chunks of the payload that are asked for at once. */
int up_window (struct node *node);

/* scout.c: called as up_tick is, with where the connection is linked from. It
 * may put another one in its place.
 */
void up_scout (struct up **up, int64_t now);

/* down.c */
struct down *down_create (struct loop *l, int fd);
void down_destroy (struct down *d);
/* Begin to watch it, in the loop that owns it. */
void down_attach (struct down *d);
/* Close it; the loop forgets it later. */
void down_drop (struct down *d);
void down_pump (struct down *d);
void down_tick (struct down *d);

#endif
