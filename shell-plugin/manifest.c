/* manifest.c - the table of a payload's entries and segments */
#include "manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct manifest *manifest_create (void)
{
    return calloc (1, sizeof (struct manifest));
}

void manifest_destroy (struct manifest *m)
{
    if (m) {
        int saved_errno = errno;
        free (m->entries);
        free (m->segments);
        free (m->strings);
        free (m);
        errno = saved_errno;
    }
}

static int grow (void *array, size_t *max, size_t need, size_t size)
{
    void **p = array;
    void *new;
    size_t n = *max ? *max : 64;

    if (need <= *max)
        return 0;
    while (n < need)
        n *= 2;
    if (!(new = realloc (*p, n * size)))
        return -1;
    *p = new;
    *max = n;
    return 0;
}

int64_t manifest_add_entry (struct manifest *m, const struct entry *e)
{
    if (m->nentries >= UINT32_MAX) {
        errno = EOVERFLOW;
        return -1;
    }
    if (grow (&m->entries, &m->entries_max, m->nentries + 1, sizeof (*e)) < 0)
        return -1;
    m->entries[m->nentries] = *e;
    m->entries[m->nentries].segments = m->nsegments;
    m->entries[m->nentries].nsegments = 0;
    return m->nentries++;
}

int64_t manifest_add_string (struct manifest *m, const char *s, size_t len)
{
    size_t at = m->nstrings;

    if (grow (&m->strings, &m->strings_max, at + len + 1, 1) < 0)
        return -1;
    memcpy (m->strings + at, s, len);
    m->strings[at + len] = '\0';
    m->nstrings += len + 1;
    return at;
}

int manifest_add_segment (struct manifest *m,
                          uint32_t entry,
                          uint64_t file_offset,
                          uint64_t length)
{
    struct segment *s;

    if (length > INT64_MAX - m->bytes
        || m->entries[entry].nsegments == UINT32_MAX) {
        errno = EOVERFLOW;
        return -1;
    }
    if (grow (&m->segments,
              &m->segments_max,
              m->nsegments + 1,
              sizeof (*s)) < 0)
        return -1;
    s = &m->segments[m->nsegments++];
    s->offset = m->bytes;
    s->file_offset = file_offset;
    s->length = length;
    s->entry = entry;
    m->entries[entry].nsegments++;
    m->bytes += length;
    return 0;
}

bool manifest_is_component (const char *s)
{
    return *s && strlen (s) <= MANIFEST_NAME_MAX && strcmp (s, ".") && strcmp (s, "..")
           && !strchr (s, '/');
}

int manifest_path (const struct manifest *m,
                   uint32_t entry,
                   char *buf,
                   size_t size)
{
    size_t at = size;

    /* built from the end, as each entry knows only its parent */
    buf[--at] = '\0';
    while (entry != 0) {
        const char *name = manifest_name (m, entry);
        size_t len = strlen (name);

        if (len + 1 > at) {
            errno = ENAMETOOLONG;
            return -1;
        }
        if (buf[at] != '\0')
            buf[--at] = '/';
        at -= len;
        memcpy (buf + at, name, len);
        entry = m->entries[entry].parent;
    }
    memmove (buf, buf + at, size - at);
    return 0;
}

size_t manifest_find (const struct manifest *m, uint64_t offset)
{
    size_t low = 0;
    size_t high = m->nsegments;

    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;

        if (m->segments[mid].offset <= offset)
            low = mid;
        else
            high = mid;
    }
    return low;
}
