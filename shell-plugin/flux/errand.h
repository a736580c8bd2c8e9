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
/* Processor time that it has had so far, seconds: as long as the work is at
 * work, it grows. -1 if that cannot be known, as the work has just ended.
 */
double errand_cpu (struct errand *e);
/* Waits for the work to end; 'done' is not called any more. */
void errand_destroy (struct errand *e);

#endif
