/* route.c - which broker's cache is asked for a blob */
#include "route.h"

#include <errno.h>
#include <stdlib.h>

static int get_number (flux_t *h, const char *attr, int *value)
{
    const char *s = flux_attr_get (h, attr);

    if (!s)
        return -1;
    *value = atoi (s);
    return 0;
}

static int compare (const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Each receiver's broker once, but for rank 0, in an order that all agree on. */
static int set_peers (struct route *route, const uint32_t *brokers, int nbrokers)
{
    int n = 0;

    if (!(route->peers = malloc (nbrokers * sizeof (*brokers))))
        return -1;
    for (int i = 0; i < nbrokers; i++) {
        if (brokers[i] != 0)
            route->peers[n++] = brokers[i];
    }
    qsort (route->peers, n, sizeof (*route->peers), compare);
    for (int i = 0; i < n; i++) {
        if (i == 0 || route->peers[i] != route->peers[i - 1])
            route->peers[route->npeers++] = route->peers[i];
    }
    return 0;
}

int route_init (struct route *route, flux_t *h, const uint32_t *brokers, int nbrokers)
{
    int descendants;
    int maxlevel;
    int here = 0;

    route->nodeid = FLUX_NODEID_ANY;
    route->peers = NULL;
    route->npeers = 0;
    if (flux_get_rank (h, &route->rank) < 0
        || get_number (h, "tbon.descendants", &descendants) < 0
        || get_number (h, "tbon.maxlevel", &maxlevel) < 0)
        return -1;
    for (int i = 0; i < nbrokers; i++)
        here += brokers[i] == route->rank;
    if (here != 1)
        return 0;
    if (route->rank != 0 && descendants == 0)
        route->nodeid = FLUX_NODEID_UPSTREAM;
    return maxlevel == 1 ? set_peers (route, brokers, nbrokers) : 0;
}

uint32_t route_nodeid (const struct route *route, uint32_t piece)
{
    uint32_t peer;

    if (route->npeers == 0)
        return route->nodeid;
    peer = route->peers[piece % route->npeers];
    return peer == route->rank ? FLUX_NODEID_ANY : peer;
}

void route_drop_peers (struct route *route)
{
    free (route->peers);
    route->peers = NULL;
    route->npeers = 0;
}
