/* archive_impl.h - what the files of the archive's reader share */
#ifndef FLUX_TREE_ARCHIVE_IMPL_H
#define FLUX_TREE_ARCHIVE_IMPL_H

#include "archive.h"

struct reader {
    struct archive *a;
    uint32_t pieces_max;
    json_t *paths;     /* index of each path's entry */
    int64_t newest;    /* mtime */
    size_t index;      /* of the entry that is read, and its path */
    const char *path;
    struct fault *f;
};

/* The entry that is read is not valid. Always returns -1. */
int archive_fail (struct reader *r, int errnum, const char *fmt, ...)
    __attribute__ ((format (printf, 3, 4)));

/* archive_data.c: segments and pieces of a file. 'size' is -1 if none is given,
 * which is then what its data comes to.
 */
int archive_read_data (struct reader *r,
                       uint32_t entry,
                       const json_t *o,
                       int64_t size);
/* Link pieces that have the same contents. */
int archive_find_same (struct archive *a);

#endif
