/* options.h - what -o tree-bcast says
 *
 * Either a text, "STRATEGY" or "STRATEGY,key=value,..."; or an object with the
 * same keys. Every unknown key and every bad value is refused, by name.
 */
#ifndef FLUX_TREE_OPTIONS_H
#define FLUX_TREE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "fault.h"
#include "plan.h"

#define SHA256_SIZE 32

/* A text that says where to look, or what it is itself. */
struct given {
    char *text;   /* NULL: not so */
    json_t *json; /* NULL: not so */
};

struct options {
    char *strategy;     /* never NULL */
    char *file;         /* NULL: an archive travels */
    char *archive;      /* never NULL */
    char *destination;  /* NULL: FLUX_JOB_TMPDIR */
    char *members;      /* NULL: all */
    char *report;       /* NULL: none */
    char *interface;    /* NULL: that of the TBON */
    char *python;       /* that has flux_tree; NULL: the environment says which */
    bool content;       /* transport=content, else direct */
    bool encrypt;
    bool overwrite;
    bool go_on;         /* on-failure=continue */
    bool resume;
    bool sync;
    unsigned char *sha256; /* 32 bytes, of the one file that travels; or NULL */
    int min_ranks;      /* with go_on; 0: any */
    uint32_t chunk_size;/* 0: one that fits */
    double bandwidth;   /* of one NIC, bytes per second; 0: unknown */
    double timeout;     /* seconds */
    double progress;    /* seconds, 0: never */
    int workers;        /* 0: as many as fit */
    int window;         /* 0: as many as fit */
    struct given racks;   /* of the hosts: a pattern or a file; or the rack of each shell */
    struct given network; /* a file; or its numbers */
    struct plan *plan;  /* made at submission, or NULL */
};

struct options *options_create (json_t *config, struct fault *f);
void options_destroy (struct options *o);

/* cffi begin */
/* Refuse an option, given as JSON text, that the plugin would refuse. */
int options_check (const char *json, struct fault *f);
/* cffi end */


#endif
