/* cache.c - the chunks that are in memory */
#include "cache.h"

#include <pthread.h>
#include <stdlib.h>

struct cache {
    pthread_mutex_t lock;
    int nslots;
    uint64_t clock;
    unsigned char *memory;
    struct slot *slots;
};

struct cache *cache_create (int nslots, size_t chunk_size)
{
    struct cache *c;

    if (!(c = calloc (1, sizeof (*c))))
        return NULL;
    pthread_mutex_init (&c->lock, NULL);
    c->nslots = nslots;
    if (!(c->slots = calloc (nslots, sizeof (*c->slots)))
        || !(c->memory = malloc (nslots * chunk_size))) {
        cache_destroy (c);
        return NULL;
    }
    for (int i = 0; i < nslots; i++)
        c->slots[i].data = c->memory + i * chunk_size;
    return c;
}

void cache_destroy (struct cache *c)
{
    if (c) {
        pthread_mutex_destroy (&c->lock);
        free (c->slots);
        free (c->memory);
        free (c);
    }
}

struct slot *cache_find (struct cache *c, uint64_t chunk)
{
    struct slot *found = NULL;

    pthread_mutex_lock (&c->lock);
    for (int i = 0; i < c->nslots; i++) {
        struct slot *s = &c->slots[i];

        if (s->known && s->chunk == chunk) {
            s->users++;
            s->used = ++c->clock;
            found = s;
            break;
        }
    }
    pthread_mutex_unlock (&c->lock);
    return found;
}

struct slot *cache_take (struct cache *c)
{
    struct slot *best = NULL;

    pthread_mutex_lock (&c->lock);
    for (int i = 0; i < c->nslots; i++) {
        struct slot *s = &c->slots[i];

        if (s->users > 0)
            continue;
        if (!best || !s->known || (best->known && s->used < best->used))
            best = s;
    }
    if (best) {
        best->users = 1;
        best->known = 0;
    }
    pthread_mutex_unlock (&c->lock);
    return best;
}

void cache_publish (struct cache *c, struct slot *slot, uint64_t chunk)
{
    pthread_mutex_lock (&c->lock);
    slot->chunk = chunk;
    slot->known = 1;
    slot->used = ++c->clock;
    pthread_mutex_unlock (&c->lock);
}

void cache_release (struct cache *c, struct slot *slot)
{
    pthread_mutex_lock (&c->lock);
    slot->users--;
    pthread_mutex_unlock (&c->lock);
}
