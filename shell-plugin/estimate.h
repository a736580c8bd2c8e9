/* estimate.h - how long a broadcast would take, in closed form */
#ifndef FLUX_TREE_ESTIMATE_H
#define FLUX_TREE_ESTIMATE_H

#include <stdint.h>

#include "fault.h"
#include "network.h"
#include "plan.h"

/* cffi begin */
/* Fill in 'times' [n]: seconds until each rank has 'bytes' of payload by the
 * direct transport, in chunks of 'chunk_size'; -1 for one that takes no part.
 * O(stripes * n).
 */
int estimate_direct (const struct plan *p,
                     const struct network *net,
                     double bytes,
                     double chunk_size,
                     double *times,
                     struct fault *f);

/* The same through the content caches of brokers, along the one tree of a plan:
 * 'nblobs' blobs, 'window' of which a rank asks for at a time. Of 'distinct'
 * contents only: equal blobs are stored once.
 */
int estimate_content (const struct plan *p,
                      const struct network *net,
                      double blob_size,
                      int nblobs,
                      int distinct,
                      int window,
                      double *times,
                      struct fault *f);
/* cffi end */

/* When each rank has a parent's greeting, and when data can come: both [n]. The
 * manifest goes from rank to rank in three messages, and a fourth asks for data.
 */
void estimate_begin (const struct plan *p,
                     const struct network *net,
                     const int32_t *depths,
                     double *connected,
                     double *begin);

#endif
