/* fdcache.c - a bounded set of open files, by entry of the manifest */
#include "fdcache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct file {
    uint32_t entry;
    int fd; /* -1: free */
    int users;
    uint64_t used;
};

struct fdcache {
    pthread_mutex_t lock;
    fdcache_open_f open_cb;
    void *arg;
    uint64_t clock;
    int errnum; /* of the first that could not be closed */
    struct file files[FDCACHE_SIZE];
};

struct fdcache *fdcache_create (fdcache_open_f open_cb, void *arg)
{
    struct fdcache *c;

    if (!(c = calloc (1, sizeof (*c))))
        return NULL;
    pthread_mutex_init (&c->lock, NULL);
    c->open_cb = open_cb;
    c->arg = arg;
    for (int i = 0; i < FDCACHE_SIZE; i++)
        c->files[i].fd = -1;
    return c;
}

static struct file *find (struct fdcache *c, uint32_t entry)
{
    for (int i = 0; i < FDCACHE_SIZE; i++) {
        if (c->files[i].fd >= 0 && c->files[i].entry == entry)
            return &c->files[i];
    }
    return NULL;
}

/* A free place, or the one that nobody holds and that was used longest ago. */
static struct file *find_room (struct fdcache *c)
{
    struct file *best = NULL;

    for (int i = 0; i < FDCACHE_SIZE; i++) {
        struct file *f = &c->files[i];

        if (f->fd < 0)
            return f;
        if (f->users == 0 && (!best || f->used < best->used))
            best = f;
    }
    return best;
}

int fdcache_acquire (struct fdcache *c, uint32_t entry)
{
    struct file *f;
    int fd = -1;

    /* held while the file is opened, so that no two threads open it */
    pthread_mutex_lock (&c->lock);
    if (!(f = find (c, entry))) {
        if (!(f = find_room (c))) {
            errno = EMFILE;
            goto done;
        }
        if (f->fd >= 0) {
            if (close (f->fd) < 0 && c->errnum == 0)
                c->errnum = errno;
            f->fd = -1;
        }
        if ((fd = c->open_cb (entry, c->arg)) < 0)
            goto done;
        f->fd = fd;
        f->entry = entry;
        f->users = 0;
    }
    f->users++;
    f->used = ++c->clock;
    fd = f->fd;
done:
    pthread_mutex_unlock (&c->lock);
    return fd;
}

void fdcache_release (struct fdcache *c, uint32_t entry)
{
    struct file *f;

    pthread_mutex_lock (&c->lock);
    if ((f = find (c, entry)))
        f->users--;
    pthread_mutex_unlock (&c->lock);
}

int fdcache_check (struct fdcache *c)
{
    int errnum;

    pthread_mutex_lock (&c->lock);
    errnum = c->errnum;
    pthread_mutex_unlock (&c->lock);
    if (errnum == 0)
        return 0;
    errno = errnum;
    return -1;
}

void fdcache_destroy (struct fdcache *c)
{
    if (c) {
        int saved_errno = errno;
        for (int i = 0; i < FDCACHE_SIZE; i++) {
            if (c->files[i].fd >= 0)
                close (c->files[i].fd);
        }
        pthread_mutex_destroy (&c->lock);
        free (c);
        errno = saved_errno;
    }
}
