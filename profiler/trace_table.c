/* See trace_table.h. */
#include "profiler/trace_table.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX  8192
#define KINDS_MAX 32 /* of copies and of overheads */
#define ROW_NONE  UINT32_MAX

struct sums {
    uint64_t count;
    int64_t sum_ns, min_ns, max_ns;
};

struct row {
    int op;
    uint32_t number, next; /* next: row of the same op */
    struct sums all, step;
};

struct op_info {
    int layer;
    uint64_t flops, bytes;
    char *name;
    uint32_t first; /* row */
};

struct trace_table {
    struct op_info *ops; /* [op_count + 1]; the last is of what belongs to no op */
    size_t op_count;
    struct row *rows;
    size_t row_count, row_capacity;
    uint32_t *open; /* rows of the open step */
    size_t open_count, open_capacity;
    struct record_copy copies[KINDS_MAX], step_copies[KINDS_MAX];
    struct record_overhead overheads[KINDS_MAX];
    size_t copy_count, step_copy_count, overhead_count;
    uint32_t steps;
    bool changed;
};

struct trace_table *trace_table_new(void)
{
    struct trace_table *table = xcalloc(1, sizeof *table);
    trace_table_plan(table, NULL, NULL);
    return table;
}

static void ops_free(struct trace_table *table)
{
    for (size_t i = 0; table->ops && i <= table->op_count; i++)
        free(table->ops[i].name);
    free(table->ops);
}

void trace_table_free(struct trace_table *table)
{
    if (!table)
        return;
    ops_free(table);
    free(table->rows);
    free(table->open);
    free(table);
}

void trace_table_clear(struct trace_table *table)
{
    for (size_t i = 0; i <= table->op_count; i++)
        table->ops[i].first = ROW_NONE;
    table->row_count = table->open_count = 0;
    table->copy_count = table->step_copy_count = table->overhead_count = 0;
    table->steps = 0;
    table->changed = false;
}

void trace_table_plan(struct trace_table *table, const struct graph *graph,
                      const char *const *impls)
{
    ops_free(table);
    size_t layers = graph ? graph->model->layer_count : 0;
    table->op_count = graph ? graph->op_count : 0;
    table->ops = xcalloc(table->op_count + 1, sizeof *table->ops);
    for (size_t i = 0; i < table->op_count; i++) {
        const struct op *op = &graph->ops[i];
        table->ops[i] = (struct op_info){
            .layer = op->layer >= 0 && (size_t)op->layer < layers ? op->layer : -1,
            .flops = op->flops,
            .bytes = op->bytes,
            .name = xstrdup(impls && impls[i] ? impls[i] : ""),
        };
    }
    table->ops[table->op_count] = (struct op_info){
        .layer = -1, .flops = RECORD_UNKNOWN, .bytes = RECORD_UNKNOWN, .name = xstrdup("")};
    trace_table_clear(table);
}

void trace_table_names(struct trace_table *table, const char *const *names)
{
    for (size_t i = 0; names && i < table->op_count; i++) {
        if (!names[i])
            continue;
        free(table->ops[i].name);
        table->ops[i].name = xstrdup(names[i]);
    }
}

static uint32_t row_of(struct trace_table *table, int op, uint32_t number)
{
    bool known = op >= 0 && (size_t)op < table->op_count;
    struct op_info *info = &table->ops[known ? (size_t)op : table->op_count];
    for (uint32_t i = info->first; i != ROW_NONE; i = table->rows[i].next) {
        if (table->rows[i].number == number)
            return i;
    }
    if (table->row_count == ROWS_MAX)
        return ROW_NONE;
    if (table->row_count == table->row_capacity) {
        table->row_capacity = table->row_capacity ? table->row_capacity * 2 : 128;
        table->rows = xrealloc(table->rows, table->row_capacity * sizeof *table->rows);
    }
    uint32_t made = (uint32_t)table->row_count++;
    table->rows[made] = (struct row){.op = known ? op : -1, .number = number, .next = info->first};
    info->first = made;
    return made;
}

static void sums_add(struct sums *to, const struct sums *from)
{
    if (to->count == 0 || from->min_ns < to->min_ns)
        to->min_ns = from->min_ns;
    if (to->count == 0 || from->max_ns > to->max_ns)
        to->max_ns = from->max_ns;
    to->count += from->count;
    to->sum_ns += from->sum_ns;
}

void trace_table_kernel(struct trace_table *table, int op, uint32_t number, int64_t duration_ns)
{
    uint32_t index = row_of(table, op, number);
    if (index == ROW_NONE)
        return;
    struct row *row = &table->rows[index];
    if (row->step.count == 0) {
        if (table->open_count == table->open_capacity) {
            table->open_capacity = table->open_capacity ? table->open_capacity * 2 : 128;
            table->open = xrealloc(table->open, table->open_capacity * sizeof *table->open);
        }
        table->open[table->open_count++] = index;
    }
    sums_add(&row->step, &(struct sums){1, duration_ns, duration_ns, duration_ns});
}

static void copies_add(struct record_copy *copies, size_t *count, const struct record_copy *copy)
{
    size_t at = 0;
    while (at < *count && copies[at].detail != copy->detail)
        at++;
    if (at == KINDS_MAX)
        return;
    if (at == *count)
        copies[(*count)++] = (struct record_copy){.detail = copy->detail};
    copies[at].count += copy->count;
    copies[at].bytes += copy->bytes;
    copies[at].sum_ns += copy->sum_ns;
}

void trace_table_copy(struct trace_table *table, uint32_t detail, uint64_t bytes,
                      int64_t duration_ns)
{
    copies_add(table->step_copies, &table->step_copy_count,
               &(struct record_copy){detail, 1, bytes, duration_ns});
}

void trace_table_overhead(struct trace_table *table, uint32_t kind, int64_t duration_ns)
{
    size_t at = 0;
    while (at < table->overhead_count && table->overheads[at].kind != kind)
        at++;
    if (at == KINDS_MAX)
        return;
    if (at == table->overhead_count)
        table->overheads[table->overhead_count++] = (struct record_overhead){.kind = kind};
    table->overheads[at].count++;
    table->overheads[at].sum_ns += duration_ns;
    table->changed = true;
}

void trace_table_step(struct trace_table *table, bool keep)
{
    for (size_t i = 0; i < table->open_count; i++) {
        struct row *row = &table->rows[table->open[i]];
        if (keep)
            sums_add(&row->all, &row->step);
        row->step = (struct sums){.count = 0};
    }
    for (size_t i = 0; keep && i < table->step_copy_count; i++)
        copies_add(table->copies, &table->copy_count, &table->step_copies[i]);
    table->open_count = table->step_copy_count = 0;
    table->steps += keep;
    table->changed = table->changed || keep;
}

bool trace_table_changed(const struct trace_table *table)
{
    return table->changed;
}

void trace_table_encode(struct trace_table *table, struct record_trace *head,
                        const struct gpu_trace *trace, struct record_writer *writer)
{
    head->steps = table->steps;
    head->copy_count = (uint32_t)table->copy_count;
    head->overhead_count = (uint32_t)table->overhead_count;
    head->kernel_count = 0;
    for (size_t i = 0; i < table->row_count; i++)
        head->kernel_count += table->rows[i].all.count > 0;
    record_put_trace(writer, head);
    for (size_t i = 0; i < table->copy_count; i++)
        record_put_copy(writer, &table->copies[i]);
    for (size_t i = 0; i < table->overhead_count; i++)
        record_put_overhead(writer, &table->overheads[i]);
    for (size_t i = 0; i < table->row_count; i++) {
        const struct row *row = &table->rows[i];
        if (row->all.count == 0)
            continue;
        const struct op_info *info = &table->ops[row->op >= 0 ? (size_t)row->op : table->op_count];
        struct record_kernel kernel = {
            .layer = info->layer,
            .op = row->op,
            .count = row->all.count,
            .sum_ns = row->all.sum_ns,
            .min_ns = row->all.min_ns,
            .max_ns = row->all.max_ns,
            .flops = info->flops,
            .bytes = info->bytes,
        };
        if (row->number == 0 || !trace || !trace->kernel ||
            !trace->kernel(trace->context, row->number, &kernel.kernel))
            kernel.kernel = (struct gpu_kernel){.name = info->name};
        record_put_kernel(writer, &kernel);
    }
    table->changed = false;
}
