/* fuzz.h - what the fuzz targets share
 *
 * A target is a function that libFuzzer, or replay.c, calls with some bytes.
 * What has to hold whatever they are is checked with holds ().
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program in a way that libFuzzer sees as a finding. */
#define holds(cond)                                                            \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf (stderr, "%s:%d: does not hold: %s\n",                     \
                     __FILE__, __LINE__, #cond);                               \
            abort ();                                                          \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#endif
