/* plan_json.h - a plan as a jobspec carries it, and as a report says it
 *
 * The form is that of Python's Plan.to_dict ().
 */
#ifndef FLUX_TREE_PLAN_JSON_H
#define FLUX_TREE_PLAN_JSON_H

#include <jansson.h>

#include "fault.h"
#include "plan.h"

/* *strategy is malloced. */
struct plan *plan_from_json (json_t *o, char **strategy, struct fault *f);
/* NULL only if out of memory. */
json_t *plan_to_json (const struct plan *p, const char *strategy);

#endif
