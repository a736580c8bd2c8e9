/* fault.h - what went wrong, on which rank, in one line
 *
 * Functions that can fail return 0, or -1 with errno set; those that know more
 * than errno can say also fill in a struct fault that the caller passed.
 */
#ifndef FLUX_TREE_FAULT_H
#define FLUX_TREE_FAULT_H

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

#endif
