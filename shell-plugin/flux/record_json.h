/* record_json.h - a record as the numbers that travel to the first shell */
#ifndef FLUX_TREE_RECORD_JSON_H
#define FLUX_TREE_RECORD_JSON_H

#include <jansson.h>

#include "fault.h"
#include "record.h"

/* The names of the fields, in their order. */
json_t *record_fields (void);

/* The values of the fields; of the parents only 'stripes'. NULL only if out of
 * memory.
 */
json_t *record_to_json (const struct record *r, int stripes);

/* A text in JSON, whatever bytes are in it. */
json_t *record_text (const char *text);

/* Of a rank that has said nothing. */
json_t *record_json_empty (int rank, int deliver);
/* One of the values, by the name of its field. */
json_t *record_json_field (json_t *record, const char *name);
/* It becomes the record of a rank that has failed. */
int record_json_fail (json_t *record, const struct fault *f);

#endif
