/* `prune`: weights set to zero, what that costs in accuracy, and whether anything runs faster. */
#include "commands/complete.h"
#include "commands/evaluation.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/trials.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_DEFAULT 6
#define LABEL_WIDTH    40

struct prune_state {
    struct trials trials; /* first: they are found by this */
    char value[32];
    bool timed, structured;
};

static void free_state(void *state)
{
    struct prune_state *prune = state;
    trials_clear(&prune->trials);
    free(prune);
}

/* ---- zeros by layer ---- */

static void print_row(struct execution *execution, int width, const char *name, const json_t *row)
{
    char weights[FORMAT_SIZE], zeros[FORMAT_SIZE], fours[FORMAT_SIZE];
    int pad = width - text_columns(name);
    execution_print(execution, "%s%*s  %9s  %8s  %11s", name, pad > 0 ? pad : 0, "",
                    format_count(weights, sizeof weights,
                                 (double)json_integer_value(json_object_get(row, "weights"))),
                    format_percent(zeros, sizeof zeros, json_get_double(row, "zero_share")),
                    format_percent(fours, sizeof fours, json_get_double(row, "two_of_four_share")));
}

static void print_table(struct execution *execution, const json_t *data)
{
    int width = 5;
    size_t index;
    json_t *row;
    json_array_foreach(json_object_get(data, "layers"), index, row)
    {
        int columns = text_columns(json_string_value(json_object_get(row, "name")));
        width = columns > width ? columns : width;
    }
    width = width > LABEL_WIDTH ? LABEL_WIDTH : width;
    execution_print(execution, "%-*s  %9s  %8s  %11s", width, "layer", "weights", "zeros",
                    "2:4 groups");
    json_array_foreach(json_object_get(data, "layers"), index, row)
        print_row(execution, width, json_string_value(json_object_get(row, "name")), row);
    print_row(execution, width, "all", data);
}

static void shown(struct execution *execution, const json_t *data, const struct error *error)
{
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    print_table(execution, data);
    execution_done(execution);
}

/* ---- pruning ---- */

static void counted(struct execution *execution, const json_t *data, const struct error *error)
{
    const struct prune_state *prune = execution->state;
    char zeros[FORMAT_SIZE], weights[FORMAT_SIZE], fours[FORMAT_SIZE];
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)data);
    execution_print(execution,
                    "  %-10s  %s of %s weights of convolutions and dense layers are zero", "zeros",
                    format_percent(zeros, sizeof zeros, json_get_double(data, "zero_share")),
                    format_count(weights, sizeof weights,
                                 (double)json_integer_value(json_object_get(data, "weights"))));
    if (prune->structured)
        execution_print(
            execution,
            "  %-10s  %s of the groups of four have two zeros: the pattern of "
            "sparse tensor cores, which nothing here uses",
            "2:4", format_percent(fours, sizeof fours, json_get_double(data, "two_of_four_share")));
    execution_done(execution);
}

static void evaluated(struct execution *execution, const json_t *data, const struct error *error)
{
    if (data) {
        json_object_set_new(execution->data, "evaluation", json_deep_copy(data));
        evaluation_print(execution, data);
        workbench_remember(execution->workbench, "evaluate", data);
    } else {
        execution_warn(execution, "accuracy is not measured: %s (%s)", error->why,
                       *error->hint ? error->hint : "evaluate FILE.npy");
    }
    execution_request(execution, "sparsity", NULL, counted);
}

static void changed(struct workbench *workbench, void *context, const json_t *data,
                    const struct error *error)
{
    struct execution *execution = context;
    const struct prune_state *prune = execution->state;
    (void)workbench;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    json_object_set_new(execution->data, "prune", json_string(prune->value));
    if (strcmp(prune->value, "off") == 0) {
        execution_print(execution, "the weights are as they were loaded");
        execution_request(execution, "sparsity", NULL, counted);
    } else {
        execution_request(execution, "evaluate", json_object(), evaluated);
    }
}

static void change(struct execution *execution)
{
    const struct prune_state *prune = execution->state;
    workbench_change(execution->workbench, setting_find("prune", NULL), json_string(prune->value),
                     changed, execution);
}

/* Both sides are measured and the old value is back. */
static void timed(struct execution *execution, struct trials *trials, const struct error *error)
{
    struct pairs_ratio times;
    if (error) {
        execution_fail(execution, error);
        return;
    }
    trials_ratio(trials, &times);
    bool differ = pairs_differ(&times);
    double speedup = 1 / times.ratio;
    json_t *data = execution->data;
    json_object_set_new(data, "pairs", json_integer((json_int_t)trials->done));
    json_object_set_new(data, "speedup", json_number(speedup));
    json_object_set_new(
        data, "speedup_interval",
        json_pack("[o, o]", json_number(1 / times.high), json_number(1 / times.low)));
    json_object_set_new(data, "verdict",
                        json_string(!differ       ? "no difference"
                                    : speedup > 1 ? "faster"
                                                  : "slower"));
    execution_print(execution,
                    "pruned, it has %.3f times the speed, 95 %% interval %.3f to %.3f: %s", speedup,
                    1 / times.high, 1 / times.low,
                    !differ       ? "no difference"
                    : speedup > 1 ? "faster"
                                  : "slower");
    execution_print(execution,
                    "  dense kernels multiply zeros like any other number: pruning saves "
                    "time only where a kernel skips them, and none here does");
    change(execution);
}

/* ---- the line ---- */

static bool read_words(struct prune_state *prune, int argc, char *const *argv, struct error *error)
{
    int64_t rounds = ROUNDS_DEFAULT;
    prune->timed = true;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--structured") == 0 && i + 1 < argc) {
            if (strcmp(argv[++i], "2:4") != 0)
                return error_set(error, ERROR_VALUE, "prune --structured",
                                 "the one pattern there is, is 2:4");
            prune->structured = true;
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], PAIRS_MIN, PAIRS_MAX, "prune --rounds", &rounds, error))
                return false;
        } else if (strcmp(argv[i], "--untimed") == 0) {
            prune->timed = false;
        } else if (argv[i][0] != '-' && prune->value[0] == '\0' &&
                   strlen(argv[i]) < sizeof prune->value) {
            strcpy(prune->value, argv[i]);
        } else {
            return error_set(error, ERROR_SYNTAX, "prune", "'%s' is not understood: %s", argv[i],
                             command_prune.usage);
        }
    }
    prune->trials.rounds = rounds;
    if (strcmp(prune->value, "2:4") == 0)
        prune->structured = true;
    if (!prune->structured)
        return true;
    if (prune->value[0] != '\0' && strcmp(prune->value, "2:4") != 0 &&
        strtod(prune->value, NULL) != 0.5)
        return error_set(error, ERROR_VALUE, "prune", "2:4 makes half of the weights zero, not %s",
                         prune->value);
    strcpy(prune->value, "2:4");
    return true;
}

static void run_prune(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    struct prune_state *prune = xcalloc(1, sizeof *prune);
    execution->state = prune;
    execution->free_state = free_state;
    prune->trials.end = timed;
    if (!read_words(prune, argc, argv, &error)) {
        error_hint(&error, "help prune");
        execution_fail(execution, &error);
        return;
    }
    if (prune->value[0] == '\0') {
        execution_request(execution, "sparsity", NULL, shown);
        return;
    }
    char word[64];
    snprintf(word, sizeof word, "prune=%s", prune->value);
    bool off = strcmp(prune->value, "off") == 0 || strcmp(prune->value, "0") == 0;
    if (off)
        strcpy(prune->value, "off");
    if (off || !prune->timed)
        change(execution);
    else if (trial_side_parse(&prune->trials.side[0], "prune=off", "prune", &error) &&
             trial_side_parse(&prune->trials.side[1], word, "prune", &error))
        trials_start(execution, &prune->trials);
    else
        execution_fail(execution, &error);
}

static void complete_prune(struct command_completion *completion, int argc, char *const *argv)
{
    if (argc > 1 && strcmp(argv[argc - 1], "--structured") == 0) {
        completion_add(completion, "2:4");
        return;
    }
    completion_add(completion, "off");
    completion_add(completion, "0.5");
    completion_add(completion, "2:4");
    completion_add(completion, "--structured");
    completion_add(completion, "--rounds");
    completion_add(completion, "--untimed");
}

const struct command command_prune = {
    .name = "prune",
    .usage = "prune [FRACTION | 2:4 | off] [--structured 2:4] [--rounds N] [--untimed]",
    .summary = "set the smallest weights to zero: zeros, accuracy, and time before and after",
    .help =
        "FRACTION (0.5, or 50%) of the weights of each convolution and dense layer become zero, "
        "the\n"
        "smallest magnitudes first; 2:4 zeroes two of every four along the inputs, the pattern of\n"
        "sparse tensor cores. Depthwise kernels stay. The two are timed against each other as "
        "`ab`\n"
        "does (--rounds pairs, 6; --untimed leaves that out), then `evaluate` runs where there "
        "are\n"
        "data. No kernel here skips zeros, so no time is saved: the measurement says it. Without\n"
        "arguments: zeros and 2:4 groups of every layer. `prune off` brings the weights back; a\n"
        "model that is loaded is pruned too, and `export` writes the zeros.\n"
        "JSON: prune, speedup, speedup_interval, verdict, evaluation, weights, zeros, zero_share,\n"
        "two_of_four_share, layers[] {name, class, weights, zeros, zero_share, two_of_four_share}.",
    .json = "pairs speedup speedup_interval[] verdict prune evaluation{source labels rows "
            "rows_of_calibration device precision reference classes agreement accuracy "
            "reference_accuracy output_error{max mean largest broken} logit_error{max mean largest "
            "broken} "
            "evaluate_ms} weights zeros zero_share two_of_four_share layers[]{weights zeros "
            "zero_share two_of_four_share name class}",
    .see = WORDS("evaluate", "ab"),
    .examples = WORDS("prune 0.5", "prune --structured 2:4 --untimed", "prune", "prune off"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_max = 6,
    .run = run_prune,
    .complete = complete_prune,
};
