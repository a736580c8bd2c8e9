/* check.h - the little that a test program needs
 *
 * A program prints one line for each feature that it tests, and what failed;
 * it ends with the number of failures, or 77 if it had to skip everything.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"

/* Go on after a failure. */
#define ok(cond) check_ok ((cond), #cond, __FILE__, __LINE__)
/* Do not: the rest makes no sense, or a call of the system failed. */
#define must(cond) check_must ((cond), #cond, __FILE__, __LINE__)
/* The fault is about this, and its text says so. */
#define ok_fault(f, errnum, text) \
    check_fault ((f), (errnum), (text), __FILE__, __LINE__)

bool check_ok (bool cond, const char *what, const char *file, int line);
void check_must (bool cond, const char *what, const char *file, int line);
bool check_fault (const struct fault *f,
                  int errnum,
                  const char *text,
                  const char *file,
                  int line);

/* Run one feature in a directory of its own, which is removed afterwards. The
 * function gets its path, without a slash at the end.
 */
void check_run (const char *name, void (*fn) (const char *dir));
#define run(fn) check_run (#fn, fn)
/* Say why a feature, or a part of it, is not tested here. */
void check_skip (const char *why);
int check_end (void);

/* Run 'fn' as the user nobody in a process of its own, which is the only one
 * that may fail. False if this is not possible.
 */
bool check_as_nobody (void (*fn) (const char *dir), const char *dir);

/* A path, which lives until the feature is tested. */
const char *path (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));

/* Write a file of 'size' bytes that depend on 'seed' and are hard to pack. */
void make_file (const char *name, size_t size, unsigned int seed);
/* Write 'size' of those bytes at an offset of a file that may exist. */
void write_at (const char *name, uint64_t offset, size_t size, unsigned int seed);
void make_dir (const char *name);
void set_mtime (const char *name, int64_t seconds);
/* Names in a directory, but . and .. */
int count_names (const char *dir);
/* Descriptors that this process has open. */
int count_fds (void);

#endif
