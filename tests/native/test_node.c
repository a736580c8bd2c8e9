/* test_node.c - ranks that do what they should, over every kind of plan */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "shape.h"
#include "store.h"
#include "tree_check.h"

#define CHUNK 8192

static struct cluster_config base (const char *dir)
{
    return (struct cluster_config){
        .strategy = "two-tree",
        .n = 4,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%%d", dir),
        .workers = 1,
        .encrypt = 1,
        .chunk_size = CHUNK,
    };
}

/* Every plan that differs in kind, for one rank up to ten. */
static void test_plans (const char *dir)
{
    const char *strategies[] = { "chain", "two-tree", "flat", "multi-tree:3", "edst" };
    int turn = 0;

    make_tree (path ("%s/src", dir), CHUNK);
    for (size_t s = 0; s < sizeof (strategies) / sizeof (strategies[0]); s++) {
        for (int n = 1; n <= 10; n += s == 1 ? 1 : 3) {
            struct cluster_config c = base (dir);

            c.strategy = strategies[s];
            c.n = n;
            c.dest = path ("%s/%zu-%d-%%d", dir, s, n);
            c.workers = turn % 2 ? 3 : 1;
            c.encrypt = turn / 2 % 2;
            turn++;
            cluster_run (&c);
        }
    }
}

static void test_file (const char *dir)
{
    size_t sizes[] = { 0, 1, CHUNK, 100 * CHUNK + 1 };

    for (size_t i = 0; i < sizeof (sizes) / sizeof (sizes[0]); i++) {
        struct cluster_config c = base (dir);

        c.source = path ("%s/file-%zu", dir, i);
        c.dest = path ("%s/out-%zu-%%d", dir, i);
        make_file (c.source, sizes[i], i);
        cluster_run (&c);
    }
}

static void test_nothing (const char *dir)
{
    struct cluster_config c = base (dir);

    make_dir (c.source);
    cluster_run (&c);
}

/* As large as memory is not: 5 GiB, of which little travels. */
static void test_sparse (const char *dir)
{
    struct cluster_config c = base (dir);
    struct stat sb;

    write_at (c.source, 3ULL << 30, 3 * CHUNK, 1);
    must (truncate (c.source, 5ULL << 30) == 0);
    if (stat (c.source, &sb) < 0 || sb.st_blocks > 1000) {
        check_skip ("sparse files: this file system has none");
        return;
    }
    cluster_run (&c);
    ok (stat (path ("%s/out-3", dir), &sb) == 0 && sb.st_blocks < 1000);
}

static void test_many_files (const char *dir)
{
    struct cluster_config c = base (dir);

    make_dir (c.source);
    for (int i = 0; i < 3000; i++)
        make_file (path ("%s/src/%d", dir, i), i % 1500, i);
    c.workers = 3;
    c.chunk_size = 64 << 10;
    cluster_run (&c);
}

/* Relays keep nothing, and what stands in their way does not matter. */
static void test_relay (const char *dir)
{
    struct cluster_config c = base (dir);
    struct stat sb;

    make_tree (c.source, CHUNK);
    c.strategy = "chain";
    c.n = 5;
    c.relays = 1 << 0 | 1 << 1 | 1 << 3;
    cluster_run (&c);
    c.dest = path ("%s/again-%%d", dir);
    make_file (path ("%s/again-1", dir), 3, 1);
    {
        struct cluster *cl = cluster_create (&c);

        cluster_start_all (cl);
        cluster_wait (cl);
        cluster_publish (cl);
        for (int r = 0; r < c.n; r++)
            ok (cl->rc[r] == 0);
        cluster_destroy (cl);
    }
    ok (stat (path ("%s/again-1", dir), &sb) == 0 && sb.st_size == 3);
    ok (same_tree (path ("%s/src", dir), path ("%s/again-4", dir)));
    ok (access (path ("%s/again-3", dir), F_OK) < 0);
    ok (count_names (dir) == 1 + 2 + 3);
}

static void test_overwrite (const char *dir)
{
    struct cluster_config c = base (dir);

    make_tree (c.source, CHUNK);
    c.n = 3;
    for (int r = 0; r < c.n; r++) {
        make_dir (path ("%s/in-%d", dir, r));
        make_dir (path ("%s/in-%d/src", dir, r));
        make_file (path ("%s/in-%d/src/old", dir, r), 5, r);
    }
    c.dest = path ("%s/in-%%d", dir);
    c.overwrite = 1;
    {
        struct cluster *cl = cluster_create (&c);

        cluster_start_all (cl);
        cluster_wait (cl);
        cluster_publish (cl);
        cluster_destroy (cl);
    }
    for (int r = 0; r < c.n; r++) {
        ok (same_tree (path ("%s/src", dir), path ("%s/in-%d/src", dir, r)));
        ok (count_names (path ("%s/in-%d", dir, r)) == 1);
    }
}

/* The root's destination is the source: it stays as it is, even if all others
 * overwrite theirs.
 */
static void test_in_place (const char *dir)
{
    struct cluster_config c = base (dir);
    struct stat before;
    struct stat after;

    for (int overwrite = 0; overwrite < 2; overwrite++) {
        struct cluster *cl;

        c.source = path ("%s/%d-0", dir, overwrite);
        c.dest = path ("%s/%d-%%d", dir, overwrite);
        c.overwrite = overwrite;
        make_tree (c.source, CHUNK);
        if (overwrite)
            make_file (path ("%s/1-2", dir), 9, 1);
        must (stat (c.source, &before) == 0);
        cl = cluster_create (&c);
        cluster_start_all (cl);
        cluster_wait (cl);
        cluster_publish (cl);
        cluster_end_all (cl);
        for (int r = 0; r < c.n; r++)
            ok (cl->rc[r] == 0 && cl->records[r].state == RECORD_COMPLETE
                && cl->records[r].renamed >= 0
                && same_tree (c.source, cl->dests[r]));
        cluster_destroy (cl);
        ok (stat (c.source, &after) == 0 && after.st_ino == before.st_ino
            && after.st_ctim.tv_nsec == before.st_ctim.tv_nsec
            && after.st_ctim.tv_sec == before.st_ctim.tv_sec);
    }
    ok (count_names (dir) == 8);
}

static void test_record (const char *dir)
{
    struct cluster_config c = base (dir);
    struct cluster *cl;

    make_file (c.source, 50 * CHUNK, 1);
    c.strategy = "chain";
    c.n = 3;
    cl = cluster_create (&c);
    cluster_start_all (cl);
    cluster_wait (cl);
    cluster_publish (cl);
    cluster_end_all (cl);
    for (int r = 0; r < c.n; r++) {
        const struct record *rec = &cl->records[r];

        ok (rec->rank == r && rec->deliver == 1 && rec->errnum == 0);
        ok (rec->retries == 0 && rec->refused == 0);
        ok (rec->parents[0] == r - 1 && rec->parents[1] == -2);
        ok (rec->verified >= 0 && rec->renamed >= rec->verified);
        ok (rec->memory > 0 && rec->cpu > 0);
        if (r > 0) {
            ok (rec->bytes_in == 50 * CHUNK && rec->chunks_in == 50);
            ok (rec->started <= rec->connected && rec->connected <= rec->first_byte
                && rec->first_byte <= rec->last_byte
                && rec->last_byte <= rec->verified);
            /* the clock is the same one, so what was measured is the error */
            ok (rec->clock_error > 0);
            ok (rec->clock_offset <= rec->clock_error
                && rec->clock_offset >= -rec->clock_error);
        }
        ok (rec->bytes_out == (r < 2 ? 50 * CHUNK : 0));
    }
    cluster_destroy (cl);
}

/* Plans and configurations that make no sense are refused, not run. */
static void test_invalid (const char *dir)
{
    int32_t cut_off[] = { -1, 0, -1 };
    int32_t ring[] = { -1, 2, 1 };
    int32_t outside[] = { -1, 7, 0 };
    int32_t *plans[] = { cut_off, ring, outside };
    const char *addresses[] = { "127.0.0.1:1", "[::1]:1", "nonsense" };
    unsigned char secret[32] = { 0 };
    struct record rec;
    struct fault f;

    (void)dir;
    for (int i = 0; i < 5; i++) {
        struct node_config nc = {
            .rank = i == 3 ? 1 : i == 0 ? 2 : 1,
            .size = 3,
            .stripes = i == 4 ? 0 : 1,
            .parents = i < 3 ? plans[i] : (int32_t[]){ -1, 2, 0 },
            .addresses = addresses,
            .listen_fd = -1,
            .key = secret,
            .id = secret,
            .deliver = 1,
            .destination = "/tmp/x",
            .tmp = "y",
            .timeout = 1,
            .record = &rec,
        };

        ok (!node_create (&nc, &f));
        ok_fault (&f, 22, i < 3    ? "does not lead to the root"
                          : i == 3 ? "rank 2 has no valid address"
                                   : "is not valid");
    }
}

int main (void)
{
    run (test_plans);
    run (test_file);
    run (test_nothing);
    run (test_sparse);
    run (test_many_files);
    run (test_relay);
    run (test_overwrite);
    run (test_in_place);
    run (test_record);
    run (test_invalid);
    return check_end ();
}
