/* jobplan.h - the plan of a job's broadcast */
#ifndef FLUX_TREE_JOBPLAN_H
#define FLUX_TREE_JOBPLAN_H

#include "bcast.h"
#include "choose.h"

/* As the options say: made at submission, by a built-in strategy, or by the one
 * that is best for 'bytes' of payload. Takes over the plan of the options, if
 * there is one. *choice says what laid it out, until the options are destroyed;
 * and, if that was chosen here, why, and with which chunk size, which is 0
 * otherwise. The plan is not in it.
 */
struct plan *jobplan_create (struct bcast *b,
                             double bytes,
                             struct choice *choice,
                             struct fault *f);

/* Of one NIC, as somebody said, bytes per second, or 0. */
double jobplan_bandwidth (struct bcast *b);

#endif
