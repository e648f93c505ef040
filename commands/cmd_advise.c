/* `advise`: what to change and what it will bring, from the run that was measured. */
#include "commands/advise_facts.h"
#include "commands/advise_report.h"
#include "commands/advise_try.h"
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_DEFAULT 10
#define LOOK_STEPS     3    /* where nothing was measured yet: they show how long a step is */
#define RUN_MS         1500 /* of the run that follows */
#define RUN_LEAST      10
#define RUN_MOST       2000

static void free_order(void *state)
{
    struct advise_order *order = state;
    trials_clear(&order->trials);
    free(order->from);
    json_decref(order->devices);
    json_decref(order->memory);
    json_decref(order->sparsity);
    json_decref(order->tried);
    advise_facts_free(order->facts);
    free(order->report);
    free(order);
}

/* ---- the answer ---- */

static bool nothing_measured(struct execution *execution)
{
    struct error error = {0};
    error_set(&error, ERROR_COMMAND, "advise", "no step has been measured yet");
    error_hint(&error, "run 50; advise");
    execution_fail(execution, &error);
    return false;
}

static void answer(struct execution *execution, const struct error *error)
{
    struct advise_order *order = execution->state;
    struct workbench *workbench = execution->workbench;
    if (error) {
        execution_fail(execution, error);
        return;
    }
    json_decref(workbench->advice);
    workbench->advice = advise_report_choices(order->report);
    advise_report_json(execution->data, order->facts, order->report);
    if (order->measure)
        advise_try_print(execution);
    if (order->code)
        advise_report_code(execution, order->report);
    else
        advise_report_print(execution, order->facts, order->report);
    execution_done(execution);
}

static void examine(struct execution *execution)
{
    struct advise_order *order = execution->state;
    order->report = xcalloc(1, sizeof *order->report);
    if (order->slo_ms > 0)
        order->facts->run.slo_ms = order->slo_ms;
    advise_examine(order->facts, order->report);
    if (!isfinite(order->report->step_ms)) {
        nothing_measured(execution);
    } else if (order->measure) {
        order->end = answer;
        advise_try_start(execution);
    } else {
        answer(execution, NULL);
    }
}

/* ---- the facts ---- */

static void collect(struct execution *execution)
{
    struct advise_order *order = execution->state;
    order->facts =
        advise_facts_collect(execution->workbench, order->devices, order->memory, order->sparsity);
    examine(execution);
}

static void counted(struct execution *execution, const json_t *data, const struct error *error)
{
    struct advise_order *order = execution->state;
    if (!data && error->code == ERROR_INTERRUPTED) {
        execution_fail(execution, error);
        return;
    }
    order->sparsity = data ? json_deep_copy(data) : NULL;
    collect(execution);
}

/* Memory is asked after the run: then the plan that ran holds it. */
static void remembered(struct execution *execution, const json_t *data, const struct error *error)
{
    struct advise_order *order = execution->state;
    if (!data && error->code == ERROR_INTERRUPTED) {
        execution_fail(execution, error);
        return;
    }
    order->memory = data ? json_deep_copy(data) : NULL;
    execution_request(execution, "sparsity", NULL, counted);
}

static void ask_memory(struct execution *execution)
{
    execution_request(execution, "memory", NULL, remembered);
}

static void ran(struct execution *execution, const json_t *reply, const struct error *error)
{
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    workbench_ran(execution->workbench, reply);
    ask_memory(execution);
}

static void looked(struct execution *execution, const json_t *reply, const struct error *error)
{
    if (!reply && error->code == ERROR_UNSUPPORTED) { /* a recording, before its first step */
        nothing_measured(execution);
        return;
    }
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    double steps = RUN_MS / json_get_double(json_object_get(reply, "wall_ms"), "median");
    steps = fmin(fmax(steps, RUN_LEAST), RUN_MOST);
    execution_request(execution, "run",
                      json_pack("{s:I, s:i}", "steps", (json_int_t)steps, "warmup", 0), ran);
}

/* Is there a run of the present plan, or does one run or play live? */
static bool is_measured(const struct workbench *workbench)
{
    struct summary wall;
    store_wall(workbench_store(workbench), &wall);
    return workbench->last_segment ||
           ((workbench->live || workbench->replay.path) && wall.count > 0);
}

static void listed(struct execution *execution, const json_t *data, const struct error *error)
{
    struct advise_order *order = execution->state;
    if (!data && error->code == ERROR_INTERRUPTED) {
        execution_fail(execution, error);
        return;
    }
    order->devices = data ? json_deep_copy(data) : NULL;
    if (is_measured(execution->workbench))
        ask_memory(execution);
    else
        execution_request(execution, "run", json_pack("{s:i}", "steps", LOOK_STEPS), looked);
}

static void read_facts(struct execution *execution)
{
    struct advise_order *order = execution->state;
    struct error error = {0};
    json_error_t why;
    json_t *json = json_load_file(order->from, 0, &why);
    if (json)
        order->facts = advise_facts_from_json(json, &error);
    else
        error_set(&error, ERROR_FILE, order->from, "%s", why.text);
    json_decref(json);
    if (order->facts)
        examine(execution);
    else
        execution_fail(execution, &error);
}

/* ---- the command ---- */

static bool wrong(struct error *error, const char *why, const char *word)
{
    error_set(error, ERROR_SYNTAX, "advise", why, word);
    return error_hint(error, "help advise");
}

static bool read_words(int argc, char *const *argv, struct advise_order *order, struct error *error)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(word, "--try") == 0) {
            order->measure = true;
            continue;
        }
        if (strcmp(word, "--code") != 0 && strcmp(word, "--from") != 0 &&
            strcmp(word, "--rounds") != 0 && strcmp(word, "--slo") != 0)
            return wrong(error, "'%s' is none of --try, --rounds, --slo, --code, --from", word);
        if (!value || !*value)
            return wrong(error, "%s needs a value", word);
        i++;
        if (strcmp(word, "--rounds") == 0) {
            if (!parse_integer(value, PAIRS_MIN, PAIRS_MAX, "advise --rounds", &order->rounds,
                               error))
                return error_hint(error, "advise --try --rounds 20");
        } else if (strcmp(word, "--slo") == 0) {
            if (!parse_time(value, "advise --slo", &order->slo_ms, error))
                return error_hint(error, "advise --slo 25ms");
        } else if (strcmp(word, "--from") == 0) {
            free(order->from);
            order->from = xstrdup(value);
        } else if (strcmp(value, "keras") == 0) {
            order->code = true;
        } else {
            error_set(error, ERROR_VALUE, "advise --code", "'%s' is not keras", value);
            return error_hint(error, "advise --code keras");
        }
    }
    if (order->from && order->measure)
        return wrong(error, "%s", "facts of a file cannot be tried");
    return true;
}

static void run_advise(struct execution *execution, int argc, char *const *argv)
{
    struct advise_order *order = xcalloc(1, sizeof *order);
    struct error error = {0};
    order->rounds = ROUNDS_DEFAULT;
    order->slo_ms = NAN;
    execution->state = order;
    execution->free_state = free_order;
    if (!read_words(argc, argv, order, &error)) {
        execution_fail(execution, &error);
    } else if (order->from) {
        read_facts(execution);
    } else if (!workbench_model(execution->workbench)) {
        error_set(&error, ERROR_NO_MODEL, "advise", "no model is loaded");
        error_hint(&error, "load demo:digits; advise");
        execution_fail(execution, &error);
    } else {
        execution_request(execution, "devices", json_pack("{s:b}", "quiet", 1), listed);
    }
}

static void complete_advise(struct command_completion *completion, int argc, char *const *argv)
{
    static const char *const options[] = {"--try", "--rounds", "--slo", "--code", "--from"};
    const char *last = argc > 1 ? argv[argc - 1] : "";
    if (strcmp(last, "--from") == 0) {
        completion_add_files(completion);
    } else if (strcmp(last, "--code") == 0) {
        completion_add(completion, "keras");
    } else {
        for (size_t i = 0; strcmp(last, "--rounds") != 0 && strcmp(last, "--slo") != 0 &&
                           i < sizeof options / sizeof *options;
             i++)
            completion_add(completion, options[i]);
    }
}

const struct command command_advise = {
    .name = "advise",
    .usage = "advise [--try [--rounds N]] [--slo TIME] [--code keras] [--from FILE]",
    .summary = "what to change, ranked by the time it would save, with evidence and formula",
    .help =
        "Looks at the last `run` (or at what runs or plays live; without either it runs for a "
        "second):\n"
        "where a step's time goes, layers, kernels, memory, clocks, settings, the last `sweep\n"
        "batch`. Each advice says what was seen, how the gain was computed (Amdahl on the "
        "measured\n"
        "shares), between which bounds, how sure it is, and what to set. What follows from an "
        "advice\n"
        "is listed under it; what cannot be known yet says what to run first. Nothing to gain "
        "above\n"
        "3 % is an answer.\n"
        "--try sets each advised value (of several ways each, and the best is then what is "
        "advised),\n"
        "measures it against the present in --rounds (10) interleaved pairs and shows predicted\n"
        "beside measured; the settings come back. It is remembered while model and settings stay.\n"
        "`apply ID` keeps one. --code keras prints lines for a Keras script.\n"
        "--slo TIME is what a step may take at most, by its p99.\n"
        "--from FILE applies the rules to facts that --json printed on another machine.\n"
        "JSON: step_ms, first (an id or null), advice[], consequences[], notes[], asks[] of {id,\n"
        "title, state, sure, what, base_ms, saved_ms, saved_range_ms, speedup, speedup_range,\n"
        "formula, action, changes, ways[] {changes, saved_ms, speedup}, layers, keras, run_first,\n"
        "because, measured}, tried[] {id, change, predicted, predicted_range, speedup, low, high,\n"
        "pairs, verdict, error}, code[], facts.",
    .json = "step_ms first advice[]{id title state sure what base_ms saved_ms saved_range_ms[] "
            "speedup speedup_range[] formula action changes{} ways[]{changes{} saved_ms speedup} "
            "layers[] keras run_first because measured} consequences[]{} notes[]{} asks[]{} "
            "facts{} code[]{id keras} tried[]{id title change predicted predicted_range[] speedup "
            "low high pairs verdict error}",
    .see = WORDS("apply", "ab", "ledger", "doctor"),
    .examples = WORDS("advise", "advise --code keras", "advise --try", "advise --from facts.json"),
    .flags = COMMAND_RESULT,
    .arguments_max = -1,
    .run = run_advise,
    .complete = complete_advise,
};
