/* fault.h - what went wrong, on which rank, in one line
 *
 * Functions that can fail return 0, or -1 with errno set; those that know more
 * than errno can say also fill in a struct fault that the caller passed.
 */
#ifndef FLUX_TREE_FAULT_H
#define FLUX_TREE_FAULT_H

#include <stdarg.h>

/* cffi begin */
enum fault_kind {
    FAULT_OTHER = 0,
    FAULT_SOURCE = 1,
    FAULT_DESTINATION = 2,
};

struct fault {
    int kind;       /* what it is about: an enum fault_kind */
    int errnum;     /* an errno value, never 0 after a failure */
    int rank;       /* the rank concerned, or -1 */
    char text[500]; /* one line, no newline at the end */
};
/* cffi end */

/* Fill in 'f' (which may be NULL) and set errno. Always returns -1, so that
 * a function can end with: return fault_set (f, EINVAL, rank, "...").
 */
int fault_set (struct fault *f, int errnum, int rank, const char *fmt, ...)
    __attribute__ ((format (printf, 4, 5)));
int fault_vset (struct fault *f, int errnum, int rank, const char *fmt, va_list ap)
    __attribute__ ((format (printf, 4, 0)));

/* "path/rel", or 'path' if 'rel' is empty, for a message: of a long one the
 * front is left out, so that the reason has its place. Returns a part of 'buf'.
 */
#define FAULT_PATH_SIZE 320
const char *fault_path (char buf[FAULT_PATH_SIZE], const char *path, const char *rel);

#endif
