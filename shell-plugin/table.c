/* table.c - which chunks a rank has, and their checksums */
#include "table.h"

#include <stdlib.h>

#include "bytes.h"

#define SUM_SIZE 16

enum {
    LACKING = 0,
    ASKED = 1,
    HELD = 2,   /* there, checksum not known */
    LANDED = 3, /* there, with its checksum */
};

struct table *table_create (uint64_t bytes,
                            uint32_t chunk_size,
                            int stripes,
                            bool held)
{
    struct table *t;
    uint64_t n = bytes / chunk_size + (bytes % chunk_size != 0);

    if (!(t = calloc (1, sizeof (*t))))
        return NULL;
    pthread_mutex_init (&t->lock, NULL);
    t->bytes = bytes;
    t->nchunks = n;
    t->chunk_size = chunk_size;
    t->stripes = stripes;
    if (!(t->state = calloc (n + 1, sizeof (*t->state)))
        || !(t->sums = calloc (n + 1, SUM_SIZE))
        || !(t->cursors = calloc (stripes, sizeof (*t->cursors)))) {
        table_destroy (t);
        return NULL;
    }
    for (uint64_t c = 0; held && c < n; c++)
        atomic_init (&t->state[c], HELD);
    for (int s = 0; s < stripes; s++)
        t->cursors[s] = s;
    return t;
}

void table_destroy (struct table *t)
{
    if (t) {
        pthread_mutex_destroy (&t->lock);
        free ((void *)t->state);
        free (t->sums);
        free (t->cursors);
        free (t);
    }
}

static uint8_t get_state (struct table *t, uint64_t chunk)
{
    return atomic_load_explicit (&t->state[chunk], memory_order_acquire);
}

static void set_state (struct table *t, uint64_t chunk, uint8_t state)
{
    atomic_store_explicit (&t->state[chunk], state, memory_order_release);
}

bool table_take (struct table *t, int tree, uint64_t *chunk)
{
    bool found = false;
    uint64_t c;

    pthread_mutex_lock (&t->lock);
    for (c = t->cursors[tree]; c < t->nchunks; c += t->stripes) {
        if (get_state (t, c) == LACKING) {
            set_state (t, c, ASKED);
            *chunk = c;
            found = true;
            c += t->stripes;
            break;
        }
    }
    t->cursors[tree] = c;
    pthread_mutex_unlock (&t->lock);
    return found;
}

void table_return (struct table *t, uint64_t chunk)
{
    int tree = chunk % t->stripes;

    pthread_mutex_lock (&t->lock);
    if (get_state (t, chunk) == ASKED) {
        set_state (t, chunk, LACKING);
        if (chunk < t->cursors[tree])
            t->cursors[tree] = chunk;
    }
    pthread_mutex_unlock (&t->lock);
}

bool table_land (struct table *t, uint64_t chunk, struct sum sum)
{
    bool last = false;

    pthread_mutex_lock (&t->lock);
    if (get_state (t, chunk) != LANDED) {
        put64 (t->sums + SUM_SIZE * chunk, sum.lo);
        put64 (t->sums + SUM_SIZE * chunk + 8, sum.hi);
        set_state (t, chunk, LANDED);
        last = ++t->summed == t->nchunks;
    }
    pthread_mutex_unlock (&t->lock);
    return last;
}

bool table_has (struct table *t, uint64_t chunk)
{
    return get_state (t, chunk) >= HELD;
}

bool table_sum (struct table *t, uint64_t chunk, struct sum *sum)
{
    if (get_state (t, chunk) != LANDED)
        return false;
    /* written before the state was, and never again */
    sum->lo = get64 (t->sums + SUM_SIZE * chunk);
    sum->hi = get64 (t->sums + SUM_SIZE * chunk + 8);
    return true;
}

uint64_t table_count (struct table *t)
{
    uint64_t count;

    pthread_mutex_lock (&t->lock);
    count = t->summed;
    pthread_mutex_unlock (&t->lock);
    return count;
}

bool table_is_complete (struct table *t)
{
    return table_count (t) == t->nchunks;
}

struct sum table_digest (struct table *t)
{
    return sum_of (t->sums, t->nchunks * SUM_SIZE);
}
