/* server_gates.c - nobody goes on before all have come as far
 *
 * Ranks of a later phase begin when those of the earlier ones are complete; all
 * rename when all have everything; and when all have renamed, it is done.
 */
#include "server_impl.h"

/* Open every gate whose time has come. */
void server_advance (struct server *s)
{
    int lowest = INT32_MAX; /* phase of a rank that is not complete */
    bool published = true;
    bool sealed = true;

    if (s->stage != RUNNING)
        return;
    for (int i = 0; i < s->b->size; i++) {
        if (!server_is_active (s, i))
            continue;
        published &= s->peers[i].state == PUBLISHED;
        if (s->peers[i].state < SEALED) {
            sealed = false;
            if (s->plan->phase[i] < lowest)
                lowest = s->plan->phase[i];
        }
    }
    if (published) {
        s->stage = DONE;
        server_begin_report (s);
        /* tasks begin as soon as their shell has finished */
        server_tell_all (s, server_lost_rank (s) < 0 ? "finish" : "abort");
        return;
    }
    if (sealed && !s->publishing) {
        s->publishing = true;
        for (int i = 0; i < s->b->size; i++) {
            if (server_is_active (s, i))
                server_tell_event (s, i, "publish");
        }
        return;
    }
    for (int i = 0; i < s->b->size; i++) {
        if (server_is_active (s, i) && !s->peers[i].started && s->plan->phase[i] <= lowest) {
            s->peers[i].started = true;
            if (s->plan->phase[i] > 0)
                server_tell_event (s, i, "start");
        }
    }
}

