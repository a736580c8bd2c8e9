/* pull.h - a source in a registry: a Python of flux-tree pulls it
 *
 * Names, logins and manifests of registries are a matter of Python libraries. One
 * process, at the first shell only, hands on what it gets, in frames (feed.h).
 */
#ifndef FLUX_TREE_PULL_H
#define FLUX_TREE_PULL_H

#include <stdbool.h>

#include "bcast.h"

struct pull;

/* Does 'file' name something in a registry? */
bool pull_is_reference (const char *file);

/* Start to pull options->file. */
struct pull *pull_start (struct bcast *b, struct fault *f);
/* Wait for the manifest, malloced, which says what will come. Any thread may do
 * so. -1 with the reason if it cannot be had.
 */
int pull_manifest (struct pull *p, unsigned char **manifest, size_t *size, struct fault *f);
/* Where the rest comes, for a node: the caller has to close it. */
int pull_take_fd (struct pull *p);
/* End the process, whatever it does: whoever waits for a manifest has none. */
void pull_stop (struct pull *p);
void pull_destroy (struct pull *p);

#endif
