/* `serve`: what the measured steps mean behind a queue: latency, utilisation, and whether they suffice. */
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/queueing.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS 20000

static int by_batch(const void *a, const void *b)
{
    int64_t left = ((const struct queueing_point *)a)->batch;
    int64_t right = ((const struct queueing_point *)b)->batch;
    return (left > right) - (left < right);
}

/* A measured step as `run` tells it. */
static struct queueing_point point_of(const json_t *run)
{
    static const char *const keys[QUEUEING_QUANTILES] = {"min", "median", "p90",
                                                         "p95", "p99",    "max"};
    const json_t *wall = json_object_get(run, "wall_ms");
    struct queueing_point point = {json_integer_value(json_object_get(run, "batch")), {0}};
    for (size_t i = 0; i < QUEUEING_QUANTILES; i++)
        point.ms[i] = json_get_double(wall, keys[i]);
    return point;
}

/* The last sweep of batches, or the last run alone. The caller frees *out. */
static size_t points_of(const struct workbench *workbench, struct queueing_point **out)
{
    const json_t *sweep = workbench_sweep(workbench);
    size_t count = json_array_size(sweep);
    *out = xcalloc(count + 1, sizeof **out);
    if (count == 0) {
        if (!workbench->last_segment)
            return 0;
        (*out)[0] = point_of(workbench->last_run);
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        (*out)[i] = point_of(json_array_get(sweep, i));
    qsort(*out, count, sizeof **out, by_batch);
    return count;
}

static bool parse_word(struct queueing *queueing, const char *option, const char *value,
                       struct error *error)
{
    if (strcmp(option, "--rate") == 0) {
        char *end;
        queueing->rate_per_s = strtod(value, &end);
        if (end != value && !*end && queueing->rate_per_s > 0 && queueing->rate_per_s < 1e9)
            return true;
        error_set(error, ERROR_VALUE, "serve --rate",
                  "'%s' is no rate of requests a second above 0", value);
        return error_hint(error, "serve --rate 400");
    }
    if (strcmp(option, "--wait") == 0 || strcmp(option, "--slo") == 0) {
        double *time = option[2] == 'w' ? &queueing->wait_ms : &queueing->slo_ms;
        return parse_time(value, option[2] == 'w' ? "serve --wait" : "serve --slo", time, error) ||
               error_hint(error, "serve --rate 400 --slo 25ms");
    }
    if (strcmp(option, "--batch") == 0)
        return parse_integer(value, 1, INT32_MAX, "serve --batch", &queueing->batch_max, error) ||
               error_hint(error, "serve --rate 400 --batch 8");
    error_set(error, ERROR_SYNTAX, "serve", "'%s' is not understood: %s", option,
              command_serve.usage);
    return error_hint(error, "help serve");
}

static bool parse_words(struct queueing *queueing, int argc, char *const *argv, struct error *error)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            error_set(error, ERROR_SYNTAX, "serve", "%s needs a value", argv[i]);
            return error_hint(error, "help serve");
        }
        if (!parse_word(queueing, argv[i], argv[i + 1], error))
            return false;
    }
    if (queueing->rate_per_s > 0)
        return true;
    error_set(error, ERROR_SYNTAX, "serve", "how many requests a second? %s", command_serve.usage);
    return error_hint(error, "serve --rate 400");
}

/* The engine cannot run batches that nobody measured. */
static bool fit_batch(struct queueing *queueing, struct error *error)
{
    if (queueing->count == 0) {
        error_set(error, ERROR_COMMAND, "serve",
                  "no step of the present model and settings has been measured");
        return error_hint(error, "sweep batch 1..32x2; serve --rate 400");
    }
    int64_t largest = queueing->points[queueing->count - 1].batch;
    if (queueing->batch_max > largest) {
        error_set(error, ERROR_VALUE, "serve --batch",
                  "batch %lld has not been measured, only up to %lld",
                  (long long)queueing->batch_max, (long long)largest);
        return error_hint(error, "sweep batch 1..%lldx2", (long long)queueing->batch_max);
    }
    if (queueing->batch_max == 0)
        queueing->batch_max = largest;
    return true;
}

static void tell(struct execution *execution, const struct queueing *queueing,
                 const struct queueing_result *result)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE], d[FORMAT_SIZE];
    bool overload = queueing->rate_per_s >= result->capacity_per_s;
    const struct {
        const char *key;
        double value;
    } numbers[] = {
        {"rate_per_s", queueing->rate_per_s},       {"throughput_per_s", result->throughput_per_s},
        {"capacity_per_s", result->capacity_per_s}, {"busy_share", result->busy},
        {"mean_batch", result->mean_batch},         {"in_flight", result->in_flight},
        {"over_slo_share", result->over_slo},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(execution->data, numbers[i].key, json_number(numbers[i].value));
    json_object_set_new(execution->data, "latency_ms",
                        json_pack("{s:o, s:o, s:o, s:o}", "mean", json_number(result->mean_ms),
                                  "p50", json_number(result->p50_ms), "p95",
                                  json_number(result->p95_ms), "p99", json_number(result->p99_ms)));
    json_object_set_new(execution->data, "batch_max", json_integer(queueing->batch_max));
    json_object_set_new(execution->data, "requests", json_integer(queueing->requests));
    json_object_set_new(execution->data, "overloaded", json_boolean(overload));
    json_object_set_new(execution->data, "source", json_string("simulated"));
    execution_print(execution, "%lld requests at %s a second, steps of at most %lld (simulated)",
                    (long long)queueing->requests, format_count(a, sizeof a, queueing->rate_per_s),
                    (long long)queueing->batch_max);
    execution_print(
        execution, "  latency     %s mean, %s p50, %s p95, %s p99",
        format_time_ms(a, sizeof a, result->mean_ms), format_time_ms(b, sizeof b, result->p50_ms),
        format_time_ms(c, sizeof c, result->p95_ms), format_time_ms(d, sizeof d, result->p99_ms));
    execution_print(execution, "  engine      %s busy, %.2f requests a step, %.2f in flight",
                    format_percent(a, sizeof a, result->busy), result->mean_batch,
                    result->in_flight);
    if (overload)
        execution_warn(execution,
                       "more come than can be served, at most %s a second: the queue grows for "
                       "ever, and the latencies with it",
                       format_count(a, sizeof a, result->capacity_per_s));
    if (!isnan(queueing->slo_ms))
        execution_print(execution, "  over %s  %s of the requests",
                        format_time_ms(a, sizeof a, queueing->slo_ms),
                        format_percent(b, sizeof b, result->over_slo));
}

static void run_serve(struct execution *execution, int argc, char *const *argv)
{
    struct queueing_point *points;
    struct queueing queueing = {.requests = REQUESTS, .slo_ms = NAN, .seed = 1};
    struct queueing_result result;
    struct error error = {0};
    queueing.count = points_of(execution->workbench, &points);
    queueing.points = points;
    if (parse_words(&queueing, argc, argv, &error) && fit_batch(&queueing, &error)) {
        queueing_simulate(&queueing, &result);
        tell(execution, &queueing, &result);
        execution_done(execution);
    } else {
        execution_fail(execution, &error);
    }
    free(points);
}

static void complete_serve(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    completion_add(completion, "--rate");
    completion_add(completion, "--batch");
    completion_add(completion, "--wait");
    completion_add(completion, "--slo");
}

const struct command command_serve = {
    .name = "serve",
    .usage = "serve --rate R [--batch N] [--wait TIME] [--slo TIME]",
    .summary = "what the measured steps mean behind a queue of requests (simulated)",
    .help = "R requests of one sample come every second at random (Poisson). Whenever the engine "
            "is free\n"
            "it takes what waits, at most a batch, after waiting up to --wait for more. Steps take "
            "what\n"
            "`sweep batch` measured, scatter included, and what lies between for batches in "
            "between; with\n"
            "a run alone, every step costs what its whole batch cost. Latency is from arrival to "
            "answer.\n"
            "In flight is throughput times mean latency: Little's law.",
    .json = "rate_per_s throughput_per_s capacity_per_s busy_share mean_batch in_flight "
            "over_slo_share latency_ms{mean p50 p95 p99} batch_max requests overloaded source",
    .see = WORDS("fit", "sweep", "gap"),
    .examples = WORDS("serve --rate 400", "serve --rate 2000 --wait 2ms --slo 25ms"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_serve,
    .complete = complete_serve,
};
