/* fault.c - what went wrong, on which rank, in one line */
#include "fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int fault_vset (struct fault *f, int errnum, int rank, const char *fmt, va_list ap)
{
    if (f) {
        f->kind = FAULT_OTHER;
        f->errnum = errnum;
        f->rank = rank;
        vsnprintf (f->text, sizeof (f->text), fmt, ap);
        /* a name may hold anything, and the text is one line */
        for (char *p = f->text; *p; p++) {
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                *p = '?';
        }
    }
    errno = errnum;
    return -1;
}

int fault_set (struct fault *f, int errnum, int rank, const char *fmt, ...)
{
    va_list ap;

    va_start (ap, fmt);
    fault_vset (f, errnum, rank, fmt, ap);
    va_end (ap);
    return -1;
}

static char *prepend (char *at, char *buf, const char *s)
{
    size_t len = strlen (s);
    size_t room = at - buf;

    if (len > room) {
        s += len - room;
        len = room;
    }
    return memcpy (at - len, s, len);
}

const char *fault_path (char buf[FAULT_PATH_SIZE], const char *path, const char *rel)
{
    char *at = buf + FAULT_PATH_SIZE - 1;
    size_t len = strlen (path) + strlen (rel) + 1;

    *at = '\0';
    if (*rel) {
        at = prepend (at, buf, rel);
        at = prepend (at, buf, "/");
    }
    at = prepend (at, buf, path);
    if (len >= FAULT_PATH_SIZE)
        memcpy (at, "...", 3);
    return at;
}
