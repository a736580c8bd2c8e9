/* dest.h - where a destination leads to
 *
 * A destination means what it means to cp: an existing directory receives the
 * payload under its own name, anything else is the new name.
 */
#ifndef FLUX_TREE_DEST_H
#define FLUX_TREE_DEST_H

#include <stdbool.h>

#include "fault.h"

/* The directory that 'dest' leads to, opened, and the last component of its
 * final name, malloced in *lastp. 'name' is the payload's own, 'is_dir' what it
 * is. If it has none, *lastp is empty where 'dest' is a directory: the payload is
 * what that holds. Returns -1 with errno set.
 */
int dest_resolve (const char *dest,
                  const char *name,
                  bool is_dir,
                  char **lastp,
                  struct fault *f);

/* Is what 'dest' leads to the source itself? Returns 1 if so, 0 if not, and -1
 * with the reason if a copy there would end up inside the source, or would
 * remove it.
 */
int dest_is_source (const char *dest,
                    const char *name,
                    const char *source,
                    bool overwrite,
                    struct fault *f);

#endif
