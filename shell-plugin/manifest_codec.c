/* manifest_codec.c - the manifest as it travels, and the checks on what came
 *
 * The layout stands in docs/protocol.md. What is decoded came from another
 * host: every length, index and name is checked before it is used.
 */
#include "manifest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

#define MAGIC 0x314d5446 /* "FTM1" */
#define HEAD_SIZE 24
#define ENTRY_SIZE 21
/* segment count of a file without holes, whose one segment goes unsaid */
#define DENSE 0xffffffffu

static bool is_dense (const struct manifest *m, const struct entry *e)
{
    return e->nsegments == 1 && m->segments[e->segments].file_offset == 0
           && m->segments[e->segments].length == e->size;
}

static size_t entry_size (const struct manifest *m, const struct entry *e)
{
    size_t size = ENTRY_SIZE + strlen (m->strings + e->name);

    if (e->type == ENTRY_FILE)
        size += 12 + (is_dense (m, e) ? 0 : (size_t)e->nsegments * 16);
    else if (e->type == ENTRY_LINK)
        size += 2 + strlen (m->strings + e->target);
    return size;
}

static unsigned char *put_string (unsigned char *p, const char *s)
{
    size_t len = strlen (s);

    put16 (p, len);
    memcpy (p + 2, s, len);
    return p + 2 + len;
}

static unsigned char *put_entry (unsigned char *p,
                                 const struct manifest *m,
                                 const struct entry *e)
{
    *p = e->type;
    put16 (p + 1, e->mode);
    put32 (p + 3, e->parent);
    put64 (p + 7, e->mtime);
    put32 (p + 15, e->mtime_ns);
    p = put_string (p + 19, m->strings + e->name);
    if (e->type == ENTRY_LINK)
        return put_string (p, m->strings + e->target);
    if (e->type == ENTRY_DIR)
        return p;
    put64 (p, e->size);
    put32 (p + 8, is_dense (m, e) ? DENSE : e->nsegments);
    p += 12;
    if (!is_dense (m, e)) {
        for (uint32_t i = 0; i < e->nsegments; i++) {
            put64 (p, m->segments[e->segments + i].file_offset);
            put64 (p + 8, m->segments[e->segments + i].length);
            p += 16;
        }
    }
    return p;
}

unsigned char *manifest_encode (const struct manifest *m,
                                size_t *size,
                                struct fault *f)
{
    unsigned char *data;
    unsigned char *p;
    size_t need = HEAD_SIZE;

    for (size_t i = 0; i < m->nentries; i++)
        need += entry_size (m, &m->entries[i]);
    if (need > MANIFEST_BYTES_MAX) {
        fault_set (f, EFBIG, -1, "the source has too many files for one "
                                 "broadcast: split it, or pack it in an archive");
        return NULL;
    }
    if (!(data = malloc (need))) {
        fault_set (f, ENOMEM, -1, "out of memory for the manifest");
        return NULL;
    }
    put32 (data, MAGIC);
    put32 (data + 4, m->chunk_size);
    put64 (data + 8, m->nentries);
    put64 (data + 16, m->bytes);
    p = data + HEAD_SIZE;
    for (size_t i = 0; i < m->nentries; i++)
        p = put_entry (p, m, &m->entries[i]);
    *size = need;
    return data;
}

/* What is left to decode. */
struct reader {
    const unsigned char *p;
    size_t left;
};

static const unsigned char *take (struct reader *r, size_t n)
{
    const unsigned char *p = r->p;

    if (r->left < n) {
        errno = EPROTO;
        return NULL;
    }
    r->p += n;
    r->left -= n;
    return p;
}

static int64_t take_string (struct reader *r, struct manifest *m, size_t max)
{
    const unsigned char *p;
    size_t len;

    if (!(p = take (r, 2)))
        return -1;
    len = get16 (p);
    if (len > max || !(p = take (r, len)) || memchr (p, 0, len)) {
        errno = EPROTO;
        return -1;
    }
    return manifest_add_string (m, (const char *)p, len);
}

/* A directory at the top may do without: it is what goes into another one. */
static bool is_name (const char *s, int64_t index, int type)
{
    return manifest_is_component (s) || (!*s && index == 0 && type == ENTRY_DIR);
}

static int take_segments (struct reader *r,
                          struct manifest *m,
                          uint32_t index,
                          uint64_t size)
{
    const unsigned char *p;
    uint32_t count;
    uint64_t end = 0;

    if (!(p = take (r, 4)))
        return -1;
    count = get32 (p);
    if (count == DENSE) {
        if (size == 0) {
            errno = EPROTO;
            return -1;
        }
        return manifest_add_segment (m, index, 0, size);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset;
        uint64_t length;

        if (!(p = take (r, 16)))
            return -1;
        offset = get64 (p);
        length = get64 (p + 8);
        if (length == 0 || offset < end || offset > size
            || length > size - offset) {
            errno = EPROTO;
            return -1;
        }
        end = offset + length;
        if (manifest_add_segment (m, index, offset, length) < 0)
            return -1;
    }
    return 0;
}

static int take_entry (struct reader *r, struct manifest *m)
{
    struct entry e = { 0 };
    const unsigned char *p;
    int64_t index = m->nentries;
    int64_t at;

    if (!(p = take (r, ENTRY_SIZE - 2)))
        return -1;
    e.type = p[0];
    e.mode = get16 (p + 1);
    e.parent = get32 (p + 3);
    e.mtime = get64 (p + 7);
    e.mtime_ns = get32 (p + 15);
    if ((at = take_string (r, m, MANIFEST_NAME_MAX)) < 0)
        return -1;
    e.name = at;
    if (!is_name (m->strings + at, index, e.type) || e.mtime_ns > 999999999
        || e.mode & ~(e.type == ENTRY_DIR ? 01777 : 0777)
        || (index == 0 ? e.parent != 0 || e.type == ENTRY_LINK
                       : e.parent >= index
                             || m->entries[e.parent].type != ENTRY_DIR))
        goto invalid;
    switch (e.type) {
        case ENTRY_DIR:
            break;
        case ENTRY_LINK:
            if ((at = take_string (r, m, MANIFEST_TARGET_MAX)) < 0)
                return -1;
            if (m->strings[at] == '\0')
                goto invalid;
            e.target = at;
            break;
        case ENTRY_FILE:
            if (!(p = take (r, 8)))
                return -1;
            e.size = get64 (p);
            if (e.size > INT64_MAX)
                goto invalid;
            break;
        default:
            goto invalid;
    }
    if (manifest_add_entry (m, &e) < 0)
        return -1;
    if (e.type == ENTRY_FILE)
        return take_segments (r, m, index, e.size);
    return 0;
invalid:
    errno = EPROTO;
    return -1;
}

struct manifest *manifest_decode (const unsigned char *data,
                                  size_t size,
                                  struct fault *f)
{
    struct reader r = { .p = data, .left = size };
    struct manifest *m;
    const unsigned char *p;
    uint64_t nentries;
    uint64_t bytes;

    if (!(m = manifest_create ()))
        goto error;
    if (!(p = take (&r, HEAD_SIZE)))
        goto error;
    m->chunk_size = get32 (p + 4);
    nentries = get64 (p + 8);
    bytes = get64 (p + 16);
    if (get32 (p) != MAGIC || nentries == 0 || nentries > size / ENTRY_SIZE
        || m->chunk_size < CHUNK_SIZE_MIN || m->chunk_size > CHUNK_SIZE_MAX) {
        errno = EPROTO;
        goto error;
    }
    for (uint64_t i = 0; i < nentries; i++) {
        if (take_entry (&r, m) < 0)
            goto error;
    }
    if (m->bytes != bytes || r.left > 0
        || (m->nentries > 1 && m->entries[0].type != ENTRY_DIR)) {
        errno = EPROTO;
        goto error;
    }
    return m;
error:
    if (errno == EPROTO)
        fault_set (f, EPROTO, -1, "the manifest that was received is not valid");
    else
        fault_set (f, errno, -1, "manifest: %s", strerror (errno));
    manifest_destroy (m);
    return NULL;
}
