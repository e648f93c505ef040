/* Layers that turn numbers into categories, and categories into numbers a network can take.
 *
 * All of them compare: a new last axis holds one comparison for each boundary, token or word, and
 * is then summed. Categories travel as float32, which is exact up to 2^24. */
#include "engine/keras/layers/table.h"
#include <stdio.h>
#include <string.h>

#define EXACT_MAX (1 << 24)

/* (..., n) -> (..., n, count): every number `count` times. */
static int repeated(struct call *call, int x, int64_t count)
{
    if (x < 0)
        return -1;
    struct shape shape = *call_shape(call, x);
    if (shape.rank == TENSOR_RANK_MAX) {
        call_misfit(call, "its input has too many dimensions");
        return -1;
    }
    shape.dims[shape.rank++] = 1;
    struct op_slice slice = {.begin = {0}};
    for (int i = 0; i < shape.rank; i++) {
        slice.size[i] = shape.dims[i];
        slice.step[i] = 1;
    }
    slice.size[shape.rank - 1] = count;
    slice.step[shape.rank - 1] = 0;
    int y = emit_reshape(call->low, x, &shape);
    return count == 1 ? y : emit_slice(call->low, y, &slice);
}

static int without_last_axis(struct call *call, int x)
{
    if (x < 0)
        return -1;
    struct shape shape = *call_shape(call, x);
    shape.rank--;
    return emit_reshape(call->low, x, &shape);
}

static int reduce_axis(struct call *call, int x, int axis, enum reduce_function function)
{
    bool axes[TENSOR_RANK_MAX] = {false};
    axes[axis] = true;
    return x < 0 ? -1 : emit_reduce(call->low, x, function, axes, false);
}

/* Each number of x against each of `count` others: those of a list, or 0 .. count-1 without one.
 * (..., n) -> (..., n, count) */
static int compare(struct call *call, int x, enum binary_function function, const json_t *list,
                   int64_t count)
{
    x = repeated(call, x, count);
    if (x < 0)
        return -1;
    char role[48];
    struct shape shape = {.rank = call_shape(call, x)->rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = 1;
    shape.dims[shape.rank - 1] = count;
    snprintf(role, sizeof role, "%s %lld", list ? "list" : "numbers", (long long)count);
    float *data;
    const struct constant *others = call_constant(call, role, &shape, &data);
    for (int64_t i = 0; others && data && i < count; i++)
        data[i] = list ? (float)json_number_value(json_array_get(list, (size_t)i)) : (float)i;
    return emit_binary_constant(call->low, function, x, others, false);
}

static int one_hot(struct call *call, int x, int64_t count)
{
    return compare(call, x, BINARY_EQUAL, NULL, count);
}

/* Keras's encode_categorical_inputs: category numbers below `count` in one of its output modes. */
static int encode(struct call *call, int x, const char *mode, int64_t count)
{
    if (x < 0 || strcmp(mode, "int") == 0)
        return x;
    int rank = call_shape(call, x)->rank;
    if (strcmp(mode, "one_hot") == 0) {
        bool column = rank > 1 && call_shape(call, x)->dims[rank - 1] == 1;
        return one_hot(call, column ? without_last_axis(call, x) : x, count);
    }
    int y = one_hot(call, x, count);
    if (strcmp(mode, "multi_hot") == 0 || strcmp(mode, "binary") == 0)
        return rank > 1 ? reduce_axis(call, y, rank - 1, REDUCE_MAX) : y;
    if (strcmp(mode, "count") != 0) {
        call_refuse(call, "output_mode '%.20s' is not supported", mode);
        return -1;
    }
    if (call->input_count > 1 && y >= 0)
        y = emit_binary(call->low, BINARY_MULTIPLY, y, repeated(call, call->inputs[1], 1));
    return rank > 1 ? reduce_axis(call, y, 1, REDUCE_SUM) : y;
}

/* A value of its own, also where nothing was to be computed. */
static bool give(struct call *call, int y)
{
    if (y >= 0 && y == call_input(call, 0)) {
        struct shape shape = *call_shape(call, y);
        y = emit_reshape(call->low, y, &shape);
    }
    return call_return(call, y);
}

bool lower_category_encoding(struct call *call)
{
    int64_t count = config_int(call, "num_tokens", 1, 1);
    if (config_bool(call, "sparse", false))
        return call_refuse(call, "sparse tensors are not supported");
    return give(call, encode(call, call_input(call, 0),
                             config_string(call, "output_mode", "multi_hot"), count));
}

/* The number of boundaries that are not above x. */
bool lower_discretization(struct call *call)
{
    const json_t *boundaries = json_object_get(call->config, "bin_boundaries");
    int64_t count = (int64_t)json_array_size(boundaries);
    if (config_bool(call, "sparse", false))
        return call_refuse(call, "sparse tensors are not supported");
    if (count == 0)
        return call_misfit(call, "it was never adapted: it has no 'bin_boundaries'");
    int y = compare(call, call_input(call, 0), BINARY_GREATER_EQUAL, boundaries, count);
    if (y < 0)
        return false;
    y = reduce_axis(call, y, call_shape(call, y)->rank - 1, REDUCE_SUM);
    return give(call, encode(call, y, config_string(call, "output_mode", "int"), count + 1));
}

/* What the words of a vocabulary give: word i gives i + first. As a column (words, 1) of the
 * differences to `unknown`. */
static const struct constant *word_numbers(struct call *call, int64_t count, int64_t first,
                                           int64_t unknown)
{
    struct shape shape = {.rank = 2, .dims = {count, 1}};
    float *data;
    const struct constant *numbers = call_constant(call, "word numbers", &shape, &data);
    for (int64_t i = 0; numbers && data && i < count; i++)
        data[i] = (float)(i + first - unknown);
    return numbers;
}

/* What unknown words get beyond the first of their numbers: the remainder, and words nothing.
 * (keras/src/layers/preprocessing/index_lookup.py, oov_method "floormod") */
static int spread_unknown(struct call *call, int x, int words, int64_t count)
{
    if (count == 1 || words < 0)
        return -1;
    int known = reduce_axis(call, words, call_shape(call, words)->rank - 1, REDUCE_MAX);
    const struct constant *divisor =
        lowering_number(call->low, (double)count, call_shape(call, x)->rank);
    int rest = emit_binary_constant(call->low, BINARY_MODULO, x, divisor, false);
    return emit_binary(call->low, BINARY_MULTIPLY, rest, emit_linear(call->low, known, -1, 1));
}

/* Words are integers. The mask token gives 0 and the rest come after it; where categories are counted
 * or marked, it is none. What is unknown comes before the words. */
bool lower_integer_lookup(struct call *call)
{
    const json_t *vocabulary = json_object_get(call->config, "vocabulary");
    const json_t *mask_token = json_object_get(call->config, "mask_token");
    const char *mode = config_string(call, "output_mode", "int");
    int64_t count = (int64_t)json_array_size(vocabulary);
    int64_t unknown_count = config_int(call, "num_oov_indices", 1, 0);
    bool masked = json_is_integer(mask_token);
    int64_t first = masked && strcmp(mode, "int") == 0;
    if (config_bool(call, "sparse", false) || config_bool(call, "invert", false))
        return call_refuse(call, "inverted and sparse lookups are not supported");
    if (count == 0)
        return call_refuse(call, "its vocabulary does not stand in the configuration");
    if (unknown_count < 1)
        return call_refuse(call, "a lookup without a number for unknown words is not supported");
    if (unknown_count > 1 && strcmp(config_string(call, "oov_method", "floormod"), "floormod") != 0)
        return call_refuse(call, "unknown words that are hashed are not supported");
    for (size_t i = 0; i < (size_t)count; i++) {
        const json_t *given = json_array_get(vocabulary, i);
        json_int_t word = json_integer_value(given);
        if (!json_is_integer(given))
            return call_refuse(call, "its vocabulary holds what is no integer");
        if (word > EXACT_MAX || word < -EXACT_MAX)
            return call_refuse(call, "words above 2^24 are not supported");
    }
    const struct constant *numbers = word_numbers(call, count, first + unknown_count, first);
    int x = call_input(call, 0), words = compare(call, x, BINARY_EQUAL, vocabulary, count);
    if (!numbers || words < 0)
        return false;
    int y = without_last_axis(call, emit_matmul(call->low, words, numbers, NULL));
    int rest = spread_unknown(call, x, words, unknown_count);
    if (rest >= 0)
        y = emit_binary(call->low, BINARY_ADD, y, rest);
    if (masked) {
        int real = lower_binary_number(call, BINARY_NOT_EQUAL, x,
                                       (double)json_integer_value(mask_token), false);
        y = emit_binary(call->low, BINARY_MULTIPLY, emit_linear(call->low, y, 1, 1), real);
        y = first ? y : emit_linear(call->low, y, 1, -1);
    }
    return give(call, encode(call, y, mode, first + unknown_count + count));
}
