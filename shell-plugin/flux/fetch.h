/* fetch.h - one rank gets an archive's data from the content cache
 *
 * The blobs are loaded from the brokers, each of which loads what it does not
 * have from the one above it (RFC 10), a window of them at a time; every digest
 * is checked, and every blob is written where it belongs as it comes. It all
 * happens in the reactor of the handle, in one thread. route.h says which
 * broker is asked.
 */
#ifndef FLUX_TREE_FETCH_H
#define FLUX_TREE_FETCH_H

#include <flux/core.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "record.h"

#define FETCH_WINDOW_DEFAULT 16
#define FETCH_WINDOW_MAX 1024

struct fetch;

/* Everything has come and is verified, or it has failed: fetch_seal says which.
 * The fetch may be destroyed in it.
 */
typedef void (*fetch_done_f) (struct fetch *fetch, void *arg);

struct fetch_config {
    const json_t *archive;   /* value of the KVS key archive.NAME */
    const char *name;        /* of the archive, for messages */
    const char *destination; /* a directory: existing, or to be made */
    const char *tmp;         /* temporary name in it, or beside it */
    int overwrite;
    int sync;                /* on disk before it gets its name */
    int deliver;             /* 0: never give it its name */
    int window;              /* blobs in flight; 0: as measured best */
    const uint32_t *brokers; /* rank of each receiver's broker; may be NULL */
    int nbrokers;
    double timeout;          /* seconds without progress: give up */
    int64_t epoch_ns;        /* begin of the broadcast, this rank's clock */
    int rank;                /* for messages and the record */
    struct record *record;   /* where to report; must outlive the fetch */
    fetch_done_f done;
    void *arg;
};

/* Reads the archive and makes the temporary. Everything in the config is copied
 * but the record; the archive is not needed afterwards. When it fails, the
 * record says so too.
 */
struct fetch *fetch_create (flux_t *h,
                            const struct fetch_config *config,
                            struct fault *f);

/* Ask for the first blobs. 'done' is called later, in the reactor, once, unless
 * this fails.
 */
int fetch_start (struct fetch *fetch, struct fault *f);

/* As node_seal and node_publish: complete the data (modes, times), then put it
 * under its final name. fetch_seal is to be called after 'done', and returns -1
 * with the reason if this rank has failed, here or before.
 */
int fetch_seal (struct fetch *fetch, struct fault *f);
int fetch_publish (struct fetch *fetch, struct fault *f);

/* The manifest of what is fetched, encoded, malloced, and where it stands from
 * fetch_create until fetch_publish (sealed after fetch_seal): enough for a node
 * to be the root with it.
 */
unsigned char *fetch_manifest (const struct fetch *fetch,
                               size_t *size,
                               struct fault *f);
const char *fetch_path (const struct fetch *fetch);
uint64_t fetch_bytes (const struct fetch *fetch);
uint64_t fetch_files (const struct fetch *fetch);

/* Removes what has no final name yet. May be called at any time. */
void fetch_destroy (struct fetch *fetch);

#endif
