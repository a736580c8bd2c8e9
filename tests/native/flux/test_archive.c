/* test_archive.c - archives of Flux, such as they should be and such as not */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"
#include "check.h"

#define SHA1_EMPTY "sha1-da39a3ee5e6b4b0d3255bfef95601890afd80709"
#define SHA1_ABC "sha1-a9993e364706816aba3e25717850c26c9cd0d89d"
#define SHA256_ABC "sha256-ba7816bf8f01cfea414140de5dae2223" \
                   "b00361a396177a9cb410ff61f20015ad"

static struct archive *parse (const char *text, struct fault *f)
{
    json_t *o = archive_load (text, f);
    struct archive *a = o ? archive_create (o, f) : NULL;

    json_decref (o);
    return a;
}

static struct archive *parsed (const char *text)
{
    struct fault f;
    struct archive *a = parse (text, &f);

    if (!ok (a != NULL))
        printf ("# %s: %s\n", text, f.text);
    must (a);
    return a;
}

static const struct entry *find (const struct archive *a, const char *want)
{
    char buf[PATH_MAX];

    for (uint32_t i = 0; i < a->manifest->nentries; i++) {
        if (manifest_path (a->manifest, i, buf, sizeof (buf)) == 0 && !strcmp (buf, want))
            return &a->manifest->entries[i];
    }
    return NULL;
}

static void refused (const char *text, int errnum, const char *why)
{
    struct fault f = { 0 };
    struct archive *a = parse (text, &f);

    if (!ok (!a))
        printf ("# accepted: %s\n", text);
    else if (!ok_fault (&f, errnum, why) || !ok (f.kind == FAULT_SOURCE))
        printf ("# of %s\n", text);
    archive_destroy (a);
}

/* Pieces fill the payload, each within one segment, and so do segments. */
static void is_sound (const struct archive *a)
{
    const struct manifest *m = a->manifest;
    uint64_t at = 0;

    for (uint32_t i = 0; i < a->npieces; i++) {
        const struct piece *p = &a->pieces[i];
        const struct segment *s;

        must (p->offset == at && p->size > 0 && p->offset < m->bytes);
        s = &m->segments[manifest_find (m, p->offset)];
        ok (p->size <= s->offset + s->length - p->offset);
        ok ((p->type == DIGEST_NONE) == (p->data != NULL));
        at += p->size;
    }
    ok (at == m->bytes);
    ok (m->chunk_size > 0);
}

static bool holds (const struct archive *a, uint32_t piece, const char *text)
{
    const struct piece *p = &a->pieces[piece];

    return piece < a->npieces && p->size == strlen (text) && p->data
           && !memcmp (p->data, text, p->size);
}

static void test_kinds (const char *dir)
{
    struct archive *a = parsed (
        "[{\"path\":\"text\",\"encoding\":\"utf-8\",\"data\":\"abc\",\"size\":3,"
        "\"mtime\":7,\"ctime\":8,\"mode\":33261},"
        "{\"path\":\"b64\",\"encoding\":\"base64\",\"data\":\"YWI=\",\"size\":2,"
        "\"mtime\":-5,\"mode\":33188},"
        "{\"path\":\"json\",\"data\":{\"a\":[1,null]},\"mtime\":9,\"mode\":33188},"
        "{\"path\":\"empty\",\"size\":0,\"mtime\":9,\"mode\":33188},"
        "{\"path\":\"hole\",\"size\":1000000,\"data\":null,\"mtime\":9,\"mode\":33188},"
        "{\"path\":\"link\",\"data\":\"../far/away\",\"mtime\":9,\"mode\":41471},"
        "{\"path\":\"dir\",\"mtime\":11,\"mode\":17407},"
        "{\"path\":\"setuid\",\"size\":0,\"mtime\":9,\"mode\":36333}]");
    const struct entry *e;

    (void)dir;
    is_sound (a);
    ok (!*manifest_name (a->manifest, 0) && a->manifest->entries[0].type == ENTRY_DIR);
    ok ((e = find (a, "text")) && e->size == 3 && e->mode == 0755 && e->mtime == 7
        && e->mtime_ns == 0);
    ok (holds (a, 0, "abc") && holds (a, 1, "ab") && holds (a, 2, "{\"a\":[1,null]}"));
    ok ((e = find (a, "b64")) && e->mtime == -5);
    ok ((e = find (a, "json")) && e->size == 14);
    ok ((e = find (a, "empty")) && e->type == ENTRY_FILE && e->size == 0);
    ok ((e = find (a, "hole")) && e->size == 1000000 && e->nsegments == 0);
    ok ((e = find (a, "link")) && e->type == ENTRY_LINK
        && !strcmp (a->manifest->strings + e->target, "../far/away"));
    ok ((e = find (a, "dir")) && e->type == ENTRY_DIR && e->mode == 01777);
    ok ((e = find (a, "setuid")) && e->mode == 0755);
    archive_destroy (a);
}

/* What stands above comes later, or never. */
static void test_directories (const char *dir)
{
    struct archive *a = parsed (
        "[{\"path\":\"./a/b/c\",\"size\":0,\"mtime\":50,\"mode\":33188},"
        "{\"path\":\"a//b/./\",\"mtime\":20,\"mode\":16832},"
        "{\"path\":\"a/b/d\",\"size\":0,\"mtime\":70,\"mode\":33188},"
        "{\"path\":\"a/b\",\"mtime\":30,\"mode\":16749}]");
    const struct entry *e;

    (void)dir;
    ok (a->manifest->nentries == 5);
    ok ((e = find (a, "a")) && e->mode == 0755 && e->mtime == 70 && e->mtime_ns == 0);
    ok ((e = find (a, "a/b")) && e->mode == 0555 && e->mtime == 30);
    ok (find (a, "a/b/c") && find (a, "a/b/d"));
    ok (a->manifest->entries[0].mtime == 70);
    archive_destroy (a);

    a = parsed ("[{\"path\":\".\",\"mtime\":20,\"mode\":16832}]");
    ok (a->manifest->nentries == 1 && a->manifest->entries[0].mode == 0700
        && a->manifest->entries[0].mtime == 20);
    archive_destroy (a);
    a = parsed ("[]");
    ok (a->manifest->nentries == 1 && a->npieces == 0);
    is_sound (a);
    archive_destroy (a);
}

#define BLOBS(size, blobs)                                                     \
    "[{\"path\":\"f\",\"encoding\":\"blobvec\",\"size\":" size                 \
    ",\"mtime\":1,\"mode\":33188,\"data\":[" blobs "]}]"
#define BLOB(offset, size) "[" #offset "," #size ",\"" SHA1_ABC "\"]"

static void test_blobs (const char *dir)
{
    struct archive *a = parsed (BLOBS ("100", BLOB (50, 3) "," BLOB (0, 3) "," BLOB (3, 7) ","
                                       "[60,3,\"" SHA256_ABC "\"]," BLOB (97, 3)));
    const struct entry *e = find (a, "f");
    char buf[FAULT_PATH_SIZE + 32];
    char name[BLOBREF_SIZE_MAX];

    (void)dir;
    is_sound (a);
    must (e);
    ok (e->size == 100 && e->nsegments == 4 && a->npieces == 5);
    ok (a->manifest->segments[e->segments].length == 10);
    ok (a->manifest->segments[e->segments + 1].file_offset == 50);
    /* those of 3 bytes under one digest, and nothing else, are the same */
    ok (a->pieces[0].same == 2 && a->pieces[2].same == 4
        && a->pieces[4].same == PIECE_NONE);
    ok (!a->pieces[0].again && a->pieces[2].again && a->pieces[4].again);
    ok (a->pieces[1].same == PIECE_NONE && !a->pieces[1].again);
    ok (a->pieces[3].same == PIECE_NONE && !a->pieces[3].again);
    ok (!strcmp (piece_place (a, &a->pieces[2], buf), "f at offset 50"));
    piece_name (&a->pieces[0], name);
    ok (!strcmp (name, SHA1_ABC));
    piece_name (&a->pieces[3], name);
    ok (!strcmp (name, SHA256_ABC));
    ok (piece_check (&a->pieces[0], "abc") == 1 && piece_check (&a->pieces[0], "abd") == 0);
    ok (piece_check (&a->pieces[3], "abc") == 1 && piece_check (&a->pieces[3], "abd") == 0);
    archive_destroy (a);

    /* a file in several pieces is not written in one go */
    a = parsed (BLOBS ("6", BLOB (0, 3) "," BLOB (3, 3)));
    ok (a->manifest->chunk_size < 6);
    archive_destroy (a);
    a = parsed (BLOBS ("3", BLOB (0, 3)));
    ok (a->manifest->chunk_size > 6);
    archive_destroy (a);
    a = parsed (BLOBS ("null", BLOB (5, 3)));
    ok ((e = find (a, "f")) && e->size == 8);
    archive_destroy (a);
    a = parsed (BLOBS ("10", ""));
    ok ((e = find (a, "f")) && e->size == 10 && e->nsegments == 0);
    archive_destroy (a);
}

static void test_bad_blobs (const char *dir)
{
    (void)dir;
    refused (BLOBS ("100", BLOB (0, 3) "," BLOB (2, 3)), EINVAL, "entry f: has blobs that overlap");
    refused (BLOBS ("100", BLOB (5, 3) "," BLOB (5, 3)), EINVAL, "overlap");
    refused (BLOBS ("5", BLOB (3, 3)), EINVAL, "entry f: has a blob beyond its size");
    refused (BLOBS ("null", BLOB (9223372036854775807, 3)), EINVAL, "beyond its size");
    refused (BLOBS ("100", BLOB (0, 0)), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", BLOB (0, -3)), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", BLOB (-1, 3)), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", BLOB (1.5, 3)), EINVAL, "a blob that is not valid");
    refused (BLOBS ("9000000000", BLOB (0, 4294967296)), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", "[0,3]"), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", "[0,3,4]"), EINVAL, "neither sha1 nor sha256");
    refused (BLOBS ("100", "{}"), EINVAL, "a blob that is not valid");
    refused (BLOBS ("100", "[0,3,\"md5-00\"]"), EINVAL, "neither sha1 nor sha256");
    refused (BLOBS ("100", "[0,3,\"sha1-00\"]"), EINVAL, "names a blob that is not valid");
    refused (BLOBS ("100", "[0,3,\"" SHA1_EMPTY "0\"]"), EINVAL, "names a blob that is not");
    refused (BLOBS ("100", "[0,3,\"sha1-A9993e364706816aba3e25717850c26c9cd0d89d\"]"),
             EINVAL,
             "names a blob that is not valid");
    refused (BLOBS ("-3", BLOB (0, 3)), EINVAL, "has no valid size");
    refused ("[{\"path\":\"f\",\"encoding\":\"blobvec\",\"size\":3,\"mode\":33188,"
             "\"data\":\"abc\"}]",
             EINVAL,
             "a blobvec that is no list");
}

#define ENTRY(path, mode, more) "{\"path\":\"" path "\",\"mode\":" #mode more "}"
#define FILE_AT(path) ENTRY (path, 33188, ",\"size\":0")
#define DIR_AT(path) ENTRY (path, 16877, "")
#define LINK_AT(path) ENTRY (path, 41471, ",\"data\":\"/tmp\"")

static void test_hostile_paths (const char *dir)
{
    (void)dir;
    refused ("[" FILE_AT ("../f") "]", EINVAL, "archive entry ../f: has .. in it");
    refused ("[" FILE_AT ("a/../../f") "]", EINVAL, "has .. in it");
    refused ("[" FILE_AT ("a/..") "]", EINVAL, "has .. in it");
    refused ("[" DIR_AT ("..") "]", EINVAL, "has .. in it");
    refused ("[" FILE_AT ("/etc/f") "]", EINVAL, "is an absolute path");
    refused ("[" DIR_AT ("/") "]", EINVAL, "is an absolute path");
    refused ("[" LINK_AT ("l") "," FILE_AT ("l/f") "]",
             EINVAL,
             "archive entry l/f: stands below a link, not a directory");
    refused ("[" LINK_AT ("l") "," DIR_AT ("l/d/") "]", EINVAL, "stands below a link");
    refused ("[" FILE_AT ("f") "," FILE_AT ("f/g") "]", EINVAL, "stands below a file");
    refused ("[" FILE_AT ("f") "," FILE_AT ("./f") "]", EEXIST, "comes twice");
    refused ("[" FILE_AT ("f") "," LINK_AT ("f") "]", EEXIST, "comes twice");
    refused ("[" LINK_AT ("l") "," DIR_AT ("l") "]", EEXIST, "comes twice");
    refused ("[" DIR_AT ("d") "," LINK_AT ("d") "]", EEXIST, "comes twice");
    refused ("[" FILE_AT ("d/f") "," LINK_AT ("d") "]", EEXIST, "comes twice");
    refused ("[" FILE_AT (".") "]", EEXIST, "comes twice");
    refused ("[" LINK_AT ("") "]", EEXIST, "comes twice");
    refused ("[" FILE_AT ("a\\u0000b") "]", EINVAL, "entry 0: has no valid path");
    refused ("[" DIR_AT ("a") "," FILE_AT ("a\\nb/..") "]", EINVAL, "entry a?b/..: has ..");
}

static void test_long_paths (const char *dir)
{
    char text[3 * PATH_MAX];
    char name[PATH_MAX + 10];
    struct archive *a;

    (void)dir;
    memset (name, 'n', sizeof (name));
    name[255] = '\0';
    snprintf (text, sizeof (text), "[{\"path\":\"%s\",\"size\":0,\"mode\":33188}]", name);
    a = parsed (text);
    archive_destroy (a);
    name[255] = 'n';
    name[256] = '\0';
    snprintf (text, sizeof (text), "[{\"path\":\"%s\",\"size\":0,\"mode\":33188}]", name);
    refused (text, ENAMETOOLONG, "its path is too long");
    for (size_t i = 0; i < sizeof (name); i++)
        name[i] = i % 2 ? '/' : 'd';
    name[4095] = '\0';
    snprintf (text, sizeof (text), "[{\"path\":\"%s\",\"size\":0,\"mode\":33188}]", name);
    a = parsed (text);
    archive_destroy (a);
    name[4095] = '/';
    name[4097] = '\0';
    snprintf (text, sizeof (text), "[{\"path\":\"%s\",\"size\":0,\"mode\":33188}]", name);
    refused (text, ENAMETOOLONG, "its path is too long");
}

static void test_bad_entries (const char *dir)
{
    (void)dir;
    refused ("", EINVAL, "the archive is not JSON");
    refused ("{}", EINVAL, "the archive is not a list of entries");
    refused ("[1]", EINVAL, "entry 0: has no valid path");
    refused ("[{\"mode\":33188}]", EINVAL, "entry 0: has no valid path");
    refused ("[" DIR_AT ("d") ",{\"path\":5,\"mode\":33188}]", EINVAL, "entry 1: has no");
    refused ("[{\"path\":\"f\"}]", EINVAL, "entry f: has no valid mode");
    refused ("[" ENTRY ("f", "33188", "") "]", EINVAL, "has no valid mode");
    refused ("[" ENTRY ("f", -1, "") "]", EINVAL, "has no valid mode");
    refused ("[" ENTRY ("f", 4294967296, "") "]", EINVAL, "has no valid mode");
    refused ("[" ENTRY ("f", 420, "") "]", EINVAL, "neither file, directory nor link");
    refused ("[" ENTRY ("f", 4516, "") "]", EINVAL, "neither file, directory nor link");
    refused ("[" ENTRY ("f", 8612, "") "]", EINVAL, "neither file, directory nor link");
    refused ("[" ENTRY ("f", 33188, ",\"mtime\":\"x\"") "]", EINVAL, "has no valid mtime");
    refused ("[" ENTRY ("f", 33188, ",\"size\":1.0") "]", EINVAL, "has no valid size");
    refused ("[" ENTRY ("f", 33188, ",\"size\":-2") "]", EINVAL, "has no valid size");
    refused ("[" ENTRY ("l", 41471, "") "]", EINVAL, "a link without a valid target");
    refused ("[" ENTRY ("l", 41471, ",\"data\":\"\"") "]", EINVAL, "without a valid target");
    refused ("[" ENTRY ("l", 41471, ",\"data\":[]") "]", EINVAL, "without a valid target");
    refused ("[" ENTRY ("l", 41471, ",\"data\":\"a\\u0000\"") "]", EINVAL, "valid target");
    refused ("[" ENTRY ("a", 33188, ",\"size\":9223372036854775807,\"encoding\":\"blobvec\","
                                    "\"data\":[[9223372036854775806,1,\"" SHA1_ABC "\"],"
                                    "[9223372036854775807,1,\"" SHA1_ABC "\"]]") "]",
             EINVAL,
             "a blob beyond its size");
}

#define DATA(encoding, data) \
    ENTRY ("f", 33188, ",\"encoding\":" encoding ",\"data\":" data ",\"size\":3")

static void test_bad_data (const char *dir)
{
    struct archive *a;

    (void)dir;
    refused ("[" DATA ("\"utf-8\"", "\"ab\"") "]", EINVAL, "has 2 bytes of data, but a size of 3");
    refused ("[" DATA ("\"utf-8\"", "\"abcd\"") "]", EINVAL, "has 4 bytes of data");
    refused ("[" DATA ("\"utf-8\"", "[]") "]", EINVAL, "has data that is no text");
    refused ("[" DATA ("null", "[]") "]", EINVAL, "has 2 bytes of data");
    refused ("[" DATA ("\"base64\"", "\"YWI=\"") "]", EINVAL, "has 2 bytes of data");
    refused ("[" DATA ("\"base64\"", "\"YWJj\\n\"") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"base64\"", "\"YWJ\"") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"base64\"", "\"Y===\"") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"base64\"", "\"=WJj\"") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"base64\"", "\"Y-Jj\"") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"base64\"", "7") "]", EINVAL, "not base64");
    refused ("[" DATA ("\"gzip\"", "\"abc\"") "]", EINVAL, "unknown encoding, gzip");
    refused ("[" DATA ("3", "\"abc\"") "]", EINVAL, "unknown encoding");
    /* the text may hold what C takes for its end */
    a = parsed ("[" DATA ("\"utf-8\"", "\"a\\u0000b\"") "]");
    ok (a->npieces == 1 && a->pieces[0].size == 3 && !memcmp (a->pieces[0].data, "a\0b", 3));
    archive_destroy (a);
    a = parsed ("[" ENTRY ("f", 33188, ",\"encoding\":\"base64\",\"data\":\"\",\"size\":0") "]");
    ok (a->npieces == 0);
    archive_destroy (a);
}

/* Cut short, or with a byte changed: refused, or still sound. */
static void test_damaged (const char *dir)
{
    char text[] = "[{\"path\":\"a/b\",\"encoding\":\"blobvec\",\"size\":20,\"mtime\":5,"
                  "\"mode\":33188,\"data\":[[0,3," "\"" SHA1_ABC "\"" "],[9,8,\"" SHA1_ABC "\"]]},"
                  "{\"path\":\"t\",\"encoding\":\"base64\",\"data\":\"YWJj\",\"size\":3,"
                  "\"mode\":33188},{\"path\":\"a\",\"mode\":16877}]";
    const char changes[] = "\"\\/.,:]}09-a \xff";
    size_t accepted = 0;

    (void)dir;
    for (size_t i = 0; i < strlen (text); i++) {
        char was = text[i];

        for (const char *c = changes; *c; c++) {
            struct archive *a;

            text[i] = *c;
            if ((a = parse (text, NULL))) {
                is_sound (a);
                accepted++;
            }
            archive_destroy (a);
        }
        text[i] = '\0';
        ok (!parse (text, NULL));
        text[i] = was;
    }
    ok (accepted > 100);
}

int main (void)
{
    run (test_kinds);
    run (test_directories);
    run (test_blobs);
    run (test_bad_blobs);
    run (test_hostile_paths);
    run (test_long_paths);
    run (test_bad_entries);
    run (test_bad_data);
    run (test_damaged);
    return check_end ();
}
