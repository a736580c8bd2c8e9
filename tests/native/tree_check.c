/* tree_check.c - sources to broadcast, and whether what came is the same */
#include "tree_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

void make_tree (const char *dir, unsigned int chunk)
{
    char name[256];

    make_dir (dir);
    make_dir (path ("%s/sub", dir));
    make_dir (path ("%s/sub/deeper", dir));
    make_dir (path ("%s/empty", dir));
    for (int i = 0; i < 40; i++)
        make_file (path ("%s/sub/small-%d", dir, i), 1 + i * 97, i);
    make_file (path ("%s/none", dir), 0, 50);
    make_file (path ("%s/one chunk", dir), chunk, 51);
    make_file (path ("%s/sub/deeper/chunks", dir), 3 * chunk + 17, 52);
    make_file (path ("%s/sub/read-only", dir), 2 * chunk + 5, 53);
    must (chmod (path ("%s/sub/read-only", dir), 0444) == 0);
    make_file (path ("%s/run", dir), 100, 54);
    must (chmod (path ("%s/run", dir), 0777) == 0);
    make_file (path ("%s/\xff\xfe not UTF-8", dir), 10, 55);
    memset (name, 'n', 255);
    name[255] = '\0';
    make_file (path ("%s/%s", dir, name), 11, 56);
    make_file (path ("%s/new\nline", dir), 12, 57);
    write_at (path ("%s/holes", dir), 0, 4096, 58);
    write_at (path ("%s/holes", dir), 1 << 20, 3 * chunk, 59);
    must (truncate (path ("%s/holes", dir), 2 << 20) == 0);
    set_mtime (path ("%s/holes", dir), 1400000000);
    make_file (path ("%s/all hole", dir), 0, 60);
    must (truncate (path ("%s/all hole", dir), 1 << 20) == 0);
    must (symlink ("../sub/small-1", path ("%s/sub/link", dir)) == 0);
    must (symlink ("/does/not/exist", path ("%s/dangling", dir)) == 0);
    set_mtime (path ("%s/dangling", dir), 1300000000);
    must (chmod (path ("%s/empty", dir), 0555) == 0);
    must (chmod (path ("%s/sub/deeper", dir), 01755) == 0);
    set_mtime (path ("%s/empty", dir), 1200000000);
    set_mtime (path ("%s/sub/deeper", dir), 1100000000);
    set_mtime (path ("%s/sub", dir), 1000000000);
    set_mtime (dir, 900000000);
}

static bool differ (const char *name, const char *what)
{
    printf ("# %s: %s differs\n", name, what);
    return false;
}

static bool same_data (const char *a, const char *b)
{
    FILE *fa = fopen (a, "re");
    FILE *fb = fopen (b, "re");
    static char da[65536];
    static char db[65536];
    bool same = true;
    size_t n;

    must (fa && fb);
    do {
        n = fread (da, 1, sizeof (da), fa);
        same = fread (db, 1, sizeof (db), fb) == n && !memcmp (da, db, n);
    } while (same && n > 0);
    fclose (fa);
    fclose (fb);
    return same;
}

static bool same_names (const char *a, const char *b)
{
    struct dirent *d;
    bool same = true;
    DIR *dir;

    if (count_names (a) != count_names (b))
        return differ (b, "the number of names");
    must ((dir = opendir (a)));
    while (same && (d = readdir (dir))) {
        char pa[PATH_MAX];
        char pb[PATH_MAX];

        if (!strcmp (d->d_name, ".") || !strcmp (d->d_name, ".."))
            continue;
        must (snprintf (pa, sizeof (pa), "%s/%s", a, d->d_name) < PATH_MAX
              && snprintf (pb, sizeof (pb), "%s/%s", b, d->d_name) < PATH_MAX);
        same = same_tree (pa, pb);
    }
    closedir (dir);
    return same;
}

bool same_tree (const char *a, const char *b)
{
    struct stat sa;
    struct stat sb;

    must (lstat (a, &sa) == 0);
    if (lstat (b, &sb) < 0)
        return differ (b, "existence");
    if ((sa.st_mode & S_IFMT) != (sb.st_mode & S_IFMT))
        return differ (b, "the type");
    if (!S_ISLNK (sa.st_mode) && sa.st_mode != sb.st_mode)
        return differ (b, "the mode");
    if (sa.st_mtim.tv_sec != sb.st_mtim.tv_sec
        || sa.st_mtim.tv_nsec != sb.st_mtim.tv_nsec)
        return differ (b, "the time");
    if (S_ISDIR (sa.st_mode))
        return same_names (a, b);
    if (S_ISLNK (sa.st_mode)) {
        char ta[PATH_MAX] = { 0 };
        char tb[PATH_MAX] = { 0 };

        must (readlink (a, ta, PATH_MAX - 1) > 0 && readlink (b, tb, PATH_MAX - 1) > 0);
        return !strcmp (ta, tb) || differ (b, "the target");
    }
    if (sa.st_size != sb.st_size)
        return differ (b, "the size");
    if (sa.st_blocks * 512 < sa.st_size && sb.st_blocks > sa.st_blocks + 64)
        return differ (b, "the room that it takes");
    if (sa.st_size > 0 && sa.st_size < 1 << 30 && !same_data (a, b))
        return differ (b, "the data");
    return true;
}
