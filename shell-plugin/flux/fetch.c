/* fetch.c - load an archive's blobs from the content cache, a window of them
 * at a time
 *
 * Blobs are asked for in the order of the archive, which is the same on all
 * ranks: so most of what a broker is asked for is already on its way to it, or
 * has just come, and it asks the one above it once.
 */
#include "fetch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "store.h"
#include "archive.h"
#include "route.h"

/* Blobs may be as large as 1 GiB: beyond this, one at a time. */
#define WINDOW_BYTES (64 << 20)
#define TRIES_MAX 3
#define KEEP_BYTES (31 << 20) /* glibc looks at no more than 32 MiB */
/* of what stands in the archive, at one go: others use the reactor too */
#define INLINE_MAX 256

struct load {
    struct fetch *fetch;
    flux_future_t *f; /* NULL if free */
    uint32_t piece;
    bool of_peer;
};

struct fetch {
    flux_t *h;
    struct fetch_config config; /* strings are ours */
    struct archive *archive;
    struct store *store;
    struct route route;
    struct load *loads;      /* config.window of them */
    int nloads;              /* in flight */
    uint64_t load_bytes;
    uint32_t next;           /* piece to ask for */
    uint32_t left;           /* pieces that are not written yet */
    flux_watcher_t *work;    /* go on in the reactor */
    flux_watcher_t *limit;   /* of time without progress */
    int64_t progress_ns;
    int64_t idle_ns;         /* since when there is nothing to do; or 0 */
    int64_t waited_ns;
    bool started;
    bool ended;              /* 'done' is called, or about to be */
    bool failed;
    struct fault fault;
};

static void go_on (struct fetch *fetch);

static void mark (struct fetch *fetch, double *field, bool again)
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

static void end (struct fetch *fetch)
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

static void fail (struct fetch *fetch, const struct fault *f)
{
    if (!fetch->ended) {
        fetch->failed = true;
        fetch->fault = *f;
        end (fetch);
    }
}

static void fail_piece (struct fetch *fetch,
                        const struct piece *p,
                        int errnum,
                        const char *fmt, ...)
    __attribute__ ((format (printf, 4, 5)));

static void fail_piece (struct fetch *fetch,
                        const struct piece *p,
                        int errnum,
                        const char *fmt, ...)
{
    char place[FAULT_PATH_SIZE + 32];
    char what[256];
    struct fault f;
    va_list ap;

    va_start (ap, fmt);
    vsnprintf (what, sizeof (what), fmt, ap);
    va_end (ap);
    fault_set (&f,
               errnum,
               fetch->config.rank,
               "archive %s: %s: %s",
               fetch->config.name,
               piece_place (fetch->archive, p, place),
               what);
    f.kind = FAULT_SOURCE;
    fail (fetch, &f);
}

static bool is_complete (const struct fetch *fetch)
{
    return fetch->left == 0;
}

static int write_piece (struct fetch *fetch, const struct piece *p, const void *data)
{
    struct record *r = fetch->config.record;
    struct fault f;

    if (store_write (fetch->store, p->offset, data, p->size, &f) < 0) {
        fail (fetch, &f);
        return -1;
    }
    record_add (r, bytes_in, p->size);
    record_add (r, chunks_in, 1);
    mark (fetch, &r->last_byte, true);
    fetch->left--;
    return 0;
}

/* Everywhere that these data belong to. */
static void land (struct fetch *fetch, const struct piece *p, const void *data)
{
    mark (fetch, &fetch->config.record->connected, false);
    mark (fetch, &fetch->config.record->first_byte, false);
    while (write_piece (fetch, p, data) == 0 && p->same != PIECE_NONE)
        p = &fetch->archive->pieces[p->same];
}

static int ask (struct fetch *fetch, struct load *load);

static void ask_or_fail (struct fetch *fetch, struct load *load)
{
    if (ask (fetch, load) < 0)
        fail_piece (fetch,
                    &fetch->archive->pieces[load->piece],
                    errno,
                    "cannot be asked for: %s",
                    strerror (errno));
}

/* The same broker would give the same again, so the one that has the source is
 * asked itself.
 */
static void ask_again (struct fetch *fetch, struct load *load)
{
    struct piece *p = &fetch->archive->pieces[load->piece];

    record_add (fetch->config.record, bad_chunks, 1);
    if (++p->tries < TRIES_MAX)
        ask_or_fail (fetch, load);
    else
        fail_piece (fetch,
                    p,
                    EBADMSG,
                    "what came is not what the archive says: create it again");
}

/* What comes from a mapped file is marked, all the way: RFC 10 calls it
 * ephemeral. Nothing else costs rank 0 more than to pass it on.
 */
static void check_route (struct fetch *fetch, flux_future_t *f)
{
    const flux_msg_t *msg;

    if (fetch->route.npeers > 0 && flux_future_get (f, (const void **)&msg) == 0
        && !flux_msg_has_flag (msg, FLUX_MSGFLAG_USER1))
        route_drop_peers (&fetch->route);
}

static const char *reason (int errnum, const char *text)
{
    if (errnum == ENOENT)
        return "is not in the content cache: create the archive again";
    if (errnum == EPROTO)
        return "is named by another kind of digest than this instance uses";
    return text;
}

static void on_load (flux_future_t *f, void *arg)
{
    struct load *load = arg;
    struct fetch *fetch = load->fetch;
    struct piece *p = &fetch->archive->pieces[load->piece];
    const void *data;
    size_t size;
    int right;

    fetch->progress_ns = clock_ns ();
    if (fetch->idle_ns != 0)
        fetch->waited_ns += fetch->progress_ns - fetch->idle_ns;
    fetch->idle_ns = 0;
    mark (fetch, &fetch->config.record->connected, false);
    fetch->nloads--;
    fetch->load_bytes -= p->size;
    load->f = NULL;
    check_route (fetch, f);
    if (flux_rpc_get_raw (f, &data, &size) < 0) {
        int errnum = errno;

        if (load->of_peer && errnum != ENOENT) {
            record_add (fetch->config.record, retries, 1);
            route_drop_peers (&fetch->route);
            ask_or_fail (fetch, load);
        }
        else
            fail_piece (fetch,
                        p,
                        errnum,
                        "%s",
                        reason (errnum, flux_future_error_string (f)));
    }
    else if (size != p->size || (right = piece_check (p, data)) == 0)
        ask_again (fetch, load);
    else if (right < 0)
        fail_piece (fetch, p, errno, "this machine cannot check its digest");
    else
        land (fetch, p, data);
    flux_future_destroy (f);
    go_on (fetch);
    fetch->idle_ns = clock_ns ();
}

static int ask (struct fetch *fetch, struct load *load)
{
    struct piece *p = &fetch->archive->pieces[load->piece];
    uint32_t nodeid = p->tries > 0 ? 0 : route_nodeid (&fetch->route, load->piece);

    load->of_peer = p->tries == 0 && fetch->route.npeers > 0;
    if (!(load->f = flux_rpc_raw (fetch->h,
                                  "content.load",
                                  p->digest,
                                  digest_size (p->type),
                                  nodeid,
                                  0))
        || flux_future_then (load->f, -1, on_load, load) < 0) {
        int saved_errno = errno;
        flux_future_destroy (load->f);
        load->f = NULL;
        errno = saved_errno;
        return -1;
    }
    fetch->nloads++;
    fetch->load_bytes += p->size;
    return 0;
}

static bool has_room (const struct fetch *fetch, const struct piece *p)
{
    return fetch->nloads == 0
           || (fetch->nloads < fetch->config.window
               && p->size <= WINDOW_BYTES - fetch->load_bytes);
}

static struct load *free_load (struct fetch *fetch)
{
    struct load *load = fetch->loads;

    while (load->f)
        load++;
    return load;
}

/* Keep the window full, and write what stands in the archive on the way. */
static void go_on (struct fetch *fetch)
{
    int budget = INLINE_MAX;

    while (!fetch->ended && fetch->next < fetch->archive->npieces) {
        struct piece *p = &fetch->archive->pieces[fetch->next];

        if (p->type == DIGEST_NONE) {
            if (budget-- == 0) {
                flux_watcher_start (fetch->work);
                return;
            }
            land (fetch, p, p->data);
        }
        else if (!p->again) {
            struct load *load;

            if (!has_room (fetch, p))
                return;
            load = free_load (fetch);
            load->piece = fetch->next;
            ask_or_fail (fetch, load);
        }
        fetch->next++;
    }
    if (!fetch->ended && is_complete (fetch)) {
        mark (fetch, &fetch->config.record->verified, false);
        record_set_state (fetch->config.record, RECORD_RECEIVED);
        end (fetch);
    }
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
    go_on (fetch);
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
        fail (fetch, &f);
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
    mark (fetch, &r->started, false);
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
    if (!is_complete (fetch)) {
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
        mark (fetch, &r->renamed, false);
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
