/* See worker.h. The I/O thread meets the engine thread in `struct worker`, under its mutex. */
#define _GNU_SOURCE /* pipe2, F_DUPFD_CLOEXEC */
#include "engine/worker.h"

#include "engine/clock.h"
#include "engine/cpu/cpu.h"
#include "engine/log_pipe.h"
#include "engine/session.h"
#include "engine/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RECORDS_MAX   (4u << 20) /* bytes that may wait before records are dropped */
#define TICK_NS       100000000
#define TICKS_END_NS  INT64_C(3000000000) /* ticks go on so long after the last work */
#define LEAVE_WAIT_MS 200                 /* for a front that no longer reads */
#define LOST_CODE     4                   /* of a worker whose GPU is lost */
#define STUCK_WAIT_S  5 /* for an engine thread that does not come back from a driver */

struct request {
    struct request *next;
    uint64_t id;
    bool cancelled;
    json_t *json;
};

struct worker {
    const struct worker_hooks *hooks;
    int input, output, wake;
    struct log_pipe *log;

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct request *first, **last; /* waiting requests, oldest first */
    uint64_t current;              /* id of the request under way, 0 if none */
    bool quit;                     /* the stream ended */
    bool lost;                     /* the GPU's context: engine thread only */
    bool left;                     /* the engine thread is done; send what is left and go */
    struct stream_buffer out;
    uint64_t dropped;
    atomic_bool cancel;
};

/* ---- the outbox: any thread ---- */

static void wake_io(struct worker *worker)
{
    uint64_t one = 1;
    ssize_t ignored = write(worker->wake, &one, sizeof one);
    (void)ignored;
}

/* Queue a frame that must arrive. */
static void send_json(struct worker *worker, enum stream_type type, uint64_t id, const json_t *json)
{
    pthread_mutex_lock(&worker->mutex);
    bool fits = stream_put_json(&worker->out, type, id, json);
    if (!fits && type == STREAM_REPLY) {
        struct error error;
        error_set(&error, ERROR_STREAM, "reply", "the reply is larger than %u MiB",
                  STREAM_FRAME_MAX >> 20);
        json_t *failure = stream_error_json(&error);
        stream_put_json(&worker->out, STREAM_FAILURE, id, failure);
        json_decref(failure);
    }
    pthread_mutex_unlock(&worker->mutex);
    wake_io(worker);
}

static void send_failure(struct worker *worker, uint64_t id, const struct error *error)
{
    json_t *json = stream_error_json(error);
    send_json(worker, STREAM_FAILURE, id, json);
    json_decref(json);
}

/* Queue a frame that may be dropped: records, log lines. */
static bool send_if_room(struct worker *worker, enum stream_type type, const void *data,
                         size_t bytes)
{
    pthread_mutex_lock(&worker->mutex);
    bool room = stream_buffer_bytes(&worker->out) + bytes <= RECORDS_MAX;
    bool first = stream_buffer_bytes(&worker->out) == 0;
    if (room)
        stream_put(&worker->out, type, 0, data, bytes);
    else
        worker->dropped++;
    pthread_mutex_unlock(&worker->mutex);
    if (room && first)
        wake_io(worker);
    return room;
}

static bool emit_record(void *context, const void *data, size_t bytes)
{
    return send_if_room(context, STREAM_RECORD, data, bytes);
}

static void emit_log(void *context, const char *line)
{
    char clean[4096];
    json_t *json = json_pack("{s:s}", "text", text_clean(clean, sizeof clean, line));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text != NULL)
        send_if_room(context, STREAM_LOG, text, strlen(text));
    free(text);
}

static void emit_progress(void *context, uint64_t id, double fraction, const char *text)
{
    json_t *json = json_pack("{s:o, s:s}", "fraction",
                             isfinite(fraction) ? json_real(fraction) : json_null(), "text", text);
    send_json(context, STREAM_PROGRESS, id, json);
    json_decref(json);
}

static void emit_plan(void *context, const json_t *plan)
{
    send_json(context, STREAM_PLAN, 0, plan);
}

/* ---- the I/O thread ---- */

static void take_request(struct worker *worker, const struct stream_frame *frame)
{
    struct request *request = xcalloc(1, sizeof *request);
    request->id = frame->id;
    request->json = stream_frame_json(frame);
    pthread_mutex_lock(&worker->mutex);
    *worker->last = request;
    worker->last = &request->next;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->mutex);
}

static void take_cancel(struct worker *worker, uint64_t id)
{
    pthread_mutex_lock(&worker->mutex);
    if (worker->current == id && id != 0)
        atomic_store(&worker->cancel, true);
    for (struct request *request = worker->first; request != NULL; request = request->next) {
        if (request->id == id)
            request->cancelled = true;
    }
    pthread_mutex_unlock(&worker->mutex);
}

/* Read what there is; false once the front is gone or speaks another language. */
static bool read_requests(struct worker *worker, struct stream_decoder *decoder)
{
    uint8_t block[16384];
    ssize_t got = read(worker->input, block, sizeof block);
    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    stream_decoder_feed(decoder, block, (size_t)got);
    struct stream_frame frame;
    struct error error;
    enum stream_result result;
    while ((result = stream_decoder_next(decoder, &frame, &error)) == STREAM_FRAME) {
        if (frame.type == STREAM_REQUEST)
            take_request(worker, &frame);
        else if (frame.type == STREAM_CANCEL)
            take_cancel(worker, frame.id);
    }
    if (result == STREAM_BROKEN)
        log_pipe_last_words(worker->log, error.why);
    return result == STREAM_MORE;
}

/* Write what the front takes; false once it takes nothing any more. `sending` is this thread's own:
 * the mutex is not held while the kernel copies. */
static bool write_frames(struct worker *worker, struct stream_buffer *sending)
{
    for (;;) {
        if (stream_buffer_bytes(sending) == 0) {
            pthread_mutex_lock(&worker->mutex);
            struct stream_buffer empty = *sending;
            *sending = worker->out;
            worker->out = empty;
            pthread_mutex_unlock(&worker->mutex);
            if (stream_buffer_bytes(sending) == 0)
                return true;
        }
        ssize_t written =
            write(worker->output, sending->data + sending->start, stream_buffer_bytes(sending));
        if (written > 0)
            stream_buffer_consume(sending, (size_t)written);
        else if (errno != EINTR)
            return errno == EAGAIN;
    }
}

/* No requests come any more: end what runs. */
static void begin_quit(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->quit = true;
    atomic_store(&worker->cancel, true);
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->mutex);
}

static bool has_left(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool left = worker->left;
    pthread_mutex_unlock(&worker->mutex);
    return left;
}

static void *io_thread(void *context)
{
    struct worker *worker = context;
    struct stream_decoder decoder;
    struct stream_buffer sending = {0};
    int64_t quit_ns = 0, left_ns = 0;
    bool reading = true, writing = true;
    machine_unbind_thread();
    stream_decoder_init(&decoder);
    for (;;) {
        bool pending = writing && stream_buffer_bytes(&sending) > 0;
        struct pollfd fds[] = {
            {.fd = reading ? worker->input : -1, .events = POLLIN},
            {.fd = pending ? worker->output : -1, .events = POLLOUT},
            {.fd = worker->wake, .events = POLLIN},
            {.fd = log_pipe_fd(worker->log), .events = POLLIN},
        };
        poll(fds, sizeof fds / sizeof *fds, reading ? -1 : 50);
        uint64_t count;
        ssize_t ignored = read(worker->wake, &count, sizeof count);
        (void)ignored;
        if (fds[3].revents != 0)
            log_pipe_read(worker->log, emit_log, worker);
        if (reading && fds[0].revents != 0)
            reading = read_requests(worker, &decoder);
        if (writing)
            writing = write_frames(worker, &sending);
        if ((!reading || !writing) && quit_ns == 0) {
            quit_ns = clock_now_ns();
            reading = false;
            begin_quit(worker);
        }
        if (has_left(worker)) {
            if (left_ns == 0)
                left_ns = clock_now_ns();
            log_pipe_read(worker->log, emit_log, worker);
            if (writing)
                writing = write_frames(worker, &sending);
            if (!writing || stream_buffer_bytes(&sending) == 0 ||
                clock_now_ns() - left_ns > LEAVE_WAIT_MS * INT64_C(1000000))
                break;
        } else if (quit_ns != 0 && clock_now_ns() - quit_ns > STUCK_WAIT_S * INT64_C(1000000000)) {
            _exit(1); /* nobody is there to be told, and a hung driver must not keep the GPU */
        }
    }
    stream_decoder_free(&decoder);
    stream_buffer_free(&sending);
    return NULL;
}

/* ---- the engine thread ---- */

struct ticks {
    int64_t last_ns;
    int64_t work_ns; /* end of the last request or live step */
};

/* Sleep until there is a request, a step to run or the end. Returns the request or NULL. Ticks bring
 * what comes late after a step; when nothing can come any more, an idle worker sleeps. */
static struct request *next_request(struct worker *worker, const struct session *session,
                                    struct ticks *ticks)
{
    struct request *request = NULL;
    pthread_mutex_lock(&worker->mutex);
    while (worker->first == NULL && !worker->quit && !session_live(session)) {
        if (!session_open(session) || ticks->last_ns - ticks->work_ns > TICKS_END_NS) {
            pthread_cond_wait(&worker->changed, &worker->mutex);
            continue;
        }
        int64_t until = ticks->last_ns + TICK_NS;
        struct timespec limit = {until / 1000000000, until % 1000000000};
        if (pthread_cond_timedwait(&worker->changed, &worker->mutex, &limit) == ETIMEDOUT)
            break;
    }
    if (worker->first != NULL && !worker->quit) {
        request = worker->first;
        worker->first = request->next;
        if (worker->first == NULL)
            worker->last = &worker->first;
        worker->current = request->id;
        atomic_store(&worker->cancel, request->cancelled);
    }
    pthread_mutex_unlock(&worker->mutex);
    int64_t now = clock_now_ns();
    if (now - ticks->last_ns >= TICK_NS) {
        if (worker->hooks->tick != NULL && session_open(session))
            worker->hooks->tick(worker->hooks->context);
        ticks->last_ns = now;
    }
    return request;
}

static void execute(struct worker *worker, struct session *session, struct request *request)
{
    struct error error = {0};
    json_t *reply = NULL;
    const char *verb = json_string_value(json_object_get(request->json, "verb"));
    (void)session_follow_timing(session, &error); /* if it fails, the plans of before serve */
    error = (struct error){0};
    if (request->cancelled)
        error_set(&error, ERROR_INTERRUPTED, verb != NULL ? verb : "request",
                  "cancelled before it began");
    else if (verb == NULL)
        error_set(&error, ERROR_STREAM, "request", "it cannot be read");
    else
        reply = session_execute(session, request->id, verb,
                                json_object_get(request->json, "arguments"), &error);
    pthread_mutex_lock(&worker->mutex);
    worker->current = 0;
    atomic_store(&worker->cancel, worker->quit);
    pthread_mutex_unlock(&worker->mutex);
    if (reply != NULL)
        send_json(worker, STREAM_REPLY, request->id, reply);
    else
        send_failure(worker, request->id, &error);
    worker->lost = worker->lost || (reply == NULL && error.code == ERROR_LOST);
    json_decref(reply);
    json_decref(request->json);
    free(request);
    session_replied(session);
}

static bool quitting(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool quit = worker->quit;
    pthread_mutex_unlock(&worker->mutex);
    return quit;
}

/* A live step failed: nobody waits for a reply, so it is told as a line of the log. */
static void send_live_error(struct worker *worker, const struct error *error)
{
    json_t *json = json_pack("{s:s+, s:b, s:o}", "text", "the live run ended: ", error->why, "live",
                             0, "error", stream_error_json(error));
    if (error->code != ERROR_INTERRUPTED)
        send_json(worker, STREAM_LOG, 0, json);
    json_decref(json);
}

static void serve(struct worker *worker, struct session *session)
{
    struct ticks ticks = {clock_now_ns(), clock_now_ns()};
    while (!quitting(worker) && !worker->lost) {
        struct request *request = next_request(worker, session, &ticks);
        struct error error = {0};
        if (request != NULL)
            execute(worker, session, request);
        else if (!session_live(session))
            continue;
        else if (!session_follow_timing(session, &error) || !session_step(session, &error))
            send_live_error(worker, &error);
        worker->lost = worker->lost || error.code == ERROR_LOST;
        ticks.work_ns = clock_now_ns();
    }
}

/* Duplicate a stream descriptor to a private number that no library will write to. */
static int private_descriptor(int descriptor)
{
    int private = fcntl(descriptor, F_DUPFD_CLOEXEC, 64);
    if (private < 0)
    private = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
    fcntl(private, F_SETFL, fcntl(private, F_GETFL) | O_NONBLOCK);
    return private;
}

static void say_hello(struct worker *worker)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    json_t *hello = json_pack("{s:s, s:i, s:i, s:s}", "version", LAYERTOP_VERSION, "stream",
                              STREAM_VERSION, "pid", (int)getpid(), "host", host);
    stream_put_preamble(&worker->out);
    stream_put_json(&worker->out, STREAM_HELLO, 0, hello);
    json_decref(hello);
}

int worker_main(int input_fd, int output_fd, const struct worker_hooks *hooks)
{
    struct worker worker = {.hooks = hooks,
                            .input = private_descriptor(input_fd),
                            .output = private_descriptor(output_fd),
                            .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                            .mutex = PTHREAD_MUTEX_INITIALIZER,
                            .last = &worker.first};
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write too */
    /* CUDA counts as nvidia-smi does; read when the driver is opened, which is later */
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    /* oneDNN keeps the kernels of its last primitives (1024 by default): each change of the batch
     * would leave its own behind, megabytes that no plan accounts for. These are enough to keep
     * repeated layers cheap: they follow each other closely. */
    setenv("DNNL_PRIMITIVE_CACHE_CAPACITY", "24", 0);
    /* What is freed goes back to the system, so that resident memory can be held against the plan:
     * setting a threshold also stops glibc from moving it. */
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
    worker.log = log_pipe_new();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker.changed, &attributes);
    pthread_condattr_destroy(&attributes);
    say_hello(&worker);
    pthread_t io;
    if (pthread_create(&io, NULL, io_thread, &worker) != 0) {
        log_pipe_last_words(worker.log, "no thread can be started");
        return 1;
    }
    struct session_ports ports = {&worker, emit_progress, emit_plan, &worker.cancel};
    if (hooks->attach != NULL)
        hooks->attach(hooks->context, emit_record, &worker);
    struct session *session = session_new(hooks, &ports);
    serve(&worker, session);
    if (worker.lost) {
        /* the driver may never come back from what freeing asks of it */
        log_pipe_last_words(worker.log, "the GPU's context is lost");
    } else {
        session_free(session);
        if (hooks->close != NULL)
            hooks->close(hooks->context);
    }
    pthread_mutex_lock(&worker.mutex);
    worker.left = true;
    pthread_mutex_unlock(&worker.mutex);
    wake_io(&worker);
    pthread_join(io, NULL);
    if (worker.lost)
        _exit(LOST_CODE);
    for (struct request *request = worker.first, *next; request != NULL; request = next) {
        next = request->next;
        json_decref(request->json);
        free(request);
    }
    log_pipe_free(worker.log);
    stream_buffer_free(&worker.out);
    pthread_cond_destroy(&worker.changed);
    close(worker.input);
    close(worker.output);
    close(worker.wake);
    return 0;
}
