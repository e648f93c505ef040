#define _GNU_SOURCE /* qsort_r */
#include "commands/layer_rows.h"

#include "commands/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t layer_rows_read(const struct store *store, uint32_t segment, double wall_mean_ms,
                       struct layer_row **rows, double *wall_ms)
{
    size_t count = store_layer_count(store);
    const struct store_segment *run = segment ? store_segment_get(store, segment) : NULL;
    struct summary wall;
    store_wall(store, &wall);
    *wall_ms = isfinite(wall_mean_ms) ? wall_mean_ms : run ? run->ledger.wall_ms : wall.mean;
    *rows = xcalloc(count + 1, sizeof **rows);
    for (size_t i = 0; i < count; i++) {
        struct store_layer layer;
        store_layer(store, i, &layer);
        struct layer_row *row = &(*rows)[i];
        *row = (struct layer_row){.name = layer.name,
                                  .class_name = layer.class_name,
                                  .impl = layer.impl,
                                  .label = layer.label,
                                  .time_ms = layer.time_ms,
                                  .share = layer.share,
                                  .kernels = layer.kernels,
                                  .flops = layer.flops,
                                  .bytes = layer.bytes,
                                  .fused_into = layer.fused_into,
                                  .fused = layer.fused};
        if (run) {
            /* the sum over all steps, for a layer need not be timed in each of them */
            bool measured = i < run->layer_count && run->layers[i].count > 0;
            row->time_ms = measured ? run->layers[i].mean : NAN;
            row->kernels = i < run->layer_count ? run->kernels[i] : NAN;
            row->share = *wall_ms > 0 ? row->time_ms / *wall_ms : NAN;
        } else if (!isfinite(row->time_ms)) {
            row->time_ms = layer.total.count > 0 ? layer.total.mean : NAN;
            row->share = *wall_ms > 0 ? row->time_ms / *wall_ms : NAN;
        }
        if (row->fused_into >= 0)
            row->time_ms = row->share = NAN;
        if (row->share > 1)
            row->share = 1; /* the clock of layers and that of steps differ by rounding */
    }
    return count;
}

bool layer_rows_precisions(struct layer_row *rows, size_t count, const json_t *plan)
{
    const json_t *layers = json_object_get(plan, "layers");
    bool any = false;
    for (size_t i = 0; i < count && i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        rows[i].precision = json_string_value(json_object_get(layer, "precision"));
        any |= rows[i].precision != NULL;
    }
    return any;
}

static json_t *words(const char *const *list)
{
    json_t *array = json_array();
    for (; list && *list; list++)
        json_array_append_new(array, json_string(*list));
    return array;
}

json_t *layer_row_json(const struct layer_row *rows, size_t index)
{
    const struct layer_row *row = &rows[index];
    json_t *object = json_object();
    json_object_set_new(object, "name", json_string(row->name));
    json_object_set_new(object, "class", json_string(row->class_name));
    json_object_set_new(object, "impl",
                        row->impl && *row->impl ? json_string(row->impl) : json_null());
    if (row->precision)
        json_object_set_new(object, "precision", json_string(row->precision));
    json_object_set_new(object, "time_ms", json_number(row->time_ms));
    json_object_set_new(object, "share", json_number(row->share));
    bool whole = row->kernels == floor(row->kernels) && row->kernels < 1e15;
    json_object_set_new(object, "kernels",
                        whole ? json_integer((json_int_t)row->kernels) : json_number(row->kernels));
    json_object_set_new(object, "flops", json_bytes(row->flops));
    json_object_set_new(object, "bytes", json_bytes(row->bytes));
    if (row->fused_into >= 0)
        json_object_set_new(object, "fused_into", json_string(rows[row->fused_into].name));
    if (row->fused && *row->fused)
        json_object_set_new(object, "fused", words(row->fused));
    return object;
}

struct order {
    const struct layer_row *rows;
    const char *by;
};

/* Larger first; what is not known goes last; equal ones keep the model's order. */
static int compare(const void *a, const void *b, void *context)
{
    const struct order *order = context;
    size_t ia = *(const size_t *)a, ib = *(const size_t *)b;
    const struct layer_row *ra = &order->rows[ia], *rb = &order->rows[ib];
    double va = 0, vb = 0;
    if (strcmp(order->by, "name") == 0) {
        int difference = strcmp(ra->label, rb->label);
        if (difference != 0)
            return difference;
    } else if (strcmp(order->by, "time") == 0) {
        va = isfinite(ra->time_ms) ? ra->time_ms : -1;
        vb = isfinite(rb->time_ms) ? rb->time_ms : -1;
    } else if (strcmp(order->by, "flops") == 0) {
        va = (double)ra->flops;
        vb = (double)rb->flops;
    } else if (strcmp(order->by, "bytes") == 0) {
        va = (double)ra->bytes;
        vb = (double)rb->bytes;
    }
    if (va != vb)
        return va > vb ? -1 : 1;
    return ia < ib ? -1 : ia > ib;
}

size_t layer_rows_sort(const struct layer_row *rows, size_t count, const char *by, size_t *order)
{
    size_t heads = 0;
    for (size_t i = 0; i < count; i++)
        if (rows[i].fused_into < 0)
            order[heads++] = i;
    struct order context = {rows, by};
    qsort_r(order, heads, sizeof *order, compare, &context);
    return heads;
}
