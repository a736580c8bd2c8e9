/* loop.c - a thread that waits for events on its connections */
#include "loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"

#define TICK_MS 200
#define EVENTS_MAX 64
/* new connections before the others get their turn */
#define ACCEPTS_MAX 64

int loop_watch (struct loop *l, int fd, struct handler *h, bool wants_write)
{
    struct epoll_event ev = {
        .events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
        .data.ptr = h,
    };

    return epoll_ctl (l->epfd, EPOLL_CTL_ADD, fd, &ev);
}

int loop_rewatch (struct loop *l, int fd, struct handler *h, bool wants_write)
{
    struct epoll_event ev = {
        .events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
        .data.ptr = h,
    };

    return epoll_ctl (l->epfd, EPOLL_CTL_MOD, fd, &ev);
}

void loop_kick (struct loop *l)
{
    uint64_t one = 1;

    if (!atomic_exchange (&l->kicked, true)
        && write (l->kick_fd, &one, sizeof (one)) < 0)
        return; /* it cannot fail but when it is readable already */
}

static void kick_ready (struct handler *h, uint32_t events)
{
    struct loop *l = (struct loop *)((char *)h - offsetof (struct loop, kick));
    uint64_t count;

    (void)events;
    if (read (l->kick_fd, &count, sizeof (count)) < 0)
        return;
    atomic_store (&l->kicked, false);
    l->again = true;
}

/* A new connection, for the loop whose turn it is. */
static void take_in (struct loop *l, int fd)
{
    struct node *node = l->node;
    struct loop *to = &node->loops[l->next_loop];
    int strangers = atomic_load (&node->strangers);
    struct down *d;

    if (atomic_load (&node->ndowns) - strangers >= node->max_downs
        || strangers >= 2 * STRANGERS_MAX * node->nloops
        || !(d = down_create (to, fd))) {
        record_add (node->config.record, refused, 1);
        close (fd);
        return;
    }
    l->next_loop = (l->next_loop + node->nloops - 1) % node->nloops;
    pthread_mutex_lock (&to->inbox_lock);
    d->next = to->inbox;
    to->inbox = d;
    pthread_mutex_unlock (&to->inbox_lock);
    if (to == l)
        l->again = true;
    else
        loop_kick (to);
}

static void listen_ready (struct handler *h, uint32_t events)
{
    struct loop *l = (struct loop *)((char *)h - offsetof (struct loop, listen));

    (void)events;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4 (l->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                node_failf (l->node, errno, LOOP_NO_DESCRIPTORS);
            return;
        }
        take_in (l, fd);
    }
}

/* Whoever does not have the key cannot keep out those that do: these need a
 * moment to show it, and try again if they did not get that.
 */
static void make_room (struct loop *l)
{
    struct down *oldest = NULL;

    for (struct down *d = l->downs; d; d = d->next) {
        if (d->stranger && (!oldest || d->since_ns <= oldest->since_ns))
            oldest = d;
    }
    if (oldest)
        down_drop (oldest);
}

static void empty_inbox (struct loop *l)
{
    struct down *d;

    pthread_mutex_lock (&l->inbox_lock);
    d = l->inbox;
    l->inbox = NULL;
    pthread_mutex_unlock (&l->inbox_lock);
    while (d) {
        struct down *next = d->next;

        if (l->strangers >= STRANGERS_MAX)
            make_room (l);
        d->next = l->downs;
        l->downs = d;
        down_attach (d);
        d = next;
    }
}

static void bury (struct loop *l)
{
    struct down **p = &l->downs;

    while (*p) {
        struct down *d = *p;

        if (d->dead) {
            *p = d->next;
            down_destroy (d);
        }
        else
            p = &d->next;
    }
}

/* Said after each connection: with a slow disk, or a busy processor, to see to
 * all of them once may take longer than whoever hangs is waited for.
 */
static void be_alive (struct loop *l)
{
    int64_t now = clock_ns ();

    if (now - atomic_load (&l->alive_ns) < TICK_MS * 1000000LL)
        return;
    atomic_store (&l->alive_ns, now);
    node_report_alive (l->node);
}

static void pump_all (struct loop *l)
{
    empty_inbox (l);
    for (struct up *u = l->ups; u; u = u->next) {
        up_pump (u);
        if (u->scout)
            up_pump (u->scout);
        be_alive (l);
    }
    for (struct down *d = l->downs; d; d = d->next) {
        if (!d->dead)
            down_pump (d);
        be_alive (l);
    }
}

static void tick (struct loop *l, int64_t now)
{
    /* what no child reaches any more fades */
    for (int s = 0; l == l->node->loops && s < l->node->config.stripes; s++)
        atomic_store (&l->node->fastest[s], atomic_load (&l->node->fastest[s]) * 0.9);
    for (struct up **p = &l->ups; *p; p = &(*p)->next) {
        up_tick (*p);
        up_scout (p, now);
    }
    for (struct down *d = l->downs; d; d = d->next) {
        if (!d->dead)
            down_tick (d);
    }
}

static void add_ns (_Atomic int64_t *sum, int64_t ns)
{
    atomic_fetch_add_explicit (sum, ns, memory_order_relaxed);
}

/* The loop has slept. A parent has all of a chunk before it sends any of it, so
 * whoever waits for the rest of one waits for what is between them.
 */
static void count_wait (struct loop *l, int64_t ns)
{
    bool connected = false;
    bool in_chunk = false;

    if (!l->ups || up_is_done (l->ups))
        return;
    for (struct up *u = l->ups; u; u = u->next) {
        connected |= u->state == UP_RUNNING;
        if (u->filling) {
            in_chunk = true;
            if (u->fill.space == SPACE_PAYLOAD)
                add_ns (&l->node->link_ns[u->tree], ns);
        }
    }
    if (connected)
        add_ns (&l->wait_ns, ns);
    if (in_chunk)
        add_ns (&l->link_ns, ns);
}

static void *loop_run (void *arg)
{
    struct loop *l = arg;
    struct node *node = l->node;
    struct epoll_event events[EVENTS_MAX];
    int64_t last_tick = clock_ns ();

    pump_all (l);
    while (!atomic_load (&node->stopping)) {
        int64_t before = clock_ns ();
        /* even a busy loop has to see new connections, and the time */
        int n = epoll_wait (l->epfd, events, EVENTS_MAX, l->again ? 0 : TICK_MS);
        int64_t now = clock_ns ();

        if (n < 0 && errno != EINTR) {
            node_failf (node, errno, "epoll_wait: %s", strerror (errno));
            break;
        }
        count_wait (l, now - before);
        for (int i = 0; i < n; i++) {
            struct handler *h = events[i].data.ptr;
            h->ready (h, events[i].events);
            be_alive (l);
        }
        be_alive (l);
        if (l->again) {
            l->again = false;
            pump_all (l);
        }
        if (now - last_tick >= TICK_MS * 1000000LL) {
            tick (l, now);
            last_tick = now;
        }
        bury (l);
    }
    return NULL;
}

int loop_setup (struct loop *l, struct node *node)
{
    l->node = node;
    l->listen_fd = -1;
    l->kick_fd = -1;
    l->kick.ready = kick_ready;
    l->listen.ready = listen_ready;
    pthread_mutex_init (&l->inbox_lock, NULL);
    if ((l->epfd = epoll_create1 (EPOLL_CLOEXEC)) < 0
        || (l->kick_fd = eventfd (0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0
        || loop_watch (l, l->kick_fd, &l->kick, false) < 0)
        return -1;
    return 0;
}

int loop_start (struct loop *l)
{
    sigset_t all;
    sigset_t old;
    int errnum;

    if (l->listen_fd >= 0
        && loop_watch (l, l->listen_fd, &l->listen, false) < 0)
        return -1;
    /* signals are for the threads of whoever runs us; and a write to a lost
     * peer must not raise SIGPIPE
     */
    sigfillset (&all);
    pthread_sigmask (SIG_SETMASK, &all, &old);
    errnum = pthread_create (&l->thread, NULL, loop_run, l);
    pthread_sigmask (SIG_SETMASK, &old, NULL);
    if (errnum != 0) {
        errno = errnum;
        return -1;
    }
    l->started = true;
    return 0;
}

void loop_stop (struct loop *l)
{
    if (l->started) {
        loop_kick (l);
        pthread_join (l->thread, NULL);
        l->started = false;
    }
}

void loop_cleanup (struct loop *l)
{
    struct up *u = l->ups;

    empty_inbox (l);
    while (u) {
        struct up *next = u->next;
        up_destroy (u);
        u = next;
    }
    while (l->downs) {
        struct down *d = l->downs;
        l->downs = d->next;
        down_destroy (d);
    }
    if (l->epfd >= 0)
        close (l->epfd);
    if (l->kick_fd >= 0)
        close (l->kick_fd);
    pthread_mutex_destroy (&l->inbox_lock);
}
