/* fdcache.h - a bounded set of open files, by entry of the manifest */
#ifndef FLUX_TREE_FDCACHE_H
#define FLUX_TREE_FDCACHE_H

#include <stdint.h>

#define FDCACHE_SIZE 32

struct fdcache;

/* Opens 'entry'; returns a descriptor, or -1 with errno set. */
typedef int (*fdcache_open_f) (uint32_t entry, void *arg);

struct fdcache *fdcache_create (fdcache_open_f open_cb, void *arg);

/* A descriptor of 'entry', which stays open until fdcache_release. A thread
 * that holds one must not ask for another 'held' ones than FDCACHE_SIZE allows.
 */
int fdcache_acquire (struct fdcache *c, uint32_t entry);
void fdcache_release (struct fdcache *c, uint32_t entry);

void fdcache_destroy (struct fdcache *c);

#endif
