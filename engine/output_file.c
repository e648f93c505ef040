#define _GNU_SOURCE /* realpath */
#include "engine/output_file.h"

#include <stdlib.h>
#include <sys/stat.h>

char *output_file_target(const char *path, struct error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return xstrdup(path); /* new, or the attempt to make it will say why not */
    if (!S_ISREG(status.st_mode)) {
        error_set(error, ERROR_FILE, path, "cannot be written: it is %s",
                  S_ISDIR(status.st_mode) ? "a folder" : "no regular file");
        return NULL;
    }
    char *real = realpath(path, NULL);
    return real ? real : xstrdup(path);
}
