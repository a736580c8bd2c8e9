/* payload.c - manifests for those who start nodes */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "bytes.h"
#include "manifest.h"
#include "node.h"

#define CHUNK_SIZE_OFFSET 4 /* in an encoded manifest */

unsigned char *node_scan (const char *source, size_t *size, struct fault *f)
{
    struct manifest *m;
    unsigned char *data;

    if (!(m = manifest_scan (source, f)))
        return NULL;
    m->chunk_size = 1 << 20;
    data = manifest_encode (m, size, f);
    manifest_destroy (m);
    return data;
}

int node_summarize (const unsigned char *manifest,
                    size_t size,
                    struct node_summary *s,
                    struct fault *f)
{
    struct manifest *m;

    if (!(m = manifest_decode (manifest, size, f)))
        return -1;
    s->bytes = m->bytes;
    s->entries = m->nentries;
    s->files = 0;
    for (size_t i = 0; i < m->nentries; i++)
        s->files += m->entries[i].type == ENTRY_FILE;
    s->chunk_size = m->chunk_size;
    snprintf (s->name, sizeof (s->name), "%s", manifest_name (m, 0));
    manifest_destroy (m);
    return 0;
}

int node_set_chunk_size (unsigned char *manifest,
                         size_t size,
                         uint32_t chunk_size,
                         struct fault *f)
{
    if (size < CHUNK_SIZE_OFFSET + 4 || chunk_size < CHUNK_SIZE_MIN
        || chunk_size > CHUNK_SIZE_MAX)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "chunk size %u: must be from %d to %d bytes",
                          chunk_size,
                          CHUNK_SIZE_MIN,
                          CHUNK_SIZE_MAX);
    put32 (manifest + CHUNK_SIZE_OFFSET, chunk_size);
    return 0;
}

void node_free (void *p)
{
    free (p);
}
