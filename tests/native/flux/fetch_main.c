/* fetch_main.c - one rank's fetch as a program: for tests and measurements
 *
 *     fetch_main [-o] [-k] [-w WINDOW] [-t SECONDS] [-b RANKS] NAME DESTINATION
 *
 * Gets the archive NAME into DESTINATION and prints its record as one line of
 * JSON. -o: overwrite; -k: give it no final name, print the temporary one and what
 * the manifest says; -b: the brokers of all receivers, as 1,2,3.
 */
#include <errno.h>
#include <flux/core.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"
#include "clock.h"
#include "fetch.h"
#include "node.h"

static void done (struct fetch *fetch, void *arg)
{
    (void)fetch;
    flux_reactor_stop (flux_get_reactor (arg));
}

static json_t *lookup (flux_t *h, const char *name, struct fault *f)
{
    char key[256];
    const char *text;
    flux_future_t *future;
    json_t *o = NULL;

    snprintf (key, sizeof (key), "archive.%s", name);
    if (!(future = flux_kvs_lookup (h, "primary", 0, key))
        || flux_kvs_lookup_get (future, &text) < 0)
        fault_set (f, errno, -1, "%s: %s", key, strerror (errno));
    else
        o = archive_load (text, f);
    flux_future_destroy (future);
    return o;
}

static void print (const struct record *r)
{
    json_t *o = json_pack ("{s:i s:i s:i s:i s:f s:f s:f s:f s:f s:f s:I s:I s:I s:I "
                           "s:f s:f s:f s:I s:s}",
                           "rank", r->rank, "state", r->state, "kind", r->kind,
                           "errnum", r->errnum, "started", r->started,
                           "connected", r->connected, "first_byte", r->first_byte,
                           "last_byte", r->last_byte, "verified", r->verified,
                           "renamed", r->renamed, "bytes_in", (json_int_t)r->bytes_in,
                           "chunks_in", (json_int_t)r->chunks_in, "bad_chunks",
                           (json_int_t)r->bad_chunks, "retries",
                           (json_int_t)r->retries, "wait_data", r->wait_data,
                           "wait_disk", r->wait_disk, "cpu", r->cpu, "memory",
                           (json_int_t)r->memory, "text", r->text);

    json_dumpf (o, stdout, JSON_COMPACT);
    printf ("\n");
    json_decref (o);
}

/* The ranks of "1,2,3", as they are needed. */
static int read_ranks (char *text, uint32_t *ranks, int max)
{
    int n = 0;

    for (char *s = strtok (text, ","); s && n < max; s = strtok (NULL, ","))
        ranks[n++] = strtoul (s, NULL, 10);
    return n;
}

static int show (struct fetch *fetch, struct fault *f)
{
    unsigned char *manifest;
    struct node_summary s;
    size_t size;
    int rc;

    if (!(manifest = fetch_manifest (fetch, &size, f)))
        return -1;
    if ((rc = node_summarize (manifest, size, &s, f)) == 0)
        printf ("%s %ju %ju %ju %u\n",
                fetch_path (fetch),
                (uintmax_t)s.bytes,
                (uintmax_t)s.files,
                (uintmax_t)s.entries,
                s.chunk_size);
    free (manifest);
    return rc;
}

static int run (struct fetch_config *c, flux_t *h, bool keep, struct fault *f)
{
    struct fetch *fetch;
    int rc = -1;

    if (!(fetch = fetch_create (h, c, f)))
        return -1;
    if (fetch_start (fetch, f) == 0
        && flux_reactor_run (flux_get_reactor (h), 0) >= 0
        && fetch_seal (fetch, f) == 0 && (!keep || show (fetch, f) == 0)
        && fetch_publish (fetch, f) == 0)
        rc = 0;
    fetch_destroy (fetch);
    return rc;
}

int main (int argc, char *argv[])
{
    struct record record;
    struct fault f = { .text = "usage" };
    struct fetch_config c = { .deliver = 1, .timeout = 60, .record = &record };
    uint32_t brokers[1024];
    uint32_t rank;
    char tmp[64];
    json_t *archive;
    flux_t *h;
    int opt;
    int rc;

    record_init (&record, 0, 1);
    while ((opt = getopt (argc, argv, "okw:t:b:")) != -1) {
        if (opt == 'o')
            c.overwrite = 1;
        else if (opt == 'k')
            c.deliver = 0;
        else if (opt == 'w')
            c.window = atoi (optarg);
        else if (opt == 't')
            c.timeout = atof (optarg);
        else if (opt == 'b') {
            c.brokers = brokers;
            c.nbrokers = read_ranks (optarg, brokers, 1024);
        }
        else
            return 2;
    }
    if (argc - optind != 2)
        return 2;
    c.name = argv[optind];
    c.destination = argv[optind + 1];
    if (!(h = flux_open (NULL, 0)) || flux_get_rank (h, &rank) < 0) {
        perror ("flux_open");
        return 1;
    }
    c.rank = rank;
    c.epoch_ns = clock_ns ();
    snprintf (tmp, sizeof (tmp), ".flux-tree-%u-%d", rank, (int)getpid ());
    c.tmp = tmp;
    c.done = done;
    c.arg = h;
    if (!(archive = lookup (h, c.name, &f)))
        rc = record_failure (&record, &f);
    else {
        c.archive = archive;
        rc = run (&c, h, !c.deliver, &f);
    }
    json_decref (archive);
    flux_close (h);
    print (&record);
    return rc < 0 ? 1 : 0;
}
