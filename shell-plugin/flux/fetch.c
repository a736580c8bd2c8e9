/* fetch.c - a fetch from its begin to the final name */
#include "fetch_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define KEEP_BYTES (31 << 20) /* glibc looks at no more than 32 MiB */

void fetch_mark (struct fetch *fetch, double *field, bool again)
{
    if (*field < 0 || again)
        record_set (field, (clock_ns () - fetch->config.epoch_ns) / 1e9);
}

static void report_end (struct fetch *fetch)
{
    struct record *r = fetch->config.record;

    r->wait_data = fetch->waited_ns / 1e9;
    if (fetch->store)
        r->wait_disk = store_seconds (fetch->store);
    record_usage (r);
}

void fetch_end (struct fetch *fetch)
{
    fetch->ended = true;
    flux_watcher_stop (fetch->limit);
    for (int i = 0; i < fetch->config.window; i++) {
        flux_future_destroy (fetch->loads[i].f);
        fetch->loads[i].f = NULL;
    }
    fetch->nloads = 0;
    flux_watcher_start (fetch->work); /* to call 'done' */
}

void fetch_fail (struct fetch *fetch, const struct fault *f)
{
    if (!fetch->ended) {
        fetch->failed = true;
        fetch->fault = *f;
        fetch_end (fetch);
    }
}

bool fetch_is_complete (const struct fetch *fetch)
{
    return fetch->left == 0;
}

static void on_work (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct fetch *fetch = arg;

    (void)r;
    (void)revents;
    flux_watcher_stop (w);
    if (fetch->ended) {
        fetch->config.done (fetch, fetch->config.arg);
        return;
    }
    fetch->progress_ns = clock_ns ();
    fetch_go_on (fetch);
}

static void on_limit (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct fetch *fetch = arg;
    double left = fetch->config.timeout
                  - (clock_ns () - fetch->progress_ns) / 1e9;

    (void)r;
    (void)revents;
    if (left > 0) {
        flux_timer_watcher_reset (w, left, 0);
        flux_watcher_start (w);
    }
    else {
        struct fault f;

        fault_set (&f,
                   ETIMEDOUT,
                   fetch->config.rank,
                   "archive %s: nothing came from the content cache for %g s",
                   fetch->config.name,
                   fetch->config.timeout);
        fetch_fail (fetch, &f);
    }
}

/* glibc gives the memory of each blob back to the kernel, and gets it again page
 * by page for the next, which costs more than to write it to a file; but it
 * keeps twice as much as the largest block so far that was ever freed.
 */
static void keep_memory (void)
{
    void *volatile block = malloc (KEEP_BYTES);

    free (block);
}

static int copy_config (struct fetch *fetch, const struct fetch_config *c)
{
    fetch->config = *c;
    fetch->config.archive = NULL;
    fetch->config.name = strdup (c->name);
    fetch->config.destination = NULL;
    fetch->config.tmp = NULL;
    fetch->config.brokers = NULL;
    if (c->window <= 0)
        fetch->config.window = FETCH_WINDOW_DEFAULT;
    if (c->window > FETCH_WINDOW_MAX)
        fetch->config.window = FETCH_WINDOW_MAX;
    fetch->loads = calloc (fetch->config.window, sizeof (*fetch->loads));
    if (!fetch->config.name || !fetch->loads)
        return -1;
    for (int i = 0; i < fetch->config.window; i++)
        fetch->loads[i].fetch = fetch;
    return 0;
}

struct fetch *fetch_create (flux_t *h, const struct fetch_config *c, struct fault *f)
{
    flux_reactor_t *r = flux_get_reactor (h);
    struct fetch *fetch;
    int flags = 0;

    record_init (c->record, c->rank, c->deliver);
    keep_memory ();
    if (!(fetch = calloc (1, sizeof (*fetch))) || copy_config (fetch, c) < 0
        || route_init (&fetch->route, h, c->brokers, c->nbrokers) < 0
        || !(fetch->work = flux_timer_watcher_create (r, 0, 0, on_work, fetch))
        || !(fetch->limit = flux_timer_watcher_create (r,
                                                       c->timeout,
                                                       0,
                                                       on_limit,
                                                       fetch))) {
        fault_set (f, errno, c->rank, "%s", strerror (errno));
        goto error;
    }
    fetch->h = h;
    if (!(fetch->archive = archive_create (c->archive, f)))
        goto error;
    fetch->left = fetch->archive->npieces;
    if (c->overwrite || !c->deliver) /* a copy that never gets a name has no other in its way */
        flags |= STORE_OVERWRITE;
    if (c->sync && c->deliver)
        flags |= STORE_SYNC;
    if (!(fetch->store = store_create (fetch->archive->manifest,
                                       c->destination,
                                       c->tmp,
                                       flags,
                                       f)))
        goto error;
    return fetch;
error:
    (void)record_failure (c->record, f);
    fetch_destroy (fetch);
    return NULL;
}

int fetch_start (struct fetch *fetch, struct fault *f)
{
    struct record *r = fetch->config.record;

    (void)f;
    fetch_mark (fetch, &r->started, false);
    record_set_state (r, RECORD_RUNNING);
    fetch->progress_ns = clock_ns ();
    fetch->idle_ns = fetch->progress_ns;
    flux_watcher_start (fetch->limit);
    flux_watcher_start (fetch->work);
    return 0;
}

static int report_failure (struct fetch *fetch, struct fault *f)
{
    report_end (fetch);
    return record_failure (fetch->config.record, f);
}

int fetch_seal (struct fetch *fetch, struct fault *f)
{
    if (fetch->failed) {
        *f = fetch->fault;
        return report_failure (fetch, f);
    }
    if (!fetch_is_complete (fetch)) {
        fault_set (f, EAGAIN, fetch->config.rank, "has not got everything yet");
        return report_failure (fetch, f);
    }
    if (store_seal (fetch->store, f) < 0)
        return report_failure (fetch, f);
    return 0;
}

int fetch_publish (struct fetch *fetch, struct fault *f)
{
    struct record *r = fetch->config.record;

    if (fetch->config.deliver) {
        if (store_publish (fetch->store, f) < 0)
            return report_failure (fetch, f);
        fetch_mark (fetch, &r->renamed, false);
    }
    report_end (fetch);
    record_set_state (r, RECORD_COMPLETE);
    return 0;
}

unsigned char *fetch_manifest (const struct fetch *fetch,
                               size_t *size,
                               struct fault *f)
{
    /* ours is what the store needs; chunks that travel have another */
    struct manifest m = *fetch->archive->manifest;

    m.chunk_size = 1 << 20;
    return manifest_encode (&m, size, f);
}

const char *fetch_path (const struct fetch *fetch)
{
    return store_tmp_path (fetch->store);
}

uint64_t fetch_bytes (const struct fetch *fetch)
{
    return fetch->archive->manifest->bytes;
}

uint64_t fetch_files (const struct fetch *fetch)
{
    const struct manifest *m = fetch->archive->manifest;
    uint64_t files = 0;

    for (size_t i = 0; i < m->nentries; i++)
        files += m->entries[i].type == ENTRY_FILE;
    return files;
}

void fetch_destroy (struct fetch *fetch)
{
    if (fetch) {
        int saved_errno = errno;
        for (int i = 0; fetch->loads && i < fetch->config.window; i++)
            flux_future_destroy (fetch->loads[i].f);
        free (fetch->loads);
        route_drop_peers (&fetch->route);
        flux_watcher_destroy (fetch->work);
        flux_watcher_destroy (fetch->limit);
        store_destroy (fetch->store);
        archive_destroy (fetch->archive);
        free ((char *)fetch->config.name);
        free (fetch);
        errno = saved_errno;
    }
}
