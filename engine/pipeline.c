#include "engine/pipeline.h"

#include "engine/clock.h"
#include "engine/cpu/cpu.h"
#include "engine/random.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MADE_UP  16 /* different pictures */
#define QUALITY  90
#define SIDE_MAX 8192

enum stage { STAGE_DECODE, STAGE_RESIZE, STAGE_SCALE };

struct encoded {
    void *data;
    size_t bytes;
};

/* Stages first..last of every picture of a batch, shared out picture by picture. */
struct job {
    enum stage first, last;
    atomic_size_t next; /* picture of the batch */
    size_t running;     /* threads that have not ended it */
    uint64_t number;    /* of the job, so that a thread knows a new one */
};

struct pipeline {
    struct pipeline_options options;
    char preprocess[16], *source;
    struct encoded pictures[PIPELINE_PICTURES];
    size_t picture_count, first; /* the batch's first picture */
    size_t row_elements, row_bytes, batch_bytes, bytes;
    size_t slot_bytes, table_bytes; /* of a raw batch */
    struct image *decoded;          /* per picture of the batch */
    float *values;                  /* resized, where the batch is of another type; else NULL */
    void *room;

    char *target; /* of the batch under way */
    struct job job;
    pthread_t threads[PIPELINE_THREADS];
    size_t thread_count;
    pthread_mutex_t lock; /* job, the part below, and `times` */
    pthread_cond_t work, idle;
    bool ending;
    struct error error; /* of a picture, the first */
    bool failed;
    struct pipeline_times times;

    /* overlap: one thread prepares into `ready` */
    pthread_t conductor;
    bool conducting, wanted, done;
    pthread_cond_t asked, answered;
    void *ready;
    int64_t begin_ns, end_ns; /* of its last batch; end_ns 0: under way */
};

/* ---- stages ---- */

static float *values_of(const struct pipeline *p, size_t at)
{
    char *row = p->target + at * p->row_bytes;
    return p->values != NULL ? p->values + at * p->row_elements : (float *)(void *)row;
}

/* A raw batch's second stage, and the last that it has. */
static void pack_picture(struct pipeline *p, size_t at)
{
    struct image *image = &p->decoded[at];
    struct image_size *sizes = (struct image_size *)(void *)p->target;
    sizes[at] = (struct image_size){image->width, image->height};
    memcpy(p->target + p->table_bytes + at * p->slot_bytes, image->pixels,
           (size_t)image->width * (size_t)image->height * (size_t)image->channels);
    image_free(image);
}

static bool run_stage(struct pipeline *p, enum stage stage, size_t at, struct error *error)
{
    const struct shape *row = &p->options.port.row;
    const struct encoded *from = &p->pictures[(p->first + at) % p->picture_count];
    if (p->options.raw && stage != STAGE_DECODE) {
        if (stage == STAGE_RESIZE)
            pack_picture(p, at);
        return true;
    }
    float *values = values_of(p, at);
    switch (stage) {
    case STAGE_DECODE:
        return image_decode(from->data, from->bytes, "picture", (int)row->dims[2], &p->decoded[at],
                            error);
    case STAGE_RESIZE:
        image_resize(&p->decoded[at], (int)row->dims[1], (int)row->dims[0], p->options.filter,
                     values);
        image_free(&p->decoded[at]);
        return true;
    default:
        image_preprocess(p->preprocess, values, (size_t)(row->dims[0] * row->dims[1]),
                         (int)row->dims[2]);
        if (p->values != NULL)
            image_store(values, p->row_elements, p->target + at * p->row_bytes,
                        p->options.port.dtype);
        return true;
    }
}

static void work_on(struct pipeline *p, enum stage first, enum stage last)
{
    int64_t spent_ns[PIPELINE_STAGES] = {0}, now_ns = clock_now_ns();
    struct error error = {0};
    bool good = true;
    for (size_t at; good && (at = atomic_fetch_add(&p->job.next, 1)) < p->options.batch;) {
        for (enum stage stage = first; good && stage <= last; stage++) {
            good = run_stage(p, stage, at, &error);
            int64_t then_ns = now_ns;
            now_ns = clock_now_ns();
            spent_ns[stage] += now_ns - then_ns;
        }
    }
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < PIPELINE_STAGES; i++)
        p->times.stage_ns[i] += spent_ns[i];
    if (!good && !p->failed) {
        p->failed = true;
        p->error = error;
    }
    pthread_mutex_unlock(&p->lock);
}

/* ---- threads ---- */

static void *helper(void *context)
{
    struct pipeline *p = context;
    uint64_t seen = 0;
    machine_unbind_thread();
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->ending && p->job.number == seen)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->ending)
            break;
        seen = p->job.number;
        enum stage first = p->job.first, last = p->job.last;
        pthread_mutex_unlock(&p->lock);
        work_on(p, first, last);
        pthread_mutex_lock(&p->lock);
        if (--p->job.running == 0)
            pthread_cond_signal(&p->idle);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* The caller works too, and returns when all have ended. */
static void run_job(struct pipeline *p, enum stage first, enum stage last)
{
    pthread_mutex_lock(&p->lock);
    p->job.first = first;
    p->job.last = last;
    atomic_store(&p->job.next, 0);
    p->job.running = p->thread_count;
    p->job.number++;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    work_on(p, first, last);
    pthread_mutex_lock(&p->lock);
    while (p->job.running > 0)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static bool prepare(struct pipeline *p, void *out, struct error *error)
{
    int64_t start_ns = clock_now_ns();
    p->target = out;
    p->failed = false;
    if (p->options.batched) {
        for (enum stage stage = STAGE_DECODE; stage <= STAGE_SCALE && !p->failed; stage++)
            run_job(p, stage, stage);
    } else {
        run_job(p, STAGE_DECODE, STAGE_SCALE);
    }
    if (p->failed) { /* of a picture that was good before: the memory for it is missing */
        for (size_t i = 0; i < p->options.batch; i++)
            image_free(&p->decoded[i]);
        if (error != NULL)
            *error = p->error;
        return false;
    }
    p->first = (p->first + p->options.batch) % p->picture_count;
    pthread_mutex_lock(&p->lock);
    p->times.batches++;
    p->times.prepare_ns += clock_now_ns() - start_ns;
    pthread_mutex_unlock(&p->lock);
    return true;
}

static void *conduct(void *context)
{
    struct pipeline *p = context;
    machine_unbind_thread();
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->ending && !p->wanted)
            pthread_cond_wait(&p->asked, &p->lock);
        if (p->ending)
            break;
        p->wanted = false;
        p->begin_ns = clock_now_ns();
        p->end_ns = 0;
        pthread_mutex_unlock(&p->lock);
        struct error error;
        (void)prepare(p, p->ready, &error);
        pthread_mutex_lock(&p->lock);
        p->end_ns = clock_now_ns();
        p->done = true;
        pthread_cond_signal(&p->answered);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void ask(struct pipeline *p)
{
    pthread_mutex_lock(&p->lock);
    p->wanted = true;
    p->done = false;
    pthread_cond_signal(&p->asked);
    pthread_mutex_unlock(&p->lock);
}

bool pipeline_next(struct pipeline *p, void *out, struct error *error)
{
    int64_t start_ns = clock_now_ns();
    bool good = true;
    if (!p->options.overlap) {
        good = prepare(p, out, error);
    } else {
        pthread_mutex_lock(&p->lock);
        while (!p->done)
            pthread_cond_wait(&p->answered, &p->lock);
        good = !p->failed;
        if (!good && error != NULL)
            *error = p->error;
        pthread_mutex_unlock(&p->lock);
        if (good)
            memcpy(out, p->ready, p->batch_bytes);
        ask(p);
    }
    pthread_mutex_lock(&p->lock);
    p->times.wait_ns += clock_now_ns() - start_ns;
    pthread_mutex_unlock(&p->lock);
    return good;
}

bool pipeline_ready(struct pipeline *p)
{
    pthread_mutex_lock(&p->lock);
    bool ready = p->options.overlap && p->done;
    pthread_mutex_unlock(&p->lock);
    return ready;
}

bool pipeline_behind(struct pipeline *p, int64_t start_ns, int64_t *begin_ns, int64_t *end_ns)
{
    if (!p->options.overlap)
        return false;
    pthread_mutex_lock(&p->lock);
    int64_t now_ns = clock_now_ns();
    *begin_ns = p->begin_ns > start_ns ? p->begin_ns : start_ns;
    *end_ns = p->end_ns != 0 ? p->end_ns : now_ns;
    pthread_mutex_unlock(&p->lock);
    return *begin_ns < *end_ns;
}

struct pipeline_times pipeline_times(struct pipeline *p, bool reset)
{
    pthread_mutex_lock(&p->lock);
    struct pipeline_times times = p->times;
    if (reset)
        p->times = (struct pipeline_times){0};
    pthread_mutex_unlock(&p->lock);
    return times;
}

/* ---- pictures ---- */

/* Waves of a few pixels to the picture's width, and noise of a few levels. */
static bool make_up(struct pipeline *p, size_t at, struct error *error)
{
    const struct pipeline_options *options = &p->options;
    int width = options->made_width, height = options->made_height;
    struct image image = {width, height, 3, malloc((size_t)width * (size_t)height * 3)};
    struct random random;
    if (image.pixels == NULL)
        return error_set(error, ERROR_MEMORY, "pipeline", "no memory for a picture of %dx%d", width,
                         height);
    random_seed(&random, options->seed + at);
    double across[3], down[3];
    for (int c = 0; c < 3; c++) {
        across[c] = (double)random_float(&random) * 0.3 + 0.01;
        down[c] = (double)random_float(&random) * 0.3 + 0.01;
    }
    uint8_t *pixel = image.pixels;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            for (int c = 0; c < 3; c++) {
                double wave = 60 * sin(across[c] * x) + 40 * cos(down[c] * y);
                *pixel++ = (uint8_t)(128 + wave + (double)random_below(&random, 24) - 12);
            }
        }
    }
    bool good =
        image_encode_jpeg(&image, QUALITY, &p->pictures[at].data, &p->pictures[at].bytes, error);
    image_free(&image);
    return good;
}

static bool read_whole(const char *path, struct encoded *out, struct error *error)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat stat;
    bool good = descriptor >= 0 && fstat(descriptor, &stat) == 0 && S_ISREG(stat.st_mode) &&
                stat.st_size > 0 && (size_t)stat.st_size <= PIPELINE_BYTES;
    if (good) {
        out->bytes = (size_t)stat.st_size;
        out->data = malloc(out->bytes);
        good = out->data != NULL && read(descriptor, out->data, out->bytes) == (ssize_t)out->bytes;
    }
    if (descriptor >= 0)
        close(descriptor);
    return good || error_set(error, ERROR_FILE, path, "it cannot be read as a picture");
}

static size_t aligned(size_t bytes)
{
    return (bytes + PIPELINE_ALIGNMENT - 1) / PIPELINE_ALIGNMENT * PIPELINE_ALIGNMENT;
}

static bool gather(struct pipeline *p, struct error *error)
{
    struct input *input = p->options.input;
    size_t count = input != NULL ? input_rows(input) : MADE_UP, sum = 0;
    for (size_t i = 0; i < count && i < PIPELINE_PICTURES && sum < PIPELINE_BYTES; i++) {
        if (input == NULL ? !make_up(p, i, error)
                          : !read_whole(input_picture(input, i), &p->pictures[i], error))
            return false;
        p->picture_count++;
        sum += p->pictures[i].bytes;
        struct image image;
        if (!image_decode(p->pictures[i].data, p->pictures[i].bytes,
                          input != NULL ? input_picture(input, i) : "picture", 3, &image, error))
            return false;
        size_t pixels = (size_t)image.width * (size_t)image.height;
        size_t slot = aligned(pixels * (size_t)p->options.port.row.dims[2]);
        p->slot_bytes = p->options.raw && slot > p->slot_bytes ? slot : p->slot_bytes;
        image_free(&image);
    }
    p->bytes += sum;
    return true;
}

/* ---- making one ---- */

static bool takes_pictures(const struct pipeline_options *options, struct error *error)
{
    const struct shape *row = &options->port.row;
    char shape[128];
    if (options->input != NULL && input_picture(options->input, 0) == NULL)
        return error_set(error, ERROR_INPUT, "pipeline",
                         "it makes batches out of pictures, and `input` names numbers");
    if (row->rank == 3 && (row->dims[2] == 1 || row->dims[2] == 3))
        return true;
    return error_set(error, ERROR_INPUT, "pipeline",
                     "it makes pictures, and input %s takes %s a row: not height, width and 1 or 3 "
                     "channels",
                     options->port.name, shape_format(shape, sizeof shape, row));
}

/* Memory that is there, not only promised: what others measure must not grow later. */
static void *touched(size_t bytes)
{
    void *data = malloc(bytes);
    if (data != NULL)
        memset(data, 0, bytes);
    return data;
}

static bool make_buffers(struct pipeline *p, struct error *error)
{
    size_t batch = p->options.batch;
    p->table_bytes = p->options.raw ? aligned(batch * sizeof(struct image_size)) : 0;
    size_t whole = p->table_bytes + batch * (p->options.raw ? p->slot_bytes : p->row_bytes);
    p->batch_bytes = whole;
    p->decoded = calloc(batch, sizeof *p->decoded);
    p->room = touched(whole);
    p->bytes += whole;
    bool good = p->decoded != NULL && p->room != NULL;
    if (p->options.port.dtype != DTYPE_F32 && !p->options.raw) {
        p->values = touched(batch * p->row_elements * sizeof(float));
        p->bytes += batch * p->row_elements * sizeof(float);
        good = good && p->values != NULL;
    }
    if (p->options.overlap) {
        p->ready = touched(whole);
        p->bytes += whole;
        good = good && p->ready != NULL;
    }
    return good ||
           error_set(error, ERROR_MEMORY, "pipeline", "no memory for a batch of %zu", batch);
}

static bool start_threads(struct pipeline *p, struct error *error)
{
    bool good = true;
    for (int i = 1; good && i < p->options.threads; i++) {
        good = pthread_create(&p->threads[p->thread_count], NULL, helper, p) == 0;
        p->thread_count += good;
    }
    if (good && p->options.overlap) {
        p->conducting = pthread_create(&p->conductor, NULL, conduct, p) == 0;
        good = p->conducting;
    }
    return good || error_set(error, ERROR_COMMAND, "pipeline", "no thread can be started: %s",
                             strerror(errno));
}

struct pipeline *pipeline_new(const struct pipeline_options *options, struct error *error)
{
    if (!takes_pictures(options, error))
        return NULL;
    struct pipeline *p = xcalloc(1, sizeof *p);
    p->options = *options;
    snprintf(p->preprocess, sizeof p->preprocess, "%s", options->preprocess);
    p->options.preprocess = p->preprocess;
    p->options.source = p->source = xstrdup(options->source);
    p->row_elements = (size_t)shape_elements(&options->port.row);
    p->row_bytes = p->row_elements * dtype_bytes(options->port.dtype);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->idle, NULL);
    pthread_cond_init(&p->asked, NULL);
    pthread_cond_init(&p->answered, NULL);
    bool good = gather(p, error) && make_buffers(p, error) && start_threads(p, error);
    p->options.input = NULL;
    p->options.port.name = NULL;
    if (!good) {
        pipeline_free(p);
        return NULL;
    }
    if (p->options.overlap)
        ask(p);
    return p;
}

void pipeline_free(struct pipeline *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    /* a batch under way needs its helpers to the end */
    while (p->conducting && !p->done)
        pthread_cond_wait(&p->answered, &p->lock);
    p->ending = true;
    pthread_cond_broadcast(&p->work);
    pthread_cond_broadcast(&p->asked);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->thread_count; i++)
        pthread_join(p->threads[i], NULL);
    if (p->conducting)
        pthread_join(p->conductor, NULL);
    for (size_t i = 0; i < PIPELINE_PICTURES; i++)
        free(p->pictures[i].data);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->asked);
    pthread_cond_destroy(&p->answered);
    pthread_mutex_destroy(&p->lock);
    free(p->source);
    free(p->decoded);
    free(p->values);
    free(p->room);
    free(p->ready);
    free(p);
}

bool pipeline_serves(const struct pipeline *pipeline, const struct pipeline_options *options)
{
    const struct pipeline_options *own = &pipeline->options;
    bool same_pictures = strcmp(own->source, options->source) == 0 &&
                         own->made_width == options->made_width &&
                         own->made_height == options->made_height && own->seed == options->seed;
    bool same_batches = shape_equal(&own->port.row, &options->port.row) &&
                        own->port.dtype == options->port.dtype && own->batch == options->batch &&
                        strcmp(own->preprocess, options->preprocess) == 0 &&
                        own->filter == options->filter;
    return same_pictures && same_batches && own->overlap == options->overlap &&
           own->batched == options->batched && own->threads == options->threads &&
           own->raw == options->raw;
}

size_t pipeline_pictures(const struct pipeline *pipeline)
{
    return pipeline->picture_count;
}

size_t pipeline_batch_bytes(const struct pipeline *pipeline)
{
    return pipeline->batch_bytes;
}

size_t pipeline_slot_bytes(const struct pipeline *pipeline)
{
    return pipeline->slot_bytes;
}

size_t pipeline_bytes(const struct pipeline *pipeline)
{
    return pipeline->bytes;
}

void *pipeline_room(struct pipeline *pipeline)
{
    return pipeline->room;
}
