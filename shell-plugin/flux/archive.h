/* archive.h - what an archive of Flux consists of (RFC 37)
 *
 * An archive is a JSON array in the KVS key archive.NAME, of one object a file,
 * directory or link. It becomes a manifest whose top has no name, since an
 * archive holds several names and goes into a directory, and a table of the
 * pieces that its payload comes in: what stands in the archive itself, and the
 * blobs in the content store that it names.
 */
#ifndef FLUX_TREE_ARCHIVE_H
#define FLUX_TREE_ARCHIVE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "manifest.h"

#define DIGEST_SIZE_MAX 32
#define BLOBREF_SIZE_MAX (8 + 2 * DIGEST_SIZE_MAX)

enum digest_type {
    DIGEST_NONE = 0, /* the data stands in the archive */
    DIGEST_SHA1 = 1,
    DIGEST_SHA256 = 2,
};

/* A run of the payload, all of it in one segment. */
struct piece {
    uint64_t offset;         /* in the payload */
    uint64_t size;           /* never 0 */
    enum digest_type type;
    unsigned char digest[DIGEST_SIZE_MAX];
    unsigned char *data;     /* if it stands in the archive */
    uint32_t same;           /* index of the next piece with the same digest
                              * and size, or PIECE_NONE */
    uint8_t again;           /* an earlier piece has the same */
    uint8_t tries;           /* for whoever loads it */
};

#define PIECE_NONE UINT32_MAX

struct archive {
    struct manifest *manifest; /* chunk_size: what the store needs */
    struct piece *pieces;      /* in the order of the payload, which they fill */
    uint32_t npieces;
};

/* 'entries' is the JSON array, which is not needed afterwards. Returns NULL
 * with the entry and the reason in 'f' if anything in it is not as it should
 * be.
 */
struct archive *archive_create (const json_t *entries, struct fault *f);
void archive_destroy (struct archive *a);

/* The array from the value of the KVS key, which flux_kvs_lookup_get_unpack
 * refuses if a small file in it has a 0 among its text.
 */
json_t *archive_load (const char *text, struct fault *f);

size_t digest_size (enum digest_type type);
/* "sha1-..." */
void piece_name (const struct piece *p, char buf[BLOBREF_SIZE_MAX]);
/* Where a piece stands, for messages: "sub/file, offset 0". Returns 'buf'. */
const char *piece_place (const struct archive *a,
                         const struct piece *p,
                         char buf[FAULT_PATH_SIZE + 32]);
/* 1 if 'data', of the size that the piece has, is what its digest says, 0 if
 * not, -1 with errno set if that cannot be found out.
 */
int piece_check (const struct piece *p, const void *data);

#endif
