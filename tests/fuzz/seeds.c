/* seeds.c - what the fuzzers begin with: real manifests, every message, and
 * conversations as they go when all is well
 *
 *   seeds DIR      writes DIR/manifest/..., DIR/wire/..., DIR/down/..., DIR/up/...
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "check.h"
#include "fuzz.h"
#include "fuzz_node.h"
#include "manifest.h"
#include "node.h"
#include "wire.h"

#define STREAM_MAX 65536

struct stream {
    unsigned char data[STREAM_MAX];
    size_t size;
};

static void put (struct stream *s, const void *data, size_t size)
{
    must (size <= sizeof (s->data) - s->size);
    memcpy (s->data + s->size, data, size);
    s->size += size;
}

static void put_msg (struct stream *s, struct wire_msg msg)
{
    unsigned char buf[WIRE_SIZE_MAX];

    put (s, buf, wire_encode (&msg, buf));
}

static void put_data (struct stream *s,
                      uint8_t space,
                      uint64_t chunk,
                      const void *data,
                      uint32_t length)
{
    put_msg (s,
             (struct wire_msg){
                 .type = WIRE_DATA,
                 .data = { space, length, chunk, sum_of (data, length) },
             });
    put (s, data, length);
}

static const char *out; /* the directory */

static void save (const char *target, const char *name, const void *data, size_t size)
{
    const char *dir = path ("%s/%s", out, target);
    FILE *f;

    must (mkdir (dir, 0755) == 0 || errno == EEXIST);
    must ((f = fopen (path ("%s/%s", dir, name), "wb")));
    must (fwrite (data, 1, size, f) == size && fclose (f) == 0);
}

static void save_stream (const char *target, const char *name, const struct stream *s)
{
    save (target, name, s->data, s->size);
}

/* A tree with some of everything. */
static void make_tree (const char *dir)
{
    make_dir (dir);
    make_dir (path ("%s/sub", dir));
    make_dir (path ("%s/sub/deeper", dir));
    make_file (path ("%s/empty", dir), 0, 1);
    make_file (path ("%s/small", dir), 10, 2);
    make_file (path ("%s/sub/two chunks", dir), 5000, 3);
    write_at (path ("%s/sub/holes", dir), 1 << 20, 100, 4);
    write_at (path ("%s/sub/holes", dir), 1 << 22, 100, 5);
    must (symlink ("../small", path ("%s/sub/link", dir)) == 0);
    must (symlink ("/etc/passwd", path ("%s/sub/deeper/out", dir)) == 0);
    must (chmod (path ("%s/sub/deeper", dir), 01777) == 0);
}

static void save_manifests (const char *dir)
{
    const char *names[] = { "tree", "file", "none", "tree/sub", "empty" };

    make_tree (path ("%s/tree", dir));
    make_file (path ("%s/file", dir), 9000, 6);
    make_file (path ("%s/none", dir), 0, 7);
    make_dir (path ("%s/empty", dir));
    for (size_t i = 0; i < sizeof (names) / sizeof (names[0]); i++) {
        unsigned char *data;
        struct fault f;
        size_t size;

        must ((data = node_scan (path ("%s/%s", dir, names[i]), &size, &f)));
        must (node_set_chunk_size (data, size, FUZZ_CHUNK, &f) == 0);
        save ("manifest", path ("%zu", i), data, size);
        node_free (data);
    }
}

/* A directory in a directory, and a file there: nothing is wrong with them but
 * what 'spoil' does.
 */
static void save_spoiled (const char *name, void (*spoil) (struct manifest *m))
{
    const struct entry top = { .type = ENTRY_DIR, .mode = 0755 };
    const struct entry dir = { .type = ENTRY_DIR, .mode = 0755, .name = 4 };
    const struct entry file = {
        .type = ENTRY_FILE, .mode = 0644, .name = 8, .size = 10000, .parent = 1
    };
    struct manifest *m = manifest_create ();
    unsigned char *data;
    struct fault f;
    size_t size;

    must (m);
    m->chunk_size = FUZZ_CHUNK;
    must (manifest_add_string (m, "top", 3) == 0
          && manifest_add_string (m, "dir", 3) == 4
          && manifest_add_string (m, "abc", 3) == 8
          && manifest_add_entry (m, &top) == 0
          && manifest_add_entry (m, &dir) == 1
          && manifest_add_entry (m, &file) == 2);
    must (manifest_add_segment (m, 2, 0, 1000) == 0
          && manifest_add_segment (m, 2, 5000, 1000) == 0);
    spoil (m);
    must ((data = manifest_encode (m, &size, &f)));
    save ("manifest", name, data, size);
    node_free (data);
    manifest_destroy (m);
}

static void spoil_nothing (struct manifest *m)
{
    (void)m;
}

static void name_up (struct manifest *m)
{
    strcpy (m->strings + 8, "..");
}

static void name_same (struct manifest *m)
{
    strcpy (m->strings + 8, ".");
}

static void name_path (struct manifest *m)
{
    strcpy (m->strings + 8, "/x");
}

static void name_nothing (struct manifest *m)
{
    strcpy (m->strings + 8, "");
}

static void name_top_up (struct manifest *m)
{
    strcpy (m->strings, "..");
}

static void be_own_parent (struct manifest *m)
{
    m->entries[1].parent = 1;
}

static void be_in_file (struct manifest *m)
{
    m->entries[1].type = ENTRY_FILE;
}

static void be_setuid (struct manifest *m)
{
    m->entries[2].mode = 04755;
}

static void overlap (struct manifest *m)
{
    m->segments[1].file_offset = 999;
}

static void go_beyond (struct manifest *m)
{
    m->segments[1].file_offset = 9001;
}

static void add_up_wrong (struct manifest *m)
{
    m->bytes--;
}

static void save_all_spoiled (void)
{
    static const struct {
        const char *name;
        void (*spoil) (struct manifest *m);
    } all[] = {
        { "good", spoil_nothing },
        { "up", name_up },
        { "same", name_same },
        { "path", name_path },
        { "nothing", name_nothing },
        { "top-up", name_top_up },
        { "own", be_own_parent },
        { "in-file", be_in_file },
        { "setuid", be_setuid },
        { "overlap", overlap },
        { "beyond", go_beyond },
        { "sum", add_up_wrong },
    };

    for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++)
        save_spoiled (all[i].name, all[i].spoil);
}

static void save_messages (void)
{
    struct wire_msg all[] = {
        fuzz_hello (1),
        { .type = WIRE_WELCOME, .welcome = { WIRE_MAGIC, WIRE_VERSION, 0, 0, 5 } },
        { .type = WIRE_REFUSE, .refuse = { EPERM, "this is another broadcast" } },
        { .type = WIRE_PING, .ping.sent = 123456789 },
        { .type = WIRE_PONG, .pong = { 123456789, 987654321, 7, 8, WIRE_NOBODY, 0 } },
        { .type = WIRE_OFFER, .offer = { 100, { 1, 2 }, -3, 4, OFFER_SUMS } },
        { .type = WIRE_GET, .get = { SPACE_PAYLOAD, 9 } },
        { .type = WIRE_DATA, .data = { SPACE_PAYLOAD, 4096, 12, { 34, 56 } } },
        { .type = WIRE_DIGEST, .digest.sum = { 78, 90 } },
    };
    struct stream s = { .size = 0 };

    for (size_t i = 0; i < sizeof (all) / sizeof (all[0]); i++) {
        struct stream one = { .size = 0 };

        put_msg (&one, all[i]);
        save_stream ("wire", path ("%zu", i), &one);
        if (all[i].type != WIRE_DATA)
            put_msg (&s, all[i]);
    }
    put_data (&s, SPACE_PAYLOAD, 3, "abcdef", 6);
    put_data (&s, SPACE_SUMS, 0, "0123456789abcdef", 16);
    put_msg (&s, all[0]);
    save_stream ("wire", "all", &s);
}

/* The first byte is an option of the target: see fuzz_down.c, fuzz_up.c. */
static void save_children (void)
{
    struct stream s = { .data = { 0 }, .size = 1 };

    put_msg (&s, fuzz_hello (1));
    put_msg (&s, (struct wire_msg){ .type = WIRE_PING, .ping.sent = 1 });
    put_msg (&s, (struct wire_msg){ .type = WIRE_GET, .get = { SPACE_MANIFEST, 0 } });
    for (int i = 0; i < FUZZ_CHUNKS; i++)
        put_msg (&s,
                 (struct wire_msg){ .type = WIRE_GET, .get = { SPACE_PAYLOAD, i } });
    put_msg (&s, (struct wire_msg){ .type = WIRE_PING, .ping.sent = 2 });
    put_msg (&s, (struct wire_msg){ .type = WIRE_GET, .get = { SPACE_SUMS, 0 } });
    for (int option = 0; option < 4; option++) {
        s.data[0] = option;
        save_stream ("down", path ("%d", option), &s);
    }
}

static uint32_t length_at (uint64_t bytes, uint64_t at)
{
    return bytes - at < FUZZ_CHUNK ? bytes - at : FUZZ_CHUNK;
}

/* What a parent says that has the manifest and all of the payload; of the first
 * chunk, 'longer' bytes too many.
 */
static void save_parent (const char *name,
                         uint32_t longer,
                         int options,
                         const unsigned char *manifest,
                         size_t size)
{
    struct stream s = { .data = { options }, .size = 1 };
    unsigned char chunk[FUZZ_CHUNK + 1];
    unsigned char sums[FUZZ_CHUNK];
    size_t nsums = 0;
    struct node_summary sm;
    struct fault f;

    must (node_summarize (manifest, size, &sm, &f) == 0);
    memset (chunk, 'x', sizeof (chunk));
    put_msg (&s,
             (struct wire_msg){
                 .type = WIRE_WELCOME,
                 .welcome = { WIRE_MAGIC, WIRE_VERSION, 0, FUZZ_UP_PARENT, 5 },
             });
    put_msg (&s, (struct wire_msg){ .type = WIRE_PONG, .pong.seen = 1000 });
    put_msg (&s,
             (struct wire_msg){
                 .type = WIRE_OFFER,
                 .offer = { size, sum_of (manifest, size), 0, 0, OFFER_SUMS },
             });
    put_data (&s, SPACE_MANIFEST, 0, manifest, size);
    for (uint64_t at = 0; at < sm.bytes; at += FUZZ_CHUNK) {
        struct sum sum = sum_of (chunk, length_at (sm.bytes, at));

        put64 (sums + nsums, sum.lo);
        put64 (sums + nsums + 8, sum.hi);
        nsums += SUM_SIZE;
    }
    if (options & FUZZ_UP_RESUME) {
        if (nsums > 0)
            put_data (&s, SPACE_SUMS, 0, sums, nsums);
        put_msg (&s, (struct wire_msg){ .type = WIRE_DIGEST });
    }
    for (uint64_t at = 0; at < sm.bytes; at += FUZZ_CHUNK)
        put_data (&s,
                  SPACE_PAYLOAD,
                  at / FUZZ_CHUNK,
                  chunk,
                  length_at (sm.bytes, at) + (at == 0 ? longer : 0));
    put_msg (&s, (struct wire_msg){ .type = WIRE_DIGEST });
    put_msg (&s, (struct wire_msg){ .type = WIRE_REFUSE, .refuse = { EPERM, "no" } });
    save_stream ("up", path ("%s-%d", name, options), &s);
}

static void save_parents (const char *dir)
{
    const char *names[] = { "tree", "file", "none" };

    for (size_t i = 0; i < sizeof (names) / sizeof (names[0]); i++) {
        unsigned char *data;
        struct fault f;
        size_t size;

        must ((data = node_scan (path ("%s/%s", dir, names[i]), &size, &f)));
        must (node_set_chunk_size (data, size, FUZZ_CHUNK, &f) == 0);
        for (int options = 0; options < 4; options++)
            save_parent (names[i], 0, options, data, size);
        save_parent (path ("%s-long", names[i]), 1, FUZZ_UP_HONEST, data, size);
        node_free (data);
    }
}

static void save_all (const char *dir)
{
    save_manifests (dir);
    save_all_spoiled ();
    save_messages ();
    save_children ();
    save_parents (dir);
}

int main (int argc, char **argv)
{
    if (argc != 2) {
        fprintf (stderr, "usage: seeds DIR\n");
        return 2;
    }
    out = argv[1];
    must (mkdir (out, 0755) == 0 || errno == EEXIST);
    run (save_all);
    return check_end ();
}
