/* server_impl.h - what the files of the first shell's server share */
#ifndef FLUX_TREE_SERVER_IMPL_H
#define FLUX_TREE_SERVER_IMPL_H

#include "bcast.h"
#include "choose.h"
#include "node.h"
#include "plan.h"

enum stage { WIRING, RUNNING, DONE, FAILED };

/* The numbers are those of enum record_state. */
enum peer_state { ABSENT, HERE, SEALED, PUBLISHED, BROKEN };

struct peer {
    const flux_msg_t *hello;
    char *address;
    char *host;
    enum peer_state state;
    bool started;
    bool gone;            /* its shell will start no tasks */
    int silent;           /* ticks since something was heard of it */
    uint64_t bytes_in;
    json_t *record;       /* as it last said */
    struct fault *fault;  /* why it is broken, or gone */
};

struct server {
    struct bcast *b;
    enum stage stage;
    struct peer *peers;
    int missing;              /* shells that may still say hello */
    flux_watcher_t *limit_w;
    flux_watcher_t *settle_w;
    flux_watcher_t *tick_w;
    struct source *source;    /* NULL for transport=content */
    bool ready;               /* the source */
    struct node_summary summary;
    struct plan *plan;
    struct choice choice;     /* how the plan came about */
    unsigned char id[ID_SIZE];
    int64_t epoch_ns;
    double start;             /* seconds since 1970 */
    json_t *report;
    flux_future_t *commit;    /* of the report */
    bool committed;
    bool ending;              /* it only waits for that */
    bool ended;
    bool aborted;             /* all were told */
    bool lost;                /* a shell */
    struct fault fault;       /* that explains the failure */
    bool publishing;
};

/* server.c */
void server_tell (struct server *s, int rank, json_t *o);
void server_tell_event (struct server *s, int rank, const char *event);
void server_tell_all (struct server *s, const char *event);
const char *server_host (struct server *s, int rank);

/* server_messages.c: what others ask, or say. */
int server_register (struct server *s);

/* A rank whose shell is gone, or -1: Flux ends a job that has lost a shell before
 * all tasks have started.
 */
int server_lost_rank (struct server *s);

/* server_setup.c: once all are here, and what travels is known: who gets it
 * from whom.
 */
void server_try_setup (struct server *s);
/* In the plan, and still with us. */
bool server_is_active (struct server *s, int rank);

/* server_gates.c: open every gate whose time has come. */
void server_advance (struct server *s);

/* server_failure.c */
int server_watch (struct server *s);
/* The broadcast has failed. */
void server_fail (struct server *s, const struct fault *f);
/* A rank cannot get the data: whether that is the end, on-failure= says. */
void server_fail_rank (struct server *s, const struct fault *f);
/* Are there still so many who can get it as min-ranks= asks for? Else it fails,
 * because of 'f'.
 */
bool server_has_enough (struct server *s, const struct fault *f);

/* server_report.c */
void server_begin_report (struct server *s);
/* Waits until it is where it belongs. */
void server_end_report (struct server *s);

#endif
