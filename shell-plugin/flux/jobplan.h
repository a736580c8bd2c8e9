/* jobplan.h - the plan of a job's broadcast */
#ifndef FLUX_TREE_JOBPLAN_H
#define FLUX_TREE_JOBPLAN_H

#include "bcast.h"

/* As the options say: made at submission, or by a built-in strategy. Takes over
 * the plan of the options, if there is one.
 */
struct plan *jobplan_create (struct bcast *b, struct fault *f);

#endif
