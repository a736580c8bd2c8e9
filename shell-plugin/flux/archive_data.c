/* archive_data.c - the data of an archive's files: in the archive, or as a
 * vector of blobs
 */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "archive_impl.h"

static struct piece *add_piece (struct reader *r)
{
    struct archive *a = r->a;
    struct piece *p;

    if (a->npieces == r->pieces_max) {
        uint32_t max = r->pieces_max ? 2 * r->pieces_max : 64;

        if (max > PIECE_NONE / 2
            || !(p = realloc (a->pieces, max * sizeof (*p)))) {
            archive_fail (r, ENOMEM, "out of memory");
            return NULL;
        }
        a->pieces = p;
        r->pieces_max = max;
    }
    p = &a->pieces[a->npieces++];
    memset (p, 0, sizeof (*p));
    p->same = PIECE_NONE;
    return p;
}

static int add_segment (struct reader *r,
                        uint32_t entry,
                        uint64_t offset,
                        uint64_t length)
{
    if (manifest_add_segment (r->a->manifest, entry, offset, length) < 0)
        return archive_fail (r,
                             errno,
                             "%s",
                             errno == EOVERFLOW ? "is more than an archive can "
                                                  "hold"
                                                : strerror (errno));
    return 0;
}

/* A file whose data stands in the archive, which takes over 'data'. */
static int add_inline (struct reader *r,
                       uint32_t entry,
                       unsigned char *data,
                       size_t length,
                       int64_t size)
{
    struct manifest *m = r->a->manifest;
    struct piece *p;

    if (size >= 0 && (uint64_t)size != length) {
        free (data);
        return archive_fail (r,
                             EINVAL,
                             "has %zu bytes of data, but a size of %lld",
                             length,
                             (long long)size);
    }
    m->entries[entry].size = length;
    if (length == 0) {
        free (data);
        return 0;
    }
    if (!(p = add_piece (r))) {
        free (data);
        return -1;
    }
    p->offset = m->bytes;
    p->size = length;
    p->data = data;
    return add_segment (r, entry, 0, length);
}

static int add_text (struct reader *r, uint32_t entry, const json_t *data, int64_t size)
{
    size_t length = json_string_length (data);
    unsigned char *copy;

    if (!json_is_string (data))
        return archive_fail (r, EINVAL, "has data that is no text");
    if (!(copy = malloc (length + 1)))
        return archive_fail (r, ENOMEM, "out of memory");
    memcpy (copy, json_string_value (data), length);
    return add_inline (r, entry, copy, length, size);
}

static int add_json (struct reader *r, uint32_t entry, const json_t *data, int64_t size)
{
    char *text = json_dumps (data, JSON_ENCODE_ANY | JSON_COMPACT);

    if (!text)
        return archive_fail (r, EINVAL, "has data that cannot be written");
    return add_inline (r, entry, (unsigned char *)text, strlen (text), size);
}

static int add_base64 (struct reader *r, uint32_t entry, const json_t *data, int64_t size)
{
    static const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "abcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *text = json_string_value (data);
    size_t length = json_string_length (data);
    size_t ndigits = text ? strspn (text, digits) : 0;
    size_t padding = length - ndigits;
    unsigned char *copy;
    int n;

    if (!text || length % 4 != 0 || padding > 2 || length > INT_MAX
        || strncmp (text + ndigits, "==", padding))
        return archive_fail (r, EINVAL, "has data that is not base64");
    if (!(copy = malloc (length / 4 * 3 + 1)))
        return archive_fail (r, ENOMEM, "out of memory");
    if ((n = EVP_DecodeBlock (copy, (const unsigned char *)text, length)) < 0) {
        free (copy);
        return archive_fail (r, EINVAL, "has data that is not base64");
    }
    return add_inline (r, entry, copy, n - padding, size);
}

static int hex_digit (char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static int read_blobref (struct reader *r, const json_t *o, struct piece *p)
{
    const char *text = json_string_value (o);
    size_t size;

    if (text && !strncmp (text, "sha1-", 5)) {
        p->type = DIGEST_SHA1;
        text += 5;
    }
    else if (text && !strncmp (text, "sha256-", 7)) {
        p->type = DIGEST_SHA256;
        text += 7;
    }
    else
        return archive_fail (r, EINVAL, "names a blob that is neither sha1 nor sha256");
    size = digest_size (p->type);
    if (strlen (text) != 2 * size)
        return archive_fail (r, EINVAL, "names a blob that is not valid");
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit (text[2 * i]);
        int low = hex_digit (text[2 * i + 1]);

        if (high < 0 || low < 0)
            return archive_fail (r, EINVAL, "names a blob that is not valid");
        p->digest[i] = high << 4 | low;
    }
    return 0;
}

/* The blobs of one file; until they are in order, a piece's offset is the one
 * in the file.
 */
static int read_blobs (struct reader *r, const json_t *blobvec)
{
    size_t i;
    json_t *o;

    json_array_foreach (blobvec, i, o) {
        const json_t *offset = json_array_get (o, 0);
        const json_t *size = json_array_get (o, 1);
        struct piece *p;

        if (json_array_size (o) != 3 || !json_is_integer (offset)
            || !json_is_integer (size) || json_integer_value (offset) < 0
            || json_integer_value (size) <= 0
            || json_integer_value (size) > UINT32_MAX)
            return archive_fail (r, EINVAL, "has a blob that is not valid");
        if (!(p = add_piece (r)))
            return -1;
        p->offset = json_integer_value (offset);
        p->size = json_integer_value (size);
        if (read_blobref (r, json_array_get (o, 2), p) < 0)
            return -1;
    }
    return 0;
}

static int compare_offsets (const void *a, const void *b)
{
    const struct piece *p = a;
    const struct piece *q = b;

    return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static int add_blobvec (struct reader *r,
                        uint32_t entry,
                        const json_t *blobvec,
                        int64_t size)
{
    struct manifest *m = r->a->manifest;
    uint32_t first = r->a->npieces;
    uint64_t start = 0; /* of a run without holes */
    uint64_t end = 0;
    uint32_t n;

    if (!json_is_array (blobvec))
        return archive_fail (r, EINVAL, "has a blobvec that is no list");
    if (read_blobs (r, blobvec) < 0)
        return -1;
    if ((n = r->a->npieces - first) > 0)
        qsort (&r->a->pieces[first], n, sizeof (struct piece), compare_offsets);
    for (uint32_t i = 0; i < n; i++) {
        struct piece *p = &r->a->pieces[first + i];
        uint64_t offset = p->offset;

        if (offset < end)
            return archive_fail (r, EINVAL, "has blobs that overlap");
        if (offset > INT64_MAX - p->size
            || (size >= 0 && offset + p->size > (uint64_t)size))
            return archive_fail (r, EINVAL, "has a blob beyond its size");
        if (offset > end) {
            if (end > start && add_segment (r, entry, start, end - start) < 0)
                return -1;
            start = end = offset;
        }
        p->offset = m->bytes + (end - start);
        end += p->size;
    }
    if (end > start && add_segment (r, entry, start, end - start) < 0)
        return -1;
    m->entries[entry].size = size >= 0 ? (uint64_t)size : end;
    /* the store writes a file that stands in one chunk in one go, so one that
     * comes in several pieces must not
     */
    if (n > 1 && end <= m->chunk_size)
        m->chunk_size = end - 1;
    return 0;
}

int archive_read_data (struct reader *r,
                       uint32_t entry,
                       const json_t *o,
                       int64_t size)
{
    const json_t *data = json_object_get (o, "data");
    const json_t *encoding = json_object_get (o, "encoding");
    const char *name = json_string_value (encoding);

    if (!data || json_is_null (data)) {
        /* empty, or nothing but a hole */
        r->a->manifest->entries[entry].size = size >= 0 ? size : 0;
        return 0;
    }
    if (!encoding || json_is_null (encoding))
        return add_json (r, entry, data, size);
    if (name && !strcmp (name, "blobvec"))
        return add_blobvec (r, entry, data, size);
    if (name && !strcmp (name, "utf-8"))
        return add_text (r, entry, data, size);
    if (name && !strcmp (name, "base64"))
        return add_base64 (r, entry, data, size);
    return archive_fail (r,
                         EINVAL,
                         "has an unknown encoding, %.40s",
                         name ? name : "which is no name");
}
