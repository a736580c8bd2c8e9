/* fdcache.h - a bounded set of open files, by entry of the manifest */
#ifndef FLUX_TREE_FDCACHE_H
#define FLUX_TREE_FDCACHE_H

#include <stdint.h>

#define FDCACHE_SIZE 32

struct fdcache;

/* Opens 'entry'; returns a descriptor, or -1 with errno set. */
typedef int (*fdcache_open_f) (uint32_t entry, void *arg);

struct fdcache *fdcache_create (fdcache_open_f open_cb, void *arg);

/* A descriptor of 'entry', which stays open until fdcache_release. At most
 * FDCACHE_SIZE may be held at once, by all threads together: errno = EMFILE.
 */
int fdcache_acquire (struct fdcache *c, uint32_t entry);
void fdcache_release (struct fdcache *c, uint32_t entry);

/* Whether every file so far could be closed without an error: network file
 * systems say only then that they had no room.
 */
int fdcache_check (struct fdcache *c);

void fdcache_destroy (struct fdcache *c);

#endif
