/* plugin.c - the shell plugin tree-bcast: puts a file, a directory or an
 * archive on every node of a job before its tasks start
 *
 * OPTIONS
 *
 *   -o tree-bcast=STRATEGY[,KEY=VALUE...]
 *   -o tree-bcast.KEY=VALUE
 *
 * KEYS
 *
 *   strategy     who passes it on to whom (two-tree)
 *   file         what travels; without it, an archive of 'flux archive create'
 *   archive      the name of that (main)
 *   destination  as in cp, {rank} and mustache templates work (FLUX_JOB_TMPDIR)
 *   transport    direct: between the nodes; content: through the brokers'
 *                content cache (direct)
 *   chunk-size   what moves at once (one that fits)
 *   bandwidth    of one NIC, to choose that by (FLUX_TREE_BANDWIDTH of the job's
 *                environment)
 *   security     tls or none: whether the data is encrypted (tls)
 *   timeout      give up after so long without progress (60s)
 *   overwrite    replace a destination that exists
 *   resume       use what an interrupted run left, or what stands at the
 *                destination: it is checked, and only the rest travels
 *   fsync        data and names are on disk before the tasks start
 *   digest       sha256:HEX of the one file that travels, else it fails
 *   members      all, leaves, middle-leaves, or shell ranks as in 0-3,7 (all)
 *   racks        strategy=auto or rack: a file with the racks of hosts, or a
 *                pattern that finds them in their names
 *   network      strategy=auto: a file of 'flux-tree calibrate' (FLUX_TREE_NETWORK
 *                of the job's environment, or its own place)
 *   on-failure   abort, or continue without the nodes that fail (abort)
 *   min-ranks    on-failure=continue: so many must get the data (1)
 *   report       write what every rank measured to this file, in JSON
 *   interface    the network interface to use (that of the TBON)
 *   workers      threads that move data (as many as fit)
 *   window       transport=content: requests in flight (as many as fit)
 *   progress     tell the first shell so often how far it is (never)
 *   plan         a plan that was made at submission
 *
 * Wiring up and the transfer belong in shell.post-init: services may be used
 * only after the barrier that stands before it.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "bcast.h"
#include "conceal.h"

/* How long a shell that has failed waits to be ended with its job, after what
 * the first one may take to write its report, seconds.
 */
#define GRACE 10.

/* That many fit into the time limit. */
#define SIGNS_OF_LIFE 10
#define TICK_MIN 0.5 /* seconds */

/* Some other plugin may end this shell at any time: exit_cb () cleans up. */
static struct bcast *current;

const char *bcast_host (struct bcast *b, int rank)
{
    const char *name = "unknown host";

    (void)flux_shell_rank_info_unpack (b->shell, rank, "{s:s}", "name", &name);
    return name;
}

flux_future_t *bcast_rpc (struct bcast *b, const char *method, json_t *o, int flags)
{
    return flux_shell_rpc_pack (b->shell, method, 0, flags, "O", o);
}

double bcast_tick (struct bcast *b)
{
    double tick = b->options->timeout / SIGNS_OF_LIFE;

    return tick > TICK_MIN ? tick : TICK_MIN;
}

int bcast_silent_max (struct bcast *b)
{
    /* one more: both sides' ticks are not in step */
    return 1 + (int)ceil (b->options->timeout / bcast_tick (b));
}

void bcast_forget (json_t *text)
{
    explicit_bzero ((char *)json_string_value (text), json_string_length (text));
}

static void bcast_destroy (struct bcast *b)
{
    if (b) {
        if (current == b)
            current = NULL;
        client_destroy (b->client);
        server_destroy (b->server);
        options_destroy (b->options);
        free (b);
    }
}

static struct bcast *bcast_create (flux_shell_t *shell, json_t *config)
{
    struct bcast *b;

    if (!(b = calloc (1, sizeof (*b))))
        return NULL;
    b->shell = shell;
    b->umask = umask (077);
    umask (b->umask);
    if (!(b->h = flux_shell_get_flux (shell)) || !(b->r = flux_get_reactor (b->h))
        || flux_shell_info_unpack (shell, "{s:i s:i}", "rank", &b->rank, "size", &b->size) < 0)
        goto error;
    b->options = options_create (config, &b->fault);
    if (b->options
        && (!(b->client = client_create (b))
            || (b->rank == 0 && !(b->server = server_create (b)))))
        goto error;
    return b;
error:
    bcast_destroy (b);
    return NULL;
}

static void signal_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    struct bcast *b = arg;

    (void)w;
    (void)revents;
    b->terminated = true;
    flux_reactor_stop (r);
}

static void timer_cb (flux_reactor_t *r, flux_watcher_t *w, int revents, void *arg)
{
    bool *expired = arg;

    (void)w;
    (void)revents;
    *expired = true;
    flux_reactor_stop (r);
}

/* The job ends: the first shell has said why, unless it is the one that is
 * missed.
 */
static void wait_for_end (struct bcast *b)
{
    double grace = GRACE + (b->options ? b->options->timeout : 0.);
    bool expired = false;
    flux_watcher_t *w = flux_timer_watcher_create (b->r, grace, 0., timer_cb, &expired);

    if (b->server)
        server_close (b->server);
    flux_watcher_start (w);
    while (!b->terminated && !b->fault.text[0] && !expired) {
        if (flux_reactor_run (b->r, 0) < 0)
            break;
    }
    if (!b->terminated)
        shell_die (1, "%s", b->fault.text[0] ? b->fault.text : "the broadcast has failed");
    exit (1);
}

static void run (struct bcast *b)
{
    flux_watcher_t *w[2];
    int signals[2] = { SIGTERM, SIGINT };
    int dumpable = prctl (PR_GET_DUMPABLE);
    bool failed;

    /* as long as it has the key */
    if (conceal () < 0)
        shell_warn ("this shell's memory may be dumped: %s", strerror (errno));
    for (int i = 0; i < 2; i++) {
        if (!(w[i] = flux_signal_watcher_create (b->r, signals[i], signal_cb, b)))
            shell_die_errno (1, "cannot watch for signals");
        flux_watcher_start (w[i]);
    }
    /* the reactor has not run for long, and the limits begin now */
    flux_reactor_now_update (b->r);
    if (b->server)
        server_begin (b->server);
    failed = !b->options || client_begin (b->client, &b->fault) < 0
             || client_run (b->client) < 0;
    /* nothing of ours may stay, whatever becomes of this process; and what it
     * holds is not needed while the tasks run
     */
    if (failed) {
        client_destroy (b->client);
        b->client = NULL;
    }
    if (b->server && !b->terminated)
        server_end (b->server);
    else if (failed)
        wait_for_end (b);
    client_destroy (b->client);
    b->client = NULL;
    for (int i = 0; i < 2; i++)
        flux_watcher_destroy (w[i]);
    if (dumpable == 1)
        (void)prctl (PR_SET_DUMPABLE, dumpable);
}

static void exit_cb (void)
{
    if (current) {
        client_destroy (current->client);
        if (current->server)
            server_close (current->server);
    }
}

static int lost_cb (flux_plugin_t *p, const char *topic, flux_plugin_arg_t *args, void *data)
{
    struct bcast *b = flux_plugin_aux_get (p, "tree-bcast");
    int rank;

    (void)topic;
    (void)data;
    if (b && b->server
        && flux_plugin_arg_unpack (args, FLUX_PLUGIN_ARG_IN, "{s:i}", "shell_rank", &rank) == 0)
        server_lost (b->server, rank);
    return 0;
}

static int init_cb (flux_plugin_t *p, const char *topic, flux_plugin_arg_t *args, void *data)
{
    flux_shell_t *shell = flux_plugin_get_shell (p);
    json_t *config = NULL;
    struct bcast *b;

    (void)topic;
    (void)args;
    (void)data;
    if (flux_shell_getopt_unpack (shell, "tree-bcast", "o", &config) < 0)
        return -1;
    if (!config)
        return 0;
    if (!(b = bcast_create (shell, config))
        || flux_plugin_aux_set (p, "tree-bcast", b, (flux_free_f)bcast_destroy) < 0)
        shell_die_errno (1, "cannot set up the broadcast");
    current = b;
    if (atexit (exit_cb) != 0)
        shell_die (1, "cannot set up the broadcast: out of memory");
    /* one shell is enough to say it */
    if (!b->options && b->rank == 0)
        shell_die (1, "%s", b->fault.text);
    return 0;
}

static int post_init_cb (flux_plugin_t *p, const char *topic, flux_plugin_arg_t *args, void *data)
{
    struct bcast *b = flux_plugin_aux_get (p, "tree-bcast");

    (void)topic;
    (void)args;
    (void)data;
    if (b)
        run (b);
    return 0;
}

static const struct flux_plugin_handler handlers[] = {
    { "shell.init", init_cb, NULL },
    { "shell.post-init", post_init_cb, NULL },
    { "shell.lost", lost_cb, NULL },
    { 0 },
};

__attribute__ ((visibility ("default"))) int flux_plugin_init (flux_plugin_t *p)
{
    return flux_plugin_register (p, FLUX_SHELL_PLUGIN_NAME, handlers);
}
