/* errand.h - something that may take long, in a thread of its own, so that the
 * reactor goes on meanwhile
 */
#ifndef FLUX_TREE_ERRAND_H
#define FLUX_TREE_ERRAND_H

#include <flux/core.h>

#include "fault.h"

struct errand;

typedef int (*errand_work_f) (void *arg, struct fault *f);
/* Called in the reactor, with what the work returned. It may destroy the
 * errand.
 */
typedef void (*errand_done_f) (int rc, const struct fault *f, void *arg);

struct errand *errand_start (flux_reactor_t *r,
                             errand_work_f work,
                             errand_done_f done,
                             void *arg);
/* Waits for the work to end; 'done' is not called any more. */
void errand_destroy (struct errand *e);

#endif
