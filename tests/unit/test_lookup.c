/* IntegerLookup: words, unknown words with one number or several, the mask token. The expected are
 * Keras 3.15.1's own answers. */
#include "engine/backend.h"
#include "engine/graph/graph.h"
#include "tests/support/reference.h"
#include "tests/support/tiny.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>

#define BATCH 2
#define WORDS 5

static const float X[BATCH * WORDS] = {0, 7, 1, 4, 9, 3, 100, -1, -5, 2};

static void expect(const char *options, const float *expected, size_t count)
{
    struct error error = {0};
    char text[320];
    snprintf(text, sizeof text,
             "x = Input 5\ny = IntegerLookup(x) {'vocabulary': [7, 1, 4, 9]%s}\nout y\n", options);
    struct model *model = tiny_model(text);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options graph_options = {.batch = BATCH};
    struct graph *graph = graph_lower(model, &graph_options, pool, &error);
    if (!graph)
        fail_msg("%s: %s", error.what, error.why);
    const float *const inputs[] = {X};
    double **values = reference_run(graph, inputs);
    int output = graph->outputs[0];
    assert_int_equal(shape_elements(&graph->values[output].shape), (int64_t)count);
    for (size_t i = 0; i < count; i++)
        assert_float_equal((float)values[output][i], expected[i], 1e-5);
    reference_free(graph, values);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
}

static void words_have_their_numbers(void **state)
{
    (void)state;
    static const float plain[] = {0, 1, 2, 3, 4, 0, 0, 0, 0, 0};
    static const float masked[] = {0, 2, 3, 4, 5, 1, 1, 1, 1, 1};
    expect("", plain, 10);
    expect(", 'mask_token': 0", masked, 10);
}

static void unknown_words_share_several_numbers(void **state)
{
    (void)state;
    static const float two[] = {0, 2, 3, 4, 5, 1, 0, 1, 1, 0};
    static const float masked[] = {0, 3, 4, 5, 6, 2, 1, 2, 2, 1};
    static const float three[] = {0, 4, 5, 6, 7, 1, 2, 3, 2, 3};
    expect(", 'num_oov_indices': 2", two, 10);
    expect(", 'num_oov_indices': 2, 'mask_token': 0", masked, 10);
    expect(", 'num_oov_indices': 3, 'mask_token': 0", three, 10);
}

static void the_mask_token_is_no_category(void **state)
{
    (void)state;
    static const float marked[] = {0, 1, 1, 1, 1, 1, 0, 0, 0, 0};
    static const float counted[] = {0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0};
    expect(", 'mask_token': 0, 'output_mode': 'multi_hot'", marked, 10);
    expect(", 'mask_token': 0, 'output_mode': 'count', 'num_oov_indices': 3", counted, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_have_their_numbers),
        cmocka_unit_test(unknown_words_share_several_numbers),
        cmocka_unit_test(the_mask_token_is_no_category),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
