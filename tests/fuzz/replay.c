/* replay.c - call a fuzz target with each file that is named, or that stands in
 * a directory that is named: no fuzzer is needed for what it has found before
 */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "check.h"
#include "fuzz.h"

static int replayed;

static void replay_file (const char *name)
{
    FILE *f = fopen (name, "rb");
    struct stat sb;
    uint8_t *data;

    must (f && fstat (fileno (f), &sb) == 0);
    /* exactly as long as it is, for the sanitizer to see what is beyond */
    must ((data = malloc (sb.st_size ? sb.st_size : 1)));
    must (fread (data, 1, sb.st_size, f) == (size_t)sb.st_size);
    fclose (f);
    LLVMFuzzerTestOneInput (data, sb.st_size);
    free (data);
    replayed++;
}

static void replay_dir (const char *dir)
{
    DIR *dp = opendir (dir);
    struct dirent *d;

    must (dp);
    while ((d = readdir (dp))) {
        char name[PATH_MAX];

        if (d->d_name[0] == '.')
            continue;
        must (snprintf (name, sizeof (name), "%s/%s", dir, d->d_name) < PATH_MAX);
        replay_file (name);
    }
    closedir (dp);
}

int main (int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat sb;

        must (stat (argv[i], &sb) == 0);
        if (S_ISDIR (sb.st_mode))
            replay_dir (argv[i]);
        else
            replay_file (argv[i]);
    }
    printf ("%d inputs\n", replayed);
    return replayed > 0 ? 0 : 1;
}
