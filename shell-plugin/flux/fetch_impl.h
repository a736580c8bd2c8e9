/* fetch_impl.h - what the files of a fetch share */
#ifndef FLUX_TREE_FETCH_IMPL_H
#define FLUX_TREE_FETCH_IMPL_H

#include <stdbool.h>

#include "archive.h"
#include "fetch.h"
#include "route.h"
#include "store.h"

struct load {
    struct fetch *fetch;
    flux_future_t *f; /* NULL if free */
    uint32_t piece;
    bool of_peer;
};

struct fetch {
    flux_t *h;
    struct fetch_config config; /* strings are ours */
    struct archive *archive;
    struct store *store;
    struct route route;
    struct load *loads;      /* config.window of them */
    int nloads;              /* in flight */
    uint64_t load_bytes;
    uint32_t next;           /* piece to ask for */
    uint32_t left;           /* pieces that are not written yet */
    flux_watcher_t *work;    /* go on in the reactor */
    flux_watcher_t *limit;   /* of time without progress */
    int64_t progress_ns;
    int64_t idle_ns;         /* since when there is nothing to do; or 0 */
    int64_t waited_ns;
    bool ended;              /* 'done' is called, or about to be */
    bool failed;
    struct fault fault;
};

/* fetch.c: note the time, once or again. */
void fetch_mark (struct fetch *fetch, double *field, bool again);
bool fetch_is_complete (const struct fetch *fetch);
/* Nothing more is asked for; 'done' is called next. */
void fetch_end (struct fetch *fetch);
/* The first reason counts. */
void fetch_fail (struct fetch *fetch, const struct fault *f);

/* fetch_load.c: keep the window full, and write what stands in the archive on
 * the way.
 */
void fetch_go_on (struct fetch *fetch);

#endif
