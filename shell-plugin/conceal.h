/* conceal.h - keep a process that has a key out of reach
 */
#ifndef FLUX_TREE_CONCEAL_H
#define FLUX_TREE_CONCEAL_H

/* cffi begin */
/* From now on this process, and what it forks, leaves no core file, and no
 * other process of the same user can read its memory. A program that it
 * executes begins anew. Returns -1 with errno set.
 */
int conceal (void);
/* cffi end */

#endif
