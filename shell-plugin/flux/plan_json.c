/* plan_json.c - a plan as a jobspec carries it, and as a report says it */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "plan_json.h"

static int read_ints (json_t *list, int n, int32_t *out)
{
    json_t *value;
    size_t i;

    if (!json_is_array (list) || json_array_size (list) != (size_t)n)
        return -1;
    json_array_foreach (list, i, value) {
        if (json_is_boolean (value))
            out[i] = json_is_true (value);
        else if (json_is_integer (value) && json_integer_value (value) >= INT32_MIN
                 && json_integer_value (value) <= INT32_MAX)
            out[i] = json_integer_value (value);
        else
            return -1;
    }
    return 0;
}

static int read_deliver (json_t *list, struct plan *p)
{
    int32_t *values;
    int rc = -1;

    if ((values = malloc (sizeof (*values) * p->n))
        && read_ints (list, p->n, values) == 0) {
        for (int i = 0; i < p->n; i++)
            p->deliver[i] = values[i] != 0;
        rc = 0;
    }
    free (values);
    return rc;
}

struct plan *plan_from_json (json_t *o, char **strategy, struct fault *f)
{
    struct plan *p = NULL;
    const char *name = "custom";
    json_t *parents;
    json_t *deliver;
    json_t *phase = NULL;
    int stripes;
    int n;

    if (json_unpack (o,
                     "{s?s s:o s:o s?o !}",
                     "strategy", &name,
                     "parents", &parents,
                     "deliver", &deliver,
                     "phase", &phase) < 0
        || !json_is_array (parents) || !json_is_array (json_array_get (parents, 0)))
        goto invalid;
    stripes = json_array_size (parents);
    n = json_array_size (json_array_get (parents, 0));
    if (stripes > PLAN_MAX_STRIPES || !(p = plan_create (stripes, n)))
        goto invalid;
    for (int s = 0; s < stripes; s++) {
        if (read_ints (json_array_get (parents, s), n, p->parents + (size_t)s * n) < 0)
            goto invalid;
    }
    if (read_deliver (deliver, p) < 0 || (phase && read_ints (phase, n, p->phase) < 0))
        goto invalid;
    if (plan_check (p, f) < 0)
        goto error;
    if (!(*strategy = strdup (name)))
        goto invalid;
    return p;
invalid:
    fault_set (f, EINVAL, -1, "option tree-bcast.plan: is no plan, give what Plan.to_dict () returns");
error:
    plan_destroy (p);
    return NULL;
}

json_t *plan_to_json (const struct plan *p, const char *strategy)
{
    json_t *parents = json_array ();
    json_t *deliver = json_array ();
    json_t *phase = json_array ();
    bool phases = false;

    for (int s = 0; s < p->stripes; s++) {
        json_t *tree = json_array ();

        for (int i = 0; i < p->n; i++)
            json_array_append_new (tree, json_integer (p->parents[(size_t)s * p->n + i]));
        json_array_append_new (parents, tree);
    }
    for (int i = 0; i < p->n; i++) {
        json_array_append_new (deliver, json_boolean (p->deliver[i]));
        json_array_append_new (phase, json_integer (p->phase[i]));
        phases |= p->phase[i] != 0;
    }
    if (!phases) {
        json_decref (phase);
        return json_pack ("{s:s s:o s:o}", "strategy", strategy, "parents", parents, "deliver", deliver);
    }
    return json_pack ("{s:s s:o s:o s:o}",
                      "strategy", strategy,
                      "parents", parents,
                      "deliver", deliver,
                      "phase", phase);
}
