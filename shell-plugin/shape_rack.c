/* shape_rack.c - two chains, opposite within each group of ranks */
#include "shape_impl.h"

#include <stdlib.h>
#include <string.h>

/* One group, at line[0..size-1]: its first position receives stripe 0, its last
 * one stripe 1, and each stripe runs through the group as a chain.
 */
static void lay_group (struct shape_request *rq, const int32_t *line, int size, const int up[2])
{
    lay_put (rq, 0, line[0], up[0]);
    lay_put (rq, 1, line[size - 1], up[1]);
    for (int i = 1; i < size; i++) {
        lay_put (rq, 0, line[i], line[i - 1]);
        lay_put (rq, 1, line[i - 1], line[i]);
    }
}

/* 'group' is scratch for the group of each position, 'start' for where each
 * group starts in 'line'. Groups are taken in order of their first position,
 * so that of the root comes first.
 */
static void lay_groups (struct shape_request *rq, int32_t *group, int32_t *start, int32_t *line)
{
    int up[2] = { 0, 0 };
    int count = 0;

    for (int g = 0; g < rq->n; g++)
        start[g] = -1;
    for (int i = 0; i < rq->m; i++) {
        int32_t *known = &start[rq->groups[rq->at[i]]];

        if (*known < 0)
            *known = count++;
        group[i] = *known;
    }
    memset (start, 0, sizeof (*start) * (count + 1));
    for (int i = 1; i < rq->m; i++)
        start[group[i] + 1]++;
    for (int g = 0; g < count; g++)
        start[g + 1] += start[g];
    for (int i = 1; i < rq->m; i++)
        line[start[group[i]]++] = i;
    /* now start[g] is where group g ends */
    for (int g = 0; g < count; g++) {
        int begin = g > 0 ? start[g - 1] : 0;
        int size = start[g] - begin;

        if (size == 0)
            continue;
        lay_group (rq, line + begin, size, up);
        up[0] = line[begin];
        up[1] = line[begin + size - 1];
    }
}

int lay_rack (struct shape_request *rq)
{
    int32_t *scratch;
    int32_t *groups = NULL;
    int size = rq->argument;

    if (lay_begin (rq, 2) < 0)
        return -1;
    if (!(scratch = malloc (sizeof (*scratch) * ((size_t)rq->n * 4 + 1))))
        return lay_no_memory (rq);
    if (!rq->groups) {
        groups = scratch + (size_t)rq->n * 3 + 1;
        while (size == 0 || (!rq->argument && (int64_t)size * size < rq->n))
            size++;
        for (int i = 0; i < rq->n; i++)
            groups[i] = i / size;
        rq->groups = groups;
    }
    lay_groups (rq, scratch, scratch + rq->n, scratch + (size_t)rq->n * 2 + 1);
    if (groups)
        rq->groups = NULL;
    free (scratch);
    return 0;
}
