/* test_manifest.c - walking a source, and reading a manifest from a stranger */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "bytes.h"
#include "check.h"
#include "manifest.h"
#include "store_impl.h"
#include "tree_check.h"

#define CHUNK 8192

static int64_t find (const struct manifest *m, const char *want)
{
    char buf[PATH_MAX];

    for (uint32_t i = 0; i < m->nentries; i++) {
        if (manifest_path (m, i, buf, sizeof (buf)) == 0 && !strcmp (buf, want))
            return i;
    }
    return -1;
}

static unsigned char *encode_tree (const char *dir, size_t *size)
{
    struct manifest *m;
    unsigned char *data;

    make_tree (path ("%s/src", dir), CHUNK);
    must ((m = manifest_scan (path ("%s/src", dir), NULL)));
    m->chunk_size = CHUNK;
    must ((data = manifest_encode (m, size, NULL)));
    manifest_destroy (m);
    return data;
}

static void test_round_trip (const char *dir)
{
    size_t size;
    size_t size2;
    unsigned char *data = encode_tree (dir, &size);
    unsigned char *data2;
    struct manifest *m;
    const struct entry *e;
    char buf[16];

    must ((m = manifest_decode (data, size, NULL)));
    must ((data2 = manifest_encode (m, &size2, NULL)));
    ok (size == size2 && !memcmp (data, data2, size));
    ok (!strcmp (manifest_name (m, 0), "src"));
    ok (find (m, "sub/deeper/chunks") > 0 && find (m, "nothing") < 0);
    ok (manifest_path (m, find (m, "sub/deeper/chunks"), buf, sizeof (buf)) < 0);
    e = &m->entries[find (m, "holes")];
    ok (e->size == 2 << 20 && e->nsegments == 2);
    ok (m->segments[e->segments + 1].file_offset == 1 << 20);
    ok (m->entries[find (m, "all hole")].nsegments == 0);
    ok (m->entries[find (m, "none")].nsegments == 0);
    ok (!strcmp (m->strings + m->entries[find (m, "sub/link")].target,
                 "../sub/small-1"));
    for (size_t i = 0; i < m->nsegments; i++) {
        const struct segment *s = &m->segments[i];

        ok (manifest_find (m, s->offset) == i);
        ok (manifest_find (m, s->offset + s->length - 1) == i);
    }
    manifest_destroy (m);
    free (data);
    free (data2);
}

/* Cut short, or with one byte changed: refused, or still within all bounds. */
static void test_damaged (const char *dir)
{
    size_t size;
    unsigned char *data = encode_tree (dir, &size);
    struct fault f;

    for (size_t i = 0; i < size; i++) {
        /* of its own size, so that one byte too far is seen */
        unsigned char *cut = malloc (i ? i : 1);

        must (cut);
        memcpy (cut, data, i);
        if (!ok (!manifest_decode (cut, i, &f)))
            break;
        ok_fault (&f, EPROTO, "not valid");
        free (cut);
    }
    for (size_t i = 0; i < size; i++) {
        for (int bit = 0; bit < 8; bit += 7) {
            struct manifest *m;

            data[i] ^= 1 << bit;
            if ((m = manifest_decode (data, size, NULL))) {
                for (uint32_t e = 0; e < m->nentries; e++) {
                    const char *name = manifest_name (m, e);

                    ok (!strchr (name, '/') && strcmp (name, ".."));
                    ok (e == 0 || m->entries[e].parent < e);
                }
            }
            manifest_destroy (m);
            data[i] ^= 1 << bit;
        }
    }
    free (data);
}

/* A manifest by hand: a head, and entries. */
struct writer {
    unsigned char data[1024];
    size_t size;
};

static void put_head (struct writer *w, uint64_t entries, uint64_t bytes)
{
    memcpy (w->data, "FTM1", 4);
    put32 (w->data + 4, CHUNK);
    put64 (w->data + 8, entries);
    put64 (w->data + 16, bytes);
    w->size = 24;
}

static void put_entry (struct writer *w, int type, int mode, uint32_t parent, const char *name)
{
    unsigned char *p = w->data + w->size;

    p[0] = type;
    put16 (p + 1, mode);
    put32 (p + 3, parent);
    put64 (p + 7, 1000);
    put32 (p + 15, 5);
    put16 (p + 19, strlen (name));
    memcpy (p + 21, name, strlen (name));
    w->size += 21 + strlen (name);
}

static void put_file (struct writer *w, uint64_t size, uint32_t count, const uint64_t *pairs)
{
    put64 (w->data + w->size, size);
    put32 (w->data + w->size + 8, count);
    w->size += 12;
    for (uint32_t i = 0; count != UINT32_MAX && i < 2 * count; i++) {
        put64 (w->data + w->size, pairs[i]);
        w->size += 8;
    }
}

static bool accepted (struct writer *w)
{
    struct manifest *m = manifest_decode (w->data, w->size, NULL);

    manifest_destroy (m);
    return m != NULL;
}

static bool accepted_child (int type, int mode, uint32_t parent, const char *name)
{
    struct writer w;

    put_head (&w, 2, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "top");
    put_entry (&w, type, mode, parent, name);
    return accepted (&w);
}

static bool accepted_file (uint64_t bytes, uint64_t size, uint32_t count, const uint64_t *pairs)
{
    struct writer w;

    put_head (&w, 1, bytes);
    put_entry (&w, ENTRY_FILE, 0644, 0, "file");
    put_file (&w, size, count, pairs);
    return accepted (&w);
}

static void test_hostile (const char *dir)
{
    char name[300];
    struct writer w;

    (void)dir;
    ok (accepted_child (ENTRY_DIR, 0755, 0, "name"));
    ok (accepted_child (ENTRY_DIR, 01777, 0, "..."));
    ok (!accepted_child (ENTRY_DIR, 0755, 0, ".."));
    ok (!accepted_child (ENTRY_DIR, 0755, 0, "."));
    ok (!accepted_child (ENTRY_DIR, 0755, 0, ""));
    ok (!accepted_child (ENTRY_DIR, 0755, 0, "a/b"));
    ok (!accepted_child (ENTRY_DIR, 0755, 0, "/"));
    ok (!accepted_child (ENTRY_DIR, 04755, 0, "name"));
    ok (!accepted_child (ENTRY_DIR, 0755, 1, "name"));
    ok (!accepted_child (ENTRY_DIR, 0755, UINT32_MAX, "name"));
    ok (!accepted_child (0, 0755, 0, "name"));
    ok (!accepted_child (9, 0755, 0, "name"));
    ok (!accepted_child (ENTRY_LINK, 0777, 0, "name")); /* without a target */
    memset (name, 'n', sizeof (name));
    name[255] = '\0';
    ok (accepted_child (ENTRY_DIR, 0755, 0, name));
    name[255] = 'n';
    name[256] = '\0';
    ok (!accepted_child (ENTRY_DIR, 0755, 0, name));

    /* what is below a file or a link */
    put_head (&w, 2, 0);
    put_entry (&w, ENTRY_FILE, 0644, 0, "top");
    put_file (&w, 0, 0, NULL);
    put_entry (&w, ENTRY_DIR, 0755, 0, "name");
    ok (!accepted (&w));
    put_head (&w, 3, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "top");
    put_entry (&w, ENTRY_LINK, 0777, 0, "link");
    put16 (w.data + w.size, 4);
    memcpy (w.data + w.size + 2, "/tmp", 4);
    w.size += 6;
    put_entry (&w, ENTRY_DIR, 0755, 1, "name");
    ok (!accepted (&w));
    put_head (&w, 1, 0);
    put_entry (&w, ENTRY_LINK, 0777, 0, "top");
    ok (!accepted (&w));
    /* a name with an end inside, bytes left over, more entries than said */
    put_head (&w, 1, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "ab");
    ok (accepted (&w));
    w.size++;
    ok (!accepted (&w));
    w.size--;
    w.data[w.size - 1] = '\0';
    ok (!accepted (&w));
    put_head (&w, UINT64_MAX, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "ab");
    ok (!accepted (&w));
    put_head (&w, 0, 0);
    ok (!accepted (&w));
    put_head (&w, 1, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "ab");
    put32 (w.data + 4, CHUNK_SIZE_MIN - 1);
    ok (!accepted (&w));
    put32 (w.data + 4, CHUNK_SIZE_MAX + 1);
    ok (!accepted (&w));

    /* only a directory at the top may have no name */
    put_head (&w, 1, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "");
    ok (accepted (&w));
    put_head (&w, 1, 0);
    put_entry (&w, ENTRY_FILE, 0644, 0, "");
    put_file (&w, 0, 0, NULL);
    ok (!accepted (&w));

    ok (accepted_file (10, 10, UINT32_MAX, NULL));
    ok (!accepted_file (11, 10, UINT32_MAX, NULL));
    ok (!accepted_file (0, 0, UINT32_MAX, NULL));
    ok (!accepted_file (0, UINT64_MAX, 0, NULL));
    ok (accepted_file (INT64_MAX, INT64_MAX, UINT32_MAX, NULL));
    ok (accepted_file (3, 10, 2, (uint64_t[]){ 0, 1, 8, 2 }));
    ok (!accepted_file (4, 10, 2, (uint64_t[]){ 0, 2, 1, 2 }));  /* overlap */
    ok (!accepted_file (3, 10, 2, (uint64_t[]){ 8, 2, 0, 1 }));  /* order */
    ok (!accepted_file (3, 10, 1, (uint64_t[]){ 8, 3 }));        /* beyond */
    ok (!accepted_file (0, 10, 1, (uint64_t[]){ 8, 0 }));        /* nothing */
    ok (!accepted_file (3, 10, 1, (uint64_t[]){ UINT64_MAX, 3 }));
    ok (!accepted_file (3, 10, 1, (uint64_t[]){ 2, UINT64_MAX }));
}

/* All files together are more than can be numbered. */
static void test_too_much (const char *dir)
{
    struct writer w;

    (void)dir;
    put_head (&w, 3, 0);
    put_entry (&w, ENTRY_DIR, 0755, 0, "top");
    for (int i = 0; i < 2; i++) {
        put_entry (&w, ENTRY_FILE, 0644, 0, i ? "a" : "b");
        put_file (&w, INT64_MAX, UINT32_MAX, NULL);
    }
    ok (!accepted (&w));
}

static void refused (const char *source, int errnum, const char *text)
{
    struct fault f = { 0 };

    if (ok (!manifest_scan (source, &f))) {
        ok_fault (&f, errnum, text);
        ok (f.kind == FAULT_SOURCE);
    }
}

static void test_refused (const char *dir)
{
    struct sockaddr_un sun = { .sun_family = AF_UNIX };
    int fd;

    refused (path ("%s/none", dir), ENOENT, "no such file or directory");
    refused ("", ENOENT, "no such file or directory");
    make_file (path ("%s/file", dir), 5, 1);
    refused (path ("%s/file/", dir), ENOTDIR, "Not a directory");
    make_dir (path ("%s/src", dir));
    must (mkfifo (path ("%s/src/fi\nfo", dir), 0600) == 0);
    refused (path ("%s/src", dir), EINVAL, "/src/fi?fo: is a named pipe");
    unlink (path ("%s/src/fi\nfo", dir));
    snprintf (sun.sun_path, sizeof (sun.sun_path), "%s/src/socket", dir);
    must ((fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    must (bind (fd, (struct sockaddr *)&sun, sizeof (sun)) == 0);
    close (fd);
    refused (path ("%s/src", dir), EINVAL, "/src/socket: is a socket");
    unlink (sun.sun_path);
    refused ("/dev/null", EINVAL, "/dev/null: is a device");
    must (symlink ("nowhere", path ("%s/dangling", dir)) == 0);
    refused (path ("%s/dangling", dir), ENOENT, "no such file");
}

static void unreadable (const char *dir)
{
    struct manifest *m;

    make_dir (path ("%s/a", dir));
    make_file (path ("%s/a/file", dir), 5, 1);
    must (chmod (path ("%s/a/file", dir), 0) == 0);
    refused (path ("%s/a", dir), EACCES, "/a/file: cannot be read");
    must (chmod (path ("%s/a/file", dir), 0400) == 0);
    make_dir (path ("%s/a/dir", dir));
    must (chmod (path ("%s/a/dir", dir), 0400) == 0);
    refused (path ("%s/a", dir), EACCES, "/a/dir: cannot be read");
    must (chmod (path ("%s/a/dir", dir), 0500) == 0);
    must ((m = manifest_scan (path ("%s/a", dir), NULL)));
    manifest_destroy (m);
}

static void test_unreadable (const char *dir)
{
    if (!check_as_nobody (unreadable, dir))
        check_skip ("files that nobody may read: needs root");
}

static void is_named (const char *source, const char *name, int type)
{
    struct manifest *m = manifest_scan (source, NULL);

    if (ok (m)) {
        ok (!strcmp (manifest_name (m, 0), name));
        ok (m->entries[0].type == type);
    }
    manifest_destroy (m);
}

static void test_names (const char *dir)
{
    char cwd[PATH_MAX];

    make_dir (path ("%s/src", dir));
    make_file (path ("%s/file", dir), 5, 1);
    must (symlink ("src", path ("%s/to-dir", dir)) == 0);
    must (symlink ("file", path ("%s/to-file", dir)) == 0);
    write_at (path ("%s/holes", dir), 1 << 20, 1, 2);
    must (symlink ("holes", path ("%s/to-holes", dir)) == 0);
    is_named (path ("%s/src", dir), "src", ENTRY_DIR);
    is_named (path ("%s/src//", dir), "src", ENTRY_DIR);
    is_named (path ("%s/src/.", dir), "src", ENTRY_DIR);
    is_named (path ("%s/src/../src/..//src", dir), "src", ENTRY_DIR);
    is_named (path ("%s/to-dir", dir), "to-dir", ENTRY_DIR);
    is_named (path ("%s/to-dir/", dir), "to-dir", ENTRY_DIR);
    is_named (path ("%s/to-file", dir), "to-file", ENTRY_FILE);
    is_named (path ("%s/to-holes", dir), "to-holes", ENTRY_FILE);
    must (getcwd (cwd, sizeof (cwd)) && chdir (path ("%s/src", dir)) == 0);
    is_named (".", "src", ENTRY_DIR);
    is_named ("../file", "file", ENTRY_FILE);
    must (chdir (cwd) == 0);
}

/* As deep as a path can be, and deeper. */
static void test_deep (const char *dir)
{
    struct manifest *m;
    struct fault f;
    int fd;
    int depth = 0;

    make_dir (path ("%s/src", dir));
    must ((fd = open (path ("%s/src", dir), O_PATH | O_CLOEXEC)) >= 0);
    for (; depth < 2048; depth++) {
        int up = fd;

        must (mkdirat (fd, "d", 0755) == 0);
        must ((fd = openat (up, "d", O_PATH | O_CLOEXEC)) >= 0);
        close (up);
    }
    if (ok ((m = manifest_scan (path ("%s/src", dir), &f)))) {
        ok (m->nentries == 2049);
        manifest_destroy (m);
    }
    must (mkdirat (fd, "d", 0755) == 0);
    ok (!manifest_scan (path ("%s/src", dir), &f));
    ok_fault (&f, ENAMETOOLONG, "its path is too long");
    close (fd);
    /* deeper than other programs can remove */
    must ((fd = open (dir, O_RDONLY | O_CLOEXEC)) >= 0);
    ok (remove_at (fd, "src") == 0);
    close (fd);
}

int main (void)
{
    run (test_round_trip);
    run (test_damaged);
    run (test_hostile);
    run (test_too_much);
    run (test_refused);
    run (test_unreadable);
    run (test_names);
    run (test_deep);
    return check_end ();
}
