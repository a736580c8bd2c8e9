/* test_repair.c - ranks whose parents are lost, hung or other than they should
 * be, and disks and sources that fail
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "tree_check.h"

#define CHUNK 8192

static struct cluster_config base (const char *dir)
{
    return (struct cluster_config){
        .strategy = "chain",
        .n = 4,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%%d", dir),
        .workers = 2,
        .encrypt = 1,
        .chunk_size = CHUNK,
    };
}

/* A rank that never came up: its child asks the next ancestor, in every tree. */
static void test_absent (const char *dir)
{
    for (int two = 0; two < 2; two++) {
        struct cluster_config cc = base (dir);
        struct cluster *c;

        cc.source = path ("%s/src-%d", dir, two);
        cc.dest = path ("%s/out-%d-%%d", dir, two);
        make_tree (cc.source, CHUNK);
        cc.strategy = two ? "two-tree" : "chain";
        cc.n = 6;
        cc.left_out = 1 << 1;
        c = cluster_create (&cc);
        close (c->listeners[1]);
        c->listeners[1] = -1;
        cluster_start_all (c);
        cluster_wait (c);
        cluster_publish (c);
        cluster_end_all (c);
        for (int r = 0; r < cc.n; r++)
            ok (r == 1 || cluster_is_delivered (c, r));
        if (!two) {
            ok (c->records[2].retries == 1 && c->records[2].parents[0] == 0);
            ok (c->records[3].retries == 0 && c->records[3].parents[0] == 2);
        }
        cluster_destroy (c);
        ok (access (path ("%s/out-%d-1", dir, two), F_OK) < 0);
    }
}

/* A rank that ends in the middle. */
static void test_lost (const char *dir)
{
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct cluster_config cc = base (dir);
        struct cluster *c;

        cc.source = path ("%s/src-%d", dir, encrypt);
        cc.dest = path ("%s/out-%d-%%d", dir, encrypt);
        make_file (cc.source, 4000 * CHUNK, 1);
        cc.encrypt = encrypt;
        c = cluster_create (&cc);
        cluster_start_all (c);
        cluster_wait_chunk (c, 2);
        cluster_end (c, 1);
        cluster_wait (c);
        cluster_publish (c);
        cluster_end_all (c);
        ok (cluster_is_delivered (c, 0) && cluster_is_delivered (c, 2) && cluster_is_delivered (c, 3));
        ok (c->records[2].bytes_in == 4000 * CHUNK);
        ok (c->records[2].parents[0] == (c->records[2].retries ? 0 : 1));
        cluster_destroy (c);
    }
    /* and what it had is gone */
    ok (count_names (dir) == 2 + 2 * 3);
}

static void test_wrong_key (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.wrong_key = 1 << 3;
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (cluster_is_delivered (c, 0) && cluster_is_delivered (c, 1) && cluster_is_delivered (c, 2));
    cluster_ok_failed (c, 3, EACCES, "does not have the key");
    ok (c->records[3].state == RECORD_FAILED && c->records[3].bytes_in == 0);
    cluster_destroy (c);
    ok (access (path ("%s/out-3", dir), F_OK) < 0);
}

static void test_wrong_id (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.wrong_id = 1 << 3;
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_end_all (c);
    ok (c->rc[0] == 0 && c->rc[1] == 0 && c->rc[2] == 0);
    cluster_ok_failed (c, 3, EPERM, "rank 2 refused: this is another broadcast");
    ok (c->records[2].refused == 1);
    cluster_destroy (c);
}

/* A parent that takes connections, and says nothing: its child goes to the next
 * ancestor long before the time limit.
 */
static void test_silent (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.left_out = 1 << 1;
    cc.timeout = 10;
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (cluster_is_delivered (c, 2) && cluster_is_delivered (c, 3));
    ok (c->records[2].retries == 1 && c->records[2].parents[0] == 0);
    ok (c->records[3].retries == 0 && c->records[3].parents[0] == 2);
    cluster_destroy (c);
}

/* The same, when the time is over before that. */
static void test_hung (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.n = 3;
    cc.left_out = 1 << 1;
    cc.timeout = 0.4;
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_ok_failed (c, 2, ETIMEDOUT, "nothing has come from rank 1 for");
    ok (c->records[2].state == RECORD_FAILED && c->records[2].errnum == ETIMEDOUT);
    cluster_destroy (c);
    ok (count_names (dir) == 1);
}

/* Nobody listens anywhere: tried until the time is over. */
static void test_nobody (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    cc.n = 3;
    cc.left_out = 1 << 0 | 1 << 1;
    cc.timeout = 0.4;
    c = cluster_create (&cc);
    for (int r = 0; r < 2; r++) {
        close (c->listeners[r]);
        c->listeners[r] = -1;
    }
    cluster_start_all (c);
    cluster_wait (c);
    cluster_ok_failed (c, 2, ETIMEDOUT, "nothing has come from rank");
    ok (c->records[2].retries >= 2);
    cluster_destroy (c);
}

static void test_dest_exists (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 10 * CHUNK, 1);
    make_file (path ("%s/out-2", dir), 5, 2);
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_ok_failed (c, 2, EEXIST, "/out-2: exists: remove it, or allow overwrite");
    ok (c->faults[2].kind == FAULT_DESTINATION && c->faults[2].rank == 2);
    ok (c->rc[0] == 0 && c->rc[1] == 0);
    /* rank 3 went on with an ancestor of rank 2 */
    ok (c->rc[3] == 0);
    cluster_destroy (c);
    /* nobody has published, so nothing is there */
    ok (count_names (dir) == 2);
}

static void test_full (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_dir (path ("%s/disk-2", dir));
    if (mount ("none", path ("%s/disk-2", dir), "tmpfs", 0, "size=128k") < 0) {
        check_skip ("full disks: cannot mount a tmpfs here");
        return;
    }
    for (int r = 0; r < 4; r++)
        if (r != 2)
            make_dir (path ("%s/disk-%d", dir, r));
    make_dir (cc.source);
    for (int i = 0; i < 200; i++)
        make_file (path ("%s/src/%d", dir, i), 10, i);
    cc.dest = path ("%s/disk-%%d/out", dir);
    c = cluster_create (&cc);
    cluster_start_all (c);
    cluster_wait (c);
    cluster_ok_failed (c, 2, ENOSPC, "No space left on device");
    ok (c->faults[2].kind == FAULT_DESTINATION);
    ok (c->rc[0] == 0 && c->rc[1] == 0 && c->rc[3] == 0);
    cluster_destroy (c);
    for (int r = 0; r < 4; r++)
        ok (count_names (path ("%s/disk-%d", dir, r)) == 0);
    must (umount (path ("%s/disk-2", dir)) == 0);
}

/* Changed before it is read, and after the root has begun. */
static void test_changed (const char *dir)
{
    for (int late = 0; late < 2; late++) {
        struct cluster_config cc = base (dir);
        struct cluster *c;

        cc.source = path ("%s/src-%d", dir, late);
        cc.dest = path ("%s/out-%d-%%d", dir, late);
        cc.n = 2;
        make_dir (cc.source);
        make_file (path ("%s/a", cc.source), 10, 1);
        make_file (path ("%s/b", cc.source), 10 * CHUNK, 2);
        c = cluster_create (&cc);
        if (late)
            cluster_start (c, 0);
        write_at (path ("%s/b", cc.source), 5 * CHUNK, 10, 3);
        if (!late)
            cluster_start (c, 0);
        cluster_start (c, 1);
        cluster_wait_sealed (c, 0);
        cluster_ok_failed (c, 0, ESTALE, "/b: changed while it was read");
        ok (c->faults[0].kind == FAULT_SOURCE);
        cluster_destroy (c);
    }
    ok (count_names (dir) == 2);
}

/* What a rank reads back is not what it wrote: it gets that again, and passes on
 * nothing else.
 */
static void test_disk_lies (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;
    const char *tmp = path ("%s/.tmp-1", dir);

    make_file (cc.source, 200 * CHUNK, 1);
    cc.n = 3;
    cc.left_out = 0;
    c = cluster_create (&cc);
    cluster_start (c, 0);
    cluster_start (c, 1);
    /* rank 2 is not there yet: rank 1 gets all, and then loses some of it */
    cluster_wait_sealed (c, 1);
    ok (c->rc[1] == 0);
    write_at (tmp, 0, 100 * CHUNK, 9);
    cluster_start (c, 2);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (cluster_is_delivered (c, 1) && cluster_is_delivered (c, 2));
    /* some may still have been in memory */
    ok (c->records[1].bad_chunks > 50 && c->records[1].bad_chunks <= 100);
    ok (c->records[1].bytes_in == (200 + c->records[1].bad_chunks) * CHUNK);
    ok (c->records[2].retries == 0 && c->records[2].bad_chunks == 0);
    ok (c->records[2].bytes_in == 200 * CHUNK);
    cluster_destroy (c);
}

int main (void)
{
    run (test_absent);
    run (test_lost);
    run (test_wrong_key);
    run (test_wrong_id);
    run (test_silent);
    run (test_hung);
    run (test_nobody);
    run (test_dest_exists);
    run (test_full);
    run (test_changed);
    run (test_disk_lies);
    return check_end ();
}
