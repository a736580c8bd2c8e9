/* test_resume.c - what an interrupted run left, or what stands at the
 * destination, is used as far as it is right, and nothing else is
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "store_impl.h"
#include "tree_check.h"

#define CHUNK 8192

/* A run of one rank, with the source at hand to compare with. */
struct run {
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;
};

static struct manifest *scan (const char *source, uint32_t chunk, bool contents)
{
    struct manifest *m = manifest_scan (source, NULL);
    int64_t at;

    must (m);
    m->chunk_size = chunk;
    if (contents) {
        must ((at = manifest_add_string (m, "", 0)) >= 0);
        m->entries[0].name = at;
    }
    return m;
}

static void start_as (struct run *r,
                      const char *source,
                      const char *dest,
                      uint32_t chunk,
                      int flags,
                      bool contents)
{
    memset (r, 0, sizeof (*r));
    r->m = scan (source, chunk, contents);
    must ((r->from = store_open (r->m, source, &r->f)));
    must ((r->to = store_create (r->m, dest, "unused", flags | STORE_RESUME, &r->f)));
}

static void start (struct run *r, const char *source, const char *dest)
{
    start_as (r, source, dest, CHUNK, 0, false);
}

static bool begin (struct run *r)
{
    bool good = store_begin (r->to, &r->f) == 0;

    if (!good)
        printf ("# %s\n", r->f.text);
    return good;
}

static void end (struct run *r)
{
    store_destroy (r->to);
    store_destroy (r->from);
    manifest_destroy (r->m);
}

static uint64_t count_chunks (const struct run *r)
{
    return (r->m->bytes + r->m->chunk_size - 1) / r->m->chunk_size;
}

/* The right bytes of a chunk. */
static size_t get (struct run *r, uint64_t c, unsigned char *buf)
{
    uint64_t at = c * r->m->chunk_size;
    size_t len = r->m->bytes - at < r->m->chunk_size ? r->m->bytes - at
                                                     : r->m->chunk_size;

    must (store_read (r->from, at, buf, len, &r->f) == 0);
    return len;
}

static bool is_there (struct run *r, enum recall where, uint64_t c)
{
    unsigned char *want = malloc (2 * r->m->chunk_size);
    unsigned char *got = want + r->m->chunk_size;
    size_t len = get (r, c, want);
    bool good;

    good = store_recall (r->to, where, c * r->m->chunk_size, got, len) == 1
           && !memcmp (want, got, len);
    free (want);
    return good;
}

static uint64_t count_right (struct run *r, enum recall where)
{
    uint64_t right = 0;

    for (uint64_t c = 0; c < count_chunks (r); c++)
        right += is_there (r, where, c);
    return right;
}

static void fetch (struct run *r, uint64_t c)
{
    unsigned char *buf = malloc (r->m->chunk_size);
    size_t len = get (r, c, buf);

    ok (store_write (r->to, c * r->m->chunk_size, buf, len, &r->f) == 0);
    free (buf);
}

/* Each chunk that is not there, of the first 'n'. Returns how many. */
static uint64_t fetch_lacking (struct run *r, uint64_t n)
{
    uint64_t fetched = 0;

    for (uint64_t c = 0; c < n; c++) {
        if (!is_there (r, RECALL_PARTIAL, c)) {
            fetch (r, c);
            fetched++;
        }
    }
    return fetched;
}

static bool finish (struct run *r)
{
    bool good = store_seal (r->to, &r->f) == 0;

    if (good) {
        unsigned char buf[CHUNK];

        /* others are served until all have got it */
        for (uint64_t at = 0; good && at + CHUNK <= r->m->bytes; at += CHUNK)
            good = store_read (r->to, at, buf, CHUNK, &r->f) == 0;
        good = good && store_publish (r->to, &r->f) == 0;
    }
    if (!good)
        printf ("# %s\n", r->f.text);
    return good;
}

/* A whole run, which may find something. Returns how many chunks it fetched. */
static uint64_t complete (const char *source, const char *dest, const char *final)
{
    struct run r;
    uint64_t fetched = 0;

    start_as (&r, source, dest, CHUNK, STORE_OVERWRITE, false);
    if (ok (begin (&r))) {
        fetched = fetch_lacking (&r, count_chunks (&r));
        ok (finish (&r));
    }
    end (&r);
    ok (same_tree (source, final));
    return fetched;
}

static const char *partial_path (const char *source, const char *dir, const char *name)
{
    struct manifest *m = scan (source, CHUNK, false);
    char *partial = partial_name (m, name);
    const char *p = path ("%s/%s", dir, partial);

    free (partial);
    manifest_destroy (m);
    return p;
}

/* In the middle; also with other chunks than the run that goes on. */
static void interrupt (const char *source, const char *dest, uint32_t chunk)
{
    struct run r;

    start_as (&r, source, dest, chunk, 0, false);
    ok (begin (&r));
    fetch_lacking (&r, count_chunks (&r) / 2);
    end (&r);
}

static void go_on (const char *source, const char *dir)
{
    uint32_t chunks[] = { CHUNK, CHUNK / 2, 4 * CHUNK };

    for (int i = 0; i < 3; i++) {
        const char *out = path ("%s/out-%d", dir, i);
        struct run r;
        uint64_t right;
        int before = count_names (dir);

        interrupt (source, out, chunks[i]);
        ok (count_names (dir) == before + 1);
        start (&r, source, out);
        ok (!store_is_alike (r.to));
        ok (begin (&r));
        right = count_right (&r, RECALL_PARTIAL);
        printf ("# %ju of %ju chunks\n", (uintmax_t)right, (uintmax_t)count_chunks (&r));
        ok (right > 0 && right < count_chunks (&r));
        ok (right >= count_chunks (&r) / 2 - 1);
        ok (fetch_lacking (&r, count_chunks (&r)) == count_chunks (&r) - right);
        ok (finish (&r));
        end (&r);
        ok (same_tree (source, out));
        ok (count_names (dir) == before + 1);
    }
}

static void test_tree (const char *dir)
{
    make_tree (path ("%s/src", dir), CHUNK);
    go_on (path ("%s/src", dir), dir);
}

static void test_file (const char *dir)
{
    make_file (path ("%s/src", dir), 20 * CHUNK + 77, 1);
    go_on (path ("%s/src", dir), dir);
}

/* All had been complete, but another rank failed. Until it is published, nobody
 * else may look into it.
 */
static void sealed (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct run r;
    struct stat sb;

    make_tree (src, CHUNK);
    make_dir (path ("%s/closed", src));
    make_file (path ("%s/closed/file", src), 3 * CHUNK, 3);
    must (chmod (path ("%s/closed", src), 0555) == 0);
    start (&r, src, out);
    ok (begin (&r));
    fetch_lacking (&r, count_chunks (&r));
    ok (store_seal (r.to, &r.f) == 0);
    ok (stat (store_tmp_path (r.to), &sb) == 0 && (sb.st_mode & 0777) == 0700);
    end (&r);
    ok (complete (src, out, out) == 0);
    ok (count_names (dir) == 2);
}

static void test_sealed (const char *dir)
{
    if (!check_as_nobody (sealed, dir))
        sealed (dir);
}

/* Somebody took the name while the last one was waited for. */
static void test_not_published (const char *dir)
{
    const char *files[] = { "file", "tree" };

    make_file (path ("%s/file", dir), 2 * CHUNK + 1, 1);
    make_tree (path ("%s/tree", dir), CHUNK);
    for (int i = 0; i < 2; i++) {
        const char *src = path ("%s/%s", dir, files[i]);
        const char *out = path ("%s/out-%d", dir, i);
        struct run r;
        struct stat sb;

        start (&r, src, out);
        ok (begin (&r));
        fetch_lacking (&r, count_chunks (&r));
        ok (store_seal (r.to, &r.f) == 0);
        ok (stat (store_tmp_path (r.to), &sb) == 0
            && (sb.st_mode & 0777) == (i ? 0700 : 0600));
        make_file (out, 5, 1);
        ok (store_publish (r.to, &r.f) < 0);
        ok_fault (&r.f, EEXIST, "exists: remove it");
        end (&r);
        must (unlink (out) == 0);
        ok (complete (src, out, out) == 0);
    }
    ok (count_names (dir) == 4);
}

/* The same without resume. */
static void copy (const char *source, const char *dest)
{
    struct run r = { 0 };

    r.m = scan (source, CHUNK, false);
    must ((r.from = store_open (r.m, source, &r.f)));
    must ((r.to = store_create (r.m, dest, ".tmp", 0, &r.f)));
    for (uint64_t c = 0; c < count_chunks (&r); c++)
        fetch (&r, c);
    ok (finish (&r));
    end (&r);
}

/* Only modes and times are touched, and what an older run left is removed. */
static void test_alike (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *in = path ("%s/in", dir);
    const char *out = path ("%s/in/src", dir);
    struct stat before;
    struct stat sb;
    struct run r;

    make_tree (src, CHUNK);
    make_dir (in);
    interrupt (src, in, CHUNK);
    copy (src, in);
    ok (count_names (in) == 2);
    must (stat (path ("%s/sub/small-3", out), &before) == 0);
    must (chmod (path ("%s/sub/small-4", out), 04600) == 0
          && chmod (path ("%s/sub/deeper", out), 0700) == 0 && chmod (out, 0700) == 0);
    set_mtime (path ("%s/sub/small-5", out), 5);
    set_mtime (path ("%s/sub/deeper/chunks", out), 6);
    set_mtime (out, 7);
    start (&r, src, in);
    ok (store_is_alike (r.to));
    ok (count_right (&r, RECALL_FINAL) == count_chunks (&r));
    store_keep (r.to);
    ok (count_right (&r, RECALL_FINAL) == count_chunks (&r));
    ok (finish (&r));
    end (&r);
    ok (same_tree (src, out));
    ok (stat (path ("%s/sub/small-3", out), &sb) == 0 && sb.st_ino == before.st_ino
        && sb.st_ctim.tv_sec == before.st_ctim.tv_sec
        && sb.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
    ok (count_names (in) == 1);
    /* given up, it stays as well */
    start (&r, src, in);
    ok (store_is_alike (r.to));
    store_keep (r.to);
    end (&r);
    ok (same_tree (src, out));
}

static void differs (const char *src, const char *dir, const char *what)
{
    struct run r;

    start (&r, src, dir);
    if (!ok (!store_is_alike (r.to)))
        printf ("# %s\n", what);
    /* which must not hang, or lead elsewhere */
    ok (count_right (&r, RECALL_FINAL) < count_chunks (&r)
        || !strcmp (what, "more") || !strcmp (what, "link") || !strcmp (what, "hole")
        || !strcmp (what, "longer"));
    end (&r);
    ok (complete (src, dir, path ("%s/src", dir)) > 0);
}

static void test_differs (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *in = path ("%s/in", dir);
    const char *out = path ("%s/in/src", dir);

    make_tree (src, CHUNK);
    make_dir (in);
    differs (src, in, "nothing there");
    make_file (path ("%s/sub/deeper/more", out), 1, 1);
    differs (src, in, "more");
    must (unlink (path ("%s/sub/small-7", out)) == 0);
    differs (src, in, "less");
    must (truncate (path ("%s/sub/deeper/chunks", out), 77) == 0);
    differs (src, in, "shorter");
    must (truncate (path ("%s/sub/deeper/chunks", out), 70000) == 0);
    differs (src, in, "longer");
    must (unlink (path ("%s/dangling", out)) == 0
          && symlink ("/does/not/exisT", path ("%s/dangling", out)) == 0);
    differs (src, in, "link");
    write_at (path ("%s/holes", out), 700000, 1, 3);
    differs (src, in, "hole");
    must (unlink (path ("%s/run", out)) == 0 && mkfifo (path ("%s/run", out), 0600) == 0);
    differs (src, in, "pipe");
    must (unlink (path ("%s/sub/read-only", out)) == 0
          && mkfifo (path ("%s/sub/read-only", out), 0600) == 0);
    differs (src, in, "pipe where a large file was");
    must (unlink (path ("%s/run", out)) == 0
          && symlink (path ("%s/run", src), path ("%s/run", out)) == 0);
    differs (src, in, "link to the right file");
    must (rename (path ("%s/sub", out), path ("%s/aside", dir)) == 0
          && symlink ("../aside", path ("%s/sub", out)) == 0);
    differs (src, in, "link to the right directory");
    must (rename (out, path ("%s/aside2", dir)) == 0
          && symlink ("../aside2", out) == 0);
    differs (src, in, "link by the final name");
    ok (count_names (in) == 1);
}

/* A few chunks of what stands there are not as in the new source. */
static void test_changed_destination (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct run r;
    uint64_t fetched = 0;

    make_file (src, 50 * CHUNK + 5, 1);
    copy (src, out);
    write_at (src, 7 * CHUNK + 3, 10, 99);
    write_at (src, 50 * CHUNK, 100, 98);
    start_as (&r, src, out, CHUNK, STORE_OVERWRITE, false);
    ok (!store_is_alike (r.to));
    ok (begin (&r));
    for (uint64_t c = 0; c < count_chunks (&r); c++) {
        fetched += !is_there (&r, RECALL_FINAL, c);
        ok (!is_there (&r, RECALL_PARTIAL, c));
        fetch (&r, c);
    }
    ok (fetched == 2);
    ok (finish (&r));
    end (&r);
    ok (same_tree (src, out));
    ok (count_names (dir) == 2);
}

/* Never goes on with what was left of another source, and takes that away. */
static void test_changed_source (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct run r;

    make_tree (src, CHUNK);
    interrupt (src, out, CHUNK);
    interrupt (src, path ("%s/out2", dir), CHUNK);
    set_mtime (path ("%s/sub/small-1", src), 1);
    start (&r, src, out);
    ok (begin (&r));
    ok (count_right (&r, RECALL_PARTIAL) == 0);
    ok (count_names (dir) == 3);
    fetch_lacking (&r, count_chunks (&r));
    ok (finish (&r));
    end (&r);
    ok (count_names (dir) == 3);
}

static void test_busy (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct run r;
    struct run other;

    make_tree (src, CHUNK);
    interrupt (src, out, CHUNK);
    start (&r, src, out);
    start (&other, src, out);
    ok (begin (&r));
    ok (!begin (&other));
    ok_fault (&other.f, EBUSY, "/out: another broadcast to it is running: wait for it");
    end (&other);
    /* nor is it in the way of another source, which leaves it alone */
    set_mtime (path ("%s/sub/small-1", src), 1);
    start (&other, src, out);
    ok (begin (&other));
    ok (count_names (dir) == 3);
    end (&other);
    set_mtime (path ("%s/sub/small-1", src), 1500000001);
    ok (fetch_lacking (&r, count_chunks (&r)) > 0);
    ok (finish (&r));
    end (&r);
    ok (same_tree (src, out));
}

static void refused (const char *src, const char *out)
{
    struct run r;

    start (&r, src, out);
    ok (!begin (&r));
    ok_fault (&r.f, EPERM, "was not left so by an interrupted run of yours: remove it");
    ok (strstr (r.f.text, PARTIAL_PREFIX) != NULL);
    ok (r.f.kind == FAULT_DESTINATION);
    end (&r);
}

/* What others may have put there, where they may write. */
static void test_foreign (const char *dir)
{
    const char *files[] = { "file", "tree" };

    make_file (path ("%s/file", dir), 2 * CHUNK + 1, 1);
    make_tree (path ("%s/tree", dir), CHUNK);
    for (int i = 0; i < 2; i++) {
        const char *src = path ("%s/%s", dir, files[i]);
        const char *out = path ("%s/out", dir);
        const char *partial = partial_path (src, dir, "out");

        interrupt (src, out, CHUNK);
        must (chmod (partial, i ? 01750 : 0640) == 0);
        refused (src, out);
        must (chmod (partial, 0700) == 0); /* as any directory may have */
        refused (src, out);
        must (chmod (partial, i ? 01700 : 0600) == 0);
        if (geteuid () == 0) {
            must (chown (partial, 65534, 65534) == 0);
            refused (src, out);
            must (chown (partial, 0, 0) == 0);
        }
        must (rename (partial, path ("%s/aside", dir)) == 0);
        must (symlink ("aside", partial) == 0);
        refused (src, out);
        must (unlink (partial) == 0 && mkfifo (partial, 0600) == 0);
        refused (src, out);
        must (unlink (partial) == 0);
        if (i == 0) {
            must (link (path ("%s/aside", dir), partial) == 0);
            refused (src, out);
            must (unlink (partial) == 0);
            make_dir (partial);
            refused (src, out);
            must (rmdir (partial) == 0);
        }
        must (rename (path ("%s/aside", dir), partial) == 0);
        ok (complete (src, out, out) > 0);
        must (rename (out, path ("%s/done-%d", dir, i)) == 0);
    }
    ok (count_names (dir) == 4);
}

/* Inside, it is put in order. */
static void dirty (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    const char *p = partial_path ((make_tree (src, CHUNK), src), dir, "out");

    interrupt (src, out, CHUNK);
    make_dir (path ("%s/more", p));
    make_file (path ("%s/more/a", p), 1, 1);
    make_file (path ("%s/sub/more", p), 1, 1);
    make_file (path ("%s/victim", dir), 2 * CHUNK + 5, 1);
    make_file (path ("%s/victim2", dir), 3, 1);
    /* kinds */
    must (rmdir (path ("%s/empty", p)) == 0);
    must (symlink ("..", path ("%s/empty", p)) == 0);
    must (unlink (path ("%s/dangling", p)) == 0);
    make_dir (path ("%s/dangling", p));
    make_file (path ("%s/dangling/a", p), 1, 1);
    must (unlink (path ("%s/sub/link", p)) == 0
          && symlink ("elsewhere", path ("%s/sub/link", p)) == 0);
    /* files that are not only here */
    must (unlink (path ("%s/sub/read-only", p)) == 0
          && link (path ("%s/victim", dir), path ("%s/sub/read-only", p)) == 0);
    (void)unlink (path ("%s/sub/small-2", p));
    must (symlink (path ("%s/victim2", dir), path ("%s/sub/small-2", p)) == 0);
    /* sizes, holes, modes, times */
    must (truncate (path ("%s/sub/deeper/chunks", p), 5) == 0);
    (void)unlink (path ("%s/sub/small-3", p));
    make_file (path ("%s/sub/small-3", p), 5000, 3);
    write_at (path ("%s/all hole", p), 5000, 5, 1);
    write_at (path ("%s/holes", p), 300000, 1, 3);
    (void)unlink (path ("%s/run", p));
    make_file (path ("%s/run", p), 100, 54);
    must (chmod (path ("%s/run", p), 0) == 0);
    must (chmod (path ("%s/sub/deeper", p), 0) == 0);
    must (chmod (path ("%s/sub", p), 0500) == 0);
    ok (complete (src, out, out) > 0);
    make_file (path ("%s/right", dir), 2 * CHUNK + 5, 1);
    ok (same_tree (path ("%s/right", dir), path ("%s/victim", dir)));
    make_file (path ("%s/right2", dir), 3, 1);
    ok (same_tree (path ("%s/right2", dir), path ("%s/victim2", dir)));
    ok (count_names (dir) == 6);
}

static void test_dirty (const char *dir)
{
    if (!check_as_nobody (dirty, dir))
        dirty (dir);
}

/* One file that lost its end, and its holes. */
static void test_dirty_file (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    const char *p;

    make_file (src, 3 * CHUNK, 1);
    must (truncate (src, 100 * CHUNK) == 0);
    set_mtime (src, 1000);
    p = partial_path (src, dir, "out");
    interrupt (src, out, CHUNK);
    write_at (p, 50 * CHUNK, 9, 1);
    ok (complete (src, out, out) == 3);
    must (unlink (out) == 0);
    interrupt (src, out, CHUNK);
    must (truncate (p, CHUNK) == 0);
    ok (complete (src, out, out) == 3);
}

/* What is in the way is so from the beginning on. */
static void test_exists (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct run r;

    make_file (src, 2 * CHUNK, 1);
    interrupt (src, out, CHUNK);
    make_file (out, 5, 1);
    start (&r, src, out);
    ok (!begin (&r));
    ok_fault (&r.f, EEXIST, "/out: exists: remove it, or allow overwrite");
    end (&r);
    ok (count_names (dir) == 3);
    ok (complete (src, out, out) == 1);
    ok (count_names (dir) == 2);
}

/* What was replaced could not be removed: the next run does it. */
static void test_leftover (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *in = path ("%s/in", dir);
    const char *out = path ("%s/in/src", dir);
    const char *p;
    struct run r;

    make_tree (src, CHUNK);
    make_dir (in);
    make_dir (out);
    make_dir (path ("%s/mount", out));
    if (mount ("none", path ("%s/mount", out), "tmpfs", 0, "size=64k") < 0) {
        check_skip ("what cannot be removed: cannot mount a tmpfs here");
        return;
    }
    start_as (&r, src, in, CHUNK, STORE_OVERWRITE, false);
    ok (begin (&r));
    fetch_lacking (&r, count_chunks (&r));
    ok (store_seal (r.to, &r.f) == 0 && store_publish (r.to, &r.f) < 0);
    ok_fault (&r.f, EBUSY, "was replaced, but what stood there cannot be removed");
    end (&r);
    ok (same_tree (src, out));
    p = partial_path (src, in, "src");
    must (umount (path ("%s/mount", p)) == 0);
    start (&r, src, in);
    ok (store_is_alike (r.to));
    store_keep (r.to);
    ok (finish (&r));
    end (&r);
    ok (count_names (in) == 1);
}

static void test_contents (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    uint64_t fetched;
    struct stat before;
    struct stat sb;
    struct run r;

    make_tree (src, CHUNK);
    make_dir (out);
    make_file (path ("%s/there", out), 9, 1);
    start_as (&r, src, out, CHUNK, 0, true);
    ok (!store_is_alike (r.to));
    ok (begin (&r));
    fetched = fetch_lacking (&r, count_chunks (&r) / 2);
    ok (store_tmp_path (r.to) == strstr (store_tmp_path (r.to), out));
    end (&r);
    ok (count_names (out) == 2);
    start_as (&r, src, out, CHUNK, 0, true);
    ok (begin (&r));
    ok (fetch_lacking (&r, count_chunks (&r)) <= count_chunks (&r) - fetched);
    ok (finish (&r));
    end (&r);
    ok (count_names (out) == count_names (src) + 1);
    /* and once more: it is there, and so is more in the top */
    must (chmod (path ("%s/empty", out), 0700) == 0 && stat (out, &before) == 0);
    start_as (&r, src, out, CHUNK, 0, true);
    ok (store_is_alike (r.to));
    ok (count_right (&r, RECALL_FINAL) == count_chunks (&r));
    store_keep (r.to);
    ok (finish (&r));
    end (&r);
    ok (stat (out, &sb) == 0 && sb.st_mode == before.st_mode
        && sb.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
    must (unlink (path ("%s/there", out)) == 0);
    must (chmod (src, 0700) == 0 && chmod (out, 0700) == 0);
    set_mtime (src, 1000);
    set_mtime (out, 1000);
    ok (same_tree (src, out));
    /* below the top it is not */
    make_file (path ("%s/sub/more", out), 1, 1);
    start_as (&r, src, out, CHUNK, 0, true);
    ok (!store_is_alike (r.to));
    end (&r);
}

/* What is there need not find room once more. */
static void test_room (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *small = path ("%s/small", dir);
    struct run r;

    make_dir (small);
    if (mount ("none", small, "tmpfs", 0, "size=200k") < 0) {
        check_skip ("full disks: cannot mount a tmpfs here");
        return;
    }
    make_file (src, 20 * CHUNK, 1);
    interrupt (src, path ("%s/out", small), CHUNK);
    ok (complete (src, path ("%s/out", small), path ("%s/out", small)) == 10);
    start (&r, src, path ("%s/out2", small));
    ok (!begin (&r));
    ok_fault (&r.f, ENOSPC, "no space left on device");
    end (&r);
    ok (count_names (small) == 1);
    must (umount (small) == 0);
}

static void flip (const char *name, off_t at)
{
    unsigned char c;
    int fd = open (name, O_RDWR | O_CLOEXEC);

    must (fd >= 0 && pread (fd, &c, 1, at) == 1);
    c ^= 4;
    must (pwrite (fd, &c, 1, at) == 1);
    close (fd);
}

/* A bit that flips on the disk is read as it is, and written again where that
 * has to be, whatever the modes.
 */
static void flipped (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *in = path ("%s/in", dir);
    const char *out = path ("%s/in/src", dir);
    const char *names[] = { "small", "large" };
    struct run r;

    make_dir (src);
    make_dir (in);
    make_file (path ("%s/small", src), 100, 1);
    make_file (path ("%s/large", src), 3 * CHUNK, 2);
    must (chmod (path ("%s/small", src), 0400) == 0
          && chmod (path ("%s/large", src), 0400) == 0);
    start (&r, src, in);
    ok (begin (&r));
    fetch_lacking (&r, count_chunks (&r));
    for (int step = 0; step < 4; step++) {
        const char *top = step < 2 ? store_tmp_path (r.to) : out;

        for (int i = 0; i < 2; i++) {
            const char *name = path ("%s/%s", top, names[i]);
            struct stat sb;
            uint64_t bad = 0;

            must (stat (name, &sb) == 0 && chmod (name, 0600) == 0);
            flip (name, 50);
            must (chmod (name, sb.st_mode & 07777) == 0);
            set_mtime (name, i == 0 ? 1500000001 : 1500000002);
            for (uint64_t c = 0; c < count_chunks (&r); c++) {
                unsigned char buf[CHUNK];
                size_t len = get (&r, c, buf);

                if (is_there (&r, RECALL_PARTIAL, c))
                    continue;
                bad++;
                ok (store_rewrite (r.to, c * CHUNK, buf, len, &r.f) == 0);
            }
            ok (bad == 1 && count_right (&r, RECALL_PARTIAL) == count_chunks (&r));
        }
        if (step == 0)
            ok (store_seal (r.to, &r.f) == 0);
        if (step == 1)
            ok (store_publish (r.to, &r.f) == 0);
        if (step >= 1)
            ok (same_tree (src, out));
        if (step == 2) {
            end (&r);
            start (&r, src, in);
            ok (store_is_alike (r.to));
            store_keep (r.to);
        }
    }
    end (&r);
    ok (same_tree (src, out));
}

static void test_flipped (const char *dir)
{
    if (!check_as_nobody (flipped, dir))
        flipped (dir);
}

int main (void)
{
    run (test_tree);
    run (test_file);
    run (test_sealed);
    run (test_not_published);
    run (test_alike);
    run (test_differs);
    run (test_changed_destination);
    run (test_changed_source);
    run (test_busy);
    run (test_foreign);
    run (test_dirty);
    run (test_dirty_file);
    run (test_exists);
    run (test_leftover);
    run (test_contents);
    run (test_room);
    run (test_flipped);
    return check_end ();
}
