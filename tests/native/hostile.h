/* hostile.h - a root, a rank that gets the payload from it, and room for those
 * that mean harm
 */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cluster.h"

#define HOSTILE_CHUNK 8192
/* memory: the allocators of the sanitizers take it by the megabyte */
#define HOSTILE_GROWTH_MAX (16 << 20)

/* The root and rank 1, which are to be started; rank 2 is the test's. */
struct cluster *hostile_root (const char *dir, int encrypt);
/* The transfer beside it ends, and is right. */
void hostile_finish (struct cluster *c);

/* Connections that the root has turned away. */
uint64_t hostile_refused (struct cluster *c);
/* It comes to this: the root counts what it turns away after it did so. */
bool hostile_is_refused (struct cluster *c, uint64_t n);

/* Connect to the root. */
int hostile_dial (struct cluster *c);
/* All that the root says until it hangs up: bytes, or -1 if it does not. */
ssize_t hostile_hear_out (int fd);

/* Memory of this process that is in use, bytes. */
size_t hostile_memory (void);

#endif
