/* check.c - the little that a test program needs */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

struct text {
    struct text *next;
    char text[PATH_MAX];
};

static struct text *texts;

bool check_ok (bool cond, const char *what, const char *file, int line)
{
    if (!cond) {
        printf ("# %s:%d: failed: %s\n", file, line, what);
        fflush (stdout);
        failures++;
    }
    return cond;
}

void check_must (bool cond, const char *what, const char *file, int line)
{
    if (!cond) {
        printf ("# %s:%d: failed: %s (%s)\n", file, line, what, strerror (errno));
        fflush (stdout);
        _exit (99);
    }
}

bool check_fault (const struct fault *f,
                  int errnum,
                  const char *text,
                  const char *file,
                  int line)
{
    bool good = f->errnum == errnum && strstr (f->text, text)
                && !strchr (f->text, '\n');

    if (!good)
        printf ("# errno %d, text \"%s\"; wanted %d, \"%s\"\n",
                f->errnum,
                f->text,
                errnum,
                text);
    return check_ok (good, "fault", file, line);
}

const char *path (const char *fmt, ...)
{
    struct text *t = malloc (sizeof (*t));
    va_list ap;

    must (t);
    va_start (ap, fmt);
    must (vsnprintf (t->text, sizeof (t->text), fmt, ap) < PATH_MAX);
    va_end (ap);
    t->next = texts;
    texts = t;
    return t->text;
}

static void free_texts (void)
{
    while (texts) {
        struct text *next = texts->next;
        free (texts);
        texts = next;
    }
}

static int remove_one (const char *name, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb;
    (void)type;
    (void)ftw;
    return remove (name);
}

static int allow_one (const char *name, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type == FTW_D || type == FTW_DNR)
        (void)chmod (name, sb->st_mode | 0700);
    return 0;
}

void check_run (const char *name, void (*fn) (const char *dir))
{
    const char *tmp = getenv ("TMPDIR");
    char dir[PATH_MAX];
    int before = failures;
    int fds = count_fds ();

    snprintf (dir, sizeof (dir), "%s/flux-tree-XXXXXX", tmp ? tmp : "/tmp");
    must (mkdtemp (dir));
    must (chmod (dir, 0755) == 0);
    fn (dir);
    free_texts ();
    ok (count_fds () == fds);
    nftw (dir, allow_one, 16, FTW_PHYS);
    ok (nftw (dir, remove_one, 16, FTW_PHYS | FTW_DEPTH) == 0);
    printf ("%s %s\n", failures == before ? "ok" : "not ok", name);
    fflush (stdout);
}

void check_skip (const char *why)
{
    printf ("# skip: %s\n", why);
}

int check_end (void)
{
    return failures > 99 ? 99 : failures;
}

bool check_as_nobody (void (*fn) (const char *dir), const char *dir)
{
    const unsigned int nobody = 65534;
    int status;
    pid_t pid;

    if (geteuid () != 0 || chown (dir, nobody, nobody) < 0)
        return false;
    fflush (stdout);
    must ((pid = fork ()) >= 0);
    if (pid == 0) {
        failures = 0;
        must (setresgid (nobody, nobody, nobody) == 0
              && setresuid (nobody, nobody, nobody) == 0);
        /* which the sanitizers need to look into this process */
        prctl (PR_SET_DUMPABLE, 1);
        fn (dir);
        fflush (stdout);
        _exit (check_end ());
    }
    must (waitpid (pid, &status, 0) == pid);
    ok (WIFEXITED (status) && WEXITSTATUS (status) == 0);
    return true;
}

void write_at (const char *name, uint64_t offset, size_t size, unsigned int seed)
{
    unsigned char *data = malloc (size + 1);
    uint64_t x = seed * 0x9e3779b97f4a7c15ULL + 1;
    int fd;

    must (data);
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data[i] = x >> 32;
    }
    must ((fd = open (name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) >= 0);
    must (pwrite (fd, data, size, offset) == (ssize_t)size);
    close (fd);
    free (data);
}

void make_file (const char *name, size_t size, unsigned int seed)
{
    write_at (name, 0, size, seed);
    set_mtime (name, 1500000000 + seed);
}

void make_dir (const char *name)
{
    must (mkdir (name, 0755) == 0);
}

void set_mtime (const char *name, int64_t seconds)
{
    struct timespec times[2] = {
        { .tv_nsec = UTIME_OMIT },
        { .tv_sec = seconds, .tv_nsec = 123456789 },
    };

    must (utimensat (AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW) == 0);
}

int count_names (const char *dir)
{
    struct dirent *d;
    int count = 0;
    DIR *dp;

    must ((dp = opendir (dir)));
    while ((d = readdir (dp)))
        count += strcmp (d->d_name, ".") && strcmp (d->d_name, "..");
    closedir (dp);
    return count;
}

int count_fds (void)
{
    return count_names ("/proc/self/fd") - 1;
}
