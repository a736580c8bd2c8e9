/* node.c - one rank's run: set up, news that concern all of its threads, end */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "dest.h"
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

static void wake_owner (struct node *node)
{
    uint64_t one = 1;

    if (write (node->event_fd, &one, sizeof (one)) < 0)
        return; /* it cannot fail but when it is readable already */
}

void node_fail (struct node *node, const struct fault *f)
{
    pthread_mutex_lock (&node->lock);
    if (!node->failed) {
        node->failed = true;
        node->fault = *f;
        if (node->fault.rank < 0)
            node->fault.rank = node->config.rank;
    }
    pthread_mutex_unlock (&node->lock);
    atomic_store (&node->stopping, true);
    node_kick (node, NULL);
    wake_owner (node);
}

void node_failf (struct node *node, int errnum, const char *fmt, ...)
{
    struct fault f;
    va_list ap;

    va_start (ap, fmt);
    fault_vset (&f, errnum, node->config.rank, fmt, ap);
    va_end (ap);
    node_fail (node, &f);
}

void node_kick (struct node *node, struct loop *self)
{
    for (int i = 0; i < node->nloops; i++) {
        if (&node->loops[i] == self)
            self->again = true;
        else
            loop_kick (&node->loops[i]);
    }
}

static void set_double (double *p, double v)
{
    __atomic_store (p, &v, __ATOMIC_RELAXED);
}

/* Called with the lock held. */
static void report_time (struct node *node, enum node_time what)
{
    struct record *r = node->config.record;
    double *fields[TIME_COUNT] = {
        [TIME_STARTED] = &r->started,
        [TIME_CONNECTED] = &r->connected,
        [TIME_FIRST_BYTE] = &r->first_byte,
        [TIME_LAST_BYTE] = &r->last_byte,
        [TIME_VERIFIED] = &r->verified,
        [TIME_RENAMED] = &r->renamed,
    };

    if (node->times[what] != 0)
        set_double (fields[what],
                    (node->times[what] + node->clock_offset
                     - node->config.epoch_ns)
                        / 1e9);
}

void node_mark (struct node *node, enum node_time what, bool again)
{
    int64_t now = clock_ns ();

    pthread_mutex_lock (&node->lock);
    if (node->times[what] == 0 || again) {
        node->times[what] = now;
        if (atomic_load (&node->clock_known))
            report_time (node, what);
    }
    pthread_mutex_unlock (&node->lock);
}

void node_set_clock (struct node *node, int64_t offset, int64_t error)
{
    struct record *r = node->config.record;
    bool first = !atomic_load (&node->clock_known);

    pthread_mutex_lock (&node->lock);
    if (first || error < node->clock_error) {
        node->clock_offset = offset;
        node->clock_error = error;
        set_double (&r->clock_offset, offset / 1e9);
        set_double (&r->clock_error, error / 1e9);
        for (int i = 0; i < TIME_COUNT; i++)
            report_time (node, i);
    }
    pthread_mutex_unlock (&node->lock);
    atomic_store (&node->clock_known, true);
    if (first)
        node_kick (node, NULL);
}

int node_offer (struct node *node,
                uint64_t manifest_bytes,
                struct sum manifest_sum,
                struct loop *self)
{
    int rc = 0;

    if (manifest_bytes == 0 || manifest_bytes > MANIFEST_BYTES_MAX) {
        errno = EPROTO;
        return -1;
    }
    pthread_mutex_lock (&node->lock);
    if (!node->blob) {
        node->blob_size = manifest_bytes;
        node->blob_sum = manifest_sum;
        node->tables[SPACE_MANIFEST] = table_create (manifest_bytes,
                                                     MANIFEST_CHUNK_SIZE,
                                                     node->config.stripes,
                                                     false);
        if (!(node->blob = malloc (manifest_bytes))
            || !node->tables[SPACE_MANIFEST])
            rc = -1;
        else
            atomic_store (&node->offered, true);
    }
    else if (node->blob_size != manifest_bytes
             || !sum_equal (node->blob_sum, manifest_sum)) {
        errno = EPROTO;
        rc = -1;
    }
    pthread_mutex_unlock (&node->lock);
    if (rc < 0 && errno != EPROTO)
        node_failf (node, ENOMEM, "out of memory for the manifest");
    else
        node_kick (node, self);
    return rc;
}

/* What has to be there before payload can be stored. */
static int prepare (struct node *node, struct fault *f)
{
    struct node_config *c = &node->config;
    int slots = c->stripes + node->nloops + HELD_SLOTS_MAX + 2;

    if (!(node->tables[SPACE_PAYLOAD] = table_create (node->manifest->bytes,
                                                      node->manifest->chunk_size,
                                                      c->stripes,
                                                      node->is_root))
        || !(node->cache = cache_create (slots, node->manifest->chunk_size)))
        return fault_set (f, ENOMEM, c->rank, "out of memory");
    if (node->is_root) {
        int same = 0;

        if (c->deliver
            && (same = dest_is_source (c->destination,
                                       manifest_name (node->manifest, 0),
                                       c->source,
                                       c->overwrite,
                                       f))
                   < 0)
            return -1;
        if (same || !c->deliver)
            return 0; /* it has the data where it wants it */
    }
    /* a relay's copy never gets a name, so no other is in its way */
    if (!(node->dest = store_create (node->manifest,
                                     c->destination,
                                     c->tmp,
                                     c->overwrite || !c->deliver,
                                     f)))
        return -1;
    return 0;
}

void node_manifest_landed (struct node *node, struct loop *self)
{
    struct fault f;

    if (!sum_equal (sum_of (node->blob, node->blob_size), node->blob_sum))
        node_failf (node, EBADMSG, "the manifest is not the root's");
    else if (!(node->manifest = manifest_decode (node->blob,
                                                 node->blob_size,
                                                 &f))
             || prepare (node, &f) < 0)
        node_fail (node, &f);
    else {
        /* to make many directories takes its time, which is no silence */
        atomic_store (&node->progress_ns, clock_ns ());
        atomic_store (&node->ready, true);
        node_check_received (node);
        node_kick (node, self);
    }
}

void node_digest (struct node *node, struct sum digest, struct loop *self)
{
    pthread_mutex_lock (&node->lock);
    if (!atomic_load (&node->digest_known)) {
        node->digest = digest;
        atomic_store (&node->digest_known, true);
    }
    pthread_mutex_unlock (&node->lock);
    node_check_received (node);
    node_kick (node, self);
}

void node_check_received (struct node *node)
{
    struct table *t;
    bool news = false;
    bool wrong = false;

    if (!atomic_load (&node->ready) || !atomic_load (&node->digest_known))
        return;
    t = node->tables[SPACE_PAYLOAD];
    if (!table_is_complete (t))
        return;
    pthread_mutex_lock (&node->lock);
    if (!node->received && (!node->is_root || node->copied)) {
        node->received = news = true;
        wrong = !sum_equal (table_digest (t), node->digest);
        /* before anybody can go on to the states after it */
        if (!wrong)
            __atomic_store_n (&node->config.record->state,
                              RECORD_RECEIVED,
                              __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock (&node->lock);
    if (wrong)
        node_failf (node, EBADMSG, "what was received is not what the root sent");
    else if (news) {
        node_mark (node, TIME_VERIFIED, false);
        wake_owner (node);
    }
}

struct slot *node_load (struct node *node, uint64_t chunk)
{
    struct table *t = node->tables[SPACE_PAYLOAD];
    uint32_t len = table_length (t, chunk);
    struct slot *slot;
    struct sum sum;
    struct sum known;
    struct fault f;

    if ((slot = cache_find (node->cache, chunk)))
        return slot;
    slot = cache_take (node->cache);
    if (store_read (node->is_root ? node->source : node->dest,
                    chunk * t->chunk_size,
                    slot->data,
                    len,
                    &f)
        < 0)
        goto error;
    sum = sum_of (slot->data, len);
    if (table_sum (t, chunk, &known)) {
        if (!sum_equal (sum, known)) {
            if (!node->is_root || store_check_unchanged (node->source, &f) == 0)
                fault_set (&f,
                           EBADMSG,
                           node->config.rank,
                           "chunk %ju was read back from disk with other "
                           "contents",
                           (uintmax_t)chunk);
            goto error;
        }
    }
    cache_publish (node->cache, slot, chunk);
    if (node->is_root) {
        table_land (t, chunk, sum);
        pthread_mutex_lock (&node->lock);
        pthread_cond_broadcast (&node->cond);
        pthread_mutex_unlock (&node->lock);
    }
    return slot;
error:
    cache_release (node->cache, slot);
    node_fail (node, &f);
    errno = f.errnum;
    return NULL;
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

    memset (r, 0, sizeof (*r));
    r->rank = node->config.rank;
    r->deliver = node->config.deliver;
    r->started = r->connected = r->first_byte = r->last_byte = r->verified =
        r->renamed = -1;
    for (int s = 0; s < MAX_STRIPES; s++)
        r->parents[s] = s >= node->config.stripes ? -2
                        : node->is_root           ? -1
                                                  : node->paths[s].ancestors->rank;
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
           && (c->rank == 0 || c->addresses)
           && ((c->rank == 0 && !c->deliver) || (c->destination && c->tmp));
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
    node->machine = get_machine ();
    if (copy_config (node, c) < 0
        || !(node->paths = calloc (c->stripes, sizeof (*node->paths))))
        goto error_errno;
    for (int s = 0; s < c->stripes; s++) {
        if (!node->is_root && find_path (node, c, s, f) < 0)
            goto error;
        for (int r = 0; r < c->size; r++) {
            if (c->parents[(size_t)s * c->size + r] == c->rank)
                node->has_children = true;
        }
    }
    node->max_downs = c->stripes * (c->size < 65536 ? c->size : 65536) + 64;
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
        if (prepare (node, f) < 0 || root_setup (node, f) < 0)
            return -1;
    }
    node_mark (node, TIME_STARTED, false);
    node->config.record->state = RECORD_RUNNING;
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

static void report_end (struct node *node)
{
    struct record *r = node->config.record;
    struct rusage ru;
    double disk = 0;
    int64_t wait_ns = 0;

    for (int i = 0; i < node->nloops; i++)
        wait_ns += atomic_load (&node->loops[i].wait_ns);
    if (node->nloops_up > 0)
        r->wait_data = wait_ns / 1e9 / node->nloops_up;
    if (node->source)
        disk += store_seconds (node->source);
    if (node->dest)
        disk += store_seconds (node->dest);
    r->wait_disk = disk;
    getrusage (RUSAGE_SELF, &ru);
    r->cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec
             + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    r->memory = (uint64_t)ru.ru_maxrss * 1024;
}

/* The rank has failed: say so to whoever watches the record. */
static int report_failure (struct node *node, struct fault *f)
{
    struct record *r = node->config.record;

    if (f->rank < 0)
        f->rank = node->config.rank;
    report_end (node);
    r->kind = f->kind;
    r->errnum = f->errnum;
    snprintf (r->text, sizeof (r->text), "%s", f->text);
    __atomic_store_n (&r->state, RECORD_FAILED, __ATOMIC_RELEASE);
    errno = f->errnum;
    return -1;
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
        return report_failure (node, f);
    return 0;
}

int node_publish (struct node *node, struct fault *f)
{
    if (node->config.deliver) {
        if (node->dest && store_publish (node->dest, f) < 0)
            return report_failure (node, f);
        node_mark (node, TIME_RENAMED, false);
    }
    report_end (node);
    __atomic_store_n (&node->config.record->state,
                      RECORD_COMPLETE,
                      __ATOMIC_RELEASE);
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
        for (int i = 0; i < node->nloops; i++)
            loop_cleanup (&node->loops[i]);
        free (node->loops);
        if (node->config.listen_fd >= 0)
            close (node->config.listen_fd);
        for (int s = 0; node->paths && s < node->config.stripes; s++)
            free (node->paths[s].ancestors);
        free (node->paths);
        store_destroy (node->dest);
        store_destroy (node->source);
        table_destroy (node->tables[SPACE_MANIFEST]);
        table_destroy (node->tables[SPACE_PAYLOAD]);
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
