/* fetch_load.c - the blobs that are asked for, a window of them at a time, and
 * what comes of each
 *
 * Blobs are asked for in the order of the archive, which is the same on all
 * ranks: so most of what a broker is asked for is already on its way to it, or
 * has just come, and it asks the one above it once.
 */
#include "fetch_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"

/* Blobs may be as large as 1 GiB: beyond this, one at a time. */
#define WINDOW_BYTES (64 << 20)
#define TRIES_MAX 3
/* of what stands in the archive, at one go: others use the reactor too */
#define INLINE_MAX 256

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
    fetch_fail (fetch, &f);
}

static int write_piece (struct fetch *fetch, const struct piece *p, const void *data)
{
    struct record *r = fetch->config.record;
    struct fault f;

    if (store_write (fetch->store, p->offset, data, p->size, &f) < 0) {
        fetch_fail (fetch, &f);
        return -1;
    }
    record_add (r, bytes_in, p->size);
    record_add (r, chunks_in, 1);
    fetch_mark (fetch, &r->last_byte, true);
    fetch->left--;
    return 0;
}

/* Everywhere that these data belong to. */
static void land (struct fetch *fetch, const struct piece *p, const void *data)
{
    fetch_mark (fetch, &fetch->config.record->connected, false);
    fetch_mark (fetch, &fetch->config.record->first_byte, false);
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
    fetch_mark (fetch, &fetch->config.record->connected, false);
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
    fetch_go_on (fetch);
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

void fetch_go_on (struct fetch *fetch)
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
    if (!fetch->ended && fetch_is_complete (fetch)) {
        fetch_mark (fetch, &fetch->config.record->verified, false);
        record_set_state (fetch->config.record, RECORD_RECEIVED);
        fetch_end (fetch);
    }
}
