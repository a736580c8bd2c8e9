/* scout.c - leave a parent that is slow for an ancestor that is faster
 *
 * A parent says how many chunks it has, and which ancestor is far ahead of the
 * rank below it: there, or at the rank below, something is slow. Which of the
 * two, and whether that ancestor could serve one more, only a trial shows: some
 * chunks are asked of it while the parent goes on. If they come at least twice
 * as fast, the parent is left; if more does not come of it in the end, the move
 * is taken back. In a tree that is as fast as its network allows they do not,
 * and the trial has cost next to nothing: the chunks were lacking anyway.
 *
 * Whoever is next to the slow place looks first. Those below wait four times as
 * long with each rank between, as by then there should be nothing left to mend.
 */
#include "clock.h"
#include "loop.h"

#define LOOK_NS 500000000LL   /* far behind for so long: try */
#define PATIENCE_MAX_NS (LOOK_NS << 12)
#define WORTH_S 2.            /* less time than that left: do not */
#define CONNECT_NS 2000000000LL
#define FASTER 2.
/* A trial fetches what the parent gives in so many seconds, or at least so much.
 * Its first half does not count: until then the connection gets up to speed, and
 * what was idle on the way may let a burst pass.
 */
#define TRIAL_S 0.25
#define TRIAL_PART 0.01       /* of what is lacking, at most */
#define TRIAL_BYTES (256 << 10)
/* After a move others may have moved too: was it worth it? */
#define REGRET_NS 1500000000LL
#define REGRET 1.2

static struct table *payload (struct up *u)
{
    return u->loop->node->tables[SPACE_PAYLOAD];
}

static void measure (struct up *u, int64_t now)
{
    double seconds = (now - u->measured_ns) / 1e9;
    double rate;

    if (u->measured_ns != 0 && seconds <= 0)
        return;
    rate = (u->bytes - u->measured_bytes) / seconds;
    if (u->measured_ns != 0)
        u->rate = u->rate == 0 ? rate : u->rate + RATE_WEIGHT * (rate - u->rate);
    u->measured_ns = now;
    u->measured_bytes = u->bytes;
}

/* Does the parent have much that is lacking here? */
static bool is_behind (struct up *u)
{
    struct node *node = u->loop->node;
    uint64_t have = table_held (payload (u), u->tree);

    return u->parent_have > have + up_window (node);
}

/* Everybody is behind the root, which has all from the beginning. That somebody
 * is slow shows only beside another of its children; if it has no other, it may
 * be, and only those next to it find out.
 */
static bool is_slow_at_root (struct up *u, uint64_t *hops)
{
    if (u->parent_rate == 0)
        *hops |= WIRE_UNSURE;
    return u->parent_rate == 0 || u->parent_rate > FASTER * u->rate;
}

/* What our children hear of who is far ahead, and how far away that is. */
static void pass_on (struct up *u)
{
    uint64_t ahead = WIRE_NOBODY;
    uint64_t hops = 1;

    if (is_behind (u)) {
        if (up_rank (u) != 0 || is_slow_at_root (u, &hops))
            ahead = up_rank (u);
    }
    else if (u->ahead != WIRE_NOBODY && !(u->hops & WIRE_UNSURE)) {
        ahead = u->ahead;
        hops += u->hops;
    }
    atomic_store (&u->loop->node->ahead[u->tree], hops << 32 | ahead);
}

/* The ancestor that may be faster, or -1. */
static int find_ahead (struct up *u, int *hops)
{
    struct path *path = &u->loop->node->paths[u->tree];

    if (is_behind (u)) {
        *hops = 1;
        return u->via + 1 < path->count ? u->via + 1 : -1;
    }
    *hops = u->hops & ~WIRE_UNSURE;
    if (*hops > 16)
        *hops = 16;
    for (int i = u->via + 1; i < path->count; i++) {
        if ((uint32_t)path->ancestors[i].rank == u->ahead)
            return i;
    }
    return -1;
}

static uint64_t count_lacking (struct up *u)
{
    struct table *t = payload (u);

    return table_chunks (t, u->tree) - table_held (t, u->tree);
}

static bool is_worth_it (struct up *u)
{
    struct table *t = payload (u);
    uint64_t lacking = count_lacking (u);

    return lacking > (uint64_t)up_window (u->loop->node)
           && (double)lacking * t->chunk_size > WORTH_S * u->rate;
}

static int64_t patience (struct up *u, int hops)
{
    int64_t ns = LOOK_NS;

    while (--hops > 0 && ns < PATIENCE_MAX_NS)
        ns *= 4;
    return ns > u->patience_ns ? ns : u->patience_ns;
}

static void begin_trial (struct up *u, int via, int64_t now)
{
    struct table *t = payload (u);
    double most = TRIAL_PART * count_lacking (u) * t->chunk_size;
    double bytes = TRIAL_S * u->rate < most ? TRIAL_S * u->rate : most;
    struct up *s;

    if (!(s = up_create (u->loop, u->tree)))
        return; /* it is only a trial */
    s->is_scout = true;
    s->via = via;
    s->created_ns = now;
    s->trial_left = (bytes < TRIAL_BYTES ? TRIAL_BYTES : bytes) / t->chunk_size;
    if (s->trial_left < 2)
        s->trial_left = 2;
    if (s->trial_left > (uint64_t)up_window (u->loop->node))
        s->trial_left = up_window (u->loop->node);
    s->trial_half = s->trial_left / 2 * t->chunk_size;
    u->scout = s;
    up_pump (s);
}

static void lose_patience_later (struct up *u, int64_t now)
{
    u->behind_ns = now;
    u->patience_ns = u->patience_ns < LOOK_NS ? 4 * LOOK_NS
                     : u->patience_ns < PATIENCE_MAX_NS
                         ? 4 * u->patience_ns
                         : u->patience_ns;
}

static void end_trial (struct up *u, int64_t now)
{
    up_destroy (u->scout);
    u->scout = NULL;
    lose_patience_later (u, now);
    u->loop->again = true; /* what it had asked for is lacking again */
}

/* Go on with the scout in the parent's place. */
static void move (struct up **up, int64_t now)
{
    struct up *u = *up;
    struct up *s = u->scout;

    u->scout = NULL;
    s->is_scout = false;
    s->next = u->next;
    s->patience_ns = u->patience_ns;
    lose_patience_later (s, now);
    s->moved_ns = now;
    s->moved_via = u->via;
    s->moved_rate = u->rate;
    *up = s;
    up_destroy (u);
    record_add (s->loop->node->config.record, moves, 1);
    up_report_parent (s);
    s->loop->again = true;
}

/* How fast the second half of a trial came, bytes per second. */
static double trial_rate (const struct up *s)
{
    double seconds = (s->trial_end_ns - s->trial_half_ns) / 1e9;

    return seconds > 0 ? (s->bytes - s->trial_half) / seconds : 0;
}

static void regret (struct up *u, int64_t now)
{
    if (u->moved_ns == 0 || now - u->moved_ns < REGRET_NS)
        return;
    u->moved_ns = 0;
    if (u->rate < REGRET * u->moved_rate) {
        up_go (u, u->moved_via);
        lose_patience_later (u, now);
    }
}

static void judge (struct up **up, int64_t now)
{
    struct up *u = *up;
    struct up *s = u->scout;
    bool ended = s->trial_end_ns != 0;

    if (s->trial_failed)
        end_trial (u, now);
    else if (s->trial_ns == 0) {
        if (now - s->created_ns > CONNECT_NS)
            end_trial (u, now);
    }
    else if (ended && trial_rate (s) >= FASTER * u->rate)
        move (up, now);
    else if (ended || now - s->trial_ns > CONNECT_NS)
        end_trial (u, now);
}

void up_scout (struct up **up, int64_t now)
{
    struct up *u = *up;
    int hops;
    int via;

    if (u->state != UP_RUNNING || !atomic_load (&u->loop->node->ready)
        || up_is_done (u)) {
        if (u->scout)
            end_trial (u, now);
        u->behind_ns = 0;
        atomic_store (&u->loop->node->ahead[u->tree], WIRE_NOBODY);
        return;
    }
    measure (u, now);
    pass_on (u);
    regret (u, now);
    if (u->scout) {
        judge (up, now);
        return;
    }
    if ((via = find_ahead (u, &hops)) < 0 || !is_worth_it (u))
        u->behind_ns = 0;
    else if (u->behind_ns == 0)
        u->behind_ns = now;
    else if (now - u->behind_ns >= patience (u, hops))
        begin_trial (u, via, now);
}
