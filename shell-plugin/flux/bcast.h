/* bcast.h - what the files of the shell plugin share
 *
 * Every shell has a client, which runs its own part; the first shell has the
 * server too, which brings them together. The server speaks to its own client
 * as it does to all others, by shell RPC.
 *
 * A client says hello, once, and gets a stream of answers:
 *   welcome   the first shell has the plugin
 *   alive     it is there, now and then
 *   setup     its part: parents, children, key
 *   start     ranks of earlier phases are complete
 *   publish   everybody has everything: rename
 *   finish    everybody is done
 *   drop      the others go on without this one: clean up, and wait with them
 *   abort     it failed: clean up
 * and it reports its state: running, sealed, published, failed; in between it
 * says that it is alive.
 */
#ifndef FLUX_TREE_BCAST_H
#define FLUX_TREE_BCAST_H

#include <stdbool.h>
#include <sys/types.h>

#include "fault.h"
#include "options.h"
#include "weak.h"

#define KEY_SIZE 32
#define ID_SIZE 16

struct server;
struct client;
struct source;
struct record;

struct bcast {
    flux_shell_t *shell;
    flux_t *h;
    flux_reactor_t *r;
    int rank; /* of the shell */
    int size;
    struct options *options; /* NULL: refused */
    struct server *server;   /* first shell only */
    struct client *client;
    bool terminated;         /* by a signal */
    mode_t umask;
    struct fault fault;      /* why this shell cannot take part, or go on */
};

/* The name of the host that a shell runs on. */
const char *bcast_host (struct bcast *b, int rank);

/* Ask shell 'rank' to answer, or to do, 'method'. */
flux_future_t *bcast_rpc (struct bcast *b, const char *method, json_t *o, int flags);

/* Seconds between two signs of life, and how many of them may be missed. */
double bcast_tick (struct bcast *b);
int bcast_silent_max (struct bcast *b);

/* Overwrite a secret text, of an object of ours. */
void bcast_forget (json_t *text);

/* server.c */
struct server *server_create (struct bcast *b);
void server_destroy (struct server *s);
/* To be called before the reactor runs: begins to get ready what travels. */
void server_begin (struct server *s);
/* To be called after it has ended: reports, and ends the job after a failure,
 * unless that is to be ignored.
 */
void server_end (struct server *s);
/* A shell has died. */
void server_lost (struct server *s, int rank);
/* Removes what was fetched and has no final name; the rest of the server stays
 * for as long as somebody may ask it.
 */
void server_close (struct server *s);
/* For the client of the first shell. */
struct source *server_source (struct server *s);

/* client.c */
struct client *client_create (struct bcast *b);
void client_destroy (struct client *c);
/* Say hello; the rest follows in the reactor. */
int client_begin (struct client *c, struct fault *f);
/* Run the reactor until it is over: -1 if it has failed, or was ended. */
int client_run (struct client *c);

#endif
