/* simulate.h - how a broadcast would go, chunk by chunk */
#ifndef FLUX_TREE_SIMULATE_H
#define FLUX_TREE_SIMULATE_H

#include <stdint.h>

#include "fault.h"
#include "network.h"
#include "plan.h"

/* cffi begin */
/* Of each rank, seconds since the broadcast began; -1: never. Each array has one
 * for each rank of the plan.
 */
struct forecast {
    double *connected;
    double *first;     /* byte */
    double *last;      /* byte */
    double *done;      /* all of it checked */
    double *out;       /* bytes sent */
};

/* 'bytes' of payload in chunks of 'chunk_size' down the trees of a plan, as the
 * direct transport does it.
 */
int simulate_direct (const struct plan *p,
                     const struct network *net,
                     double bytes,
                     double chunk_size,
                     struct forecast *out,
                     struct fault *f);

/* An archive through the content caches of brokers, along the one tree of a
 * plan: the ranks that keep the data load its blobs one after the other, or
 * 'window' at a time. blobs[i] < nblobs names the content of the i-th one: equal
 * ones are stored once.
 */
int simulate_content (const struct plan *p,
                      const struct network *net,
                      double blob_size,
                      double last_size,
                      const int32_t *blobs,
                      int nblobs,
                      int window,
                      struct forecast *out,
                      struct fault *f);
/* cffi end */

/* Nothing has happened yet. */
void forecast_init (struct forecast *f, int n);

#endif
