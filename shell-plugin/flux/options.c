/* options.c - what -o tree-bcast says */
#include "options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "choose.h"
#include "manifest.h"
#include "plan_json.h"
#include "pull.h"
#include "shape.h"
#include "value.h"

enum type {
    TYPE_TEXT,
    TYPE_FLAG,    /* true, or one of two words */
    TYPE_SIZE,
    TYPE_RATE,
    TYPE_SECONDS,
    TYPE_COUNT,
    TYPE_DIGEST,
    TYPE_GIVEN,   /* a text, or a list or an object */
    TYPE_PLAN,
};

struct key {
    const char *name;
    enum type type;
    size_t offset;
    const char *words[2]; /* of a flag: for false and for true */
};

#define AT(field) offsetof (struct options, field)

static const struct key keys[] = {
    { "strategy", TYPE_TEXT, AT (strategy), { NULL } },
    { "file", TYPE_TEXT, AT (file), { NULL } },
    { "archive", TYPE_TEXT, AT (archive), { NULL } },
    { "destination", TYPE_TEXT, AT (destination), { NULL } },
    { "transport", TYPE_FLAG, AT (content), { "direct", "content" } },
    { "chunk-size", TYPE_SIZE, AT (chunk_size), { NULL } },
    { "bandwidth", TYPE_RATE, AT (bandwidth), { NULL } },
    { "security", TYPE_FLAG, AT (encrypt), { "none", "tls" } },
    { "timeout", TYPE_SECONDS, AT (timeout), { NULL } },
    { "overwrite", TYPE_FLAG, AT (overwrite), { "false", "true" } },
    { "resume", TYPE_FLAG, AT (resume), { "false", "true" } },
    { "fsync", TYPE_FLAG, AT (sync), { "false", "true" } },
    { "digest", TYPE_DIGEST, AT (sha256), { NULL } },
    { "members", TYPE_TEXT, AT (members), { NULL } },
    { "racks", TYPE_GIVEN, AT (racks), { NULL } },
    { "network", TYPE_GIVEN, AT (network), { NULL } },
    { "on-failure", TYPE_FLAG, AT (go_on), { "abort", "continue" } },
    { "min-ranks", TYPE_COUNT, AT (min_ranks), { NULL } },
    { "report", TYPE_TEXT, AT (report), { NULL } },
    { "interface", TYPE_TEXT, AT (interface), { NULL } },
    { "workers", TYPE_COUNT, AT (workers), { NULL } },
    { "window", TYPE_COUNT, AT (window), { NULL } },
    { "progress", TYPE_SECONDS, AT (progress), { NULL } },
    { "python", TYPE_TEXT, AT (python), { NULL } },
    { "plan", TYPE_PLAN, AT (plan), { NULL } },
};
#define KEY_COUNT (sizeof (keys) / sizeof (keys[0]))

/* Room for a value in a message. */
#define SHOWN "%.80s"

static int refuse (struct fault *f, const char *key, const char *text, const char *mend)
{
    return fault_set (f, EINVAL, -1, "option tree-bcast.%s=" SHOWN ": %s", key, text, mend);
}

static const struct key *find_key (const char *name, struct fault *f)
{
    char names[400] = "";

    for (size_t i = 0; i < KEY_COUNT; i++) {
        size_t used = strlen (names);

        if (!strcmp (keys[i].name, name))
            return &keys[i];
        if (keys[i].type != TYPE_PLAN)
            snprintf (names + used, sizeof (names) - used, "%s%s", i ? ", " : "", keys[i].name);
    }
    fault_set (f, EINVAL, -1, "option tree-bcast: there is no '" SHOWN "', use %s", name, names);
    return NULL;
}

static int set_flag (const struct key *key, const char *text, bool *p, struct fault *f)
{
    char mend[80];
    bool switches = !strcmp (key->words[1], "true");

    for (int i = 0; i < 2; i++) {
        if (!strcmp (text, key->words[i]) || (switches && !strcmp (text, i ? "1" : "0"))) {
            *p = i;
            return 0;
        }
    }
    snprintf (mend, sizeof (mend), "use %s or %s", key->words[0], key->words[1]);
    return refuse (f, key->name, text, mend);
}

static int set_text (const struct key *key, const char *text, char **p, struct fault *f)
{
    char *copy;

    if (*text == '\0')
        return refuse (f, key->name, text, "is empty, give it a value or leave it out");
    if (!(copy = strdup (text)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    free (*p);
    *p = copy;
    return 0;
}

/* "sha256:" and 64 hexadecimal digits */
static int set_digest (const struct key *key, const char *text, unsigned char **p, struct fault *f)
{
    const char tag[] = "sha256:";
    unsigned char *bytes;

    if (!(bytes = malloc (SHA256_SIZE)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (strncmp (text, tag, strlen (tag)) != 0
        || value_hex (text + strlen (tag), bytes, SHA256_SIZE) < 0) {
        free (bytes);
        return refuse (f, key->name, text, "give sha256: and the 64 hex digits of 'sha256sum'");
    }
    free (*p);
    *p = bytes;
    return 0;
}

static int set_value (struct options *o, const struct key *key, const char *text, struct fault *f)
{
    void *p = (char *)o + key->offset;
    uint64_t bytes;
    double seconds;
    double least = strcmp (key->name, "progress") ? 1e-3 : 0;
    char *end;
    long count;

    switch (key->type) {
        case TYPE_TEXT:
            return set_text (key, text, p, f);
        case TYPE_GIVEN:
            return set_text (key, text, &((struct given *)p)->text, f);
        case TYPE_FLAG:
            return set_flag (key, text, p, f);
        case TYPE_SIZE:
            if (value_bytes (text, &bytes) < 0 || bytes < CHUNK_SIZE_MIN || bytes > CHUNK_SIZE_MAX)
                return refuse (f, key->name, text, "give a size from 4KiB to 16MiB");
            *(uint32_t *)p = bytes;
            return 0;
        case TYPE_RATE:
            if (value_rate (text, p) < 0)
                return refuse (f, key->name, text, "give a rate such as 10Gbit/s or 1.2GB/s");
            return 0;
        case TYPE_SECONDS:
            if (value_seconds (text, &seconds) < 0 || seconds < least)
                return refuse (f, key->name, text, "give a time such as 60s or 500ms");
            *(double *)p = seconds;
            return 0;
        case TYPE_COUNT:
            count = strtol (text, &end, 10);
            if (text[0] < '0' || text[0] > '9' || *end || count < 1 || count > 65536)
                return refuse (f, key->name, text, "give a whole number of at least 1");
            *(int *)p = count;
            return 0;
        case TYPE_DIGEST:
            return set_digest (key, text, p, f);
        default:
            return refuse (f, key->name, text, "give the object that Plan.to_dict () returns");
    }
}

/* A value in JSON as text: flux makes numbers of what looks like one. */
static char *value_text (json_t *value)
{
    if (json_is_string (value))
        return strdup (json_string_value (value));
    if (json_is_boolean (value))
        return strdup (json_is_true (value) ? "true" : "false");
    if (json_is_number (value))
        return json_dumps (value, JSON_ENCODE_ANY);
    return strdup ("{...}");
}

static int set_json (struct options *o, const char *name, json_t *value, struct fault *f)
{
    const struct key *key;
    char *text;
    int rc;

    if (!(key = find_key (name, f)))
        return -1;
    if (key->type == TYPE_PLAN && json_is_object (value)) {
        char *strategy = NULL;

        if (!(o->plan = plan_from_json (value, &strategy, f)))
            return -1;
        free (o->strategy);
        o->strategy = strategy;
        return 0;
    }
    if (key->type == TYPE_GIVEN && (json_is_object (value) || json_is_array (value))) {
        struct given *given = (struct given *)((char *)o + key->offset);

        given->json = json_incref (value);
        return 0;
    }
    if (!(text = value_text (value)))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (json_is_object (value) || json_is_array (value) || json_is_null (value))
        rc = refuse (f, name, text, "give a text or a number");
    else
        rc = set_value (o, key, text, f);
    free (text);
    return rc;
}

/* "STRATEGY,key=value,flag" */
static int set_words (struct options *o, const char *text, struct fault *f)
{
    char *copy = strdup (text);
    char *rest = copy;
    char *word;
    bool first = true;
    int rc = copy ? 0 : fault_set (f, ENOMEM, -1, "out of memory");

    while (rc == 0 && (word = strsep (&rest, ","))) {
        char *value = strchr (word, '=');
        const struct key *key;

        if (first && !value) {
            if (*word)
                rc = set_text (&keys[0], word, &o->strategy, f);
        }
        else {
            if (value)
                *value++ = '\0';
            rc = (key = find_key (word, f)) ? set_value (o, key, value ? value : "true", f) : -1;
        }
        first = false;
    }
    free (copy);
    return rc;
}

static bool is_given (const struct given *given)
{
    return given->text || given->json;
}

static int refuse_given (struct fault *f, const char *key, const struct given *given, const char *mend)
{
    return refuse (f, key, given->text ? given->text : "...", mend);
}

/* What the strategy auto reckons with, and what it is of no use for. */
static int check_choice (struct options *o, struct fault *f)
{
    bool chooses = !o->plan && !strcmp (o->strategy, "auto");

    if (chooses && o->content)
        return refuse (f,
                       "strategy",
                       o->strategy,
                       "transport=content goes the way of the brokers' tree: use all");
    if (is_given (&o->racks) && (o->plan || (!chooses && strcmp (o->strategy, "rack"))))
        return refuse_given (f, "racks", &o->racks, "leave it out, it is for strategy=auto or rack");
    if (is_given (&o->network) && !chooses)
        return refuse_given (f, "network", &o->network, "leave it out, it is for strategy=auto");
    return 0;
}

/* What no single key can tell. */
static int check_together (struct options *o, bool archive_given, struct fault *f)
{
    const char *members = o->members;
    char count[16];

    if (o->file && archive_given)
        return refuse (f, "archive", o->archive, "leave it out, or file=: one of them travels");
    if (o->content && o->file)
        return refuse (f,
                       "file",
                       o->file,
                       "transport=content takes an archive: make one with 'flux archive create'");
    if (o->file && pull_is_reference (o->file) && (o->resume || o->sha256))
        return refuse (f,
                       o->resume ? "resume" : "digest",
                       o->resume ? "true" : "sha256:...",
                       o->resume ? "what is pulled from a registry always comes anew: leave it out"
                                 : "name what is pulled by its own digest instead: file=REF@sha256:HEX");
    if (o->content && o->resume)
        return refuse (f,
                       "resume",
                       "true",
                       "transport=content fetches all of an archive: use transport=direct");
    if (o->content && o->sha256)
        return refuse (f,
                       "digest",
                       "sha256:...",
                       "transport=content takes an archive, not one file: use transport=direct");
    if (o->min_ranks > 0 && !o->go_on) {
        snprintf (count, sizeof (count), "%d", o->min_ranks);
        return refuse (f, "min-ranks", count, "leave it out, it is for on-failure=continue");
    }
    if (!o->strategy && !(o->strategy = strdup (o->content ? "all" : "two-tree")))
        return fault_set (f, ENOMEM, -1, "out of memory");
    if (!o->plan && strchr (o->strategy, ':') && choose_check (o->strategy, NULL) < 0
        && errno == ENOENT)
        return refuse (f,
                       "strategy",
                       o->strategy,
                       "a class of your own is turned into a plan at submission: set up the "
                       "environment with 'flux-tree env' first");
    if ((!o->plan && choose_check (o->strategy, f) < 0) || check_choice (o, f) < 0)
        return -1;
    if (o->plan && members)
        return refuse (f, "members", members, "the plan says already who gets the data");
    if (members && strcmp (members, "all") && strcmp (members, "leaves")
        && strcmp (members, "middle-leaves") && value_idset (members, INT32_MAX, NULL) < 0)
        return refuse (f, "members", members, "use all, leaves, middle-leaves, or ranks as in 0-3,5");
    return 0;
}

struct options *options_create (json_t *config, struct fault *f)
{
    struct options *o;
    const char *name;
    json_t *value;
    bool archive_given;

    if (!(o = calloc (1, sizeof (*o)))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        return NULL;
    }
    o->encrypt = true;
    o->timeout = 60;
    if (json_is_string (config)) {
        if (set_words (o, json_string_value (config), f) < 0)
            goto error;
    }
    else if (json_is_object (config)) {
        json_object_foreach (config, name, value) {
            if (set_json (o, name, value, f) < 0)
                goto error;
        }
    }
    /* "-o tree-bcast" alone is the number 1 */
    else if (!json_is_integer (config) || json_integer_value (config) != 1) {
        fault_set (f, EINVAL, -1, "option tree-bcast: give a strategy, such as tree-bcast=two-tree");
        goto error;
    }
    archive_given = o->archive != NULL;
    if (!o->archive && !(o->archive = strdup ("main"))) {
        fault_set (f, ENOMEM, -1, "out of memory");
        goto error;
    }
    if (check_together (o, archive_given, f) < 0)
        goto error;
    return o;
error:
    options_destroy (o);
    return NULL;
}

void options_destroy (struct options *o)
{
    if (o) {
        int saved_errno = errno;

        free (o->strategy);
        free (o->file);
        free (o->archive);
        free (o->destination);
        free (o->members);
        free (o->sha256);
        free (o->report);
        free (o->interface);
        free (o->python);
        free (o->racks.text);
        json_decref (o->racks.json);
        free (o->network.text);
        json_decref (o->network.json);
        plan_destroy (o->plan);
        free (o);
        errno = saved_errno;
    }
}

int options_check (const char *json, struct fault *f)
{
    json_error_t error;
    json_t *config;
    struct options *o;

    if (!(config = json_loads (json, JSON_DECODE_ANY, &error)))
        return fault_set (f, EINVAL, -1, "option tree-bcast: %s", error.text);
    o = options_create (config, f);
    json_decref (config);
    if (!o)
        return -1;
    options_destroy (o);
    return 0;
}
