/* Layer rows: see store_layers.h. */
#include "profiler/store_layers.h"

#include "profiler/series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct measured {
    struct recent recent;
    struct histogram histogram;
};

/* What every frame reads of every layer. It stands in the row itself: the measurements lie pages
 * apart, and a thousand misses are most of what a frame of a large model costs. */
struct totals {
    uint64_t steps;
    double sum_ns;
    int64_t min_ns, max_ns;
    double recent_ns, recent_kernels; /* means of `recent` */
    int64_t newest_ns;
};

struct layer_row {
    char *name, *class_name, *impl, *output_shape, *label;
    size_t label_bytes;
    int fused_into;
    char **fused; /* NULL-terminated */
    uint64_t flops, bytes, parameters;
    struct series *series;     /* NULL until the first time arrives */
    struct measured *measured; /* likewise */
    struct totals totals;      /* meaningless without `measured` */
};

static const struct series_shape layer_series = {
    .ring = 160, .bins = 96, .levels = 6, .base_ns = INT64_C(400000000)};

void recent_add(struct recent *recent, int64_t time_ns, double sum_ns, uint32_t count,
                double kernels)
{
    if (recent->used) {
        struct recent_window *last =
            &recent->windows[(recent->head + RECENT_WINDOWS - 1) % RECENT_WINDOWS];
        if (last->time_ns == time_ns) {
            last->sum_ns += sum_ns;
            last->count += count;
            last->kernels += kernels;
            return;
        }
    }
    recent->windows[recent->head] = (struct recent_window){
        .time_ns = time_ns, .sum_ns = sum_ns, .count = count, .kernels = kernels};
    recent->head = (recent->head + 1) % RECENT_WINDOWS;
    if (recent->used < RECENT_WINDOWS)
        recent->used++;
}

double recent_mean_ns(const struct recent *recent, double *kernels)
{
    double sum = 0;
    double launched = 0;
    uint64_t count = 0;
    int64_t newest = 0;
    for (uint32_t i = 0; i < recent->used; i++) {
        const struct recent_window *window =
            &recent->windows[(recent->head + RECENT_WINDOWS - 1 - i) % RECENT_WINDOWS];
        if (i == 0)
            newest = window->time_ns;
        /* a window that holds only the rest of a step does not answer alone */
        if (window->time_ns <= newest - RECENT_SPAN_NS && count > 0)
            break;
        sum += window->sum_ns;
        launched += window->kernels;
        count += window->count;
    }
    if (kernels)
        *kernels = count ? launched / (double)count : (double)NAN;
    return count ? sum / (double)count : (double)NAN;
}

static void row_set(char **slot, const char *text)
{
    free(*slot);
    *slot = xstrdup(text ? text : "");
}

static void row_free(struct layer_row *row)
{
    free(row->name);
    free(row->class_name);
    free(row->impl);
    free(row->output_shape);
    free(row->label);
    for (char **name = row->fused; name && *name; name++)
        free(*name);
    free(row->fused);
    series_free(row->series);
    free(row->measured);
}

void layer_table_free(struct layer_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        row_free(&table->rows[i]);
    free(table->rows);
    *table = (struct layer_table){.rows = NULL};
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static uint64_t count_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static void table_make(struct layer_table *table, const json_t *layers)
{
    layer_table_free(table);
    table->count = json_array_size(layers);
    table->rows = xcalloc(table->count ? table->count : 1, sizeof *table->rows);
    for (size_t i = 0; i < table->count; i++) {
        const json_t *layer = json_array_get(layers, i);
        struct layer_row *row = &table->rows[i];
        /* the path is unique where names of nested models are not */
        const char *path = text_of(layer, "path");
        row_set(&row->name, *path ? path : text_of(layer, "name"));
        row_set(&row->class_name, text_of(layer, "class"));
        row_set(&row->impl, "");
        row_set(&row->output_shape, "");
        row_set(&row->label, row->name);
        row->label_bytes = strlen(row->label);
        row->fused = xcalloc(1, sizeof *row->fused);
        row->parameters = count_of(layer, "parameters");
        row->fused_into = -1;
    }
}

void layer_table_model(struct layer_table *table, const json_t *model)
{
    table_make(table, json_object_get(model, "layers"));
}

/* The row of a layer by name; names of nested models may lack their path, so the last component
 * decides where the whole does not */
static int row_find(const struct layer_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->rows[i].name, name) == 0)
            return (int)i;
    }
    for (size_t i = 0; i < table->count; i++) {
        const char *slash = strrchr(table->rows[i].name, '/');
        if (slash && strcmp(slash + 1, name) == 0)
            return (int)i;
    }
    return -1;
}

/* `name` without the words it shares with the head's: "conv1_bn" after "conv1" is "bn" */
static const char *name_tail(const char *head, const char *name)
{
    size_t common = 0, tail = 0;
    for (; head[common] != '\0' && head[common] == name[common]; common++) {
        if (name[common] == '_' || name[common] == '/')
            tail = common + 1;
    }
    if (head[common] == '\0' && (name[common] == '_' || name[common] == '/'))
        tail = common + 1;
    return name[tail] != '\0' ? name + tail : name;
}

/* Fused names and the label made of them: "conv1+bn1+relu1" */
static void row_set_fused(struct layer_row *row, const json_t *names)
{
    for (char **name = row->fused; name && *name; name++)
        free(*name);
    free(row->fused);
    size_t count = json_array_size(names);
    row->fused = xcalloc(count + 1, sizeof *row->fused);
    row_set(&row->label, row->name);
    for (size_t i = 0, n = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name)
            continue;
        row->fused[n++] = xstrdup(name);
        char *label = xasprintf("%s+%s", row->label, name_tail(row->name, name));
        free(row->label);
        row->label = label;
    }
    row->label_bytes = strlen(row->label);
}

void layer_table_plan(struct layer_table *table, const json_t *plan)
{
    const json_t *layers = json_object_get(plan, "layers");
    if (table->count == 0)
        table_make(table, layers);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const json_t *number = json_object_get(layer, "layer");
        json_int_t index = json_is_integer(number) ? json_integer_value(number) : (json_int_t)i;
        if (index < 0 || (size_t)index >= table->count)
            continue;
        struct layer_row *row = &table->rows[index];
        row_set(&row->impl, text_of(layer, "impl"));
        row_set(&row->output_shape, text_of(layer, "output_shape"));
        row->flops = count_of(layer, "flops");
        row->bytes = count_of(layer, "bytes");
        const char *head = json_string_value(json_object_get(layer, "fused_into"));
        row->fused_into = head ? row_find(table, head) : -1;
        row_set_fused(row, json_object_get(layer, "fused"));
    }
}

static void measured_clear(struct layer_row *row)
{
    row->totals = (struct totals){.recent_ns = (double)NAN, .recent_kernels = (double)NAN};
    row->measured->recent = (struct recent){.used = 0};
    histogram_init(&row->measured->histogram);
}

void layer_table_reset(struct layer_table *table, bool series)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->rows[i].measured)
            measured_clear(&table->rows[i]);
        if (series && table->rows[i].series)
            series_clear(table->rows[i].series);
    }
}

#define BURST_SPAN_NS INT64_C(2500000000) /* a longer pause is a gap */

static int64_t newest_ns(const struct recent *recent)
{
    return recent->used
               ? recent->windows[(recent->head + RECENT_WINDOWS - 1) % RECENT_WINDOWS].time_ns
               : 0;
}

void layer_table_add(struct layer_table *table, int64_t time_ns, int64_t span_ns, bool bursts,
                     const struct record_layer *layer, const uint8_t *buckets)
{
    struct layer_row *row = &table->rows[layer->layer];
    if (!row->measured) {
        row->measured = xmalloc(sizeof *row->measured);
        measured_clear(row);
        row->series = series_new(&layer_series);
    }
    struct measured *measured = row->measured;
    struct totals *totals = &row->totals;
    int64_t since_ns = time_ns - totals->newest_ns;
    if (bursts && since_ns > span_ns && since_ns <= BURST_SPAN_NS)
        span_ns = since_ns;
    double kernels = layer->kernels == RECORD_UNKNOWN ? (double)NAN : (double)layer->kernels;
    recent_add(&measured->recent, time_ns, (double)layer->sum_ns, layer->steps, kernels);
    totals->recent_ns = recent_mean_ns(&measured->recent, &totals->recent_kernels);
    totals->newest_ns = newest_ns(&measured->recent);
    totals->sum_ns += (double)layer->sum_ns;
    if (layer->steps == 0)
        return; /* the rest of a step that was counted before */
    if (totals->steps == 0 || layer->min_ns < totals->min_ns)
        totals->min_ns = layer->min_ns;
    if (totals->steps == 0 || layer->max_ns > totals->max_ns)
        totals->max_ns = layer->max_ns;
    totals->steps += layer->steps;
    for (uint32_t i = 0; i < layer->bucket_count; i++) {
        struct histogram_cell cell = record_bucket(buckets, i);
        histogram_add(&measured->histogram, cell.bucket, cell.count);
    }
    series_push(row->series, time_ns, span_ns, (double)layer->sum_ns / layer->steps * 1e-6);
}

void layer_table_get(const struct layer_table *table, size_t index, double wall_ms, bool quantiles,
                     struct store_layer *out)
{
    *out = (struct store_layer){
        .name = "",
        .class_name = "",
        .impl = "",
        .output_shape = "",
        .label = "",
        .fused_into = -1,
        .kernels = (double)NAN,
        .time_ms = (double)NAN,
        .share = (double)NAN,
        .total = {0, NAN, NAN, NAN, NAN, NAN, NAN},
    };
    static const char *const none[] = {NULL};
    out->fused = none;
    if (index >= table->count)
        return;
    const struct layer_row *row = &table->rows[index];
    out->name = row->name;
    out->class_name = row->class_name;
    out->impl = row->impl;
    out->output_shape = row->output_shape;
    out->label = row->label;
    out->label_bytes = row->label_bytes;
    out->fused_into = row->fused_into;
    out->fused = (const char *const *)row->fused;
    out->flops = row->flops;
    out->bytes = row->bytes;
    out->parameters = row->parameters;
    out->series = row->series;
    const struct totals *totals = &row->totals;
    if (!row->measured || row->fused_into >= 0)
        return;
    out->time_ms = totals->recent_ns * 1e-6;
    out->kernels = totals->recent_kernels;
    out->share = out->time_ms / wall_ms;
    out->time_ns = totals->newest_ns;
    if (totals->steps == 0)
        return;
    out->total = (struct summary){
        .count = totals->steps,
        .mean = totals->sum_ns / (double)totals->steps * 1e-6,
        .min = (double)totals->min_ns * 1e-6,
        .max = (double)totals->max_ns * 1e-6,
        .p50 = (double)NAN,
        .p95 = (double)NAN,
        .sum = totals->sum_ns * 1e-6,
    };
    if (!quantiles)
        return;
    out->total.p50 = histogram_quantile_ns(&row->measured->histogram, 0.50) * 1e-6;
    out->total.p95 = histogram_quantile_ns(&row->measured->histogram, 0.95) * 1e-6;
    out->total.p50 = fmin(fmax(out->total.p50, out->total.min), out->total.max);
    out->total.p95 = fmin(fmax(out->total.p95, out->total.min), out->total.max);
}

_Static_assert(sizeof(struct measured) + 160 * 16 + 6 * (96 * 16 + 32) + 128 <= STORE_LAYER_BYTES,
               "a layer's measurements stay within their bound");
