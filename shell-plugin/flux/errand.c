/* errand.c - something that may take long, in a thread of its own */
#include "errand.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct errand {
    pthread_t thread;
    bool running;
    int event_fd;
    flux_watcher_t *w;
    errand_work_f work;
    errand_done_f done;
    void *arg;
    int rc;
    struct fault fault;
};

static void *run (void *arg)
{
    struct errand *e = arg;

    e->rc = e->work (e->arg, &e->fault);
    if (eventfd_write (e->event_fd, 1) < 0)
        abort (); /* cannot be: nobody has written before */
    return NULL;
}

static void done_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct errand *e = arg;
    struct fault f;

    (void)r;
    (void)revents;
    flux_watcher_stop (w);
    pthread_join (e->thread, NULL);
    e->running = false;
    f = e->fault;
    e->done (e->rc, &f, e->arg);
}

struct errand *errand_start (flux_reactor_t *r,
                             errand_work_f work,
                             errand_done_f done,
                             void *arg)
{
    struct errand *e;
    sigset_t all;
    sigset_t before;
    int rc;

    if (!(e = calloc (1, sizeof (*e))))
        return NULL;
    e->work = work;
    e->done = done;
    e->arg = arg;
    if ((e->event_fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0
        || !(e->w = flux_fd_watcher_create (r, e->event_fd, FLUX_POLLIN, done_cb, e)))
        goto error;
    flux_watcher_start (e->w);
    /* signals are for the shell's own thread */
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &before);
    rc = pthread_create (&e->thread, NULL, run, e);
    pthread_sigmask (SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        errno = rc;
        goto error;
    }
    e->running = true;
    return e;
error:
    errand_destroy (e);
    return NULL;
}

double errand_cpu (struct errand *e)
{
    struct timespec ts;
    clockid_t id;

    if (!e->running || pthread_getcpuclockid (e->thread, &id) != 0
        || clock_gettime (id, &ts) < 0)
        return -1;
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

void errand_destroy (struct errand *e)
{
    if (e) {
        int saved_errno = errno;

        if (e->running)
            pthread_join (e->thread, NULL);
        flux_watcher_destroy (e->w);
        if (e->event_fd >= 0)
            close (e->event_fd);
        free (e);
        errno = saved_errno;
    }
}
