/* manifest.h - what a payload consists of: names, modes, times, and where the
 * data of each file stands in the stream of chunks
 *
 * The data of all files, holes left out, laid end to end, is the payload.
 * Chunk c is its bytes [c * chunk_size, (c + 1) * chunk_size). An entry names
 * its directory by index, never by path, so that no manifest can lead out of
 * the destination: a name is a single component, and a parent is a directory
 * that stands earlier in the list.
 */
#ifndef FLUX_TREE_MANIFEST_H
#define FLUX_TREE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"

enum entry_type {
    ENTRY_FILE = 1,
    ENTRY_DIR = 2,
    ENTRY_LINK = 3,
};

struct entry {
    uint8_t type;
    uint16_t mode;      /* permission bits */
    uint32_t mtime_ns;
    int64_t mtime;      /* seconds since the epoch */
    uint64_t size;      /* of a file, holes included */
    uint64_t segments;  /* index of the first of its segments */
    uint32_t nsegments;
    uint32_t parent;    /* index of its directory; entry 0 has none */
    uint64_t name;      /* offset into strings */
    uint64_t target;    /* of a link: offset into strings */
};

/* A run of a file's data that is contiguous in the file and in the payload. */
struct segment {
    uint64_t offset;      /* in the payload */
    uint64_t file_offset;
    uint64_t length;      /* never 0 */
    uint32_t entry;
};

struct manifest {
    struct entry *entries;
    size_t nentries, entries_max;
    struct segment *segments;
    size_t nsegments, segments_max;
    char *strings;
    size_t nstrings, strings_max;
    uint64_t bytes;      /* of the payload */
    uint32_t chunk_size;
};

/* Limits of the encoded form, checked when it is read. */
#define MANIFEST_BYTES_MAX (2ULL << 30)
#define MANIFEST_NAME_MAX 255
#define MANIFEST_TARGET_MAX 4095
#define CHUNK_SIZE_MIN 4096
#define CHUNK_SIZE_MAX (16 << 20)

/* Walk 'path'. The chunk size is set by the caller afterwards. */
struct manifest *manifest_scan (const char *path, struct fault *f);

/* The encoded form, malloced; *size its length. */
unsigned char *manifest_encode (const struct manifest *m,
                                size_t *size,
                                struct fault *f);
struct manifest *manifest_decode (const unsigned char *data,
                                  size_t size,
                                  struct fault *f);

void manifest_destroy (struct manifest *m);

/* A single component that names something inside its directory? */
bool manifest_is_component (const char *s);

/* Path of an entry below the top, "" for the top itself.
 * Returns 0, or -1 with errno = ENAMETOOLONG.
 */
int manifest_path (const struct manifest *m,
                   uint32_t entry,
                   char *buf,
                   size_t size);

/* Index of the segment that holds payload byte 'offset' (which must be below
 * m->bytes).
 */
size_t manifest_find (const struct manifest *m, uint64_t offset);

static inline const char *manifest_name (const struct manifest *m,
                                         uint32_t entry)
{
    return m->strings + m->entries[entry].name;
}

/* Building blocks, shared by the walk and the decoder. Return an index, or -1
 * with errno set.
 */
int64_t manifest_add_entry (struct manifest *m, const struct entry *e);
int64_t manifest_add_string (struct manifest *m, const char *s, size_t len);
int manifest_add_segment (struct manifest *m,
                          uint32_t entry,
                          uint64_t file_offset,
                          uint64_t length);
struct manifest *manifest_create (void);

#endif
