/* value.h - sizes, rates, times and lists of ranks as people write them
 *
 * The same texts as in flux_tree.units, with the same meaning.
 */
#ifndef FLUX_TREE_VALUE_H
#define FLUX_TREE_VALUE_H

#include <stddef.h>
#include <stdint.h>

/* "256MiB", "1.5GB", "64K", "4096". Returns -1 if it is no size. */
int value_bytes (const char *text, uint64_t *bytes);

/* "10Gbit/s", "1.2GB/s", "900000": bytes per second. Returns -1 if it is no
 * rate.
 */
int value_rate (const char *text, double *rate);

/* "50us", "1.5s", "2m", "60". Returns -1 if it is no time. */
int value_seconds (const char *text, double *seconds);

/* "0-3,5", in brackets or not: sets flags[rank] of 'size' to 1. 'flags' may be
 * NULL. Returns -1 if it is no list, or names a rank that there is not.
 */
int value_idset (const char *text, int size, uint8_t *flags);

/* Twice as many hexadecimal digits as there are bytes, and nothing else. */
int value_hex (const char *text, unsigned char *bytes, size_t size);

#endif
