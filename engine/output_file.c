#define _GNU_SOURCE /* realpath */
#include "engine/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The name to rename onto; NULL where something stands that is no regular file. */
static char *find_target(const char *path, struct error *error)
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

static void free_names(struct output_file *file)
{
    free(file->target);
    free(file->temporary);
}

bool output_file_fail(const char *path, int cause, struct error *error)
{
    struct stat status;
    bool stays = stat(path, &status) == 0 && S_ISREG(status.st_mode);
    return error_set(error, ERROR_FILE, path, "cannot be written: %s%s",
                     cause != 0 ? strerror(cause) : "is the disk full?",
                     stays ? "; the file that is there stays as it was" : "");
}

bool output_file_begin(struct output_file *file, const char *path, struct error *error)
{
    *file = (struct output_file){.path = path, .target = find_target(path, error)};
    if (!file->target)
        return false;
    file->temporary = xasprintf("%s.tmp%d", file->target, (int)getpid());
    unlink(file->temporary); /* of a process that died and had our number */
    return true;
}

/* All of it is on the disk: a file system may find out only now that there is no room. */
static bool settle(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL || errno == EROFS);
    int cause = errno;
    if (fd >= 0)
        close(fd);
    errno = cause;
    return good;
}

static bool take_place(struct output_file *file, bool good, struct error *error)
{
    if (good && rename(file->temporary, file->target) != 0)
        good = output_file_fail(file->path, errno, error);
    if (!good)
        unlink(file->temporary);
    free_names(file);
    return good;
}

bool output_file_end(struct output_file *file, bool good, struct error *error)
{
    if (good && !settle(file->temporary))
        good = output_file_fail(file->path, errno, error);
    return take_place(file, good, error);
}

FILE *output_file_open(struct output_file *file, const char *path, struct error *error)
{
    if (!output_file_begin(file, path, error))
        return NULL;
    FILE *stream = fopen(file->temporary, "wxe");
    if (!stream) {
        output_file_fail(path, errno, error);
        free_names(file);
    }
    return stream;
}

bool output_file_close(struct output_file *file, FILE *stream, bool good, struct error *error)
{
    int cause = good ? 0 : errno;
    errno = 0;
    good = fflush(stream) == 0 && !ferror(stream) && good;
    cause = errno != 0 ? errno : cause; /* of the last write; an earlier one's is gone */
    if (fclose(stream) != 0 && good) {
        cause = errno;
        good = false;
    }
    if (!good)
        output_file_fail(file->path, cause, error);
    return take_place(file, good, error);
}

bool output_file_write(const char *path, const char *text, struct error *error)
{
    struct output_file file;
    FILE *stream = output_file_open(&file, path, error);
    return stream && output_file_close(&file, stream, fputs(text, stream) >= 0, error);
}
