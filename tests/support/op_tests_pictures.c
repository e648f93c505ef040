/* Pictures that the device resizes and scales by itself, against engine/image.c, which is held
 * against TensorFlow's own arrays elsewhere. */
#include "engine/image.h"
#include "engine/pipeline.h"
#include "support/op_tests.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH  3
#define HEIGHT 13
#define WIDTH  17
#define SLOT   4608 /* of 40 x 37 pixels in colour, aligned */
#define STEPS  4

static const char *const modes[] = {"none", "tf", "caffe", "torch", "unit", "per_image"};

struct case_of {
    enum image_filter filter;
    const char *mode;
    int channels;
    bool ahead;
};

/* A batch of random pictures, larger and smaller than the input, and what they have to become. */
static void make_batch(const struct case_of *c, char *raw, float *wanted)
{
    struct image_size *sizes = (struct image_size *)(void *)raw;
    size_t row = (size_t)HEIGHT * WIDTH * (size_t)c->channels;
    for (int i = 0; i < BATCH; i++) {
        struct image image = {.width = (int)bench_roll(1, 40),
                              .height = (int)bench_roll(1, 37),
                              .channels = c->channels,
                              .pixels = (uint8_t *)raw + PIPELINE_ALIGNMENT + i * SLOT};
        sizes[i] = (struct image_size){image.width, image.height};
        for (int k = 0; k < image.width * image.height * c->channels; k++) {
            image.pixels[k] = (uint8_t)bench_roll(0, 255);
        }
        image_resize(&image, WIDTH, HEIGHT, c->filter, wanted + (size_t)i * row);
        image_preprocess(c->mode, wanted + (size_t)i * row, (size_t)HEIGHT * WIDTH, c->channels);
    }
}

static void compare(const struct case_of *c, const float *got, const float *wanted, int step)
{
    size_t count = (size_t)BATCH * HEIGHT * WIDTH * (size_t)c->channels;
    double most = 1, allowed = op_tests_in_half() ? op_tests_tolerance : 1e-6;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs((double)wanted[i]));
    }
    for (size_t i = 0; i < count; i++) {
        if (!(fabs((double)got[i] + (double)wanted[i]) <= allowed * most)) {
            bench_failed("%s, filter %d, %d channels, step %d%s: value %zu is %g, wanted %g",
                         c->mode, (int)c->filter, c->channels, step, c->ahead ? ", ahead" : "", i,
                         -(double)got[i], (double)wanted[i]);
            return;
        }
    }
}

/* Steps that are fed, the next batch sent before a step has ended, and one that is not fed. */
static void run_steps(const struct case_of *c, struct plan *plan, struct error *error)
{
    size_t count = (size_t)BATCH * HEIGHT * WIDTH * (size_t)c->channels;
    float *wanted[2], *plain = bench_backend->plan_input(plan, 0);
    for (size_t i = 0; i < count; i++) {
        plain[i] = (float)i / (float)count;
    }
    for (int i = 0; i < 2; i++) {
        wanted[i] = calloc(count, sizeof(float));
    }
    const void *room = bench_backend->plan_feed_room(plan);
    make_batch(c, bench_backend->plan_feed_room(plan), wanted[0]);
    bool good = bench_backend->plan_feed_send(plan, error);
    if ((bench_backend->plan_feed_room(plan) != room) != c->ahead) {
        bench_failed("a batch that is copied ahead lies where the one in use lies");
    }
    for (int step = 0; good && step < STEPS; step++) {
        struct step_context context = {.fed = true}, unfed = {0};
        good = bench_backend->plan_launch(plan, &context, error);
        if (good && c->ahead) {
            make_batch(c, bench_backend->plan_feed_room(plan), wanted[(step + 1) % 2]);
            good = bench_backend->plan_feed_send(plan, error);
        }
        good = bench_backend->plan_wait(plan, &context, error) && good;
        compare(c, bench_backend->plan_output(plan, 0), wanted[step % 2], step);
        if (good && step == 1) {
            good = bench_backend->plan_run(plan, &unfed, error);
            compare(c, bench_backend->plan_output(plan, 0), plain, -1);
        }
        if (good && !c->ahead) {
            make_batch(c, bench_backend->plan_feed_room(plan), wanted[(step + 1) % 2]);
            good = bench_backend->plan_feed_send(plan, error);
        }
    }
    struct picture_times times = bench_backend->plan_feed_times(plan, true);
    if (good && (times.batches != STEPS || times.copied_bytes == 0)) {
        bench_failed("%llu fed steps were timed", (unsigned long long)times.batches);
    }
    if (!good) {
        bench_failed("%s: %s", error->what, error->why);
    }
    free(wanted[0]);
    free(wanted[1]);
}

static void run_case(const struct case_of *c)
{
    struct error error = {0};
    struct bench *b = bench_new(BATCH);
    struct shape shape = D(I(BATCH), I(HEIGHT), I(WIDTH), c->channels);
    struct op *op = bench_op(b, OP_UNARY, bench_input(b, shape), shape);
    op->unary = (struct op_unary){UNARY_NEGATIVE, 0, 0};
    bench_output(b, op->outputs[0]);
    struct plan_options options = bench_options;
    struct picture_feed feed = {.batch_bytes = PIPELINE_ALIGNMENT + BATCH * SLOT,
                                .slot_bytes = SLOT,
                                .filter = c->filter,
                                .preprocess = c->mode,
                                .ahead = c->ahead};
    options.precision = op_tests_precision;
    struct plan *plan = bench_backend->plan_new(op_tests_device, &b->graph, &options, &error);
    if (plan == NULL || !bench_backend->plan_feed(plan, &feed, &error)) {
        bench_failed("%s: %s", error.what, error.why);
    } else {
        run_steps(c, plan, &error);
    }
    bench_backend->plan_free(plan);
    bench_backend->device_forget(op_tests_device);
    bench_free(b);
}

void op_test_pictures(void)
{
    for (int i = 0; i < op_tests_cases(36) && bench_why[0] == '\0'; i++) {
        struct case_of c = {.filter = (enum image_filter)(i % 3),
                            .mode = modes[i / 3 % 6],
                            .channels = i / 18 % 2 == 0 ? 3 : 1,
                            .ahead = i % 2 == 1};
        run_case(&c);
    }
}
