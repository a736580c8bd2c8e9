/* server_report.c - what the first shell knows at the end, as one document */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "jobreport.h"
#include "plan_json.h"
#include "record_json.h"
#include "server_impl.h"

static json_t *make_hosts (struct server *s)
{
    json_t *hosts = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        json_array_append_new (hosts, json_string (server_host (s, i)));
    }
    return hosts;
}

/* Of a shell that has said nothing there is an empty record. */
static json_t *make_records (struct server *s)
{
    json_t *records = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        const struct peer *p = &s->peers[i];
        json_t *record = p->record ? json_incref (p->record)
                                   : record_json_empty (i, s->plan && s->plan->deliver[i]);

        if (p->state == BROKEN && record_json_fail (record, p->fault) < 0)
            shell_warn ("the report does not say why rank %d failed: out of memory", i);
        json_array_append_new (records, record);
    }
    return records;
}

static json_t *make_error (struct server *s)
{
    static const char *kinds[] = { "other", "source", "destination" };
    const struct fault *f = &s->fault;
    bool known = f->kind >= 0 && f->kind <= FAULT_DESTINATION;
    int rank = f->rank;

    if (s->stage != FAILED)
        return json_null ();
    return json_pack ("{s:i s:s s:s s:o}",
                      "rank", rank,
                      "host", rank < 0 ? "" : server_host (s, rank),
                      "kind", kinds[known ? f->kind : 0],
                      "text", record_text (f->text));
}

/* Those that go without the data, be it with all others. */
static json_t *make_failed (struct server *s)
{
    json_t *ranks = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        if (s->peers[i].state == BROKEN)
            json_array_append_new (ranks, json_integer (i));
    }
    return ranks;
}

/* What flux_tree.records () reads; docs/flux.md has the fields. */
static json_t *make_report (struct server *s)
{
    const struct options *o = s->b->options;

    return json_pack ("{s:i s:b s:o s:o s:s s:s s:s s:s s:s s:I s:I s:I s:f s:f s:o s:o s:o s:o s:o}",
                      "version", 1,
                      "ok", s->stage == DONE,
                      "error", make_error (s),
                      "failed", make_failed (s),
                      "strategy", o->strategy,
                      "transport", o->content ? "content" : "direct",
                      "security", o->encrypt && !o->content ? "tls" : "none",
                      "source", o->file ? o->file : o->archive,
                      "destination", o->destination ? o->destination : "{{tmpdir}}",
                      "bytes", (json_int_t)s->summary.bytes,
                      "files", (json_int_t)s->summary.files,
                      "chunk_size", (json_int_t)s->summary.chunk_size,
                      "start", s->start,
                      "elapsed", (clock_ns () - s->epoch_ns) / 1e9,
                      "hosts", make_hosts (s),
                      "plan", s->plan ? plan_to_json (s->plan, s->choice.spec) : json_null (),
                      "why", s->choice.why[0] ? record_text (s->choice.why) : json_null (),
                      "fields", record_fields (),
                      "records", make_records (s));
}

static void commit_cb (flux_future_t *f, void *arg)
{
    struct server *s = arg;

    /* nobody wants to lose a job over its report, but who reads it must know */
    if (flux_future_get (f, NULL) < 0)
        shell_warn ("no report in the KVS: %s", future_strerror (f, errno));
    s->committed = true;
    if (s->ending)
        flux_reactor_stop (s->b->r);
}

void server_begin_report (struct server *s)
{
    /* an answer that comes before somebody listens for it is lost */
    if (!(s->report = make_report (s)))
        shell_warn ("no report: out of memory");
    else if (!(s->commit = jobreport_commit (s->b, s->report))
             || flux_future_then (s->commit, s->b->options->timeout, commit_cb, s) < 0) {
        shell_warn ("no report: %s", strerror (errno));
        flux_future_destroy (s->commit);
        s->commit = NULL;
    }
}

void server_end_report (struct server *s)
{
    s->ending = true;
    while (s->commit && !s->committed && !s->b->terminated) {
        if (flux_reactor_run (s->b->r, 0) < 0)
            break;
    }
    if (s->report && s->b->options->report)
        jobreport_write (s->b, s->report);
}
