/* table.c - which chunks a rank has, and their checksums */
#include "table.h"

#include <stdlib.h>

#include "bytes.h"

/* A chunk's state, and what else is known of it. */
enum {
    LACKING = 0,
    ASKED = 1,
    HELD = 2,   /* there, checksum not known */
    LANDED = 3, /* there, with its checksum */
    STATE = 3,
    EXPECTED = 4, /* its checksum is known before it comes */
    LOST = 8,     /* how often, in two bits */
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
        || !(t->cursors = calloc (stripes, sizeof (*t->cursors)))
        || !(t->held = calloc (stripes, sizeof (*t->held)))) {
        table_destroy (t);
        return NULL;
    }
    for (uint64_t c = 0; held && c < n; c++)
        atomic_init (&t->state[c], HELD);
    for (int s = 0; s < stripes; s++) {
        t->cursors[s] = s;
        atomic_init (&t->held[s], held ? table_chunks (t, s) : 0);
    }
    return t;
}

void table_destroy (struct table *t)
{
    if (t) {
        pthread_mutex_destroy (&t->lock);
        free ((void *)t->state);
        free (t->sums);
        free (t->cursors);
        free ((void *)t->held);
        free (t);
    }
}

uint64_t table_chunks (const struct table *t, int tree)
{
    return t->nchunks / t->stripes + ((uint64_t)tree < t->nchunks % t->stripes);
}

static uint8_t get_all (struct table *t, uint64_t chunk)
{
    return atomic_load_explicit (&t->state[chunk], memory_order_acquire);
}

static uint8_t get_state (struct table *t, uint64_t chunk)
{
    return get_all (t, chunk) & STATE;
}

/* With the lock held, as all of the writers. */
static void set_state (struct table *t, uint64_t chunk, uint8_t state)
{
    uint8_t rest = get_all (t, chunk) & ~STATE;

    atomic_store_explicit (&t->state[chunk], rest | state, memory_order_release);
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

/* With the lock held. */
static void make_lacking (struct table *t, uint64_t chunk)
{
    int tree = chunk % t->stripes;

    set_state (t, chunk, LACKING);
    if (chunk < t->cursors[tree])
        t->cursors[tree] = chunk;
}

void table_return (struct table *t, uint64_t chunk)
{
    pthread_mutex_lock (&t->lock);
    if (get_state (t, chunk) == ASKED)
        make_lacking (t, chunk);
    pthread_mutex_unlock (&t->lock);
}

void table_claim (struct table *t)
{
    pthread_mutex_lock (&t->lock);
    for (uint64_t c = 0; c < t->nchunks; c++)
        set_state (t, c, ASKED);
    pthread_mutex_unlock (&t->lock);
}

void table_expect (struct table *t)
{
    pthread_mutex_lock (&t->lock);
    for (uint64_t c = 0; c < t->nchunks; c++)
        atomic_fetch_or (&t->state[c], EXPECTED);
    pthread_mutex_unlock (&t->lock);
}

struct sum table_expected (const struct table *t, uint64_t chunk)
{
    return (struct sum){
        .lo = get64 (t->sums + SUM_SIZE * chunk),
        .hi = get64 (t->sums + SUM_SIZE * chunk + 8),
    };
}

bool table_accepts (struct table *t, uint64_t chunk, struct sum sum)
{
    return !(get_all (t, chunk) & EXPECTED) || sum_equal (sum, table_expected (t, chunk));
}

int table_lose (struct table *t, uint64_t chunk)
{
    int losses;

    pthread_mutex_lock (&t->lock);
    losses = get_all (t, chunk) / LOST;
    if (get_state (t, chunk) == LANDED) {
        if (losses < TABLE_LOSSES_MAX)
            losses++;
        atomic_store (&t->state[chunk], losses * LOST | EXPECTED | LANDED);
        make_lacking (t, chunk);
        t->summed--;
        atomic_fetch_sub (&t->held[chunk % t->stripes], 1);
    }
    pthread_mutex_unlock (&t->lock);
    return losses;
}

bool table_was_lost (struct table *t, uint64_t chunk)
{
    return get_all (t, chunk) / LOST > 0;
}

bool table_land (struct table *t, uint64_t chunk, struct sum sum)
{
    bool last = false;
    uint8_t state;

    pthread_mutex_lock (&t->lock);
    state = get_state (t, chunk);
    if (state != LANDED) {
        /* who expects it may be reading it */
        if (!(get_all (t, chunk) & EXPECTED)) {
            put64 (t->sums + SUM_SIZE * chunk, sum.lo);
            put64 (t->sums + SUM_SIZE * chunk + 8, sum.hi);
        }
        set_state (t, chunk, LANDED);
        if (state != HELD)
            atomic_fetch_add (&t->held[chunk % t->stripes], 1);
        last = ++t->summed == t->nchunks;
    }
    pthread_mutex_unlock (&t->lock);
    return last;
}

bool table_has (struct table *t, uint64_t chunk)
{
    return get_state (t, chunk) >= HELD;
}

uint64_t table_held (struct table *t, int tree)
{
    return atomic_load_explicit (&t->held[tree], memory_order_relaxed);
}

bool table_sum (struct table *t, uint64_t chunk, struct sum *sum)
{
    if (get_state (t, chunk) != LANDED)
        return false;
    /* written before the state was, and never again */
    *sum = table_expected (t, chunk);
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
