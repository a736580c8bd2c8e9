/* choose.h - the strategy that should be fastest on a network */
#ifndef FLUX_TREE_CHOOSE_H
#define FLUX_TREE_CHOOSE_H

#include <stdint.h>

#include "fault.h"
#include "network.h"
#include "plan.h"

/* cffi begin */
enum {
    /* 1 Gbit/s in bytes per second, where nobody knows: as plan_chunk_size () */
    CHOOSE_BANDWIDTH = 125000000,
};

struct choice {
    const char *spec;    /* of the strategy; static */
    struct plan *plan;
    uint32_t chunk_size; /* bytes */
    double seconds;      /* until the slowest rank has all, as estimated */
    double limit;        /* bytes / bandwidth, seconds */
    char why[160];       /* one line for people: the time, and the next best */
};

/* Refuse a 'spec' that is neither "auto" nor a built-in strategy: as shape_check (). */
int choose_check (const char *spec, struct fault *f);

/* Choose the plan, for 'n' ranks and 'bytes' of payload, that takes least by
 * estimate_direct (). 'members' is as in shape_plan (); where the network has
 * groups, a plan that knows them is among those that are tried. 'chunk_size' is
 * that of all of them, or 0: the best one is taken. What differs by less than 2 %
 * is equal, and fewer trees are better then.
 */
int choose_plan (const struct network *net,
                 int n,
                 const uint8_t *members,
                 double bytes,
                 uint32_t chunk_size,
                 struct choice *out,
                 struct fault *f);
void choice_finish (struct choice *c);
/* cffi end */

#endif
