/* server_messages.c - what the first shell is told, and asked */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record_json.h"
#include "server_impl.h"

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
    /* who comes too late has nothing to wait for */
    if (p->state == BROKEN || s->aborted) {
        server_tell_event (s, rank, s->aborted ? "abort" : "drop");
        if (s->stage == DONE)
            server_tell_event (s, rank, "finish");
        return;
    }
    p->state = HERE;
    s->missing--;
    server_tell_event (s, rank, "welcome");
    if (*error || !p->address || !p->host) {
        struct fault f;

        fault_set (&f, EADDRNOTAVAIL, rank, "%s", *error ? error : "out of memory");
        f.kind = FAULT_OTHER;
        server_fail_rank (s, &f);
    }
    server_try_setup (s);
}

/* The shell that says something, or NULL if that is nobody's business. */
static struct peer *find_peer (struct server *s, flux_t *h, const flux_msg_t *msg, int rank)
{
    if (!is_allowed (h, msg) || rank < 0 || rank >= s->b->size || !s->peers[rank].hello)
        return NULL;
    s->peers[rank].silent = 0;
    return &s->peers[rank];
}

static void alive_cb (flux_t *h, flux_msg_handler_t *mh, const flux_msg_t *msg, void *arg)
{
    int rank;

    (void)mh;
    if (flux_request_unpack (msg, NULL, "{s:i}", "rank", &rank) == 0)
        (void)find_peer (arg, h, msg, rank);
}

static void report_cb (flux_t *h, flux_msg_handler_t *mh, const flux_msg_t *msg, void *arg)
{
    struct server *s = arg;
    const char *state;
    json_t *record;
    struct peer *p;
    int rank;

    (void)mh;
    if (flux_request_unpack (msg,
                             NULL,
                             "{s:i s:s s:o}",
                             "rank", &rank,
                             "state", &state,
                             "record", &record) < 0
        || !(p = find_peer (s, h, msg, rank)))
        return; /* no answer is expected */
    if (p->state == BROKEN)
        return;
    json_decref (p->record);
    p->record = json_incref (record);
    p->bytes_in = json_integer_value (record_json_field (record, "bytes_in"));
    if (!strcmp (state, "sealed"))
        p->state = SEALED;
    else if (!strcmp (state, "published"))
        p->state = PUBLISHED;
    else if (!strcmp (state, "failed")) {
        struct fault f;

        fault_set (&f,
                   json_integer_value (record_json_field (record, "errnum")),
                   rank,
                   "%s",
                   json_string_value (record_json_field (record, "text")));
        f.kind = json_integer_value (record_json_field (record, "kind"));
        server_fail_rank (s, &f);
    }
    server_advance (s);
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
                           s->stage == WIRING && s->missing == 0 ? "preparing" : stages[s->stage],
                           "bytes", (json_int_t)s->summary.bytes,
                           "bytes_in", bytes,
                           "states", states) < 0)
        shell_log_errno ("cannot answer");
}

int server_register (struct server *s)
{
    flux_shell_t *shell = s->b->shell;

    if (flux_shell_service_register (shell, "tree-bcast.hello", hello_cb, s) < 0
        || flux_shell_service_register (shell, "tree-bcast.alive", alive_cb, s) < 0
        || flux_shell_service_register (shell, "tree-bcast.report", report_cb, s) < 0
        || flux_shell_service_register (shell, "tree-bcast.progress", progress_cb, s) < 0)
        return -1;
    return 0;
}
