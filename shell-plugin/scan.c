/* scan.c - walk a source and make its manifest
 *
 * Directories are visited breadth first by path, so that the number of open
 * files does not grow with the depth. What cannot travel (sockets, devices,
 * what cannot be read) is an error here, before anything moves.
 */
#include "manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openat.h"

struct scan {
    struct manifest *m;
    const char *path;
    int topfd;
    struct fault *f;
};

static int fail (struct scan *s, const char *rel, const char *what)
{
    char path[FAULT_PATH_SIZE];

    if (!what)
        what = errno == ESTALE ? "changed while it was read"
                               : open_error (errno);
    fault_set (s->f,
               errno,
               -1,
               "source %s: %s",
               fault_path (path, s->path, rel),
               what);
    if (s->f)
        s->f->kind = FAULT_SOURCE;
    return -1;
}

static int compare_names (const void *a, const void *b)
{
    return strcmp (*(char *const *)a, *(char *const *)b);
}

/* All names of a directory but . and .., sorted, so that the same source gives
 * the same manifest wherever it is read.
 */
static int list_names (int fd, char ***namesp, size_t *countp)
{
    DIR *dir;
    struct dirent *d;
    char **names = NULL;
    size_t count = 0;
    size_t max = 0;

    if (!(dir = fdopendir (fd))) {
        close (fd);
        return -1;
    }
    errno = 0;
    while ((d = readdir (dir))) {
        if (!strcmp (d->d_name, ".") || !strcmp (d->d_name, ".."))
            continue;
        if (count == max) {
            char **new;

            max = max ? 2 * max : 64;
            if (!(new = realloc (names, max * sizeof (*names))))
                goto error;
            names = new;
        }
        if (!(names[count] = strdup (d->d_name)))
            goto error;
        count++;
        errno = 0;
    }
    if (errno != 0)
        goto error;
    closedir (dir);
    if (count > 0)
        qsort (names, count, sizeof (*names), compare_names);
    *namesp = names;
    *countp = count;
    return 0;
error:
    closedir (dir);
    for (size_t i = 0; i < count; i++)
        free (names[i]);
    free (names);
    return -1;
}

/* The extents that hold data. Only a file with fewer blocks than its size
 * needs can have holes, so others are spared the system calls. Only the top
 * may be named through a link.
 */
static int add_extents (struct scan *s,
                        uint32_t entry,
                        int dirfd,
                        const char *name,
                        const struct stat *st)
{
    int flags = O_RDONLY | O_CLOEXEC | (entry == 0 ? 0 : O_NOFOLLOW);
    off_t data = 0;
    off_t hole;
    int fd;
    int rc = -1;

    if (st->st_size == 0)
        return 0;
    if ((uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size)
        return manifest_add_segment (s->m, entry, 0, st->st_size);
    if ((fd = openat (dirfd, name, flags)) < 0)
        return -1;
    while (data < st->st_size) {
        if ((data = lseek (fd, data, SEEK_DATA)) < 0) {
            if (errno == ENXIO) /* a hole up to the end */
                break;
            if (errno != EINVAL && errno != EOPNOTSUPP)
                goto done;
            /* a file system without SEEK_DATA: all of it is data */
            rc = manifest_add_segment (s->m, entry, 0, st->st_size);
            goto done;
        }
        if (data >= st->st_size)
            break;
        if ((hole = lseek (fd, data, SEEK_HOLE)) < 0)
            goto done;
        if (hole > st->st_size)
            hole = st->st_size;
        if (hole <= data) {
            errno = ESTALE;
            goto done;
        }
        if (manifest_add_segment (s->m, entry, data, hole - data) < 0)
            goto done;
        data = hole;
    }
    rc = 0;
done:
    close (fd);
    return rc;
}

static int add_link (struct scan *s,
                     struct entry *e,
                     int dirfd,
                     const char *name)
{
    char target[PATH_MAX + 1];
    ssize_t n;
    int64_t at;

    if ((n = readlinkat (dirfd, name, target, sizeof (target) - 1)) < 0
        || (at = manifest_add_string (s->m, target, n)) < 0)
        return -1;
    e->target = at;
    return 0;
}

/* Add one directory entry. 'rel' is its path below the top, for messages. */
static int add (struct scan *s,
                uint32_t parent,
                int dirfd,
                const char *name,
                const char *rel,
                const char *entry_name)
{
    struct entry e = { .parent = parent };
    struct stat st;
    int64_t at;

    /* the top may be named through a link, as cp's arguments may */
    if (fstatat (dirfd, name, &st, *rel ? AT_SYMLINK_NOFOLLOW : 0) < 0)
        return fail (s, rel, errno == ENOENT ? "no such file or directory"
                                             : NULL);
    e.mode = st.st_mode & 0777;
    e.mtime = st.st_mtim.tv_sec;
    e.mtime_ns = st.st_mtim.tv_nsec;
    if ((at = manifest_add_string (s->m, entry_name, strlen (entry_name))) < 0)
        return fail (s, rel, NULL);
    e.name = at;
    switch (st.st_mode & S_IFMT) {
        case S_IFREG:
            e.type = ENTRY_FILE;
            e.size = st.st_size;
            break;
        case S_IFDIR:
            e.type = ENTRY_DIR;
            e.mode = st.st_mode & 01777;
            break;
        case S_IFLNK:
            e.type = ENTRY_LINK;
            if (add_link (s, &e, dirfd, name) < 0)
                return fail (s, rel, NULL);
            break;
        default:
            errno = EINVAL;
            return fail (s,
                         rel,
                         S_ISSOCK (st.st_mode)   ? "is a socket, which cannot "
                                                   "travel: leave it out"
                         : S_ISFIFO (st.st_mode) ? "is a named pipe, which "
                                                   "cannot travel: leave it out"
                                                 : "is a device, which cannot "
                                                   "travel: leave it out");
    }
    if (e.type != ENTRY_LINK
        && faccessat (dirfd,
                      name,
                      e.type == ENTRY_DIR ? R_OK | X_OK : R_OK,
                      AT_EACCESS) < 0)
        return fail (s, rel, "cannot be read: permission denied");
    if ((at = manifest_add_entry (s->m, &e)) < 0)
        return fail (s, rel, NULL);
    if (e.type == ENTRY_FILE && add_extents (s, at, dirfd, name, &st) < 0)
        return fail (s, rel, NULL);
    return 0;
}

static int scan_dir (struct scan *s, uint32_t entry)
{
    char rel[PATH_MAX];
    char **names;
    size_t count;
    size_t len;
    int fd;
    int listfd;
    int rc = 0;

    if (manifest_path (s->m, entry, rel, sizeof (rel)) < 0)
        return fail (s, manifest_name (s->m, entry), "its path is too long");
    if ((fd = open_below (s->topfd, *rel ? rel : ".", O_RDONLY | O_DIRECTORY))
            < 0
        || (listfd = fcntl (fd, F_DUPFD_CLOEXEC, 0)) < 0) {
        rc = fail (s, rel, NULL);
        if (fd >= 0)
            close (fd);
        return rc;
    }
    if (list_names (listfd, &names, &count) < 0) {
        rc = fail (s, rel, NULL);
        close (fd);
        return rc;
    }
    len = strlen (rel);
    for (size_t i = 0; i < count; i++) {
        if (rc == 0) {
            int n = snprintf (rel + len,
                              sizeof (rel) - len,
                              "%s%s",
                              len ? "/" : "",
                              names[i]);
            if (n < 0 || (size_t)n >= sizeof (rel) - len) {
                errno = ENAMETOOLONG;
                rc = fail (s, names[i], "its path is too long");
            }
            else
                rc = add (s, entry, fd, names[i], rel, names[i]);
            rel[len] = '\0';
        }
        free (names[i]);
    }
    free (names);
    close (fd);
    return rc;
}

/* The name that the source has, for a destination that is a directory. */
static char *base_name (const char *path)
{
    char *real;
    char *copy;
    char *name;

    /* "." and ".." have a name only once they are resolved */
    name = basename ((copy = strdup (path)));
    if (!strcmp (name, ".") || !strcmp (name, "..")) {
        if (!(real = realpath (path, NULL))) {
            free (copy);
            return NULL;
        }
        free (copy);
        copy = real;
        name = basename (copy);
    }
    name = strdup (strcmp (name, "/") ? name : "root");
    free (copy);
    return name;
}

struct manifest *manifest_scan (const char *path, struct fault *f)
{
    struct scan s = { .path = path, .topfd = -1, .f = f };
    char *name = NULL;

    if (!(s.m = manifest_create ()) || !(name = base_name (path))) {
        fail (&s, "", errno == ENOENT ? "no such file or directory" : NULL);
        goto error;
    }
    if (add (&s, 0, AT_FDCWD, path, "", name) < 0)
        goto error;
    if (s.m->entries[0].type == ENTRY_DIR) {
        if ((s.topfd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
            fail (&s, "", NULL);
            goto error;
        }
        /* entries grow while directories are visited: breadth first */
        for (uint32_t i = 0; i < s.m->nentries; i++) {
            if (s.m->entries[i].type == ENTRY_DIR && scan_dir (&s, i) < 0)
                goto error;
        }
        close (s.topfd);
    }
    free (name);
    return s.m;
error:
    if (s.topfd >= 0)
        close (s.topfd);
    free (name);
    manifest_destroy (s.m);
    return NULL;
}
