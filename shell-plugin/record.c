/* record.c - write a record that somebody else may be reading */
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "fault.h"

void record_init (struct record *r, int rank, int deliver)
{
    memset (r, 0, sizeof (*r));
    r->rank = rank;
    r->deliver = deliver;
    r->started = r->connected = r->first_byte = r->last_byte = r->verified =
        r->renamed = -1;
    for (size_t s = 0; s < sizeof (r->parents) / sizeof (r->parents[0]); s++)
        r->parents[s] = -2;
}

void record_set (double *field, double value)
{
    __atomic_store (field, &value, __ATOMIC_RELAXED);
}

void record_set_state (struct record *r, enum record_state state)
{
    __atomic_store_n (&r->state, state, __ATOMIC_RELEASE);
}

void record_usage (struct record *r)
{
    struct rusage ru;

    getrusage (RUSAGE_SELF, &ru);
    r->cpu = ru.ru_utime.tv_sec + ru.ru_stime.tv_sec
             + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    r->memory = (uint64_t)ru.ru_maxrss * 1024;
}

int record_failure (struct record *r, struct fault *f)
{
    if (f->rank < 0)
        f->rank = r->rank;
    r->kind = f->kind;
    r->errnum = f->errnum;
    snprintf (r->text, sizeof (r->text), "%s", f->text);
    record_set_state (r, RECORD_FAILED);
    errno = f->errnum;
    return -1;
}
