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
#include "bcast.h"
#include "clock.h"
#include "jobplan.h"
#include "jobreport.h"
#include "node.h"
#include "plan.h"
#include "plan_json.h"
#include "record_json.h"
#include "source.h"
#include "value.h"

/* How long others are given to say what went wrong for them, seconds. */
#define SETTLE 0.2

enum stage { WIRING, RUNNING, DONE, FAILED };

enum peer_state { ABSENT, HERE, SEALED, PUBLISHED, BROKEN };

struct peer {
    const flux_msg_t *hello;
    char *address;
    char *host;
    enum peer_state state;
    bool started;
    uint64_t bytes_in;
    json_t *record; /* as it last said */
};

struct server {
    struct bcast *b;
    enum stage stage;
    struct peer *peers;
    int here;
    flux_watcher_t *limit_w;
    flux_watcher_t *settle_w;
    struct source *source;    /* NULL for transport=content */
    bool ready;               /* the source */
    struct node_summary summary;
    struct plan *plan;
    struct choice choice;     /* how the plan came about */
    unsigned char key[KEY_SIZE];
    unsigned char id[ID_SIZE];
    int64_t epoch_ns;
    double start;             /* seconds since 1970 */
    json_t *report;
    flux_future_t *commit;    /* of the report */
    bool committed;
    bool ending;              /* it only waits for that */
    bool ended;
    bool aborted;             /* all were told */
    bool lost;                /* a shell */
    struct fault fault;       /* that explains the failure */
    bool publishing;
};

struct source *server_source (struct server *s)
{
    return s->source;
}

static void tell (struct server *s, int rank, json_t *o)
{
    struct peer *p = &s->peers[rank];

    if (p->hello && flux_respond_pack (s->b->h, p->hello, "O", o) < 0)
        shell_log_errno ("cannot answer shell %d", rank);
}

static void tell_all (struct server *s, const char *event)
{
    json_t *o = json_pack ("{s:s}", "event", event);

    for (int i = 0; i < s->b->size; i++)
        tell (s, i, o);
    json_decref (o);
}

/* The failure that explains the others: of a disk rather than of a connection,
 * of the lowest rank.
 */
static bool explains (const struct fault *f, const struct fault *than)
{
    if ((f->kind == FAULT_OTHER) != (than->kind == FAULT_OTHER))
        return f->kind != FAULT_OTHER;
    return f->rank < than->rank;
}

static void fail (struct server *s, const struct fault *f)
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
    tell_all (s, "abort");
}

static int ranks_on (struct server *s, const char *host)
{
    int count = 0;

    for (int i = 0; i < s->b->size; i++)
        count += s->plan->parents[i] != -2 && !strcmp (s->peers[i].host, host);
    return count;
}

static bool is_present (struct server *s, int rank)
{
    return rank == 0 || s->plan->parents[rank] != -2;
}

/* Whether a rank has a part of its own in this transport. */
static bool is_active (struct server *s, int rank)
{
    return s->b->options->content ? s->plan->deliver[rank] : is_present (s, rank);
}

static json_t *hex (const unsigned char *data, size_t size)
{
    char text[2 * KEY_SIZE + 1];

    for (size_t i = 0; i < size; i++)
        snprintf (text + 2 * i, 3, "%02x", data[i]);
    return json_string (text);
}

/* The brokers of those who fetch, so that they can share the work. */
static json_t *find_brokers (struct server *s)
{
    json_t *brokers = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        int rank;

        if (is_active (s, i)
            && flux_shell_rank_info_unpack (s->b->shell, i, "{s:i}", "broker_rank", &rank) == 0)
            json_array_append_new (brokers, json_integer (rank));
    }
    return brokers;
}

/* What rank needs of the plan. */
static json_t *make_part (struct server *s, int rank, json_t *brokers)
{
    const struct plan *p = s->plan;
    bool content = s->b->options->content;
    json_t *paths = json_array ();
    json_t *children = json_array ();

    for (int t = 0; t < p->stripes && !content; t++) {
        const int32_t *parents = p->parents + (size_t)t * p->n;
        json_t *path = json_array ();
        json_t *below = json_array ();

        for (int r = parents[rank]; r >= 0; r = parents[r])
            json_array_append_new (path, json_pack ("[i,s]", r, s->peers[r].address));
        for (int r = 0; r < p->n; r++) {
            if (parents[r] == rank)
                json_array_append_new (below, json_integer (r));
        }
        json_array_append_new (paths, path);
        json_array_append_new (children, below);
    }
    return json_pack ("{s:s s:o s:o s:i s:b s:b s:i s:i s:I s:I s:o s:o s:O}",
                      "event", "setup",
                      "key", hex (s->key, KEY_SIZE),
                      "id", hex (s->id, ID_SIZE),
                      "stripes", content ? 1 : p->stripes,
                      "present", is_active (s, rank),
                      "deliver", p->deliver[rank],
                      "phase", p->phase[rank],
                      "ranks_here", ranks_on (s, s->peers[rank].host),
                      "epoch_ns", (json_int_t)s->epoch_ns,
                      "age_ns", (json_int_t)(clock_ns () - s->epoch_ns),
                      "paths", paths,
                      "children", children,
                      "brokers", brokers);
}

/* What travels is known from here on. */
static int summarize_source (struct server *s, struct fault *f)
{
    unsigned char *manifest;
    size_t len;

    if (!s->source)
        return 0;
    manifest = source_manifest (s->source, &len);
    if (node_summarize (manifest, len, &s->summary, f) < 0)
        return -1;
    if (s->b->options->sha256 && (s->summary.files != 1 || s->summary.entries != 1)) {
        fault_set (f,
                   EINVAL,
                   0,
                   "option tree-bcast.digest: is of one file, and %.200s is none: leave it out",
                   source_name (s->source));
        f->kind = FAULT_SOURCE;
        return -1;
    }
    return 0;
}

static int set_chunk_size (struct server *s, struct fault *f)
{
    uint32_t size = s->b->options->chunk_size;
    unsigned char *manifest;
    size_t len;
    int depth = 0;
    int32_t *depths;

    if (!s->source)
        return 0;
    if (!(depths = malloc (sizeof (*depths) * s->plan->n * s->plan->stripes)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (plan_depths (s->plan, depths, f) < 0) {
        free (depths);
        return -1;
    }
    for (int i = 0; i < s->plan->n * s->plan->stripes; i++)
        depth = depths[i] > depth ? depths[i] : depth;
    free (depths);
    if (size == 0)
        size = s->choice.chunk_size;
    if (size == 0)
        size = plan_chunk_size (s->summary.bytes,
                                depth,
                                s->plan->stripes,
                                jobplan_bandwidth (s->b));
    s->summary.chunk_size = size;
    manifest = source_manifest (s->source, &len);
    return node_set_chunk_size (manifest, len, size, f);
}

static void begin_report (struct server *s);

/* Open every gate whose time has come. */
static void advance (struct server *s)
{
    int lowest = INT32_MAX; /* phase of a rank that is not complete */
    bool published = true;
    bool sealed = true;

    if (s->stage != RUNNING)
        return;
    for (int i = 0; i < s->b->size; i++) {
        if (!is_active (s, i))
            continue;
        published &= s->peers[i].state == PUBLISHED;
        if (s->peers[i].state < SEALED) {
            sealed = false;
            if (s->plan->phase[i] < lowest)
                lowest = s->plan->phase[i];
        }
    }
    if (published) {
        s->stage = DONE;
        begin_report (s);
        tell_all (s, "finish");
        return;
    }
    if (sealed && !s->publishing) {
        json_t *o = json_pack ("{s:s}", "event", "publish");

        s->publishing = true;
        for (int i = 0; i < s->b->size; i++) {
            if (is_active (s, i))
                tell (s, i, o);
        }
        json_decref (o);
        return;
    }
    for (int i = 0; i < s->b->size; i++) {
        if (is_active (s, i) && !s->peers[i].started && s->plan->phase[i] <= lowest) {
            json_t *o = json_pack ("{s:s}", "event", "start");

            s->peers[i].started = true;
            if (s->plan->phase[i] > 0)
                tell (s, i, o);
            json_decref (o);
        }
    }
}

/* Everybody is here, and what travels is known. */
static void try_setup (struct server *s)
{
    struct bcast *b = s->b;
    struct fault f = { .rank = -1 };
    json_t *brokers;

    if (s->stage != WIRING || s->here < b->size || !s->ready)
        return;
    flux_watcher_stop (s->limit_w);
    if (summarize_source (s, &f) < 0
        || !(s->plan = jobplan_create (b, s->summary.bytes, &s->choice, &f))
        || set_chunk_size (s, &f) < 0) {
        f.rank = -1;
        fail (s, &f);
        return;
    }
    shell_debug ("%d shells are here after %.3f s, strategy %s%s%s",
                 b->size,
                 (clock_ns () - s->epoch_ns) / 1e9,
                 s->choice.spec,
                 s->choice.why[0] ? " chosen: " : "",
                 s->choice.why);
    s->stage = RUNNING;
    brokers = b->options->content ? find_brokers (s) : json_array ();
    for (int i = 0; i < b->size && s->stage == RUNNING; i++) {
        json_t *o = make_part (s, i, brokers);

        if (o)
            tell (s, i, o);
        else {
            fault_set (&f, ENOMEM, -1, "out of memory");
            fail (s, &f);
        }
        json_decref (o);
    }
    json_decref (brokers);
    advance (s);
}

static void ready_cb (struct source *src, const struct fault *f, void *arg)
{
    struct server *s = arg;

    (void)src;
    s->ready = true;
    if (f) {
        struct fault copy = *f;

        copy.rank = 0;
        fail (s, &copy);
    }
    else
        try_setup (s);
}

/* Only who runs the job, or the instance, may ask. */
static bool is_allowed (flux_t *h, const flux_msg_t *msg)
{
    if (flux_msg_authorize (msg, getuid ()) == 0)
        return true;
    if (flux_respond_error (h, msg, EPERM, "this is another user's job") < 0)
        shell_log_errno ("cannot answer");
    return false;
}

static void refuse (flux_t *h, const flux_msg_t *msg, const char *text)
{
    if (flux_respond_error (h, msg, EPROTO, text) < 0)
        shell_log_errno ("cannot answer");
}

static void hello_cb (flux_t *h, flux_msg_handler_t *mh, const flux_msg_t *msg, void *arg)
{
    struct server *s = arg;
    struct peer *p;
    const char *address;
    const char *host;
    const char *error;
    int rank;

    (void)mh;
    if (!is_allowed (h, msg))
        return;
    if (flux_request_unpack (msg,
                             NULL,
                             "{s:i s:s s:s s:s}",
                             "rank", &rank,
                             "address", &address,
                             "host", &host,
                             "error", &error) < 0
        || rank < 0 || rank >= s->b->size || !flux_msg_is_streaming (msg)) {
        refuse (h, msg, "this is no shell of the job");
        return;
    }
    p = &s->peers[rank];
    if (p->hello) {
        refuse (h, msg, "this shell is here already");
        return;
    }
    p->hello = flux_msg_incref (msg);
    p->address = strdup (address);
    p->host = strdup (host);
    p->state = HERE;
    s->here++;
    /* who comes too late has nothing to wait for */
    if (flux_respond_pack (h, msg, "{s:s}", "event", s->aborted ? "abort" : "welcome") < 0)
        shell_log_errno ("cannot answer shell %d", rank);
    if (*error || !p->address || !p->host) {
        struct fault f;

        fault_set (&f, EADDRNOTAVAIL, rank, "%s", *error ? error : "out of memory");
        f.kind = FAULT_OTHER;
        fail (s, &f);
    }
    try_setup (s);
}

/* A value of a record as it came, by the name of the field. */
static json_t *field (json_t *record, const char *name)
{
    static json_t *names;
    json_t *value;
    size_t i;

    if (!names)
        names = record_fields ();
    json_array_foreach (names, i, value) {
        if (!strcmp (json_string_value (value), name))
            return json_array_get (record, i);
    }
    return NULL;
}

static void report_cb (flux_t *h, flux_msg_handler_t *mh, const flux_msg_t *msg, void *arg)
{
    struct server *s = arg;
    const char *state;
    json_t *record;
    struct peer *p;
    int rank;

    (void)mh;
    if (!is_allowed (h, msg))
        return;
    if (flux_request_unpack (msg,
                             NULL,
                             "{s:i s:s s:o}",
                             "rank", &rank,
                             "state", &state,
                             "record", &record) < 0
        || rank < 0 || rank >= s->b->size || !s->peers[rank].hello)
        return; /* no answer is expected */
    p = &s->peers[rank];
    json_decref (p->record);
    p->record = json_incref (record);
    p->bytes_in = json_integer_value (field (record, "bytes_in"));
    if (!strcmp (state, "sealed"))
        p->state = SEALED;
    else if (!strcmp (state, "published"))
        p->state = PUBLISHED;
    else if (!strcmp (state, "failed")) {
        struct fault f;

        p->state = BROKEN;
        fault_set (&f,
                   json_integer_value (field (record, "errnum")),
                   rank,
                   "%s",
                   json_string_value (field (record, "text")));
        f.kind = json_integer_value (field (record, "kind"));
        fail (s, &f);
    }
    advance (s);
}

static void progress_cb (flux_t *h, flux_msg_handler_t *mh, const flux_msg_t *msg, void *arg)
{
    static const char *stages[] = { "wiring", "running", "done", "failed" };
    struct server *s = arg;
    json_t *bytes;
    json_t *states;

    (void)mh;
    if (!is_allowed (h, msg))
        return;
    bytes = json_array ();
    states = json_array ();
    for (int i = 0; i < s->b->size; i++) {
        json_array_append_new (bytes, json_integer (s->peers[i].bytes_in));
        json_array_append_new (states, json_integer (s->peers[i].state));
    }
    if (flux_respond_pack (h,
                           msg,
                           "{s:s s:I s:o s:o}",
                           "state",
                           s->stage == WIRING && s->here == s->b->size ? "preparing"
                                                                       : stages[s->stage],
                           "bytes", (json_int_t)s->summary.bytes,
                           "bytes_in", bytes,
                           "states", states) < 0)
        shell_log_errno ("cannot answer");
}

static void limit_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct server *s = arg;
    struct fault f = { 0 };
    char names[300] = "";
    int first = -1;

    (void)r;
    (void)w;
    (void)revents;
    if (s->here == s->b->size) /* what travels is not ready, which may take long */
        return;
    for (int i = 0; i < s->b->size; i++) {
        size_t used = strlen (names);

        if (s->peers[i].hello)
            continue;
        if (first < 0)
            first = i;
        else if (used < sizeof (names) - 80)
            snprintf (names + used,
                      sizeof (names) - used,
                      "%s%d (%.60s)",
                      used ? ", " : "; nor have ",
                      i,
                      bcast_host (s->b, i));
    }
    fault_set (&f,
               ETIMEDOUT,
               first,
               "has not come within %g s: is flux-tree installed there? 'flux-tree doctor' says%s",
               s->b->options->timeout,
               names);
    fail (s, &f);
}

void server_lost (struct server *s, int rank)
{
    struct fault f = { 0 };

    if (rank < 0 || rank >= s->b->size || s->ended)
        return;
    fault_set (&f, ECONNRESET, rank, "its shell has died");
    fail (s, &f);
    /* whatever else fails, fails because of that */
    if (!s->lost)
        s->fault = f;
    s->lost = true;
}

struct server *server_create (struct bcast *b)
{
    struct server *s;

    if (!(s = calloc (1, sizeof (*s))))
        return NULL;
    s->b = b;
    if (!(s->peers = calloc (b->size, sizeof (*s->peers)))
        || !(s->limit_w = flux_timer_watcher_create (b->r, b->options->timeout, 0., limit_cb, s))
        || !(s->settle_w = flux_timer_watcher_create (b->r, SETTLE, 0., settle_cb, s))
        || getrandom (s->key, sizeof (s->key), 0) != sizeof (s->key)
        || getrandom (s->id, sizeof (s->id), 0) != sizeof (s->id)
        || flux_shell_service_register (b->shell, "tree-bcast.hello", hello_cb, s) < 0
        || flux_shell_service_register (b->shell, "tree-bcast.report", report_cb, s) < 0
        || flux_shell_service_register (b->shell, "tree-bcast.progress", progress_cb, s) < 0) {
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

void server_begin (struct server *s)
{
    struct bcast *b = s->b;

    s->epoch_ns = clock_ns ();
    s->start = flux_reactor_time ();
    flux_timer_watcher_reset (s->limit_w, b->options->timeout, 0.);
    flux_watcher_start (s->limit_w);
    if (b->options->content) {
        struct fault f = { 0 };

        s->ready = true;
        if (summarize_archive (s, &f) < 0) {
            f.rank = 0;
            fail (s, &f);
        }
    }
    else if (!(s->source = source_create (b, s->id, s->epoch_ns, ready_cb, s)))
        shell_die_errno (1, "cannot read what is to travel");
}

static json_t *make_hosts (struct server *s)
{
    json_t *hosts = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        const char *host = s->peers[i].host ? s->peers[i].host : bcast_host (s->b, i);

        json_array_append_new (hosts, json_string (host));
    }
    return hosts;
}

/* Of a shell that has said nothing there is an empty record. */
static json_t *make_records (struct server *s)
{
    json_t *records = json_array ();

    for (int i = 0; i < s->b->size; i++) {
        struct record empty = { .rank = i };

        empty.started = empty.connected = empty.first_byte = empty.last_byte = empty.verified =
            empty.renamed = -1;
        json_array_append_new (records,
                               s->peers[i].record ? json_incref (s->peers[i].record)
                                                  : record_to_json (&empty, 0));
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
                      "host", rank < 0 ? "" : s->peers[rank].host ? s->peers[rank].host : bcast_host (s->b, rank),
                      "kind", kinds[known ? f->kind : 0],
                      "text", record_text (f->text));
}

/* What flux_tree.records () reads; docs/flux.md has the fields. */
static json_t *make_report (struct server *s)
{
    const struct options *o = s->b->options;

    return json_pack ("{s:i s:b s:o s:s s:s s:s s:s s:s s:I s:I s:I s:f s:f s:o s:o s:o s:o s:o}",
                      "version", 1,
                      "ok", s->stage == DONE,
                      "error", make_error (s),
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

static void begin_report (struct server *s)
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

static void end_report (struct server *s)
{
    s->ending = true;
    while (s->commit && !s->committed && !s->b->terminated) {
        if (flux_reactor_run (s->b->r, 0) < 0)
            break;
    }
    if (s->report && s->b->options->report)
        jobreport_write (s->b, s->report);
}

void server_close (struct server *s)
{
    source_destroy (s->source);
    s->source = NULL;
    explicit_bzero (s->key, sizeof (s->key));
}

void server_end (struct server *s)
{
    struct fault *f = &s->fault;
    char where[300] = "";
    json_t *text;

    if (s->stage != DONE && s->stage != FAILED) {
        s->stage = FAILED;
        *f = s->b->fault;
    }
    if (s->stage == FAILED) {
        if (!s->aborted) {
            s->aborted = true;
            tell_all (s, "abort");
        }
        begin_report (s);
    }
    end_report (s);
    server_close (s);
    s->ended = true;
    if (s->stage == DONE)
        return;
    if (f->rank >= 0)
        snprintf (where,
                  sizeof (where),
                  "rank %d (%.200s): ",
                  f->rank,
                  s->peers[f->rank].host ? s->peers[f->rank].host : bcast_host (s->b, f->rank));
    /* Flux takes no other text than UTF-8 */
    text = record_text (f->text);
    if (!s->b->options->go_on)
        shell_die (1, "%s%s", where, json_string_value (text));
    shell_warn ("%s%s", where, json_string_value (text));
    json_decref (text);
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
            json_decref (s->peers[i].record);
        }
        free (s->peers);
        flux_watcher_destroy (s->limit_w);
        flux_watcher_destroy (s->settle_w);
        flux_future_destroy (s->commit);
        json_decref (s->report);
        plan_destroy (s->plan);
        free (s);
        errno = saved_errno;
    }
}
