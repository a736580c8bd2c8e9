/* compose.c - the manifest of a payload that is yet to come: made from a list of
 * what it will hold, instead of a walk
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manifest.h"
#include "node.h"

/* The directories around the item that was added last, the top first. */
struct around {
    uint32_t *entries;
    size_t count;
    size_t max;
};

static int refuse (struct fault *f, const char *path, const char *why)
{
    fault_set (f, EINVAL, -1, "'%.300s' in the source: %s", path, why);
    if (f)
        f->kind = FAULT_SOURCE;
    return -1;
}

static int enter (struct around *a, uint32_t entry)
{
    if (a->count == a->max) {
        size_t max = a->max ? 2 * a->max : 16;
        uint32_t *new;

        if (!(new = realloc (a->entries, max * sizeof (*new))))
            return -1;
        a->entries = new;
        a->max = max;
    }
    a->entries[a->count++] = entry;
    return 0;
}

/* As strcmp, but a path stands right before all that is in it. */
static int compare (const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    if (*a == *b)
        return 0;
    if (*a == '/' || *b == '/')
        return *a == '/' ? (*b ? -1 : 1) : (*a ? 1 : -1);
    return (unsigned char)*a - (unsigned char)*b;
}

/* Leave the directories that 'path' is not in. What is left of it then is its
 * name, if it is in one that was added.
 */
static const char *find_place (const struct manifest *m,
                               struct around *a,
                               const char *path)
{
    size_t depth = 1;

    while (depth < a->count) {
        const char *name = manifest_name (m, a->entries[depth]);
        size_t len = strlen (name);

        if (strncmp (path, name, len) != 0 || path[len] != '/')
            break;
        path += len + 1;
        depth++;
    }
    a->count = depth;
    return path;
}

static int add (struct manifest *m,
                const struct node_item *item,
                struct around *a,
                struct fault *f)
{
    const char *name = find_place (m, a, item->path);
    struct entry e = {
        .type = item->directory ? ENTRY_DIR : item->target ? ENTRY_LINK : ENTRY_FILE,
        .mode = item->mode & (item->directory ? 01777 : 0777),
        .mtime = item->mtime,
        .size = item->directory || item->target ? 0 : item->size,
        .parent = a->entries[a->count - 1],
    };
    int64_t at;
    int64_t entry;

    if (!manifest_is_component (name))
        return refuse (f, item->path, "not a name below the destination");
    if (e.size > INT64_MAX)
        return refuse (f, item->path, "larger than any file can be");
    if (e.type == ENTRY_LINK) {
        size_t len = strlen (item->target);

        if (len == 0 || len > MANIFEST_TARGET_MAX)
            return refuse (f, item->path, "a link that leads nowhere");
        if ((at = manifest_add_string (m, item->target, len)) < 0)
            return -1;
        e.target = at;
    }
    if ((at = manifest_add_string (m, name, strlen (name))) < 0)
        return -1;
    e.name = at;
    if ((entry = manifest_add_entry (m, &e)) < 0
        || (e.size > 0 && manifest_add_segment (m, entry, 0, e.size) < 0))
        return -1;
    return item->directory ? enter (a, entry) : 0;
}

static int add_top (struct manifest *m,
                    const struct node_item *items,
                    size_t count,
                    struct around *a)
{
    struct entry top = { .type = ENTRY_DIR, .mode = 0755 };
    int64_t at;

    for (size_t i = 0; i < count; i++) {
        if (items[i].mtime > top.mtime)
            top.mtime = items[i].mtime;
    }
    if ((at = manifest_add_string (m, "", 0)) < 0)
        return -1;
    top.name = at;
    return manifest_add_entry (m, &top) < 0 ? -1 : enter (a, 0);
}

unsigned char *node_compose (const struct node_item *items,
                             size_t count,
                             size_t *size,
                             struct fault *f)
{
    struct around around = { 0 };
    struct manifest *m;
    unsigned char *data = NULL;

    errno = 0;
    if (!(m = manifest_create ()) || add_top (m, items, count, &around) < 0)
        goto error;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && compare (items[i - 1].path, items[i].path) >= 0) {
            refuse (f, items[i].path, "comes twice, or out of order");
            goto done;
        }
        if (add (m, &items[i], &around, f) < 0) {
            if (errno == EINVAL)
                goto done;
            goto error;
        }
    }
    m->chunk_size = 1 << 20;
    data = manifest_encode (m, size, f);
    goto done;
error:
    fault_set (f, errno, -1, "manifest: %s", strerror (errno));
done:
    free (around.entries);
    manifest_destroy (m);
    return data;
}
