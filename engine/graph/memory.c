#include "engine/graph/memory.h"
#include "engine/graph/op_rules.h"
#include <stdlib.h>
#include <string.h>

/* One piece of storage: a value, with those that overwrite it in place. Lifetimes are inclusive;
 * -1 is before the first op, op_count after the last. */
struct buffer {
    int value; /* the first value that lives here */
    int first, last;
    uint64_t bytes, offset;
};

struct planner {
    const struct graph *graph;
    const struct memory_options *options;
    int *first, *last; /* per storage value */
    int *buffer_of;    /* per storage value */
    struct buffer *buffers;
    size_t count;
};

static uint64_t bytes_of(const struct graph *graph, const struct memory_options *options, int value)
{
    const struct graph_value *v = &graph->values[value];
    bool real = v->dtype == DTYPE_F32 || v->dtype == DTYPE_F16 || v->dtype == DTYPE_BF16;
    size_t each = dtype_bytes(options->floats ? DTYPE_F32 : v->dtype);
    if (!v->exact && (real || options->floats))
        each = options->value_bytes ? options->value_bytes[value] : options->element_bytes;
    return (uint64_t)shape_elements(&v->shape) * each;
}

static void read_at(struct planner *p, int value, int op)
{
    int storage = graph_storage(p->graph, value);
    if (p->last[storage] < op)
        p->last[storage] = op;
}

static void lifetimes(struct planner *p)
{
    const struct graph *graph = p->graph;
    int end = (int)graph->op_count;
    for (size_t i = 0; i < graph->value_count; i++) {
        p->first[i] = graph->values[i].producer;
        p->last[i] = graph->values[i].producer;
    }
    for (int i = 0; i < end; i++) {
        const struct op *op = &graph->ops[i];
        for (size_t j = 0; j < op->input_count; j++)
            read_at(p, op->inputs[j], i);
        for (size_t j = 0; j < op->post_count; j++) {
            if (op->posts[j].kind == POST_BINARY)
                read_at(p, op->posts[j].value, i);
        }
    }
    for (size_t i = 0; i < graph->output_count; i++)
        read_at(p, graph->outputs[i], end);
    for (size_t i = 0; i < graph->input_count && p->options->keep_inputs; i++)
        read_at(p, graph->inputs[i], end);
}

/* How often does the op read this storage? */
static int reads(const struct graph *graph, const struct op *op, int storage)
{
    int count = 0;
    for (size_t i = 0; i < op->input_count; i++)
        count += graph_storage(graph, op->inputs[i]) == storage;
    for (size_t i = 0; i < op->post_count; i++) {
        if (op->posts[i].kind == POST_BINARY)
            count += graph_storage(graph, op->posts[i].value) == storage;
    }
    return count;
}

/* May the op's output be written over this value, read by it? */
static bool may_overwrite(const struct planner *p, int index, int value)
{
    const struct graph *graph = p->graph;
    const struct op *op = &graph->ops[index];
    int storage = graph_storage(graph, value), out = op->outputs[0];
    return p->last[storage] == index && p->first[storage] < index &&
           reads(graph, op, storage) == 1 &&
           bytes_of(graph, p->options, storage) == bytes_of(graph, p->options, out) &&
           shape_elements(&graph->values[value].shape) == shape_elements(&graph->values[out].shape);
}

/* The value whose storage the op's output takes over, or -1: an input of an elementwise op, or the
 * operand of an addition right behind a convolution or matmul. */
static int overwritten(const struct planner *p, int index)
{
    const struct op *op = &p->graph->ops[index];
    if (op_elementwise(op)) {
        for (size_t i = 0; i < op->input_count; i++) {
            if (may_overwrite(p, index, op->inputs[i]))
                return op->inputs[i];
        }
    }
    /* only as the first post: then every backend can start from what lies in the output */
    bool sums = op->kind == OP_CONV || op->kind == OP_MATMUL;
    if (sums && op->post_count > 0 && op->posts[0].kind == POST_BINARY &&
        op->posts[0].binary == BINARY_ADD && may_overwrite(p, index, op->posts[0].value))
        return op->posts[0].value;
    return -1;
}

static void make_buffers(struct planner *p)
{
    const struct graph *graph = p->graph;
    for (size_t i = 0; i < graph->value_count; i++) {
        /* inputs come first in time but anywhere in the list; producers are in order */
        if (graph->values[i].producer >= 0 || graph->values[i].alias_of >= 0)
            continue;
        p->buffer_of[i] = (int)p->count;
        p->buffers[p->count++] = (struct buffer){.value = (int)i,
                                                 .first = -1,
                                                 .last = p->last[i],
                                                 .bytes = bytes_of(graph, p->options, (int)i)};
    }
    for (int i = 0; i < (int)graph->op_count; i++) {
        int out = graph->ops[i].outputs[0];
        if (graph->values[out].alias_of >= 0)
            continue;
        int over = overwritten(p, i);
        if (over >= 0) {
            int buffer = p->buffer_of[graph_storage(graph, over)];
            p->buffer_of[out] = buffer;
            p->buffers[buffer].last = p->last[out];
            continue;
        }
        for (size_t j = 0; j < graph->ops[i].output_count; j++) {
            out = graph->ops[i].outputs[j];
            p->buffer_of[out] = (int)p->count;
            p->buffers[p->count++] = (struct buffer){.value = out,
                                                     .first = p->first[out],
                                                     .last = p->last[out],
                                                     .bytes = bytes_of(graph, p->options, out)};
        }
    }
}

static int larger_first(const void *a, const void *b)
{
    const struct buffer *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->value - y->value;
}

static int lower_first(const void *a, const void *b)
{
    const struct buffer *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static uint64_t round_up(uint64_t bytes, uint64_t alignment)
{
    return (bytes + alignment - 1) & ~(alignment - 1);
}

/* Largest first, each at the lowest offset that is free over its whole life. Returns the arena. */
static uint64_t place(struct buffer *sorted, size_t count, uint64_t alignment)
{
    struct buffer **rivals = xmalloc((count + 1) * sizeof *rivals);
    uint64_t arena = 0;
    for (size_t i = 0; i < count; i++) {
        struct buffer *buffer = &sorted[i];
        size_t met = 0;
        for (size_t j = 0; j < i; j++) {
            if (sorted[j].first <= buffer->last && buffer->first <= sorted[j].last)
                rivals[met++] = &sorted[j];
        }
        qsort(rivals, met, sizeof(struct buffer *), lower_first);
        uint64_t at = 0;
        for (size_t j = 0; j < met; j++) {
            if (rivals[j]->offset >= at + buffer->bytes)
                break;
            uint64_t end = round_up(rivals[j]->offset + rivals[j]->bytes, alignment);
            at = end > at ? end : at;
        }
        buffer->offset = at;
        if (round_up(at + buffer->bytes, alignment) > arena)
            arena = round_up(at + buffer->bytes, alignment);
    }
    free(rivals);
    return arena;
}

static void find_peak(const struct planner *p, struct memory_plan *plan)
{
    int end = (int)p->graph->op_count;
    uint64_t *live = xcalloc((size_t)end + 3, sizeof *live), now = 0;
    /* a difference array over time -1 .. end */
    for (size_t i = 0; i < p->count; i++) {
        live[p->buffers[i].first + 1] += p->buffers[i].bytes;
        live[p->buffers[i].last + 2] -= p->buffers[i].bytes;
    }
    for (int t = -1; t <= end; t++) {
        now += live[t + 1];
        if (now > plan->peak_live_bytes) {
            plan->peak_live_bytes = now;
            plan->peak_op = t < 0 ? 0 : t >= end ? end - 1 : t;
        }
    }
    free(live);
}

struct memory_plan *memory_plan_new(const struct graph *graph, const struct memory_options *options,
                                    struct error *error)
{
    size_t values = graph->value_count;
    uint64_t total = 0;
    for (size_t i = 0; i < values; i++) {
        uint64_t bytes = bytes_of(graph, options, (int)i);
        if (bytes > UINT64_MAX / 4 - total) {
            error_set(error, ERROR_MEMORY, "memory plan", "the activations pass 2^62 bytes");
            return NULL;
        }
        total += bytes;
    }
    struct memory_plan *plan = xcalloc(1, sizeof *plan);
    plan->offsets = xcalloc(values + 1, sizeof *plan->offsets);
    plan->sizes = xcalloc(values + 1, sizeof *plan->sizes);
    struct planner p = {.graph = graph, .options = options};
    p.first = xmalloc((values + 1) * sizeof *p.first);
    p.last = xmalloc((values + 1) * sizeof *p.last);
    p.buffer_of = xcalloc(values + 1, sizeof *p.buffer_of);
    p.buffers = xmalloc((values + 1) * sizeof *p.buffers);
    lifetimes(&p);
    make_buffers(&p);
    find_peak(&p, plan);

    struct buffer *sorted = xmalloc((p.count + 1) * sizeof *sorted);
    memcpy(sorted, p.buffers, p.count * sizeof *sorted);
    qsort(sorted, p.count, sizeof *sorted, larger_first);
    plan->arena_bytes = place(sorted, p.count, options->alignment);
    for (size_t i = 0; i < p.count; i++)
        p.buffers[p.buffer_of[sorted[i].value]].offset = sorted[i].offset;
    for (size_t i = 0; i < values; i++) {
        int storage = graph_storage(graph, (int)i);
        plan->offsets[i] = p.buffers[p.buffer_of[storage]].offset;
        plan->sizes[i] = storage == (int)i ? bytes_of(graph, options, (int)i) : 0;
    }
    free(sorted);
    free(p.first);
    free(p.last);
    free(p.buffer_of);
    free(p.buffers);
    return plan;
}

void memory_plan_free(struct memory_plan *plan)
{
    if (!plan)
        return;
    free(plan->offsets);
    free(plan->sizes);
    free(plan);
}

size_t memory_plan_live(const struct memory_plan *plan, const struct graph *graph, int op,
                        int *values, size_t capacity)
{
    size_t count = 0;
    int *last = xmalloc((graph->value_count + 1) * sizeof *last);
    for (size_t i = 0; i < graph->value_count; i++)
        last[i] = graph->values[i].producer;
    for (int i = 0; i < (int)graph->op_count; i++) {
        const struct op *at = &graph->ops[i];
        for (size_t j = 0; j < at->input_count; j++)
            last[graph_storage(graph, at->inputs[j])] = i;
        for (size_t j = 0; j < at->post_count; j++) {
            if (at->posts[j].kind == POST_BINARY)
                last[graph_storage(graph, at->posts[j].value)] = i;
        }
    }
    for (size_t i = 0; i < graph->output_count; i++)
        last[graph_storage(graph, graph->outputs[i])] = (int)graph->op_count;
    for (size_t i = 0; i < graph->value_count; i++) {
        const struct graph_value *v = &graph->values[i];
        if (v->alias_of >= 0 || v->producer > op || last[i] < op)
            continue;
        size_t at = count < capacity ? count : capacity;
        while (at > 0 && plan->sizes[values[at - 1]] < plan->sizes[i])
            at--;
        if (at < capacity) {
            size_t moved = (count < capacity ? count : capacity - 1) - at;
            memmove(values + at + 1, values + at, moved * sizeof *values);
            values[at] = (int)i;
            count += count < capacity;
        }
    }
    free(last);
    return count;
}
