/* record.h - what one rank measured of its own part in a broadcast
 *
 * A record may lie in memory that is shared with whoever watches: it is kept
 * up to date while the rank runs. Times are seconds since the broadcast began,
 * by the root's clock; -1 means not yet, or never.
 */
#ifndef FLUX_TREE_RECORD_H
#define FLUX_TREE_RECORD_H

#include <stddef.h>
#include <stdint.h>

/* cffi begin */
enum record_state {
    RECORD_WAITING = 0,   /* has not begun */
    RECORD_RUNNING = 1,
    RECORD_RECEIVED = 2,  /* has everything, verified */
    RECORD_COMPLETE = 3,  /* and it stands under its final name */
    RECORD_FAILED = 4,
};

struct record {
    int32_t rank;
    int32_t state;
    int32_t deliver;       /* 1 if it keeps the data */
    int32_t kind;          /* of failure, an enum fault_kind */
    int32_t errnum;        /* why it failed, an errno value */
    double started;        /* began to connect */
    double connected;      /* first parent has greeted it */
    double first_byte;     /* of the payload */
    double last_byte;
    double verified;       /* all of it, against the root's digest */
    double renamed;        /* the final name stands */
    double alive;          /* last at work, by its own clock; 0: not yet */
    uint64_t bytes_in;     /* of the payload */
    uint64_t bytes_out;
    uint64_t chunks_in;
    uint64_t chunks_out;
    uint64_t bytes_kept;   /* of the payload, there before and still right */
    uint64_t bad_chunks;   /* came, or were read back, with a wrong checksum */
    uint64_t retries;      /* parents lost, each replaced by an ancestor */
    uint64_t moves;        /* parents left for an ancestor that was faster */
    uint64_t refused;      /* connections turned away */
    double wait_data;      /* seconds with nothing to receive */
    double wait_link;      /* of these, the rest of a chunk was on its way */
    double wait_disk;      /* seconds in file system calls, all threads */
    double cpu;            /* seconds of processor time */
    uint64_t memory;       /* most resident memory, bytes */
    double clock_offset;   /* root's clock less this rank's, seconds */
    double clock_error;    /* +-, seconds */
    int32_t parents[64];   /* per tree: last parent; -1 at the root, else -2 */
    double links[64];      /* per tree: seconds, as wait_link */
    char text[500];        /* what went wrong, one line */
};
/* cffi end */

struct fault;

/* A rank that has not begun. */
void record_init (struct record *r, int rank, int deliver);
/* Fields that others may read at any time. */
void record_set (double *field, double value);
#define record_add(r, field, n)                                                \
    __atomic_fetch_add (&(r)->field, (n), __ATOMIC_RELAXED)
void record_set_state (struct record *r, enum record_state state);
/* Processor time and memory of this process. */
void record_usage (struct record *r);
/* The rank has failed; 'f' gets its number if it names none. Always returns -1
 * with errno set.
 */
int record_failure (struct record *r, struct fault *f);

#endif
