/* client_impl.h - what the files of a shell's own part share */
#ifndef FLUX_TREE_CLIENT_IMPL_H
#define FLUX_TREE_CLIENT_IMPL_H

#include "bcast.h"
#include "errand.h"
#include "fetch.h"
#include "node.h"

struct client {
    struct bcast *b;
    int listen_fd;
    flux_future_t *hello;
    flux_watcher_t *tick_w;
    flux_watcher_t *progress_w;
    flux_watcher_t *node_w;
    struct node *node;          /* one of them, or none at all */
    struct fetch *fetch;
    struct errand *errand;      /* that seals, or publishes */
    bool must_seal;             /* when that has ended */
    bool must_publish;
    struct record record;
    double alive;               /* of the record, as it was last told */
    double errand_cpu;          /* likewise */
    uint64_t told;              /* bytes, when it last told its progress */
    int stripes;
    int64_t epoch_ns;
    int64_t hello_ns;
    double cpu;                 /* seconds that this process had used before */
    int silent;                 /* ticks since the first shell was heard of */
    bool welcome;
    bool received;
    bool reported;              /* failed, and said so */
    bool dropped;
    bool aborted;
    bool finished;
};

/* client.c: tell the first shell. */
void client_report (struct client *c, const char *state);
void client_report_failure (struct client *c, const struct fault *f);

/* client_setup.c: what the first shell says about the plan. */
int client_setup (struct client *c, json_t *o, struct fault *f);

/* client_steps.c */
int client_start (struct client *c, struct fault *f);
void client_seal (struct client *c);
void client_publish (struct client *c);

#endif
