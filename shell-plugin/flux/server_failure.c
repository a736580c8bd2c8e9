/* server_failure.c - what becomes of a broadcast when a rank fails
 *
 * With on-failure=abort it fails for all. With continue, the rank is dropped:
 * no gate waits for it any more, and its tasks start with the others'. Without
 * the first shell, which has the source, there is no broadcast.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record_json.h"
#include "server_impl.h"

/* How long others are given to say what went wrong for them, seconds. */
#define SETTLE 0.2

/* The failure that explains the others: of a disk rather than of a connection,
 * of the lowest rank.
 */
static bool explains (const struct fault *f, const struct fault *than)
{
    if ((f->kind == FAULT_OTHER) != (than->kind == FAULT_OTHER))
        return f->kind != FAULT_OTHER;
    return f->rank < than->rank;
}

void server_fail (struct server *s, const struct fault *f)
{
    if (s->stage == FAILED) {
        if (!s->lost && explains (f, &s->fault))
            s->fault = *f;
        return;
    }
    if (s->stage == DONE)
        return;
    s->stage = FAILED;
    s->fault = *f;
    flux_watcher_stop (s->limit_w);
    flux_reactor_now_update (s->b->r);
    flux_timer_watcher_reset (s->settle_w, SETTLE, 0.);
    flux_watcher_start (s->settle_w);
}

static void settle_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct server *s = arg;

    (void)r;
    (void)w;
    (void)revents;
    s->aborted = true;
    server_tell_all (s, "abort");
}

bool server_has_enough (struct server *s, const struct fault *f)
{
    int need = s->b->options->min_ranks > 0 ? s->b->options->min_ranks : 1;
    int left = 0;
    struct fault more;

    if (!s->plan)
        return true; /* seen to when there is one */
    for (int i = 0; i < s->b->size; i++)
        left += s->plan->deliver[i] && s->peers[i].state != BROKEN;
    if (left >= need)
        return true;
    fault_set (&more,
               f->errnum,
               f->rank,
               "%.380s; %d ranks are left to get the data, and min-ranks is %d",
               f->text,
               left,
               need);
    more.kind = f->kind;
    server_fail (s, &more);
    return false;
}

static void drop (struct server *s, const struct fault *f)
{
    struct peer *p = &s->peers[f->rank];
    json_t *text = record_text (f->text);

    shell_warn ("rank %d (%s) is given up: %s",
                f->rank,
                server_host (s, f->rank),
                json_string_value (text));
    json_decref (text);
    server_tell_event (s, f->rank, "drop");
    if (!p->hello)
        s->missing--;
    /* once ranks rename, those that can do so keep what they have */
    if (s->publishing || server_has_enough (s, f)) {
        server_try_setup (s);
        server_advance (s);
    }
}

static void set_fault (struct peer *p, const struct fault *f)
{
    if (!(p->fault = malloc (sizeof (*f))))
        shell_die (1, "out of memory");
    *p->fault = *f;
}

void server_fail_rank (struct server *s, const struct fault *f)
{
    struct peer *p = &s->peers[f->rank];

    if (s->stage == DONE || p->state == BROKEN)
        return;
    p->state = BROKEN;
    set_fault (p, f);
    if (s->b->options->go_on && f->rank > 0 && s->stage != FAILED)
        drop (s, f);
    else
        server_fail (s, f);
}

void server_lost (struct server *s, int rank)
{
    struct fault f = { 0 };
    struct peer *p;

    if (rank < 0 || rank >= s->b->size || s->ended)
        return;
    p = &s->peers[rank];
    p->gone = true;
    fault_set (&f, ECONNRESET, rank, "its shell has died");
    server_fail_rank (s, &f);
    if (!p->fault)
        set_fault (p, &f);
    if (s->stage == FAILED) {
        /* whatever else fails, fails because of that */
        if (!s->lost && !s->b->options->go_on)
            s->fault = f;
        s->lost = true;
    }
}

/* Shells that have not come: they have no plugin, or hang. */
static void limit_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct server *s = arg;
    bool go_on = s->b->options->go_on;
    struct fault f = { 0 };
    char names[300] = "";
    int first = -1;

    (void)r;
    (void)w;
    (void)revents;
    for (int i = 0; i < s->b->size && s->stage == WIRING; i++) {
        size_t used = strlen (names);

        if (s->peers[i].state != ABSENT)
            continue;
        fault_set (&f,
                   ETIMEDOUT,
                   i,
                   "has not come within %g s: is flux-tree installed there? 'flux-tree doctor' says",
                   s->b->options->timeout);
        if (go_on)
            server_fail_rank (s, &f);
        else if (first < 0)
            first = i;
        else if (used < sizeof (names) - 80)
            snprintf (names + used,
                      sizeof (names) - used,
                      "%s%d (%.60s)",
                      used ? ", " : "; nor have ",
                      i,
                      bcast_host (s->b, i));
    }
    if (first >= 0) {
        f.rank = first;
        strncat (f.text, names, sizeof (f.text) - strlen (f.text) - 1);
        server_fail (s, &f);
    }
}

/* Both sides hear of each other at every tick, as long as they live. Ticks are
 * counted, not seconds: who was stopped itself must not think that of others.
 */
static void tick_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct server *s = arg;

    (void)r;
    (void)w;
    (void)revents;
    for (int i = 0; i < s->b->size; i++) {
        struct peer *p = &s->peers[i];

        server_tell_event (s, i, "alive");
        if (s->stage == RUNNING && server_is_active (s, i) && p->state != PUBLISHED
            && ++p->silent > bcast_silent_max (s->b)) {
            struct fault f = { 0 };

            p->gone = true;
            fault_set (&f,
                       ETIMEDOUT,
                       i,
                       "hung: nothing was heard of it for %g s",
                       s->b->options->timeout);
            server_fail_rank (s, &f);
        }
    }
}

int server_watch (struct server *s)
{
    flux_reactor_t *r = s->b->r;
    double tick = bcast_tick (s->b);

    if (!(s->limit_w = flux_timer_watcher_create (r, s->b->options->timeout, 0., limit_cb, s))
        || !(s->settle_w = flux_timer_watcher_create (r, SETTLE, 0., settle_cb, s))
        || !(s->tick_w = flux_timer_watcher_create (r, tick, tick, tick_cb, s)))
        return -1;
    return 0;
}
