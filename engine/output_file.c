#define _GNU_SOURCE /* realpath */
#include "engine/output_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool output_file_write(const char *path, const char *text, struct error *error)
{
    char *target = output_file_target(path, error);
    if (target == NULL)
        return false;
    char *temporary = xasprintf("%s.tmp%d", target, (int)getpid());
    FILE *file = fopen(temporary, "wxe");
    int cause = file != NULL ? 0 : errno;
    if (file != NULL && fputs(text, file) < 0)
        cause = errno;
    if (file != NULL && fclose(file) != 0 && cause == 0)
        cause = errno;
    if (cause == 0 && rename(temporary, target) != 0)
        cause = errno;
    if (cause != 0) {
        if (file != NULL)
            unlink(temporary);
        error_set(error, ERROR_FILE, path, "cannot be written: %s", strerror(cause));
    }
    free(temporary);
    free(target);
    return cause == 0;
}
