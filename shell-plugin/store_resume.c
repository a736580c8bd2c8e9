/* store_resume.c - take over what an interrupted run left
 *
 * Its name follows from the final name and from the manifest, so that the next
 * run with the same source finds it, and one with another source does not. A
 * lock on its top says that somebody is at work in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "bytes.h"
#include "openat.h"
#include "store_impl.h"
#include "sum.h"

/* Where the chunk size stands in an encoded manifest: chunks are a matter of one
 * run.
 */
#define CHUNK_SIZE_OFFSET 4
/* PARTIAL_PREFIX and the sum of the final name */
#define STEM_SIZE (sizeof (PARTIAL_PREFIX) + 16)

char *partial_name (const struct manifest *m, const char *name)
{
    unsigned char *data;
    size_t size;
    char *s;

    if (!(data = manifest_encode (m, &size, NULL)))
        return NULL;
    put32 (data + CHUNK_SIZE_OFFSET, 0);
    if (asprintf (&s,
                  PARTIAL_PREFIX "%016jx%016jx",
                  (uintmax_t)sum_of (name, strlen (name)).lo,
                  (uintmax_t)sum_of (data, size).lo)
        < 0)
        s = NULL;
    free (data);
    return s;
}

/* The sticky bit tells our directories from all others that their owner keeps
 * for himself: who may write to the directory above could give one of those
 * this name.
 */
static mode_t mode_of (mode_t type)
{
    return S_ISDIR (type) ? 01700 : 0600;
}

mode_t partial_mode (const struct store *st)
{
    return mode_of (st->m->entries[0].type == ENTRY_DIR ? S_IFDIR : S_IFREG);
}

/* Nobody else could have made or changed it. */
static bool is_ours (const struct stat *sb)
{
    return sb->st_uid == geteuid ()
           && (S_ISDIR (sb->st_mode)
               || (S_ISREG (sb->st_mode) && sb->st_nlink == 1))
           && (sb->st_mode & 05777) == mode_of (sb->st_mode);
}

static int refuse (struct store *st, struct fault *f)
{
    char what[256];

    snprintf (what,
              sizeof (what),
              "%.60s beside it was not left so by an interrupted run of yours: "
              "remove it",
              st->tmp);
    errno = EPERM;
    return store_fail (st, 0, f, what);
}

static int lock_top (struct store *st, int fd, struct fault *f)
{
    char what[128];

    if (flock (fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK) {
        errno = EBUSY;
        return store_fail (st,
                           0,
                           f,
                           "another broadcast to it is running: wait for it");
    }
    snprintf (what,
              sizeof (what),
              "cannot be locked, so leave out resume: %.80s",
              open_error (errno));
    return store_fail (st, 0, f, what);
}

/* Has the descriptor still got that name? */
static bool has_name (int dirfd, const char *name, const struct stat *sb)
{
    struct stat now;

    return fstatat (dirfd, name, &now, AT_SYMLINK_NOFOLLOW) == 0
           && now.st_dev == sb->st_dev && now.st_ino == sb->st_ino;
}

static int open_top (const struct store *st)
{
    bool is_dir = st->m->entries[0].type == ENTRY_DIR;

    return openat (st->parentfd,
                   st->tmp,
                   O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
                       | (is_dir ? O_RDONLY | O_DIRECTORY : O_RDWR));
}

int partial_open (struct store *st, struct fault *f)
{
    struct stat sb;
    int fd;

    for (;;) {
        if ((fd = open_top (st)) < 0) {
            if (errno == ENOENT)
                return 0;
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
                return store_fail (st, 0, f, NULL);
            return refuse (st, f);
        }
        if (fstat (fd, &sb) < 0 || sb.st_uid != geteuid ()) {
            refuse (st, f);
            goto error;
        }
        if (lock_top (st, fd, f) < 0)
            goto error;
        /* who had the lock may have published or removed it, or failed to */
        if (has_name (st->parentfd, st->tmp, &sb))
            break;
        close (fd);
    }
    if (fstat (fd, &sb) < 0 || !is_ours (&sb)) {
        refuse (st, f);
        goto error;
    }
    st->here->topfd = fd;
    return 1;
error:
    close (fd);
    errno = f ? f->errnum : EPERM;
    return -1;
}

int partial_make (struct store *st)
{
    const struct entry *top = &st->m->entries[0];
    struct stat sb;
    int fd;

    if (top->type == ENTRY_DIR) {
        if (mkdirat (st->parentfd, st->tmp, partial_mode (st)) < 0)
            return -1;
        fd = open_top (st);
    }
    else
        fd = openat (st->parentfd,
                     st->tmp,
                     O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                     partial_mode (st));
    if (fd < 0)
        return -1;
    /* until here it may have been taken for one that nobody uses */
    if (flock (fd, LOCK_EX | LOCK_NB) < 0 || fstat (fd, &sb) < 0
        || !has_name (st->parentfd, st->tmp, &sb)) {
        close (fd);
        errno = EEXIST;
        return -1;
    }
    st->here->topfd = fd;
    st->created = true;
    return top->type == ENTRY_DIR ? 0 : ftruncate (fd, top->size);
}

void partial_remove_others (struct store *st, const char *except)
{
    char stem[STEM_SIZE];
    struct dirent *d;
    DIR *dir;
    int fd;

    snprintf (stem, sizeof (stem), "%s", st->tmp);
    if ((fd = openat (st->parentfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return;
    if (!(dir = fdopendir (fd))) {
        close (fd);
        return;
    }
    while ((d = readdir (dir))) {
        struct stat sb;
        int top;

        if (strncmp (d->d_name, stem, STEM_SIZE - 1)
            || (except && !strcmp (d->d_name, except))
            || (top = openat (st->parentfd,
                              d->d_name,
                              O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC))
                   < 0)
            continue;
        if (fstat (top, &sb) == 0 && is_ours (&sb)
            && flock (top, LOCK_EX | LOCK_NB) == 0
            && has_name (st->parentfd, d->d_name, &sb))
            (void)remove_at (st->parentfd, d->d_name);
        close (top);
    }
    closedir (dir);
}

static void count (struct store *st, const struct entry *e, const struct stat *sb)
{
    uint64_t bytes = sb->st_blocks * 512ULL;

    st->have += bytes < e->size ? bytes : e->size;
}

/* The size is right, and nothing stands where the payload has holes. */
static bool is_file (const struct store *st,
                     const struct entry *e,
                     int fd,
                     const struct stat *sb)
{
    return S_ISREG (sb->st_mode) && sb->st_nlink == 1
           && (uint64_t)sb->st_size == e->size
           && store_holes_are_empty (st, e, fd);
}

static int take_over_file (struct store *st,
                           const struct entry *e,
                           int dirfd,
                           struct stat *sb)
{
    const char *name = st->m->strings + e->name;
    mode_t need = store_is_whole (st, e) ? S_IRUSR : S_IRUSR | S_IWUSR;
    bool good;
    int fd;

    if (!S_ISREG (sb->st_mode)
        || ((sb->st_mode & need) != need
            && fchmodat (dirfd, name, 0600, AT_SYMLINK_NOFOLLOW) < 0)
        || (fd = open_below (dirfd, name, O_RDONLY | O_NONBLOCK)) < 0)
        return 0;
    if ((good = is_file (st, e, fd, sb)))
        count (st, e, sb);
    close (fd);
    return good;
}

/* 1 if what stands there will do. */
static int take_over_name (struct store *st,
                           const struct entry *e,
                           int dirfd,
                           struct stat *sb)
{
    const char *name = st->m->strings + e->name;
    const char *target = st->m->strings + e->target;
    char buf[4096];
    ssize_t n;

    if (e->type == ENTRY_FILE)
        return take_over_file (st, e, dirfd, sb);
    if (e->type == ENTRY_DIR)
        return S_ISDIR (sb->st_mode)
               && ((sb->st_mode & 0777) == 0700
                   || fchmodat (dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) == 0);
    n = readlinkat (dirfd, name, buf, sizeof (buf));
    return n >= 0 && (size_t)n == strlen (target) && !memcmp (buf, target, n);
}

static int take_over_entry (struct store *st, uint32_t index)
{
    const struct entry *e = &st->m->entries[index];
    struct stat sb;
    int good = 0;
    int fd;
    int rc;

    if ((fd = place_dir (st->here, e->parent)) < 0)
        return -1;
    rc = fstatat (fd, manifest_name (st->m, index), &sb, AT_SYMLINK_NOFOLLOW);
    if (rc == 0 && !(good = take_over_name (st, e, fd, &sb)))
        rc = remove_at (fd, manifest_name (st->m, index));
    else if (rc < 0 && errno == ENOENT)
        rc = 0;
    place_dir_done (st->here, e->parent);
    return rc == 0 && !good ? store_create_entry (st, index) : rc;
}

/* It cannot be removed, as its lock is ours. */
static int take_over_top (struct store *st)
{
    const struct entry *top = &st->m->entries[0];
    struct stat sb;

    if (fstat (st->here->topfd, &sb) < 0)
        return -1;
    if (!is_file (st, top, st->here->topfd, &sb))
        return ftruncate (st->here->topfd, 0) < 0
                       || ftruncate (st->here->topfd, top->size) < 0
                   ? -1
                   : 0;
    count (st, top, &sb);
    return 0;
}

static int remove_extra (struct store *st, const struct extra *x, uint32_t index)
{
    int fd;
    int rc;

    if ((fd = place_dir (st->here, index)) < 0)
        return -1;
    rc = extra_each (x, fd, index, remove_at);
    place_dir_done (st->here, index);
    return rc;
}

int partial_take_over (struct store *st, struct fault *f)
{
    struct extra *x;
    int rc = 0;

    if (!(x = extra_create (st->m)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    for (uint32_t i = 0; rc == 0 && i < st->m->nentries; i++) {
        if (i > 0)
            rc = take_over_entry (st, i);
        else if (st->m->entries[0].type == ENTRY_FILE)
            rc = take_over_top (st);
        /* before what is to stand in it: as a directory that is full of what is
         * not needed may have no room for it
         */
        if (rc == 0 && st->m->entries[i].type == ENTRY_DIR)
            rc = remove_extra (st, x, i);
        if (rc < 0)
            store_fail (st, i, f, NULL);
    }
    extra_destroy (x);
    return rc;
}
