/* `fit`: the last sweep of batches as t = a + b B: what a step costs, what a sample adds. */
#include "commands/batch_fit.h"
#include "commands/format.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 16

struct device_fit {
    const char *device;
    struct batch_fit fit;
    int64_t knee;
    size_t points;
};

/* The points of one device: `device` NULL takes those of the top level. */
static size_t points_of(const json_t *sweep, const char *device, struct batch_point *out)
{
    size_t count = 0, index, i;
    json_t *point, *entry;
    json_array_foreach((json_t *)(uintptr_t)sweep, index, point)
    {
        const json_t *from = device ? NULL : point;
        json_array_foreach(json_object_get(point, "per_device"), i, entry)
        {
            const char *name = json_string_value(json_object_get(entry, "device"));
            if (device && name && strcmp(name, device) == 0)
                from = entry;
        }
        double median = json_get_double(json_object_get(from, "wall_ms"), "median");
        int64_t batch = json_integer_value(json_object_get(from, "batch")); /* its own share */
        if (median > 0 && batch > 0)
            out[count++] = (struct batch_point){batch, median};
    }
    return count;
}

static void fit_device(const json_t *sweep, const char *device, const char *name,
                       struct device_fit *out)
{
    size_t most = json_array_size(sweep);
    struct batch_point *points = xcalloc(most ? most : 1, sizeof *points);
    int measured;
    int64_t largest = 0;
    out->device = name;
    out->points = points_of(sweep, device, points);
    for (size_t i = 0; i < out->points; i++)
        largest = points[i].batch > largest ? points[i].batch : largest;
    batch_fit(points, out->points, &out->fit);
    out->knee = batch_knee(&out->fit, points, out->points, largest, &measured);
    free(points);
}

static void tell(struct execution *execution, const struct device_fit *fit)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], rate[FORMAT_SIZE];
    execution_print(execution,
                    "%s: a step takes %s + %s a sample (R2 %.3f over %zu batches), at most %s "
                    "samples/s, knee at batch %lld",
                    fit->device, format_time_ms(a, sizeof a, fit->fit.a_ms),
                    format_time_ms(b, sizeof b, fit->fit.b_ms), fit->fit.r2, fit->points,
                    format_count(rate, sizeof rate, 1e3 / fit->fit.b_ms), (long long)fit->knee);
}

static json_t *fit_json(const struct device_fit *fit)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:I, s:o, s:I}", "device", fit->device, "a_ms",
                     json_number(fit->fit.a_ms), "b_ms", json_number(fit->fit.b_ms), "r2",
                     json_number(fit->fit.r2), "knee", (json_int_t)fit->knee,
                     "throughput_limit_per_s",
                     json_number(fit->fit.b_ms > 0 ? 1e3 / fit->fit.b_ms : (double)NAN), "points",
                     (json_int_t)fit->points);
}

/* The batch from which `later` takes less time than `first`: a1 + b1 B = a2 + b2 B. */
static double crossover(const struct device_fit *first, const struct device_fit *later)
{
    return (later->fit.a_ms - first->fit.a_ms) / (first->fit.b_ms - later->fit.b_ms);
}

static void tell_crossover(struct execution *execution, const struct device_fit *fits, size_t count)
{
    if (count != 2)
        return;
    /* the one with the smaller fixed part wins small batches */
    const struct device_fit *small = &fits[fits[1].fit.a_ms < fits[0].fit.a_ms];
    const struct device_fit *large = small == &fits[0] ? &fits[1] : &fits[0];
    double batch = crossover(small, large);
    bool crosses = isfinite(batch) && batch > 0;
    json_object_set_new(execution->data, "crossover_batch",
                        json_number(crosses ? floor(batch) + 1 : (double)NAN));
    if (crosses)
        execution_print(execution, "%s is faster up to batch %.0f, %s from %.0f on", small->device,
                        floor(batch), large->device, floor(batch) + 1);
    else
        execution_print(execution, "%s is faster at every batch", small->device);
}

static void run_fit(struct execution *execution, int argc, char *const *argv)
{
    const json_t *points = workbench_sweep(execution->workbench), *first;
    struct device_fit fits[DEVICES_MAX];
    struct error error = {0};
    size_t count = 0, index;
    json_t *entry, *list = json_array();
    (void)argc, (void)argv;
    if (json_array_size(points) < 2) {
        error_set(&error, ERROR_COMMAND, "fit",
                  "no sweep of batches with the present model and settings");
        error_hint(&error, "sweep batch 1..32x2; fit");
        json_decref(list);
        execution_fail(execution, &error);
        return;
    }
    first = json_array_get(points, 0);
    json_array_foreach(json_object_get(first, "per_device"), index, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "device"));
        if (name && count < DEVICES_MAX)
            fit_device(points, name, name, &fits[count++]);
    }
    if (count == 0)
        fit_device(points, NULL, json_string_value(json_object_get(first, "device")) ?: "cpu",
                   &fits[count++]);
    for (size_t i = 0; i < count; i++) {
        tell(execution, &fits[i]);
        json_array_append_new(list, fit_json(&fits[i]));
    }
    json_object_set_new(execution->data, "devices", list);
    tell_crossover(execution, fits, count);
    execution_done(execution);
}

const struct command command_fit = {
    .name = "fit",
    .usage = "fit",
    .summary = "the last sweep of batches as t = a + b B: fixed cost, cost of a sample, knee",
    .help =
        "a is what a step costs whatever it holds (launches, synchronisation, weights read once), "
        "b\n"
        "what one more sample adds; 1 / b is the throughput that large batches approach, the knee\n"
        "the batch with 95 % of it. Least squares on relative errors over the medians of `sweep\n"
        "batch`; R2 says how well a line explains them. With two devices (`devices cpu,0`), the\n"
        "batch where one overtakes the other.",
    .json = "devices[]{device a_ms b_ms r2 knee throughput_limit_per_s points}",
    .see = WORDS("sweep", "whatif", "batch"),
    .examples = WORDS("fit"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 0,
    .run = run_fit,
};
