/* test_table_cache.c - which chunks there are, and those in memory */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "check.h"
#include "table.h"

#define CHUNK 4096

static void test_order (const char *dir)
{
    struct table *t = table_create (10 * CHUNK + 5, CHUNK, 3, false);
    struct sum sum;
    uint64_t c;

    (void)dir;
    must (t);
    ok (t->nchunks == 11);
    ok (table_length (t, 9) == CHUNK && table_length (t, 10) == 5);
    for (uint64_t want = 1; want < 11; want += 3)
        ok (table_take (t, 1, &c) && c == want);
    ok (!table_take (t, 1, &c));
    /* what did not come is asked for again, once */
    table_return (t, 4);
    ok (table_take (t, 1, &c) && c == 4 && !table_take (t, 1, &c));
    table_return (t, 10);
    table_return (t, 7);
    ok (!table_land (t, 7, (struct sum){ 1, 2 }));
    table_return (t, 7);
    ok (table_take (t, 1, &c) && c == 10 && !table_take (t, 1, &c));
    ok (table_has (t, 7) && !table_has (t, 10));
    ok (table_sum (t, 7, &sum) && sum.lo == 1 && sum.hi == 2);
    ok (!table_sum (t, 10, &sum));
    /* the first word counts */
    ok (!table_land (t, 7, (struct sum){ 3, 4 }) && table_count (t) == 1);
    table_destroy (t);
}

static void test_held (const char *dir)
{
    struct table *t = table_create (2 * CHUNK, CHUNK, 1, true);
    struct table *u = table_create (2 * CHUNK, CHUNK, 2, false);
    struct sum sum;
    uint64_t c;

    (void)dir;
    must (t && u);
    ok (!table_take (t, 0, &c) && table_has (t, 1) && !table_sum (t, 1, &sum));
    ok (!table_is_complete (t));
    ok (!table_land (t, 1, (struct sum){ 3, 4 }));
    ok (table_land (t, 0, (struct sum){ 1, 2 }) && table_is_complete (t));
    table_land (u, 0, (struct sum){ 1, 2 });
    table_land (u, 1, (struct sum){ 3, 4 });
    ok (sum_equal (table_digest (t), table_digest (u)));
    table_destroy (t);
    table_destroy (u);
}

static void test_empty (const char *dir)
{
    struct table *t = table_create (0, CHUNK, 2, false);
    uint64_t c;

    (void)dir;
    must (t);
    ok (t->nchunks == 0 && table_is_complete (t));
    ok (!table_take (t, 0, &c) && !table_take (t, 1, &c));
    ok (sum_equal (table_digest (t), sum_of ("", 0)));
    table_destroy (t);
    /* more than there can be memory for */
    ok (!table_create (INT64_MAX, CHUNK, 1, false));
}

static void test_slots (const char *dir)
{
    struct cache *cache = cache_create (2, CHUNK);
    struct slot *a;
    struct slot *b;

    (void)dir;
    must (cache);
    ok (!cache_find (cache, 0));
    a = cache_take (cache);
    b = cache_take (cache);
    must (a && b && a != b);
    ok (!cache_take (cache));
    memset (a->data, 'a', CHUNK);
    cache_publish (cache, a, 10);
    cache_publish (cache, b, 20);
    cache_release (cache, a);
    cache_release (cache, b);
    /* 10 was used last, so the place of 20 is given away */
    ok ((a = cache_find (cache, 10)) && a->data[CHUNK - 1] == 'a');
    cache_release (cache, a);
    ok (cache_take (cache) == b && !cache_find (cache, 20));
    cache_release (cache, b);
    ok (cache_find (cache, 10) == a);
    ok (cache_take (cache) == b && !cache_take (cache));
    cache_destroy (cache);
}

#define THREADS 4
#define CHUNKS 20000

struct race {
    struct table *t;
    struct cache *cache;
    int tree;
    uint64_t taken;
    uint64_t last;
};

static void *race_run (void *arg)
{
    struct race *r = arg;
    uint64_t c;

    while (table_take (r->t, r->tree, &c)) {
        struct slot *slot = cache_take (r->cache);
        struct slot *other;

        if (c % 7 == 0 && c % 5 != r->taken % 5) { /* lost for now */
            cache_release (r->cache, slot);
            table_return (r->t, c);
            r->taken++;
            continue;
        }
        memcpy (slot->data, &c, sizeof (c));
        cache_publish (r->cache, slot, c);
        cache_release (r->cache, slot);
        r->taken++;
        r->last += table_land (r->t, c, (struct sum){ c, ~c });
        if ((other = cache_find (r->cache, c))) {
            ok (!memcmp (other->data, &c, sizeof (c)));
            cache_release (r->cache, other);
        }
    }
    return NULL;
}

static void test_threads (const char *dir)
{
    struct table *t = table_create ((uint64_t)CHUNKS * CHUNK, CHUNK, 2, false);
    struct cache *cache = cache_create (2 * THREADS, 16);
    struct race races[THREADS];
    pthread_t threads[THREADS];
    uint64_t last = 0;

    (void)dir;
    must (t && cache);
    for (int i = 0; i < THREADS; i++) {
        races[i] = (struct race){ .t = t, .cache = cache, .tree = i % 2 };
        must (pthread_create (&threads[i], NULL, race_run, &races[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        must (pthread_join (threads[i], NULL) == 0);
        last += races[i].last;
    }
    ok (last == 1 && table_is_complete (t));
    for (uint64_t c = 0; c < CHUNKS; c++) {
        struct sum sum;

        if (!ok (table_sum (t, c, &sum) && sum.lo == c && sum.hi == ~c))
            break;
    }
    cache_destroy (cache);
    table_destroy (t);
}

int main (void)
{
    run (test_order);
    run (test_held);
    run (test_empty);
    run (test_slots);
    run (test_threads);
    return check_end ();
}
