/* test_choose.c - the strategy that is chosen, and the racks of hosts */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "choose.h"
#include "estimate.h"
#include "groups.h"
#include "shape.h"

static const struct network plain = {
    .bandwidth = 1.25e8,
    .latency = 50e-6,
    .per_connection = 1e-3,
    .per_chunk = 20e-6,
    .encryption = 2e9,
};

/* What the plan of a strategy would take, with the best of all chunk sizes. */
static double best_of (const char *spec, const struct network *net, int n, double bytes)
{
    double *times = malloc (sizeof (*times) * n);
    double best = INFINITY;
    struct plan *p = NULL;
    struct fault f;

    must (times && shape_plan (spec, NULL, n, NULL, &p, &f) == 0);
    for (uint32_t chunk = PLAN_CHUNK_MIN; chunk <= PLAN_CHUNK_MAX; chunk *= 2) {
        double slowest = 0;

        must (estimate_direct (p, net, bytes, chunk, times, &f) == 0);
        for (int r = 1; r < n; r++)
            slowest = times[r] > slowest ? times[r] : slowest;
        best = slowest < best ? slowest : best;
    }
    plan_destroy (p);
    free (times);
    return best;
}

/* Nothing that it might have taken is better by more than a tie, and what the
 * steps between chunk sizes leave.
 */
static void test_nothing_is_better (const char *dir)
{
    static const char *specs[] = { "flat",     "chain", "kary:2",       "binomial",
                                   "two-tree", "edst",  "multi-tree:4", "multi-tree:8" };
    static const int sizes[] = { 2, 3, 5, 16, 33, 64, 200 };
    static const double bytes[] = { 1, 1e5, 3e7, 1e10 };

    (void)dir;
    for (size_t i = 0; i < sizeof (sizes) / sizeof (sizes[0]); i++) {
        for (size_t j = 0; j < sizeof (bytes) / sizeof (bytes[0]); j++) {
            struct choice c;
            struct fault f;

            must (choose_plan (&plain, sizes[i], NULL, bytes[j], 0, &c, &f) == 0);
            ok (plan_check (c.plan, &f) == 0);
            ok (c.limit == bytes[j] / plain.bandwidth && c.seconds >= c.limit);
            ok (strstr (c.why, "predicted at 1 Gbit/s") && strlen (c.why) < sizeof (c.why) - 1);
            /* of many ranks, flat is none that is tried */
            for (size_t k = sizes[i] > 64; k < sizeof (specs) / sizeof (specs[0]); k++)
                ok (c.seconds <= 1.05 * best_of (specs[k], &plain, sizes[i], bytes[j]));
            choice_finish (&c);
        }
    }
}

static void test_racks (const char *dir)
{
    int32_t groups[12];
    struct network net = plain;
    struct choice c;
    struct fault f;

    (void)dir;
    for (int i = 0; i < 12; i++)
        groups[i] = i % 3;
    net.uplink = plain.bandwidth / 10;
    net.groups = groups;
    must (choose_plan (&net, 12, NULL, 1e9, 0, &c, &f) == 0);
    ok (!strcmp (c.spec, "rack") && c.plan->stripes == 2);
    choice_finish (&c);
    groups[5] = 12;
    ok (choose_plan (&net, 12, NULL, 1e9, 0, &c, &f) == -1);
    ok_fault (&f, EINVAL, "rank 5 is in group 12");
}

static void test_bounds (const char *dir)
{
    struct choice c;
    struct fault f;
    uint8_t nobody[3] = { 0 };

    (void)dir;
    ok (choose_plan (&plain, 0, NULL, 1, 0, &c, &f) == -1);
    ok_fault (&f, EINVAL, "size 0");
    must (choose_plan (&plain, 1, NULL, 0, 0, &c, &f) == 0);
    ok (c.seconds == 0 && c.plan->n == 1);
    choice_finish (&c);
    must (choose_plan (&plain, 3, nobody, 1e6, 0, &c, &f) == 0);
    ok (c.plan->parents[1] < -1 && c.plan->parents[2] < -1);
    choice_finish (&c);
    must (choose_plan (&plain, 40, NULL, 1e8, 4096, &c, &f) == 0);
    ok (c.chunk_size == 4096);
    choice_finish (&c);
    ok (choose_check ("auto", &f) == 0 && choose_check ("kary:2", &f) == 0);
    ok (choose_check ("auto:2", &f) == -1);
    ok_fault (&f, EINVAL, "takes no argument, write 'auto'");
    ok (choose_check ("otto", &f) == -1 && errno == ENOENT);
    ok_fault (&f, ENOENT, "middle-leaves, auto");
}

static void test_pattern (const char *dir)
{
    const char *hosts[] = { "r7n0", "r2n1", "r7n2", "x-r2" };
    int32_t groups[4];
    struct fault f;

    (void)dir;
    must (groups_by_pattern (hosts, 4, "r([0-9])", groups, &f) == 0);
    ok (groups[0] == 0 && groups[1] == 1 && groups[2] == 0 && groups[3] == 1);
    must (groups_find ("r[0-9]", hosts, 4, groups, &f) == 0);
    ok (groups[0] == 0 && groups[1] == 1 && groups[2] == 0 && groups[3] == 1);
    ok (groups_by_pattern (hosts, 4, "^r([0-9])", groups, &f) == -1);
    ok_fault (&f, EINVAL, "host x-r2");
    ok (groups_by_pattern (hosts, 4, "q*", groups, &f) == -1);
    ok_fault (&f, EINVAL, "host r7n0");
    ok (groups_by_pattern (hosts, 4, "(q)?r", groups, &f) == -1);
    ok_fault (&f, EINVAL, "host r7n0");
    ok (groups_by_pattern (hosts, 4, "r(", groups, &f) == -1);
    ok_fault (&f, EINVAL, "racks 'r('");
    ok (groups_by_pattern (hosts, 0, "r", groups, &f) == 0);
}

static const char *file_of (const char *dir, const char *text)
{
    const char *name = path ("%s/racks", dir);
    FILE *file = fopen (name, "we");

    must (file && fputs (text, file) >= 0 && fclose (file) == 0);
    return name;
}

static void test_file (const char *dir)
{
    static const struct {
        const char *text;
        const char *fault;
    } bad[] = {
        { "a1,b-03x r0\na2 r0\n", "host a10 is not listed" },
        { "a[1-10] r0\n\na10 r1\n", "host a10 is in rack r" },
        { "a1\n", "line 1: give" },
        { "# x\na1 r0 r1\n", "line 2: give" },
        { "a[1-2 r0\n", "line 1: give" },
        { "a1] r0\n", "line 1: give" },
        { "a[2-1] r0\n", "line 1: give" },
        { "a[] r0\n", "line 1: give" },
        { "a[1-] r0\n", "line 1: give" },
        { "a[1,,2] r0\n", "line 1: give" },
        { "a1,,a2 r0\n", "line 1: give" },
        { "a[1-99999999999999999999] r0\n", "line 1: give" },
        { "a[1-9999999] r0\n", "more than 1000000 hosts" },
        { "a[0-9][0-999][0-999] r0\n", "more than 1000000 hosts" },
    };
    const char *hosts[] = { "a1", "b-03x", "a10", "a2" };
    int32_t groups[4];
    char longest[4000];
    struct fault f;

    must (groups_by_file (hosts,
                          4,
                          file_of (dir,
                                   "# racks\n\n  a[1-2,10] \t left # two of them\r\n"
                                   "a5,b-[00-04]x,c[0-1][0-1] right"),
                          groups,
                          &f) == 0);
    ok (groups[0] == 0 && groups[1] == 1 && groups[2] == 0 && groups[3] == 0);
    ok (groups_find (path ("%s/racks", dir), hosts, 4, groups, &f) == 0);
    for (size_t i = 0; i < sizeof (bad) / sizeof (bad[0]); i++) {
        ok (groups_by_file (hosts, 4, file_of (dir, bad[i].text), groups, &f) == -1);
        ok_fault (&f, EINVAL, bad[i].fault);
    }
    /* more than a name can hold */
    for (size_t i = 0; i + 6 < sizeof (longest); i += 3)
        strcpy (longest + i, "[1]");
    strcat (longest, " r");
    ok (groups_by_file (hosts, 4, file_of (dir, longest), groups, &f) == -1);
    ok_fault (&f, EINVAL, "line 1: give");
    ok (groups_by_file (hosts, 4, file_of (dir, ""), groups, &f) == -1);
    ok_fault (&f, EINVAL, "host a1 is not listed");
    ok (groups_find (path ("%s/none", dir), hosts, 4, groups, &f) == -1);
    ok_fault (&f, ENOENT, "cannot be read");
    ok (groups_by_file (hosts, 4, dir, groups, &f) == -1);
    ok_fault (&f, EISDIR, "cannot be read");
}

static void test_numbers (const char *dir)
{
    const char *names[] = { "z", "a", "z", "m", "a", "" };
    int32_t groups[6];
    struct fault f;

    (void)dir;
    must (groups_number (names, 6, groups, &f) == 0);
    ok (groups[0] == 0 && groups[1] == 1 && groups[2] == 0 && groups[3] == 2 && groups[4] == 1
        && groups[5] == 3);
}

int main (void)
{
    run (test_nothing_is_better);
    run (test_racks);
    run (test_bounds);
    run (test_pattern);
    run (test_file);
    run (test_numbers);
    return check_end ();
}
