/* What CUPTI says, against other clocks and against the engine's own count. */
#include "support/gpu_tests.h"

#include <math.h>
#include <string.h>

/* The figures of one experiment of probe_cupti; the caller's, NULL with a reason. */
static json_t *probe(const struct context *context, struct outcome *outcome, const char *name)
{
    FILE *pipe = gpu_program(context, "probe_cupti", name, 40);
    json_t *figures = pipe ? json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    int status = pipe ? pclose(pipe) : -1;
    if (!figures)
        outcome_fail(outcome, "probe_cupti %s printed no JSON (status %d)", name, status);
    else
        json_object_set(outcome->figures, name, figures);
    return figures;
}

static void check_losses(const json_t *figures, struct outcome *outcome)
{
    if (gpu_number(figures, "dropped") > 0 || gpu_number(figures, "untimed") > 0)
        outcome_fail(outcome,
                     "%.0f records dropped, %.0f without times: CUPTI's buffers do not keep up, so "
                     "figures would be partial",
                     gpu_number(figures, "dropped"), gpu_number(figures, "untimed"));
}

void gpu_test_spin(const struct context *context, struct outcome *outcome)
{
    json_t *figures = probe(context, outcome, "spin");
    if (figures &&
        !(gpu_number(figures, "worst_share") <= 0.01 || gpu_number(figures, "worst_us") <= 3))
        outcome_fail(outcome,
                     "a kernel's time is off by %.2f us, %.1f %%: no layer time can be believed",
                     gpu_number(figures, "worst_us"), gpu_number(figures, "worst_share") * 100);
    check_losses(figures, outcome);
    json_decref(figures);
}

void gpu_test_repeat(const struct context *context, struct outcome *outcome)
{
    json_t *figures = probe(context, outcome, "repeat");
    /* between kernels of a stream lies about a microsecond that events see and CUPTI does not */
    if (figures &&
        !(gpu_number(figures, "off_share") <= 0.02 || fabs(gpu_number(figures, "off_us")) <= 1.5))
        outcome_fail(
            outcome,
            "CUPTI says %.2f us, events say %.2f us a kernel: one of both sources of layer "
            "time is wrong",
            gpu_number(figures, "us_by_cupti"), gpu_number(figures, "us_by_events"));
    check_losses(figures, outcome);
    json_decref(figures);
}

void gpu_test_launch(const struct context *context, struct outcome *outcome)
{
    static const char *const names[] = {"nodes", "whole"};
    json_t *figures = probe(context, outcome, "launch");
    for (int i = 0; figures && i < 2; i++) {
        const json_t *row = json_object_get(figures, names[i]);
        double off = fabs(gpu_number(row, "off_us")), took = gpu_number(row, "us_by_events");
        if (!(gpu_number(row, "launches_seen") >= 19))
            outcome_fail(outcome,
                         "%s: %.0f of 20 launches left records: between bursts the throughput "
                         "falls back to the host's clock",
                         names[i], gpu_number(row, "launches_seen"));
        /* events around a launch also hold the launch itself */
        else if (!(off <= 0.02 * took || off <= 15))
            outcome_fail(outcome, "%s: CUPTI says %.1f us, events say %.1f us a launch of a graph",
                         names[i], gpu_number(row, "us_by_cupti"), took);
    }
    check_losses(figures, outcome);
    json_decref(figures);
}

void gpu_test_switch(const struct context *context, struct outcome *outcome)
{
    json_t *figures = probe(context, outcome, "switch");
    static const struct {
        const char *key, *meaning;
    } none[] = {
        {"refused", "a switch between nodes and whole graphs is refused: no bursts"},
        {"kernels_missing", "kernels are lost when tracing goes on after a pause: bursts cannot be "
                            "trusted on this version of CUPTI"},
        {"graphs_missing", "launches leave no record between bursts: their throughput is the "
                           "host's"},
        {"wrong_phase", "records of one kind come under the other: the switch is not safe"},
        {"unknown_op", "graph nodes lose their op: layers would lack kernels"},
    };
    for (size_t i = 0; figures && i < sizeof none / sizeof none[0]; i++)
        if (!(fabs(gpu_number(figures, none[i].key)) <= 0))
            outcome_fail(outcome, "%s = %g: %s", none[i].key, gpu_number(figures, none[i].key),
                         none[i].meaning);
    check_losses(figures, outcome);
    json_decref(figures);
}

static void check_lost(const json_t *data, struct outcome *outcome)
{
    const json_t *lost = json_object_get(data, "lost");
    static const char *const kinds[] = {"dropped", "unmatched", "untimed"};
    for (int i = 0; i < 3; i++) {
        outcome_figure(outcome, kinds[i], gpu_number(lost, kinds[i]));
        if (!(gpu_number(lost, kinds[i]) <= 0))
            outcome_fail(outcome, "%.0f records %s: layer times are partial",
                         gpu_number(lost, kinds[i]), kinds[i]);
    }
}

/* 12 s live: layers no older than two seconds, at a cost within the budget. */
void gpu_test_bursts(const struct context *context, struct outcome *outcome)
{
    json_t *objects = gpu_layertop(context, NULL,
                                   "demo:mobilenetv2 -c 'devices 0; profile cupti; graph on; batch "
                                   "8; start; sleep 12s; layers; kernels; stop'");
    const json_t *layers = gpu_data(objects, "layers", outcome);
    const json_t *tracing = json_object_get(layers, "tracing");
    const char *detail = json_string_value(json_object_get(tracing, "detail"));
    double age = gpu_number(layers, "age_s"), cost = gpu_number(tracing, "burst_cost");
    outcome_figure(outcome, "age_s", age);
    outcome_figure(outcome, "burst_cost", cost);
    outcome_figure(outcome, "steps_by_node", gpu_number(tracing, "steps"));
    outcome_figure(outcome, "whole_graphs", gpu_number(tracing, "graphs"));
    outcome_figure(outcome, "graph_ms", gpu_number(tracing, "graph_ms"));
    if (layers && (!detail || strcmp(detail, "bursts") != 0))
        outcome_fail(outcome, "replays are not traced in bursts: either no graph was captured, or "
                              "CUPTI was found blind after a pause");
    if (layers && !(gpu_number(tracing, "graphs") > gpu_number(tracing, "steps")))
        outcome_fail(outcome, "between bursts no graphs are counted");
    if (layers && !(age <= 2.0))
        outcome_fail(outcome, "a layer's figure is %.1f s old, allowed 2", age);
    if (layers && !(cost <= 0.02))
        outcome_fail(outcome, "bursts cost %.1f %% of the time, allowed 2", cost * 100);
    if (layers)
        check_lost(layers, outcome);
    const json_t *kernels = gpu_data(objects, "kernels", outcome);
    size_t index;
    json_t *row;
    int named = 0, shaped = 0, rated = 0;
    json_array_foreach(json_object_get(kernels, "kernels"), index, row)
    {
        named += json_is_string(json_object_get(row, "name"));
        shaped += json_is_array(json_object_get(row, "grid"));
        rated += gpu_number(row, "roof_share") > 0;
        if (gpu_number(row, "roof_share") > 1.05)
            outcome_fail(outcome, "%s is at %.0f %% of the roof: FLOPs, time or roof are wrong",
                         json_string_value(json_object_get(row, "name")),
                         gpu_number(row, "roof_share") * 100);
    }
    outcome_figure(outcome, "kernels", named);
    outcome_figure(outcome, "kernels_rated", rated);
    if (kernels && (named == 0 || shaped == 0 || rated == 0))
        outcome_fail(outcome, "%d kernels have names, %d launch shapes, %d a share of the roof",
                     named, shaped, rated);
    json_decref(objects);
}

void gpu_test_ledger(const struct context *context, struct outcome *outcome)
{
    static const char *const settings[] = {"graph on; batch 8", "graph off; batch 8",
                                           "graph on; batch 64"};
    for (int i = 0; i < 3 && outcome->passed; i++) {
        json_t *objects = gpu_layertop(
            context, NULL, "demo:resnet50 -c 'devices 0; profile cupti; %s; run 300'", settings[i]);
        const json_t *ledger = json_object_get(gpu_data(objects, "run", outcome), "ledger");
        double wall = gpu_number(ledger, "wall_ms"), rest = gpu_number(ledger, "unexplained_ms");
        char key[64];
        snprintf(key, sizeof key, "unexplained_share: %s", settings[i]);
        outcome_figure(outcome, key, rest / wall);
        if (outcome->passed && !(fabs(rest) <= fmax(0.05 * wall, 0.03)))
            outcome_fail(outcome,
                         "%s: %.3f of %.3f ms are unexplained: something runs in a step that no "
                         "record tells of",
                         settings[i], rest, wall);
        json_decref(objects);
    }
}

/* Kernels of each layer, by name, of the `run` that is number `at`. NULL if there is none. */
static const json_t *layers_of(const json_t *objects, size_t at)
{
    size_t index, seen = 0;
    json_t *object;
    json_array_foreach(objects, index, object)
    {
        const char *name = json_string_value(json_object_get(object, "cmd"));
        if (name && strcmp(name, "run") == 0 && seen++ == at)
            return json_object_get(json_object_get(object, "data"), "layers");
    }
    return NULL;
}

/* The engine counts what it launches (`profile events` shows that); CUPTI must count the same for each
 * layer: launched one by one, replayed, after another batch, after a pause, in a second context. */
void gpu_test_kernel_counts(const struct context *context, struct outcome *outcome)
{
    static const char *const runs[] = {"eager", "graph", "graph after another batch",
                                       "graph after a pause", "graph in a second context"};
    json_t *own = gpu_layertop(context, NULL,
                               "demo:mobilenetv2 -c 'devices 0; profile events; batch 8; run 30'");
    json_t *traced = gpu_layertop(
        context, NULL,
        "demo:mobilenetv2 -c 'devices 0; profile cupti; graph off; batch 8; run 30; graph on; run "
        "200; batch 16; run 30; batch 8; run 200; run 2000; profile off; run 5; profile cupti; run "
        "200'");
    gpu_data(own, "run", outcome);
    gpu_data(traced, "run", outcome);
    static const size_t which[] = {0, 1, 3, 4, 6};
    const json_t *wanted = layers_of(own, 0);
    for (size_t i = 0; i < 5 && outcome->passed; i++) {
        const json_t *found = layers_of(traced, which[i]);
        size_t index, off = 0;
        json_t *layer;
        double sum = 0;
        json_array_foreach(wanted, index, layer)
        {
            double expected = gpu_number(layer, "kernels");
            double kernels = gpu_number(json_array_get(found, index), "kernels");
            sum += isfinite(kernels) ? kernels : 0;
            if (!isfinite(expected) || expected <= 0 || fabs(kernels - expected) < 1e-9)
                continue;
            if (off++ == 0)
                outcome_fail(outcome,
                             "%s: layer %s has %g kernels by CUPTI and %g by the engine: kernels "
                             "are lost, or given to another layer",
                             runs[i], json_string_value(json_object_get(layer, "name")), kernels,
                             expected);
        }
        outcome_figure(outcome, runs[i], sum);
    }
    json_decref(own);
    json_decref(traced);
}

/* More than a million kernels in replays: some versions of CUPTI lose their times by then. */
void gpu_test_million(const struct context *context, struct outcome *outcome)
{
    json_t *objects =
        gpu_layertop(context, NULL,
                     "demo:mobilenetv2 -c 'devices 0; profile cupti; graph on; batch 1; run 100; "
                     "mem; run 15000; mem; kernels; layers'");
    const json_t *layers = gpu_data(objects, "layers", outcome);
    double launches = 0, used[2] = {(double)NAN, (double)NAN};
    size_t index, seen = 0;
    json_t *row;
    const json_t *kernels = gpu_data(objects, "kernels", outcome);
    json_array_foreach(json_object_get(kernels, "kernels"), index, row) launches +=
        gpu_number(row, "per_step");
    json_array_foreach(objects, index, row)
    {
        const char *name = json_string_value(json_object_get(row, "cmd"));
        if (!name || strcmp(name, "mem") != 0 || seen == 2)
            continue;
        const json_t *device =
            json_array_get(json_object_get(json_object_get(row, "data"), "devices"), 0);
        used[seen++] = gpu_number(device, "total_bytes") - gpu_number(device, "free_bytes");
    }
    outcome_figure(outcome, "kernels_replayed", launches * 15000);
    outcome_figure(outcome, "device_growth_bytes", used[1] - used[0]);
    if (layers && launches * 15000 < 1e6)
        outcome_fail(outcome, "only %.0f kernels were replayed", launches * 15000);
    if (layers)
        check_lost(layers, outcome);
    if (used[1] - used[0] > 64e6)
        outcome_fail(outcome,
                     "the device's used memory grew by %.0f MB over the replays: CUPTI does not "
                     "reuse its buffers",
                     (used[1] - used[0]) * 1e-6);
    json_decref(objects);
}
