/* client.c - one shell's own part in the broadcast: what it hears from the first
 * shell, and what it tells
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "address.h"
#include "client_impl.h"
#include "clock.h"
#include "record_json.h"

static double processor_time (void)
{
    struct rusage ru;

    getrusage (RUSAGE_SELF, &ru);
    return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

void client_report (struct client *c, const char *state)
{
    struct record r = c->record;
    json_t *record;
    json_t *o;

    /* of the whole process, and most of a shell's life has been before */
    if (r.cpu > c->cpu)
        r.cpu -= c->cpu;
    record = record_to_json (&r, c->stripes);
    o = json_pack ("{s:i s:s s:o}", "rank", c->b->rank, "state", state, "record", record);
    flux_future_destroy (bcast_rpc (c->b, "tree-bcast.report", o, FLUX_RPC_NORESPONSE));
    json_decref (o);
}

void client_report_failure (struct client *c, const struct fault *f)
{
    struct record *r = &c->record;

    if (c->reported)
        return;
    c->reported = true;
    r->state = RECORD_FAILED;
    r->kind = f->kind;
    r->errnum = f->errnum;
    snprintf (r->text, sizeof (r->text), "%s", f->text);
    shell_debug ("failed: %s", f->text);
    client_report (c, "failed");
}

/* This shell cannot even tell the first one. */
static void give_up (struct client *c, const char *text)
{
    fault_set (&c->b->fault, EPROTO, c->b->rank, "%s", text);
    c->aborted = true;
    flux_reactor_stop (c->b->r);
}

/* It neither gets nor serves anything any more, and leaves nothing behind. */
static void stop_part (struct client *c)
{
    errand_destroy (c->errand);
    c->errand = NULL;
    flux_watcher_destroy (c->node_w);
    c->node_w = NULL;
    node_destroy (c->node);
    c->node = NULL;
    fetch_destroy (c->fetch);
    c->fetch = NULL;
    if (c->listen_fd >= 0)
        close (c->listen_fd);
    c->listen_fd = -1;
}

static void obey (struct client *c, const char *event, json_t *o)
{
    struct fault f = { .rank = c->b->rank };
    int rc = 0;

    shell_trace ("%s", event);
    c->silent = 0;
    c->welcome = true;
    if (!strcmp (event, "welcome"))
        shell_debug ("the first shell answered after %.3f s", (clock_ns () - c->hello_ns) / 1e9);
    else if (!strcmp (event, "setup")) {
        rc = client_setup (c, o, &f);
        bcast_forget (json_object_get (o, "key"));
    }
    else if (!strcmp (event, "start"))
        rc = client_start (c, &f);
    else if (!strcmp (event, "publish"))
        client_publish (c);
    else if (!strcmp (event, "finish")) {
        c->finished = true;
        flux_reactor_stop (c->b->r);
    }
    else if (!strcmp (event, "drop")) {
        c->dropped = true;
        stop_part (c);
    }
    else if (!strcmp (event, "abort")) {
        c->aborted = true;
        flux_reactor_stop (c->b->r);
    }
    if (rc < 0)
        client_report_failure (c, &f);
}

static void hello_cb (flux_future_t *future, void *arg)
{
    struct client *c = arg;
    const char *event;
    json_t *o;
    char text[300];

    if (flux_rpc_get_unpack (future, "o", &o) < 0 || json_unpack (o, "{s:s}", "event", &event) < 0) {
        snprintf (text,
                  sizeof (text),
                  "the first shell, on %s, does not take part: %s",
                  bcast_host (c->b, 0),
                  future_strerror (future, errno));
        give_up (c, text);
        return;
    }
    obey (c, event, o);
    flux_future_reset (future);
}

/* Whether this shell's part is at work: threads that hang, those of a node or one
 * that waits for a disk to complete or rename files, must not go unnoticed.
 */
static bool is_alive (struct client *c)
{
    double alive = c->alive;
    double cpu = c->errand_cpu;

    if (c->errand) {
        c->errand_cpu = errand_cpu (c->errand);
        return c->errand_cpu < 0 || c->errand_cpu != cpu;
    }
    if (!c->node_w)
        return true;
    __atomic_load (&c->record.alive, &c->alive, __ATOMIC_RELAXED);
    return c->alive == 0 || c->alive != alive;
}

/* Ticks are counted, not seconds: see server_failure.c. */
static void tick_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct client *c = arg;
    char text[300];
    json_t *o;

    (void)r;
    (void)w;
    (void)revents;
    if (++c->silent > bcast_silent_max (c->b)) {
        snprintf (text,
                  sizeof (text),
                  c->welcome ? "rank 0 (%s) hung: nothing was heard of it for %g s"
                             : "rank 0 (%s) has not answered within %g s: is flux-tree installed "
                               "there? 'flux-tree doctor' says",
                  bcast_host (c->b, 0),
                  c->b->options->timeout);
        give_up (c, text);
    }
    else if (c->welcome && !c->dropped && is_alive (c)) {
        o = json_pack ("{s:i}", "rank", c->b->rank);
        flux_future_destroy (bcast_rpc (c->b, "tree-bcast.alive", o, FLUX_RPC_NORESPONSE));
        json_decref (o);
    }
}

static void progress_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct client *c = arg;
    uint64_t bytes = __atomic_load_n (&c->record.bytes_in, __ATOMIC_RELAXED);

    (void)r;
    (void)w;
    (void)revents;
    if (bytes != c->told && !c->received && !c->reported && !c->dropped) {
        c->told = bytes;
        client_report (c, "running");
    }
}

int client_begin (struct client *c, struct fault *f)
{
    struct bcast *b = c->b;
    char address[ADDRESS_SIZE] = "";
    struct fault bad = { 0 };
    double tick = bcast_tick (b);
    char host[256] = "";
    json_t *o;

    if (!b->options->content
        && (c->listen_fd = address_listen (b, b->options->interface, address, &bad)) < 0) {
        /* the first shell has to hear of it, from whoever can tell */
        address[0] = '\0';
    }
    gethostname (host, sizeof (host) - 1);
    shell_debug ("%s listens on %s", host, address[0] ? address : "nothing");
    if (!(o = json_pack ("{s:i s:s s:s s:s}",
                         "rank", b->rank,
                         "address", address,
                         "host", host,
                         "error", bad.text)))
        return fault_set (f, ENOMEM, b->rank, "out of memory");
    c->hello_ns = clock_ns ();
    c->cpu = processor_time ();
    c->hello = bcast_rpc (b, "tree-bcast.hello", o, FLUX_RPC_STREAMING);
    json_decref (o);
    if (!c->hello || flux_future_then (c->hello, -1., hello_cb, c) < 0
        || !(c->tick_w = flux_timer_watcher_create (b->r, tick, tick, tick_cb, c)))
        return fault_set (f, errno, b->rank, "cannot reach the first shell: %s", strerror (errno));
    flux_reactor_now_update (b->r);
    flux_timer_watcher_reset (c->tick_w, tick, tick);
    flux_watcher_start (c->tick_w);
    if (b->options->progress > 0) {
        double period = b->options->progress;

        c->progress_w = flux_timer_watcher_create (b->r, period, period, progress_cb, c);
        flux_watcher_start (c->progress_w);
    }
    return 0;
}

int client_run (struct client *c)
{
    /* others may stop the reactor too */
    while (!c->finished && !c->aborted && !c->b->terminated) {
        if (flux_reactor_run (c->b->r, 0) < 0) {
            fault_set (&c->b->fault, errno, c->b->rank, "the reactor: %s", strerror (errno));
            return -1;
        }
    }
    return c->finished ? 0 : -1;
}

struct client *client_create (struct bcast *b)
{
    struct client *c;

    if (!(c = calloc (1, sizeof (*c))))
        return NULL;
    c->b = b;
    c->listen_fd = -1;
    c->stripes = 1;
    c->record.rank = b->rank;
    c->record.started = c->record.connected = c->record.first_byte = c->record.last_byte =
        c->record.verified = c->record.renamed = -1;
    for (int s = 0; s < PLAN_MAX_STRIPES; s++)
        c->record.parents[s] = -2;
    return c;
}

void client_destroy (struct client *c)
{
    if (c) {
        int saved_errno = errno;

        stop_part (c);
        flux_watcher_destroy (c->tick_w);
        flux_watcher_destroy (c->progress_w);
        flux_future_destroy (c->hello);
        free (c);
        errno = saved_errno;
    }
}
