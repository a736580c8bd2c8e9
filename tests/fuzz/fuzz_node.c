/* fuzz_node.c - a node that has no threads, and the peer's end of a connection */
#include "fuzz_node.h"

#include <dirent.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fuzz.h"

static char dir[128];

static void remove_dir (void)
{
    (void)unlink (path ("%s/source", dir));
    (void)rmdir (dir);
}

const char *fuzz_dir (void)
{
    const char *tmp = getenv ("TMPDIR");

    if (dir[0] == '\0') {
        snprintf (dir, sizeof (dir), "%s/flux-tree-fuzz-XXXXXX", tmp ? tmp : "/tmp");
        must (mkdtemp (dir));
        atexit (remove_dir);
    }
    return dir;
}

void fuzz_discard_partial (void)
{
    char dest[sizeof (dir) + 8];
    DIR *dp = opendir (dir);
    struct dirent *d;

    snprintf (dest, sizeof (dest), "%s/x", dir);
    must (dp);
    while ((d = readdir (dp))) {
        if (strncmp (d->d_name, ".flux-tree-partial-", 19) == 0)
            must (store_discard (dest, d->d_name) == 0);
    }
    closedir (dp);
}

struct node *fuzz_node_create (int rank,
                               int resume,
                               const char *source,
                               const unsigned char *manifest,
                               size_t manifest_size)
{
    static const int32_t parents[] = { -1, 0, 1 };
    /* nobody is there, and nobody connects */
    static const char *const addresses[] = { "127.0.0.1:1",
                                             "127.0.0.1:1",
                                             "127.0.0.1:1" };
    static struct record record;
    static unsigned char key[TLS_KEY_SIZE];
    struct wire_msg hello = fuzz_hello (rank);
    struct node_config config = {
        .rank = rank,
        .size = 3,
        .stripes = 1,
        .parents = parents,
        .addresses = addresses,
        .key = key,
        .id = hello.hello.id,
        .deliver = rank > 0,
        .resume = resume,
        .measure_clock = 1,
        .source = source,
        .manifest = manifest,
        .manifest_size = manifest_size,
        .destination = fuzz_dir (),
        .tmp = ".tmp",
        .workers = 1,
        .timeout = 60,
        .record = &record,
    };
    struct fault f;
    struct node *node;

    must ((config.listen_fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    must ((node = node_create (&config, &f)));
    return node;
}

int fuzz_peer_open (struct fuzz_peer *p)
{
    int fds[2];

    must (socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    memset (p, 0, sizeof (*p));
    p->conn.fd = fds[1];
    p->conn.clear = true;
    return fds[0];
}

void fuzz_peer_close (struct fuzz_peer *p)
{
    conn_close (&p->conn);
}

size_t fuzz_peer_send (struct fuzz_peer *p, const void *data, size_t size)
{
    ssize_t n = size > 0 ? conn_write (&p->conn, data, size) : 0;

    return n > 0 ? n : 0;
}

int fuzz_peer_receive (struct fuzz_peer *p, struct wire_msg *msg)
{
    int rc;

    if (!p->in_data) {
        if ((rc = conn_receive (&p->conn, msg)) <= 0) {
            holds (rc == 0 || errno != EPROTO);
            return rc;
        }
        if (msg->type != WIRE_DATA)
            return 1;
        holds (msg->data.length > 0 && msg->data.length <= sizeof (p->payload));
        p->in_data = true;
        p->data = *msg;
        p->have = 0;
    }
    while (p->have < p->data.data.length) {
        ssize_t n = conn_read (&p->conn,
                               p->payload + p->have,
                               p->data.data.length - p->have);

        if (n <= 0)
            return n;
        p->have += n;
    }
    holds (sum_equal (sum_of (p->payload, p->have), p->data.data.sum));
    p->in_data = false;
    *msg = p->data;
    return 1;
}
