/* shape_double.c - two trees, where a rank has children in one at most: two-tree
 * and split-binary
 */
#include "shape_impl.h"

/* ---- two-tree (Sanders, Speck and Traeff 2009) ---- */

/* The in-order binary tree over 1..last: odd numbers are leaves. */
static int inorder_parent (int i, int last)
{
    int bit = i & -i;
    int64_t up = (i ^ bit) | ((int64_t)bit << 1);

    return up > last ? i ^ bit : (int)up;
}

/* Tree 1 is tree 0 mirrored or, where that would leave the odd positions odd,
 * shifted by one, so that inner positions become leaves.
 */
static int second_position (int i, int last)
{
    if (i == 0)
        return 0;
    if (last % 2 == 0)
        return last + 1 - i;
    return i % last + 1;
}

int lay_two_tree (struct shape_request *rq)
{
    int last = rq->m - 1;

    if (lay_begin (rq, 2) < 0)
        return -1;
    for (int i = 1; i <= last; i++) {
        int up = inorder_parent (i, last);

        lay_put (rq, 0, i, up);
        lay_put (rq, 1, second_position (i, last), second_position (up, last));
    }
    return 0;
}

/* ---- split-binary ---- */

int lay_split_binary (struct shape_request *rq)
{
    int last = rq->m - 1;
    int size[2] = { (last + 1) / 2, last / 2 };
    int first[2] = { 1, 1 + size[0] };

    if (lay_begin (rq, 2) < 0)
        return -1;
    for (int s = 0; s < 2; s++) {
        int other = !s;

        for (int i = 0; i < size[s]; i++)
            lay_put (rq, s, first[s] + i, i == 0 ? 0 : first[s] + (i - 1) / 2);
        for (int i = 0; i < size[other]; i++) {
            if (size[s] == 0)
                lay_put (rq, s, first[other] + i, 0);
            else
                lay_put (rq, s, first[other] + i, first[s] + smaller (i, size[s] - 1));
        }
    }
    return 0;
}
