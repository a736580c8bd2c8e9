/* network_json.h - the numbers of a network as a file has them
 *
 * The form is that of Python's Network.to_dict (), version 1.
 */
#ifndef FLUX_TREE_NETWORK_JSON_H
#define FLUX_TREE_NETWORK_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "fault.h"
#include "network.h"

/* Typical numbers, but for the bandwidth. */
void network_init (struct network *net, double bandwidth);

/* For 'n' ranks: numbers of single ranks that there are not, and groups of
 * another number of ranks, are left out. 'bandwidth' takes the place of that of
 * the file, if it is not 0. 'what' names it in messages. Each of these leaves
 * *net as it was if it fails; else free it with network_finish ().
 */
int network_from_json (struct network *net,
                       json_t *o,
                       int n,
                       double bandwidth,
                       const char *what,
                       struct fault *f);
/* 1 if there is nothing to be known. Unless 'as_it_is', what was measured on one
 * machine and holds for one only is left out. -1 with errno = ENOENT if there is
 * no such file.
 */
int network_load (struct network *net,
                  const char *path,
                  int n,
                  double bandwidth,
                  bool as_it_is,
                  struct fault *f);

void network_finish (struct network *net);

/* The group of each of 'n' ranks from a list of numbers or names. */
int network_groups (int32_t *groups, json_t *list, int n, const char *what, struct fault *f);

/* cffi begin */
/* As network_from_json (), from a text. */
int network_parse (struct network *net,
                   const char *json,
                   int n,
                   double bandwidth,
                   struct fault *f);
/* cffi end */

#endif
