/* groups.h - which hosts stand together, behind one uplink: racks
 *
 * By their names alone. Groups are numbered from 0 on, in the order in which the
 * hosts show them.
 */
#ifndef FLUX_TREE_GROUPS_H
#define FLUX_TREE_GROUPS_H

#include <stdint.h>

#include "fault.h"

/* cffi begin */
/* Fill in 'groups' [n] of 'hosts' [n]: the group of a host is what the first
 * parenthesis of 'pattern', a POSIX extended regular expression, matches in its
 * name, or the whole match if there is none.
 */
int groups_by_pattern (const char *const *hosts,
                       int n,
                       const char *pattern,
                       int32_t *groups,
                       struct fault *f);

/* The same from a file: lines with a host, or a list such as node[0-15,20], and
 * its group; '#' begins a comment.
 */
int groups_by_file (const char *const *hosts,
                    int n,
                    const char *path,
                    int32_t *groups,
                    struct fault *f);

/* 'spec' is a file if it has a '/' in it or there is one of that name; else a
 * pattern.
 */
int groups_find (const char *spec,
                 const char *const *hosts,
                 int n,
                 int32_t *groups,
                 struct fault *f);

/* Number what has a name for each rank: 'names' [n], of which none is NULL. */
int groups_number (const char *const *names, int n, int32_t *groups, struct fault *f);
/* cffi end */

#endif
