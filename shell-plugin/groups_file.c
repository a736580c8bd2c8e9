/* groups_file.c - the racks of hosts from a file that lists them */
#include "groups.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More hosts than this are a typing error in a list. */
#define HOSTS_MOST 1000000
#define NAME_SIZE 256

struct entry {
    char *host;
    int group; /* index of a line's group */
};

struct listing {
    const char *path;
    int line;
    struct entry *entries;
    size_t count;
    size_t room;
    char **groups;
    int ngroups;
    struct fault *fault;
};

static int no_memory (struct listing *l)
{
    return fault_set (l->fault, ENOMEM, -1, "racks %.200s: out of memory", l->path);
}

static int bad_line (struct listing *l)
{
    return fault_set (l->fault,
                      EINVAL,
                      -1,
                      "racks %.200s: line %d: give a host, or hosts such as node[0-15,20],"
                      " and then the rack",
                      l->path,
                      l->line);
}

static int add_host (struct listing *l, const char *name)
{
    if (l->count == HOSTS_MOST)
        return fault_set (l->fault,
                          EINVAL,
                          -1,
                          "racks %.200s: line %d: more than %d hosts, are the numbers right?",
                          l->path,
                          l->line,
                          HOSTS_MOST);
    if (l->count == l->room) {
        size_t room = l->room > 0 ? l->room * 2 : 64;
        struct entry *entries = realloc (l->entries, sizeof (*entries) * room);

        if (!entries)
            return no_memory (l);
        l->entries = entries;
        l->room = room;
    }
    if (!(l->entries[l->count].host = strdup (name)))
        return no_memory (l);
    l->entries[l->count++].group = l->ngroups - 1;
    return 0;
}

static int expand (struct listing *l, const char *done, const char *rest);

/* "3" or "08-11" at *p: every number of it, as wide as the first, and then what
 * follows the bracket.
 */
static int expand_range (struct listing *l, const char *done, const char **p, const char *suffix)
{
    char name[NAME_SIZE];
    unsigned long low;
    unsigned long high;
    char *end;
    int width;

    if (!isdigit ((unsigned char)**p))
        return bad_line (l);
    errno = 0;
    low = high = strtoul (*p, &end, 10);
    width = end - *p;
    *p = end;
    if (*end == '-') {
        if (!isdigit ((unsigned char)end[1]))
            return bad_line (l);
        high = strtoul (end + 1, &end, 10);
        *p = end;
    }
    if (errno != 0 || high < low || width >= NAME_SIZE)
        return bad_line (l);
    for (unsigned long i = low;; i++) {
        if (snprintf (name, sizeof (name), "%s%0*lu", done, width, i) >= NAME_SIZE)
            return bad_line (l);
        if (expand (l, name, suffix) < 0)
            return -1;
        if (i == high)
            return 0;
    }
}

/* The hosts that begin with 'done' and go on as 'rest' says. */
static int expand (struct listing *l, const char *done, const char *rest)
{
    size_t plain = strcspn (rest, "[]");
    const char *close = strchr (rest + plain, ']');
    char name[NAME_SIZE];
    const char *p = rest + plain + 1;

    if (snprintf (name, sizeof (name), "%s%.*s", done, (int)plain, rest) >= NAME_SIZE)
        return bad_line (l);
    if (rest[plain] == '\0')
        return *name ? add_host (l, name) : bad_line (l);
    if (rest[plain] == ']' || !close)
        return bad_line (l);
    for (;; p++) {
        if (expand_range (l, name, &p, close + 1) < 0)
            return -1;
        if (p == close)
            return 0;
        if (*p != ',')
            return bad_line (l);
    }
}

/* "a,b[0-3],c": at the commas outside of brackets. */
static int add_list (struct listing *l, char *list)
{
    while (list) {
        char *end = list;
        bool inside = false;

        while (*end && (inside || *end != ',')) {
            inside = *end == '[' || (inside && *end != ']');
            end++;
        }
        end = *end ? end : NULL;
        if (end)
            *end++ = '\0';
        if (expand (l, "", list) < 0)
            return -1;
        list = end;
    }
    return 0;
}

static int add_line (struct listing *l, char *text)
{
    static const char space[] = " \t\r\n";
    char *save = NULL;
    char *hosts;
    char *group;
    char **groups;

    text[strcspn (text, "#")] = '\0';
    if (!(hosts = strtok_r (text, space, &save)))
        return 0;
    if (!(group = strtok_r (NULL, space, &save)) || strtok_r (NULL, space, &save))
        return bad_line (l);
    if (!(groups = realloc (l->groups, sizeof (*groups) * (l->ngroups + 1))))
        return no_memory (l);
    l->groups = groups;
    if (!(groups[l->ngroups] = strdup (group)))
        return no_memory (l);
    l->ngroups++;
    return add_list (l, hosts);
}

static int compare_hosts (const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    return strcmp (x->host, y->host);
}

/* Sorted, and no host in two groups. */
static int sort_listing (struct listing *l)
{
    if (l->count > 0)
        qsort (l->entries, l->count, sizeof (*l->entries), compare_hosts);
    for (size_t i = 1; i < l->count; i++) {
        const char *group = l->groups[l->entries[i].group];
        const char *before = l->groups[l->entries[i - 1].group];

        if (!strcmp (l->entries[i].host, l->entries[i - 1].host) && strcmp (group, before))
            return fault_set (l->fault,
                              EINVAL,
                              -1,
                              "racks %.200s: host %.80s is in rack %.40s and in rack %.40s,"
                              " leave one of them out",
                              l->path,
                              l->entries[i].host,
                              before,
                              group);
    }
    return 0;
}

static int read_listing (struct listing *l)
{
    char *text = NULL;
    size_t size = 0;
    int rc = 0;
    FILE *file;

    if (!(file = fopen (l->path, "re")))
        goto error;
    while (rc == 0 && getline (&text, &size, file) >= 0) {
        l->line++;
        rc = add_line (l, text);
    }
    free (text);
    if (rc == 0 && ferror (file)) {
        int saved_errno = errno;

        fclose (file);
        errno = saved_errno;
        goto error;
    }
    fclose (file);
    return rc < 0 ? -1 : sort_listing (l);
error:
    return fault_set (l->fault,
                      errno,
                      -1,
                      "racks %.200s: cannot be read (%s)",
                      l->path,
                      strerror (errno));
}

static int look_up (struct listing *l, const char *const *hosts, int n, int32_t *groups)
{
    const char **names = malloc (sizeof (*names) * (n > 0 ? n : 1));
    int rc = -1;

    if (!names)
        return no_memory (l);
    for (int i = 0; i < n; i++) {
        struct entry key = { .host = (char *)hosts[i] };
        struct entry *found = NULL;

        if (l->count > 0)
            found = bsearch (&key, l->entries, l->count, sizeof (key), compare_hosts);
        if (!found) {
            fault_set (l->fault,
                       EINVAL,
                       i,
                       "racks %.200s: host %.80s is not listed, add it",
                       l->path,
                       hosts[i]);
            goto done;
        }
        names[i] = l->groups[found->group];
    }
    rc = groups_number (names, n, groups, l->fault);
done:
    free (names);
    return rc;
}

int groups_by_file (const char *const *hosts,
                    int n,
                    const char *path,
                    int32_t *groups,
                    struct fault *f)
{
    struct listing l = { .path = path, .fault = f };
    int rc = -1;

    if (read_listing (&l) == 0)
        rc = look_up (&l, hosts, n, groups);
    for (size_t i = 0; i < l.count; i++)
        free (l.entries[i].host);
    for (int i = 0; i < l.ngroups; i++)
        free (l.groups[i]);
    free (l.entries);
    free (l.groups);
    return rc;
}
