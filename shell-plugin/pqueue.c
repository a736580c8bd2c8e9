/* pqueue.c - numbers in the order of their keys: a binary heap that knows where
 * each number is
 */
#include "pqueue.h"

#include <errno.h>
#include <stdlib.h>

struct pqueue {
    double *keys;   /* by number */
    int32_t *heap;  /* numbers */
    int32_t *place; /* in the heap, by number; -1: not there */
    int32_t count;
};

void pqueue_destroy (struct pqueue *q)
{
    if (q) {
        free (q->keys);
        free (q->heap);
        free (q->place);
        free (q);
    }
}

struct pqueue *pqueue_create (int m)
{
    struct pqueue *q;

    if (!(q = calloc (1, sizeof (*q))) || !(q->keys = malloc (sizeof (*q->keys) * m))
        || !(q->heap = malloc (sizeof (*q->heap) * m))
        || !(q->place = malloc (sizeof (*q->place) * m))) {
        pqueue_destroy (q);
        errno = ENOMEM;
        return NULL;
    }
    for (int i = 0; i < m; i++)
        q->place[i] = -1;
    return q;
}

static bool before (const struct pqueue *q, int32_t a, int32_t b)
{
    return q->keys[a] < q->keys[b] || (q->keys[a] == q->keys[b] && a < b);
}

static void put (struct pqueue *q, int32_t at, int32_t id)
{
    q->heap[at] = id;
    q->place[id] = at;
}

static void sift_up (struct pqueue *q, int32_t at, int32_t id)
{
    while (at > 0 && before (q, id, q->heap[(at - 1) / 2])) {
        put (q, at, q->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put (q, at, id);
}

static void sift_down (struct pqueue *q, int32_t at, int32_t id)
{
    int32_t child;

    while ((child = 2 * at + 1) < q->count) {
        if (child + 1 < q->count && before (q, q->heap[child + 1], q->heap[child]))
            child++;
        if (!before (q, q->heap[child], id))
            break;
        put (q, at, q->heap[child]);
        at = child;
    }
    put (q, at, id);
}

static void settle (struct pqueue *q, int32_t at, int32_t id)
{
    if (at > 0 && before (q, id, q->heap[(at - 1) / 2]))
        sift_up (q, at, id);
    else
        sift_down (q, at, id);
}

void pqueue_set (struct pqueue *q, int32_t id, double key)
{
    q->keys[id] = key;
    if (q->place[id] < 0) {
        q->count++;
        sift_up (q, q->count - 1, id);
    }
    else
        settle (q, q->place[id], id);
}

void pqueue_remove (struct pqueue *q, int32_t id)
{
    int32_t at = q->place[id];
    int32_t last;

    if (at < 0)
        return;
    q->place[id] = -1;
    last = q->heap[--q->count];
    if (last != id)
        settle (q, at, last);
}

bool pqueue_first (const struct pqueue *q, int32_t *id, double *key)
{
    if (q->count == 0)
        return false;
    *id = q->heap[0];
    *key = q->keys[*id];
    return true;
}
