/* fabric.h - what moves between ranks in a simulation, and when it is there
 *
 * What a rank sends at the same time shares its NIC in equal parts, as TCP
 * streams do; what has left it goes through uplinks and the receiver's NIC in
 * the order in which it comes, cut through: a piece that meets nothing there
 * takes no longer than it took to send. Processors do one thing after another.
 * Time goes from event to event, and equal times are in the order of what they
 * belong to: the same input gives the same result.
 */
#ifndef FLUX_TREE_FABRIC_H
#define FLUX_TREE_FABRIC_H

#include <stdint.h>

#include "network.h"

struct piece {
    int32_t from;
    int32_t to;
    int32_t flow;  /* what the simulation knows it by */
    int32_t what;
    double bytes;
    double begin;  /* when its first byte comes: fabric_send () and the fabric know */
};

/* What a simulation does when something happens, at time 't'. 0, or -1 with
 * errno set.
 */
struct fabric_ops {
    int (*sent) (void *arg, double t, const struct piece *p);
    int (*landed) (void *arg, double t, const struct piece *p);
    int (*computed) (void *arg, double t, const struct piece *p);
    int (*asked) (void *arg, double t, const struct piece *p);
    int (*timer) (void *arg, double t, int32_t rank);
};

struct fabric;

/* 'most' is what the processors of a rank can send, bytes per second; 0: any. */
struct fabric *fabric_create (const struct network *net,
                              int n,
                              double most,
                              const struct fabric_ops *ops,
                              void *arg);
void fabric_destroy (struct fabric *fb);

/* A piece begins to leave p->from. */
int fabric_send (struct fabric *fb, double t, const struct piece *p);
/* A processor of p->to, or the next free one where all ranks share them, has
 * work to do.
 */
int fabric_compute (struct fabric *fb, double t, const struct piece *p, double seconds);
/* A few bytes, such as a request: they take no time but latency. */
int fabric_ask (struct fabric *fb, double t, const struct piece *p);
/* One a rank. */
void fabric_timer (struct fabric *fb, double t, int32_t rank);
/* Until nothing happens any more. Returns the time of the last event, or -1
 * with errno set.
 */
double fabric_run (struct fabric *fb);

#endif
