/* How each value of a plan is stored. */
#include "engine/cuda/plan.h"

/* What a value is read as. */
struct uses {
    bool any;
    bool elementwise; /* only by chains of ours and as indices, which take any type */
    bool free_type;   /* the same, or as an output of the model */
    bool convolved;   /* only as the x of plain convolutions */
};

/* A convolution that takes x with more channels than it has: not depthwise or grouped, and not one
 * that a product without zeros does (see step_conv()). */
static bool takes_wider(const struct op *op)
{
    return op->kind == OP_CONV && op->conv.groups <= 1 && !op->conv.transposed;
}

static bool is_elementwise(const struct op *op)
{
    return op->kind == OP_AFFINE || op->kind == OP_UNARY || op->kind == OP_BINARY;
}

/* Does a step take this operand in whatever type it is stored? */
static bool takes_any_type(const struct op *op, size_t input)
{
    bool copy = op->kind == OP_SELECT || op->kind == OP_RESHAPE; /* a chain, too */
    bool indices =
        op->kind == OP_GATHER && op->gather.indices == NULL && input + 1 == op->input_count;
    return is_elementwise(op) || copy || indices;
}

static void find_uses(const struct graph *graph, struct uses *uses)
{
    for (size_t i = 0; i < graph->value_count; i++) {
        uses[i] = (struct uses){.elementwise = true, .free_type = true, .convolved = true};
    }
    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        for (size_t j = 0; j < op->input_count; j++) {
            struct uses *use = &uses[op->inputs[j]];
            use->any = true;
            use->elementwise &= takes_any_type(op, j);
            use->free_type &= takes_any_type(op, j);
            use->convolved &= takes_wider(op) && j == 0;
        }
        for (size_t j = 0; j < op->post_count; j++) {
            if (op->posts[j].kind == POST_BINARY) {
                struct uses *use = &uses[op->posts[j].value];
                use->any = true;
                use->convolved = false;
                use->elementwise = use->free_type = false; /* a library may take it */
            }
        }
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        uses[graph->outputs[i]].convolved = false;
        uses[graph->outputs[i]].elementwise = false;
    }
    for (size_t i = 0; i < graph->value_count; i++) {
        if (graph->values[i].alias_of >= 0) {
            struct uses *use = &uses[graph_storage(graph, (int)i)];
            uses[i].convolved = uses[i].elementwise = uses[i].free_type = false;
            use->convolved = use->elementwise = use->free_type = false;
        }
    }
}

/* Can what makes a value write rows that are longer than its channels? */
static bool makes_wider(const struct graph *graph, int value)
{
    int producer = graph->values[value].producer;
    if (producer < 0) {
        return true; /* the conversion from the host's form */
    }
    const struct op *op = &graph->ops[producer];
    if (op->kind == OP_PAD) {
        int last = graph->values[value].shape.rank - 1;
        return op->pad.value == 0.0f && op->post_count == 0 && op->pad.before[last] == 0 &&
               op->pad.after[last] == 0;
    }
    /* one chain with a single stage each, so that all of it is one launch */
    return is_elementwise(op) && op->post_count == 0;
}

static int64_t wide_channels(const struct plan *plan, int64_t channels)
{
    int64_t wanted = plan->dtype != DTYPE_F32                    ? 8
                     : plan->options.precision == PRECISION_FP32 ? 1
                                                                 : 4;
    return channels < wanted ? wanted : channels;
}

/* Whole numbers that half types would round: places in a row, and what is looked up with them. */
static void keep_whole_numbers(struct plan *plan, const struct uses *uses)
{
    const struct graph *graph = plan->graph;
    struct graph_value *values = plan->local.values;

    for (size_t i = 0; i < graph->op_count; i++) {
        const struct op *op = &graph->ops[i];
        int value = op->outputs[0];
        if (op->kind == OP_TOP && op->top.indices && op->post_count == 0 && uses[value].free_type) {
            values[value].exact = true; /* four bytes, says the memory planner too */
        }
    }
    for (size_t i = 0; i < graph->value_count; i++) {
        if (values[i].exact && plan->storage[i] == plan->dtype) {
            plan->storage[i] = DTYPE_F32;
        }
    }
}

void storage_choose(struct plan *plan)
{
    const struct graph *graph = plan->graph;
    struct graph_value *values = plan->local.values;
    struct uses *uses = xcalloc(graph->value_count + 1, sizeof *uses);

    find_uses(graph, uses);
    for (size_t i = 0; i < graph->value_count; i++) {
        plan->storage[i] = plan->dtype;
        values[i].dtype = DTYPE_F32; /* counted as the plan's type by the memory planner */
    }
    for (size_t i = 0; i < graph->input_count; i++) {
        int value = graph->inputs[i];
        enum dtype dtype = graph->values[value].dtype;
        bool real =
            dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
        if (uses[value].any && uses[value].elementwise) {
            plan->storage[value] = real ? DTYPE_F32 : dtype;
            /* the planner has no word for a real type other than the plan's: four bytes are four */
            values[value].dtype = !real ? dtype : plan->dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_I32;
        }
    }
    keep_whole_numbers(plan, uses);
    for (size_t i = 0; i < graph->value_count; i++) {
        struct shape *shape = &values[i].shape;
        int last = shape->rank - 1;
        if (shape->rank >= 3 && uses[i].any && uses[i].convolved && makes_wider(graph, (int)i)) {
            shape->dims[last] = wide_channels(plan, shape->dims[last]);
        }
    }
    free(uses);
}
