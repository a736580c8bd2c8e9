/* jobtopo.c - the TBON as the shells of a job stand in it */
#include "jobtopo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-2)

/* Parents of the brokers, from {"rank", "size", "children": [...]}. */
static int read_tree (json_t *tree, int parent, int32_t *parents, int size)
{
    json_t *children = NULL;
    json_t *child;
    size_t i;
    int rank;

    if (json_unpack (tree, "{s:i s?o}", "rank", &rank, "children", &children) < 0 || rank < 0
        || rank >= size)
        return -1;
    parents[rank] = parent;
    json_array_foreach (children, i, child) {
        if (read_tree (child, rank, parents, size) < 0)
            return -1;
    }
    return 0;
}

static int32_t *get_brokers (struct bcast *b, int *size, struct fault *f)
{
    flux_future_t *future;
    int32_t *parents = NULL;
    json_t *tree;

    if (!(future = flux_rpc_pack (b->h, "overlay.topology", 0, 0, "{s:i}", "rank", 0))
        || flux_rpc_get_unpack (future, "{s:i}", "size", size) < 0
        || flux_rpc_get_unpack (future, "o", &tree) < 0
        || !(parents = malloc (*size * sizeof (*parents)))) {
        fault_set (f, errno, -1, "the instance's topology cannot be had: %s", strerror (errno));
        goto done;
    }
    for (int i = 0; i < *size; i++)
        parents[i] = NONE;
    if (read_tree (tree, -1, parents, *size) < 0) {
        fault_set (f, EPROTO, -1, "the instance's topology is not one tree");
        free (parents);
        parents = NULL;
    }
done:
    flux_future_destroy (future);
    return parents;
}

/* Where the first shell has shells above it, turn the path around. */
static void make_root (int32_t *parents)
{
    int32_t below = -1;
    int32_t at = 0;

    while (at != NONE) {
        int32_t above = parents[at];

        parents[at] = below;
        below = at;
        at = above;
    }
}

int32_t *jobtopo_create (struct bcast *b, struct fault *f)
{
    int32_t *brokers = NULL;
    int32_t *shells = NULL; /* of each broker */
    int32_t *parents = NULL;
    int size;

    if (!(brokers = get_brokers (b, &size, f)))
        return NULL;
    if (!(shells = malloc (size * sizeof (*shells)))
        || !(parents = malloc (b->size * sizeof (*parents)))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    for (int i = 0; i < size; i++)
        shells[i] = NONE;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < b->size; i++) {
            int rank;

            if (flux_shell_rank_info_unpack (b->shell, i, "{s:i}", "broker_rank", &rank) < 0
                || rank < 0 || rank >= size) {
                fault_set (f, EPROTO, -1, "shell %d has no broker in the instance's topology", i);
                goto error;
            }
            if (pass == 0)
                shells[rank] = i;
            else {
                do
                    rank = brokers[rank];
                while (rank >= 0 && shells[rank] == NONE);
                parents[i] = rank >= 0 ? shells[rank] : NONE;
            }
        }
    }
    make_root (parents);
    for (int i = 1; i < b->size; i++) {
        if (parents[i] == NONE)
            parents[i] = 0;
    }
    free (brokers);
    free (shells);
    return parents;
error:
    free (brokers);
    free (shells);
    free (parents);
    return NULL;
}
