/* test_store.c - a payload on disk: written by ranges, complete, or not there */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bytes.h"
#include "check.h"
#include "dest.h"
#include "manifest.h"
#include "store_impl.h"
#include "tree_check.h"

#define CHUNK 8192
#define TMP ".tmp"

static struct manifest *scan (const char *source)
{
    struct manifest *m = manifest_scan (source, NULL);

    must (m);
    m->chunk_size = CHUNK;
    return m;
}

/* Copy all chunks, the last ones first, and read each back. */
static int copy_chunks (const struct manifest *m,
                        struct store *from,
                        struct store *to,
                        struct fault *f)
{
    unsigned char buf[CHUNK];
    unsigned char back[CHUNK];
    uint64_t n = (m->bytes + CHUNK - 1) / CHUNK;

    for (uint64_t c = n; c-- > 0;) {
        size_t len = c == n - 1 ? m->bytes - c * CHUNK : CHUNK;

        if (store_read (from, c * CHUNK, buf, len, f) < 0
            || store_write (to, c * CHUNK, buf, len, f) < 0
            || store_read (to, c * CHUNK, back, len, f) < 0)
            return -1;
        ok (!memcmp (buf, back, len));
    }
    return 0;
}

static bool read_all (const struct manifest *m, struct store *st, struct fault *f)
{
    unsigned char buf[CHUNK];

    for (uint64_t at = 0; at < m->bytes; at += CHUNK) {
        size_t len = m->bytes - at < CHUNK ? m->bytes - at : CHUNK;

        if (store_read (st, at, buf, len, f) < 0)
            return false;
    }
    return true;
}

/* The whole way of a rank; the fault says why not. */
static int copy (const char *source, const char *dest, bool overwrite, struct fault *f)
{
    struct manifest *m = scan (source);
    struct store *from = store_open (m, source, f);
    struct store *to = NULL;
    int rc = -1;

    if (from && (to = store_create (m, dest, TMP, overwrite ? STORE_OVERWRITE : 0, f))
        && copy_chunks (m, from, to, f) == 0
        && store_check_unchanged (from, f) == 0 && store_seal (to, f) == 0) {
        /* others are served until all have got it */
        if (!read_all (m, to, f))
            printf ("# after seal: %s\n", f->text);
        else
            rc = store_publish (to, f);
    }
    if (rc < 0)
        printf ("# %s\n", f->text);
    store_destroy (to);
    store_destroy (from);
    manifest_destroy (m);
    return rc;
}

static void copied (const char *source, const char *dest, const char *final)
{
    struct fault f;

    if (ok (copy (source, dest, false, &f) == 0))
        ok (same_tree (source, final));
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

static void test_tree (const char *dir)
{
    make_tree (path ("%s/src", dir), CHUNK);
    copied (path ("%s/src", dir), path ("%s/out", dir), path ("%s/out", dir));
    ok (count_names (dir) == 2);
}

static void test_file (const char *dir)
{
    size_t sizes[] = { 0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3 };

    for (size_t i = 0; i < sizeof (sizes) / sizeof (sizes[0]); i++) {
        const char *src = path ("%s/f-%zu", dir, i);
        const char *out = path ("%s/out-%zu", dir, i);

        make_file (src, sizes[i], i);
        must (chmod (src, i % 2 ? 0444 : 0755) == 0);
        copied (src, out, out);
    }
}

/* More files than are kept open, each of several chunks, not to be written to:
 * what is read after they are sealed is opened again.
 */
static void read_only (const char *dir)
{
    make_dir (path ("%s/src", dir));
    for (int i = 0; i < FDCACHE_SIZE + 8; i++) {
        make_file (path ("%s/src/%d", dir, i), 2 * CHUNK + i, i);
        must (chmod (path ("%s/src/%d", dir, i), 0444) == 0);
    }
    must (chmod (path ("%s/src", dir), 0555) == 0);
    copied (path ("%s/src", dir), path ("%s/out", dir), path ("%s/out", dir));
}

static void test_read_only (const char *dir)
{
    if (!check_as_nobody (read_only, dir))
        read_only (dir);
}

/* Readable through the group only: the copy's owner may not read it, but has
 * to until it is published.
 */
static void write_only (const char *dir)
{
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;
    struct stat sb;

    make_dir (path ("%s/src", dir));
    make_dir (path ("%s/src/sub", dir));
    make_file (path ("%s/src/sub/small", dir), 10, 1);
    make_file (path ("%s/src/sub/large", dir), 3 * CHUNK, 2);
    m = scan (path ("%s/src", dir));
    must ((from = store_open (m, path ("%s/src", dir), &f)));
    for (uint32_t i = 0; i < m->nentries; i++)
        m->entries[i].mode = m->entries[i].type == ENTRY_DIR ? 0050 : 0040;
    must ((to = store_create (m, path ("%s/out", dir), TMP, 0, &f)));
    ok (copy_chunks (m, from, to, &f) == 0 && store_seal (to, &f) == 0);
    ok (read_all (m, to, &f));
    ok (store_publish (to, &f) == 0);
    ok (stat (path ("%s/out", dir), &sb) == 0 && (sb.st_mode & 0777) == 0050);
    must (chmod (path ("%s/out", dir), 0700) == 0);
    ok (stat (path ("%s/out/sub", dir), &sb) == 0 && (sb.st_mode & 0777) == 0050);
    must (chmod (path ("%s/out/sub", dir), 0700) == 0);
    ok (stat (path ("%s/out/sub/small", dir), &sb) == 0
        && (sb.st_mode & 0777) == 0040);
    ok (stat (path ("%s/out/sub/large", dir), &sb) == 0
        && (sb.st_mode & 0777) == 0040);
    store_destroy (to);
    store_destroy (from);
    /* and once more, given up after it was sealed */
    must ((from = store_open (m, path ("%s/src", dir), &f)));
    must ((to = store_create (m, path ("%s/out2", dir), TMP, 0, &f)));
    ok (copy_chunks (m, from, to, &f) == 0 && store_seal (to, &f) == 0);
    store_destroy (to);
    store_destroy (from);
    ok (count_names (dir) == 2);
    manifest_destroy (m);
}

static void test_write_only (const char *dir)
{
    if (!check_as_nobody (write_only, dir))
        write_only (dir);
}

static void test_dest (const char *dir)
{
    const char *src = path ("%s/src", dir);
    char cwd[4096];
    struct fault f;

    make_dir (src);
    make_file (path ("%s/src/a", dir), 100, 1);
    set_mtime (src, 1000);
    make_file (path ("%s/file", dir), 100, 2);
    make_dir (path ("%s/in", dir));
    copied (src, path ("%s/in", dir), path ("%s/in/src", dir));
    copied (path ("%s/file", dir), path ("%s/in/", dir), path ("%s/in/file", dir));
    copied (src, path ("%s/new", dir), path ("%s/new", dir));
    copied (src, path ("%s/new2//", dir), path ("%s/new2", dir));
    copied (src, path ("%s/in/./../new3", dir), path ("%s/new3", dir));
    must (symlink ("in", path ("%s/link", dir)) == 0);
    copied (src, path ("%s/link/via", dir), path ("%s/in/via", dir));
    must (getcwd (cwd, sizeof (cwd)) && chdir (dir) == 0);
    copied ("src", "relative", path ("%s/relative", dir));
    make_dir ("dot");
    must (chdir ("dot") == 0);
    copied ("../src", ".", path ("%s/dot/src", dir));
    must (chdir (cwd) == 0);

    refused (src, path ("%s/none/new", dir), false, ENOENT, "make it first");
    refused (path ("%s/file", dir), path ("%s/n/", dir), false, ENOTDIR, "leave out the /");
    refused (src, path ("%s/file/new", dir), false, ENOTDIR, "Not a directory");
    refused (src, "", false, ENOENT, "No such file");
    refused (src, path ("%s/in", dir), false, EEXIST, "exists: remove it");
    refused (src, path ("%s/file", dir), false, EEXIST, "exists: remove it");
    must (symlink ("nowhere", path ("%s/dangling", dir)) == 0);
    refused (src, path ("%s/dangling", dir), false, EEXIST, "exists");

    /* a file by a directory, a directory by a file, a link by a directory */
    ok (copy (src, path ("%s/in/file", dir), true, &f) == 0);
    ok (same_tree (src, path ("%s/in/file", dir)));
    ok (copy (path ("%s/file", dir), path ("%s/in", dir), true, &f) == 0);
    ok (same_tree (path ("%s/file", dir), path ("%s/in/file", dir)));
    ok (copy (src, path ("%s/dangling", dir), true, &f) == 0);
    ok (same_tree (src, path ("%s/dangling", dir)));
    ok (copy (src, path ("%s/in", dir), true, &f) == 0);
    ok (access (path ("%s/" TMP, dir), F_OK) < 0);
    ok (access (path ("%s/in/" TMP, dir), F_OK) < 0);
}

static void test_same (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *file = path ("%s/src/a", dir);
    struct fault f;

    make_dir (src);
    make_file (file, 100, 1);
    make_dir (path ("%s/src/sub", dir));
    make_dir (path ("%s/in", dir));
    make_dir (path ("%s/in/src", dir));
    make_dir (path ("%s/in/src/src", dir));
    must (symlink ("src", path ("%s/link", dir)) == 0);
    ok (dest_is_source (src, "src", src, true, &f) == 1);
    ok (dest_is_source (dir, "src", src, true, &f) == 1);
    ok (dest_is_source (path ("%s/link/", dir), "src", src, true, &f) == 1);
    ok (dest_is_source (path ("%s/src", dir), "a", file, true, &f) == 1);
    ok (dest_is_source (file, "a", file, true, &f) == 1);
    ok (dest_is_source (path ("%s/in", dir), "src", src, true, &f) == 0);
    ok (dest_is_source (path ("%s/new", dir), "src", src, true, &f) == 0);
    ok (dest_is_source (path ("%s/src/b", dir), "a", file, true, &f) == 0);
    ok (dest_is_source (path ("%s/src/new", dir), "src", src, false, &f) < 0);
    ok_fault (&f, EINVAL, "is inside the source");
    ok (dest_is_source (path ("%s/src/sub", dir), "src", src, false, &f) < 0);
    ok_fault (&f, EINVAL, "is inside the source");
    ok (dest_is_source (path ("%s/in", dir), "src", path ("%s/in/src/src", dir), true, &f)
        < 0);
    ok_fault (&f, EINVAL, "would remove the source");
    ok (dest_is_source (path ("%s/in", dir), "src", path ("%s/in/src/src", dir), false, &f)
        == 0);
}

/* A file that another rank of the same broadcast has made meanwhile. */
static void test_race (const char *dir)
{
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;

    make_file (path ("%s/file", dir), 100, 1);
    m = scan (path ("%s/file", dir));
    must ((from = store_open (m, path ("%s/file", dir), &f)));
    must ((to = store_create (m, path ("%s/out", dir), TMP, 0, &f)));
    ok (copy_chunks (m, from, to, &f) == 0 && store_seal (to, &f) == 0);
    make_file (path ("%s/out", dir), 7, 2);
    ok (store_publish (to, &f) < 0);
    ok_fault (&f, EEXIST, "exists");
    store_destroy (to);
    store_destroy (from);
    manifest_destroy (m);
    ok (count_names (dir) == 2);
}

static void test_changed (const char *dir)
{
    const char *src = path ("%s/src", dir);
    struct manifest *m;
    struct store *st;
    struct fault f;
    unsigned char buf[10];

    make_dir (src);
    make_file (path ("%s/src/a", dir), 10, 1);
    make_file (path ("%s/src/b", dir), 3 * CHUNK, 2);
    m = scan (src);
    must ((st = store_open (m, src, &f)));
    ok (store_check_unchanged (st, &f) == 0);
    ok (store_read (st, 0, buf, sizeof (buf), &f) == 0);
    set_mtime (path ("%s/src/a", dir), 77);
    ok (store_check_unchanged (st, &f) < 0);
    ok_fault (&f, ESTALE, "/src/a: changed while it was read");
    ok (f.kind == FAULT_SOURCE);
    ok (store_read (st, 0, buf, sizeof (buf), &f) < 0);
    ok_fault (&f, ESTALE, "changed while it was read");
    set_mtime (path ("%s/src/a", dir), 1500000001);
    ok (store_check_unchanged (st, &f) == 0);
    must (truncate (path ("%s/src/b", dir), 5) == 0);
    ok (store_read (st, CHUNK, buf, sizeof (buf), &f) < 0);
    ok_fault (&f, ESTALE, "/src/b: changed while it was read");
    unlink (path ("%s/src/b", dir));
    ok (store_check_unchanged (st, &f) < 0);
    store_destroy (st);
    manifest_destroy (m);
}

/* A file that lost its end between the chunks and the seal is found out. */
static void test_short (const char *dir)
{
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;

    make_dir (path ("%s/src", dir));
    make_file (path ("%s/src/b", dir), 3 * CHUNK, 2);
    m = scan (path ("%s/src", dir));
    must ((from = store_open (m, path ("%s/src", dir), &f)));
    must ((to = store_create (m, path ("%s/out", dir), TMP, 0, &f)));
    ok (copy_chunks (m, from, to, &f) == 0);
    must (truncate (path ("%s/" TMP "/b", dir), CHUNK) == 0);
    ok (store_seal (to, &f) < 0);
    ok_fault (&f, EIO, "/out/b: ");
    store_destroy (to);
    store_destroy (from);
    manifest_destroy (m);
    ok (count_names (dir) == 1);
}

static void cannot_write (const char *dir)
{
    make_file (path ("%s/file", dir), 10, 1);
    make_dir (path ("%s/ro", dir));
    must (chmod (path ("%s/ro", dir), 0555) == 0);
    refused (path ("%s/file", dir), path ("%s/ro", dir), false, EACCES, "Permission denied");
    refused (path ("%s/file", dir), path ("%s/ro/new", dir), false, EACCES, "/ro/new: ");
    make_dir (path ("%s/closed", dir));
    must (chmod (path ("%s/closed", dir), 0) == 0);
    refused (path ("%s/file", dir), path ("%s/closed/x", dir), false, EACCES, "denied");
}

static void test_cannot_write (const char *dir)
{
    if (!check_as_nobody (cannot_write, dir))
        check_skip ("directories that nobody may write to: needs root");
    if (access ("/proc/sys", F_OK) == 0) {
        make_file (path ("%s/f", dir), 10, 1);
        refused (path ("%s/f", dir), "/proc/x", false, ENOENT, "No such file");
    }
}

/* A tmpfs of few pages, or few names. */
static void fill_disk (const char *dir, const char *options, int files, size_t size)
{
    const char *src = path ("%s/src", dir);
    const char *small = path ("%s/small", dir);

    make_dir (small);
    if (mount ("none", small, "tmpfs", 0, options) < 0) {
        check_skip ("full disks: cannot mount a tmpfs here");
        return;
    }
    make_dir (src);
    for (int i = 0; i < files; i++)
        make_file (path ("%s/%d", src, i), size, i);
    refused (src, small, false, ENOSPC, "o space left on device");
    ok (count_names (small) == 0);
    must (umount (small) == 0);
}

static void test_full (const char *dir)
{
    fill_disk (dir, "size=128k", 100, 1);
}

static void test_full_of_names (const char *dir)
{
    fill_disk (dir, "size=8m,nr_inodes=20", 100, 3 * CHUNK);
}

static void test_too_large (const char *dir)
{
    fill_disk (dir, "size=64k", 1, 100000);
}

/* The default ACL of the directory, not the umask, limits what is made in it. */
static void test_default_acl (const char *dir)
{
    const int entries[3][2] = { { 0x01, 7 }, { 0x04, 0 }, { 0x20, 0 } };
    unsigned char acl[4 + 3 * 8];

    put32 (acl, 2);
    for (int i = 0; i < 3; i++) {
        put16 (acl + 4 + 8 * i, entries[i][0]);
        put16 (acl + 6 + 8 * i, entries[i][1]);
        put32 (acl + 8 + 8 * i, UINT32_MAX);
    }
    make_tree (path ("%s/src", dir), CHUNK);
    make_dir (path ("%s/acl", dir));
    if (setxattr (path ("%s/acl", dir), "system.posix_acl_default", acl, sizeof (acl), 0)
        < 0) {
        check_skip ("default ACLs: this file system has none");
        return;
    }
    copied (path ("%s/src", dir), path ("%s/acl", dir), path ("%s/acl/src", dir));
}

static void test_umask (const char *dir)
{
    mode_t old = umask (0077);

    make_dir (path ("%s/src", dir));
    make_file (path ("%s/src/small", dir), 10, 1);
    make_file (path ("%s/src/large", dir), 3 * CHUNK, 1);
    must (chmod (path ("%s/src/small", dir), 0666) == 0
          && chmod (path ("%s/src/large", dir), 0666) == 0
          && chmod (path ("%s/src", dir), 0777) == 0);
    copied (path ("%s/src", dir), path ("%s/out", dir), path ("%s/out", dir));
    ok (umask (old) == 0077);
}

static void make_deep (int fd, int depth, mode_t mode)
{
    for (int i = 0; i < depth; i++) {
        int up = fd;

        must (mkdirat (fd, "0", 0700) == 0);
        must ((fd = openat (up, "0", O_RDONLY | O_CLOEXEC)) >= 0);
        must (mkdirat (fd, "1", 0700) == 0 && symlinkat ("x", fd, "l") == 0);
        must (fchmod (up, mode) == 0);
        close (up);
    }
    close (fd);
}

/* Deeper than there are descriptors, or than a path can say. */
static void remove_deep (const char *dir)
{
    mode_t modes[] = { 0700, 0500, 0000 };

    for (int i = 0; i < 3; i++) {
        int fd = open (dir, O_RDONLY | O_CLOEXEC);
        int top;

        must (fd >= 0);
        make_dir (path ("%s/tree", dir));
        must ((top = open (path ("%s/tree", dir), O_RDONLY | O_CLOEXEC)) >= 0);
        make_deep (top, 3000, modes[i]);
        if (!ok (remove_at (fd, "tree") == 0))
            printf ("# mode %o: %s\n", modes[i], strerror (errno));
        ok (access (path ("%s/tree", dir), F_OK) < 0);
        ok (remove_at (fd, "tree") == 0); /* not there is as good */
        close (fd);
    }
}

static void test_remove_deep (const char *dir)
{
    if (!check_as_nobody (remove_deep, dir))
        remove_deep (dir);
}

/* Links are removed, not followed. */
static void test_remove_links (const char *dir)
{
    int fd = open (dir, O_RDONLY | O_CLOEXEC);

    must (fd >= 0);
    make_dir (path ("%s/keep", dir));
    make_file (path ("%s/keep/file", dir), 1, 1);
    make_dir (path ("%s/tree", dir));
    must (symlink ("../keep", path ("%s/tree/link", dir)) == 0);
    must (symlink ("keep", path ("%s/link", dir)) == 0);
    ok (remove_at (fd, "tree") == 0 && remove_at (fd, "link") == 0);
    ok (count_names (dir) == 1 && count_names (path ("%s/keep", dir)) == 1);
    close (fd);
}

static void test_discard (const char *dir)
{
    make_dir (path ("%s/in", dir));
    make_dir (path ("%s/in/" TMP, dir));
    make_file (path ("%s/in/" TMP "/a", dir), 1, 1);
    ok (store_discard (path ("%s/in", dir), TMP) == 0);
    ok (count_names (path ("%s/in", dir)) == 0);
    make_file (path ("%s/" TMP, dir), 1, 1);
    ok (store_discard (path ("%s/new", dir), TMP) == 0);
    ok (count_names (dir) == 1);
    ok (store_discard (path ("%s/none/new", dir), TMP) == 0);
}

/* A path that fills a message still leaves room for the reason. */
static void test_long_message (const char *dir)
{
    char name[256];
    struct fault f;

    memset (name, 'm', 255);
    name[255] = '\0';
    make_file (path ("%s/file", dir), 10, 1);
    make_dir (path ("%s/%s", dir, name));
    make_dir (path ("%s/%s/%s", dir, name, name));
    ok (copy (path ("%s/file", dir), path ("%s/%s/%s/no/x", dir, name, name), false, &f)
        < 0);
    ok_fault (&f, ENOENT, "its directory does not exist: make it first");
    ok (strstr (f.text, "...mmm") != NULL);
}

int main (void)
{
    run (test_tree);
    run (test_file);
    run (test_read_only);
    run (test_write_only);
    run (test_dest);
    run (test_same);
    run (test_race);
    run (test_changed);
    run (test_short);
    run (test_cannot_write);
    run (test_full);
    run (test_full_of_names);
    run (test_too_large);
    run (test_default_acl);
    run (test_umask);
    run (test_remove_deep);
    run (test_remove_links);
    run (test_discard);
    run (test_long_message);
    return check_end ();
}
