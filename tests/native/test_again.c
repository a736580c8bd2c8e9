/* test_again.c - a destination that holds some of the data already, and data
 * that has to come to a published digest
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "tree_check.h"

#define CHUNK 8192
#define COUNT 600

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
        .timeout = 5,
        .overwrite = 1,
        .resume = 1,
    };
}

static struct cluster *run_all (const struct cluster_config *cc)
{
    struct cluster *c = cluster_create (cc);

    cluster_start_all (c);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    return c;
}

/* Runs; ranks 1 to n - 1 must then have asked for so many chunks, and have kept
 * the rest.
 */
static void ok_fetched (const struct cluster_config *cc, uint64_t chunks, uint64_t all)
{
    struct cluster *c = run_all (cc);

    for (int r = 0; r < cc->n; r++) {
        const struct record *rec = &c->records[r];

        ok (cluster_is_delivered (c, r));
        if (r > 0) {
            ok (rec->chunks_in == chunks);
            ok (rec->bytes_in + rec->bytes_kept == all);
        }
    }
    cluster_destroy (c);
}

static ino_t inode (const char *name)
{
    struct stat sb;

    must (lstat (name, &sb) == 0);
    return sb.st_ino;
}

/* Nothing there; all there; some chunks changed, at either side; longer. */
static void test_file (const char *dir)
{
    for (int two = 0; two < 2; two++) {
        struct cluster_config cc = base (dir);
        ino_t before;

        cc.source = path ("%s/src-%d", dir, two);
        cc.dest = path ("%s/out-%d-%%d", dir, two);
        cc.strategy = two ? "two-tree" : "chain";
        make_file (cc.source, COUNT * CHUNK, 1);
        ok_fetched (&cc, COUNT, COUNT * CHUNK);
        before = inode (path ("%s/out-%d-2", dir, two));
        cc.overwrite = 0; /* nor is it needed for what is right */
        ok_fetched (&cc, 0, COUNT * CHUNK);
        ok (inode (path ("%s/out-%d-2", dir, two)) == before);
        cc.overwrite = 1;
        write_at (cc.source, 10 * CHUNK + 5, 10, 2);
        write_at (cc.source, 99 * CHUNK, CHUNK, 3);
        ok_fetched (&cc, 2, COUNT * CHUNK);
        write_at (cc.source, COUNT * CHUNK, 10 * CHUNK + 1, 4);
        ok_fetched (&cc, 11, (COUNT + 10) * CHUNK + 1);
        must (truncate (cc.source, 50 * CHUNK) == 0);
        ok_fetched (&cc, 0, 50 * CHUNK);
    }
    ok (count_names (dir) == 2 + 2 * 4);
}

/* Each rank has something else. */
static void test_mixed (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, COUNT * CHUNK, 1);
    make_file (path ("%s/out-1", dir), 100 * CHUNK, 1);
    make_file (path ("%s/out-3", dir), COUNT * CHUNK, 1);
    cc.relays = 1 << 2;
    c = run_all (&cc);
    ok (cluster_is_delivered (c, 0) && cluster_is_delivered (c, 1)
        && cluster_is_delivered (c, 3));
    ok (c->records[1].bytes_kept == 100 * CHUNK && c->records[1].chunks_in == COUNT - 100);
    ok (c->records[2].bytes_kept == 0 && c->records[2].chunks_in == COUNT);
    ok (c->records[3].bytes_kept == COUNT * CHUNK && c->records[3].chunks_in == 0);
    cluster_destroy (c);
    ok (count_names (dir) == 4);
}

static void test_refused (const char *dir)
{
    struct cluster_config cc = base (dir);
    struct cluster *c;

    make_file (cc.source, 20 * CHUNK, 1);
    make_file (path ("%s/out-2", dir), 20 * CHUNK, 2);
    cc.overwrite = 0;
    c = run_all (&cc);
    cluster_ok_failed (c, 2, EEXIST, "/out-2: exists: remove it, or allow overwrite");
    cluster_destroy (c);
    ok (!same_tree (cc.source, path ("%s/out-2", dir)));
}

/* A tree goes into a directory, so that the same destination means the same each
 * time.
 */
static void ok_tree (const char *dir, bool fetched, bool kept)
{
    struct cluster_config cc = base (dir);
    struct cluster *c = run_all (&cc);

    for (int r = 0; r < cc.n; r++) {
        const struct record *rec = &c->records[r];

        ok (c->rc[r] == 0
            && same_tree (cc.source, path ("%s/out-%d/src", dir, r)));
        ok (r == 0
            || ((rec->chunks_in > 0) == fetched
                && (rec->bytes_kept > 0) == kept));
    }
    cluster_destroy (c);
}

static void test_tree (const char *dir)
{
    make_tree (path ("%s/src", dir), CHUNK);
    for (int r = 0; r < 4; r++)
        make_dir (path ("%s/out-%d", dir, r));
    ok_tree (dir, true, false);
    ok_tree (dir, false, true);
    make_file (path ("%s/src/new", dir), 3 * CHUNK, 9);
    ok_tree (dir, true, true);
    for (int r = 0; r < 4; r++)
        make_file (path ("%s/out-%d/src/extra", dir, r), 10, 9);
    ok_tree (dir, false, true);
    for (int r = 0; r < 4; r++)
        ok (count_names (path ("%s/out-%d", dir, r)) == 1);
}

/* Ended in the middle: the next run asks for the rest; but not if the source is
 * another one by then.
 */
static void test_interrupted (const char *dir)
{
    for (int changed = 0; changed < 2; changed++) {
        struct cluster_config cc = base (dir);
        struct cluster *c;
        uint64_t kept;

        cc.source = path ("%s/src-%d", dir, changed);
        cc.dest = path ("%s/out-%d-%%d", dir, changed);
        make_file (cc.source, 3000 * CHUNK, 1);
        c = cluster_create (&cc);
        cluster_start_all (c);
        cluster_wait_chunk (c, 3);
        cluster_destroy (c);
        ok (access (path ("%s/out-%d-3", dir, changed), F_OK) < 0);
        if (changed)
            make_file (cc.source, 3000 * CHUNK, 2);
        c = run_all (&cc);
        kept = c->records[1].bytes_kept;
        for (int r = 0; r < cc.n; r++)
            ok (cluster_is_delivered (c, r));
        if (changed)
            ok (kept == 0 && c->records[3].bytes_kept == 0);
        else
            ok (kept > 0 && kept + c->records[1].bytes_in == 3000 * CHUNK);
        cluster_destroy (c);
    }
    /* nothing of the first runs is left */
    ok (count_names (dir) == 2 + 2 * 4);
}

static void hash_file (const char *name, unsigned char *digest)
{
    struct stat sb;
    unsigned char *data;
    int fd;

    must ((fd = open (name, O_RDONLY | O_CLOEXEC)) >= 0 && fstat (fd, &sb) == 0);
    must ((data = malloc (sb.st_size + 1)) && read (fd, data, sb.st_size) == sb.st_size);
    close (fd);
    SHA256 (data, sb.st_size, digest);
    free (data);
}

static void test_digest (const char *dir)
{
    for (int resume = 0; resume < 2; resume++) {
        struct cluster_config cc = base (dir);
        unsigned char digest[32];
        struct cluster *c;

        cc.dest = path ("%s/out-%d-%%d", dir, resume);
        cc.resume = resume;
        /* with a hole in the middle and one at the end */
        make_file (cc.source, 50 * CHUNK + 77, 1);
        write_at (cc.source, 300 * CHUNK, 100, 2);
        must (truncate (cc.source, 400 * CHUNK) == 0);
        hash_file (cc.source, digest);
        cc.sha256 = digest;
        cluster_run (&cc);
        digest[31] ^= 1;
        cc.dest = path ("%s/bad-%d-%%d", dir, resume);
        c = cluster_create (&cc);
        cluster_start_all (c);
        cluster_wait (c);
        cluster_ok_failed (c,
                           0,
                           EBADMSG,
                           path ("source %s: is not the file that digest says: it has "
                                 "sha256:",
                                 cc.source));
        ok (c->faults[0].kind == FAULT_SOURCE);
        for (int r = 1; r < cc.n; r++)
            ok (c->rc[r] < 0);
        cluster_destroy (c);
        ok (access (path ("%s/bad-%d-1", dir, resume), F_OK) < 0);
    }
}

/* What had the name has another one too, whose mode and data stay. */
static void test_other_name (const char *dir)
{
    struct cluster_config cc = base (dir);
    const char *other = path ("%s/other", dir);
    struct stat sb;

    make_file (cc.source, 20 * CHUNK, 1);
    make_file (path ("%s/out-2", dir), 5 * CHUNK, 2);
    must (chmod (path ("%s/out-2", dir), 0754) == 0);
    must (link (path ("%s/out-2", dir), other) == 0);
    cc.n = 3;
    ok_fetched (&cc, 20, 20 * CHUNK);
    must (stat (other, &sb) == 0);
    ok ((sb.st_mode & 07777) == 0754 && sb.st_size == 5 * CHUNK && sb.st_nlink == 1);
}

/* A digest is of one file: a parent could give anything around the same bytes. */
static void test_digest_of_tree (const char *dir)
{
    struct cluster_config cc = base (dir);
    unsigned char digest[32];
    struct cluster *c;

    make_dir (cc.source);
    make_file (path ("%s/a", cc.source), 20 * CHUNK, 1);
    hash_file (path ("%s/a", cc.source), digest);
    cc.sha256 = digest;
    cc.n = 2;
    cc.left_out = 1 << 1;
    c = cluster_create (&cc);
    cluster_start (c, 0);
    cluster_ok_failed (c, 0, EBADMSG, "digest is of one file, but a directory comes");
    cluster_destroy (c);
}

int main (void)
{
    run (test_file);
    run (test_mixed);
    run (test_refused);
    run (test_tree);
    run (test_interrupted);
    run (test_digest);
    run (test_other_name);
    run (test_digest_of_tree);
    return check_end ();
}
