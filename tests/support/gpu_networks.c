/* Whole networks on the GPU against our own CPU in float32, which real Keras was held against. */
#include "engine/npy.h"
#include "engine/random.h"
#include "support/gpu_tests.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The largest value's place in a row, and by how much it leads. */
static size_t first_of(const double *row, size_t width, double *margin)
{
    size_t best = 0;
    double second = -INFINITY;
    for (size_t i = 1; i < width; i++)
        best = row[i] > row[best] ? i : best;
    for (size_t i = 0; i < width; i++)
        second = i != best && row[i] > second ? row[i] : second;
    *margin = row[best] - second;
    return best;
}

/* How many of the five largest of one row are among those of the other. */
static int overlap_of(const double *a, const float *b, size_t width)
{
    int both = 0;
    for (size_t i = 0; i < width; i++) {
        size_t above_a = 0, above_b = 0;
        for (size_t j = 0; j < width; j++) {
            above_a += a[j] > a[i];
            above_b += b[j] > b[i];
        }
        both += above_a < 5 && above_b < 5;
    }
    return both;
}

/* `predict` of four random pictures on a device, as floats; NULL and the outcome says why. */
static float *network_answers(const struct context *context, struct outcome *outcome,
                              const char *model, const char *settings, const char *pictures,
                              size_t count)
{
    char output[512];
    snprintf(output, sizeof output, "%s/network.npy", context->work);
    unlink(output);
    json_t *objects = gpu_layertop(context, NULL, "-c '%s; batch 4; load %s; predict %s %s'",
                                   settings, model, pictures, output);
    gpu_data(objects, "predict", outcome);
    json_decref(objects);
    struct error error = {0};
    struct npy_file *file = outcome->passed ? npy_open(output, &error) : NULL;
    float *copy = NULL;
    if (outcome->passed && file == NULL)
        outcome_fail(outcome, "%s: %s", error.what, error.why);
    else if (file && (npy_at(file, 0)->dtype != DTYPE_F32 ||
                      shape_elements(&npy_at(file, 0)->shape) != (int64_t)count))
        outcome_fail(outcome, "the answer has another shape or dtype than foreseen");
    else if (file)
        copy = memcpy(malloc(count * sizeof *copy), npy_at(file, 0)->data, count * sizeof *copy);
    if (file)
        npy_close(file);
    return copy;
}

static bool write_pictures(const char *path)
{
    struct random dice;
    int64_t dims[] = {4, 224, 224, 3};
    struct npy_array array = {.name = "", .dtype = DTYPE_F32, .shape = shape_of(4, dims)};
    size_t count = (size_t)shape_elements(&array.shape);
    float *values = malloc(count * sizeof *values);
    random_seed(&dice, 11);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(random_next(&dice) % 256);
    array.data = values;
    array.bytes = count * sizeof *values;
    bool good = npy_write(path, &array, 1, NULL);
    free(values);
    return good;
}

/* Whole networks against our own CPU in float32, which real Keras was held against: the largest
 * difference, the five best classes, and the best one where it leads by twice the tolerance. */
void gpu_test_networks(const struct context *context, struct outcome *outcome)
{
    static const char *const models[] = {"demo:mobilenetv2", "demo:resnet50",
                                         "demo:efficientnetb0"};
    static const struct {
        const char *name;
        double tolerance;
    } precisions[] = {{"fp32", 1e-4}, {"tf32", 1e-2}, {"fp16", 3e-2}, {"bf16", 1e-1}};
    enum { ROWS = 4, WIDTH = 1000, COUNT = ROWS * WIDTH };
    char pictures[300], settings[64], key[64];
    snprintf(pictures, sizeof pictures, "%s/pictures.npy", context->work);
    if (!write_pictures(pictures))
        outcome_fail(outcome, "%s cannot be written", pictures);
    for (size_t m = 0; m < 3 && outcome->passed; m++) {
        float *cpu = network_answers(context, outcome, models[m], "devices cpu; precision fp32",
                                     pictures, COUNT);
        double *expected = malloc(COUNT * sizeof *expected);
        for (size_t i = 0; cpu && i < COUNT; i++)
            expected[i] = (double)cpu[i];
        for (size_t p = 0; cpu && p < 4; p++) {
            snprintf(settings, sizeof settings, "devices 0; precision %s", precisions[p].name);
            float *gpu = network_answers(context, outcome, models[m], settings, pictures, COUNT);
            if (!gpu)
                break;
            snprintf(key, sizeof key, "%s %s", models[m] + 5, precisions[p].name);
            outcome_compare(outcome, gpu, expected, COUNT, precisions[p].tolerance, key);
            int least = 5;
            double largest = 0;
            for (size_t i = 0; i < COUNT; i++)
                largest = fmax(largest, expected[i]);
            for (size_t row = 0; row < ROWS; row++) {
                const double *wanted = expected + row * WIDTH;
                double margin;
                size_t best = first_of(wanted, WIDTH, &margin), got = 0;
                for (size_t i = 1; i < WIDTH; i++)
                    got = gpu[row * WIDTH + i] > gpu[row * WIDTH + got] ? i : got;
                if (margin > 2 * precisions[p].tolerance * largest && got != best)
                    outcome_fail(outcome, "%s: picture %zu is class %zu, not %zu", key, row, got,
                                 best);
                int overlap = overlap_of(wanted, gpu + row * WIDTH, WIDTH);
                least = overlap < least ? overlap : least;
            }
            snprintf(key, sizeof key, "%s %s top5", models[m] + 5, precisions[p].name);
            outcome_figure(outcome, key, least);
            free(gpu);
        }
        free(expected);
        free(cpu);
    }
}

/* The errors of the proofs of one network, of each precision in turn. */
static void check_proofs(const json_t *objects, const char *model, struct outcome *outcome,
                         double *worst)
{
    static const double tolerances[] = {1e-4, 1e-2, 3e-2, 1e-1};
    static const char *const names[] = {"fp32", "tf32", "fp16", "bf16"};
    size_t index, at = 0;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *command = json_string_value(json_object_get(object, "cmd"));
        if (!command || strcmp(command, "proof") != 0 || at == 4)
            continue;
        const json_t *devices = json_object_get(json_object_get(object, "data"), "devices");
        const json_t *proof = json_array_get(devices, 0);
        double error = gpu_number(proof, "error");
        worst[at] = fmax(worst[at], error);
        if (!(error <= tolerances[at]))
            outcome_fail(outcome, "%s %s: error %g against the CPU, allowed %g %s", model,
                         names[at], error, tolerances[at],
                         json_string_value(json_object_get(proof, "why")) ?: "");
        at++;
    }
    if (at < 4)
        outcome_fail(outcome, "%s: %zu of 4 precisions were proven", model, at);
}

/* Every demo model, one sample, four precisions: as far as the time goes. */
void gpu_test_all_applications(const struct context *context, struct outcome *outcome)
{
    static const char *const keys[] = {"worst fp32", "worst tf32", "worst fp16", "worst bf16"};
    json_t *list = gpu_layertop(context, NULL, "-c 'load demo:'"), *model;
    json_t *models = json_object_get(gpu_data(list, "load", outcome), "models");
    double worst[4] = {0};
    size_t index, done = 0;
    json_array_foreach(models, index, model)
    {
        if (context->deadline - gpu_now() < 25 || !outcome->passed)
            break;
        const char *name = json_string_value(model);
        json_t *objects = gpu_layertop(
            context, NULL,
            "-c 'devices 0; profile off; batch 1; load %s' -c 'precision fp32; proof' -c "
            "'precision tf32; proof' -c 'precision fp16; proof' -c 'precision bf16; proof'",
            name);
        check_proofs(objects, name, outcome, worst);
        done += outcome->passed;
        json_decref(objects);
    }
    for (int i = 0; i < 4; i++)
        outcome_figure(outcome, keys[i], worst[i]);
    outcome_figure(outcome, "models", (double)done);
    if (outcome->passed && (done == 0 || done < json_array_size(models)))
        outcome_fail(outcome, "%zu of %zu models in the time that was left: run it alone", done,
                     json_array_size(models));
    json_decref(list);
}
