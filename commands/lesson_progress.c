#define _GNU_SOURCE /* mkostemp */
#include "commands/lesson_progress.h"

#include "commands/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct lesson_progress {
    char *path;       /* NULL: nothing on disk */
    json_t *finished; /* id -> {unix_s, tries} */
};

/* What the file says now: another layertop may have written it. */
static void read_file(struct lesson_progress *progress)
{
    json_t *whole = progress->path ? json_load_file(progress->path, 0, NULL) : NULL;
    json_t *finished = json_object_get(whole, "finished");
    if (json_is_object(finished)) {
        json_decref(progress->finished);
        progress->finished = json_incref(finished);
    }
    json_decref(whole);
}

struct lesson_progress *lesson_progress_new(const char *path)
{
    struct lesson_progress *progress = xcalloc(1, sizeof *progress);
    progress->path = !path ? state_file_path("lessons") : *path ? xstrdup(path) : NULL;
    progress->finished = json_object();
    read_file(progress);
    return progress;
}

void lesson_progress_free(struct lesson_progress *progress)
{
    if (!progress)
        return;
    json_decref(progress->finished);
    free(progress->path);
    free(progress);
}

/* Beside its name, then renamed: whole or not at all. */
static bool write_file(const struct lesson_progress *progress, struct error *error)
{
    if (!progress->path)
        return true;
    state_file_make_folders(progress->path);
    char *temporary = xasprintf("%s.XXXXXX", progress->path);
    int fd = mkostemp(temporary, O_CLOEXEC), cause = errno; /* mode 0600 */
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    json_t *whole = json_pack("{s:i, s:O}", "v", 1, "finished", progress->finished);
    bool good = file && json_dumpf(whole, file, JSON_INDENT(1)) == 0 && fputc('\n', file) != EOF &&
                fflush(file) == 0;
    if (file && !good)
        cause = errno;
    if (file && fclose(file) != 0 && good) {
        cause = errno;
        good = false;
    }
    if (good && rename(temporary, progress->path) != 0) {
        cause = errno;
        good = false;
    }
    if (!good && fd >= 0)
        unlink(temporary);
    json_decref(whole);
    free(temporary);
    bool full = cause == ENOSPC || cause == EDQUOT || cause == EFBIG;
    if (good || !full) /* no folder of one's own is no error: as with the history */
        return true;
    return error_set(error, ERROR_FILE, progress->path, "the progress is not kept: %s",
                     strerror(cause));
}

bool lesson_progress_has(const struct lesson_progress *progress, const char *id)
{
    return json_object_get(progress->finished, id) != NULL;
}

int lesson_progress_tries(const struct lesson_progress *progress, const char *id)
{
    return (int)json_integer_value(
        json_object_get(json_object_get(progress->finished, id), "tries"));
}

bool lesson_progress_finish(struct lesson_progress *progress, const char *id, int tries,
                            struct error *error)
{
    read_file(progress);
    int best = lesson_progress_tries(progress, id);
    if (best > 0 && best < tries)
        tries = best;
    json_object_set_new(progress->finished, id,
                        json_pack("{s:I, s:i}", "unix_s", (json_int_t)time(NULL), "tries", tries));
    return write_file(progress, error);
}

bool lesson_progress_forget(struct lesson_progress *progress, const char *id, struct error *error)
{
    read_file(progress);
    if (id)
        json_object_del(progress->finished, id);
    else
        json_object_clear(progress->finished);
    return write_file(progress, error);
}
