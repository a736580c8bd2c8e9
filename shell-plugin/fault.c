/* fault.c - what went wrong, on which rank, in one line */
#include "fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int fault_set (struct fault *f, int errnum, int rank, const char *fmt, ...)
{
    if (f) {
        va_list ap;

        f->kind = FAULT_OTHER;
        f->errnum = errnum;
        f->rank = rank;
        va_start (ap, fmt);
        vsnprintf (f->text, sizeof (f->text), fmt, ap);
        va_end (ap);
    }
    errno = errnum;
    return -1;
}
