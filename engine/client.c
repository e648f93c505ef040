/* The front's end of the stream: calls become frames, frames become events. See engine.h. */
#define _GNU_SOURCE /* pipes and epoll */
#include "engine/engine.h"

#include "engine/clock.h"
#include "engine/journal.h"
#include "engine/spawn.h"
#include "engine/stream.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

/* What one dispatch reads at most, so that a flood of records cannot hold the screen up. */
#define DISPATCH_BYTES (2u << 20)
/* How long a worker that closed its stream, or that was asked to end, may take to be gone. */
#define END_WAIT_MS    200
#define LINE_MAX_BYTES 1024

struct pending { /* a request without a reply */
    uint64_t id;
    char verb[16];
    bool here;            /* answered at the next dispatch, without the worker */
    struct error refused; /* with this error, */
    json_t *answer;       /* or this; if the worker is asked too, added to its answer */
};

struct engine {
    struct spawned process;
    int epoll; /* what engine_fd() is: the descriptors below, joined */
    int wake;  /* eventfd: there is something to answer without the worker */
    bool writing;
    struct stream_buffer out;
    struct stream_decoder in;
    struct pending *open;
    size_t open_count;
    uint64_t last_id;
    bool ended;  /* no process any more */
    bool closed; /* ENDED was delivered */
    struct error end;
    char line[LINE_MAX_BYTES]; /* of the log, as far as it came */
    size_t line_length;
    char last_words[256];
    json_t *hello, *model, *plan; /* for the head of a recording; NULL or references */
    struct journal *journal;
    bool raw; /* the recording has a part at the worker */
};

/* ---- start ---- */

static void watch(struct engine *engine, int descriptor, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (descriptor >= 0)
        epoll_ctl(engine->epoll, EPOLL_CTL_ADD, descriptor, &event);
}

struct engine *engine_start(const struct engine_options *options, struct error *error)
{
    char speed[32];
    char *argv[8] = {0};
    char *command = NULL;
    if (options->worker_command != NULL) {
        argv[0] = (char *)(uintptr_t) "/bin/sh";
        argv[1] = (char *)(uintptr_t) "-c";
        argv[2] = command = xasprintf("%s --worker", options->worker_command);
    } else {
        int argc = 0;
        argv[argc++] = (char *)(uintptr_t)options->program;
        argv[argc++] = (char *)(uintptr_t) "--worker";
        if (options->replay != NULL) {
            snprintf(speed, sizeof speed, "%g", options->replay_speed);
            argv[argc++] = (char *)(uintptr_t) "--replay";
            argv[argc++] = (char *)(uintptr_t)options->replay;
            argv[argc++] = (char *)(uintptr_t) "--replay-speed";
            argv[argc++] = speed;
        }
    }
    struct spawned process;
    bool started = spawn_worker(argv, &process, error);
    free(command);
    if (!started)
        return NULL;
    /* a worker that dies while it is written to is an event, not the end of the front */
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, NULL);
    }
    struct engine *engine = xcalloc(1, sizeof *engine);
    engine->process = process;
    engine->last_id = options->last_id;
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch(engine, process.output, EPOLLIN);
    watch(engine, process.log, EPOLLIN);
    watch(engine, process.pidfd, EPOLLIN);
    watch(engine, engine->wake, EPOLLIN);
    stream_decoder_init(&engine->in);
    stream_put_preamble(&engine->out);
    return engine;
}

int engine_fd(const struct engine *engine)
{
    return engine->epoll;
}

bool engine_wants_write(const struct engine *engine)
{
    return engine->writing;
}

bool engine_alive(const struct engine *engine)
{
    return !engine->ended;
}

int engine_pid(const struct engine *engine)
{
    return engine->ended ? 0 : (int)engine->process.pid;
}

/* ---- writing ---- */

/* Write what the pipe takes; watch it for room while something is left. */
static void flush_out(struct engine *engine)
{
    size_t bytes;
    while (!engine->ended && (bytes = stream_buffer_bytes(&engine->out)) > 0) {
        ssize_t written = write(engine->process.input, engine->out.data + engine->out.start, bytes);
        if (written > 0) {
            stream_buffer_consume(&engine->out, (size_t)written);
        } else if (errno != EINTR) {
            if (errno != EAGAIN) /* EPIPE: the end comes through the other pipe */
                stream_buffer_free(&engine->out);
            break;
        }
    }
    bool writing = !engine->ended && stream_buffer_bytes(&engine->out) > 0;
    if (writing == engine->writing)
        return;
    engine->writing = writing;
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = engine->process.input};
    epoll_ctl(engine->epoll, writing ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, engine->process.input,
              &event);
}

static struct pending *pending_add(struct engine *engine, const char *verb)
{
    engine->open = xrealloc(engine->open, (engine->open_count + 1) * sizeof *engine->open);
    struct pending *pending = &engine->open[engine->open_count++];
    *pending = (struct pending){.id = ++engine->last_id};
    snprintf(pending->verb, sizeof pending->verb, "%s", verb);
    return pending;
}

static void wake_up(struct engine *engine)
{
    uint64_t one = 1;
    ssize_t ignored = write(engine->wake, &one, sizeof one);
    (void)ignored;
}

/* `record`: the journal is the front's file; only raw CUPTI buffers are written where the GPU is.
 * Fills the answer; returns false if the worker has to be asked as well. */
static bool record(struct engine *engine, struct pending *pending, const json_t *arguments)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    bool off = json_is_true(json_object_get(arguments, "off"));
    bool raw = off && engine->raw;
    if (off && engine->journal != NULL) {
        pending->answer = journal_describe(engine->journal);
        if (!journal_close(engine->journal, &pending->refused)) {
            json_decref(pending->answer);
            pending->answer = NULL;
        }
        engine->journal = NULL;
        engine->raw = false;
    } else if (off) {
        error_set(&pending->refused, ERROR_COMMAND, "record off", "nothing is being recorded");
    } else if (engine->journal != NULL) {
        error_set(&pending->refused, ERROR_COMMAND, "record", "a recording is already running");
        error_hint(&pending->refused, "record off");
    } else if (path == NULL || path[0] == '\0') {
        error_set(&pending->refused, ERROR_VALUE, "record", "needs the name of a file");
        error_hint(&pending->refused, "record FILE");
    } else {
        engine->journal = journal_new(path, engine->hello, json_object_get(arguments, "settings"),
                                      engine->model, engine->plan, &pending->refused);
        if (engine->journal != NULL) {
            pending->answer = journal_describe(engine->journal);
            raw = engine->raw = json_is_string(json_object_get(arguments, "raw"));
        }
    }
    return !raw || pending->answer == NULL;
}

uint64_t engine_submit(struct engine *engine, const char *verb, json_t *arguments)
{
    struct pending *pending = pending_add(engine, verb);
    uint64_t id = pending->id;
    if (arguments == NULL)
        arguments = json_object();
    bool recording = strcmp(verb, "record") == 0;
    bool local = recording && record(engine, pending, arguments);
    pending->here = local || engine->ended;
    json_t *request = json_pack("{s:s, s:o}", "verb", verb, "arguments", arguments);
    if (engine->journal != NULL && !recording)
        journal_json(engine->journal, STREAM_REQUEST, id, request);
    if (!pending->here && !stream_put_json(&engine->out, STREAM_REQUEST, id, request)) {
        error_set(&pending->refused, ERROR_VALUE, verb, "the request is too long");
        pending->here = true;
    }
    json_decref(request);
    if (pending->here)
        wake_up(engine);
    else
        flush_out(engine);
    return id;
}

struct journal *engine_take_journal(struct engine *engine)
{
    struct journal *journal = engine->journal;
    engine->journal = NULL;
    return journal;
}

void engine_give_journal(struct engine *engine, struct journal *journal)
{
    if (journal != NULL)
        engine->journal = journal;
}

void engine_cancel(struct engine *engine, uint64_t id)
{
    if (!engine->ended) {
        stream_put(&engine->out, STREAM_CANCEL, id, NULL, 0);
        flush_out(engine);
    }
}

/* ---- events ---- */

/* Take a request off the list of the open ones; false if there is no such. */
static bool pending_take(struct engine *engine, uint64_t id, struct pending *out)
{
    for (size_t i = 0; i < engine->open_count; i++) {
        if (engine->open[i].id != id)
            continue;
        *out = engine->open[i];
        engine->open_count--;
        memmove(&engine->open[i], &engine->open[i + 1],
                (engine->open_count - i) * sizeof *engine->open);
        return true;
    }
    return false;
}

static void keep(json_t **slot, json_t *json)
{
    json_decref(*slot);
    *slot = json_incref(json);
}

/* A reply from the worker, with data (json) or an error. */
static void deliver_reply(struct engine *engine, engine_handler *handler, void *context,
                          struct engine_event *event)
{
    struct pending pending;
    if (!pending_take(engine, event->id, &pending))
        return; /* nobody asked */
    if (event->json != NULL && strcmp(pending.verb, "load") == 0)
        keep(&engine->model, event->json);
    if (event->json != NULL && strcmp(pending.verb, "unload") == 0)
        keep(&engine->model, NULL);
    /* `record` with raw: the worker answered its part, ours was ready before */
    if (event->json != NULL && pending.answer != NULL)
        json_object_update(event->json, pending.answer);
    if (event->json == NULL && pending.answer != NULL && engine->journal != NULL) {
        journal_close(engine->journal, NULL);
        engine->journal = NULL;
        engine->raw = false;
    }
    json_decref(pending.answer);
    event->kind = ENGINE_EVENT_REPLY;
    handler(context, event);
}

/* A LOG event; steals `json`, whose "text" is cleaned here, for it came from elsewhere. */
static void deliver_log(struct engine *engine, engine_handler *handler, void *context, json_t *json)
{
    char clean[4 * LINE_MAX_BYTES];
    const char *text = json_string_value(json_object_get(json, "text"));
    text_clean(clean, sizeof clean, text != NULL ? text : "");
    if (clean[0] != '\0') {
        text_clean(engine->last_words, sizeof engine->last_words, clean);
        json_object_set_new(json, "text", json_string(clean));
        struct engine_event event = {.kind = ENGINE_EVENT_LOG, .json = json};
        if (json_is_object(json_object_get(json, "error")))
            stream_error_parse(json_object_get(json, "error"), &event.error);
        handler(context, &event);
    }
    json_decref(json);
}

/* The line of the log that is in engine->line. */
static void deliver_line(struct engine *engine, engine_handler *handler, void *context)
{
    char clean[4 * LINE_MAX_BYTES];
    engine->line[engine->line_length] = '\0';
    engine->line_length = 0;
    deliver_log(engine, handler, context,
                json_pack("{s:s}", "text", text_clean(clean, sizeof clean, engine->line)));
}

/* One frame becomes at most one event. */
static void deliver_frame(struct engine *engine, engine_handler *handler, void *context,
                          const struct stream_frame *frame)
{
    if (engine->journal != NULL)
        journal_frame(engine->journal, frame->type, frame->id, frame->data, frame->bytes);
    struct engine_event event = {.id = frame->id};
    if (frame->type == STREAM_RECORD) {
        event.kind = ENGINE_EVENT_RECORD;
        event.data = frame->data;
        event.bytes = frame->bytes;
        handler(context, &event);
        return;
    }
    json_t *json = stream_frame_json(frame);
    event.json = json;
    switch (frame->type) {
    case STREAM_HELLO:
        keep(&engine->hello, json);
        event.kind = ENGINE_EVENT_HELLO;
        handler(context, &event);
        break;
    case STREAM_REPLY:
        if (json == NULL)
            error_set(&event.error, ERROR_STREAM, "reply", "the worker's reply cannot be read");
        deliver_reply(engine, handler, context, &event);
        break;
    case STREAM_FAILURE:
        stream_error_parse(json, &event.error);
        event.json = NULL;
        deliver_reply(engine, handler, context, &event);
        break;
    case STREAM_PROGRESS:
        event.kind = ENGINE_EVENT_PROGRESS;
        handler(context, &event);
        break;
    case STREAM_PLAN:
        keep(&engine->plan, json_is_null(json) ? NULL : json);
        if (json_is_null(json))
            event.json = NULL;
        event.kind = ENGINE_EVENT_PLAN;
        handler(context, &event);
        break;
    case STREAM_LOG:
        deliver_log(engine, handler, context, json_incref(json));
        break;
    default: /* of a later version: not ours to read */
        break;
    }
    json_decref(json);
}

/* Lines the process printed before its own log pipe, or while it died. */
static void read_log(struct engine *engine, engine_handler *handler, void *context)
{
    char block[4096];
    ssize_t got = 0;
    size_t total = 0;
    while (total < DISPATCH_BYTES && (got = read(engine->process.log, block, sizeof block)) > 0) {
        total += (size_t)got;
        for (ssize_t i = 0; i < got; i++) {
            if (block[i] != '\n' && block[i] != '\r' && block[i] != '\0')
                engine->line[engine->line_length++] = block[i];
            else if (engine->line_length == 0)
                continue;
            if (block[i] == '\n' || engine->line_length == sizeof engine->line - 1)
                deliver_line(engine, handler, context);
        }
    }
    if (got == 0) /* closed: nothing more to watch, or poll would report it for ever */
        epoll_ctl(engine->epoll, EPOLL_CTL_DEL, engine->process.log, NULL);
}

enum reading { READING_EMPTY, READING_MORE, READING_CLOSED };

/* Read frames up to a dispatch's share. A broken stream is CLOSED and fills *error. */
static enum reading read_stream(struct engine *engine, engine_handler *handler, void *context,
                                struct error *error)
{
    static const size_t block_bytes = 64u << 10;
    uint8_t *block = xmalloc(block_bytes);
    enum reading reading = READING_MORE;
    for (size_t total = 0; reading == READING_MORE && total < DISPATCH_BYTES;) {
        ssize_t got = read(engine->process.output, block, block_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            reading = got < 0 && errno == EAGAIN ? READING_EMPTY : READING_CLOSED;
            break;
        }
        total += (size_t)got;
        stream_decoder_feed(&engine->in, block, (size_t)got);
        struct stream_frame frame;
        enum stream_result result;
        while ((result = stream_decoder_next(&engine->in, &frame, error)) == STREAM_FRAME)
            deliver_frame(engine, handler, context, &frame);
        if (result == STREAM_BROKEN)
            reading = READING_CLOSED;
    }
    free(block);
    return reading;
}

/* Requests that are answered without the worker: refused ones, `record`, and all of them once it
 * is dead. */
static void answer_here(struct engine *engine, engine_handler *handler, void *context)
{
    uint64_t count;
    ssize_t ignored = read(engine->wake, &count, sizeof count);
    (void)ignored;
    uint64_t last = engine->last_id; /* what a handler submits meanwhile has its turn next time */
    for (size_t i = 0; i < engine->open_count && engine->open[i].id <= last;) {
        struct pending *pending = &engine->open[i];
        if (!engine->ended && !pending->here) {
            i++;
            continue;
        }
        struct pending taken;
        pending_take(engine, pending->id, &taken);
        struct engine_event event = {.kind = ENGINE_EVENT_REPLY, .id = taken.id};
        event.json = taken.answer;
        event.error = taken.refused;
        if (taken.answer == NULL && taken.refused.code == ERROR_NONE)
            error_set(&event.error, ERROR_WORKER, taken.verb, "the worker ended: %s",
                      engine->end.why);
        handler(context, &event);
        json_decref(taken.answer);
    }
}

/* ---- the end ---- */

/* Wait up to `wait_ms` for the process to be gone. */
static bool reap(struct engine *engine, int wait_ms, int *status)
{
    int64_t limit = clock_now_ns() + (int64_t)wait_ms * 1000000;
    for (;;) {
        pid_t got = waitpid(engine->process.pid, status, WNOHANG);
        if (got == engine->process.pid || (got < 0 && errno != EINTR))
            return true;
        if (clock_now_ns() >= limit)
            return false;
        struct pollfd process = {.fd = engine->process.pidfd, .events = POLLIN};
        if (process.fd >= 0)
            poll(&process, 1, wait_ms);
        else
            poll(NULL, 0, 1);
    }
}

static void close_all(struct engine *engine)
{
    int *descriptors[] = {&engine->process.input, &engine->process.output, &engine->process.log,
                          &engine->process.pidfd};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
        if (*descriptors[i] >= 0)
            close(*descriptors[i]);
        *descriptors[i] = -1;
    }
}

/* Kill the process group (ssh and what it started are in it) and reap. */
static void kill_and_reap(struct engine *engine, int *status)
{
    kill(-engine->process.pid, SIGKILL);
    kill(engine->process.pid, SIGKILL);
    /* a process that hangs in a driver cannot be waited for; init will reap it after us */
    reap(engine, END_WAIT_MS, status);
}

/* The stream ended or broke: find out why, and say so in engine->end. */
static void end(struct engine *engine, const struct error *broken, engine_handler *handler,
                void *context)
{
    int status = 0;
    if (broken->code != ERROR_NONE || !reap(engine, END_WAIT_MS, &status))
        kill_and_reap(engine, &status);
    read_log(engine, handler, context);
    if (engine->line_length > 0)
        deliver_line(engine, handler, context);
    /* a process that never was a worker may have said why on its standard output */
    if (engine->last_words[0] == '\0' && !engine->in.greeted) {
        struct stream_buffer *rest = &engine->in.in;
        snprintf(engine->last_words, sizeof engine->last_words, "%s%.*s", engine->in.noise,
                 (int)(stream_buffer_bytes(rest) < 200 ? stream_buffer_bytes(rest) : 200),
                 rest->data != NULL ? (const char *)rest->data + rest->start : "");
        engine->last_words[strcspn(engine->last_words, "\r\n")] = '\0';
    }
    const char *words = engine->last_words;
    if (broken->code != ERROR_NONE)
        engine->end = *broken;
    else if (WIFSIGNALED(status) && words[0] == '\0')
        error_set(&engine->end, ERROR_WORKER, "worker", "signal %d", WTERMSIG(status));
    else if (WIFSIGNALED(status))
        error_set(&engine->end, ERROR_WORKER, "worker", "signal %d: %s", WTERMSIG(status), words);
    else if (words[0] == '\0')
        error_set(&engine->end, ERROR_WORKER, "worker", "exit %d", WEXITSTATUS(status));
    else
        error_set(&engine->end, ERROR_WORKER, "worker", "exit %d: %s", WEXITSTATUS(status), words);
    engine->ended = true;
    close_all(engine);
    stream_buffer_free(&engine->out);
    engine->writing = false;
    if (engine->journal != NULL)
        journal_flush(engine->journal);
}

/* A recording that cannot go on is told at once, not when it is over. */
static void tell_journal(struct engine *engine, engine_handler *handler, void *context)
{
    struct engine_event event = {.kind = ENGINE_EVENT_LOG};
    if (!journal_broke(engine->journal, &event.error))
        return;
    event.json = json_pack("{s:s, s:b}", "text", event.error.why, "recording", 0);
    handler(context, &event);
    json_decref(event.json);
}

void engine_dispatch(struct engine *engine, engine_handler *handler, void *context)
{
    if (!engine->ended) {
        /* a dead process is noticed before the last reading, so that nothing it wrote is lost */
        struct pollfd process = {.fd = engine->process.pidfd, .events = POLLIN};
        bool gone = process.fd >= 0 && poll(&process, 1, 0) > 0;
        struct error broken = {0};
        enum reading reading;
        flush_out(engine);
        read_log(engine, handler, context);
        do
            reading = read_stream(engine, handler, context, &broken);
        while (gone && reading == READING_MORE);
        if (gone || reading == READING_CLOSED)
            end(engine, &broken, handler, context);
    }
    answer_here(engine, handler, context);
    if (engine->journal != NULL) {
        journal_flush(engine->journal);
        tell_journal(engine, handler, context);
    }
    if (engine->ended && !engine->closed) {
        engine->closed = true;
        handler(context, &(struct engine_event){.kind = ENGINE_EVENT_ENDED, .error = engine->end});
    }
}

void engine_stop(struct engine *engine)
{
    if (engine == NULL)
        return;
    if (!engine->ended) {
        int status = 0;
        close(engine->process.input);
        engine->process.input = -1;
        if (!reap(engine, END_WAIT_MS, &status))
            kill_and_reap(engine, &status);
    }
    close_all(engine);
    if (engine->journal != NULL)
        journal_close(engine->journal, NULL);
    for (size_t i = 0; i < engine->open_count; i++)
        json_decref(engine->open[i].answer);
    free(engine->open);
    stream_buffer_free(&engine->out);
    stream_decoder_free(&engine->in);
    json_decref(engine->hello);
    json_decref(engine->model);
    json_decref(engine->plan);
    close(engine->epoll);
    close(engine->wake);
    free(engine);
}
