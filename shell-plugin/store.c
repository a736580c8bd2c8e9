/* store.c - read and write a payload on disk by ranges of its bytes */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "store_impl.h"

int store_fail (struct store *st,
                uint32_t entry,
                struct fault *f,
                const char *what)
{
    char rel[PATH_MAX];
    char path[FAULT_PATH_SIZE];
    int errnum = errno;

    if (!what)
        what = strerror (errnum);
    if (manifest_path (st->m, entry, rel, sizeof (rel)) < 0)
        rel[0] = '\0';
    fault_set (f,
               errnum,
               -1,
               "%s %s: %s",
               st->writing ? "destination" : "source",
               fault_path (path, st->path, rel),
               what);
    if (f)
        f->kind = st->writing ? FAULT_DESTINATION : FAULT_SOURCE;
    return -1;
}

bool store_is_whole (const struct store *st, const struct entry *e)
{
    const struct segment *s = &st->m->segments[e->segments];

    return e->nsegments == 1 && s->length == e->size
           && s->offset / st->m->chunk_size
                  == (s->offset + s->length - 1) / st->m->chunk_size;
}

mode_t store_mode (const struct store *st, const struct entry *e)
{
    mode_t mode = e->mode | S_IRUSR;

    if (e->type == ENTRY_DIR)
        mode |= S_IXUSR;
    if (e->type == ENTRY_DIR && store_is_moved (st, e - st->m->entries))
        mode |= S_IWUSR;
    return mode;
}

static bool is_unchanged (const struct entry *e, const struct stat *sb)
{
    return (uint64_t)sb->st_size == e->size && sb->st_mtim.tv_sec == e->mtime
           && sb->st_mtim.tv_nsec == e->mtime_ns;
}

static int check_unchanged (const struct entry *e, int fd)
{
    struct stat sb;

    if (fstat (fd, &sb) < 0)
        return -1;
    if (!is_unchanged (e, &sb)) {
        errno = ESTALE;
        return -1;
    }
    return 0;
}

/* Open a directory, or a file for as long as it is in use. When a file is
 * sealed its mode may forbid writing.
 */
static int open_entry (uint32_t index, void *arg)
{
    struct store *st = arg;
    const struct entry *e = &st->m->entries[index];
    char rel[PATH_MAX];
    int flags = O_NOFOLLOW | O_CLOEXEC;
    int fd;

    if (index == 0)
        return fcntl (st->topfd, F_DUPFD_CLOEXEC, 0);
    if (manifest_path (st->m, index, rel, sizeof (rel)) < 0)
        return -1;
    if (e->type == ENTRY_DIR)
        return openat (st->topfd, rel, O_RDONLY | O_DIRECTORY | flags);
    if (st->writing)
        return openat (st->topfd,
                       rel,
                       (atomic_load (&st->sealed) ? O_RDONLY : O_RDWR) | flags);
    if ((fd = openat (st->topfd, rel, O_RDONLY | flags)) < 0)
        return -1;
    if (check_unchanged (e, fd) < 0) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    return fd;
}

struct store *store_alloc (const struct manifest *m, const char *path)
{
    struct store *st;

    if (!(st = calloc (1, sizeof (*st))))
        return NULL;
    st->m = m;
    st->topfd = -1;
    st->parentfd = -1;
    if (!(st->path = strdup (path))
        || !(st->files = fdcache_create (open_entry, st))) {
        store_destroy (st);
        return NULL;
    }
    return st;
}

struct store *store_open (const struct manifest *m,
                          const char *path,
                          struct fault *f)
{
    struct store *st;

    if (!(st = store_alloc (m, path))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        return NULL;
    }
    if ((st->topfd = open (path, O_RDONLY | O_CLOEXEC)) < 0
        || (m->entries[0].type == ENTRY_FILE
            && check_unchanged (&m->entries[0], st->topfd) < 0)) {
        store_fail (st,
                    0,
                    f,
                    errno == ESTALE ? "changed while it was read" : NULL);
        store_destroy (st);
        return NULL;
    }
    return st;
}

static int read_full (int fd, void *buf, size_t len, off_t offset)
{
    unsigned char *p = buf;

    while (len > 0) {
        ssize_t n = pread (fd, p, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) { /* shorter than it was */
            errno = ESTALE;
            return -1;
        }
        p += n;
        offset += n;
        len -= n;
    }
    return 0;
}

static int write_full (int fd, const void *buf, size_t len, off_t offset)
{
    const unsigned char *p = buf;

    while (len > 0) {
        ssize_t n = pwrite (fd, p, len, offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        offset += n;
        len -= n;
    }
    return 0;
}

/* Create a file, write all of it and be done with it: no second visit. */
static int write_whole (struct store *st,
                        const struct entry *e,
                        int dirfd,
                        const void *buf)
{
    const char *name = st->m->strings + e->name;
    mode_t mode = store_mode (st, e);
    struct timespec times[2] = {
        { .tv_nsec = UTIME_OMIT },
        { .tv_sec = e->mtime, .tv_nsec = e->mtime_ns },
    };
    int fd;

    if ((fd = openat (dirfd,
                      name,
                      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                      mode))
        < 0)
        return -1;
    if (write_full (fd, buf, e->size, 0) < 0
        || ((mode & st->umask) && fchmod (fd, mode) < 0)
        || futimens (fd, times) < 0) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    return close (fd);
}

/* Read part of a file that is not kept open. */
static int read_whole (struct store *st,
                       const struct entry *e,
                       int dirfd,
                       void *buf,
                       size_t len,
                       off_t offset)
{
    int saved_errno;
    int fd;
    int rc = -1;

    if ((fd = openat (dirfd,
                      st->m->strings + e->name,
                      O_RDONLY | O_NOFOLLOW | O_CLOEXEC))
        < 0)
        return -1;
    if (st->writing || check_unchanged (e, fd) == 0)
        rc = read_full (fd, buf, len, offset);
    saved_errno = errno;
    close (fd);
    errno = saved_errno;
    return rc;
}

/* The part of a range that lies in one segment. */
struct part {
    const struct segment *s;
    off_t offset; /* in the file */
    size_t len;
    unsigned char *buf;
};

typedef int (*part_f) (struct store *st, const struct part *p, int fd, bool whole);

static int part_read (struct store *st, const struct part *p, int fd, bool whole)
{
    if (whole)
        return read_whole (st,
                           &st->m->entries[p->s->entry],
                           fd,
                           p->buf,
                           p->len,
                           p->offset);
    return read_full (fd, p->buf, p->len, p->offset);
}

static int part_write (struct store *st,
                       const struct part *p,
                       int fd,
                       bool whole)
{
    if (whole)
        return write_whole (st, &st->m->entries[p->s->entry], fd, p->buf);
    return write_full (fd, p->buf, p->len, p->offset);
}

/* Whole files go through their directory, which saves walking the path and
 * keeping each of them open.
 */
static int with_file (struct store *st, const struct part *p, part_f fn)
{
    uint32_t index = p->s->entry;
    const struct entry *e = &st->m->entries[index];
    bool whole = index != 0 && store_is_whole (st, e);
    int saved_errno;
    int fd;
    int rc;

    if (whole)
        index = e->parent;
    if (index == 0) /* which may be another directory once it is published */
        return fn (st, p, st->topfd, whole);
    if ((fd = fdcache_acquire (st->files, index)) < 0)
        return -1;
    rc = fn (st, p, fd, whole);
    saved_errno = errno;
    fdcache_release (st->files, index);
    errno = saved_errno;
    return rc;
}

static int each_part (struct store *st,
                      uint64_t offset,
                      unsigned char *buf,
                      size_t len,
                      part_f fn,
                      struct fault *f)
{
    const struct segment *s;
    int64_t start = clock_ns ();
    int rc = 0;

    if (len == 0)
        return 0;
    s = &st->m->segments[manifest_find (st->m, offset)];
    while (len > 0 && rc == 0) {
        uint64_t skip = offset - s->offset;
        struct part p = {
            .s = s,
            .offset = s->file_offset + skip,
            .len = len < s->length - skip ? len : s->length - skip,
            .buf = buf,
        };

        if ((rc = with_file (st, &p, fn)) < 0)
            store_fail (st,
                        s->entry,
                        f,
                        errno == ESTALE ? "changed while it was read" : NULL);
        offset += p.len;
        buf += p.len;
        len -= p.len;
        s++;
    }
    atomic_fetch_add_explicit (&st->ns,
                               clock_ns () - start,
                               memory_order_relaxed);
    return rc;
}

int store_read (struct store *st,
                uint64_t offset,
                void *buf,
                size_t len,
                struct fault *f)
{
    return each_part (st, offset, buf, len, part_read, f);
}

int store_write (struct store *st,
                 uint64_t offset,
                 const void *buf,
                 size_t len,
                 struct fault *f)
{
    /* part_write only reads from it */
    return each_part (st, offset, (unsigned char *)buf, len, part_write, f);
}

int store_check_unchanged (struct store *st, struct fault *f)
{
    char rel[PATH_MAX];

    for (uint32_t i = 0; i < st->m->nentries; i++) {
        const struct entry *e = &st->m->entries[i];
        struct stat sb;
        int rc;

        if (e->type != ENTRY_FILE)
            continue;
        if (i == 0)
            rc = fstat (st->topfd, &sb);
        else if ((rc = manifest_path (st->m, i, rel, sizeof (rel))) == 0)
            rc = fstatat (st->topfd, rel, &sb, AT_SYMLINK_NOFOLLOW);
        if (rc < 0 || !is_unchanged (e, &sb)) {
            errno = ESTALE;
            return store_fail (st, i, f, "changed while it was read");
        }
    }
    return 0;
}

const char *store_tmp_path (const struct store *st)
{
    return st->tmp_path;
}

double store_seconds (struct store *st)
{
    return atomic_load_explicit (&st->ns, memory_order_relaxed) / 1e9;
}

void store_destroy (struct store *st)
{
    if (st) {
        int saved_errno = errno;
        fdcache_destroy (st->files);
        if (st->created && !st->published)
            remove_at (st->parentfd, st->tmp);
        if (st->topfd >= 0)
            close (st->topfd);
        if (st->parentfd >= 0)
            close (st->parentfd);
        free (st->path);
        free (st->tmp);
        free (st->tmp_path);
        free (st->name);
        free (st);
        errno = saved_errno;
    }
}
