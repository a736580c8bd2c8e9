/* test_openat.c - names do not lead out of a tree, though somebody exchanges its
 * directories for links while it is written; and descriptors may run out
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "check.h"
#include "openat.h"
#include "store_impl.h"

#define CHUNK 8192
/* more than are kept open */
#define DIRS (FDCACHE_SIZE + 8)

static int forbidden; /* what openat2 fails with */

/* As on a kernel that has no openat2, or in a container that forbids it. */
long syscall (long number, ...)
{
    static long (*next) (long, ...);
    long a[6];
    va_list ap;

    if (!next)
        must ((next = (long (*) (long, ...))dlsym (RTLD_NEXT, "syscall")));
    va_start (ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg (ap, long);
    va_end (ap);
    if (number == SYS_openat2 && forbidden) {
        errno = forbidden;
        return -1;
    }
    return next (number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void open_names (const char *dir, int (*open_fn) (int, const char *, int))
{
    int top = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *bad[] = { "link", "link/file", "a/up", "a/up/file", "a/b/up/x", "loop/x" };
    const char *good[] = { "a", "a/b", "a/b/file", "a/b/.", "." };
    int fd;

    must (top >= 0);
    for (int i = 0; i < 5; i++) {
        ok ((fd = open_fn (top, good[i], O_RDONLY)) >= 0);
        ok (fcntl (fd, F_GETFD) == FD_CLOEXEC);
        close (fd);
    }
    for (int i = 0; i < 6; i++) {
        ok (open_fn (top, bad[i], O_RDONLY) < 0 && errno == ELOOP);
        ok (open_fn (top, bad[i], O_RDONLY | O_DIRECTORY) < 0 && errno == ELOOP);
    }
    ok (open_fn (top, "a/b/none", O_RDONLY) < 0 && errno == ENOENT);
    ok (open_fn (top, "none/b", O_RDONLY) < 0 && errno == ENOENT);
    ok (open_fn (top, "a/b/file/c", O_RDONLY) < 0 && errno == ENOTDIR);
    ok (open_fn (top, "a/b/file", O_RDONLY | O_DIRECTORY) < 0 && errno == ENOTDIR);
    close (top);
}

static void test_open_below (const char *dir)
{
    make_dir (path ("%s/out", dir));
    make_file (path ("%s/out/file", dir), 1, 1);
    make_dir (path ("%s/top", dir));
    make_dir (path ("%s/top/a", dir));
    make_dir (path ("%s/top/a/b", dir));
    make_file (path ("%s/top/a/b/file", dir), 1, 1);
    must (symlink ("../out", path ("%s/top/link", dir)) == 0
          && symlink ("../../out", path ("%s/top/a/up", dir)) == 0
          && symlink (path ("%s/out", dir), path ("%s/top/a/b/up", dir)) == 0
          && symlink ("loop", path ("%s/top/loop", dir)) == 0);
    open_names (path ("%s/top", dir), open_below);
    open_names (path ("%s/top", dir), open_stepwise);
}

struct copy {
    struct manifest *m;
    struct store *from;
    struct store *to;
    struct fault f;
};

/* Directories with a file in one chunk and one in several. */
static void make_source (const char *src)
{
    make_dir (src);
    for (int i = 0; i < DIRS; i++) {
        make_dir (path ("%s/%02d", src, i));
        make_file (path ("%s/%02d/a", src, i), 100, i);
        make_file (path ("%s/%02d/b", src, i), 2 * CHUNK, i);
    }
}

static void begin (struct copy *c, const char *dir, int flags)
{
    must ((c->m = manifest_scan (path ("%s/src", dir), &c->f)));
    c->m->chunk_size = CHUNK;
    must ((c->from = store_open (c->m, path ("%s/src", dir), &c->f)));
    must ((c->to = store_create (c->m, path ("%s/out", dir), ".tmp", flags, &c->f)));
}

static void end (struct copy *c)
{
    store_destroy (c->to);
    store_destroy (c->from);
    manifest_destroy (c->m);
}

static int transfer (struct copy *c)
{
    unsigned char buf[CHUNK];

    for (uint64_t at = 0; at < c->m->bytes; at += CHUNK) {
        size_t len = c->m->bytes - at < CHUNK ? c->m->bytes - at : CHUNK;

        if (store_read (c->from, at, buf, len, &c->f) < 0
            || store_write (c->to, at, buf, len, &c->f) < 0)
            return -1;
    }
    return 0;
}

/* Exchange a name of the tree for a link to what is outside. */
static void exchange (const char *top, const char *name, const char *dir)
{
    must (rename (path ("%s/%s", top, name), path ("%s/aside", dir)) == 0);
    must (symlink (path ("%s/outside", dir), path ("%s/%s", top, name)) == 0);
}

static void put_back (const char *top, const char *name, const char *dir)
{
    must (unlink (path ("%s/%s", top, name)) == 0);
    must (rename (path ("%s/aside", dir), path ("%s/%s", top, name)) == 0);
}

static void make_outside (const char *dir)
{
    make_dir (path ("%s/outside", dir));
    make_file (path ("%s/outside/a", dir), 3, 1);
    make_file (path ("%s/outside/b", dir), 2 * CHUNK, 77);
}

static void is_untouched (const char *dir)
{
    struct stat sb;

    ok (count_names (path ("%s/outside", dir)) == 2);
    ok (stat (path ("%s/outside/a", dir), &sb) == 0 && sb.st_size == 3
        && (sb.st_mode & 07777) == 0644 && sb.st_mtim.tv_sec == 1500000001);
    ok (stat (path ("%s/outside/b", dir), &sb) == 0 && sb.st_size == 2 * CHUNK
        && (sb.st_mode & 07777) == 0644 && sb.st_mtim.tv_sec == 1500000077);
}

static void exchanged (const char *dir)
{
    const char *last = path ("%02d", DIRS - 1);
    const char *names[] = { "00", last, "00/b" };
    unsigned char byte = 0;
    struct copy c;

    make_source (path ("%s/src", dir));
    make_outside (dir);
    for (int i = 0; i < 3; i++) {
        begin (&c, dir, 0);
        if (names[i] == last) /* which then is open */
            ok (transfer (&c) == 0);
        exchange (path ("%s/.tmp", dir), names[i], dir);
        if (names[i] == last)
            ok (store_write (c.to, c.m->bytes - 1, &byte, 1, &c.f) == 0
                && store_seal (c.to, &c.f) < 0);
        else
            ok (transfer (&c) < 0);
        ok_fault (&c.f, ELOOP, path ("/out/%s", names[i]));
        ok_fault (&c.f, ELOOP, "a link stands on its way: somebody else changes");
        is_untouched (dir);
        put_back (path ("%s/.tmp", dir), names[i], dir);
        end (&c);
        ok (count_names (dir) == 2);
    }
    /* a link where a small file goes is replaced */
    begin (&c, dir, 0);
    must (symlink (path ("%s/outside/a", dir), path ("%s/.tmp/00/a", dir)) == 0);
    ok (transfer (&c) == 0 && store_seal (c.to, &c.f) == 0);
    is_untouched (dir);
    end (&c);
}

/* Between the data and the name: sealing, modes, chunks that are written again. */
static void exchanged_later (const char *dir)
{
    unsigned char buf[CHUNK] = { 0 };
    const char *top = path ("%s/.tmp", dir);
    struct copy c;

    make_source (path ("%s/src", dir));
    make_outside (dir);
    begin (&c, dir, 0);
    for (uint32_t i = 0; i < c.m->nentries; i++) {
        if (c.m->entries[i].type == ENTRY_FILE)
            c.m->entries[i].mode = 0040; /* which is set at the very end */
    }
    ok (transfer (&c) == 0);
    exchange (top, "00", dir);
    ok (store_rewrite (c.to, 0, buf, 200, &c.f) < 0);
    ok_fault (&c.f, ELOOP, "/out/00/a: ");
    ok (store_recall (c.to, RECALL_PARTIAL, 0, buf, 100) == 0);
    put_back (top, "00", dir);
    ok (store_seal (c.to, &c.f) == 0);
    exchange (top, "00", dir);
    ok (store_publish (c.to, &c.f) < 0);
    ok_fault (&c.f, ELOOP, "/out/00/");
    is_untouched (dir);
    put_back (top, "00", dir);
    end (&c);
    ok (count_names (dir) == 2);
}

/* Somebody who may write to the source. */
static void exchanged_source (const char *dir)
{
    unsigned char buf[CHUNK];
    struct copy c;

    make_source (path ("%s/src", dir));
    make_outside (dir);
    set_mtime (path ("%s/outside/b", dir), 1500000000);
    begin (&c, dir, 0);
    exchange (path ("%s/src", dir), "00", dir);
    ok (store_read (c.from, 100, buf, CHUNK, &c.f) < 0);
    ok_fault (&c.f, ELOOP, "/src/00/b: a link stands on its way");
    ok (c.f.kind == FAULT_SOURCE);
    ok (store_check_unchanged (c.from, &c.f) < 0);
    put_back (path ("%s/src", dir), "00", dir);
    ok (store_check_unchanged (c.from, &c.f) == 0);
    end (&c);
}

static void run_exchanges (const char *dir)
{
    void (*fn[]) (const char *) = { exchanged, exchanged_later, exchanged_source };

    for (int i = 0; i < 3; i++) {
        const char *sub = path ("%s/%d-%d", dir, forbidden, i);

        make_dir (sub);
        fn[i] (sub);
    }
}

static void test_exchanged (const char *dir)
{
    run_exchanges (dir);
}

/* The last of them is remembered. */
static void test_without_openat2 (const char *dir)
{
    const int errors[] = { EPERM, E2BIG, ENOSYS };

    for (int i = 0; i < 3; i++) {
        forbidden = errors[i];
        run_exchanges (dir);
    }
    forbidden = 0;
}

static void test_no_descriptors (const char *dir)
{
    const char *mend = "out of file descriptors: raise the limit (ulimit -n)";
    struct rlimit old;
    struct rlimit few;
    struct copy c;
    struct fault f;

    make_source (path ("%s/src", dir));
    begin (&c, dir, 0);
    must (getrlimit (RLIMIT_NOFILE, &old) == 0);
    few = old;
    few.rlim_cur = count_fds () + 3; /* and 0, 1, 2 may be closed */
    for (int i = 0; i < 3; i++)
        few.rlim_cur += fcntl (i, F_GETFD) < 0;
    must (setrlimit (RLIMIT_NOFILE, &few) == 0);
    ok (transfer (&c) < 0);
    ok_fault (&c.f, EMFILE, mend);
    few.rlim_cur = 3;
    must (setrlimit (RLIMIT_NOFILE, &few) == 0);
    ok (!store_open (c.m, path ("%s/src", dir), &f));
    ok_fault (&f, EMFILE, mend);
    ok (!store_create (c.m, path ("%s/out2", dir), ".tmp2", 0, &f));
    ok_fault (&f, EMFILE, mend);
    ok (!manifest_scan (path ("%s/src", dir), &f));
    ok_fault (&f, EMFILE, mend);
    must (setrlimit (RLIMIT_NOFILE, &old) == 0);
    end (&c);
    ok (count_names (dir) == 1);
}

/* No right that a file or directory gives to others comes along. */
static void test_special (const char *dir)
{
    const char *src = path ("%s/src", dir);
    struct copy c;
    struct stat sb;
    struct fault f;

    make_dir (src);
    make_file (path ("%s/small", src), 10, 1);
    make_file (path ("%s/large", src), 3 * CHUNK, 1);
    must (chmod (path ("%s/small", src), 06755) == 0
          && chmod (path ("%s/large", src), 06755) == 0 && chmod (src, 03777) == 0);
    begin (&c, dir, 0);
    ok (transfer (&c) == 0 && store_seal (c.to, &c.f) == 0
        && store_publish (c.to, &c.f) == 0);
    end (&c);
    ok (stat (path ("%s/out/small", dir), &sb) == 0 && (sb.st_mode & 07777) == 0755);
    ok (stat (path ("%s/out/large", dir), &sb) == 0 && (sb.st_mode & 07777) == 0755);
    ok (stat (path ("%s/out", dir), &sb) == 0 && (sb.st_mode & 07777) == 01777);
    if (mknod (path ("%s/null", src), S_IFCHR | 0600, makedev (1, 3)) < 0) {
        check_skip ("devices: cannot make one here");
        return;
    }
    ok (!manifest_scan (src, &f));
    ok_fault (&f, EINVAL, "/src/null: is a device, which cannot travel: leave it out");
}

int main (void)
{
    run (test_open_below);
    run (test_exchanged);
    run (test_no_descriptors);
    run (test_special);
    run (test_without_openat2);
    return check_end ();
}
