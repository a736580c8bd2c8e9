/* archive.c - turn an archive of Flux (RFC 37) into a manifest and pieces
 *
 * Whoever may write to the KVS wrote the archive: every path, number and
 * length is checked before it is used. What `flux archive extract` would follow
 * out of the directory is refused.
 */
#include "archive.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive_impl.h"

#define NAME_LENGTH_MAX 255
#define TARGET_LENGTH_MAX 4095

/* mtime_ns of a directory that no entry has described yet */
#define IMPLIED UINT32_MAX

int archive_fail (struct reader *r, int errnum, const char *fmt, ...)
{
    char buf[FAULT_PATH_SIZE];
    char what[256];
    va_list ap;

    va_start (ap, fmt);
    vsnprintf (what, sizeof (what), fmt, ap);
    va_end (ap);
    if (r->path)
        fault_set (r->f,
                   errnum,
                   -1,
                   "archive entry %s: %s",
                   fault_path (buf, r->path, ""),
                   what);
    else
        fault_set (r->f, errnum, -1, "archive entry %zu: %s", r->index, what);
    if (r->f)
        r->f->kind = FAULT_SOURCE;
    return -1;
}

/* A string without a 0 in it, or NULL. */
static const char *get_string (const json_t *o, const char *key)
{
    const json_t *s = json_object_get (o, key);
    const char *text = json_string_value (s);

    return text && strlen (text) == json_string_length (s) ? text : NULL;
}

/* An integer that may be left out: 0 if it is, 1 if it is there, -1 if it is
 * something else.
 */
static int get_integer (const json_t *o, const char *key, int64_t *value)
{
    const json_t *i = json_object_get (o, key);

    if (!i || json_is_null (i))
        return 0;
    if (!json_is_integer (i))
        return -1;
    *value = json_integer_value (i);
    return 1;
}

/* Add an entry under the path that was read so far, and remember it. */
static int64_t add_entry (struct reader *r,
                          struct entry *e,
                          const char *path,
                          const char *name)
{
    int64_t at;

    if ((at = manifest_add_string (r->a->manifest, name, strlen (name))) < 0)
        goto error;
    e->name = at;
    if ((at = manifest_add_entry (r->a->manifest, e)) < 0)
        goto error;
    if (json_object_set_new (r->paths, path, json_integer (at)) < 0) {
        errno = ENOMEM;
        goto error;
    }
    return at;
error:
    archive_fail (r, errno, "%s", strerror (errno));
    return -1;
}

static int64_t add_implied (struct reader *r,
                            uint32_t parent,
                            const char *path,
                            const char *name)
{
    struct entry e = {
        .type = ENTRY_DIR,
        .mode = 0755,
        .mtime_ns = IMPLIED,
        .parent = parent,
    };

    return add_entry (r, &e, path, name);
}

/* Go down to the directory that 'r->path' stands in, and make those on the way
 * that are not there yet. 'path' becomes the path without "." and double
 * slashes, *namep its last component: "" for the top. Returns the index of the
 * directory.
 */
static int64_t walk (struct reader *r, char path[PATH_MAX], const char **namep)
{
    struct manifest *m = r->a->manifest;
    const char *p = r->path;
    int64_t dir = 0;
    size_t size = 0;

    if (*p == '/')
        return archive_fail (r,
                             EINVAL,
                             "is an absolute path, which leads out of the "
                             "destination");
    path[0] = '\0';
    *namep = path;
    for (;;) {
        size_t len;

        p += strspn (p, "/");
        if ((len = strcspn (p, "/")) == 0)
            return dir;
        if (len == 1 && *p == '.') {
            p++;
            continue;
        }
        if (len == 2 && !strncmp (p, "..", 2))
            return archive_fail (r,
                                 EINVAL,
                                 "has .. in it, which leads out of the "
                                 "destination");
        if (len > NAME_LENGTH_MAX || size + 1 + len >= PATH_MAX)
            return archive_fail (r, ENAMETOOLONG, "its path is too long");
        if (size > 0) {
            const json_t *known = json_object_get (r->paths, path);

            /* what was the last component is a directory on the way */
            dir = known ? json_integer_value (known)
                        : add_implied (r, dir, path, *namep);
            if (dir < 0)
                return -1;
            if (m->entries[dir].type != ENTRY_DIR)
                return archive_fail (r,
                                     EINVAL,
                                     "stands below a %s, not a directory",
                                     m->entries[dir].type == ENTRY_LINK
                                         ? "link"
                                         : "file");
            path[size++] = '/';
        }
        memcpy (path + size, p, len);
        *namep = path + size;
        size += len;
        path[size] = '\0';
        p += len;
    }
}

/* A directory may come after what it holds, and more than once, as it does when
 * an archive was appended to: the last word counts.
 */
static int read_again (struct reader *r, int64_t index, const struct entry *e)
{
    struct entry *known = &r->a->manifest->entries[index];

    if (known->type != ENTRY_DIR || e->type != ENTRY_DIR)
        return archive_fail (r,
                             EEXIST,
                             "comes twice: create the archive again, with "
                             "each path once");
    known->mode = e->mode;
    known->mtime = e->mtime;
    known->mtime_ns = e->mtime_ns;
    return 0;
}

static int read_mode (struct reader *r, const json_t *o, struct entry *e)
{
    int64_t mode;

    if (get_integer (o, "mode", &mode) <= 0 || mode < 0 || mode > UINT32_MAX)
        return archive_fail (r, EINVAL, "has no valid mode");
    e->mode = mode & 0777;
    if (S_ISREG (mode))
        e->type = ENTRY_FILE;
    else if (S_ISLNK (mode))
        e->type = ENTRY_LINK;
    else if (S_ISDIR (mode)) {
        e->type = ENTRY_DIR;
        e->mode = mode & 01777;
    }
    else
        return archive_fail (r,
                             EINVAL,
                             "is neither file, directory nor link (mode %llo)",
                             (unsigned long long)mode);
    return 0;
}

static int read_target (struct reader *r, const json_t *o, struct entry *e)
{
    const char *target = get_string (o, "data");
    int64_t at;

    if (!target || !*target || strlen (target) > TARGET_LENGTH_MAX)
        return archive_fail (r, EINVAL, "is a link without a valid target");
    if ((at = manifest_add_string (r->a->manifest, target, strlen (target)))
        < 0)
        return archive_fail (r, errno, "%s", strerror (errno));
    e->target = at;
    return 0;
}

static int read_entry (struct reader *r, const json_t *o)
{
    struct entry e = { 0 };
    char path[PATH_MAX];
    const char *name = "";
    const json_t *known;
    int64_t size = -1;
    int64_t index;
    int64_t dir;
    int rc;

    r->path = NULL;
    if (!json_is_object (o) || !(r->path = get_string (o, "path")))
        return archive_fail (r, EINVAL, "has no valid path");
    if (read_mode (r, o, &e) < 0)
        return -1;
    if ((rc = get_integer (o, "mtime", &e.mtime)) < 0)
        return archive_fail (r, EINVAL, "has no valid mtime");
    if (rc == 0)
        e.mtime_ns = IMPLIED;
    else if (e.mtime > r->newest)
        r->newest = e.mtime;
    if (get_integer (o, "size", &size) < 0 || size < -1)
        return archive_fail (r, EINVAL, "has no valid size");
    if (e.type == ENTRY_LINK && read_target (r, o, &e) < 0)
        return -1;
    if ((dir = walk (r, path, &name)) < 0)
        return -1;
    if (!*name)
        return read_again (r, 0, &e);
    if ((known = json_object_get (r->paths, path)))
        return read_again (r, json_integer_value (known), &e);
    e.parent = dir;
    if ((index = add_entry (r, &e, path, name)) < 0)
        return -1;
    if (e.type == ENTRY_FILE)
        return archive_read_data (r, index, o, size);
    return 0;
}

/* What has no time of its own gets that of the newest, so that all ranks make
 * the same of it.
 */
static void complete_times (struct reader *r)
{
    struct manifest *m = r->a->manifest;

    for (size_t i = 0; i < m->nentries; i++) {
        if (m->entries[i].mtime_ns == IMPLIED) {
            m->entries[i].mtime = r->newest;
            m->entries[i].mtime_ns = 0;
        }
    }
}

struct archive *archive_create (const json_t *entries, struct fault *f)
{
    struct reader r = { .f = f };
    json_t *o;

    if (!json_is_array (entries)) {
        fault_set (f, EINVAL, -1, "the archive is not a list of entries");
        if (f)
            f->kind = FAULT_SOURCE;
        return NULL;
    }
    if (!(r.a = calloc (1, sizeof (*r.a)))
        || !(r.a->manifest = manifest_create ())
        || !(r.paths = json_object ())) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    r.a->manifest->chunk_size = CHUNK_SIZE_MAX;
    if (add_implied (&r, 0, "", "") < 0)
        goto error;
    json_array_foreach (entries, r.index, o) {
        if (read_entry (&r, o) < 0)
            goto error;
    }
    complete_times (&r);
    if (archive_find_same (r.a) < 0) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    json_decref (r.paths);
    return r.a;
error:
    json_decref (r.paths);
    archive_destroy (r.a);
    return NULL;
}

json_t *archive_load (const char *text, struct fault *f)
{
    json_error_t error;
    json_t *o;

    /* `flux archive create` stores text with a 0 in it as text */
    if (!(o = json_loads (text, JSON_ALLOW_NUL, &error))) {
        fault_set (f, EINVAL, -1, "the archive is not JSON: %s", error.text);
        if (f)
            f->kind = FAULT_SOURCE;
    }
    return o;
}

void archive_destroy (struct archive *a)
{
    if (a) {
        int saved_errno = errno;
        for (uint32_t i = 0; i < a->npieces; i++)
            free (a->pieces[i].data);
        free (a->pieces);
        manifest_destroy (a->manifest);
        free (a);
        errno = saved_errno;
    }
}
