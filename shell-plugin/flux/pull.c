/* pull.c - a source in a registry: a Python of flux-tree pulls it */
#include "pull.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "feed.h"
#include "manifest.h"

/* of the time limit: it is to say why nothing comes before others find that */
#define PATIENCE 0.75
/* how long it is given to end, and how often that is looked at */
#define GRACE_MS 3000
#define PAUSE_MS 5

/* without the current folder, in which a file may be named as a module is */
static const char program[] =
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from flux_tree._registry.__main__ import main; sys.exit(main(sys.argv[1:]))";

struct pull {
    struct bcast *b;
    pid_t pid;    /* 0: none */
    int in_fd;    /* its standard input, which ends when we do */
    int feed_fd;  /* its standard output */
};

bool pull_is_reference (const char *file)
{
    return !strncmp (file, "oci://", 6) || !strncmp (file, "oci+http://", 11);
}

static int fail (struct pull *p, struct fault *f, int errnum, const char *why)
{
    fault_set (f, errnum, p->b->rank, "source %.200s: %s", p->b->options->file, why);
    f->kind = FAULT_SOURCE;
    return -1;
}

/* One line of the file that 'flux-tree install' leaves beside this plugin. */
static char *read_installed (void)
{
    char path[PATH_MAX];
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    char *slash;
    Dl_info info;
    FILE *stream;

    if (!dladdr (program, &info)
        || snprintf (path, sizeof (path), "%s", info.dli_fname) >= (int)sizeof (path)
        || !(slash = strrchr (path, '/'))
        || slash + sizeof ("/python") > path + sizeof (path))
        return NULL;
    strcpy (slash, "/python");
    if (!(stream = fopen (path, "re")))
        return NULL;
    len = getline (&line, &size, stream);
    fclose (stream);
    while (len > 0 && line[len - 1] == '\n')
        line[--len] = '\0';
    if (len <= 0) {
        free (line);
        return NULL;
    }
    return line;
}

/* The interpreter that has flux_tree: malloced, or NULL. */
static char *find_python (struct bcast *b)
{
    const char *given = b->options->python;

    if (!given)
        given = flux_shell_getenv (b->shell, "FLUX_TREE_PYTHON");
    return given && *given ? strdup (given) : read_installed ();
}

static void free_list (char **list)
{
    for (char **p = list; p && *p; p++)
        free (*p);
    free (list);
}

/* The job's environment, which says where its user's logins are. */
static char **job_environment (struct bcast *b)
{
    json_t *o = NULL;
    const char *name;
    json_t *value;
    char *text;
    char **list = NULL;
    size_t n = 0;

    if (flux_shell_get_environ (b->shell, &text) < 0)
        return NULL;
    o = json_loads (text, 0, NULL);
    free (text);
    if (!o || !(list = calloc (json_object_size (o) + 1, sizeof (*list))))
        goto error;
    json_object_foreach (o, name, value) {
        if (asprintf (&list[n], "%s=%s", name, json_string_value (value)) < 0) {
            list[n] = NULL;
            goto error;
        }
        n++;
    }
    json_decref (o);
    return list;
error:
    json_decref (o);
    free_list (list);
    errno = ENOMEM;
    return NULL;
}

/* An errno value, or 0. */
static int spawn (struct pull *p, const char *python, char **env, int in_fd, int out_fd)
{
    char timeout[32];
    const char *argv[] = { python,    "-c",    program, p->b->options->file,
                           "--timeout", timeout, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t set;
    int rc;

    snprintf (timeout, sizeof (timeout), "%.3f", p->b->options->timeout * PATIENCE);
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, in_fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2 (&actions, out_fd, STDOUT_FILENO);
    posix_spawnattr_init (&attr);
    sigemptyset (&set);
    posix_spawnattr_setsigmask (&attr, &set);
    sigfillset (&set);
    posix_spawnattr_setsigdefault (&attr, &set);
    posix_spawnattr_setpgroup (&attr, 0);
    posix_spawnattr_setflags (&attr,
                              POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
                                  | POSIX_SPAWN_SETPGROUP);
    rc = posix_spawnp (&p->pid, python, &actions, &attr, (char *const *)argv, env);
    if (rc != 0)
        p->pid = 0;
    posix_spawnattr_destroy (&attr);
    posix_spawn_file_actions_destroy (&actions);
    return rc;
}

static int start (struct pull *p, const char *python, struct fault *f)
{
    int in[2] = { -1, -1 };
    int out[2] = { -1, -1 };
    char **env = NULL;
    int errnum = 0;
    char why[300];

    if (pipe2 (in, O_CLOEXEC) < 0 || pipe2 (out, O_CLOEXEC) < 0
        || !(env = job_environment (p->b)))
        errnum = errno;
    else
        errnum = spawn (p, python, env, in[0], out[1]);
    free_list (env);
    if (in[0] >= 0)
        close (in[0]);
    if (out[1] >= 0)
        close (out[1]);
    p->in_fd = in[1];
    p->feed_fd = out[0];
    if (errnum == 0)
        return 0;
    snprintf (why,
              sizeof (why),
              "the Python of flux_tree, %.160s: cannot be run (%s), set it anew with "
              "'flux-tree env'",
              python,
              strerror (errnum));
    return fail (p, f, errnum, why);
}

struct pull *pull_start (struct bcast *b, struct fault *f)
{
    struct pull *p;
    char *python = NULL;
    int rc = -1;

    if (!(p = calloc (1, sizeof (*p)))) {
        fault_set (f, ENOMEM, b->rank, "out of memory");
        return NULL;
    }
    p->b = b;
    p->in_fd = -1;
    p->feed_fd = -1;
    if (!(python = find_python (b)))
        fail (p,
              f,
              ENOENT,
              "it is not known which Python has flux_tree, to pull it: set FLUX_TREE_PYTHON "
              "with 'flux-tree env'");
    else
        rc = start (p, python, f);
    free (python);
    if (rc < 0) {
        pull_destroy (p);
        return NULL;
    }
    return p;
}

static int read_full (struct pull *p, void *buf, size_t len, struct fault *f)
{
    unsigned char *at = buf;

    while (len > 0) {
        ssize_t n = read (p->feed_fd, at, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail (p, f, errno, strerror (errno));
        if (n == 0)
            return fail (p,
                         f,
                         EPIPE,
                         "who pulls it has died: is flux-tree[registry] installed there? The "
                         "output of the job's shell may say more");
        at += n;
        len -= n;
    }
    return 0;
}

int pull_manifest (struct pull *p, unsigned char **manifest, size_t *size, struct fault *f)
{
    unsigned char head[FEED_HEAD_SIZE];
    char text[FEED_TEXT_MAX + 1];
    struct feed_frame frame;

    if (read_full (p, head, sizeof (head), f) < 0)
        return -1;
    frame = feed_decode (head);
    if (frame.kind == FEED_FAIL && frame.length <= FEED_TEXT_MAX) {
        if (read_full (p, text, frame.length, f) < 0)
            return -1;
        text[frame.length] = '\0';
        feed_clean (text);
        fault_set (f, EIO, p->b->rank, "%s", text);
        f->kind = FAULT_SOURCE;
        return -1;
    }
    if (frame.kind != FEED_HEAD || frame.length > MANIFEST_BYTES_MAX)
        return fail (p, f, EPROTO, "who pulls it says what nobody understands");
    if (!(*manifest = malloc (frame.length + 1)))
        return fault_set (f, ENOMEM, p->b->rank, "out of memory");
    *size = frame.length;
    return read_full (p, *manifest, *size, f);
}

int pull_take_fd (struct pull *p)
{
    int fd = p->feed_fd;

    p->feed_fd = -1;
    return fd;
}

/* Has it gone, or was that seen by somebody else? As long as it has not, its
 * number is its own.
 */
static bool has_ended (struct pull *p)
{
    pid_t rc = waitpid (p->pid, NULL, WNOHANG);

    return rc > 0 || (rc < 0 && errno != EINTR);
}

/* At the end of its input it ends, and removes what it keeps on disk. */
void pull_stop (struct pull *p)
{
    const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };

    if (p->in_fd >= 0)
        close (p->in_fd);
    p->in_fd = -1;
    for (int ms = 0; p->pid > 0; ms += PAUSE_MS) {
        if (has_ended (p))
            p->pid = 0;
        else if (ms >= GRACE_MS)
            kill (p->pid, SIGKILL);
        if (p->pid > 0)
            nanosleep (&pause, NULL);
    }
}

void pull_destroy (struct pull *p)
{
    if (p) {
        int saved_errno = errno;

        pull_stop (p);
        if (p->feed_fd >= 0)
            close (p->feed_fd);
        free (p);
        errno = saved_errno;
    }
}
