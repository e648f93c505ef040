/* `batch max`: how large a batch may be (it fits), how large it should be (the knee) and how large
 * the latency target allows. */
#include "commands/batch_fit.h"
#include "commands/complete.h"
#include "commands/format.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_MAX   24
#define STEPS        10
#define WARMUP       3
#define BATCH_MOST   1024 /* larger ones say nothing new about a and b */
#define STEP_MOST    400  /* ms: slower steps are not needed for the line */
#define TARGET_TRIES 4

struct search {
    const struct setting *setting;
    json_t *arguments; /* of `largest` */
    bool dry, prove, headroom;
    double slo_ms;       /* NaN: none */
    json_t *old;         /* the batch to go back to */
    int64_t fits, least; /* least: a sample for each device */
    bool capped;
    struct batch_point points[POINTS_MAX];
    size_t count;
    struct batch_fit fit;
    int64_t knee, within; /* within: -1 not known */
    int tries;
    int64_t trying; /* the batch under way */
    /* what a run of `trying` leads to */
    void (*ran)(struct execution *execution, const json_t *reply);
    json_t *proof;
    struct error error; /* that ends the command once the old batch is back */
};

static void free_search(void *state)
{
    struct search *search = state;
    json_decref(search->arguments);
    json_decref(search->old);
    json_decref(search->proof);
    free(search);
}

/* ---- the end ---- */

static json_t *batch_json(int64_t batch)
{
    return batch >= 0 ? json_integer((json_int_t)batch) : json_null();
}

/* What to use: no larger than where little is gained, and within the target. */
static int64_t recommended(const struct search *search)
{
    int64_t batch = search->knee;
    if (search->within >= 0 && (batch < 0 || search->within < batch))
        batch = search->within;
    return batch;
}

static void print_proof(struct execution *execution, const json_t *proof)
{
    char planned[FORMAT_SIZE], measured[FORMAT_SIZE], deviation[FORMAT_SIZE];
    double plan = json_get_double(proof, "planned_bytes");
    double real = json_get_double(proof, "measured_bytes");
    const char *next = json_string_value(json_object_get(proof, "next_error"));
    execution_print(execution, "  proof    batch %lld ran: predicted %s, measured %s (%s)",
                    (long long)json_integer_value(json_object_get(proof, "batch")),
                    format_bytes(planned, sizeof planned, plan),
                    format_bytes(measured, sizeof measured, real),
                    format_deviation(deviation, sizeof deviation, plan, real));
    if (json_is_true(json_object_get(proof, "next_refused")))
        execution_print(execution, "           one more was refused: %s", next ? next : "");
    else
        execution_print(execution, "           one more was not tried");
}

static void finish(struct execution *execution)
{
    struct search *search = execution->state;
    char a[FORMAT_SIZE], b[FORMAT_SIZE];
    json_t *data = execution->data;
    bool measured = search->count > 0;
    json_t *points = json_array();
    for (size_t i = 0; i < search->count; i++)
        json_array_append_new(points,
                              json_pack("{s:I, s:f}", "batch", (json_int_t)search->points[i].batch,
                                        "wall_ms", search->points[i].time_ms));
    json_object_set_new(data, "points", points);
    json_object_set_new(data, "knee", batch_json(search->knee));
    json_object_set_new(
        data, "fit",
        measured ? json_pack("{s:o, s:o, s:o}", "a_ms", json_number(search->fit.a_ms), "b_ms",
                             json_number(search->fit.b_ms), "r2", json_number(search->fit.r2))
                 : json_null());
    json_object_set_new(data, "slo_ms", json_number(search->slo_ms));
    json_object_set_new(data, "within_slo", batch_json(search->within));
    json_object_set_new(data, "recommended", batch_json(recommended(search)));
    json_object_set_new(data, "proof", search->proof ? json_incref(search->proof) : json_null());
    if (search->knee >= 0)
        execution_print(execution,
                        "  knee     %lld: 95 %% of the throughput that large batches reach",
                        (long long)search->knee);
    if (measured && isfinite(search->fit.b_ms))
        execution_print(execution, "           a step takes %s + %s a sample (R2 %.3f)",
                        format_time_ms(a, sizeof a, search->fit.a_ms),
                        format_time_ms(b, sizeof b, search->fit.b_ms), search->fit.r2);
    if (search->within >= 0)
        execution_print(execution, "  target   %lld: the largest whose p95 stays within %s",
                        (long long)search->within, format_time_ms(a, sizeof a, search->slo_ms));
    if (search->proof)
        print_proof(execution, search->proof);
    if (recommended(search) > 0)
        execution_print(execution, "  use      batch %lld", (long long)recommended(search));
    if (search->error.code != ERROR_NONE)
        execution_fail(execution, &search->error);
    else
        execution_done(execution);
}

static void restored(struct workbench *workbench, void *context, const json_t *data,
                     const struct error *error)
{
    struct execution *execution = context;
    struct search *search = execution->state;
    if (!data && !workbench->engine) /* the next worker is configured with the old value */
        json_object_set(workbench->settings, search->setting->name, search->old);
    else if (!data)
        execution_warn(execution, "the batch could not be set back: %s", error->why);
    finish(execution);
}

static void restore(struct execution *execution)
{
    struct search *search = execution->state;
    struct workbench *workbench = execution->workbench;
    execution->progress_label[0] = '\0';
    if (json_equal(json_object_get(workbench->settings, search->setting->name), search->old))
        finish(execution);
    else
        workbench_change(workbench, search->setting, json_incref(search->old), restored, execution);
}

static void give_up(struct execution *execution, const struct error *error)
{
    struct search *search = execution->state;
    search->error = *error;
    restore(execution);
}

/* ---- running one batch ---- */

static void on_run(struct execution *execution, const json_t *reply, const struct error *error)
{
    struct search *search = execution->state;
    if (!reply)
        give_up(execution, error);
    else
        search->ran(execution, reply);
}

static void on_batch(struct workbench *workbench, void *context, const json_t *data,
                     const struct error *error)
{
    struct execution *execution = context;
    struct error stopped;
    if (!data) {
        give_up(execution, error);
        return;
    }
    if (workbench->interrupted) { /* Ctrl-C while no request was open to carry it */
        error_set(&stopped, ERROR_INTERRUPTED, "batch max", "interrupted");
        give_up(execution, &stopped);
        return;
    }
    execution_request(execution, "run", json_pack("{s:i, s:i}", "steps", STEPS, "warmup", WARMUP),
                      on_run);
}

static void try_batch(struct execution *execution, int64_t batch, const char *label,
                      void (*ran)(struct execution *, const json_t *))
{
    struct search *search = execution->state;
    search->trying = batch;
    search->ran = ran;
    snprintf(execution->progress_label, sizeof execution->progress_label, "%s %lld", label,
             (long long)batch);
    execution->progress_span = 0;
    workbench_change(execution->workbench, search->setting, json_integer((json_int_t)batch),
                     on_batch, execution);
}

/* ---- the proof ---- */

static void next_tried(struct workbench *workbench, void *context, const json_t *data,
                       const struct error *error)
{
    struct execution *execution = context;
    struct search *search = execution->state;
    (void)workbench;
    bool memory = error && (error->code == ERROR_MEMORY || error->code == ERROR_MEMORY_LIMIT);
    json_object_set_new(search->proof, "next_refused", json_boolean(memory));
    if (!data)
        json_object_set_new(search->proof, "next_error", json_string(error->why));
    if (data)
        error_set(&search->error, ERROR_COMMAND, "batch max",
                  "batch %lld was to be refused and was not: memory became free meanwhile",
                  (long long)search->fits + 1);
    restore(execution);
}

static void proven(struct execution *execution, const json_t *reply)
{
    struct search *search = execution->state;
    const json_t *memory = json_object_get(reply, "memory");
    search->proof =
        json_pack("{s:I, s:O?, s:O?, s:n, s:n}", "batch", (json_int_t)search->fits, "planned_bytes",
                  json_object_get(memory, "planned_bytes"), "measured_bytes",
                  json_object_get(memory, "measured_bytes"), "next_refused", "next_error");
    if (search->capped || search->headroom) {
        restore(execution);
        return;
    }
    /* alone, or behind a fence, the memory is really asked for; beside others the forecast has to
     * do, so that nothing is ever taken up to the last byte of what they may want */
    bool fenced = json_is_integer(json_object_get(execution->data, "limit_bytes"));
    bool alone = json_integer_value(json_object_get(execution->data, "others")) == 0;
    json_t *next = json_integer((json_int_t)search->fits + 1);
    if (fenced || alone)
        workbench_change_forced(execution->workbench, search->setting, next, next_tried, execution);
    else
        workbench_change(execution->workbench, search->setting, next, next_tried, execution);
}

static void prove(struct execution *execution)
{
    struct search *search = execution->state;
    if (search->prove && search->fits > 0)
        try_batch(execution, search->fits, "proving batch", proven);
    else
        restore(execution);
}

/* ---- the latency target ---- */

/* Measured at the batch that the line promised; a little too slow is made smaller. */
static void target_ran(struct execution *execution, const json_t *reply)
{
    struct search *search = execution->state;
    double p95 = json_get_double(json_object_get(reply, "wall_ms"), "p95");
    if (p95 <= search->slo_ms || search->trying <= search->least) {
        search->within = p95 <= search->slo_ms ? search->trying : 0;
        prove(execution);
        return;
    }
    int64_t smaller = (int64_t)((double)search->trying * search->slo_ms / p95);
    smaller = smaller >= search->trying ? search->trying - 1 : smaller;
    if (smaller < search->least)
        smaller = search->least;
    if (++search->tries < TARGET_TRIES) {
        try_batch(execution, smaller, "latency of batch", target_ran);
        return;
    }
    execution_warn(execution, "no steady p95 within the target: steps scatter too much");
    prove(execution);
}

static void aim(struct execution *execution)
{
    struct search *search = execution->state;
    int measured = 0;
    batch_fit(search->points, search->count, &search->fit);
    if (search->count > 0)
        search->knee =
            batch_knee(&search->fit, search->points, search->count, search->fits, &measured);
    json_object_set_new(execution->data, "knee_source",
                        search->count == 0 ? json_null()
                                           : json_string(measured ? "measured" : "fit"));
    if (isnan(search->slo_ms) || search->count == 0) {
        prove(execution);
        return;
    }
    int64_t most = search->fits < BATCH_MOST ? search->fits : BATCH_MOST;
    int64_t batch = batch_within(&search->fit, search->slo_ms, most);
    try_batch(execution, batch > search->least ? batch : search->least, "latency of batch",
              target_ran);
}

/* ---- the line ---- */

static void point_ran(struct execution *execution, const json_t *reply)
{
    struct search *search = execution->state;
    double median = json_get_double(json_object_get(reply, "wall_ms"), "median");
    int64_t next = search->trying * 2;
    if (median > 0)
        search->points[search->count++] = (struct batch_point){search->trying, median};
    if (next > search->fits || next > BATCH_MOST || median > STEP_MOST ||
        search->count == POINTS_MAX)
        aim(execution);
    else
        try_batch(execution, next, "step of batch", point_ran);
}

static void found(struct execution *execution, const json_t *reply, const struct error *error)
{
    struct search *search = execution->state;
    char planned[FORMAT_SIZE], next[FORMAT_SIZE], room[FORMAT_SIZE], spare[FORMAT_SIZE];
    if (!reply) {
        execution_fail(execution, error);
        return;
    }
    json_object_update(execution->data, (json_t *)(uintptr_t)reply);
    json_object_del(execution->data, "note");
    search->fits = json_integer_value(json_object_get(reply, "fits"));
    search->least = json_integer_value(json_object_get(reply, "devices"));
    if (search->least < 1)
        search->least = 1;
    search->capped = json_is_true(json_object_get(reply, "capped"));
    json_object_set_new(execution->data, "next_fits", search->capped ? json_null() : json_false());
    bool limited = json_is_integer(json_object_get(reply, "limit_bytes"));
    double headroom = json_get_double(reply, "headroom_bytes");
    format_bytes(room, sizeof room, json_get_double(reply, limited ? "limit_bytes" : "room_bytes"));
    execution_print(execution, "batch max, %s on %s, within %s%s%s%s%s",
                    json_string_value(json_object_get(reply, "precision")),
                    json_string_value(json_object_get(reply, "device")), room,
                    limited ? " (the limit)" : " that plans may fill", headroom > 0 ? ", " : "",
                    headroom > 0 ? format_bytes(spare, sizeof spare, headroom) : "",
                    headroom > 0 ? " of it left alone" : "");
    if (search->capped)
        execution_print(
            execution, "  fits     %lld, the largest there is: %s", (long long)search->fits,
            format_bytes(planned, sizeof planned, json_get_double(reply, "planned_bytes")));
    else
        execution_print(
            execution, "  fits     %lld: %s; one more needs %s", (long long)search->fits,
            format_bytes(planned, sizeof planned, json_get_double(reply, "planned_bytes")),
            format_bytes(next, sizeof next, json_get_double(reply, "next_bytes")));
    if (search->prove && !limited && !search->headroom && !search->capped &&
        strcmp(json_string_value(json_object_get(reply, "device")), "cpu") == 0) {
        error_set(&search->error, ERROR_VALUE, "batch max --prove",
                  "it would fill all the memory of this machine; set a limit, or leave some alone");
        error_hint(&search->error, "batch max --prove --headroom 50%%");
        finish(execution);
    } else if (search->dry || search->fits < search->least) {
        finish(execution);
    } else {
        try_batch(execution, search->least, "step of batch", point_ran);
    }
}

/* ---- the words ---- */

/* "256MiB", or "5%" of the limit or of the device. */
static bool parse_headroom(struct search *search, const char *word, struct error *error)
{
    char *end;
    double share = strtod(word, &end);
    uint64_t bytes = 0;
    search->headroom = true;
    if (end != word && strcmp(end, "%") == 0) {
        if (share < 0 || share >= 100)
            return error_set(error, ERROR_VALUE, "batch max --headroom",
                             "'%s' is not a percentage from 0%% to 99%%", word);
        json_object_set_new(search->arguments, "headroom_share", json_real(share / 100));
        return true;
    }
    if (!parse_size(word, "batch max --headroom", &bytes, error))
        return false;
    json_object_set_new(search->arguments, "headroom_bytes", json_integer((json_int_t)bytes));
    return true;
}

static bool parse_slo(const char *text, double *slo_ms, struct error *error)
{
    if (!parse_time(text, "batch max --slo", slo_ms, error))
        return false;
    return *slo_ms > 0 || error_set(error, ERROR_VALUE, "batch max --slo",
                                    "'%s' is not a time above 0: no batch is that fast", text);
}

static bool parse_words(struct search *search, int argc, char *const *argv, struct error *error)
{
    for (int i = 2; i < argc; i++) {
        bool value = i + 1 < argc, good = true;
        if (strcmp(argv[i], "--dry") == 0)
            search->dry = true;
        else if (strcmp(argv[i], "--prove") == 0)
            search->prove = true;
        else if (strcmp(argv[i], "--headroom") == 0 && value)
            good = parse_headroom(search, argv[++i], error);
        else if (strcmp(argv[i], "--slo") == 0 && value)
            good = parse_slo(argv[++i], &search->slo_ms, error);
        else
            good = error_set(error, ERROR_SYNTAX, "batch max", "'%s' is not understood: %s",
                             argv[i], command_batch.usage);
        if (!good)
            return error_hint(error, "batch max --headroom 5%% --slo 25ms");
    }
    if (!search->dry || (!search->prove && isnan(search->slo_ms)))
        return true;
    error_set(error, ERROR_SYNTAX, "batch max", "--dry runs nothing: no --prove and no --slo");
    return error_hint(error, "batch max --dry");
}

static void run_batch(struct execution *execution, int argc, char *const *argv)
{
    struct error error = {0};
    struct search *search = xcalloc(1, sizeof *search);
    *search = (struct search){.setting = setting_find("batch", NULL),
                              .arguments = json_object(),
                              .slo_ms = NAN,
                              .knee = -1,
                              .within = -1,
                              .fit = {NAN, NAN, NAN}};
    execution->state = search;
    execution->free_state = free_search;
    if (!execution->workbench->load_arguments) {
        error_set(&error, ERROR_NO_MODEL, "batch max", "no model is loaded");
        error_hint(&error, "load demo:digits");
    } else {
        parse_words(search, argc, argv, &error);
    }
    if (error.code != ERROR_NONE) {
        execution_fail(execution, &error);
        return;
    }
    search->old = json_incref(json_object_get(execution->workbench->settings, "batch"));
    execution_request(execution, "largest", json_incref(search->arguments), found);
}

static void complete_batch(struct command_completion *completion, int argc, char *const *argv)
{
    (void)argv;
    if (argc == 1) {
        completion_add(completion, "max");
        return;
    }
    completion_add(completion, "--headroom");
    completion_add(completion, "--slo");
    completion_add(completion, "--dry");
    completion_add(completion, "--prove");
}

const struct command command_batch = {
    .name = "batch",
    .usage = "batch N | batch max [--headroom SIZE|PCT] [--slo MS] [--dry] [--prove]",
    .summary = "set the batch, or find the largest: it fits, it pays, it is fast enough",
    .help =
        "`batch N` is `set batch N`. `batch max` answers three numbers: fits, by the planner and\n"
        "right to the sample (one more does not); the knee, from which on larger batches gain "
        "less\n"
        "than 5 %, by a line through measured steps; and with --slo the largest batch whose p95\n"
        "stays within MS. The batch itself stays as it was. --headroom leaves memory alone; --dry\n"
        "computes what fits and runs nothing; --prove really runs the largest batch and shows "
        "that\n"
        "one more is refused: by the system or the driver, beside other processes by the "
        "forecast.\n"
        "JSON: device, devices, precision, batch, fits, next_fits, capped, planned_bytes, "
        "next_bytes,\n"
        "limit_bytes, room_bytes, headroom_bytes, others, points[] {batch, wall_ms}, fit {a_ms,\n"
        "b_ms, r2}, knee, knee_source (fit or measured), slo_ms, within_slo, recommended, proof\n"
        "{batch, planned_bytes, measured_bytes, next_refused, next_error}.",
    .json = "device devices precision batch fits capped planned_bytes next_bytes limit_bytes "
            "room_bytes headroom_bytes others next_fits points[]{batch wall_ms} knee fit{a_ms b_ms "
            "r2} slo_ms within_slo recommended proof knee_source",
    .see = WORDS("plan", "oom", "fit", "mem"),
    .examples = WORDS("batch 64", "batch max", "batch max --dry", "batch max --headroom 5%",
                      "batch max --slo 25ms"),
    .words = WORDS("max"),
    .flags = COMMAND_RESULT,
    .arguments_min = 1,
    .arguments_max = 8,
    .run = run_batch,
    .complete = complete_batch,
};
