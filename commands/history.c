#define _GNU_SOURCE /* mkostemp */
#include "commands/history.h"

#include "commands/state_file.h"
#include "engine/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct history {
    char *path; /* NULL: nothing on disk */
    char *lines[HISTORY_LINES];
    size_t count;
    bool told;       /* that the disk is full */
    size_t appended; /* lines added to the file since it was last written whole */
};

/* Put a line at the end, taking out its double, or the oldest of too many. */
static void remember(struct history *history, const char *line)
{
    char *copy = xstrdup(line);
    size_t out = history->count;
    for (size_t i = 0; i < history->count; i++)
        if (strcmp(history->lines[i], line) == 0)
            out = i;
    if (out == history->count && history->count == HISTORY_LINES)
        out = 0;
    if (out < history->count) {
        free(history->lines[out]);
        memmove(&history->lines[out], &history->lines[out + 1],
                (history->count - out - 1) * sizeof *history->lines);
        history->count--;
    }
    history->lines[history->count++] = copy;
}

static void read_file(struct history *history)
{
    FILE *file = fopen(history->path, "re");
    if (!file)
        return;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, file)) > 0) {
        if (line[length - 1] == '\n')
            line[length - 1] = '\0';
        if (*line && strlen(line) < 4096)
            remember(history, line);
        history->appended++;
    }
    free(line);
    fclose(file);
    history->appended = history->appended > history->count ? history->appended : 0;
}

struct history *history_new(const char *path)
{
    struct history *history = xcalloc(1, sizeof *history);
    if (!path)
        history->path = state_file_path("history");
    else if (*path)
        history->path = xstrdup(path);
    if (history->path)
        read_file(history);
    return history;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    if (history->appended > HISTORY_LINES)
        history_save(history);
    for (size_t i = 0; i < history->count; i++)
        free(history->lines[i]);
    free(history->path);
    free(history);
}

/* One write, so that two layertops do not mix their lines; a line that does not fit leaves nothing
 * behind, or the next one would be glued to its first half. */
static bool append_line(int fd, const char *line)
{
    char *text = xasprintf("%s\n", line);
    ssize_t length = (ssize_t)strlen(text), written = write(fd, text, (size_t)length);
    int cause = written < 0 ? errno : ENOSPC;
    off_t end = lseek(fd, 0, SEEK_CUR);
    if (written > 0 && written < length && end >= written && ftruncate(fd, end - written) != 0)
        cause = errno;
    free(text);
    errno = cause;
    return written == length;
}

bool history_add(struct history *history, const char *line, struct error *error)
{
    if (!*line || *line == ' ' || strchr(line, '\n') || strlen(line) >= 4096)
        return true;
    bool repeated = history->count > 0 && strcmp(history->lines[history->count - 1], line) == 0;
    remember(history, line);
    if (repeated || !history->path)
        return true;
    state_file_make_folders(history->path);
    int fd = open(history->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool kept = fd >= 0 && append_line(fd, line);
    int cause = errno;
    history->appended += kept;
    if (fd >= 0)
        close(fd);
    bool full = !kept && (cause == ENOSPC || cause == EDQUOT || cause == EFBIG);
    if (!full || history->told)
        return true;
    history->told = true;
    return error_set(error, ERROR_FILE, history->path, "the history is not kept: %s",
                     strerror(cause));
}

size_t history_count(const struct history *history)
{
    return history->count;
}

const char *history_at(const struct history *history, size_t index)
{
    return history->lines[index];
}

bool history_save(struct history *history)
{
    if (!history->path)
        return false;
    state_file_make_folders(history->path);
    char *temporary = xasprintf("%s.XXXXXX", history->path);
    int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool ok = file != NULL;
    for (size_t i = 0; ok && i < history->count; i++)
        ok = fprintf(file, "%s\n", history->lines[i]) > 0;
    if (file)
        ok = fclose(file) == 0 && ok;
    ok = ok && rename(temporary, history->path) == 0;
    if (!ok && fd >= 0)
        unlink(temporary);
    if (ok)
        history->appended = 0;
    free(temporary);
    return ok;
}
