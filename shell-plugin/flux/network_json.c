/* network_json.c - the numbers of a network as a file has them */
#include "network_json.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "groups.h"

#define VERSION 1

enum type {
    TYPE_RATE,       /* above 0 */
    TYPE_BOUND,      /* the same, or null for none */
    TYPE_COST,       /* 0 or more */
    TYPE_PROCESSORS,
    TYPE_UNUSED,     /* of no use for a plan */
};

#define AT(field) offsetof (struct network, field)

/* Of the class Network in Python, with its defaults. */
static const struct {
    const char *name;
    enum type type;
    size_t offset;
    double typical;
} fields[] = {
    { "bandwidth", TYPE_RATE, AT (bandwidth), 0 },
    { "burst", TYPE_COST, AT (burst), 0 },
    { "latency", TYPE_COST, AT (latency), 50e-6 },
    { "start", TYPE_COST, AT (start), 0 },
    { "per_connection", TYPE_COST, AT (per_connection), 1e-3 },
    { "per_chunk", TYPE_COST, AT (per_chunk), 20e-6 },
    { "encryption", TYPE_BOUND, AT (encryption), 2e9 },
    { "disk", TYPE_BOUND, AT (disk), 0 },
    { "uplink", TYPE_BOUND, AT (uplink), 0 },
    { "per_blob", TYPE_COST, AT (per_blob), 2e-3 },
    { "broker", TYPE_BOUND, AT (broker), 4e8 },
    { "per_load", TYPE_COST, AT (per_load), 1e-3 },
    { "processors", TYPE_PROCESSORS, AT (processors), 0 },
    { "extract_start", TYPE_UNUSED, 0, 0 },
    { "origin", TYPE_UNUSED, 0, 0 },
    { "version", TYPE_UNUSED, 0, 0 },
    { "rates", TYPE_UNUSED, 0, 0 },
    { "groups", TYPE_UNUSED, 0, 0 },
};
#define FIELD_COUNT (sizeof (fields) / sizeof (fields[0]))

#define PROCESSORS_MAX (1 << 20)
#define FOR_WHOM "make it with 'flux-tree calibrate'"

static int refuse (struct fault *f, const char *what, const char *name, const char *mend)
{
    return fault_set (f, EINVAL, -1, "%.200s: %.40s: %s", what, name, mend);
}

void network_init (struct network *net, double bandwidth)
{
    memset (net, 0, sizeof (*net));
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].type <= TYPE_COST)
            *(double *)((char *)net + fields[i].offset) = fields[i].typical;
    }
    net->bandwidth = bandwidth;
}

void network_finish (struct network *net)
{
    free ((double *)net->rates);
    free ((int32_t *)net->groups);
    net->rates = NULL;
    net->groups = NULL;
}

static int set_field (struct network *net,
                      const char *name,
                      json_t *value,
                      const char *what,
                      struct fault *f)
{
    double number = json_number_value (value);
    size_t i;

    for (i = 0; i < FIELD_COUNT && strcmp (fields[i].name, name); i++)
        ;
    if (i == FIELD_COUNT)
        return refuse (f, what, name, "is no number of a network, " FOR_WHOM);
    switch (fields[i].type) {
        case TYPE_UNUSED:
            return 0;
        case TYPE_BOUND:
        case TYPE_PROCESSORS:
            if (json_is_null (value))
                break;
            /* fall through */
        case TYPE_RATE:
            if (!json_is_number (value) || !(number > 0))
                return refuse (f, what, name, "give a number above 0");
            break;
        case TYPE_COST:
            if (!json_is_number (value) || !(number >= 0))
                return refuse (f, what, name, "give a number, not below 0");
            break;
    }
    if (fields[i].type == TYPE_PROCESSORS) {
        if (number > PROCESSORS_MAX || number != (int)number)
            return refuse (f, what, name, "give a whole number up to 1048576");
        net->processors = number;
    }
    else
        *(double *)((char *)net + fields[i].offset) = number;
    return 0;
}

static int set_rates (struct network *net, json_t *o, int n, const char *what, struct fault *f)
{
    double *rates = NULL;
    const char *rank;
    json_t *value;

    if (o && !json_is_object (o))
        return refuse (f, what, "rates", "give an object of ranks and rates");
    json_object_foreach (o, rank, value) {
        char *end;
        long r = strtol (rank, &end, 10);

        if (*rank < '0' || *rank > '9' || *end || !(json_number_value (value) > 0)) {
            free (rates);
            return refuse (f, what, "rates", "give ranks, and numbers above 0");
        }
        if (r >= n)
            continue;
        if (!rates) {
            if (!(rates = malloc (sizeof (*rates) * n)))
                return fault_set (f, ENOMEM, -1, "%.200s: out of memory", what);
            for (int i = 0; i < n; i++)
                rates[i] = net->bandwidth;
        }
        rates[r] = json_number_value (value);
    }
    net->rates = rates;
    return 0;
}

int network_groups (int32_t *groups, json_t *list, int n, const char *what, struct fault *f)
{
    char **names;
    json_t *value;
    size_t i;
    int rc = -1;

    if (json_array_size (list) != (size_t)n)
        return fault_set (f,
                          EINVAL,
                          -1,
                          "%.200s: there are %zu for %d ranks, give one each",
                          what,
                          json_array_size (list),
                          n);
    if (!(names = calloc (n > 0 ? n : 1, sizeof (*names))))
        return fault_set (f, ENOMEM, -1, "%.200s: out of memory", what);
    json_array_foreach (list, i, value) {
        if (json_is_string (value))
            names[i] = strdup (json_string_value (value));
        else if (json_is_integer (value))
            names[i] = json_dumps (value, JSON_ENCODE_ANY);
        else {
            fault_set (f, EINVAL, i, "%.200s: give a number or a name for each rank", what);
            goto done;
        }
        if (!names[i]) {
            fault_set (f, ENOMEM, -1, "%.200s: out of memory", what);
            goto done;
        }
    }
    rc = groups_number ((const char *const *)names, n, groups, f);
done:
    for (int r = 0; r < n; r++)
        free (names[r]);
    free (names);
    return rc;
}

static int set_groups (struct network *net, json_t *list, int n, const char *what, struct fault *f)
{
    int32_t *groups;

    if (!list || json_is_null (list))
        return 0;
    if (!json_is_array (list))
        return refuse (f, what, "groups", "give a list");
    if (json_array_size (list) != (size_t)n)
        return 0;
    if (!(groups = malloc (sizeof (*groups) * n)))
        return fault_set (f, ENOMEM, -1, "%.200s: out of memory", what);
    net->groups = groups;
    return network_groups (groups, list, n, what, f);
}

int network_from_json (struct network *net,
                       json_t *o,
                       int n,
                       double bandwidth,
                       const char *what,
                       struct fault *f)
{
    json_t *version = json_object_get (o, "version");
    struct network found;
    const char *name;
    json_t *value;

    if (!json_is_integer (version) || json_integer_value (version) != VERSION)
        return fault_set (f, EINVAL, -1, "%.200s: no numbers of a network, " FOR_WHOM, what);
    network_init (&found, 0);
    json_object_foreach (o, name, value) {
        if (set_field (&found, name, value, what, f) < 0)
            return -1;
    }
    if (found.bandwidth == 0)
        return refuse (f, what, "bandwidth", "is missing, " FOR_WHOM);
    if (bandwidth > 0)
        found.bandwidth = bandwidth;
    if (set_rates (&found, json_object_get (o, "rates"), n, what, f) < 0
        || set_groups (&found, json_object_get (o, "groups"), n, what, f) < 0) {
        network_finish (&found);
        return -1;
    }
    *net = found;
    return 0;
}

int network_parse (struct network *net,
                   const char *json,
                   int n,
                   double bandwidth,
                   struct fault *f)
{
    json_error_t error;
    json_t *o;
    int rc;

    if (!(o = json_loads (json, 0, &error)))
        return fault_set (f, EINVAL, -1, "network: %s", error.text);
    rc = network_from_json (net, o, n, bandwidth, "network", f);
    json_decref (o);
    return rc;
}

/* What was measured on one machine does not all hold between nodes, as in
 * Python's Network.between_nodes (). 1 if nothing of it does.
 */
static int between_nodes (struct network *net, json_t *o)
{
    const char *origin = json_string_value (json_object_get (o, "origin"));

    if (origin && !strncmp (origin, "loopback", 8)) {
        network_finish (net);
        return 1;
    }
    if (origin && !strncmp (origin, "lab", 3)) {
        net->processors = 0;
        net->burst = 0;
    }
    return 0;
}

int network_load (struct network *net,
                  const char *path,
                  int n,
                  double bandwidth,
                  bool as_it_is,
                  struct fault *f)
{
    json_error_t error;
    FILE *file;
    json_t *o;
    int rc;

    if (!(file = fopen (path, "re"))) {
        if (errno == ENOENT)
            return fault_set (f,
                              ENOENT,
                              -1,
                              "%.200s: there is no such file, " FOR_WHOM,
                              path);
        return fault_set (f, errno, -1, "%.200s: cannot be read (%s)", path, strerror (errno));
    }
    o = json_loadf (file, 0, &error);
    fclose (file);
    if (!o)
        return fault_set (f, EINVAL, -1, "%.200s: cannot be read (%s)", path, error.text);
    rc = network_from_json (net, o, n, bandwidth, path, f);
    if (rc == 0 && !as_it_is)
        rc = between_nodes (net, o);
    json_decref (o);
    return rc;
}
