/* openat.h - open what stands below a directory, and nothing else
 *
 * A directory of a tree may be exchanged for a link while we are at work in it,
 * by somebody who may write there. No link below the top is followed.
 */
#ifndef FLUX_TREE_OPENAT_H
#define FLUX_TREE_OPENAT_H

/* Open 'path', which has no "..", below the directory 'topfd'; 'flags' without
 * O_CREAT. A link in it, wherever it leads, is an error: ELOOP.
 */
int open_below (int topfd, const char *path, int flags);

/* The same for kernels without openat2: component by component. */
int open_stepwise (int topfd, const char *path, int flags);

/* What an error of the system means, and the mend where we know one. */
const char *open_error (int errnum);

#endif
