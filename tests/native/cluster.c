/* cluster.c - several ranks as nodes of one process, over the loopback */
#include "cluster.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "shape.h"
#include "tree_check.h"

static int listen_on (char *address)
{
    struct sockaddr_in sin = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
    };
    socklen_t len = sizeof (sin);
    int fd;

    must ((fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
    must (bind (fd, (struct sockaddr *)&sin, len) == 0 && listen (fd, SOMAXCONN) == 0
          && getsockname (fd, (struct sockaddr *)&sin, &len) == 0);
    snprintf (address, 32, "127.0.0.1:%d", ntohs (sin.sin_port));
    return fd;
}

static void create_node (struct cluster *c, int rank)
{
    const struct cluster_config *cc = &c->config;
    const char *addresses[CLUSTER_MAX];
    unsigned char key[32];
    unsigned char id[16];
    char tmp[32];
    struct node_config nc = {
        .rank = rank,
        .size = cc->n,
        .stripes = c->plan->stripes,
        .parents = c->plan->parents,
        .addresses = addresses,
        .listen_fd = c->listeners[rank],
        .key = key,
        .id = id,
        .encrypt = cc->encrypt,
        .deliver = !(cc->relays >> rank & 1),
        .overwrite = cc->overwrite,
        .resume = cc->resume,
        .sha256 = cc->sha256,
        .measure_clock = 1,
        .destination = c->dests[rank],
        .tmp = tmp,
        .workers = cc->workers,
        .timeout = cc->timeout > 0 ? cc->timeout : 30,
        .epoch_ns = node_clock_ns (),
        .record = &c->records[rank],
    };

    for (int r = 0; r < cc->n; r++)
        addresses[r] = c->addresses[r];
    memcpy (key, c->key, sizeof (key));
    memcpy (id, c->id, sizeof (id));
    key[0] ^= cc->wrong_key >> rank & 1;
    id[0] ^= cc->wrong_id >> rank & 1;
    snprintf (tmp, sizeof (tmp), ".tmp-%d", rank);
    if (rank == 0) {
        nc.source = cc->source;
        nc.feed_fd = cc->feed_fd;
        nc.manifest = c->manifest;
        nc.manifest_size = c->manifest_size;
    }
    c->listeners[rank] = -1;
    c->nodes[rank] = node_create (&nc, &c->faults[rank]);
    if (!c->nodes[rank])
        printf ("# rank %d: %s\n", rank, c->faults[rank].text);
    must (c->nodes[rank]);
}

struct cluster *cluster_create (const struct cluster_config *config)
{
    struct cluster *c = calloc (1, sizeof (*c));
    struct fault f;

    must (c && config->n <= CLUSTER_MAX);
    c->config = *config;
    for (int i = 0; i < 32; i++)
        c->key[i] = 7 * i;
    for (int i = 0; i < 16; i++)
        c->id[i] = 11 * i;
    if (shape_plan (config->strategy, NULL, config->n, NULL, &c->plan, &f) < 0
        || !(c->manifest = config->items
                               ? node_compose (config->items,
                                               config->nitems,
                                               &c->manifest_size,
                                               &f)
                               : node_scan (config->source, &c->manifest_size, &f))
        || node_set_chunk_size (c->manifest,
                                c->manifest_size,
                                config->chunk_size,
                                &f)
               < 0) {
        printf ("# %s\n", f.text);
        must (false);
    }
    for (int r = 0; r < config->n; r++) {
        c->listeners[r] = listen_on (c->addresses[r]);
        snprintf (c->dests[r], sizeof (c->dests[r]), config->dest, r);
    }
    for (int r = 0; r < config->n; r++) {
        if (!(config->left_out >> r & 1))
            create_node (c, r);
    }
    return c;
}

void cluster_start (struct cluster *c, int rank)
{
    c->rc[rank] = node_start (c->nodes[rank], &c->faults[rank]) < 0 ? -1 : 1;
}

void cluster_start_all (struct cluster *c)
{
    for (int r = 0; r < c->config.n; r++) {
        if (c->nodes[r])
            cluster_start (c, r);
    }
}

void cluster_wait (struct cluster *c)
{
    for (;;) {
        struct pollfd fds[CLUSTER_MAX];
        int ranks[CLUSTER_MAX];
        int count = 0;

        for (int r = 0; r < c->config.n; r++) {
            if (c->nodes[r] && c->rc[r] == 1) {
                fds[count].fd = node_fd (c->nodes[r]);
                fds[count].events = POLLIN;
                ranks[count++] = r;
            }
        }
        if (count == 0)
            return;
        must (poll (fds, count, 60000) > 0);
        for (int i = 0; i < count; i++) {
            int r = ranks[i];

            if (!fds[i].revents)
                continue;
            /* who has failed goes away, and its children see that */
            if ((c->rc[r] = node_seal (c->nodes[r], &c->faults[r])) < 0)
                cluster_end (c, r);
        }
    }
}

void cluster_wait_sealed (struct cluster *c, int rank)
{
    while (c->rc[rank] == 1) {
        struct pollfd fd = { .fd = node_fd (c->nodes[rank]), .events = POLLIN };

        must (poll (&fd, 1, 20000) == 1);
        c->rc[rank] = node_seal (c->nodes[rank], &c->faults[rank]);
    }
}

void cluster_wait_chunk (struct cluster *c, int rank)
{
    struct pollfd fd = { .fd = node_fd (c->nodes[rank]), .events = POLLIN };

    while (__atomic_load_n (&c->records[rank].chunks_in, __ATOMIC_RELAXED) == 0
           && poll (&fd, 1, 1) == 0)
        continue;
}

void cluster_publish (struct cluster *c)
{
    for (int r = 0; r < c->config.n; r++) {
        if (c->nodes[r] && c->rc[r] == 0)
            c->rc[r] = node_publish (c->nodes[r], &c->faults[r]);
    }
}

void cluster_end (struct cluster *c, int rank)
{
    node_destroy (c->nodes[rank]);
    c->nodes[rank] = NULL;
}

void cluster_end_all (struct cluster *c)
{
    for (int r = 0; r < c->config.n; r++)
        cluster_end (c, r);
}

void cluster_destroy (struct cluster *c)
{
    cluster_end_all (c);
    for (int r = 0; r < c->config.n; r++) {
        if (c->listeners[r] >= 0)
            close (c->listeners[r]);
    }
    plan_destroy (c->plan);
    node_free (c->manifest);
    free (c);
}

void cluster_run (const struct cluster_config *config)
{
    struct cluster *c = cluster_create (config);

    cluster_start_all (c);
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    for (int r = 0; r < config->n; r++) {
        const struct record *rec = &c->records[r];

        if (!ok (c->rc[r] == 0)) {
            printf ("# %s, rank %d of %d: %s\n",
                    config->strategy,
                    r,
                    config->n,
                    c->faults[r].text);
            continue;
        }
        ok (rec->state == RECORD_COMPLETE && rec->bad_chunks == 0);
        if (config->relays >> r & 1)
            ok (access (c->dests[r], F_OK) < 0);
        else
            ok (same_tree (config->source, c->dests[r]));
    }
    cluster_destroy (c);
}

bool cluster_is_delivered (struct cluster *c, int rank)
{
    if (c->rc[rank] != 0)
        printf ("# rank %d: %s\n", rank, c->faults[rank].text);
    return c->rc[rank] == 0 && same_tree (c->config.source, c->dests[rank]);
}

void cluster_ok_failed (struct cluster *c, int rank, int errnum, const char *text)
{
    if (ok (c->rc[rank] < 0))
        ok_fault (&c->faults[rank], errnum, text);
}

int cluster_connect (struct cluster *c, int rank)
{
    struct sockaddr_in sin = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
        .sin_port = htons (atoi (strchr (c->addresses[rank], ':') + 1)),
    };
    int fd;

    must ((fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0
          && connect (fd, (struct sockaddr *)&sin, sizeof (sin)) == 0);
    return fd;
}
