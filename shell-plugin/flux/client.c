/* client.c - one shell's own part in the broadcast */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "address.h"
#include "bcast.h"
#include "clock.h"
#include "fetch.h"
#include "node.h"
#include "record_json.h"
#include "source.h"
#include "value.h"

/* More threads than this are of no use by themselves. */
#define WORKERS_FITTING 4

struct client {
    struct bcast *b;
    int listen_fd;
    flux_future_t *hello;
    flux_watcher_t *limit_w;    /* until the first shell has answered */
    flux_watcher_t *progress_w;
    flux_watcher_t *node_w;
    struct node *node;          /* one of them, or none at all */
    struct fetch *fetch;
    struct record record;
    uint64_t told;              /* bytes, when it last told its progress */
    int stripes;
    int64_t epoch_ns;
    int64_t hello_ns;
    int64_t answer_ns;          /* how long the first shell took to answer */
    double cpu;                 /* seconds that this process had used before */
    bool received;
    bool reported;              /* failed, and said so */
    bool aborted;
    bool finished;
};

static double processor_time (void)
{
    struct rusage ru;

    getrusage (RUSAGE_SELF, &ru);
    return ru.ru_utime.tv_sec + ru.ru_stime.tv_sec + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void report (struct client *c, const char *state)
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

static void report_failure (struct client *c, const struct fault *f)
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
    report (c, "failed");
}

/* This shell cannot even tell the first one. */
static void give_up (struct client *c, const char *text)
{
    fault_set (&c->b->fault, EPROTO, c->b->rank, "%s", text);
    c->aborted = true;
    flux_reactor_stop (c->b->r);
}

static void seal (struct client *c)
{
    struct fault f = { 0 };
    int rc = c->node ? node_seal (c->node, &f) : c->fetch ? fetch_seal (c->fetch, &f) : 0;

    if (rc < 0)
        report_failure (c, &f);
    else if (!c->received) {
        c->received = true;
        shell_debug ("received %.1f MB in %.3f s",
                     c->record.bytes_in / 1e6,
                     c->record.last_byte);
        report (c, "sealed");
    }
}

static void fetch_done (struct fetch *fetch, void *arg)
{
    (void)fetch;
    seal (arg);
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
        seal (c);
}

static int start (struct client *c, struct fault *f)
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

/* What of the plan this rank has to know: its ancestors and its children. */
struct part {
    json_t *paths;
    json_t *children;
    int32_t *parents;  /* stripes x size */
    char **addresses;  /* size, of ancestors */
};

static int read_part (struct client *c, struct part *p)
{
    int size = c->b->size;
    json_t *path;
    json_t *hop;
    json_t *list;
    json_t *value;
    size_t s;
    size_t i;

    if (json_array_size (p->paths) != (size_t)c->stripes
        || json_array_size (p->children) != (size_t)c->stripes)
        return -1;
    for (size_t k = 0; k < (size_t)c->stripes * size; k++)
        p->parents[k] = k % size == 0 ? -1 : -2;
    json_array_foreach (p->paths, s, path) {
        int32_t *parents = p->parents + s * size;
        int below = c->b->rank;

        json_array_foreach (path, i, hop) {
            const char *address;
            int rank;

            if (json_unpack (hop, "[i,s]", &rank, &address) < 0 || rank < 0 || rank >= size)
                return -1;
            parents[below] = rank;
            below = rank;
            if (!p->addresses[rank] && !(p->addresses[rank] = strdup (address)))
                return -1;
        }
    }
    json_array_foreach (p->children, s, list) {
        json_array_foreach (list, i, value) {
            int rank = json_integer_value (value);

            if (rank < 0 || rank >= size)
                return -1;
            p->parents[s * size + rank] = c->b->rank;
        }
    }
    return 0;
}

static int fitting_workers (struct client *c, int ranks_here)
{
    int n = sysconf (_SC_NPROCESSORS_ONLN) / (ranks_here > 0 ? ranks_here : 1);

    if (c->b->options->workers > 0)
        return c->b->options->workers;
    return n < 1 ? 1 : n > WORKERS_FITTING ? WORKERS_FITTING : n;
}

static int make_node (struct client *c, json_t *setup, bool deliver, const char *dest, struct fault *f)
{
    struct bcast *b = c->b;
    struct source *source = b->server ? server_source (b->server) : NULL;
    struct part part = { 0 };
    unsigned char key[KEY_SIZE];
    unsigned char id[ID_SIZE];
    const char *key_text;
    const char *id_text;
    char tmp[TMP_SIZE];
    int ranks_here;
    int rc = -1;

    part.parents = calloc ((size_t)c->stripes * b->size, sizeof (*part.parents));
    part.addresses = calloc (b->size, sizeof (*part.addresses));
    if (!part.parents || !part.addresses) {
        fault_set (f, ENOMEM, b->rank, "out of memory");
        goto done;
    }
    if (json_unpack (setup,
                     "{s:s s:s s:i s:o s:o}",
                     "key", &key_text,
                     "id", &id_text,
                     "ranks_here", &ranks_here,
                     "paths", &part.paths,
                     "children", &part.children) < 0
        || value_hex (key_text, key, sizeof (key)) < 0
        || value_hex (id_text, id, sizeof (id)) < 0 || read_part (c, &part) < 0) {
        fault_set (f, EPROTO, b->rank, "the first shell has another version of flux-tree");
        goto done;
    }
    source_tmp (tmp, id, b->rank);
    {
        struct node_config config = {
            .rank = b->rank,
            .size = b->size,
            .stripes = c->stripes,
            .parents = part.parents,
            .addresses = (const char *const *)part.addresses,
            .listen_fd = c->listen_fd,
            .key = key,
            .id = id,
            .encrypt = b->options->encrypt,
            .deliver = deliver,
            .overwrite = b->options->overwrite,
            .resume = b->options->resume,
            .sync = b->options->sync,
            .sha256 = b->options->sha256,
            .destination = dest,
            .tmp = tmp,
            .workers = fitting_workers (c, ranks_here),
            .timeout = b->options->timeout,
            .epoch_ns = c->epoch_ns,
            .record = &c->record,
        };
        if (source) {
            config.source = source_path (source);
            config.manifest = source_manifest (source, &config.manifest_size);
            /* what was fetched stands where it shall stay */
            config.deliver = deliver && !source_is_fetched (source);
        }
        c->listen_fd = -1;
        if ((c->node = node_create (&config, f)))
            rc = 0;
        c->record.deliver = deliver;
    }
done:
    explicit_bzero (key, sizeof (key));
    for (int i = 0; part.addresses && i < b->size; i++)
        free (part.addresses[i]);
    free (part.addresses);
    free (part.parents);
    return rc;
}

static int make_fetch (struct client *c, json_t *setup, const char *dest, struct fault *f)
{
    struct bcast *b = c->b;
    unsigned char id[ID_SIZE];
    char tmp[TMP_SIZE];
    const char *id_text;
    uint32_t *brokers = NULL;
    json_t *list;
    json_t *value;
    size_t i;
    json_t *archive;
    struct fetch_config config = {
        .name = b->options->archive,
        .destination = dest,
        .tmp = tmp,
        .overwrite = b->options->overwrite,
        .sync = b->options->sync,
        .deliver = 1,
        .window = b->options->window,
        .timeout = b->options->timeout,
        .epoch_ns = c->epoch_ns,
        .rank = b->rank,
        .record = &c->record,
        .done = fetch_done,
        .arg = c,
    };

    if (json_unpack (setup, "{s:s s:o}", "id", &id_text, "brokers", &list) < 0
        || value_hex (id_text, id, sizeof (id)) < 0)
        return fault_set (f, EPROTO, b->rank, "the first shell has another version of flux-tree");
    source_tmp (tmp, id, b->rank);
    if (!(brokers = calloc (json_array_size (list) + 1, sizeof (*brokers))))
        return fault_set (f, ENOMEM, b->rank, "out of memory");
    json_array_foreach (list, i, value)
        brokers[i] = json_integer_value (value);
    config.brokers = brokers;
    config.nbrokers = i;
    if ((archive = source_lookup (b, b->options->archive, f))) {
        config.archive = archive;
        c->fetch = fetch_create (b->h, &config, f);
    }
    json_decref (archive);
    free (brokers);
    return c->fetch ? 0 : -1;
}

static int setup (struct client *c, json_t *o, struct fault *f)
{
    char *dest = NULL;
    json_int_t epoch_ns;
    json_int_t age_ns;
    int present;
    int deliver;
    int phase;
    int rc = -1;

    if (json_unpack (o,
                     "{s:i s:b s:b s:i s:I s:I}",
                     "stripes", &c->stripes,
                     "present", &present,
                     "deliver", &deliver,
                     "phase", &phase,
                     "epoch_ns", &epoch_ns,
                     "age_ns", &age_ns) < 0
        || c->stripes < 1 || c->stripes > PLAN_MAX_STRIPES)
        return fault_set (f, EPROTO, c->b->rank, "the first shell has another version of flux-tree");
    /* a node corrects its times by what it measures of the root's clock, all
     * others by this, as good as a message through the brokers is fast
     */
    c->epoch_ns = clock_ns () - age_ns;
    if (!present)
        return 0;
    /* a relay has its data there as well, for as long as it passes it on */
    if ((deliver || !c->b->options->content) && !(dest = source_destination (c->b, f)))
        return -1;
    if (c->b->options->content)
        rc = deliver ? make_fetch (c, o, dest, f) : 0;
    else {
        json_int_t epoch;

        if (json_unpack (o, "{s:I}", "epoch_ns", &epoch) == 0)
            c->epoch_ns = epoch;
        rc = make_node (c, o, deliver, dest, f);
    }
    free (dest);
    if (rc == 0 && phase == 0)
        rc = start (c, f);
    return rc;
}

static int publish (struct client *c, struct fault *f)
{
    struct source *source = c->b->server ? server_source (c->b->server) : NULL;

    if (source && source_is_fetched (source) && c->record.deliver) {
        if (source_publish (source, f) < 0)
            return -1;
        c->record.renamed = (clock_ns () - c->epoch_ns) / 1e9;
    }
    if (c->node)
        return node_publish (c->node, f);
    return c->fetch ? fetch_publish (c->fetch, f) : 0;
}

static void abort_all (struct client *c)
{
    c->aborted = true;
    flux_reactor_stop (c->b->r);
}

static void obey (struct client *c, const char *event, json_t *o)
{
    struct fault f = { .rank = c->b->rank };
    int rc = 0;

    shell_trace ("%s", event);
    flux_watcher_stop (c->limit_w);
    if (!strcmp (event, "welcome"))
        c->answer_ns = clock_ns () - c->hello_ns;
    else if (!strcmp (event, "setup"))
        rc = setup (c, o, &f);
    else if (!strcmp (event, "start"))
        rc = start (c, &f);
    else if (!strcmp (event, "publish")) {
        if ((rc = publish (c, &f)) == 0)
            report (c, "published");
    }
    else if (!strcmp (event, "finish")) {
        c->finished = true;
        flux_reactor_stop (c->b->r);
    }
    else if (!strcmp (event, "abort"))
        abort_all (c);
    if (rc < 0)
        report_failure (c, &f);
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

static void limit_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct client *c = arg;
    char text[300];

    (void)r;
    (void)w;
    (void)revents;
    snprintf (text,
              sizeof (text),
              "rank 0 (%s) has not answered within %g s: is flux-tree installed there? "
              "'flux-tree doctor' says",
              bcast_host (c->b, 0),
              c->b->options->timeout);
    give_up (c, text);
}

static void progress_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct client *c = arg;
    uint64_t bytes = __atomic_load_n (&c->record.bytes_in, __ATOMIC_RELAXED);

    (void)r;
    (void)w;
    (void)revents;
    if (bytes != c->told && !c->received && !c->reported) {
        c->told = bytes;
        report (c, "running");
    }
}

int client_begin (struct client *c, struct fault *f)
{
    struct bcast *b = c->b;
    char address[ADDRESS_SIZE] = "";
    struct fault bad = { 0 };
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
        || !(c->limit_w = flux_timer_watcher_create (b->r, b->options->timeout, 0., limit_cb, c)))
        return fault_set (f, errno, b->rank, "cannot reach the first shell: %s", strerror (errno));
    flux_reactor_now_update (b->r);
    flux_timer_watcher_reset (c->limit_w, b->options->timeout, 0.);
    flux_watcher_start (c->limit_w);
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

struct record *client_record (struct client *c)
{
    return &c->record;
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

        flux_watcher_destroy (c->limit_w);
        flux_watcher_destroy (c->progress_w);
        flux_watcher_destroy (c->node_w);
        flux_future_destroy (c->hello);
        node_destroy (c->node);
        fetch_destroy (c->fetch);
        if (c->listen_fd >= 0)
            close (c->listen_fd);
        free (c);
        errno = saved_errno;
    }
}
