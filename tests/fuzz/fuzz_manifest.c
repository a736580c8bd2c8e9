/* fuzz_manifest.c - whatever is accepted as a manifest stays in its place
 *
 * Input: an encoded manifest, as it comes from another host.
 */
#include <limits.h>
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"
#include "manifest.h"

/* a path longer than this is refused where it is made */
#define PATH_SIZE 4096

/* Said in other words than in the decoder. */
static void check_component (const char *s)
{
    size_t len = strlen (s);

    holds (len > 0 && len <= 255);
    holds (memchr (s, '/', len) == NULL);
    holds (!(len == 1 && s[0] == '.'));
    holds (!(len == 2 && s[0] == '.' && s[1] == '.'));
}

static void check_entry (const struct manifest *m, uint32_t i)
{
    const struct entry *e = &m->entries[i];

    holds (e->name < m->nstrings);
    holds (e->mtime_ns < 1000000000);
    holds (i == 0 ? e->parent == 0 : e->parent < i);
    holds (i == 0 || m->entries[e->parent].type == ENTRY_DIR);
    if (i > 0 || manifest_name (m, i)[0] != '\0')
        check_component (manifest_name (m, i));
    switch (e->type) {
        case ENTRY_FILE:
            holds ((e->mode & ~0777) == 0 && e->size <= INT64_MAX);
            holds (e->segments + e->nsegments <= m->nsegments);
            break;
        case ENTRY_DIR:
            holds ((e->mode & ~01777) == 0 && e->nsegments == 0);
            break;
        case ENTRY_LINK:
            holds (i > 0 && e->nsegments == 0 && (e->mode & ~0777) == 0);
            holds (e->target < m->nstrings && m->strings[e->target] != '\0');
            holds (strlen (m->strings + e->target) <= 4095);
            break;
        default:
            holds (!"an entry of a known type");
    }
}

/* Below the top, whatever the names are. */
static void check_path (const struct manifest *m, uint32_t i)
{
    char buf[PATH_SIZE];
    char *rest = buf;
    char *name;

    if (manifest_path (m, i, buf, sizeof (buf)) < 0)
        return;
    holds ((i == 0) == (buf[0] == '\0'));
    if (i == 0)
        return;
    while ((name = strsep (&rest, "/")))
        check_component (name);
}

/* The segments are the payload, end to end, and lie in their files in order. */
static void check_segments (const struct manifest *m)
{
    uint64_t at = 0;

    for (size_t i = 0; i < m->nsegments; i++) {
        const struct segment *s = &m->segments[i];
        const struct entry *e;

        holds (s->entry < m->nentries);
        e = &m->entries[s->entry];
        holds (e->type == ENTRY_FILE && i >= e->segments
               && i - e->segments < e->nsegments);
        holds (s->length > 0 && s->offset == at);
        holds (s->file_offset <= e->size
               && s->length <= e->size - s->file_offset);
        if (i > e->segments)
            holds (s->file_offset
                   >= m->segments[i - 1].file_offset + m->segments[i - 1].length);
        holds (s->length <= INT64_MAX - at);
        at += s->length;
        holds (manifest_find (m, s->offset) == i
               && manifest_find (m, at - 1) == i);
    }
    holds (at == m->bytes);
}

static bool is_same (const struct manifest *a, const struct manifest *b)
{
    return a->chunk_size == b->chunk_size && a->bytes == b->bytes
           && a->nentries == b->nentries && a->nsegments == b->nsegments
           && a->nstrings == b->nstrings
           && !memcmp (a->entries, b->entries, a->nentries * sizeof (*a->entries))
           && (a->nsegments == 0
               || !memcmp (a->segments,
                           b->segments,
                           a->nsegments * sizeof (*a->segments)))
           && !memcmp (a->strings, b->strings, a->nstrings);
}

/* Encoded and read again it is the same. It may be shorter than what came, as
 * a file without holes can be said in two ways.
 */
static void check_encoding (const struct manifest *m, const uint8_t *data, size_t size)
{
    struct manifest *again;
    unsigned char *encoded;
    struct fault f;
    size_t n;

    holds ((encoded = manifest_encode (m, &n, &f)));
    holds (n <= size);
    holds (n < size || !memcmp (encoded, data, n));
    holds ((again = manifest_decode (encoded, n, &f)));
    holds (is_same (m, again));
    manifest_destroy (again);
    free (encoded);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    struct fault f = { 0 };
    struct manifest *m;

    if (!(m = manifest_decode (data, size, &f))) {
        holds (f.errnum != 0 && f.text[0] != '\0');
        return 0;
    }
    holds (m->nentries > 0 && m->nentries <= size);
    holds (m->chunk_size >= CHUNK_SIZE_MIN && m->chunk_size <= CHUNK_SIZE_MAX);
    for (uint32_t i = 0; i < m->nentries; i++) {
        check_entry (m, i);
        check_path (m, i);
    }
    check_segments (m);
    check_encoding (m, data, size);
    manifest_destroy (m);
    return 0;
}
