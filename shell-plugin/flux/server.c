/* server.c - the first shell brings all of them together
 *
 * It counts who is there, within a time limit: a shell that has no plugin says
 * nothing at all, and its tasks must not start without the data.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "archive.h"
#include "clock.h"
#include "record_json.h"
#include "server_impl.h"
#include "source.h"

struct source *server_source (struct server *s)
{
    return s->source;
}

const char *server_host (struct server *s, int rank)
{
    return s->peers[rank].host ? s->peers[rank].host : bcast_host (s->b, rank);
}

void server_tell (struct server *s, int rank, json_t *o)
{
    struct peer *p = &s->peers[rank];

    if (p->hello && flux_respond_pack (s->b->h, p->hello, "O", o) < 0)
        shell_log_errno ("cannot answer shell %d", rank);
}

void server_tell_event (struct server *s, int rank, const char *event)
{
    json_t *o = json_pack ("{s:s}", "event", event);

    server_tell (s, rank, o);
    json_decref (o);
}

void server_tell_all (struct server *s, const char *event)
{
    for (int i = 0; i < s->b->size; i++)
        server_tell_event (s, i, event);
}

static void ready_cb (struct source *src, const struct fault *f, void *arg)
{
    struct server *s = arg;

    (void)src;
    s->ready = true;
    if (f) {
        struct fault copy = *f;

        copy.rank = 0;
        server_fail (s, &copy);
    }
    else
        server_try_setup (s);
}

struct server *server_create (struct bcast *b)
{
    struct server *s;

    if (!(s = calloc (1, sizeof (*s))))
        return NULL;
    s->b = b;
    s->missing = b->size;
    if (!(s->peers = calloc (b->size, sizeof (*s->peers)))
        || getrandom (s->id, sizeof (s->id), 0) != sizeof (s->id)
        || server_watch (s) < 0 || server_register (s) < 0) {
        server_destroy (s);
        return NULL;
    }
    return s;
}

/* Who fetches looks for itself; this is to say how much it is, and to say what
 * is wrong with it only once.
 */
static int summarize_archive (struct server *s, struct fault *f)
{
    struct archive *archive = NULL;
    json_t *entries;

    if ((entries = source_lookup (s->b, s->b->options->archive, f)))
        archive = archive_create (entries, f);
    json_decref (entries);
    if (!archive)
        return -1;
    s->summary.bytes = archive->manifest->bytes;
    for (size_t i = 0; i < archive->manifest->nentries; i++)
        s->summary.files += archive->manifest->entries[i].type == ENTRY_FILE;
    archive_destroy (archive);
    return 0;
}

/* Flux ends a job at once when one of its critical ranks is gone with its
 * broker: as long as the data moves, only the first shell is that critical.
 */
static void set_critical_ranks (struct server *s, int last)
{
    flux_future_t *f = NULL;
    json_int_t id;
    char ranks[32];

    snprintf (ranks, sizeof (ranks), "0-%d", last);
    /* versions of Flux that do not know it need not answer */
    if (flux_shell_info_unpack (s->b->shell, "{s:I}", "jobid", &id) < 0
        || !(f = flux_rpc_pack (s->b->h,
                                "job-exec.critical-ranks",
                                FLUX_NODEID_ANY,
                                FLUX_RPC_NORESPONSE,
                                "{s:I s:s}",
                                "id", id,
                                "ranks", last == 0 ? "0" : ranks)))
        shell_warn ("the job's critical ranks stay as they are: %s", strerror (errno));
    flux_future_destroy (f);
}

void server_begin (struct server *s)
{
    struct bcast *b = s->b;

    s->epoch_ns = clock_ns ();
    s->start = flux_reactor_time ();
    flux_timer_watcher_reset (s->limit_w, b->options->timeout, 0.);
    flux_watcher_start (s->limit_w);
    flux_watcher_start (s->tick_w);
    if (b->options->go_on && b->size > 1)
        set_critical_ranks (s, 0);
    if (b->options->content) {
        struct fault f = { 0 };

        s->ready = true;
        if (summarize_archive (s, &f) < 0) {
            f.rank = 0;
            server_fail (s, &f);
        }
    }
    else if (!(s->source = source_create (b, s->id, s->epoch_ns, ready_cb, s)))
        shell_die_errno (1, "cannot read what is to travel");
}

void server_close (struct server *s)
{
    source_destroy (s->source);
    s->source = NULL;
}

/* Flux takes no other text than UTF-8. */
static void end_job (struct server *s, const struct fault *f)
{
    json_t *text = record_text (f->text);

    if (f->rank >= 0)
        shell_die (1,
                   "rank %d (%.200s): %s",
                   f->rank,
                   server_host (s, f->rank),
                   json_string_value (text));
    shell_die (1, "%s", json_string_value (text));
}

int server_lost_rank (struct server *s)
{
    for (int i = 0; i < s->b->size; i++) {
        if (s->peers[i].gone)
            return i;
    }
    return -1;
}

/* The data is in place, but Flux does not go on. */
static void explain_end (struct server *s, int rank, struct fault *f)
{
    int with = 0;
    int of = 0;

    for (int i = 0; i < s->b->size; i++) {
        of += s->plan->deliver[i] != 0;
        with += s->plan->deliver[i] && s->peers[i].state == PUBLISHED;
    }
    fault_set (f,
               ECONNRESET,
               rank,
               "%.300s; %d of %d nodes have the data, but Flux starts no job without one of its"
               " shells",
               s->peers[rank].fault->text,
               with,
               of);
}

void server_end (struct server *s)
{
    struct fault f;
    int lost;

    if (s->stage != DONE && s->stage != FAILED) {
        s->stage = FAILED;
        s->fault = s->b->fault;
    }
    if (s->stage == FAILED) {
        if (!s->aborted) {
            s->aborted = true;
            server_tell_all (s, "abort");
        }
        server_begin_report (s);
    }
    server_end_report (s);
    server_close (s);
    flux_watcher_stop (s->tick_w);
    s->ended = true;
    if (s->stage == FAILED)
        end_job (s, &s->fault);
    if ((lost = server_lost_rank (s)) >= 0) {
        explain_end (s, lost, &f);
        end_job (s, &f);
    }
    if (s->b->options->go_on && s->b->size > 1)
        set_critical_ranks (s, s->b->size - 1);
}

void server_destroy (struct server *s)
{
    if (s) {
        int saved_errno = errno;

        server_close (s);
        for (int i = 0; s->peers && i < s->b->size; i++) {
            flux_msg_decref (s->peers[i].hello);
            free (s->peers[i].address);
            free (s->peers[i].host);
            free (s->peers[i].fault);
            json_decref (s->peers[i].record);
        }
        free (s->peers);
        flux_watcher_destroy (s->limit_w);
        flux_watcher_destroy (s->settle_w);
        flux_watcher_destroy (s->tick_w);
        flux_future_destroy (s->commit);
        json_decref (s->report);
        plan_destroy (s->plan);
        free (s);
        errno = saved_errno;
    }
}
