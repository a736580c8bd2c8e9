/* jobtopo.h - the TBON as the shells of a job stand in it */
#ifndef FLUX_TREE_JOBTOPO_H
#define FLUX_TREE_JOBTOPO_H

#include <stdint.h>

#include "bcast.h"

/* The parents of the shells: of each the nearest broker above its own that has
 * a shell too; the first shell is the root, and whoever has nobody above it is
 * its child. malloced, or NULL.
 */
int32_t *jobtopo_create (struct bcast *b, struct fault *f);

#endif
