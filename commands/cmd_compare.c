/* `compare`: two models against each other, in turn, layer by layer, and how far their outputs agree;
 * or two recordings (compare_recordings.h). */
#include "commands/compare_recordings.h"
#include "commands/compare_report.h"
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/trials.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_DEFAULT 10
#define STEPS_MAX      100000
#define TOP_DEFAULT    10

struct comparison {
    struct trials trials; /* first: see trials.c */
    int64_t top;
    json_t *agreement; /* NULL: not known */
    char *labels;      /* file of true classes, NULL: none */
    bool kept;         /* A's outputs are there to be held against */
};

static void free_comparison(void *state)
{
    struct comparison *comparison = state;
    trials_clear(&comparison->trials);
    json_decref(comparison->agreement);
    free(comparison->labels);
    free(comparison);
}

static const char *file_of(const struct trials *trials, int side)
{
    return json_string_value(json_object_get(trials->side[side].load, "path")) ?: "?";
}

/* ---- outputs ---- */

static void agreed(struct execution *execution, const json_t *data, const struct error *error)
{
    struct comparison *comparison = execution->state;
    if (!data && error->code == ERROR_INTERRUPTED) {
        trials_stop(execution, error);
        return;
    }
    if (!data)
        execution_warn(execution, "the outputs are not compared: %s: %s", error->what, error->why);
    else if (!comparison->kept)
        comparison->kept = true;
    else
        comparison->agreement = json_incref((json_t *)(uintptr_t)data);
    trials_continue(execution);
}

/* With the first model in force its outputs are kept; with the second they are held against its. */
static void looked(struct execution *execution, struct trials *trials, int side)
{
    const struct comparison *comparison = execution->state;
    (void)trials;
    if (side == 1 && !comparison->kept)
        trials_continue(execution);
    else
        execution_request(execution, "agree",
                          side == 0
                              ? json_pack("{s:b, s:s*}", "keep", 1, "labels", comparison->labels)
                              : json_object(),
                          agreed);
}

static void print_output(struct execution *execution, const json_t *output, bool one)
{
    char share[FORMAT_SIZE], text[256] = "";
    double same = json_get_double(output, "same_class_share");
    double rows = json_get_double(output, "same_row_share");
    double nats = json_get_double(output, "divergence");
    double difference = json_get_double(output, "difference_rms");
    double scale = json_get_double(output, "rms");
    if (isfinite(same))
        snprintf(text, sizeof text, "the same class in %s, ",
                 format_percent(share, sizeof share, same));
    else if (isfinite(rows))
        snprintf(text, sizeof text, "the same in %s of rows",
                 format_percent(share, sizeof share, rows));
    size_t used = strlen(text);
    if (isfinite(nats))
        snprintf(text + used, sizeof text - used, "divergence %.3g nats, ", nats);
    used = strlen(text);
    if (isfinite(difference))
        snprintf(text + used, sizeof text - used,
                 "apart by %.3g (rms) where A's are %.3g, at most %.3g", difference, scale,
                 json_get_double(output, "difference_max"));
    execution_print(execution, "  %s%s%s",
                    one ? "" : json_string_value(json_object_get(output, "name")), one ? "" : ": ",
                    text);
}

static void print_accuracy(struct execution *execution, const json_t *agreement)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE];
    const json_t *accuracy = json_object_get(agreement, "accuracy");
    long long left_out = json_integer_value(json_object_get(agreement, "rows_of_calibration"));
    if (json_is_object(accuracy))
        execution_print(execution, "  right by the labels: A %s, B %s",
                        format_percent(a, sizeof a, json_get_double(accuracy, "a")),
                        format_percent(b, sizeof b, json_get_double(accuracy, "b")));
    if (left_out > 0)
        execution_print(execution, "  %lld rows that the calibration saw are left out", left_out);
}

static void print_agreement(struct execution *execution, const json_t *agreement)
{
    const json_t *outputs = json_object_get(agreement, "outputs");
    char source[256];
    const char *why = json_string_value(json_object_get(agreement, "why"));
    size_t index;
    json_t *output;
    if (why) {
        execution_print(execution, "outputs not compared: %s", why);
        return;
    }
    snprintf(source, sizeof source, "rows of %s",
             json_string_value(json_object_get(agreement, "source")) ?: "the input");
    execution_print(execution, "outputs on %lld %s:",
                    (long long)json_integer_value(json_object_get(agreement, "rows")),
                    json_is_true(json_object_get(agreement, "random"))
                        ? "random samples (`input FILE` takes real ones)"
                        : source);
    json_array_foreach((json_t *)(uintptr_t)outputs, index, output)
        print_output(execution, output, json_array_size(outputs) == 1);
    print_accuracy(execution, agreement);
}

/* ---- times ---- */

/* The turns in which both layers were timed. */
static void layer_times(const void *context, size_t a, size_t b, struct pairs_ratio *out)
{
    const struct trials *trials = context;
    const struct trial_side *left = &trials->side[0], *right = &trials->side[1];
    double x[PAIRS_MAX], y[PAIRS_MAX];
    size_t count = 0;
    for (size_t turn = 0; turn < trials->done; turn++) {
        double a_ms = left->layer_ms[turn * left->layer_count + a];
        double b_ms = right->layer_ms[turn * right->layer_count + b];
        if (a_ms > 0 && b_ms > 0) {
            x[count] = a_ms;
            y[count++] = b_ms;
        }
    }
    pairs_ratio(x, y, count, out);
}

static double flops_of(const struct trial_side *side)
{
    double sum = 0;
    for (size_t i = 0; i < side->layer_count; i++)
        sum += (double)side->layers[i].flops;
    return sum;
}

static double sum_of(const double *layer_ms, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += isfinite(layer_ms[i]) ? layer_ms[i] : 0;
    return sum;
}

static void tell_side(struct execution *execution, const struct trials *trials, int which,
                      double layers_ms)
{
    const struct trial_side *side = &trials->side[which];
    char parameters[FORMAT_SIZE], flops[FORMAT_SIZE], time[FORMAT_SIZE], rate[FORMAT_SIZE];
    double wall = trial_wall_median(trials, which), sample = trial_sample_median(trials, which);
    double weights = json_get_double(side->model, "parameters");
    execution_print(
        execution, "  %c  %-24s  %8s parameters  %8s FLOPs  %9s a step of %lld  %9s samples/s",
        'A' + which, file_of(trials, which), format_count(parameters, sizeof parameters, weights),
        format_count(flops, sizeof flops, flops_of(side)), format_time_ms(time, sizeof time, wall),
        (long long)side->batch, format_count(rate, sizeof rate, 1e3 / sample));
    json_object_set_new(
        execution->data, which ? "b" : "a",
        json_pack("{s:s, s:O?, s:o, s:o, s:I, s:O?, s:o, s:o, s:o}", "file", file_of(trials, which),
                  "name", json_object_get(side->model, "name"), "parameters", json_number(weights),
                  "flops", json_number(flops_of(side)), "batch", (json_int_t)side->batch, "device",
                  json_object_get(side->reply, "device"), "wall_ms", json_number(wall),
                  "throughput_per_s", json_number(1e3 / sample), "layers_ms",
                  json_number(layers_ms)));
}

static void ended(struct execution *execution, struct trials *trials, const struct error *error)
{
    const struct comparison *comparison = execution->state;
    struct pairs_ratio times;
    struct compare_side side[2];
    double *layer_ms[2];
    if (error) {
        execution_fail(execution, error);
        return;
    }
    trials_ratio(trials, &times);
    execution_print(execution, "%zu pairs of turns of %lld steps, in the order AB BA AB ...",
                    trials->done, (long long)trials->steps);
    for (int s = 0; s < 2; s++) {
        size_t count = trials->side[s].layer_count;
        layer_ms[s] = xcalloc(count + 1, sizeof *layer_ms[s]);
        for (size_t i = 0; i < count; i++)
            layer_ms[s][i] = trial_layer_median(trials, s, i);
        side[s] = (struct compare_side){trials->side[s].layers, layer_ms[s], count};
        tell_side(execution, trials, s, sum_of(layer_ms[s], count));
    }
    execution_print(execution, "%s: B has %.3f times A's speed, 95 %% interval %.3f to %.3f",
                    compare_verdict(&times), 1 / times.ratio, 1 / times.high, 1 / times.low);
    json_object_set_new(execution->data, "pairs", json_integer((json_int_t)trials->done));
    json_object_set_new(execution->data, "steps", json_integer(trials->steps));
    json_object_set_new(execution->data, "speedup", json_number(1 / times.ratio));
    json_object_set_new(execution->data, "speedup_interval", compare_interval_json(&times));
    json_object_set_new(execution->data, "verdict", json_string(compare_verdict(&times)));
    compare_report_layers(execution, side, layer_times, trials, (size_t)comparison->top);
    if (comparison->agreement)
        print_agreement(execution, comparison->agreement);
    json_object_set_new(execution->data, "agreement",
                        json_incref(comparison->agreement) ?: json_null());
    free(layer_ms[0]);
    free(layer_ms[1]);
    execution_done(execution);
}

/* ---- the words ---- */

static bool parse_option(struct comparison *comparison, const char *option, const char *value,
                         struct error *error)
{
    struct trials *trials = &comparison->trials;
    bool good = false;
    if (!value)
        error_set(error, ERROR_SYNTAX, "compare", "%s needs a value", option);
    else if (strcmp(option, "--rounds") == 0)
        good =
            parse_integer(value, PAIRS_MIN, PAIRS_MAX, "compare --rounds", &trials->rounds, error);
    else if (strcmp(option, "--steps") == 0)
        good = parse_integer(value, 1, STEPS_MAX, "compare --steps", &trials->steps, error);
    else if (strcmp(option, "--labels") == 0)
        good = (free(comparison->labels), comparison->labels = xstrdup(value)) != NULL;
    else if (strcmp(option, "--top") == 0)
        good = parse_integer(value, 0, 1000000, "compare --top", &comparison->top, error);
    else
        error_set(error, ERROR_SYNTAX, "compare", "'%s' is not understood: %s", option,
                  command_compare.usage);
    return good || error_hint(error, "compare teacher.keras student.keras --rounds 20");
}

/* What `load` takes for a word; the present model with all that it was loaded with. */
static json_t *load_of(const struct workbench *workbench, const char *word)
{
    const char *now = json_string_value(json_object_get(workbench->load_arguments, "path"));
    if (now && strcmp(now, word) == 0)
        return json_deep_copy(workbench->load_arguments);
    return json_pack("{s:s}", "path", word);
}

static bool parse_words(struct execution *execution, struct comparison *comparison, int argc,
                        char *const *argv, const char *files[2], struct error *error)
{
    const struct workbench *workbench = execution->workbench;
    int count = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            if (!parse_option(comparison, argv[i], argv[i + 1], error))
                return false;
            i++;
        } else if (count < 2) {
            files[count++] = argv[i];
        } else {
            error_set(error, ERROR_SYNTAX, "compare", "'%s': two models are compared", argv[i]);
            return error_hint(error, "compare %s %s", files[0], files[1]);
        }
    }
    if (count == 1 && workbench->load_arguments) { /* the present one against it */
        files[1] = files[0];
        files[0] = json_string_value(json_object_get(workbench->load_arguments, "path"));
    } else if (count < 2) {
        error_set(error, ERROR_SYNTAX, "compare", "which two models? %s", command_compare.usage);
        return error_hint(error, "compare teacher.keras student.keras");
    }
    if (compare_is_recording(files[0]) != compare_is_recording(files[1])) {
        error_set(error, ERROR_VALUE, "compare", "a recording and a model cannot be compared");
        return error_hint(error, "compare before.ltr after.ltr");
    }
    return true;
}

static void run_compare(struct execution *execution, int argc, char *const *argv)
{
    struct comparison *comparison = xcalloc(1, sizeof *comparison);
    struct error error = {0};
    const char *files[2] = {0};
    comparison->top = TOP_DEFAULT;
    comparison->trials.rounds = ROUNDS_DEFAULT;
    comparison->trials.looked = looked;
    comparison->trials.end = ended;
    execution->state = comparison;
    execution->free_state = free_comparison;
    if (execution->workbench->replay.path) {
        error_set(&error, ERROR_COMMAND, "compare", "a recording is being played");
        error_hint(&error, "replay off");
        execution_fail(execution, &error);
    } else if (!parse_words(execution, comparison, argc, argv, files, &error)) {
        execution_fail(execution, &error);
    } else if (compare_is_recording(files[0])) {
        size_t top = (size_t)comparison->top;
        free_comparison(comparison);
        compare_recordings(execution, files[0], files[1], top);
    } else {
        for (int s = 0; s < 2; s++)
            comparison->trials.side[s].load = load_of(execution->workbench, files[s]);
        trials_start(execution, &comparison->trials);
    }
}

static void complete_compare(struct command_completion *completion, int argc, char *const *argv)
{
    static const char *const options[] = {"--labels", "--rounds", "--steps", "--top"};
    (void)argv;
    if (argc == 1)
        completion_add_values(completion, setting_find("compare", NULL));
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        completion_add(completion, options[i]);
    completion_add(completion, "demo:mobilenetv2");
    completion_add(completion, "demo:digits");
    completion_add_files(completion);
}

const struct command command_compare = {
    .name = "compare",
    .usage = "compare [A] B [--labels FILE] [--rounds N] [--steps N] [--top N]",
    .summary = "two models or recordings: layers, totals, intervals, and the models' outputs",
    .help =
        "A and B are what `load` takes; without A the present model is A. They run in turns of "
        "some\n"
        "0.2 s with the present batch, precision and devices, in the order A B, B A, A B, ...; a\n"
        "model is loaded anew when its turn comes, and the one before comes back at the end. "
        "Layers\n"
        "are the same by name and class, the others by class and output shape in the order of "
        "both\n"
        "models; each has the ratio of its --rounds pairs (10) with Wilcoxon's 95 % interval, as "
        "in\n"
        "`ab`. The --top (10) that differ most are shown.\n"
        "Outputs of the same shape are held against each other on the same inputs: those of\n"
        "`input`, what was held out of demo:digits' training, or 64 random samples: how often\n"
        "both choose the same class, the divergence of B's chances from A's (Kullback and "
        "Leibler,\n"
        "mean in nats), how far the numbers lie apart, and how many each gets right by --labels\n"
        "(as for `evaluate`). Rows that int8's calibration saw are left out.\n"
        "Two recordings (.ltr, .part) are played, and the last stretch of each with one plan "
        "counts:\n"
        "its mean over up to 20 stretches of time against the other's, by sample, with an interval "
        "by\n"
        "Mann and Whitney. What drifted between them is in the difference.\n"
        "`compare turns` and `compare concurrent` are the setting of that name.",
    .json = "a{file name parameters flops batch device wall_ms throughput_per_s layers_ms} b{file "
            "name parameters flops batch device wall_ms throughput_per_s layers_ms} pairs steps "
            "speedup speedup_interval[] verdict layers[]{a b class matched a_ms b_ms speedup "
            "speedup_interval[] verdict} only_a{layers layers_ms} only_b{layers layers_ms} "
            "agreement{rows random source labels rows_of_calibration accuracy{a b} model "
            "outputs[]{name same_class_share divergence difference_max "
            "difference_mean difference_rms rms} why}",
    .see = WORDS("ab", "record", "replay"),
    .examples =
        WORDS("compare demo:digits demo:mlp60 --rounds 6", "compare teacher.keras student.keras",
              "compare before.ltr after.ltr", "compare student.keras --top 20"),
    .flags = COMMAND_RESULT,
    .not_words = WORDS("turns", "concurrent"),
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_compare,
    .complete = complete_compare,
};
