/* test_sync.c - with STORE_SYNC, all is on disk before it gets its name, and
 * then its name is
 *
 * The calls that matter are this program's: they note what they were asked for
 * and do it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "store_impl.h"
#include "tree_check.h"

#define CHUNK 8192

enum kind { SYNC, SYNC_ALL, RENAME };

struct call {
    enum kind kind;
    char name[PATH_MAX]; /* of what was synced */
    struct stat sb;      /* and how it was then */
};

static struct call calls[200];
static int ncalls;
static const char *broken; /* the end of a name that cannot be synced */

static struct call *note (enum kind kind, int fd)
{
    struct call *c = &calls[ncalls];
    char link[64];
    ssize_t n;

    must (ncalls < 200);
    ncalls++;
    memset (c, 0, sizeof (*c));
    c->kind = kind;
    if (fd >= 0) {
        snprintf (link, sizeof (link), "/proc/self/fd/%d", fd);
        must ((n = readlink (link, c->name, sizeof (c->name) - 1)) > 0);
        must (fstat (fd, &c->sb) == 0);
    }
    return c;
}

static bool is_broken (const struct call *c)
{
    size_t len = strlen (c->name);

    return broken && len >= strlen (broken)
           && !strcmp (c->name + len - strlen (broken), broken);
}

int fsync (int fd)
{
    if (is_broken (note (SYNC, fd))) {
        errno = EIO;
        return -1;
    }
    return syscall (SYS_fsync, fd);
}

int syncfs (int fd)
{
    if (is_broken (note (SYNC_ALL, fd))) {
        errno = EIO;
        return -1;
    }
    return syscall (SYS_syncfs, fd);
}

int renameat2 (int fromfd, const char *from, int tofd, const char *to, unsigned int flags)
{
    note (RENAME, -1);
    return syscall (SYS_renameat2, fromfd, from, tofd, to, flags);
}

struct copy {
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;
};

static void begin (struct copy *c, const char *source, const char *dest, int flags, bool contents)
{
    unsigned char buf[CHUNK];
    int64_t at;

    ncalls = 0;
    must ((c->m = manifest_scan (source, &c->f)));
    c->m->chunk_size = CHUNK;
    if (contents) {
        must ((at = manifest_add_string (c->m, "", 0)) >= 0);
        c->m->entries[0].name = at;
    }
    must ((c->from = store_open (c->m, source, &c->f)));
    must ((c->to = store_create (c->m, dest, ".tmp", flags, &c->f)));
    if (flags & STORE_RESUME)
        must (store_begin (c->to, &c->f) == 0);
    for (uint64_t at = 0; at < c->m->bytes; at += CHUNK) {
        size_t len = c->m->bytes - at < CHUNK ? c->m->bytes - at : CHUNK;

        must (store_read (c->from, at, buf, len, &c->f) == 0
              && store_write (c->to, at, buf, len, &c->f) == 0);
    }
}

static void end (struct copy *c)
{
    store_destroy (c->to);
    store_destroy (c->from);
    manifest_destroy (c->m);
}

static int find (int from, enum kind kind, const char *name)
{
    for (int i = from; i < ncalls; i++) {
        if (calls[i].kind == kind && (!name || !strcmp (calls[i].name, name)))
            return i;
    }
    return -1;
}

/* Everything was synced when it was complete, before the first name was given,
 * and then the directory of the names.
 */
static void check_order (struct copy *c, const char *tmp, const char *parent)
{
    int named = find (0, RENAME, NULL);
    int last = named;
    char rel[PATH_MAX];

    must (named > 0);
    for (uint32_t i = 0; i < c->m->nentries; i++) {
        const struct entry *e = &c->m->entries[i];
        const char *name = path ("%s", tmp);
        int at;

        if (e->type == ENTRY_LINK)
            continue;
        must (manifest_path (c->m, i, rel, sizeof (rel)) == 0);
        if (*rel)
            name = path ("%s/%s", tmp, rel);
        at = find (0, SYNC, name);
        if (!ok (at >= 0 && at < named)) {
            printf ("# %s\n", name);
            continue;
        }
        /* the last time before it got its name */
        for (int next = at; next >= 0 && next < named; next = find (next + 1, SYNC, name))
            at = next;
        if (i == 0 && store_is_contents (c->to))
            continue;
        ok (calls[at].sb.st_mtim.tv_sec == e->mtime
            && (e->type == ENTRY_DIR || (uint64_t)calls[at].sb.st_size == e->size));
        if (store_mode (c->to, e) == e->mode)
            ok ((calls[at].sb.st_mode & 07777) == e->mode);
    }
    for (int i = named; i >= 0; i = find (i + 1, RENAME, NULL))
        last = i;
    ok (find (last, SYNC, parent) > last);
}

static void test_tree (const char *dir)
{
    const char *src = path ("%s/src", dir);
    struct copy c;

    make_tree (src, CHUNK);
    for (int i = 0; i < 2; i++) {
        int flags = STORE_SYNC | (i ? STORE_RESUME : 0);
        const char *out = path ("%s/out-%d", dir, i);

        begin (&c, src, out, flags, false);
        ok (ncalls == 0);
        ok (store_seal (c.to, &c.f) == 0 && find (0, RENAME, NULL) < 0);
        ok (store_publish (c.to, &c.f) == 0);
        check_order (&c, store_tmp_path (c.to), dir);
        end (&c);
        ok (same_tree (src, out));
    }
    begin (&c, src, path ("%s/out-2", dir), 0, false);
    ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) == 0);
    ok (find (0, SYNC, NULL) < 0 && find (0, SYNC_ALL, NULL) < 0);
    end (&c);
}

static void test_file (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct copy c;

    make_file (src, 3 * CHUNK, 1);
    for (int i = 0; i < 2; i++) {
        begin (&c, src, out, STORE_SYNC | (i ? STORE_RESUME | STORE_OVERWRITE : 0), false);
        ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) == 0);
        check_order (&c, store_tmp_path (c.to), dir);
        end (&c);
        ok (same_tree (src, out));
    }
}

static void test_contents (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *out = path ("%s/out", dir);
    struct copy c;
    int last;

    make_tree (src, CHUNK);
    make_dir (out);
    begin (&c, src, out, STORE_SYNC, true);
    ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) == 0);
    check_order (&c, store_tmp_path (c.to), out);
    /* which could not be moved with that mode */
    last = find (find (0, RENAME, NULL), SYNC, path ("%s/empty", out));
    ok (last > 0 && (calls[last].sb.st_mode & 07777) == 0555);
    end (&c);
}

/* What is found to be right need not be on disk yet. */
static void test_kept (const char *dir)
{
    const char *src = path ("%s/src", dir);
    struct copy c;

    make_file (src, 3 * CHUNK, 1);
    begin (&c, src, path ("%s/out", dir), 0, false);
    ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) == 0);
    store_destroy (c.to);
    ncalls = 0;
    must ((c.to = store_create (c.m,
                                path ("%s/out", dir),
                                "",
                                STORE_SYNC | STORE_RESUME,
                                &c.f)));
    ok (store_is_alike (c.to));
    store_keep (c.to);
    ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) == 0);
    ok (find (0, SYNC, path ("%s/out", dir)) >= 0 && find (0, SYNC, dir) >= 0);
    end (&c);
}

/* Many are synced at once, with the file system. */
static void test_many (const char *dir)
{
    const char *src = path ("%s/src", dir);
    struct copy c;

    make_dir (src);
    for (int i = 0; i < 300; i++)
        make_file (path ("%s/%d", src, i), 10, i);
    begin (&c, src, path ("%s/out", dir), STORE_SYNC, false);
    ok (store_seal (c.to, &c.f) == 0);
    ok (find (0, SYNC_ALL, store_tmp_path (c.to)) == 0 && ncalls == 1);
    ok (store_publish (c.to, &c.f) == 0);
    ok (find (1, RENAME, NULL) == 1 && find (2, SYNC, dir) == 2 && ncalls == 3);
    end (&c);
    ok (same_tree (src, path ("%s/out", dir)));
    broken = "/.tmp";
    begin (&c, src, path ("%s/out2", dir), STORE_SYNC, false);
    ok (store_seal (c.to, &c.f) < 0);
    ok_fault (&c.f, EIO, "/out2: ");
    end (&c);
    broken = NULL;
    ok (count_names (dir) == 2);
}

static void test_broken (const char *dir)
{
    const char *src = path ("%s/src", dir);
    const char *names[] = { "/sub/small-9", "/sub/deeper/chunks", "/sub" };
    struct copy c;

    make_tree (src, CHUNK);
    for (int i = 0; i < 3; i++) {
        broken = names[i];
        begin (&c, src, path ("%s/out", dir), STORE_SYNC, false);
        ok (store_seal (c.to, &c.f) < 0);
        ok_fault (&c.f, EIO, path ("/out%s: ", names[i]));
        end (&c);
        ok (count_names (dir) == 1);
    }
    broken = strrchr (dir, '/');
    begin (&c, src, path ("%s/out", dir), STORE_SYNC, false);
    ok (store_seal (c.to, &c.f) == 0 && store_publish (c.to, &c.f) < 0);
    ok_fault (&c.f, EIO, "/out: has its name, but that may not be on disk");
    end (&c);
    ok (same_tree (src, path ("%s/out", dir)));
    broken = NULL;
}

int main (void)
{
    run (test_tree);
    run (test_file);
    run (test_contents);
    run (test_kept);
    run (test_many);
    run (test_broken);
    return check_end ();
}
