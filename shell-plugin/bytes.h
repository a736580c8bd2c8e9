/* bytes.h - little-endian numbers at any address */
#ifndef FLUX_TREE_BYTES_H
#define FLUX_TREE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void put16 (unsigned char *p, uint16_t v)
{
    v = htole16 (v);
    memcpy (p, &v, sizeof (v));
}

static inline void put32 (unsigned char *p, uint32_t v)
{
    v = htole32 (v);
    memcpy (p, &v, sizeof (v));
}

static inline void put64 (unsigned char *p, uint64_t v)
{
    v = htole64 (v);
    memcpy (p, &v, sizeof (v));
}

static inline uint16_t get16 (const unsigned char *p)
{
    uint16_t v;

    memcpy (&v, p, sizeof (v));
    return le16toh (v);
}

static inline uint32_t get32 (const unsigned char *p)
{
    uint32_t v;

    memcpy (&v, p, sizeof (v));
    return le32toh (v);
}

static inline uint64_t get64 (const unsigned char *p)
{
    uint64_t v;

    memcpy (&v, p, sizeof (v));
    return le64toh (v);
}

#endif
