/* sum.c - the checksum of chunks and of lists of chunks: XXH3, 128 bits */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "sum.h"

struct sum sum_of (const void *data, size_t len)
{
    XXH128_hash_t h = XXH3_128bits (data, len);

    return (struct sum){ .lo = h.low64, .hi = h.high64 };
}
