/* test_crowd.c - more connections than a rank can serve, none of which has the
 * key, while another rank gets the payload
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "cluster.h"
#include "hostile.h"
#include "node_impl.h"

/* as processes may have few descriptors */
#define CROWDS 4
#define EACH 2500
#define WORKERS 2

/* A process that connects to the root, and says nothing. */
struct crowd {
    pid_t pid;
    int fd; /* a byte to it: begin; one from it: it has; another: end */
};

/* Forked before there are threads. */
static void crowd_create (struct crowd *w,
                          struct cluster *c,
                          void (*fn) (struct cluster *c, int fd))
{
    int fds[2];
    char byte;

    must (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    fflush (stdout);
    must ((w->pid = fork ()) >= 0);
    if (w->pid == 0) {
        prctl (PR_SET_PDEATHSIG, SIGKILL); /* the test may fail */
        must (read (fds[1], &byte, 1) == 1);
        fn (c, fds[1]);
        fflush (stdout);
        _exit (check_end ());
    }
    close (fds[1]);
    w->fd = fds[0];
}

static void crowd_start (struct crowd *w)
{
    char byte = 0;

    must (write (w->fd, &byte, 1) == 1 && read (w->fd, &byte, 1) == 1);
}

static void crowd_end (struct crowd *w)
{
    char byte = 0;
    int status;

    must (write (w->fd, &byte, 1) == 1);
    close (w->fd);
    must (waitpid (w->pid, &status, 0) == w->pid);
    ok (WIFEXITED (status) && WEXITSTATUS (status) == 0);
}

/* All of them stay open to the end. */
static void stay (struct cluster *c, int fd)
{
    struct rlimit limit;
    char byte = 0;

    must (getrlimit (RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    must (setrlimit (RLIMIT_NOFILE, &limit) == 0);
    for (int i = 0; i < EACH; i++)
        (void)cluster_connect (c, 0);
    must (write (fd, &byte, 1) == 1 && read (fd, &byte, 1) == 1);
}

static void test_idle (const char *dir)
{
    struct cluster *c = hostile_root (dir, 1);
    struct crowd crowds[CROWDS];
    struct rlimit limit;
    size_t before;

    must (getrlimit (RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_max < EACH + 100)
        check_skip ("a process may not have as many descriptors as it takes");
    for (int i = 0; i < CROWDS; i++)
        crowd_create (&crowds[i], c, stay);
    cluster_start (c, 0);
    /* as many as the root keeps are there: all that it needs for them is */
    crowd_start (&crowds[0]);
    before = hostile_memory ();
    for (int i = 1; i < CROWDS; i++)
        crowd_start (&crowds[i]);
    ok (hostile_memory () < before + HOSTILE_GROWTH_MAX);
    cluster_start (c, 1);
    cluster_wait (c);
    ok (hostile_refused (c) >= CROWDS * EACH - 2 * WORKERS * STRANGERS_MAX);
    ok (hostile_memory () < before + HOSTILE_GROWTH_MAX);
    for (int i = 0; i < CROWDS; i++)
        crowd_end (&crowds[i]);
    hostile_finish (c);
}

/* They come and go as fast as they can. */
static void storm (struct cluster *c, int fd)
{
    struct pollfd end = { .fd = fd, .events = POLLIN };
    struct linger reset = { .l_onoff = 1 };
    char byte = 0;

    must (write (fd, &byte, 1) == 1);
    while (poll (&end, 1, 0) == 0) {
        int conn = cluster_connect (c, 0);

        /* or the host runs out of ports */
        setsockopt (conn, SOL_SOCKET, SO_LINGER, &reset, sizeof (reset));
        close (conn);
    }
}

static void test_storm (const char *dir)
{
    struct cluster *c = hostile_root (dir, 1);
    struct crowd crowds[CROWDS];
    size_t before;

    for (int i = 0; i < CROWDS; i++)
        crowd_create (&crowds[i], c, storm);
    cluster_start (c, 0);
    for (int i = 0; i < CROWDS; i++)
        crowd_start (&crowds[i]);
    while (hostile_refused (c) < 1000)
        poll (NULL, 0, 1);
    before = hostile_memory ();
    cluster_start (c, 1);
    cluster_wait (c);
    ok (hostile_memory () < before + HOSTILE_GROWTH_MAX);
    for (int i = 0; i < CROWDS; i++)
        crowd_end (&crowds[i]);
    hostile_finish (c);
}

int main (void)
{
    run (test_idle);
    run (test_storm);
    return check_end ();
}
