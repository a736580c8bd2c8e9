/* tree_check.h - sources to broadcast, and whether what came is the same */
#ifndef TREE_CHECK_H
#define TREE_CHECK_H

#include <stdbool.h>

/* A directory with everything that can travel: nested and empty directories,
 * files of many sizes around 'chunk', empty ones, files with holes, links, odd
 * modes, and names that are not UTF-8 or as long as can be.
 */
void make_tree (const char *dir, unsigned int chunk);

/* Types, modes, times, targets and contents are the same, and what has holes
 * in one takes no more room in the other. Prints the first difference.
 */
bool same_tree (const char *a, const char *b);

#endif
