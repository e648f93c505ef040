#include "commands/trials.h"

#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/workbench_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_STEPS  3   /* of the first turn, which only shows how long a step is */
#define TURN_MS     200 /* of a turn, where nobody said how many steps */
#define STEPS_LEAST 3
#define STEPS_MOST  1000
#define TURN_WARMUP 2 /* steps before every later turn: the caches are the other side's */

/* ---- sides ---- */

bool trial_side_parse(struct trial_side *side, const char *word, const char *what,
                      struct error *error)
{
    const char *equals = strchr(word, '=');
    if (!equals || equals == word) {
        error_set(error, ERROR_SYNTAX, what, "'%s' is not KEY=VALUE", word);
        return error_hint(error, "%s precision=fp32 precision=bf16", what);
    }
    char *key = xstrdup(word);
    key[equals - word] = '\0';
    const struct setting *setting = setting_find(key, error);
    free(key);
    if (!setting)
        return false;
    if (!setting->engine) {
        error_set(error, ERROR_VALUE, what, "%s does not change how fast anything runs",
                  setting->name);
        return error_hint(error, "%s precision=fp32 precision=bf16", what);
    }
    for (size_t i = 0; i < side->count; i++) {
        if (side->changes[i].setting == setting) {
            error_set(error, ERROR_SYNTAX, what, "%s is set twice on one side", setting->name);
            return error_hint(error, "help %s", what);
        }
    }
    if (side->count == TRIAL_CHANGES_MAX) {
        error_set(error, ERROR_SYNTAX, what, "more than %d settings on one side",
                  TRIAL_CHANGES_MAX);
        return error_hint(error, "help %s", what);
    }
    json_t *value = setting_parse(setting, equals + 1, error);
    if (!value)
        return false;
    side->changes[side->count].setting = setting;
    side->changes[side->count++].value = value;
    return true;
}

char *trial_side_text(const struct trial_side *side, char *out, size_t size)
{
    char value[80];
    snprintf(out, size, "%s", side->count == 0 ? "as it is" : "");
    for (size_t i = 0; i < side->count; i++) {
        size_t used = strlen(out);
        const struct setting *setting = side->changes[i].setting;
        snprintf(out + used, size - used, "%s%s %s", i ? ", " : "", setting->name,
                 setting_format(setting, side->changes[i].value, value, sizeof value));
    }
    return out;
}

static json_t *side_value(const struct trial_side *side, const struct setting *setting)
{
    for (size_t i = 0; i < side->count; i++) {
        if (side->changes[i].setting == setting)
            return side->changes[i].value;
    }
    return NULL;
}

/* ---- the turns ---- */

static void bring_model(struct execution *execution);
static void next_key(struct execution *execution);

/* The trials of an execution whose state begins with them. */
static struct trials *of(const struct execution *execution)
{
    return execution->state;
}

/* Turns 0 and 1 look; then pairs, every other one the other way round. */
static int side_of(size_t turn)
{
    return turn < 2 ? (int)turn : (int)((turn & 1) ^ ((turn / 2 + 1) & 1));
}

static void finish(struct execution *execution)
{
    struct trials *trials = of(execution);
    execution->progress_label[0] = '\0';
    trials->end(execution, trials, trials->error.code != ERROR_NONE ? &trials->error : NULL);
}

static void restore(struct execution *execution)
{
    struct trials *trials = of(execution);
    trials->restoring = true;
    trials->at_key = 0;
    bring_model(execution);
}

static void stumble(struct execution *execution, const struct error *error)
{
    struct trials *trials = of(execution);
    char side[120];
    trials->error = *error;
    /* a model says its own name */
    if (error->code != ERROR_INTERRUPTED && !trials->models) {
        trial_side_text(&trials->side[side_of(trials->turn)], side, sizeof side);
        char *why = xasprintf("with %s: %s", side, error->why);
        snprintf(trials->error.why, sizeof trials->error.why, "%s", why);
        free(why);
    }
    restore(execution);
}

/* Which layers a side has, once. */
static void name_layers(const struct store *store, struct trial_side *side, size_t count,
                        int64_t rounds)
{
    size_t cells = count * (size_t)rounds;
    side->layer_count = count;
    side->layers = xcalloc(count ? count : 1, sizeof *side->layers);
    side->layer_ms = xcalloc(cells ? cells : 1, sizeof *side->layer_ms);
    for (size_t i = 0; i < count; i++) {
        struct store_layer layer;
        store_layer(store, i, &layer);
        side->layers[i] =
            (struct trial_layer){.name = xstrdup(layer.name),
                                 .class_name = xstrdup(layer.class_name),
                                 .shape = xstrdup(layer.output_shape ? layer.output_shape : ""),
                                 .label = xstrdup(layer.label),
                                 .flops = layer.flops == UINT64_MAX ? 0 : layer.flops};
    }
}

/* Each layer's mean step of a turn. */
static void add_layers(struct execution *execution, struct trial_side *side, size_t turn,
                       const json_t *reply)
{
    const struct store *store = workbench_store(execution->workbench);
    uint32_t segment = (uint32_t)json_integer_value(json_object_get(reply, "segment"));
    struct layer_row *rows;
    double wall_ms, mean_ms = json_get_double(json_object_get(reply, "wall_ms"), "mean");
    size_t count = layer_rows_read(store, segment, mean_ms, &rows, &wall_ms);
    if (!side->layers)
        name_layers(store, side, count, of(execution)->rounds);
    for (size_t i = 0; i < side->layer_count; i++)
        side->layer_ms[turn * side->layer_count + i] = i < count ? rows[i].time_ms : (double)NAN;
    free(rows);
}

static void keep(struct execution *execution, const json_t *reply)
{
    struct trials *trials = of(execution);
    int which = side_of(trials->turn);
    struct trial_side *side = &trials->side[which];
    double median = json_get_double(json_object_get(reply, "wall_ms"), "median");
    json_decref(side->reply);
    side->reply = json_incref((json_t *)(uintptr_t)reply);
    side->batch = json_integer_value(json_object_get(reply, "batch"));
    if (trials->turn < 2 && trials->steps_given)
        return;
    if (trials->turn < 2) {
        double steps = ceil(TURN_MS / median);
        if (trials->turn == 0 || steps < (double)trials->steps)
            trials->steps = steps > STEPS_MOST ? STEPS_MOST : (int64_t)steps;
        if (trials->steps < STEPS_LEAST)
            trials->steps = STEPS_LEAST;
        return;
    }
    size_t pair = trials->turn / 2 - 1;
    side->wall_ms[pair] = median;
    side->sample_ms[pair] = 1e3 / json_get_double(reply, "throughput_per_s");
    add_layers(execution, side, pair, reply);
    trials->done = (trials->turn - 1) / 2; /* both turns of so many */
}

static void next_turn(struct execution *execution)
{
    struct trials *trials = of(execution);
    size_t turns = 2 + 2 * (size_t)trials->rounds;
    char side[64];
    if (trials->turn == turns) {
        restore(execution);
        return;
    }
    trial_side_text(&trials->side[side_of(trials->turn)], side, sizeof side);
    snprintf(execution->progress_label, sizeof execution->progress_label, "%s: %s, turn %zu of %zu",
             execution->command->name, side, trials->turn + 1, turns);
    execution->progress_from = (double)trials->turn / (double)turns;
    execution->progress_span = 1 / (double)turns;
    if (execution->sink && execution->sink->progress)
        execution->sink->progress(execution->sink->context, execution->progress_from,
                                  execution->progress_label);
    trials->at_key = 0;
    bring_model(execution);
}

void trials_continue(struct execution *execution)
{
    next_turn(execution);
}

void trials_stop(struct execution *execution, const struct error *error)
{
    of(execution)->error = *error;
    restore(execution);
}

static void ran(struct execution *execution, const json_t *reply, const struct error *why)
{
    struct trials *trials = of(execution);
    if (!reply) {
        stumble(execution, why);
        return;
    }
    keep(execution, reply);
    int side = side_of(trials->turn++);
    if (trials->turn <= 2 && trials->looked)
        trials->looked(execution, trials, side);
    else
        next_turn(execution);
}

static void run_turn(struct execution *execution)
{
    struct trials *trials = of(execution);
    bool look = trials->turn < 2;
    json_t *arguments =
        json_pack("{s:I}", "steps", (json_int_t)(look ? LOOK_STEPS : trials->steps));
    if (!look)
        json_object_set_new(arguments, "warmup", json_integer(TURN_WARMUP));
    else if (trials->warmup >= 0)
        json_object_set_new(arguments, "warmup", json_integer(trials->warmup));
    execution_request(execution, "run", arguments, ran);
}

static void changed(struct workbench *workbench, void *context, const json_t *data,
                    const struct error *error)
{
    struct execution *execution = context;
    struct trials *trials = of(execution);
    const struct setting *setting = trials->keys[trials->at_key].setting;
    if (trials->restoring) {
        if (!data && !workbench->engine) /* the next worker is configured with the old value */
            json_object_set(workbench->settings, setting->name, trials->keys[trials->at_key].old);
        else if (!data)
            execution_warn(execution, "%s could not be set back: %s", setting->name, error->why);
    } else if (!data) {
        stumble(execution, error);
        return;
    } else if (workbench->interrupted) { /* Ctrl-C while no request was open to carry it */
        struct error stop = {0};
        error_set(&stop, ERROR_INTERRUPTED, execution->command->name, "interrupted");
        stumble(execution, &stop);
        return;
    }
    trials->at_key++;
    next_key(execution);
}

static void loaded(struct execution *execution, const json_t *data, const struct error *error)
{
    struct trials *trials = of(execution);
    struct workbench *workbench = execution->workbench;
    struct trial_side *side = &trials->side[side_of(trials->turn)];
    const json_t *load = trials->restoring ? trials->old_load : side->load;
    if (!data && trials->restoring) {
        execution_warn(execution, "the model before could not be loaded again: %s", error->why);
    } else if (!data) {
        stumble(execution, error);
        return;
    } else {
        workbench_loaded(workbench, load ? data : NULL, json_incref((json_t *)(uintptr_t)load));
    }
    if (!trials->restoring && !side->model)
        side->model = json_incref((json_t *)(uintptr_t)data);
    next_key(execution);
}

/* Load what this turn runs, unless it is there: every other turn has the model of the one before. */
static void bring_model(struct execution *execution)
{
    struct trials *trials = of(execution);
    const json_t *now = execution->workbench->load_arguments;
    const json_t *wanted =
        trials->restoring ? trials->old_load : trials->side[side_of(trials->turn)].load;
    struct trial_side *side = &trials->side[side_of(trials->turn)];
    if (trials->models && !trials->restoring && now && json_equal(wanted, now) && !side->model)
        side->model = json_incref(execution->workbench->model);
    if (!trials->models || wanted == now || (wanted && now && json_equal(wanted, now)))
        next_key(execution);
    else if (wanted)
        execution_request(execution, "load", json_deep_copy(wanted), loaded);
    else
        execution_request(execution, "unload", NULL, loaded);
}

/* Bring the next setting to what this turn wants of it, then run. */
static void next_key(struct execution *execution)
{
    struct trials *trials = of(execution);
    struct workbench *workbench = execution->workbench;
    for (; trials->at_key < trials->key_count; trials->at_key++) {
        const struct setting *setting = trials->keys[trials->at_key].setting;
        json_t *wanted = NULL;
        if (!trials->restoring)
            wanted = side_value(&trials->side[side_of(trials->turn)], setting);
        if (!wanted)
            wanted = trials->keys[trials->at_key].old;
        if (json_equal(wanted, json_object_get(workbench->settings, setting->name)))
            continue;
        workbench_change(workbench, setting, json_incref(wanted), changed, execution);
        return;
    }
    if (trials->restoring)
        finish(execution);
    else
        run_turn(execution);
}

void trials_start(struct execution *execution, struct trials *trials)
{
    const json_t *warmup = workbench_setting(execution->workbench, "warmup");
    trials->steps_given = trials->steps > 0;
    trials->warmup = json_is_integer(warmup) ? json_integer_value(warmup) : -1;
    trials->models = trials->side[0].load || trials->side[1].load;
    trials->old_load = json_incref(execution->workbench->load_arguments);
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < trials->side[s].count; i++) {
            const struct setting *setting = trials->side[s].changes[i].setting;
            bool known = false;
            for (size_t k = 0; k < trials->key_count; k++)
                known |= trials->keys[k].setting == setting;
            if (known)
                continue;
            trials->keys[trials->key_count].setting = setting;
            trials->keys[trials->key_count++].old =
                json_incref(json_object_get(execution->workbench->settings, setting->name));
        }
    }
    trials->turn = 0;
    next_turn(execution);
}

void trials_clear(struct trials *trials)
{
    for (int s = 0; s < 2; s++) {
        struct trial_side *side = &trials->side[s];
        for (size_t i = 0; i < side->count; i++)
            json_decref(side->changes[i].value);
        for (size_t i = 0; i < side->layer_count; i++) {
            free(side->layers[i].name);
            free(side->layers[i].class_name);
            free(side->layers[i].shape);
            free(side->layers[i].label);
        }
        json_decref(side->reply);
        json_decref(side->load);
        json_decref(side->model);
        free(side->layers);
        free(side->layer_ms);
    }
    json_decref(trials->old_load);
    for (size_t k = 0; k < trials->key_count; k++)
        json_decref(trials->keys[k].old);
}

void trials_ratio(const struct trials *trials, struct pairs_ratio *out)
{
    pairs_ratio(trials->side[0].sample_ms, trials->side[1].sample_ms, trials->done, out);
}

double trial_layer_mean(const struct trials *trials, int side, size_t layer)
{
    const struct trial_side *of_side = &trials->side[side];
    double sum = 0;
    for (size_t turn = 0; turn < trials->done; turn++)
        sum += of_side->layer_ms[turn * of_side->layer_count + layer];
    return trials->done ? sum / (double)trials->done : (double)NAN;
}

double trial_layer_median(const struct trials *trials, int side, size_t layer)
{
    const struct trial_side *of_side = &trials->side[side];
    double values[PAIRS_MAX];
    size_t count = 0;
    for (size_t turn = 0; turn < trials->done; turn++) {
        double ms = of_side->layer_ms[turn * of_side->layer_count + layer];
        if (isfinite(ms))
            values[count++] = ms;
    }
    return pairs_median(values, count);
}

double trial_wall_median(const struct trials *trials, int side)
{
    return pairs_median(trials->side[side].wall_ms, trials->done);
}

double trial_sample_median(const struct trials *trials, int side)
{
    return pairs_median(trials->side[side].sample_ms, trials->done);
}
