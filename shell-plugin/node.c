/* node.c - one rank's run: from its set-up to its end */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

/* Clocks are the same one where this number is: the boot of the kernel and
 * the time namespace.
 */
static uint64_t get_machine (void)
{
    char text[128] = { 0 };
    struct stat sb;
    int fd;

    if ((fd = open ("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC))
        >= 0) {
        if (read (fd, text, 64) < 0)
            text[0] = '\0';
        close (fd);
    }
    if (stat ("/proc/self/ns/time", &sb) == 0)
        snprintf (text + 64, 64, "%ju", (uintmax_t)sb.st_ino);
    return sum_of (text, sizeof (text)).lo;
}

/* "1.2.3.4:56" or "[::1]:56" */
static int parse_address (const char *text, struct ancestor *a)
{
    char host[INET6_ADDRSTRLEN + 2];
    const char *colon = text ? strrchr (text, ':') : NULL;
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *ai;
    size_t len;

    if (!colon)
        return -1;
    len = colon - text;
    if (text[0] == '[' && len > 2 && colon[-1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= sizeof (host))
        return -1;
    memcpy (host, text, len);
    host[len] = '\0';
    if (getaddrinfo (host, colon + 1, &hints, &ai) != 0)
        return -1;
    memcpy (&a->addr, ai->ai_addr, ai->ai_addrlen);
    a->len = ai->ai_addrlen;
    freeaddrinfo (ai);
    return 0;
}

/* The ancestors of this rank in one tree. */
static int find_path (struct node *node,
                      const struct node_config *c,
                      int tree,
                      struct fault *f)
{
    const int32_t *parents = c->parents + (size_t)tree * c->size;
    struct path *path = &node->paths[tree];
    int count = 0;
    int top = c->rank;

    for (int r = parents[c->rank]; r != -1; r = parents[r]) {
        if (r < 0 || r >= c->size || ++count >= c->size)
            break;
        top = r;
    }
    if (top != 0 || count >= c->size)
        return fault_set (f,
                          EINVAL,
                          c->rank,
                          "tree %d does not lead to the root",
                          tree);
    if (!(path->ancestors = calloc (count + 1, sizeof (*path->ancestors))))
        return fault_set (f, ENOMEM, c->rank, "out of memory");
    for (int r = parents[c->rank]; r != -1; r = parents[r]) {
        struct ancestor *a = &path->ancestors[path->count++];

        a->rank = r;
        if (parse_address (c->addresses[r], a) < 0)
            return fault_set (f,
                              EINVAL,
                              c->rank,
                              "rank %d has no valid address",
                              r);
    }
    return 0;
}

static int copy_config (struct node *node, const struct node_config *c)
{
    node->config = *c;
    node->config.parents = NULL;
    node->config.addresses = NULL;
    node->config.key = NULL;
    node->config.id = NULL;
    if (c->sha256) {
        memcpy (node->sha256, c->sha256, DIGEST_SIZE);
        node->config.sha256 = node->sha256;
    }
    node->config.manifest = NULL;
    node->config.source = NULL;
    node->config.destination = NULL;
    node->config.tmp = NULL;
    memcpy (node->key, c->key, sizeof (node->key));
    memcpy (node->id, c->id, sizeof (node->id));
    if ((c->source && !(node->config.source = strdup (c->source)))
        || (c->destination && !(node->config.destination = strdup (c->destination)))
        || (c->tmp && !(node->config.tmp = strdup (c->tmp))))
        return -1;
    if (c->manifest) {
        node->blob_size = c->manifest_size;
        if (!(node->blob = malloc (c->manifest_size)))
            return -1;
        memcpy (node->blob, c->manifest, c->manifest_size);
    }
    return 0;
}

static void init_record (struct node *node)
{
    struct record *r = node->config.record;

    record_init (r, node->config.rank, node->config.deliver);
    for (int s = 0; s < node->config.stripes; s++)
        r->parents[s] = node->is_root ? -1 : node->paths[s].ancestors->rank;
}

static int setup_loops (struct node *node)
{
    int n = node->config.workers;

    if (n < 1)
        n = 1;
    if (n > MAX_WORKERS)
        n = MAX_WORKERS;
    if (!(node->loops = calloc (n, sizeof (*node->loops))))
        return -1;
    for (int i = 0; i < n; i++) {
        node->nloops++;
        if (loop_setup (&node->loops[i], node) < 0)
            return -1;
    }
    for (int s = 0; !node->is_root && s < node->config.stripes; s++) {
        struct loop *l = &node->loops[s % n];
        struct up *u;

        if (!(u = up_create (l, s)))
            return -1;
        u->next = l->ups;
        l->ups = u;
    }
    node->nloops_up = node->is_root              ? 0
                      : node->config.stripes < n ? node->config.stripes
                                                 : n;
    /* children go to the loops that have no parent first */
    node->loops[0].listen_fd = node->config.listen_fd;
    node->loops[0].next_loop = n - 1;
    return 0;
}

static bool is_valid (const struct node_config *c)
{
    return c->size > 0 && c->rank >= 0 && c->rank < c->size && c->stripes > 0
           && c->stripes <= MAX_STRIPES && c->parents && c->key && c->id
           && c->record && (c->rank == 0) == (c->source != NULL)
           && (c->rank == 0) == (c->manifest != NULL)
           && (c->feed_fd == 0 || (c->rank == 0 && !c->resume && !c->sha256))
           && (c->rank == 0 || c->addresses)
           && ((c->rank == 0 && !c->deliver && c->feed_fd == 0)
               || (c->destination && c->tmp));
}

struct node *node_create (const struct node_config *c, struct fault *f)
{
    struct node *node = NULL;
    int flags;

    if (!is_valid (c)) {
        fault_set (f, EINVAL, c->rank, "the configuration of the rank is not valid");
        goto error;
    }
    if (!(node = calloc (1, sizeof (*node))))
        goto error_errno;
    pthread_mutex_init (&node->lock, NULL);
    pthread_cond_init (&node->cond, NULL);
    node->event_fd = -1;
    node->is_root = c->rank == 0;
    node->is_fed = c->feed_fd > 0;
    node->machine = get_machine ();
    if (copy_config (node, c) < 0
        || !(node->paths = calloc (c->stripes, sizeof (*node->paths))))
        goto error_errno;
    for (int s = 0; s < c->stripes; s++) {
        if (!node->is_root && find_path (node, c, s, f) < 0)
            goto error;
        for (int r = 0; r < c->size; r++) {
            if (c->parents[(size_t)s * c->size + r] == c->rank) {
                node->has_children = true;
                node->nchildren[s]++;
            }
        }
    }
    for (int s = 0; s < MAX_STRIPES; s++)
        atomic_init (&node->ahead[s], WIRE_NOBODY);
    /* children, scouts of others' children, and some that are not known to have
     * gone yet
     */
    node->max_downs = 2 * c->stripes * (c->size < 65536 ? c->size : 65536) + 64;
    if (!(node->tls = tls_create (node->key, f)))
        goto error;
    OPENSSL_cleanse (node->key, sizeof (node->key));
    init_record (node);
    if ((node->event_fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0
        || (flags = fcntl (c->listen_fd, F_GETFL)) < 0
        || fcntl (c->listen_fd, F_SETFL, flags | O_NONBLOCK) < 0
        || setup_loops (node) < 0)
        goto error_errno;
    return node;
error_errno:
    fault_set (f, errno, c->rank, "%s", strerror (errno));
error:
    if (!node && c->listen_fd >= 0)
        close (c->listen_fd);
    if (!node && c->feed_fd > 0)
        close (c->feed_fd);
    node_destroy (node);
    return NULL;
}

int node_start (struct node *node, struct fault *f)
{
    atomic_store (&node->progress_ns, clock_ns ());
    if (node->is_root) {
        if (!(node->manifest = manifest_decode (node->blob, node->blob_size, f)))
            return -1;
        node_set_clock (node, 0, 0);
        if (node_prepare (node, f) < 0 || root_setup (node, f) < 0)
            return -1;
    }
    if (digest_start (node, f) < 0)
        return -1;
    node_mark (node, TIME_STARTED, false);
    node->config.record->state = RECORD_RUNNING;
    for (int i = 0; i < node->nloops; i++)
        atomic_store (&node->loops[i].alive_ns, clock_ns ());
    for (int i = 0; i < node->nloops; i++) {
        if (loop_start (&node->loops[i]) < 0)
            return fault_set (f,
                              errno,
                              node->config.rank,
                              "cannot start a thread: %s",
                              strerror (errno));
    }
    return node->is_root ? root_start (node, f) : 0;
}

int node_fd (struct node *node)
{
    return node->event_fd;
}

int node_seal (struct node *node, struct fault *f)
{
    bool failed;
    bool received;

    pthread_mutex_lock (&node->lock);
    failed = node->failed;
    received = node->received;
    *f = node->fault;
    pthread_mutex_unlock (&node->lock);
    if (!failed && !received) {
        fault_set (f, EAGAIN, node->config.rank, "has not got everything yet");
        failed = true;
    }
    if (failed
        || (node->dest && node->config.deliver
            && store_seal (node->dest, f) < 0))
        return node_report_failure (node, f);
    return 0;
}

/* A rank that serves others may find that its disk has damaged a chunk, and is
 * then not complete until it has that again.
 */
static int wait_whole (struct node *node, struct fault *f)
{
    bool failed;

    pthread_mutex_lock (&node->lock);
    while (!(failed = node->failed)
           && !table_is_complete (node->tables[SPACE_PAYLOAD]))
        pthread_cond_wait (&node->cond, &node->lock);
    if (failed)
        *f = node->fault;
    pthread_mutex_unlock (&node->lock);
    return failed ? -1 : 0;
}

int node_publish (struct node *node, struct fault *f)
{
    if (wait_whole (node, f) < 0)
        return node_report_failure (node, f);
    if (node->config.deliver) {
        if (node->dest && store_publish (node->dest, f) < 0)
            return node_report_failure (node, f);
        node_mark (node, TIME_RENAMED, false);
    }
    node_report_end (node);
    record_set_state (node->config.record, RECORD_COMPLETE);
    return 0;
}

void node_destroy (struct node *node)
{
    if (node) {
        int saved_errno = errno;

        atomic_store (&node->stopping, true);
        for (int i = 0; i < node->nloops; i++)
            loop_stop (&node->loops[i]);
        root_stop (node);
        resume_stop (node);
        digest_stop (node);
        for (int i = 0; i < node->nloops; i++)
            loop_cleanup (&node->loops[i]);
        free (node->loops);
        if (node->config.listen_fd >= 0)
            close (node->config.listen_fd);
        if (node->is_fed)
            close (node->config.feed_fd);
        for (int s = 0; node->paths && s < node->config.stripes; s++)
            free (node->paths[s].ancestors);
        free (node->paths);
        store_destroy (node->dest);
        store_destroy (node->source);
        for (int i = 0; i < SPACE_COUNT; i++)
            table_destroy (node->tables[i]);
        cache_destroy (node->cache);
        manifest_destroy (node->manifest);
        free (node->blob);
        tls_destroy (node->tls);
        OPENSSL_cleanse (node->key, sizeof (node->key));
        if (node->event_fd >= 0)
            close (node->event_fd);
        pthread_cond_destroy (&node->cond);
        pthread_mutex_destroy (&node->lock);
        free ((char *)node->config.source);
        free ((char *)node->config.destination);
        free ((char *)node->config.tmp);
        free (node);
        errno = saved_errno;
    }
}

int64_t node_clock_ns (void)
{
    return clock_ns ();
}
