#include "commands/advise_facts.h"

#include "commands/batch_fit.h"
#include "commands/format.h"
#include "commands/layer_rows.h"
#include "commands/workbench_private.h"
#include "engine/backend.h"
#include "profiler/store_trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- small readers ---- */

#define TEXT(field, value) text_clean(field, sizeof(field), value)

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static int flag_of(const json_t *value)
{
    return json_is_true(value) ? FLAG_YES : json_is_false(value) ? FLAG_NO : FLAG_UNKNOWN;
}

static double bytes_of(uint64_t bytes)
{
    return bytes == UINT64_MAX ? (double)NAN : (double)bytes;
}

/* Elements of one sample: all dimensions but the first. */
static double elements_of(const json_t *ports)
{
    double sum = 0;
    size_t index, i;
    json_t *port, *dim;
    json_array_foreach((json_t *)(uintptr_t)ports, index, port)
    {
        double elements = 1;
        json_array_foreach(json_object_get(port, "shape"), i, dim)
        {
            if (i > 0 && json_is_integer(dim))
                elements *= (double)json_integer_value(dim);
        }
        sum += elements;
    }
    return index > 0 ? sum : (double)NAN;
}

/* ---- sections ---- */

static void fill_settings(struct advise_settings *out, const struct workbench *workbench)
{
    const json_t *plan = workbench_plan(workbench);
    char slice[32];
    const struct setting *setting = setting_find("slice", NULL);
    char devices[ADVISE_TEXT_BYTES];
    setting_format(setting_find("devices", NULL), workbench_setting(workbench, "devices"), devices,
                   sizeof devices);
    TEXT(out->devices, devices);
    TEXT(out->slice,
         setting_format(setting, workbench_setting(workbench, "slice"), slice, sizeof slice));
    /* the plan is what ran, and what a recording tells of */
    double batch = json_get_double(plan, "batch");
    out->batch = isfinite(batch) ? batch : json_to_double(workbench_setting(workbench, "batch"));
    TEXT(out->precision, text_of(plan, "precision"));
    out->fusion = flag_of(json_object_get(plan, "fusion"));
    out->graph = flag_of(json_object_get(plan, "graph"));
    out->autotune = flag_of(workbench_setting(workbench, "autotune"));
    out->growth = flag_of(workbench_setting(workbench, "growth"));
    out->threads = json_to_double(workbench_setting(workbench, "threads"));
    const char *layout = json_string_value(workbench_setting(workbench, "layout"));
    const char *profile = json_string_value(workbench_setting(workbench, "profile"));
    const char *fallback = json_string_value(workbench_setting(workbench, "fallback"));
    const char *input = json_string_value(workbench_setting(workbench, "input"));
    TEXT(out->layout, layout ? layout : "");
    TEXT(out->profile, profile ? profile : "");
    TEXT(out->fallback, fallback ? fallback : "");
    TEXT(out->input, input ? input : "");
}

static void fill_roof(struct advise_device *out, const struct store_trace *trace)
{
    if (!trace || trace->roof.source == ROOF_UNKNOWN)
        return;
    out->roof_fp32 = trace->roof.flops_per_s[PRECISION_FP32];
    out->roof_tf32 = trace->roof.flops_per_s[PRECISION_TF32];
    out->roof_fp16 = trace->roof.flops_per_s[PRECISION_FP16];
    out->roof_bf16 = trace->roof.flops_per_s[PRECISION_BF16];
    out->roof_bytes = trace->roof.bytes_per_s;
}

static void fill_device(struct advise_device *out, const char *id, const json_t *devices)
{
    size_t index;
    json_t *device;
    TEXT(out->id, id);
    TEXT(out->kind, strncmp(id, "cpu", 3) == 0 ? "cpu" : strncmp(id, "gpu", 3) == 0 ? "gpu" : "");
    if (devices)
        out->gpus_usable = 0;
    json_array_foreach(json_object_get(devices, "devices"), index, device)
    {
        const char *other = text_of(device, "id"), *capability;
        if (strcmp(other, "cpu") == 0)
            out->host_cores = json_get_double(device, "threads");
        bool gpu = strncmp(other, "gpu", 3) == 0;
        if (gpu && json_is_true(json_object_get(device, "usable")))
            out->gpus_usable++;
        if (strncmp(other, id, strlen(other)) != 0 || !*other) /* "gpu:0.1" is a part of gpu:0 */
            continue;
        TEXT(out->name, text_of(device, "name"));
        TEXT(out->isa, text_of(device, "isa"));
        out->cores = json_get_double(device, "threads");
        out->multiprocessors = json_get_double(device, "multiprocessors");
        capability = json_string_value(json_object_get(device, "compute_capability"));
        if (capability)
            out->capability = round(10 * strtod(capability, NULL));
    }
}

static void fill_plan(struct advise_plan *out, const struct workbench *workbench)
{
    const json_t *model = workbench_model(workbench), *plan = workbench_plan(workbench);
    const json_t *inputs = json_object_get(model, "inputs");
    TEXT(out->model, text_of(model, "name"));
    out->parameters = json_get_double(model, "parameters");
    out->load_ms = json_get_double(model, "load_ms");
    out->input_elements = elements_of(inputs);
    out->output_elements = elements_of(json_object_get(model, "outputs"));
    TEXT(out->input_type, text_of(json_array_get(inputs, 0), "dtype"));
    out->flops = json_get_double(plan, "flops");
    out->bytes = json_get_double(plan, "bytes");
    out->slice = json_get_double(plan, "slice");
    out->plan_ms = json_get_double(plan, "plan_ms");
}

static void fill_run(struct advise_run *out, const json_t *reply)
{
    const json_t *wall = json_object_get(reply, "wall_ms");
    out->live = FLAG_NO;
    out->steps = json_get_double(reply, "steps");
    out->warmup = json_get_double(reply, "warmup");
    out->steady = flag_of(json_object_get(reply, "steady"));
    out->wall_ms = json_get_double(wall, "median");
    out->mean_ms = json_get_double(wall, "mean");
    out->min_ms = json_get_double(wall, "min");
    out->p95_ms = json_get_double(wall, "p95");
    out->p99_ms = json_get_double(wall, "p99");
    out->first_ms = json_get_double(reply, "first_ms");
    out->throughput_per_s = json_get_double(reply, "throughput_per_s");
    out->resident_per_s = json_get_double(reply, "throughput_resident_per_s");
    out->preempted_steps = json_get_double(reply, "preempted_steps");
    out->waited_ms = json_get_double(reply, "waited_ms");
    out->faults = json_get_double(reply, "faults");
}

/* Of a run that made its own inputs. */
static void fill_pipeline(struct advise_pipeline *out, const json_t *pipeline, double processors)
{
    if (!json_is_object(pipeline))
        return;
    TEXT(out->mode, text_of(pipeline, "mode"));
    TEXT(out->mapping, text_of(pipeline, "mapping"));
    TEXT(out->preprocess, text_of(pipeline, "preprocess"));
    out->parallel_calls = json_get_double(pipeline, "parallel_calls");
    out->prepare_ms = json_get_double(pipeline, "prepare_ms");
    out->decode_ms = json_get_double(pipeline, "decode_ms");
    out->resize_ms = json_get_double(pipeline, "resize_ms");
    out->scale_ms = json_get_double(pipeline, "scale_ms");
    out->processors = processors;
}

static void fill_live(struct advise_run *out, const struct store *store)
{
    struct summary wall;
    store_wall(store, &wall);
    out->live = FLAG_YES;
    out->steps = (double)wall.count;
    if (wall.count == 0)
        return;
    out->wall_ms = wall.p50;
    out->mean_ms = wall.mean;
    out->min_ms = wall.min;
    out->p95_ms = wall.p95;
}

static void fill_cost(struct advise_run *out, const struct store_cost *cost, const char *source)
{
    TEXT(out->source, source ? source : "");
    out->cost_share = cost->share;
    out->cost_low = cost->low;
    out->cost_high = cost->high;
}

static void fill_ledger(struct advise_ledger *out, const struct ledger *ledger)
{
    if (ledger->steps == 0)
        return;
    out->steps = (double)ledger->steps;
    out->wall_ms = ledger->wall_ms;
    out->kernel_ms = ledger->class_ms[LEDGER_KERNEL];
    out->copy_ms = ledger->class_ms[LEDGER_COPY];
    out->profiler_ms = ledger->class_ms[LEDGER_PROFILER];
    out->launch_ms = ledger->class_ms[LEDGER_LAUNCH];
    out->preprocess_ms = ledger->class_ms[LEDGER_PREPROCESS];
    out->gap_ms = ledger->class_ms[LEDGER_GAP];
    out->unexplained_ms = ledger->unexplained_ms;
    out->hidden_copy_ms = ledger->hidden_ms[LEDGER_COPY];
    out->hidden_launch_ms = ledger->hidden_ms[LEDGER_LAUNCH];
    out->hidden_preprocess_ms = ledger->hidden_ms[LEDGER_PREPROCESS];
}

static void fill_marks(struct advise_marks *out, const struct marks *marks,
                       const struct store *store)
{
    struct summary clock;
    const struct series *series = store_series_get(store, SERIES_GPU_CLOCK_MHZ);
    if (marks->samples == 0)
        return;
    out->throttled = marks_throttled(marks) ? FLAG_YES : FLAG_NO;
    out->tenants = bytes_of(marks->tenants);
    if (out->throttled == FLAG_YES) {
        struct marks clocks = *marks;
        clocks.tenants = 0; /* they are a finding of their own */
        marks_text(&clocks, out->reasons, sizeof out->reasons);
    }
    out->clock_mhz = series_last(series);
    out->temperature_c = series_last(store_series_get(store, SERIES_GPU_TEMPERATURE_C));
    series_summary(series, INT64_C(3600000000000), store_time_ns(store), &clock);
    out->clock_top_mhz = clock.count > 0 ? clock.max : (double)NAN;
}

static void fill_memory(struct advise_facts *facts, const json_t *memory)
{
    struct advise_memory *out = &facts->memory;
    size_t index;
    json_t *device;
    json_array_foreach(json_object_get(memory, "devices"), index, device)
    {
        if (strcmp(text_of(device, "device"), facts->device.id) != 0)
            continue;
        out->total_bytes = json_get_double(device, "total_bytes");
        out->free_bytes = json_get_double(device, "free_bytes");
        out->ours_bytes = json_get_double(device, "used_by_us_bytes");
        out->weights_bytes = json_get_double(device, "weights_bytes");
        out->arena_bytes = json_get_double(device, "arena_bytes");
        out->workspace_bytes = json_get_double(device, "workspace_bytes");
        out->idle_bytes = json_get_double(device, "idle_bytes");
        out->others_bytes = json_get_double(device, "others_bytes");
        out->planned_bytes = json_get_double(device, "planned_bytes");
        facts->settings.limit_bytes = json_get_double(device, "limit_bytes");
    }
    TEXT(out->peak_layer, text_of(json_object_get(memory, "plan"), "peak_layer"));
}

/* ---- lists ---- */

/* "conv+unary": each kind once, in the order they come. */
static void join_ops(const json_t *ops, char *out, size_t size)
{
    size_t index, used = 0;
    json_t *op;
    *out = '\0';
    json_array_foreach((json_t *)(uintptr_t)ops, index, op)
    {
        char word[48];
        const char *name = json_string_value(op);
        if (!name)
            continue;
        snprintf(word, sizeof word, "+%s+", name);
        char *so_far = xasprintf("+%s+", out);
        bool known = strstr(so_far, word) != NULL;
        free(so_far);
        if (!known && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? "+" : "", name);
    }
}

/* The last number of "(32, 56, 56, 64)", and the product of all. */
static void read_shape(const char *shape, double *last, double *elements)
{
    *last = *elements = NAN;
    for (const char *at = strpbrk(shape, "0123456789"); at; at = strpbrk(at, "0123456789")) {
        char *end;
        *last = strtod(at, &end);
        *elements = isfinite(*elements) ? *elements * *last : *last;
        at = end;
    }
}

static double parameters_of(const json_t *model, size_t layer)
{
    return json_get_double(json_array_get(json_object_get(model, "layers"), layer), "parameters");
}

/* Of a layer's time, in the run or since the plan changed. */
static double median_of(const struct store *store, const struct store_segment *run, size_t index)
{
    struct store_layer layer;
    if (run)
        return index < run->layer_count ? run->layers[index].p50 : (double)NAN;
    store_layer(store, index, &layer);
    return layer.total.p50;
}

static void fill_layers(struct advise_facts *facts, const struct workbench *workbench,
                        uint32_t segment, double mean_ms)
{
    const struct store *store = workbench_store(workbench);
    const json_t *planned = json_object_get(workbench_plan(workbench), "layers");
    const struct store_segment *run = segment ? store_segment_get(store, segment) : NULL;
    struct layer_row *rows;
    double wall_ms, before = NAN;
    size_t count = layer_rows_read(store, segment, mean_ms, &rows, &wall_ms);
    for (size_t i = 0; i < count; i++) {
        const json_t *plan = json_array_get(planned, i), *ops = json_object_get(plan, "ops");
        struct advise_layer *out = advise_add_layer(facts);
        TEXT(out->name, rows[i].name);
        TEXT(out->label, rows[i].label);
        TEXT(out->class_name, rows[i].class_name);
        TEXT(out->impl, rows[i].impl);
        join_ops(ops, out->ops, sizeof out->ops);
        out->op_count = ops ? (double)json_array_size(ops) : (double)NAN;
        out->fused = rows[i].fused_into >= 0 ? FLAG_YES : FLAG_NO;
        out->time_ms = rows[i].time_ms;
        if (isfinite(rows[i].time_ms))
            out->median_ms = median_of(store, run, i);
        out->kernels = rows[i].kernels;
        out->flops = bytes_of(rows[i].flops);
        out->bytes = bytes_of(rows[i].bytes);
        out->parameters = parameters_of(workbench_model(workbench), i);
        out->before = before;
        read_shape(text_of(plan, "output_shape"), &out->channels, &out->elements);
        before = out->channels;
    }
    free(rows);
}

static void fill_trace(struct advise_facts *facts, const struct store *store)
{
    const struct store_trace *trace = store_trace_get(store, NULL);
    fill_roof(&facts->device, trace);
    for (size_t i = 0; trace && i < trace->kernel_count; i++) {
        const struct store_kernel *kernel = &trace->kernels[i];
        struct advise_kernel *out = advise_add_kernel(facts);
        struct store_layer layer = {.name = ""};
        if (kernel->layer >= 0 && (size_t)kernel->layer < store_layer_count(store))
            store_layer(store, (size_t)kernel->layer, &layer);
        TEXT(out->name, kernel->name);
        TEXT(out->layer, layer.name);
        out->per_step = kernel->per_step;
        out->mean_ms = kernel->mean_ms;
        out->time_ms = kernel->step_ms;
        if (kernel->launched)
            out->blocks =
                (double)kernel->shape.grid[0] * kernel->shape.grid[1] * kernel->shape.grid[2];
        out->flops_per_s = kernel->flops_per_s;
        out->bytes_per_s = kernel->bytes_per_s;
    }
    for (size_t i = 0; trace && i < trace->copy_count; i++) {
        struct advise_copy *out = advise_add_copy(facts);
        TEXT(out->kind, trace->copies[i].kind);
        out->pageable = trace->copies[i].pageable ? FLAG_YES : FLAG_NO;
        out->per_step = trace->copies[i].per_step;
        out->bytes = trace->copies[i].bytes_per_step;
        out->time_ms = trace->copies[i].step_ms;
    }
    if (trace)
        facts->run.lost = (double)(trace->dropped + trace->unmatched + trace->untimed);
}

/* The other devices of a run that compared them. */
static void fill_rivals(struct advise_facts *facts, const json_t *reply)
{
    size_t index;
    json_t *device;
    if (json_object_get(reply, "split"))
        return; /* they share the batches: none is another's rival */
    json_array_foreach(json_object_get(reply, "per_device"), index, device)
    {
        const char *id = text_of(device, "device");
        if (strcmp(id, facts->device.id) == 0)
            continue;
        struct advise_rival *out = advise_add_rival(facts);
        TEXT(out->device, id);
        out->batch = json_get_double(device, "batch");
        out->wall_ms = json_get_double(json_object_get(device, "wall_ms"), "median");
        out->throughput_per_s = json_get_double(device, "throughput_per_s");
    }
}

static void fill_sweep(struct advise_facts *facts, const json_t *sweep)
{
    size_t index, most = json_array_size(sweep), count = 0;
    json_t *point;
    struct batch_point *points = xcalloc(most + 1, sizeof *points);
    struct batch_fit fit;
    int64_t largest = 0;
    int measured;
    json_array_foreach((json_t *)(uintptr_t)sweep, index, point)
    {
        double median = json_get_double(json_object_get(point, "wall_ms"), "median");
        int64_t batch = json_integer_value(json_object_get(point, "batch"));
        if (!(median > 0) || batch < 1)
            continue;
        struct advise_point *out = advise_add_point(facts);
        out->batch = (double)batch;
        out->wall_ms = median;
        points[count++] = (struct batch_point){batch, median};
        largest = batch > largest ? batch : largest;
    }
    if (count >= 2) {
        batch_fit(points, count, &fit);
        facts->fit.points = (double)count;
        facts->fit.a_ms = fit.a_ms;
        facts->fit.b_ms = fit.b_ms;
        facts->fit.r2 = fit.r2;
        facts->fit.knee = (double)batch_knee(&fit, points, count, largest, &measured);
    }
    free(points);
}

/* What `roof` measured, where no maker's figures are known. */
static void fill_ceilings(struct advise_device *out, const json_t *ceilings)
{
    size_t index;
    json_t *item;
    if (!ceilings || strcmp(text_of(ceilings, "device"), out->id) != 0 || out->roof_bytes > 0)
        return;
    json_array_foreach(json_object_get(ceilings, "compute"), index, item)
    {
        const char *name = text_of(item, "precision");
        double rate = json_get_double(item, "flops_per_s");
        out->roof_fp32 = strcmp(name, "fp32") == 0 ? rate : out->roof_fp32;
        out->roof_tf32 = strcmp(name, "tf32") == 0 ? rate : out->roof_tf32;
        out->roof_fp16 = strcmp(name, "fp16") == 0 ? rate : out->roof_fp16;
        out->roof_bf16 = strcmp(name, "bf16") == 0 ? rate : out->roof_bf16;
    }
    json_array_foreach(json_object_get(ceilings, "memory"), index, item)
    {
        if (strcmp(text_of(item, "level"), "memory") == 0)
            out->roof_bytes = json_get_double(item, "bytes_per_s");
    }
}

static void fill_weights(struct advise_weights *out, const json_t *sparsity, const json_t *prune)
{
    char text[ADVISE_TEXT_BYTES];
    if (!sparsity)
        return;
    out->count = json_get_double(sparsity, "weights");
    out->zero_share = json_get_double(sparsity, "zero_share");
    out->two_of_four_share = json_get_double(sparsity, "two_of_four_share");
    TEXT(out->prune, setting_format(setting_find("prune", NULL), prune, text, sizeof text));
}

static void fill_accuracy(struct advise_accuracy *out, const json_t *calibration,
                          const json_t *evaluation)
{
    const json_t *error = json_object_get(evaluation, "output_error");
    out->calibrated = calibration ? FLAG_YES : FLAG_NO;
    out->random = flag_of(json_object_get(calibration, "random"));
    out->rows = json_get_double(evaluation, "rows");
    out->agreement = json_get_double(evaluation, "agreement");
    out->accuracy = json_get_double(evaluation, "accuracy");
    out->reference_accuracy = json_get_double(evaluation, "reference_accuracy");
    out->error_max = json_get_double(error, "max");
    out->error_largest = json_get_double(error, "largest");
}

static void fill_trials(struct advise_facts *facts, const json_t *trials)
{
    size_t index;
    json_t *trial;
    json_array_foreach((json_t *)(uintptr_t)trials, index, trial)
    {
        struct advise_trial *out = advise_add_trial(facts);
        TEXT(out->id, text_of(trial, "id"));
        TEXT(out->change, text_of(trial, "change"));
        out->speedup = json_get_double(trial, "speedup");
        out->low = json_get_double(trial, "low");
        out->high = json_get_double(trial, "high");
        out->predicted = json_get_double(trial, "predicted");
    }
}

struct advise_facts *advise_facts_collect(struct workbench *workbench, const json_t *devices,
                                          const json_t *memory, const json_t *sparsity)
{
    struct advise_facts *facts = advise_facts_new();
    const struct store *store = workbench_store(workbench);
    uint32_t number = workbench->last_segment;
    if (number == 0 && workbench->replay.path) /* a run that was recorded */
        number = store_segment_last(store);
    const struct store_segment *segment = number ? store_segment_get(store, number) : NULL;
    const json_t *reply = workbench->last_segment ? workbench->last_run : NULL;
    const char *id = json_string_value(json_object_get(workbench_plan(workbench), "device"));
    fill_settings(&facts->settings, workbench);
    fill_device(&facts->device, id ? id : "", devices);
    fill_plan(&facts->plan, workbench);
    if (reply) {
        fill_run(&facts->run, reply);
        fill_rivals(facts, reply);
        fill_pipeline(&facts->pipeline, json_object_get(reply, "pipeline"),
                      facts->device.host_cores);
    } else {
        fill_live(&facts->run, store);
    }
    if (segment) {
        fill_cost(&facts->run, &segment->cost, segment->timing_source);
        fill_ledger(&facts->ledger, &segment->ledger);
        fill_marks(&facts->marks, &segment->marks, store);
    } else if (!reply) {
        struct ledger ledger;
        struct store_cost cost;
        struct marks marks;
        store_ledger(store, &ledger);
        store_cost(store, &cost);
        store_marks(store, &marks);
        fill_cost(&facts->run, &cost, store_timing_source(store));
        fill_ledger(&facts->ledger, &ledger);
        fill_marks(&facts->marks, &marks, store);
    }
    fill_layers(facts, workbench, segment ? number : 0, facts->run.mean_ms);
    fill_trace(facts, store);
    fill_sweep(facts, workbench_sweep(workbench));
    fill_trials(facts, workbench_trials(workbench));
    fill_memory(facts, memory);
    fill_ceilings(&facts->device, workbench_remembered(workbench, "ceilings"));
    fill_weights(&facts->weights, sparsity, workbench_setting(workbench, "prune"));
    fill_accuracy(&facts->accuracy, workbench_remembered(workbench, "calibrate"),
                  workbench_remembered(workbench, "evaluate"));
    facts->run.predicted_rows = json_get_double(workbench_remembered(workbench, "predict"), "rows");
    if (workbench->observed_segment == workbench->last_segment && workbench->last_segment)
        facts->run.observed_ms = workbench->observed_ms;
    return facts;
}
