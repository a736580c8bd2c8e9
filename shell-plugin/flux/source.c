/* source.c - what travels, at the first shell, and where it goes on each */
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"
#include "errand.h"
#include "fetch.h"
#include "node.h"
#include "pull.h"
#include "record.h"

struct source {
    struct bcast *b;
    source_ready_f ready;
    void *arg;
    struct fault fault;

    struct pull *pull;

    /* A walk may take long, on a slow file system, and so may a registry: a
     * thread waits for them.
     */
    struct errand *scan;
    unsigned char *manifest;
    size_t manifest_size;

    struct fetch *fetch;
    struct record record; /* of the fetch */
};

json_t *source_lookup (struct bcast *b, const char *name, struct fault *f)
{
    flux_future_t *future = NULL;
    json_t *archive = NULL;
    const char *text;
    char key[256];

    snprintf (key, sizeof (key), "archive.%s", name);
    if (!(future = flux_kvs_lookup (b->h, "primary", 0, key))
        || flux_kvs_lookup_get (future, &text) < 0)
        fault_set (f,
                   errno,
                   b->rank,
                   errno == ENOENT ? "there is no archive '%.100s': make one with 'flux archive "
                                     "create', or name a file with tree-bcast.file="
                                   : "archive '%.100s' cannot be read from the KVS: %s",
                   name,
                   strerror (errno));
    else
        archive = archive_load (text, f);
    if (!archive && f)
        f->kind = FAULT_SOURCE;
    flux_future_destroy (future);
    return archive;
}

/* {rank} first: it may stand inside a template. */
static char *replace_rank (const char *text, int rank)
{
    const char tag[] = "{rank}";
    size_t size = strlen (text) * 2 + 16;
    char *out = malloc (size);
    size_t len = 0;

    while (out && *text) {
        /* {{rank}} is a template, not ours */
        if (!strncmp (text, tag, strlen (tag)) && text[strlen (tag)] != '}') {
            len += snprintf (out + len, size - len, "%d", rank);
            text += strlen (tag);
        }
        else
            out[len++] = *text++;
    }
    if (out)
        out[len] = '\0';
    return out;
}

char *source_destination (struct bcast *b, struct fault *f)
{
    const char *given = b->options->destination;
    char *rendered = NULL;
    char *result = NULL;

    if (!given) {
        if (!(given = flux_shell_getenv (b->shell, "FLUX_JOB_TMPDIR"))) {
            fault_set (f,
                       ENOENT,
                       b->rank,
                       "FLUX_JOB_TMPDIR is not set: say where to with tree-bcast.destination=");
            return NULL;
        }
        if (!(result = strdup (given)))
            fault_set (f, ENOMEM, b->rank, "out of memory");
        return result;
    }
    if ((rendered = flux_shell_mustache_render (b->shell, given)))
        result = replace_rank (rendered, b->rank);
    free (rendered);
    if (!result)
        fault_set (f, ENOMEM, b->rank, "out of memory");
    return result;
}

void source_tmp (char tmp[TMP_SIZE], const unsigned char *id, int rank)
{
    size_t len = snprintf (tmp, TMP_SIZE, ".flux-tree-");

    for (int i = 0; i < ID_SIZE; i++)
        len += snprintf (tmp + len, TMP_SIZE - len, "%02x", id[i]);
    snprintf (tmp + len, TMP_SIZE - len, "-%d", rank);
}

static int scan (void *arg, struct fault *f)
{
    struct source *src = arg;

    if (src->pull)
        return pull_manifest (src->pull, &src->manifest, &src->manifest_size, f);
    src->manifest = node_scan (src->b->options->file, &src->manifest_size, f);
    return src->manifest ? 0 : -1;
}

static void scanned (int rc, const struct fault *f, void *arg)
{
    struct source *src = arg;

    src->ready (src, rc == 0 ? NULL : f, src->arg);
}

static void fetched (struct fetch *fetch, void *arg)
{
    struct source *src = arg;

    if (fetch_seal (fetch, &src->fault) < 0
        || !(src->manifest = fetch_manifest (fetch, &src->manifest_size, &src->fault)))
        src->ready (src, &src->fault, src->arg);
    else
        src->ready (src, NULL, src->arg);
}

static int begin_fetch (struct source *src, const unsigned char *id, int64_t epoch_ns)
{
    struct bcast *b = src->b;
    char tmp[TMP_SIZE];
    struct fetch_config config = {
        .name = b->options->archive,
        .tmp = tmp,
        .overwrite = b->options->overwrite,
        .sync = b->options->sync,
        .deliver = 1,
        .window = b->options->window,
        .timeout = b->options->timeout,
        .epoch_ns = epoch_ns,
        .rank = b->rank,
        .record = &src->record,
        .done = fetched,
        .arg = src,
    };
    json_t *archive = NULL;
    char *destination = NULL;
    int rc = -1;

    source_tmp (tmp, id, b->rank);
    if ((destination = source_destination (b, &src->fault))
        && (archive = source_lookup (b, b->options->archive, &src->fault))) {
        config.archive = archive;
        config.destination = destination;
        if ((src->fetch = fetch_create (b->h, &config, &src->fault)))
            rc = fetch_start (src->fetch, &src->fault);
    }
    json_decref (archive);
    free (destination);
    return rc;
}

struct source *source_create (struct bcast *b,
                              const unsigned char *id,
                              int64_t epoch_ns,
                              source_ready_f ready,
                              void *arg)
{
    struct source *src;
    int rc = 0;

    if (!(src = calloc (1, sizeof (*src))))
        return NULL;
    src->b = b;
    src->ready = ready;
    src->arg = arg;
    if (b->options->file && pull_is_reference (b->options->file)
        && !(src->pull = pull_start (b, &src->fault)))
        rc = -1;
    else if (b->options->file) {
        if (!(src->scan = errand_start (b->r, scan, scanned, src)))
            rc = fault_set (&src->fault, errno, b->rank, "%s", strerror (errno));
    }
    else
        rc = begin_fetch (src, id, epoch_ns);
    if (rc < 0)
        ready (src, &src->fault, arg);
    return src;
}

void source_destroy (struct source *src)
{
    if (src) {
        int saved_errno = errno;

        if (src->pull)
            pull_stop (src->pull);
        errand_destroy (src->scan);
        pull_destroy (src->pull);
        fetch_destroy (src->fetch);
        node_free (src->manifest);
        free (src);
        errno = saved_errno;
    }
}

const char *source_name (const struct source *src)
{
    const struct options *o = src->b->options;

    return o->file ? o->file : o->archive;
}

const char *source_path (const struct source *src)
{
    return src->fetch ? fetch_path (src->fetch) : src->b->options->file;
}

unsigned char *source_manifest (const struct source *src, size_t *size)
{
    *size = src->manifest_size;
    return src->manifest;
}

int source_take_feed (struct source *src)
{
    return src->pull ? pull_take_fd (src->pull) : 0;
}

bool source_is_fetched (const struct source *src)
{
    return src->fetch != NULL;
}

int source_publish (struct source *src, struct fault *f)
{
    return fetch_publish (src->fetch, f);
}
