#include "engine/journal.h"

#include "engine/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Buffered bytes after which a frame is written out without waiting for journal_flush(). */
#define FLUSH_BYTES (256u << 10)

struct journal {
    char *path; /* with .part */
    int fd;
    int failure; /* errno of the first write that failed */
    bool told;   /* by journal_broke() */
    uint64_t frames, bytes;
    struct stream_buffer out;
};

struct journal *journal_new(const char *path, const json_t *hello, const json_t *settings,
                            const json_t *model, const json_t *plan, struct error *error)
{
    char *name = xasprintf("%s.part", path);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0666);
    if (fd < 0) {
        error_set(error, ERROR_FILE, name, "cannot be created: %s", strerror(errno));
        if (errno == EEXIST)
            error_hint(error, "record another name, or remove %s", name);
        free(name);
        return NULL;
    }
    struct journal *journal = xcalloc(1, sizeof *journal);
    journal->path = name;
    journal->fd = fd;
    stream_put_preamble(&journal->out);
    journal->bytes = STREAM_PREAMBLE_BYTES;
    if (hello != NULL)
        journal_json(journal, STREAM_HELLO, 0, hello);
    struct timespec unix_time;
    clock_gettime(CLOCK_REALTIME, &unix_time);
    json_t *start =
        json_pack("{s:I, s:I, s:O?, s:O?, s:O?}", "time_ns", (json_int_t)clock_now_ns(), "unix_ns",
                  (json_int_t)unix_time.tv_sec * 1000000000 + unix_time.tv_nsec, "settings",
                  settings, "model", model, "plan", plan);
    journal_json(journal, STREAM_JOURNAL, 0, start);
    json_decref(start);
    journal_flush(journal);
    if (journal->failure == 0)
        return journal;
    error_set(error, ERROR_FILE, name, "cannot be written: %s", strerror(journal->failure));
    unlink(name);
    journal_close(journal, NULL);
    return NULL;
}

/* What is there plays to its last whole frame. */
static void tell_failure(const struct journal *journal, struct error *error)
{
    error_set(error, ERROR_FILE, journal->path, "the recording ends early: %s",
              strerror(journal->failure));
    error_hint(error, "replay %s", journal->path);
}

void journal_flush(struct journal *journal)
{
    size_t bytes;
    while (journal->failure == 0 && (bytes = stream_buffer_bytes(&journal->out)) > 0) {
        ssize_t written = write(journal->fd, journal->out.data + journal->out.start, bytes);
        if (written >= 0)
            stream_buffer_consume(&journal->out, (size_t)written);
        else if (errno != EINTR)
            journal->failure = errno;
    }
}

void journal_frame(struct journal *journal, enum stream_type type, uint64_t id, const void *data,
                   size_t bytes)
{
    if (journal->failure != 0 || !stream_put(&journal->out, type, id, data, bytes))
        return;
    journal->frames++;
    journal->bytes += STREAM_HEADER_BYTES + bytes;
    if (stream_buffer_bytes(&journal->out) > FLUSH_BYTES)
        journal_flush(journal);
}

void journal_json(struct journal *journal, enum stream_type type, uint64_t id, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL)
        journal_frame(journal, type, id, text, strlen(text));
    free(text);
}

json_t *journal_describe(const struct journal *journal)
{
    return json_pack("{s:s, s:I, s:I}", "path", journal->path, "frames",
                     (json_int_t)journal->frames, "bytes", (json_int_t)journal->bytes);
}

bool journal_broke(struct journal *journal, struct error *error)
{
    bool news = journal->failure != 0 && !journal->told;
    journal->told = journal->failure != 0;
    if (news)
        tell_failure(journal, error);
    return news;
}

bool journal_close(struct journal *journal, struct error *error)
{
    journal_flush(journal);
    if (journal->failure == 0 && fsync(journal->fd) != 0 && errno != EINVAL && errno != EROFS)
        journal->failure = errno;
    if (close(journal->fd) != 0 && journal->failure == 0)
        journal->failure = errno;
    bool whole = journal->failure == 0;
    if (!whole)
        tell_failure(journal, error);
    stream_buffer_free(&journal->out);
    free(journal->path);
    free(journal);
    return whole;
}
