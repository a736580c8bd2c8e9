/* store_extra.c - names in a directory that the manifest does not have there */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store_impl.h"

struct extra {
    const struct manifest *m;
    uint32_t *sorted; /* all entries but the top, by directory and name */
};

static int compare (const struct manifest *m,
                    uint32_t dir,
                    const char *name,
                    uint32_t entry)
{
    uint32_t parent = m->entries[entry].parent;

    if (dir != parent)
        return dir < parent ? -1 : 1;
    return strcmp (name, manifest_name (m, entry));
}

static int compare_entries (const void *a, const void *b, void *arg)
{
    const struct manifest *m = arg;
    uint32_t entry = *(const uint32_t *)a;

    return compare (m,
                    m->entries[entry].parent,
                    manifest_name (m, entry),
                    *(const uint32_t *)b);
}

struct extra *extra_create (const struct manifest *m)
{
    struct extra *x;

    if (!(x = calloc (1, sizeof (*x)))
        || !(x->sorted = calloc (m->nentries, sizeof (*x->sorted)))) {
        extra_destroy (x);
        return NULL;
    }
    x->m = m;
    for (uint32_t i = 1; i < m->nentries; i++)
        x->sorted[i - 1] = i;
    qsort_r (x->sorted,
             m->nentries - 1,
             sizeof (*x->sorted),
             compare_entries,
             (void *)m);
    return x;
}

void extra_destroy (struct extra *x)
{
    if (x) {
        int saved_errno = errno;
        free (x->sorted);
        free (x);
        errno = saved_errno;
    }
}

static bool is_known (const struct extra *x, uint32_t dir, const char *name)
{
    size_t low = 0;
    size_t high = x->m->nentries - 1;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int rc = compare (x->m, dir, name, x->sorted[mid]);

        if (rc == 0)
            return true;
        if (rc < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return false;
}

int extra_each (const struct extra *x,
                int dirfd,
                uint32_t dir,
                int (*fn) (int dirfd, const char *name))
{
    struct dirent *d;
    DIR *dp;
    int fd;
    int rc = 0;

    if ((fd = openat (dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return -1;
    if (!(dp = fdopendir (fd))) {
        int saved_errno = errno;
        close (fd);
        errno = saved_errno;
        return -1;
    }
    errno = 0;
    while (rc == 0 && (d = readdir (dp))) {
        if (strcmp (d->d_name, ".") && strcmp (d->d_name, "..")
            && !is_known (x, dir, d->d_name))
            rc = fn (dirfd, d->d_name);
        if (rc == 0)
            errno = 0;
    }
    if (rc == 0 && errno != 0)
        rc = -1;
    if (rc < 0) {
        int saved_errno = errno;
        closedir (dp);
        errno = saved_errno;
    }
    else
        closedir (dp);
    return rc;
}
