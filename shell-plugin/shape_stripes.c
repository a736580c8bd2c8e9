/* shape_stripes.c - strategies of as many trees as are asked for: multi-tree and
 * scatter-allgather
 */
#include "shape_impl.h"

#include <stdlib.h>

/* More stripes are more connections per rank, so the defaults stop here. */
#define DEFAULT_MAX_STRIPES 8

/* ---- multi-tree (SplitStream) ---- */

/* The most stripes, up to a bound, with which no rank sends more than it gets. */
static int multi_tree_stripes (int last)
{
    int stripes = smaller (DEFAULT_MAX_STRIPES, last);

    while (stripes > 1 && last % stripes > 1)
        stripes--;
    return stripes;
}

/* In tree s the positions of group s are inner: they come first in 'line', and
 * each takes as children an even share of what follows it there.
 */
static void lay_forest_tree (struct shape_request *rq, int s, int32_t *line)
{
    int stripes = rq->plan->stripes;
    int last = rq->m - 1;
    int inner = (last - s + stripes - 1) / stripes;
    int next = 0;

    for (int g = 0; g < stripes; g++) {
        for (int i = 1 + (s + g) % stripes; i <= last; i += stripes)
            line[next++] = i;
    }
    lay_put (rq, s, line[0], 0);
    next = 1;
    for (int j = 0; j < inner; j++) {
        int share = (last - 1) / inner + (j < (last - 1) % inner);

        while (share-- > 0)
            lay_put (rq, s, line[next++], line[j]);
    }
}

int lay_multi_tree (struct shape_request *rq)
{
    int last = rq->m - 1;
    int stripes = rq->argument ? rq->argument : multi_tree_stripes (last);
    int32_t *line;

    stripes = smaller (stripes, last);
    if (lay_begin (rq, stripes < 1 ? 1 : stripes) < 0)
        return -1;
    if (!(line = malloc (sizeof (*line) * rq->m)))
        return lay_no_memory (rq);
    for (int s = 0; s < stripes; s++)
        lay_forest_tree (rq, s, line);
    free (line);
    return 0;
}

/* ---- scatter-allgather ---- */

int lay_ring (struct shape_request *rq)
{
    int last = rq->m - 1;
    int stripes = smaller (rq->argument ? rq->argument : DEFAULT_MAX_STRIPES, last);

    if (lay_begin (rq, stripes < 1 ? 1 : stripes) < 0)
        return -1;
    for (int s = 0; s < stripes; s++) {
        int start = (int)((int64_t)s * last / stripes);

        for (int i = 0; i < last; i++)
            lay_put (rq, s, 1 + i, i == start ? 0 : 1 + (i + last - 1) % last);
    }
    return 0;
}
