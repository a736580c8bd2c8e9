/* sum.h - the checksum of chunks and of lists of chunks: XXH3, 128 bits
 *
 * It guards against accidents (a flipped bit, a chunk in the wrong place), not
 * against an attacker: that is the business of TLS.
 */
#ifndef FLUX_TREE_SUM_H
#define FLUX_TREE_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sum {
    uint64_t lo;
    uint64_t hi;
};

struct sum sum_of (const void *data, size_t len);

static inline bool sum_equal (struct sum a, struct sum b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#endif
