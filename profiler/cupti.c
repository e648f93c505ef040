/* CUPTI's life: opening, buffers, the decoder's thread, graph nodes. See cupti.h.
 *
 * Order of opening (all of it before the CUDA driver is initialised): subscribe, thread ids,
 * attributes, timestamps, buffer callbacks, kinds.
 * Threads: the engine thread pushes, pops, launches and gets CUPTI's callbacks (`request` among
 * them, which therefore only takes a buffer from the pool); `complete` may come on any thread and
 * only puts a buffer into a list; the decoder decodes, zeroes and returns buffers and flushes while
 * steps run. No lock that a callback takes is held across a call into CUPTI.
 */
#include "profiler/cupti.h"

#include <unistd.h>

bool cupti_driver_present(void)
{
    return access("/proc/driver/nvidia/version", F_OK) == 0 ||
           access("/dev/nvidiactl", F_OK) == 0 ||
           access("/dev/dxg", F_OK) == 0; /* the last is WSL's */
}

#ifndef LAYERTOP_CUDA_HEADERS
const struct gpu_trace *cupti_open(const struct cupti_api *api, const char *raw,
                                   struct error *error)
{
    (void)api;
    (void)raw;
    error_set(error, ERROR_CUPTI, "CUPTI",
              "this layertop was built without the CUDA headers, so it was built without CUPTI");
    error_hint(error, "set profile events");
    return NULL;
}
#else
#include "engine/clock.h"
#include "engine/cpu/cpu.h"
#include "profiler/cupti_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define BUFFER_BYTES    (256u << 10) /* 900 launches: a buffer with one running kernel is held back */
#define BUFFERS_START   16
#define BUFFERS_SPARE   8 /* the decoder keeps so many in the pool */
#define BUFFERS_MAX     256
#define FLUSH_PERIOD_NS INT64_C(50000000)
#define IDLE_FLUSHES    40      /* after that many without a step the decoder sleeps */
#define EVENTS_MAX      1000000 /* that wait for the engine thread */
#define FLUSH_FAILURES  20      /* in a row mean that CUPTI is dead */
#define UNTAGGED_MAX    64      /* without one correlation mean that the chosen calls give none */

/* CUPTI's buffer callbacks carry no pointer of ours, and there is one CUPTI in a process */
static _Atomic(struct cupti *) the_cupti;

/* ---------------------------------------------------------------- buffers */

static struct buffer *buffer_new(void)
{
    struct buffer *buffer = xcalloc(1, sizeof *buffer);
    void *data = NULL;
    if (posix_memalign(&data, 4096, BUFFER_BYTES) != 0) {
        free(buffer);
        return NULL;
    }
    buffer->data = memset(data, 0, BUFFER_BYTES);
    return buffer;
}

static void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    free(buffer);
}

static void CUPTIAPI on_request(uint8_t **data, size_t *size, size_t *max_records)
{
    struct cupti *c = atomic_load(&the_cupti);
    *max_records = 0;
    *data = NULL;
    *size = 0;
    if (!c)
        return;
    pthread_mutex_lock(&c->buffer_lock);
    struct buffer *buffer = c->pool;
    if (buffer) {
        c->pool = buffer->next;
        c->pool_count--;
        buffer->next = c->out;
        c->out = buffer;
    }
    pthread_mutex_unlock(&c->buffer_lock);
    if (buffer) {
        *data = buffer->data;
        *size = BUFFER_BYTES;
    } else {
        atomic_fetch_add(&c->refused, 1);
    }
}

static void CUPTIAPI on_complete(CUcontext context, uint32_t stream, uint8_t *data, size_t size,
                                 size_t valid)
{
    struct cupti *c = atomic_load(&the_cupti);
    (void)context;
    (void)stream;
    (void)size;
    if (!c)
        return;
    pthread_mutex_lock(&c->buffer_lock);
    struct buffer **link = &c->out;
    while (*link && (*link)->data != data)
        link = &(*link)->next;
    struct buffer *buffer = *link;
    if (buffer) {
        *link = buffer->next;
        buffer->next = NULL;
        buffer->valid = valid < BUFFER_BYTES ? valid : BUFFER_BYTES;
        *c->full_end = buffer;
        c->full_end = &buffer->next;
    }
    pthread_mutex_unlock(&c->buffer_lock);
}

static void raw_write(struct cupti *c, const struct buffer *buffer)
{
    uint64_t head[2] = {buffer->valid, (uint64_t)clock_now_ns()};
    pthread_mutex_lock(&c->raw_lock);
    if (c->raw && buffer->valid > 0) {
        fwrite(head, sizeof head, 1, c->raw);
        fwrite(buffer->data, 1, buffer->valid, c->raw);
    }
    pthread_mutex_unlock(&c->raw_lock);
}

/* Decode what CUPTI has given back, return the buffers to the pool, keep the pool filled */
static void drain_buffers(struct cupti *c)
{
    pthread_mutex_lock(&c->buffer_lock);
    struct buffer *list = c->full;
    c->full = NULL;
    c->full_end = &c->full;
    pthread_mutex_unlock(&c->buffer_lock);
    while (list) {
        struct buffer *buffer = list;
        list = buffer->next;
        raw_write(c, buffer);
        cupti_decoder_buffer(c->decoder, buffer->data, buffer->valid);
        memset(buffer->data, 0, BUFFER_BYTES); /* CUPTI is told that it need not */
        pthread_mutex_lock(&c->buffer_lock);
        buffer->next = c->pool;
        c->pool = buffer;
        c->pool_count++;
        pthread_mutex_unlock(&c->buffer_lock);
    }
    pthread_mutex_lock(&c->buffer_lock);
    size_t missing = c->pool_count < BUFFERS_SPARE && c->buffer_count < BUFFERS_MAX
                         ? BUFFERS_SPARE - c->pool_count
                         : 0;
    pthread_mutex_unlock(&c->buffer_lock);
    for (; missing > 0; missing--) {
        struct buffer *buffer = buffer_new();
        if (!buffer)
            break;
        pthread_mutex_lock(&c->buffer_lock);
        buffer->next = c->pool;
        c->pool = buffer;
        c->pool_count++;
        c->buffer_count++;
        pthread_mutex_unlock(&c->buffer_lock);
    }
}

/* ---------------------------------------------------------------- decoder's thread */

/* The first reason stands */
static void fail(struct cupti *c, const char *reason)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&c->reason, &none, reason);
    atomic_store(&c->failed, true);
}

/* Hand the decoder's events over to the engine thread */
static void publish(struct cupti *c)
{
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(c->decoder, &count);
    pthread_mutex_lock(&c->lock);
    size_t waiting = c->event_count - c->event_taken;
    if (c->event_taken && c->event_taken >= waiting) {
        memmove(c->events, c->events + c->event_taken, waiting * sizeof *c->events);
        c->event_count = waiting;
        c->event_taken = 0;
    }
    size_t room = waiting < EVENTS_MAX ? EVENTS_MAX - waiting : 0;
    size_t taken = count < room ? count : room;
    if (c->event_count + taken > c->event_capacity) {
        c->event_capacity = (c->event_count + taken) * 2;
        c->events = xrealloc(c->events, c->event_capacity * sizeof *c->events);
    }
    if (taken)
        memcpy(c->events + c->event_count, events, taken * sizeof *events);
    c->event_count += taken;
    if (taken < count)
        cupti_decoder_drops(c->decoder, count - taken);
    cupti_decoder_losses(c->decoder, &c->losses);
    pthread_mutex_unlock(&c->lock);
    cupti_decoder_clear(c->decoder);
}

static void count_drops(struct cupti *c)
{
    size_t dropped = 0;
    if (c->api.dropped(NULL, 0, &dropped) == CUPTI_SUCCESS && dropped)
        cupti_decoder_drops(c->decoder, dropped);
    uint64_t refused = atomic_exchange(&c->refused, 0);
    if (refused)
        cupti_decoder_drops(c->decoder, refused);
}

/* Wait for the next flush; false at the end */
static bool wait_turn(struct cupti *c, uint64_t idle)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += FLUSH_PERIOD_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    if (idle > IDLE_FLUSHES) {
        atomic_store(&c->drowsy, true);
        while (!c->stop && !c->hurry && atomic_load(&c->drowsy))
            pthread_cond_wait(&c->wake, &c->lock);
        atomic_store(&c->drowsy, false);
    } else {
        while (!c->stop && !c->hurry && pthread_cond_timedwait(&c->wake, &c->lock, &until) == 0)
            continue;
    }
    c->hurry = false;
    bool go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

static void flush_once(struct cupti *c, uint32_t flag)
{
    pthread_mutex_lock(&c->lock);
    c->started++;
    pthread_mutex_unlock(&c->lock);
    drain_buffers(c);
    pthread_mutex_lock(&c->switching);
    CUptiResult result = c->api.flush_all(flag);
    pthread_mutex_unlock(&c->switching);
    c->flush_failures = result == CUPTI_SUCCESS ? 0 : c->flush_failures + 1;
    if (c->flush_failures == FLUSH_FAILURES)
        fail(c, "CUPTI refuses to hand over its records");
    drain_buffers(c);
    cupti_decoder_flushed(c->decoder);
    publish(c);
    pthread_mutex_lock(&c->lock);
    c->finished = c->started;
    pthread_cond_broadcast(&c->done);
    pthread_mutex_unlock(&c->lock);
}

static void *decoder_main(void *argument)
{
    struct cupti *c = argument;
    uint64_t steps = 0, idle = IDLE_FLUSHES + 1; /* nothing is asked of CUPTI before a step runs */
    machine_unbind_thread();
    for (uint64_t turn = 0; wait_turn(c, idle); turn++) {
        uint64_t now = atomic_load(&c->steps);
        idle = now == steps ? idle + 1 : 0;
        steps = now;
        flush_once(c, 0);
        if (turn % 20 == 0)
            count_drops(c);
        if (!c->widened && cupti_decoder_linked(c->decoder) == 0 &&
            cupti_decoder_untagged(c->decoder) >= UNTAGGED_MAX)
            cupti_widen(c);
    }
    return NULL;
}

/* ---------------------------------------------------------------- gpu_trace */

static void trace_push(void *context, uint64_t tag)
{
    struct cupti *c = context;
    int op = gpu_tag_op(tag);
    atomic_store(&c->current_op, op); /* also while it is off: a graph may be captured */
    if (c->detail == GPU_DETAIL_OFF)
        return;
    c->api.push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, tag);
    if (op != GPU_OP_NONE)
        return;
    if (atomic_fetch_add(&c->steps, 1) == 0)
        cupti_decoder_thread(c->decoder, (uint32_t)syscall(SYS_gettid));
    if (atomic_load(&c->drowsy)) {
        pthread_mutex_lock(&c->lock);
        atomic_store(&c->drowsy, false);
        pthread_cond_broadcast(&c->wake);
        pthread_mutex_unlock(&c->lock);
    }
}

static void trace_pop(void *context)
{
    struct cupti *c = context;
    uint64_t last;
    if (c->detail != GPU_DETAIL_OFF)
        c->api.pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last);
    atomic_store(&c->current_op, GPU_OP_NONE);
}

static size_t trace_take(void *context, struct gpu_event *events, size_t capacity)
{
    struct cupti *c = context;
    pthread_mutex_lock(&c->lock);
    size_t count = c->event_count - c->event_taken;
    count = count < capacity ? count : capacity;
    if (count)
        memcpy(events, c->events + c->event_taken, count * sizeof *events);
    c->event_taken += count;
    pthread_mutex_unlock(&c->lock);
    return count;
}

static uint64_t trace_flushes(void *context)
{
    struct cupti *c = context;
    pthread_mutex_lock(&c->lock);
    uint64_t finished = c->finished;
    pthread_mutex_unlock(&c->lock);
    return finished;
}

static bool trace_flush(void *context, int64_t limit_ns)
{
    struct cupti *c = context;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nanoseconds = until.tv_nsec + limit_ns;
    until.tv_sec += nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_mutex_lock(&c->lock);
    uint64_t wanted = c->started + 1;
    bool in_time = true;
    while (c->finished < wanted && in_time) {
        c->hurry = true;
        pthread_cond_broadcast(&c->wake);
        in_time = pthread_cond_timedwait(&c->done, &c->lock, &until) == 0;
    }
    bool done = c->finished >= wanted;
    pthread_mutex_unlock(&c->lock);
    return done;
}

/* What ran so far leaves CUPTI first: kinds are switched with nothing under way and nothing held */
static bool trace_detail(void *context, enum gpu_detail detail, int64_t limit_ns)
{
    struct cupti *c = context;
    if (c->detail == detail)
        return true;
    if (!trace_flush(context, limit_ns) || pthread_mutex_trylock(&c->switching) != 0)
        return false;
    bool good = cupti_switch(c, detail);
    pthread_mutex_unlock(&c->switching);
    if (good)
        c->detail = detail;
    else
        fail(c, "CUPTI refused to record kernels again after a pause");
    return good;
}

static bool trace_kernel(void *context, uint32_t number, struct gpu_kernel *out)
{
    return cupti_decoder_kernel(((struct cupti *)context)->decoder, number, out);
}

static void trace_losses(void *context, struct gpu_losses *out)
{
    struct cupti *c = context;
    pthread_mutex_lock(&c->lock);
    *out = c->losses;
    pthread_mutex_unlock(&c->lock);
}

static uint64_t trace_library_bytes(void *context)
{
    return cupti_decoder_library_bytes(((struct cupti *)context)->decoder);
}

static void trace_ours(void *context, int64_t delta_bytes)
{
    cupti_decoder_ours(((struct cupti *)context)->decoder, delta_bytes, clock_now_ns());
}

static uint64_t trace_own_bytes(void *context)
{
    return ((struct cupti *)context)->own_bytes;
}

static bool trace_raw(void *context, const char *path, struct error *error)
{
    struct cupti *c = context;
    uint32_t version = 0;
    c->api.get_version(&version);
    pthread_mutex_lock(&c->raw_lock);
    bool good = true;
    if (c->raw && fclose(c->raw) != 0)
        good = error_set(error, ERROR_FILE, "raw buffers", "not all of them could be written: %m");
    c->raw = NULL;
    if (path)
        good = cupti_raw_open(c, path, version, error);
    pthread_mutex_unlock(&c->raw_lock);
    return good;
}

static bool trace_alive(void *context, char *why, size_t size)
{
    struct cupti *c = context;
    if (!atomic_load(&c->failed))
        return true;
    const char *reason = atomic_load(&c->reason);
    snprintf(why, size, "%s", reason ? reason : "CUPTI met a fatal error and ended its own work");
    return false;
}

static void cupti_free(struct cupti *c)
{
    for (struct buffer *lists[] = {c->pool, c->full}, **list = lists; list < lists + 2; list++) {
        while (*list) {
            struct buffer *next = (*list)->next;
            buffer_free(*list);
            *list = next;
        }
    }
    if (c->raw)
        fclose(c->raw);
    cupti_decoder_free(c->decoder);
    pthread_mutex_destroy(&c->buffer_lock);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->raw_lock);
    pthread_mutex_destroy(&c->switching);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->done);
    free(c->events);
    free(c);
}

static void trace_close(void *context)
{
    struct cupti *c = context;
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    cupti_disable(c);
    flush_once(c, CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    c->api.unsubscribe(c->subscriber);
    /* the library stays loaded, and where it still holds a buffer so does what it may call back to */
    if (!c->out) {
        atomic_store(&the_cupti, NULL);
        cupti_free(c);
    }
}

/* ---------------------------------------------------------------- opening */

static struct cupti *cupti_make(const struct cupti_api *api)
{
    struct cupti *c = xcalloc(1, sizeof *c);
    c->api = *api;
    atomic_init(&c->current_op, GPU_OP_NONE);
    c->full_end = &c->full;
    pthread_mutex_init(&c->buffer_lock, NULL);
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->raw_lock, NULL);
    pthread_mutex_init(&c->switching, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c->wake, &attributes);
    pthread_cond_init(&c->done, &attributes);
    pthread_condattr_destroy(&attributes);
    c->trace = (struct gpu_trace){
        .context = c,
        .push = trace_push,
        .pop = trace_pop,
        .take = trace_take,
        .detail = trace_detail,
        .kernel = trace_kernel,
        .flushes = trace_flushes,
        .flush = trace_flush,
        .losses = trace_losses,
        .library_bytes = trace_library_bytes,
        .own_bytes = trace_own_bytes,
        .ours = trace_ours,
        .alive = trace_alive,
        .raw = trace_raw,
        .close = trace_close,
    };
    return c;
}

static struct cupti *open_with(const struct cupti_api *api, const char *raw, CUptiResult *refused,
                               struct error *error)
{
    uint32_t version = 0;
    struct cupti *c = cupti_make(api);
    c->api.get_version(&version);
    c->decoder = cupti_decoder_new(c->api.next_record, version >= 130000 && api->library);
    for (int i = 0; i < BUFFERS_START; i++) {
        struct buffer *buffer = buffer_new();
        if (!buffer)
            break;
        buffer->next = c->pool;
        c->pool = buffer;
        c->pool_count++;
        c->buffer_count++;
    }
    atomic_store(&the_cupti, c);
    if ((raw && !cupti_raw_open(c, raw, version, error)) ||
        !cupti_start(c, on_request, on_complete, refused, error)) {
        atomic_store(&the_cupti, NULL);
        cupti_free(c);
        return NULL;
    }
    if (pthread_create(&c->thread, NULL, decoder_main, c) != 0) {
        error_set(error, ERROR_CUPTI, "CUPTI", "no thread could be started for it");
        cupti_disable(c);
        (void)c->api.unsubscribe(c->subscriber);
        atomic_store(&the_cupti, NULL);
        cupti_free(c);
        return NULL;
    }
    return c;
}

const struct gpu_trace *cupti_open(const struct cupti_api *mock, const char *raw,
                                   struct error *error)
{
    CUptiResult refused = CUPTI_SUCCESS;
    if (atomic_load(&the_cupti)) {
        error_set(error, ERROR_CUPTI, "CUPTI",
                  "it was closed while it still held records; a fresh "
                  "worker is needed to open it again");
        return NULL;
    }
    if (mock) {
        struct cupti *c = open_with(mock, raw, &refused, error);
        return c ? &c->trace : NULL;
    }
    if (!cupti_driver_present()) {
        error_set(error, ERROR_CUPTI, "CUPTI", "this machine has no NVIDIA driver");
        error_hint(error, "set profile clock");
        return NULL;
    }
    /* CUPTI may be the one that starts the driver, which reads this once (see cuda_module.c) */
    setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
    char tried[700] = "";
    bool found = false;
    /* a CUPTI that is newer than the driver refuses (15); an older one may do */
    for (int major = 13; major >= 12; major--) {
        struct cupti_api api;
        if (!cupti_library_open(&api, major, tried, sizeof tried))
            continue;
        found = true;
        struct cupti *c = open_with(&api, raw, &refused, error);
        if (c)
            return &c->trace;
        cupti_library_close(&api);
        if (refused != CUPTI_ERROR_NOT_INITIALIZED && refused != CUPTI_ERROR_NOT_COMPATIBLE)
            break;
    }
    if (!found) {
        error_set(error, ERROR_CUPTI, "CUPTI", "libcupti was not found; tried %s", tried);
        error_hint(error, "set profile events");
    }
    return NULL;
}
#endif
