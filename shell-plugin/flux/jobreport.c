/* jobreport.c - where the report of a broadcast goes */
#include "jobreport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The report without what stands in the KVS beside it. */
static char *make_event (json_t *report)
{
    static const char *keys[] = {
        "ok", "error", "failed", "strategy", "transport", "source", "bytes", "files", "elapsed",
    };
    json_t *context = json_object ();
    json_t *event;
    char *text;
    char *line = NULL;

    for (size_t i = 0; i < sizeof (keys) / sizeof (keys[0]); i++)
        json_object_set (context, keys[i], json_object_get (report, keys[i]));
    json_object_set_new (context, "ranks", json_integer (json_array_size (json_object_get (report, "records"))));
    if (!(event = json_pack ("{s:f s:s s:o}",
                             "timestamp", flux_reactor_time (),
                             "name", "tree-bcast",
                             "context", context)))
        return NULL;
    if ((text = json_dumps (event, JSON_COMPACT)) && asprintf (&line, "%s\n", text) < 0)
        line = NULL;
    free (text);
    json_decref (event);
    return line;
}

flux_future_t *jobreport_commit (struct bcast *b, json_t *report)
{
    flux_future_t *f = NULL;
    flux_kvs_txn_t *txn;
    char *event = NULL;

    if ((txn = flux_kvs_txn_create ()) && (event = make_event (report))
        && flux_kvs_txn_pack (txn, 0, "tree-bcast", "O", report) == 0
        && flux_kvs_txn_put (txn, FLUX_KVS_APPEND, "exec.eventlog", event) == 0)
        f = flux_kvs_commit (b->h, NULL, 0, txn);
    free (event);
    flux_kvs_txn_destroy (txn);
    return f;
}

/* Never half of it under its name. */
void jobreport_write (struct bcast *b, json_t *report)
{
    char *path = flux_shell_mustache_render (b->shell, b->options->report);
    char *tmp = NULL;
    int fd = -1;
    int errnum;

    if (!path || asprintf (&tmp, "%s.XXXXXX", path) < 0) {
        tmp = NULL;
        goto error;
    }
    if ((fd = mkostemp (tmp, O_CLOEXEC)) < 0)
        goto error;
    if (json_dumpfd (report, fd, JSON_COMPACT) < 0 || write (fd, "\n", 1) != 1
        || fchmod (fd, 0666 & ~b->umask) < 0 || rename (tmp, path) < 0) {
        errnum = errno;
        unlink (tmp);
        errno = errnum;
        goto error;
    }
    goto done;
error:
    shell_log_error ("report %s: %s", b->options->report, strerror (errno));
done:
    if (fd >= 0)
        close (fd);
    free (tmp);
    free (path);
}
