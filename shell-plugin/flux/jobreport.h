/* jobreport.h - where the report of a broadcast goes */
#ifndef FLUX_TREE_JOBREPORT_H
#define FLUX_TREE_JOBREPORT_H

#include "bcast.h"

/* Into the job's KVS, as "tree-bcast", and one line into its eventlog. */
flux_future_t *jobreport_commit (struct bcast *b, json_t *report);

/* Into the file that the options name; says so if it cannot. */
void jobreport_write (struct bcast *b, json_t *report);

#endif
