/* tree.c - one rooted tree over the ranks 0..n-1, as an array of parents */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What mincrit keeps the fan-out of a router to, when K is not given. */
#define MINCRIT_FANOUT 1024

enum {
    DEPTH_ABSENT = -1,
    DEPTH_UNKNOWN = -2,
    DEPTH_BUSY = -3, /* on the path that is being walked */
};

/* Flux reads K with strtoul (3) and stores it in an int, so "-1" and any other
 * number that does not fit come out negative, which means flat.
 */
static int parse_k (const char *s, int *k)
{
    char *end;
    unsigned long value;

    if (*s == '\0')
        return -1;
    errno = 0;
    value = strtoul (s, &end, 10);
    if (errno != 0 || *end != '\0')
        return -1;
    *k = (int)(uint32_t)value;
    return 0;
}

static void fill_flat (int32_t *parents, int n)
{
    parents[0] = TREE_ROOT;
    for (int i = 1; i < n; i++)
        parents[i] = 0;
}

static void fill_kary (int32_t *parents, int n, int k)
{
    fill_flat (parents, n);
    if (k > 0) {
        for (int i = 1; i < n; i++)
            parents[i] = (i - 1) / k;
    }
}

/* A child differs from its parent in one bit, below all bits of the parent. */
static void fill_binomial (int32_t *parents, int n)
{
    parents[0] = TREE_ROOT;
    for (int i = 1; i < n; i++)
        parents[i] = i & (i - 1);
}

/* The smallest K, but never 1, that keeps the routers' fan-out in bounds. */
static int mincrit_choose (int n)
{
    int k;

    if (n <= MINCRIT_FANOUT + 1)
        return 0;
    k = (n - 2) / (MINCRIT_FANOUT + 1) + 1;
    return k < 2 ? 2 : k;
}

/* The ranks 1..K are routers, the others are dealt out to them in turn. */
static void fill_mincrit (int32_t *parents, int n, int k)
{
    fill_flat (parents, n);
    if (k > 0 && k < n) {
        for (int i = k + 1; i < n; i++)
            parents[i] = (i - 1) % k + 1;
    }
}

int tree_spec (const char *spec, int n, int32_t *parents, struct fault *f)
{
    const char *colon = strchr (spec, ':');
    size_t len = colon ? (size_t)(colon - spec) : strlen (spec);
    const char *arg = colon ? colon + 1 : "";
    int k;

    if (n < 1)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "topology '%s': size %d makes no sense, give 1 or more ranks",
                          spec,
                          n);
    if (len == 4 && !strncmp (spec, "kary", len)) {
        if (parse_k (arg, &k) < 0)
            goto bad_k;
        fill_kary (parents, n, k);
    }
    else if (len == 7 && !strncmp (spec, "mincrit", len)) {
        if (*arg == '\0')
            k = mincrit_choose (n);
        else if (parse_k (arg, &k) < 0)
            goto bad_k;
        fill_mincrit (parents, n, k);
    }
    else if (len == 8 && !strncmp (spec, "binomial", len)) {
        if (*arg != '\0')
            goto no_argument;
        fill_binomial (parents, n);
    }
    else if (len == 6 && !strncmp (spec, "custom", len)) {
        if (*arg != '\0')
            goto no_argument;
        fill_flat (parents, n);
    }
    else
        return fault_set (f,
                          EINVAL,
                          -1,
                          "topology '%s': Flux has no such scheme,"
                          " use kary:K, binomial, mincrit, mincrit:K or custom",
                          spec);
    return 0;
bad_k:
    return fault_set (f,
                      EINVAL,
                      -1,
                      "topology '%s': K must be a whole number in decimal, as in '%.*s:2'",
                      spec,
                      (int)len,
                      spec);
no_argument:
    return fault_set (f,
                      EINVAL,
                      -1,
                      "topology '%s': this scheme takes no argument, write '%.*s'",
                      spec,
                      (int)len,
                      spec);
}

/* Every parent is there; whether all lead to the root is seen later. */
static int check_links (const char *what,
                        const int32_t *parents,
                        int n,
                        bool absent_ok,
                        struct fault *f)
{
    if (parents[0] != TREE_ROOT)
        return fault_set (f,
                          EINVAL,
                          0,
                          "%s: rank 0 is the root, so its parent must be %d, not %d",
                          what,
                          TREE_ROOT,
                          parents[0]);
    for (int i = 1; i < n; i++) {
        int32_t up = parents[i];

        if (up == TREE_ABSENT && absent_ok)
            continue;
        if (up == TREE_ROOT)
            return fault_set (f,
                              EINVAL,
                              i,
                              "%s: rank %d is a second root, give it a parent",
                              what,
                              i);
        if (up < 0 || up >= n)
            return fault_set (f,
                              EINVAL,
                              i,
                              "%s: rank %d has parent %d, which is not a rank of 0-%d",
                              what,
                              i,
                              up,
                              n - 1);
        if (parents[up] == TREE_ABSENT)
            return fault_set (f,
                              EINVAL,
                              i,
                              "%s: rank %d is cut off: its parent %d takes no part",
                              what,
                              i,
                              up);
    }
    return 0;
}

int tree_verify (const char *what,
                 const int32_t *parents,
                 int n,
                 bool absent_ok,
                 int32_t *depths,
                 struct fault *f)
{
    if (n < 1)
        return fault_set (f, EINVAL, -1, "%s: there must be at least one rank", what);
    if (check_links (what, parents, n, absent_ok, f) < 0)
        return -1;
    for (int i = 0; i < n; i++)
        depths[i] = parents[i] == TREE_ABSENT ? DEPTH_ABSENT : DEPTH_UNKNOWN;
    depths[0] = 0;
    for (int i = 1; i < n; i++) {
        int32_t r = i;
        int32_t depth = 0;

        while (depths[r] == DEPTH_UNKNOWN) {
            depths[r] = DEPTH_BUSY;
            r = parents[r];
            depth++;
        }
        if (depths[r] == DEPTH_BUSY)
            return fault_set (f,
                              EINVAL,
                              r,
                              "%s: rank %d is cut off from rank 0 by a cycle"
                              " (%d under %d), give it another parent",
                              what,
                              r,
                              r,
                              parents[r]);
        depth += depths[r];
        for (r = i; depths[r] == DEPTH_BUSY; r = parents[r])
            depths[r] = depth--;
    }
    return 0;
}

int tree_check (const int32_t *parents, int n, int32_t *depths, struct fault *f)
{
    return tree_verify ("topology", parents, n, false, depths, f);
}

int tree_preorder (const int32_t *parents, int n, int32_t *order)
{
    int32_t *child;   /* the first child of each rank, or 0 */
    int32_t *sibling; /* the next child of the same parent, or 0 */
    int32_t r = 0;
    int count = 0;

    if (!(child = calloc ((size_t)n * 2, sizeof (*child)))) {
        errno = ENOMEM;
        return -1;
    }
    sibling = child + n;
    for (int i = n - 1; i > 0; i--) {
        if (parents[i] >= 0) {
            sibling[i] = child[parents[i]];
            child[parents[i]] = i;
        }
    }
    for (;;) {
        order[count++] = r;
        if (child[r] > 0)
            r = child[r];
        else {
            while (r > 0 && sibling[r] == 0)
                r = parents[r];
            if (r == 0)
                break;
            r = sibling[r];
        }
    }
    free (child);
    return count;
}

void tree_sizes (const int32_t *parents,
                 int n,
                 const int32_t *order,
                 int count,
                 int32_t *sizes)
{
    memset (sizes, 0, (size_t)n * sizeof (*sizes));
    for (int i = count - 1; i >= 0; i--) {
        int32_t r = order[i];

        sizes[r]++;
        if (r > 0)
            sizes[parents[r]] += sizes[r];
    }
}
