/* test_contents.c - a payload that is what a directory holds */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "manifest.h"
#include "store.h"
#include "tree_check.h"

#define CHUNK 8192
#define TMP ".tmp"

/* The contents of a directory, ready to be published in another one. */
struct copy {
    struct manifest *m;
    struct store *from;
    struct store *to;
};

static struct manifest *scan_contents (const char *source)
{
    struct manifest *m = manifest_scan (source, NULL);
    struct manifest *decoded;
    unsigned char *data;
    size_t size;
    int64_t at;

    must (m);
    at = manifest_add_string (m, "", 0);
    must (at >= 0);
    m->entries[0].name = at;
    m->chunk_size = CHUNK;
    /* as it comes from another rank */
    must ((data = manifest_encode (m, &size, NULL)));
    must ((decoded = manifest_decode (data, size, NULL)));
    manifest_destroy (m);
    free (data);
    return decoded;
}

static int begin (struct copy *c, const char *source, const char *dest, bool overwrite, struct fault *f)
{
    c->m = scan_contents (source);
    must ((c->from = store_open (c->m, source, f)));
    c->to = store_create (c->m, dest, TMP, overwrite ? STORE_OVERWRITE : 0, f);
    return c->to ? 0 : -1;
}

static void transfer (struct copy *c)
{
    unsigned char buf[CHUNK];
    struct fault f;

    for (uint64_t at = 0; at < c->m->bytes; at += CHUNK) {
        size_t len = c->m->bytes - at < CHUNK ? c->m->bytes - at : CHUNK;

        must (store_read (c->from, at, buf, len, &f) == 0
              && store_write (c->to, at, buf, len, &f) == 0);
    }
    ok (store_seal (c->to, &f) == 0);
}

static void end (struct copy *c)
{
    store_destroy (c->to);
    store_destroy (c->from);
    manifest_destroy (c->m);
}

static int copy (const char *source, const char *dest, bool overwrite, struct fault *f)
{
    struct copy c;
    unsigned char byte;
    int rc;

    if ((rc = begin (&c, source, dest, overwrite, f)) == 0) {
        transfer (&c);
        rc = store_publish (c.to, f);
        /* others may still be served */
        ok (rc < 0 || c.m->bytes == 0 || store_read (c.to, 0, &byte, 1, f) == 0);
    }
    if (rc < 0)
        printf ("# %s\n", f->text);
    end (&c);
    return rc;
}

static void refused (const char *source,
                     const char *dest,
                     bool overwrite,
                     int errnum,
                     const char *text)
{
    struct fault f = { 0 };

    if (ok (copy (source, dest, overwrite, &f) < 0)) {
        ok_fault (&f, errnum, text);
        ok (f.kind == FAULT_DESTINATION);
    }
}

/* What does not exist becomes the directory itself. */
static void test_new (const char *dir)
{
    struct fault f;

    make_tree (path ("%s/src", dir), CHUNK);
    ok (copy (path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    ok (same_tree (path ("%s/src", dir), path ("%s/out", dir)));
    ok (copy (path ("%s/src", dir), path ("%s/slash//", dir), false, &f) == 0);
    ok (same_tree (path ("%s/src", dir), path ("%s/slash", dir)));
    ok (count_names (dir) == 3);
}

static void test_existing (const char *dir)
{
    struct stat sb;
    struct fault f;

    make_tree (path ("%s/src", dir), CHUNK);
    make_dir (path ("%s/out", dir));
    must (chmod (path ("%s/out", dir), 0710) == 0);
    make_file (path ("%s/out/there", dir), 3, 1);
    ok (copy (path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    ok (stat (path ("%s/out", dir), &sb) == 0 && (sb.st_mode & 07777) == 0710);
    ok (count_names (path ("%s/out", dir)) == count_names (path ("%s/src", dir)) + 1);
    must (unlink (path ("%s/out/there", dir)) == 0);
    must (stat (path ("%s/src", dir), &sb) == 0);
    must (chmod (path ("%s/out", dir), sb.st_mode & 07777) == 0);
    set_mtime (path ("%s/out", dir), 1000);
    set_mtime (path ("%s/src", dir), 1000);
    ok (same_tree (path ("%s/src", dir), path ("%s/out", dir)));
}

/* Directories that nobody may write to are moved all the same. */
static void read_only (const char *dir)
{
    struct stat sb;
    struct fault f;

    make_dir (path ("%s/src", dir));
    make_dir (path ("%s/src/sub", dir));
    make_dir (path ("%s/src/sub/sub", dir));
    make_file (path ("%s/src/sub/sub/a", dir), 2 * CHUNK, 1);
    must (chmod (path ("%s/src/sub/sub", dir), 0555) == 0
          && chmod (path ("%s/src/sub", dir), 0555) == 0);
    make_dir (path ("%s/out", dir));
    ok (copy (path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    ok (same_tree (path ("%s/src/sub", dir), path ("%s/out/sub", dir)));
    ok (stat (path ("%s/out/sub", dir), &sb) == 0 && (sb.st_mode & 07777) == 0555);
    ok (count_names (path ("%s/out", dir)) == 1);
}

static void test_read_only (const char *dir)
{
    if (!check_as_nobody (read_only, dir))
        read_only (dir);
}

static void test_exists (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct fault f;

    make_dir (src);
    make_file (path ("%s/a", src), 10, 1);
    make_file (path ("%s/b", src), 10, 2);
    make_dir (path ("%s/d", src));
    make_dir (out);
    make_file (path ("%s/d", out), 5, 3);
    make_dir (path ("%s/b", out));
    make_file (path ("%s/b/old", out), 5, 4);
    refused (src, out, false, EEXIST, "/out/b: exists: remove it, or allow overwrite");
    ok (count_names (out) == 2);
    ok (copy (src, out, true, &f) == 0);
    ok (same_tree (path ("%s/b", src), path ("%s/b", out)));
    ok (same_tree (path ("%s/d", src), path ("%s/d", out)));
    ok (count_names (out) == 3);
    /* a directory is wanted, whatever may be overwritten */
    refused (src, path ("%s/a", src), true, ENOTDIR, "/src/a: is not a directory");
    must (symlink ("nowhere", path ("%s/dangling", dir)) == 0);
    refused (src, path ("%s/dangling", dir), true, ENOTDIR, "is not a directory");
    refused (src, path ("%s/none/out", dir), true, ENOENT, "its directory does not exist");
    must (symlink ("out", path ("%s/link", dir)) == 0);
    ok (copy (src, path ("%s/link", dir), true, &f) == 0);
    ok (count_names (out) == 3);
}

/* A name that somebody has taken meanwhile: those before it are moved back. */
static void test_race (const char *dir)
{
    struct copy c;
    struct fault f;

    make_dir (path ("%s/src", dir));
    make_file (path ("%s/src/a", dir), 10, 1);
    make_dir (path ("%s/src/b", dir));
    make_file (path ("%s/src/c", dir), 10, 1);
    make_dir (path ("%s/out", dir));
    must (begin (&c, path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    ok (!strcmp (store_tmp_path (c.to), path ("%s/out/" TMP, dir)));
    transfer (&c);
    make_file (path ("%s/out/c", dir), 7, 2);
    ok (store_publish (c.to, &f) < 0);
    ok_fault (&f, EEXIST, "/out/c: exists");
    ok (count_names (path ("%s/out", dir)) == 2); /* and the temporary */
    ok (count_names (store_tmp_path (c.to)) == 3);
    end (&c);
    ok (count_names (path ("%s/out", dir)) == 1);
}

/* What was replaced returns if a later name cannot be replaced. */
static void test_move_back (const char *dir)
{
    struct stat sb;
    struct fault f;

    make_dir (path ("%s/src", dir));
    make_file (path ("%s/src/a", dir), 10, 1);
    make_dir (path ("%s/src/b", dir));
    make_dir (path ("%s/out", dir));
    make_file (path ("%s/out/a", dir), 7, 2);
    make_dir (path ("%s/out/b", dir));
    if (mount ("none", path ("%s/out/b", dir), "tmpfs", 0, "size=64k") < 0) {
        check_skip ("a name that cannot be replaced: cannot mount a tmpfs here");
        return;
    }
    ok (copy (path ("%s/src", dir), path ("%s/out", dir), true, &f) < 0);
    ok_fault (&f, EBUSY, "/out/b: ");
    ok (stat (path ("%s/out/a", dir), &sb) == 0 && sb.st_size == 7);
    must (umount (path ("%s/out/b", dir)) == 0);
    ok (count_names (path ("%s/out", dir)) == 2);
}

static void test_given_up (const char *dir)
{
    struct copy c;
    struct fault f;

    make_tree (path ("%s/src", dir), CHUNK);
    make_dir (path ("%s/out", dir));
    must (begin (&c, path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    transfer (&c);
    end (&c);
    ok (count_names (path ("%s/out", dir)) == 0);
    must (begin (&c, path ("%s/src", dir), path ("%s/new", dir), false, &f) == 0);
    ok (!strcmp (store_tmp_path (c.to), path ("%s/" TMP, dir)));
    end (&c);
    ok (count_names (dir) == 2);
}

static void test_empty (const char *dir)
{
    struct fault f;

    make_dir (path ("%s/src", dir));
    make_dir (path ("%s/out", dir));
    ok (copy (path ("%s/src", dir), path ("%s/out", dir), false, &f) == 0);
    ok (count_names (path ("%s/out", dir)) == 0);
}

int main (void)
{
    run (test_new);
    run (test_existing);
    run (test_read_only);
    run (test_exists);
    run (test_race);
    run (test_move_back);
    run (test_given_up);
    run (test_empty);
    return check_end ();
}
