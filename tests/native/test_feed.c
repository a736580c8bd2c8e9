/* test_feed.c - the root's data comes through a pipe, while the others get it */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "feed.h"
#include "tree_check.h"

#define CHUNK 4096
#define MTIME 1600000000

static const size_t sizes[] = { 10 * CHUNK + 17, 0, 3 * CHUNK, 123456 };
static const struct node_item items[] = {
    { .path = "a", .mode = 0750, .directory = 1, .mtime = MTIME },
    { .path = "a/b", .size = 10 * CHUNK + 17, .mode = 0644, .mtime = MTIME },
    { .path = "a/none", .mode = 0600, .mtime = MTIME },
    { .path = "a-b", .target = "a/b", .mode = 0777, .mtime = MTIME },
    { .path = "c", .size = 3 * CHUNK, .mode = 0444, .mtime = MTIME },
    { .path = "d", .size = 123456, .mode = 0755, .mtime = MTIME + 5 },
};
#define NITEMS (sizeof (items) / sizeof (items[0]))

/* What the writer does after so many bytes of the payload. */
enum fate { ENDS, FAILS, DIES, STOPS, ENDS_EARLY, GOES_ON, TALKS_NONSENSE };

struct writer {
    pthread_t thread;
    int fd;
    unsigned char *data;
    size_t size;
    size_t until;
    size_t frame;
    enum fate fate;
    struct cluster *c; /* wait for its ranks before the end, or NULL */
    bool flowed;       /* they had a chunk before it had ended */
};

static bool put (int fd, const void *data, size_t len)
{
    const unsigned char *p = data;

    while (len > 0) {
        ssize_t n = write (fd, p, len);

        if (n <= 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

static bool put_frame (int fd, uint32_t kind, const void *data, uint32_t length)
{
    unsigned char head[FEED_HEAD_SIZE];

    put32 (head, kind);
    put32 (head + 4, length);
    return put (fd, head, sizeof (head)) && put (fd, data, length);
}

static void finish (struct writer *w)
{
    const char why[] = "the registry\nhas burnt down";

    if (w->fate == FAILS)
        (void)put_frame (w->fd, FEED_FAIL, why, strlen (why));
    else if (w->fate == TALKS_NONSENSE)
        (void)put_frame (w->fd, 77, why, 4);
    else if (w->fate == GOES_ON)
        (void)put_frame (w->fd, FEED_DATA, why, 4);
    else if (w->fate == ENDS || w->fate == ENDS_EARLY)
        (void)put_frame (w->fd, FEED_END, NULL, 0);
}

static void *write_run (void *arg)
{
    struct writer *w = arg;
    size_t at = 0;

    while (at < w->until) {
        size_t n = w->until - at < w->frame ? w->until - at : w->frame;

        if (!put_frame (w->fd, FEED_DATA, w->data + at, n))
            break;
        at += n;
    }
    if (w->c) {
        cluster_wait_chunk (w->c, w->c->config.n - 1);
        w->flowed = true;
    }
    finish (w);
    if (w->fate != STOPS)
        close (w->fd);
    return NULL;
}

/* Of a registry's items there are whole seconds only. */
static void set_time (const char *name, int64_t seconds)
{
    const struct timespec times[2] = { { .tv_sec = seconds }, { .tv_sec = seconds } };

    must (utimensat (AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW) == 0);
}

/* What is expected in 'dir', and the payload. */
static void make_expected (const char *dir, struct writer *w)
{
    const char *names[] = { "a/b", "a/none", "c", "d" };

    make_dir (dir);
    make_dir (path ("%s/a", dir));
    w->data = malloc (200000);
    must (w->data);
    for (int i = 0; i < 4; i++) {
        const char *name = path ("%s/%s", dir, names[i]);
        int fd;

        make_file (name, sizes[i], i + 1);
        must ((fd = open (name, O_RDONLY)) >= 0
              && read (fd, w->data + w->size, sizes[i]) == (ssize_t)sizes[i]);
        close (fd);
        w->size += sizes[i];
        set_time (name, MTIME + (i == 3 ? 5 : 0));
    }
    must (symlink ("a/b", path ("%s/a-b", dir)) == 0);
    set_time (path ("%s/a-b", dir), MTIME);
    must (chmod (path ("%s/a/b", dir), 0644) == 0
          && chmod (path ("%s/a/none", dir), 0600) == 0
          && chmod (path ("%s/c", dir), 0444) == 0
          && chmod (path ("%s/d", dir), 0755) == 0
          && chmod (path ("%s/a", dir), 0750) == 0 && chmod (dir, 0755) == 0);
    set_time (path ("%s/a", dir), MTIME);
    set_time (dir, MTIME + 5);
}

static struct cluster_config base (const char *dir, struct writer *w)
{
    int fds[2];

    must (pipe2 (fds, O_CLOEXEC) == 0);
    w->fd = fds[1];
    w->frame = 5000;
    make_expected (path ("%s/src", dir), w);
    w->until = w->size;
    return (struct cluster_config){
        .strategy = "chain",
        .n = 4,
        .source = "oci://somewhere/thing",
        .dest = path ("%s/out-%%d", dir),
        .workers = 2,
        .encrypt = 1,
        .chunk_size = CHUNK,
        .timeout = 5,
        .feed_fd = fds[0],
        .items = items,
        .nitems = NITEMS,
    };
}

static struct cluster *begin (const struct cluster_config *cc)
{
    struct cluster *c = cluster_create (cc);

    cluster_start_all (c);
    return c;
}

static void end (struct cluster *c, struct writer *w)
{
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    must (pthread_join (w->thread, NULL) == 0);
    free (w->data);
}

static void start (struct writer *w)
{
    must (pthread_create (&w->thread, NULL, write_run, w) == 0);
}

static void ok_delivered (const char *dir, int rank)
{
    ok (same_tree (path ("%s/src", dir), path ("%s/out-%d", dir, rank)));
}

static void test_whole (const char *dir)
{
    const char *strategies[] = { "chain", "two-tree", "flat" };
    const size_t frames[] = { 1, 5000, 1 << 20 };

    for (int i = 0; i < 3; i++) {
        const char *sub = path ("%s/%d", dir, i);
        struct writer w = { 0 };
        struct cluster_config cc;
        struct cluster *c;

        make_dir (sub);
        cc = base (sub, &w);
        cc.strategy = strategies[i];
        w.frame = frames[i];
        c = begin (&cc);
        start (&w);
        end (c, &w);
        for (int r = 0; r < cc.n; r++)
            ok_delivered (sub, r);
        ok (c->records[0].bytes_in == 0);
        ok (c->records[0].verified > 0);
        cluster_destroy (c);
    }
}

/* All have most of it before the last byte is there. */
static void test_flows (const char *dir)
{
    struct writer w = { 0 };
    struct cluster_config cc = base (dir, &w);
    struct cluster *c = begin (&cc);

    w.c = c;
    start (&w);
    end (c, &w);
    ok (w.flowed);
    for (int r = 0; r < cc.n; r++)
        ok_delivered (dir, r);
    cluster_destroy (c);
}

/* A root that does not keep it passes it on all the same. */
static void test_relay (const char *dir)
{
    struct writer w = { 0 };
    struct cluster_config cc = base (dir, &w);
    struct cluster *c;

    cc.relays = 1;
    c = begin (&cc);
    start (&w);
    end (c, &w);
    for (int r = 1; r < cc.n; r++)
        ok_delivered (dir, r);
    cluster_destroy (c);
    ok (count_names (dir) == 4); /* src, and three of them */
}

static void test_alone (const char *dir)
{
    struct writer w = { 0 };
    struct cluster_config cc = base (dir, &w);
    struct cluster *c;

    cc.n = 1;
    c = begin (&cc);
    start (&w);
    end (c, &w);
    ok_delivered (dir, 0);
    cluster_destroy (c);
}

static void ok_refused (const char *dir, enum fate fate, size_t until, int errnum, const char *text)
{
    struct writer w = { .fate = fate };
    struct cluster_config cc = base (dir, &w);
    struct cluster *c;

    cc.timeout = 2;
    w.until = until < w.size ? until : w.size;
    c = begin (&cc);
    start (&w);
    cluster_wait_sealed (c, 0);
    cluster_ok_failed (c, 0, errnum, text);
    ok (c->faults[0].kind == FAULT_SOURCE);
    cluster_end_all (c);
    must (pthread_join (w.thread, NULL) == 0);
    if (fate == STOPS)
        close (w.fd);
    free (w.data);
    cluster_destroy (c);
    ok (count_names (dir) == 1); /* src: nothing of any rank */
}

static void test_fails (const char *dir)
{
    ok_refused (dir, FAILS, 50000, EIO, "the registry has burnt down");
}

static void test_dies (const char *dir)
{
    ok_refused (dir, DIES, SIZE_MAX, EPIPE, "oci://somewhere/thing: who pulls it has died");
}

static void test_stops (const char *dir)
{
    ok_refused (dir, STOPS, 50000, ETIMEDOUT, "said nothing for too long");
}

static void test_too_little (const char *dir)
{
    ok_refused (dir, ENDS_EARLY, 50000, EPROTO, "less has come");
}

static void test_too_much (const char *dir)
{
    ok_refused (dir, GOES_ON, SIZE_MAX, EPROTO, "more has come");
}

static void test_nonsense (const char *dir)
{
    ok_refused (dir, TALKS_NONSENSE, 50000, EPROTO, "nobody understands");
}

/* A node that ends does not wait for what may never come. */
static void test_cancel (const char *dir)
{
    struct writer w = { .fate = STOPS };
    struct cluster_config cc = base (dir, &w);
    struct cluster *c;

    w.until = 50000;
    c = begin (&cc);
    start (&w);
    must (pthread_join (w.thread, NULL) == 0);
    cluster_end_all (c);
    close (w.fd);
    free (w.data);
    cluster_destroy (c);
    ok (count_names (dir) == 1);
}

static void refuse_items (const struct node_item *list, size_t n, const char *text)
{
    struct fault f;
    size_t size;

    ok (node_compose (list, n, &size, &f) == NULL);
    ok_fault (&f, EINVAL, text);
    ok (f.kind == FAULT_SOURCE);
}

static void test_compose (const char *dir)
{
    const char *bad[] = { "",    "/etc/passwd", "..",      "a/../b", "./a", "a//b",
                          "a/b", "a/",          "a/b/../c" };
    const struct node_item twice[] = { { .path = "a" }, { .path = "a" } };
    const struct node_item under_file[] = { { .path = "a" }, { .path = "a/b" } };
    const struct node_item order[] = { { .path = "b" }, { .path = "a" } };
    const struct node_item late[] = { { .path = "a", .directory = 1 },
                                      { .path = "a-b" },
                                      { .path = "a/b" } };
    const struct node_item nowhere[] = { { .path = "a", .target = "" } };
    const struct node_item huge[] = { { .path = "a", .size = UINT64_MAX } };
    char name[300];
    struct node_item longer[] = { { .path = name } };
    struct node_summary s;
    struct fault f;
    unsigned char *m;
    size_t size;

    (void)dir;
    for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
        refuse_items (&(struct node_item){ .path = bad[i] }, 1, "not a name");
    refuse_items (twice, 2, "twice, or out of order");
    refuse_items (under_file, 2, "not a name");
    refuse_items (order, 2, "out of order");
    refuse_items (late, 3, "out of order");
    refuse_items (nowhere, 1, "leads nowhere");
    refuse_items (huge, 1, "larger than any file");
    memset (name, 'x', 256);
    name[256] = '\0';
    refuse_items (longer, 1, "not a name");
    must ((m = node_compose (items, NITEMS, &size, &f)));
    must (node_summarize (m, size, &s, &f) == 0);
    ok (s.entries == NITEMS + 1 && s.files == 4 && s.name[0] == '\0'
        && s.bytes == 13 * CHUNK + 17 + 123456);
    node_free (m);
    must ((m = node_compose (NULL, 0, &size, &f)));
    must (node_summarize (m, size, &s, &f) == 0 && s.entries == 1 && s.bytes == 0);
    node_free (m);
}

int main (void)
{
    signal (SIGPIPE, SIG_IGN);
    run (test_whole);
    run (test_flows);
    run (test_relay);
    run (test_alone);
    run (test_fails);
    run (test_dies);
    run (test_stops);
    run (test_too_little);
    run (test_too_much);
    run (test_nonsense);
    run (test_cancel);
    run (test_compose);
    return check_end ();
}
