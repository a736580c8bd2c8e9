/* hostile.c - a root, a rank that gets the payload from it, and room for those
 * that mean harm
 */
#include "hostile.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"

/* What is freed is kept back by AddressSanitizer, and would look like growth. */
const char *__asan_default_options (void)
{
    return "quarantine_size_mb=1";
}

size_t hostile_memory (void)
{
    FILE *f = fopen ("/proc/self/statm", "r");
    size_t size;
    size_t pages;

    must (f && fscanf (f, "%zu %zu", &size, &pages) == 2);
    fclose (f);
    return pages * sysconf (_SC_PAGESIZE);
}

struct cluster *hostile_root (const char *dir, int encrypt)
{
    struct cluster_config cc = {
        .strategy = "flat",
        .n = 3,
        .source = path ("%s/src", dir),
        .dest = path ("%s/out-%d-%%d", dir, encrypt),
        .workers = 2,
        .encrypt = encrypt,
        .chunk_size = HOSTILE_CHUNK,
        /* less than strangers have to show the key: waiting them out is no way */
        .timeout = 8,
        .relays = 1 << 0,
        .left_out = 1 << 2,
    };

    make_file (cc.source, 40 * HOSTILE_CHUNK + 1, 1);
    return cluster_create (&cc);
}

void hostile_finish (struct cluster *c)
{
    cluster_wait (c);
    cluster_publish (c);
    cluster_end_all (c);
    ok (c->rc[0] == 0 && cluster_is_delivered (c, 1));
    ok (c->records[1].bad_chunks == 0);
    cluster_destroy (c);
}

uint64_t hostile_refused (struct cluster *c)
{
    return __atomic_load_n (&c->records[0].refused, __ATOMIC_RELAXED);
}

bool hostile_is_refused (struct cluster *c, uint64_t n)
{
    for (int i = 0; i < 20000 && hostile_refused (c) < n; i++)
        poll (NULL, 0, 1);
    return hostile_refused (c) == n;
}

int hostile_dial (struct cluster *c)
{
    struct timeval limit = { .tv_sec = 20 };
    int fd = cluster_connect (c, 0);

    must (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof (limit)) == 0);
    return fd;
}

ssize_t hostile_hear_out (int fd)
{
    ssize_t total = 0;
    char buf[4096];
    ssize_t n;

    while ((n = recv (fd, buf, sizeof (buf), 0)) > 0)
        total += n;
    return n == 0 || errno == ECONNRESET ? total : -1;
}
