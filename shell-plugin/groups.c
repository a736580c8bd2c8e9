/* groups.c - which hosts stand together, behind one uplink: racks */
#include "groups.h"

#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct named {
    const char *name;
    int32_t at;
};

static int compare_named (const void *a, const void *b)
{
    const struct named *x = a;
    const struct named *y = b;
    int order = strcmp (x->name, y->name);

    return order ? order : x->at < y->at ? -1 : x->at > y->at;
}

int groups_number (const char *const *names, int n, int32_t *groups, struct fault *f)
{
    struct named *sorted;
    int32_t count = 0;
    int32_t first = 0;

    if (!(sorted = malloc (sizeof (*sorted) * (n > 0 ? n : 1))))
        return fault_set (f, ENOMEM, -1, "racks: out of memory for %d hosts", n);
    for (int i = 0; i < n; i++)
        sorted[i] = (struct named){ .name = names[i], .at = i };
    qsort (sorted, n, sizeof (*sorted), compare_named);
    for (int i = 0; i < n; i++) {
        if (i == 0 || strcmp (sorted[i].name, sorted[i - 1].name))
            first = sorted[i].at;
        groups[sorted[i].at] = first;
    }
    free (sorted);
    /* whoever shows a group first is the one whose index it has so far */
    for (int i = 0; i < n; i++)
        groups[i] = groups[i] == i ? count++ : groups[groups[i]];
    return 0;
}

/* The name of the group of a host; malloced. */
static char *match (const regex_t *re, const char *host)
{
    regmatch_t found[2];
    const regmatch_t *m = &found[re->re_nsub > 0];

    if (regexec (re, host, 2, found, 0) != 0 || m->rm_so < 0 || m->rm_eo == m->rm_so) {
        errno = ENOENT;
        return NULL;
    }
    return strndup (host + m->rm_so, m->rm_eo - m->rm_so);
}

int groups_by_pattern (const char *const *hosts,
                       int n,
                       const char *pattern,
                       int32_t *groups,
                       struct fault *f)
{
    char **names = NULL;
    char why[100];
    regex_t re;
    int rc;

    if ((rc = regcomp (&re, pattern, REG_EXTENDED)) != 0) {
        regerror (rc, &re, why, sizeof (why));
        return fault_set (f,
                          EINVAL,
                          -1,
                          "racks '%.80s': %s, give a regular expression such as '^(rack[0-9]+)'",
                          pattern,
                          why);
    }
    rc = -1;
    if (!(names = calloc (n > 0 ? n : 1, sizeof (*names)))) {
        fault_set (f, ENOMEM, -1, "racks: out of memory for %d hosts", n);
        goto done;
    }
    for (int i = 0; i < n; i++) {
        if (!(names[i] = match (&re, hosts[i]))) {
            if (errno == ENOENT)
                fault_set (f,
                           EINVAL,
                           i,
                           "racks '%.80s': it finds no rack in the name of host %.80s,"
                           " give a pattern for all of them",
                           pattern,
                           hosts[i]);
            else
                fault_set (f, ENOMEM, -1, "racks: out of memory for %d hosts", n);
            goto done;
        }
    }
    rc = groups_number ((const char *const *)names, n, groups, f);
done:
    for (int i = 0; names && i < n; i++)
        free (names[i]);
    free (names);
    regfree (&re);
    return rc;
}

int groups_find (const char *spec,
                 const char *const *hosts,
                 int n,
                 int32_t *groups,
                 struct fault *f)
{
    struct stat sb;

    if (strchr (spec, '/') || (stat (spec, &sb) == 0 && S_ISREG (sb.st_mode)))
        return groups_by_file (hosts, n, spec, groups, f);
    return groups_by_pattern (hosts, n, spec, groups, f);
}
