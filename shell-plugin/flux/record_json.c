/* record_json.c - a record as the numbers that travel to the first shell */
#include "record_json.h"

#include <stddef.h>
#include <string.h>

enum type {
    TYPE_INT32,
    TYPE_UINT64,
    TYPE_DOUBLE,
    TYPE_PARENTS,
    TYPE_LINKS,
    TYPE_TEXT,
};

#define FIELD(name, type) { #name, TYPE_##type, offsetof (struct record, name) }

static const struct {
    const char *name;
    enum type type;
    size_t offset;
} fields[] = {
    FIELD (rank, INT32),          FIELD (state, INT32),        FIELD (deliver, INT32),
    FIELD (kind, INT32),          FIELD (errnum, INT32),       FIELD (started, DOUBLE),
    FIELD (connected, DOUBLE),    FIELD (first_byte, DOUBLE),  FIELD (last_byte, DOUBLE),
    FIELD (verified, DOUBLE),     FIELD (renamed, DOUBLE),     FIELD (alive, DOUBLE),
    FIELD (bytes_in, UINT64),     FIELD (bytes_out, UINT64),   FIELD (chunks_in, UINT64),
    FIELD (chunks_out, UINT64),   FIELD (bytes_kept, UINT64),  FIELD (bad_chunks, UINT64),
    FIELD (retries, UINT64),      FIELD (moves, UINT64),       FIELD (refused, UINT64),
    FIELD (wait_data, DOUBLE),    FIELD (wait_link, DOUBLE),   FIELD (wait_disk, DOUBLE),
    FIELD (cpu, DOUBLE),          FIELD (memory, UINT64),      FIELD (clock_offset, DOUBLE),
    FIELD (clock_error, DOUBLE),  FIELD (parents, PARENTS),    FIELD (links, LINKS),
    FIELD (text, TEXT),
};
#define FIELD_COUNT (sizeof (fields) / sizeof (fields[0]))

json_t *record_fields (void)
{
    json_t *names = json_array ();

    for (size_t i = 0; i < FIELD_COUNT; i++)
        json_array_append_new (names, json_string (fields[i].name));
    return names;
}

/* JSON knows only valid UTF-8; names of files may be anything. */
json_t *record_text (const char *text)
{
    char plain[sizeof (((struct record *)0)->text)];
    json_t *o = json_string (text);
    size_t len = strnlen (text, sizeof (plain) - 1);

    if (o)
        return o;
    for (size_t i = 0; i < len; i++)
        plain[i] = text[i] & 0x80 ? '?' : text[i];
    plain[len] = '\0';
    return json_string (plain);
}

static json_t *field_to_json (const struct record *r, size_t i, int stripes)
{
    const void *p = (const char *)r + fields[i].offset;
    json_t *array;

    switch (fields[i].type) {
        case TYPE_INT32:
            return json_integer (*(const int32_t *)p);
        case TYPE_UINT64:
            return json_integer (*(const uint64_t *)p);
        case TYPE_DOUBLE:
            return json_real (*(const double *)p);
        case TYPE_TEXT:
            return record_text (p);
        case TYPE_PARENTS:
            array = json_array ();
            for (int s = 0; s < stripes; s++)
                json_array_append_new (array, json_integer (r->parents[s]));
            return array;
        case TYPE_LINKS:
            array = json_array ();
            for (int s = 0; s < stripes; s++)
                json_array_append_new (array, json_real (r->links[s]));
            return array;
    }
    return NULL;
}

json_t *record_to_json (const struct record *r, int stripes)
{
    json_t *values = json_array ();

    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (json_array_append_new (values, field_to_json (r, i, stripes)) < 0) {
            json_decref (values);
            return NULL;
        }
    }
    return values;
}

static int find_field (const char *name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (!strcmp (fields[i].name, name))
            return i;
    }
    return -1;
}

json_t *record_json_field (json_t *record, const char *name)
{
    return json_array_get (record, find_field (name));
}

int record_json_fail (json_t *record, const struct fault *f)
{
    if (json_array_set_new (record, find_field ("state"), json_integer (RECORD_FAILED)) < 0
        || json_array_set_new (record, find_field ("kind"), json_integer (f->kind)) < 0
        || json_array_set_new (record, find_field ("errnum"), json_integer (f->errnum)) < 0
        || json_array_set_new (record, find_field ("text"), record_text (f->text)) < 0)
        return -1;
    return 0;
}

json_t *record_json_empty (int rank, int deliver)
{
    struct record r;

    record_init (&r, rank, deliver);
    return record_to_json (&r, 0);
}
