/* piece.c - the pieces that an archive's payload comes in */
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive_impl.h"

size_t digest_size (enum digest_type type)
{
    return type == DIGEST_SHA1 ? 20 : type == DIGEST_SHA256 ? 32 : 0;
}

void piece_name (const struct piece *p, char buf[BLOBREF_SIZE_MAX])
{
    char *at = buf + sprintf (buf, "sha%d-", p->type == DIGEST_SHA1 ? 1 : 256);

    for (size_t i = 0; i < digest_size (p->type); i++)
        at += sprintf (at, "%02x", p->digest[i]);
}

const char *piece_place (const struct archive *a,
                         const struct piece *p,
                         char buf[FAULT_PATH_SIZE + 32])
{
    const struct manifest *m = a->manifest;
    const struct segment *s = &m->segments[manifest_find (m, p->offset)];
    char rel[PATH_MAX];
    char path[FAULT_PATH_SIZE];

    if (manifest_path (m, s->entry, rel, sizeof (rel)) < 0)
        rel[0] = '\0';
    snprintf (buf,
              FAULT_PATH_SIZE + 32,
              "%s at offset %llu",
              fault_path (path, rel, ""),
              (unsigned long long)(s->file_offset + p->offset - s->offset));
    return buf;
}

int piece_check (const struct piece *p, const void *data)
{
    const EVP_MD *md = p->type == DIGEST_SHA1 ? EVP_sha1 () : EVP_sha256 ();
    unsigned char digest[EVP_MAX_MD_SIZE];

    if (EVP_Digest (data, p->size, digest, NULL, md, NULL) != 1) {
        errno = ENOTSUP;
        return -1;
    }
    return memcmp (digest, p->digest, digest_size (p->type)) == 0;
}

static int compare_contents (const void *a, const void *b)
{
    const struct piece *p = *(struct piece *const *)a;
    const struct piece *q = *(struct piece *const *)b;
    int rc;

    if (p->type != q->type)
        return p->type < q->type ? -1 : 1;
    if ((rc = memcmp (p->digest, q->digest, sizeof (p->digest))) != 0)
        return rc;
    if (p->size != q->size)
        return p->size < q->size ? -1 : 1;
    return p < q ? -1 : p > q;
}

int archive_find_same (struct archive *a)
{
    struct piece **sorted;
    uint32_t n = 0;

    if (a->npieces == 0)
        return 0;
    if (!(sorted = malloc (a->npieces * sizeof (*sorted))))
        return -1;
    for (uint32_t i = 0; i < a->npieces; i++) {
        if (a->pieces[i].type != DIGEST_NONE)
            sorted[n++] = &a->pieces[i];
    }
    qsort (sorted, n, sizeof (*sorted), compare_contents);
    for (uint32_t i = 1; i < n; i++) {
        struct piece *p = sorted[i - 1];
        struct piece *q = sorted[i];

        if (p->type == q->type && p->size == q->size
            && !memcmp (p->digest, q->digest, sizeof (p->digest))) {
            p->same = q - a->pieces;
            q->again = 1;
        }
    }
    free (sorted);
    return 0;
}
