/* client_setup.c - one shell's part in the plan, as a node or a fetch */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client_impl.h"
#include "clock.h"
#include "source.h"
#include "value.h"

/* More threads than this are of no use by themselves. */
#define WORKERS_FITTING 4

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
            config.feed_fd = source_take_feed (source);
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

static void fetched (struct fetch *fetch, void *arg)
{
    (void)fetch;
    client_seal (arg);
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
        .done = fetched,
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

int client_setup (struct client *c, json_t *o, struct fault *f)
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
        rc = client_start (c, f);
    return rc;
}
