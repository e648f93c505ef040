/* `ab`: two ways of running the model against each other, in turn, and whether they differ at all. */
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
#define TOP_LAYERS     3
#define STEPS_MAX      100000

static void free_ab(void *state)
{
    trials_clear(state);
    free(state);
}

/* A layer that both sides timed, and the difference per sample that its own time makes. */
struct layer_change {
    size_t index;
    double a_ms, b_ms; /* mean per step */
    double change_ms;  /* of a sample */
};

static int by_size(const void *left, const void *right)
{
    double a = fabs(((const struct layer_change *)left)->change_ms);
    double b = fabs(((const struct layer_change *)right)->change_ms);
    return (a < b) - (a > b);
}

/* Of the layers that both timed by themselves; *count of them, the largest change first. */
static struct layer_change *layer_changes(const struct trials *trials, size_t *count)
{
    const struct trial_side *a = &trials->side[0], *b = &trials->side[1];
    size_t layers = a->layer_count < b->layer_count ? a->layer_count : b->layer_count, n = 0;
    struct layer_change *list = xcalloc(layers ? layers : 1, sizeof *list);
    for (size_t i = 0; i < layers; i++) {
        double a_ms = trial_layer_mean(trials, 0, i), b_ms = trial_layer_mean(trials, 1, i);
        if (isfinite(a_ms) && isfinite(b_ms))
            list[n++] = (struct layer_change){i, a_ms, b_ms,
                                              b_ms / (double)b->batch - a_ms / (double)a->batch};
    }
    qsort(list, n, sizeof *list, by_size);
    *count = n;
    return list;
}

static json_t *side_json(const struct trials *trials, int which)
{
    const struct trial_side *side = &trials->side[which];
    json_t *settings = json_object();
    for (size_t i = 0; i < side->count; i++)
        json_object_set(settings, side->changes[i].setting->name, side->changes[i].value);
    return json_pack("{s:o, s:I, s:O?, s:o, s:o}", "settings", settings, "batch",
                     (json_int_t)side->batch, "device", json_object_get(side->reply, "device"),
                     "wall_ms", json_number(trial_wall_median(trials, which)), "throughput_per_s",
                     json_number(1e3 / trial_sample_median(trials, which)));
}

static void fill(struct execution *execution, const struct trials *trials,
                 const struct pairs_ratio *times, const struct layer_change *changes, size_t count)
{
    json_t *data = execution->data, *layers = json_array();
    bool differ = pairs_differ(times);
    json_object_set_new(data, "a", side_json(trials, 0));
    json_object_set_new(data, "b", side_json(trials, 1));
    json_object_set_new(data, "pairs", json_integer((json_int_t)trials->done));
    json_object_set_new(data, "steps", json_integer(trials->steps));
    json_object_set_new(data, "speedup", json_number(1 / times->ratio));
    json_object_set_new(
        data, "speedup_interval",
        json_pack("[o, o]", json_number(1 / times->high), json_number(1 / times->low)));
    json_object_set_new(data, "verdict",
                        json_string(!differ            ? "no difference"
                                    : times->ratio < 1 ? "faster"
                                                       : "slower"));
    for (size_t i = 0; i < count; i++) {
        struct store_layer layer;
        store_layer(workbench_store(execution->workbench), changes[i].index, &layer);
        json_array_append_new(layers, json_pack("{s:s, s:o, s:o}", "name", layer.name, "a_ms",
                                                json_number(changes[i].a_ms), "b_ms",
                                                json_number(changes[i].b_ms)));
    }
    json_object_set_new(data, "layers", layers);
}

static void print_side(struct execution *execution, const struct trials *trials, int which)
{
    const struct trial_side *side = &trials->side[which];
    char text[160], time[FORMAT_SIZE], rate[FORMAT_SIZE];
    execution_print(execution, "  %c  %-28s  %9s a step of %lld  %10s samples/s", 'A' + which,
                    trial_side_text(side, text, sizeof text),
                    format_time_ms(time, sizeof time, trial_wall_median(trials, which)),
                    (long long)side->batch,
                    format_count(rate, sizeof rate, 1e3 / trial_sample_median(trials, which)));
}

static void print_layers(struct execution *execution, const struct layer_change *changes,
                         size_t count)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE];
    for (size_t i = 0; i < count && i < TOP_LAYERS; i++) {
        struct store_layer layer;
        store_layer(workbench_store(execution->workbench), changes[i].index, &layer);
        execution_print(execution, "  %-12s  %s: %s -> %s a step", i == 0 ? "changed most" : "",
                        layer.label, format_time_ms(a, sizeof a, changes[i].a_ms),
                        format_time_ms(b, sizeof b, changes[i].b_ms));
    }
}

static void ended(struct execution *execution, struct trials *trials, const struct error *error)
{
    struct pairs_ratio times;
    size_t count;
    if (error) {
        execution_fail(execution, error);
        return;
    }
    trials_ratio(trials, &times);
    struct layer_change *changes = layer_changes(trials, &count);
    bool differ = pairs_differ(&times);
    double speedup = 1 / times.ratio;
    execution_print(execution, "%zu pairs of turns of %lld steps, in the order AB BA AB ...",
                    trials->done, (long long)trials->steps);
    print_side(execution, trials, 0);
    print_side(execution, trials, 1);
    if (!differ)
        execution_print(execution,
                        "no difference: B has %.3f times A's speed, 95 %% interval %.3f to %.3f",
                        speedup, 1 / times.high, 1 / times.low);
    else
        execution_print(execution, "B is %s: %.3f times A's speed, 95 %% interval %.3f to %.3f",
                        speedup > 1 ? "faster" : "slower", speedup, 1 / times.high, 1 / times.low);
    if (differ)
        print_layers(execution, changes, count);
    fill(execution, trials, &times, changes, count);
    free(changes);
    execution_done(execution);
}

/* Of the settings that only one side names, the other has the present value. */
static bool is_option(const char *word)
{
    return strcmp(word, "--rounds") == 0 || strcmp(word, "--steps") == 0;
}

static bool parse_option(struct trials *trials, const char *option, const char *value,
                         struct error *error)
{
    bool rounds = strcmp(option, "--rounds") == 0;
    if (!value) {
        error_set(error, ERROR_SYNTAX, "ab", "%s needs a value", option);
        return error_hint(error, "help ab");
    }
    return parse_integer(value, rounds ? PAIRS_MIN : 1, rounds ? PAIRS_MAX : STEPS_MAX,
                         rounds ? "ab --rounds" : "ab --steps",
                         rounds ? &trials->rounds : &trials->steps, error) ||
           error_hint(error, "ab precision=fp32 precision=bf16 --rounds 20");
}

/* Without `vs`, one word is B against the present way, two are A and B. */
static bool parse_sides(struct trials *trials, int argc, char *const *argv, struct error *error)
{
    int words = 0, versus = 0, side = 0;
    for (int i = 1; i < argc; i++) {
        if (is_option(argv[i]))
            i++;
        else if (strcmp(argv[i], "vs") == 0)
            versus++;
        else
            words++;
    }
    if (words == 0 || versus > 1 || (!versus && words > 2)) {
        error_set(error, ERROR_SYNTAX, "ab",
                  words == 0 ? "which settings?" : "which of these belong together?");
        return error_hint(error, "ab precision=fp32 vs precision=bf16 fusion=off");
    }
    if (!versus)
        side = words == 1;
    for (int i = 1; i < argc; i++) {
        if (is_option(argv[i])) {
            if (!parse_option(trials, argv[i], argv[i + 1], error))
                return false;
            i++;
        } else if (strcmp(argv[i], "vs") == 0) {
            side = 1;
        } else {
            if (!trial_side_parse(&trials->side[side], argv[i], "ab", error))
                return false;
            side += !versus;
        }
    }
    return true;
}

static void run_ab(struct execution *execution, int argc, char *const *argv)
{
    struct trials *trials = xcalloc(1, sizeof *trials);
    struct error error = {0};
    trials->rounds = ROUNDS_DEFAULT;
    trials->end = ended;
    execution->state = trials;
    execution->free_state = free_ab;
    if (!parse_sides(trials, argc, argv, &error))
        execution_fail(execution, &error);
    else
        trials_start(execution, trials);
}

static void complete_ab(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < setting_count(); i++) {
        char word[64];
        const struct setting *setting = setting_at(i);
        if (!setting->engine)
            continue;
        snprintf(word, sizeof word, "%s=", setting->name);
        completion_add(completion, word);
        for (size_t c = 0; setting->choices && setting->choices[c]; c++) {
            snprintf(word, sizeof word, "%s=%s", setting->name, setting->choices[c]);
            completion_add(completion, word);
        }
    }
    completion_add(completion, "vs");
    completion_add(completion, "--rounds");
    completion_add(completion, "--steps");
}

const struct command command_ab = {
    .name = "ab",
    .usage = "ab KEY=VALUE... [vs] [KEY=VALUE...] [--rounds N] [--steps N]",
    .summary = "two settings against each other, in turn: ratio, interval, or no difference",
    .help =
        "Both sides run in turns of some 0.2 s, in the order A B, B A, A B, ..., so that what "
        "drifts\n"
        "meets both alike; each pair of turns gives one ratio of the time of a sample. One word "
        "sets\n"
        "the present way against it, two are the two sides, `vs` separates sides of several "
        "settings.\n"
        "The ratio is the Hodges-Lehmann estimate of --rounds pairs (10), its 95 % interval "
        "Wilcoxon's;\n"
        "an interval that holds 1 is called no difference. The old settings come back at the "
        "end.\n"
        "JSON: a, b {settings, batch, wall_ms, throughput_per_s}, speedup (of B over A),\n"
        "speedup_interval, verdict (faster, slower, no difference: B's), layers[] {name, a_ms, "
        "b_ms}.",
    .json =
        "a{settings{} batch device wall_ms throughput_per_s} b{settings{} batch device wall_ms "
        "throughput_per_s} pairs steps speedup speedup_interval[] verdict layers[]{name a_ms b_ms}",
    .see = WORDS("sweep", "compare", "bench"),
    .examples = WORDS("ab precision=bf16", "ab batch=8 batch=32",
                      "ab fusion=off vs fusion=on precision=bf16 --rounds 20"),
    .flags = COMMAND_NEEDS_MODEL | COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = -1,
    .run = run_ab,
    .complete = complete_ab,
};
