/* `bench`: habits that make predictions slow or their times wrong, each against the right way. */
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
#define REUSE_MS       200 /* of a turn with the engine that stays */
#define REUSE_LEAST    3
#define REUSE_MOST     1000

enum kind { KIND_NONE, KIND_RECREATE, KIND_SINGLE, KIND_NOSYNC };
static const char *const kind_words[] = {"", "--recreate", "--single", "--nosync"};

struct bench {
    struct trials trials; /* of --single; first: see trials.c */
    enum kind kind;
    int64_t rounds, steps; /* steps 0: as many as take about 0.2 s */
    /* of --recreate */
    size_t turn; /* 0 looks; then pairs, every other one the other way round */
    double reuse_ms[PAIRS_MAX], recreate_ms[PAIRS_MAX], load_ms[PAIRS_MAX], first_ms[PAIRS_MAX];
};

static void free_bench(void *state)
{
    struct bench *bench = state;
    trials_clear(&bench->trials);
    free(bench);
}

/* What the wrong way's calls take against the right way's, which is what all kinds end with. */
static void fill(struct execution *execution, const struct pairs_ratio *times, size_t pairs)
{
    const struct bench *bench = execution->state;
    json_t *data = execution->data;
    json_object_set_new(data, "habit", json_string(kind_words[bench->kind] + 2));
    json_object_set_new(data, "pairs", json_integer((json_int_t)pairs));
    json_object_set_new(data, "ratio", json_number(times->ratio));
    json_object_set_new(data, "ratio_interval",
                        json_pack("[o, o]", json_number(times->low), json_number(times->high)));
    json_object_set_new(data, "differ", json_boolean(pairs_differ(times)));
}

static void print_verdict(struct execution *execution, const struct pairs_ratio *times,
                          const char *habit, const char *advice)
{
    if (pairs_differ(times))
        execution_print(execution, "%s takes %.3g times as long, 95 %% interval %.3g to %.3g%s%s",
                        habit, times->ratio, times->low, times->high, times->ratio > 1 ? ": " : "",
                        times->ratio > 1 ? advice : "");
    else
        execution_print(execution,
                        "no difference: %s takes %.3g times as long, 95 %% interval %.3g "
                        "to %.3g",
                        habit, times->ratio, times->low, times->high);
}

/* ---- --single: a loop of single samples against one batch ---- */

static void single_ended(struct execution *execution, struct trials *trials,
                         const struct error *error)
{
    struct pairs_ratio batched, times;
    char loop[FORMAT_SIZE], one[FORMAT_SIZE], each[FORMAT_SIZE];
    if (error) {
        execution_fail(execution, error);
        return;
    }
    trials_ratio(trials, &batched); /* of the batch over the loop */
    times = (struct pairs_ratio){1 / batched.ratio, 1 / batched.high, 1 / batched.low};
    long long batch = (long long)trials->side[1].batch;
    double single = trial_sample_median(trials, 0), sample = trial_sample_median(trials, 1);
    execution_print(execution, "%zu pairs of turns of %lld steps", trials->done,
                    (long long)trials->steps);
    execution_print(execution, "  a loop of batch 1    %lld samples in %s, %s each", batch,
                    format_time_ms(loop, sizeof loop, single * (double)batch),
                    format_time_ms(each, sizeof each, single));
    execution_print(execution, "  one batch of %-6lld  %lld samples in %s, %s each", batch, batch,
                    format_time_ms(one, sizeof one, sample * (double)batch),
                    format_time_ms(each, sizeof each, sample));
    print_verdict(execution, &times, "the loop", "give predict() all samples at once");
    execution_print(execution, "this is the engine alone: each call of predict() in a loop pays "
                               "its framework besides (`gap`)");
    fill(execution, &times, trials->done);
    json_object_set_new(execution->data, "batch", json_integer(batch));
    json_object_set_new(execution->data, "loop_ms", json_number(single * (double)batch));
    json_object_set_new(execution->data, "batch_ms", json_number(sample * (double)batch));
    execution_done(execution);
}

static void run_single(struct execution *execution, struct bench *bench)
{
    struct error error = {0};
    const json_t *batch = workbench_setting(execution->workbench, "batch");
    if (json_integer_value(batch) < 2) {
        error_set(&error, ERROR_VALUE, "bench --single", "the batch is 1: nothing is batched");
        error_hint(&error, "batch 32; bench --single");
        execution_fail(execution, &error);
        return;
    }
    bench->trials.rounds = bench->rounds;
    bench->trials.steps = bench->steps;
    bench->trials.end = single_ended;
    if (trial_side_parse(&bench->trials.side[0], "batch=1", "bench", &error))
        trials_start(execution, &bench->trials);
    else
        execution_fail(execution, &error);
}

/* ---- --recreate: the engine made anew for each call, against one that stays ---- */

static void next_turn(struct execution *execution);

static bool is_recreating(size_t turn)
{
    return turn > 0 && (((turn - 1) & 1) ^ (((turn - 1) / 2) & 1));
}

static void tell_recreate(struct execution *execution, const struct bench *bench)
{
    struct pairs_ratio times;
    char reuse[FORMAT_SIZE], call[FORMAT_SIZE], load[FORMAT_SIZE], first[FORMAT_SIZE];
    size_t rounds = (size_t)bench->rounds;
    double reuse_ms = pairs_median(bench->reuse_ms, rounds);
    double call_ms = pairs_median(bench->recreate_ms, rounds);
    double load_ms = pairs_median(bench->load_ms, rounds);
    double first_ms = pairs_median(bench->first_ms, rounds);
    pairs_ratio(bench->reuse_ms, bench->recreate_ms, rounds, &times);
    execution_print(execution, "%zu pairs of turns, in the order AB BA AB ...", rounds);
    execution_print(execution, "  reuse     %9s a call: the engine stays",
                    format_time_ms(reuse, sizeof reuse, reuse_ms));
    execution_print(execution,
                    "  recreate  %9s a call: %s to read the model and to plan, %s its "
                    "first step",
                    format_time_ms(call, sizeof call, call_ms),
                    format_time_ms(load, sizeof load, load_ms),
                    format_time_ms(first, sizeof first, first_ms));
    print_verdict(execution, &times, "an engine for each call", "load the model once and keep it");
    fill(execution, &times, rounds);
    json_object_set_new(execution->data, "reuse_ms", json_number(reuse_ms));
    json_object_set_new(execution->data, "recreate_ms", json_number(call_ms));
    json_object_set_new(execution->data, "load_ms", json_number(load_ms));
    json_object_set_new(execution->data, "first_step_ms", json_number(first_ms));
    execution_done(execution);
}

static void ran(struct execution *execution, const json_t *reply, const struct error *error)
{
    struct bench *bench = execution->state;
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    const json_t *wall = json_object_get(reply, "wall_ms");
    size_t pair = (bench->turn - 1) / 2;
    if (bench->turn == 0 && bench->steps == 0) { /* nobody said how many */
        double steps = ceil(REUSE_MS / json_get_double(wall, "median"));
        bench->steps = steps > REUSE_MOST    ? REUSE_MOST
                       : steps < REUSE_LEAST ? REUSE_LEAST
                                             : (int64_t)steps;
    } else if (bench->turn > 0 && is_recreating(bench->turn)) {
        bench->first_ms[pair] = json_get_double(wall, "median");
        bench->recreate_ms[pair] = bench->load_ms[pair] + bench->first_ms[pair];
    } else if (bench->turn > 0) {
        bench->reuse_ms[pair] = json_get_double(wall, "mean");
    }
    bench->turn++;
    next_turn(execution);
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct bench *bench = execution->state;
    struct workbench *workbench = execution->workbench;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    workbench_loaded(workbench, data, json_incref(workbench->load_arguments));
    bench->load_ms[(bench->turn - 1) / 2] = json_get_double(data, "load_ms");
    execution_request(execution, "run", json_pack("{s:i, s:i}", "steps", 1, "warmup", 0), ran);
}

static void next_turn(struct execution *execution)
{
    struct bench *bench = execution->state;
    size_t turns = 1 + 2 * (size_t)bench->rounds;
    if (bench->turn == turns) {
        execution->progress_label[0] = '\0';
        tell_recreate(execution, bench);
        return;
    }
    snprintf(execution->progress_label, sizeof execution->progress_label,
             "bench: %s, turn %zu of %zu", is_recreating(bench->turn) ? "recreate" : "reuse",
             bench->turn + 1, turns);
    execution->progress_from = (double)bench->turn / (double)turns;
    execution->progress_span = 1 / (double)turns;
    if (is_recreating(bench->turn))
        execution_request(execution, "load", json_deep_copy(execution->workbench->load_arguments),
                          loaded);
    else
        execution_request(execution, "run",
                          bench->turn == 0 ? json_pack("{s:i}", "steps", REUSE_LEAST)
                                           : json_pack("{s:I, s:i}", "steps",
                                                       (json_int_t)bench->steps, "warmup", 2),
                          ran);
}

/* ---- --nosync: a clock that does not wait for the GPU ---- */

static size_t numbers(const json_t *list, double *out)
{
    size_t count = json_array_size(list);
    count = count < PAIRS_MAX ? count : PAIRS_MAX;
    for (size_t i = 0; i < count; i++)
        out[i] = json_to_double(json_array_get(list, i));
    return count;
}

static void unsynced(struct execution *execution, const json_t *data, const struct error *error)
{
    double returned[PAIRS_MAX], wall[PAIRS_MAX];
    char a[FORMAT_SIZE], b[FORMAT_SIZE], share[FORMAT_SIZE];
    struct pairs_ratio times;
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    size_t count = numbers(json_object_get(data, "returned_ms"), returned);
    numbers(json_object_get(data, "wall_ms"), wall);
    pairs_ratio(returned, wall, count, &times);
    double told = pairs_median(returned, count), true_ms = pairs_median(wall, count);
    execution_print(execution, "%zu steps on %s, each timed twice", count,
                    json_string_value(json_object_get(data, "device")));
    execution_print(execution, "  %9s  until the call came back: the work is queued, not done",
                    format_time_ms(a, sizeof a, told));
    execution_print(execution, "  %9s  until the output was there",
                    format_time_ms(b, sizeof b, true_ms));
    if (pairs_differ(&times))
        execution_print(execution,
                        "a clock that does not wait shows %s of the time: %.3g times too fast, "
                        "95 %% interval %.3g to %.3g; read the result, or synchronise, before the "
                        "clock is stopped",
                        format_percent(share, sizeof share, told / true_ms), times.ratio, times.low,
                        times.high);
    else
        execution_print(execution, "no difference here: this device works while it is called");
    fill(execution, &times, count);
    json_object_set_new(execution->data, "applies", json_true());
    json_object_set_new(execution->data, "returned_ms", json_number(told));
    json_object_set_new(execution->data, "wall_ms", json_number(true_ms));
    execution_done(execution);
}

static void run_nosync(struct execution *execution, const struct bench *bench)
{
    if (workbench_has_gpu(execution->workbench)) {
        execution_request(execution, "nosync",
                          json_pack("{s:I}", "steps", (json_int_t)bench->rounds), unsynced);
        return;
    }
    /* nothing to be measured is an answer too */
    execution_print(execution,
                    "on the CPU a step comes back when its output is there: a clock around it is "
                    "right");
    execution_print(execution,
                    "on a GPU the call only queues the work, and a clock that does not wait for it "
                    "shows a fraction of the time");
    json_object_set_new(execution->data, "habit", json_string("nosync"));
    json_object_set_new(execution->data, "applies", json_false());
    execution_done(execution);
}

/* ---- the words ---- */

static enum kind kind_of(const char *word)
{
    if (strcmp(word, "--reuse") == 0) /* what --recreate is held against */
        return KIND_RECREATE;
    for (size_t i = 1; i < sizeof kind_words / sizeof *kind_words; i++)
        if (strcmp(kind_words[i], word) == 0)
            return (enum kind)i;
    return KIND_NONE;
}

static bool parse_words(struct bench *bench, int argc, char *const *argv, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        enum kind kind = kind_of(argv[i]);
        if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], PAIRS_MIN, PAIRS_MAX, "bench --rounds", &bench->rounds,
                               error))
                return error_hint(error, "bench --recreate --rounds 20");
        } else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
            if (!parse_integer(argv[++i], 1, STEPS_MAX, "bench --steps", &bench->steps, error))
                return error_hint(error, "bench --single --steps 50");
        } else if (kind != KIND_NONE && (bench->kind == KIND_NONE || bench->kind == kind)) {
            bench->kind = kind;
        } else {
            error_set(error, ERROR_SYNTAX, "bench",
                      kind != KIND_NONE ? "%s: one habit at a time" : "'%s' is not understood",
                      argv[i]);
            return error_hint(error, "help bench");
        }
    }
    if (bench->kind != KIND_NONE)
        return true;
    error_set(error, ERROR_SYNTAX, "bench", "which habit? %s", command_bench.usage);
    return error_hint(error, "bench --recreate");
}

static void run_bench(struct execution *execution, int argc, char *const *argv)
{
    struct bench *bench = xcalloc(1, sizeof *bench);
    struct error error = {0};
    bench->rounds = ROUNDS_DEFAULT;
    execution->state = bench;
    execution->free_state = free_bench;
    if (!parse_words(bench, argc, argv, &error))
        execution_fail(execution, &error);
    else if (bench->kind == KIND_SINGLE)
        run_single(execution, bench);
    else if (bench->kind == KIND_NOSYNC)
        run_nosync(execution, bench);
    else
        next_turn(execution);
}

static void complete_bench(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    for (size_t i = 1; i < sizeof kind_words / sizeof *kind_words; i++)
        completion_add(completion, kind_words[i]);
    completion_add(completion, "--rounds");
    completion_add(completion, "--steps");
}

const struct command command_bench = {
    .name = "bench",
    .usage = "bench --recreate|--single|--nosync [--rounds N] [--steps N]",
    .summary = "a habit that makes predictions slow, or their times wrong, against the right way",
    .help =
        "--recreate reads the model and plans it anew for each call; --reuse, its counterpart, "
        "keeps\n"
        "the engine. --single runs the samples of the present batch one by one, against one "
        "batch.\n"
        "--nosync stops the clock when the call comes back, as programs do that forget to wait "
        "for\n"
        "the GPU; on the CPU a call comes back when its work is done, and there is nothing to "
        "see.\n"
        "Both ways run in turns, in the order A B, B A, ...; the ratio is that of --rounds pairs "
        "(10)\n"
        "with Wilcoxon's 95 % interval, as in `ab`; --steps says how many steps a turn has. It is "
        "how many times as long the habit takes.\n"
        "JSON: habit, pairs, ratio, ratio_interval, differ, and the times of both ways.",
    .json = "habit applies pairs ratio ratio_interval[] differ reuse_ms recreate_ms load_ms "
            "first_step_ms batch loop_ms batch_ms",
    .see = WORDS("run", "ab", "cold"),
    .examples = WORDS("bench --recreate", "bench --single --rounds 20", "bench --nosync"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = 6,
    .run = run_bench,
    .complete = complete_bench,
};
