/* client_steps.c - a shell's own part, from its start to the final name
 *
 * To seal and to publish may take long (fsync=, a tree that is replaced), so the
 * reactor goes on meanwhile: others hear that this shell lives.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "client_impl.h"
#include "clock.h"
#include "source.h"

static int seal (void *arg, struct fault *f)
{
    struct client *c = arg;

    return c->node ? node_seal (c->node, f) : c->fetch ? fetch_seal (c->fetch, f) : 0;
}

static int publish (void *arg, struct fault *f)
{
    struct client *c = arg;
    struct source *source = c->b->server ? server_source (c->b->server) : NULL;

    if (source && source_is_fetched (source) && c->record.deliver) {
        if (source_publish (source, f) < 0)
            return -1;
        record_set (&c->record.renamed, (clock_ns () - c->epoch_ns) / 1e9);
    }
    if (c->node)
        return node_publish (c->node, f);
    return c->fetch ? fetch_publish (c->fetch, f) : 0;
}

static void go_on (struct client *c);

static void end_errand (struct client *c, int rc, const struct fault *f)
{
    errand_destroy (c->errand);
    c->errand = NULL;
    if (rc < 0)
        client_report_failure (c, f);
    go_on (c);
}

static void sealed (int rc, const struct fault *f, void *arg)
{
    struct client *c = arg;

    if (rc == 0 && !c->received) {
        c->received = true;
        shell_debug ("received %.1f MB in %.3f s",
                     c->record.bytes_in / 1e6,
                     c->record.last_byte);
        client_report (c, "sealed");
    }
    end_errand (c, rc, f);
}

static void published (int rc, const struct fault *f, void *arg)
{
    struct client *c = arg;

    if (rc == 0)
        client_report (c, "published");
    end_errand (c, rc, f);
}

/* One errand at a time. */
static void go_on (struct client *c)
{
    struct fault f;

    if (c->errand || c->reported)
        return;
    if (c->must_seal) {
        c->must_seal = false;
        c->errand = errand_start (c->b->r, seal, sealed, c);
    }
    else if (c->must_publish) {
        c->must_publish = false;
        c->errand = errand_start (c->b->r, publish, published, c);
    }
    else
        return;
    if (!c->errand) {
        fault_set (&f, errno, c->b->rank, "cannot start a thread: %s", strerror (errno));
        client_report_failure (c, &f);
    }
}

void client_seal (struct client *c)
{
    c->must_seal = true;
    go_on (c);
}

void client_publish (struct client *c)
{
    c->must_publish = true;
    go_on (c);
}

/* It has received everything, or it has failed, be it while it serves. */
static void node_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct client *c = arg;
    eventfd_t value;

    (void)r;
    (void)w;
    (void)revents;
    if (eventfd_read (node_fd (c->node), &value) == 0)
        client_seal (c);
}

int client_start (struct client *c, struct fault *f)
{
    if (c->fetch)
        return fetch_start (c->fetch, f);
    if (!c->node)
        return 0;
    if (!(c->node_w = flux_fd_watcher_create (c->b->r,
                                              node_fd (c->node),
                                              FLUX_POLLIN,
                                              node_cb,
                                              c)))
        return fault_set (f, errno, c->b->rank, "%s", strerror (errno));
    flux_watcher_start (c->node_w);
    return node_start (c->node, f);
}
