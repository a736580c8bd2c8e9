/* pqueue.h - numbers 0..m-1 in the order of their keys
 *
 * Equal keys come out in the order of the numbers.
 */
#ifndef FLUX_TREE_PQUEUE_H
#define FLUX_TREE_PQUEUE_H

#include <stdbool.h>
#include <stdint.h>

struct pqueue;

struct pqueue *pqueue_create (int m);
void pqueue_destroy (struct pqueue *q);
/* Put number 'id' in, or give it another key. */
void pqueue_set (struct pqueue *q, int32_t id, double key);
void pqueue_remove (struct pqueue *q, int32_t id);
/* The first one; false if there is none. */
bool pqueue_first (const struct pqueue *q, int32_t *id, double *key);

#endif
