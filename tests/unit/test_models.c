/* Models that Keras wrote, against outputs that Keras computed in float64. */
#include "support/hostile.h"
#include "tests/support/modelcheck.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TOLERANCE 1e-5

/* model file, file with its inputs and outputs */
static const char *const MODELS[][2] = {
    {"models/GRU_before.h5", "models/GRU_before.io.h5"},
    {"models/lstm_composed.keras", "models/lstm_composed.io.h5"},
    {"models/gru_composed.keras", "models/gru_composed.io.h5"},
    {"models/gru_before_composed.h5", "models/gru_before_composed.io.h5"},
    {"models/td_sequential.h5", "models/td_sequential.io.h5"},
    {"models/td_functional.keras", "models/td_functional.io.h5"},
    {"models/convlstm_back.keras", "models/convlstm_back.io.h5"},
    {"models/bi_own_backward.h5", "models/bi_own_backward.io.h5"},
    {"models/stacked_masked.keras", "models/stacked_masked.io.h5"},
    {"models/bi_initial.keras", "models/bi_initial.io.h5"},
    {"models/gru_unroll_initial.h5", "models/gru_unroll_initial.io.h5"},
    {"models/convlstm1d.h5", "models/convlstm1d.io.h5"},
    {"models/convlstm2d_v_s2.keras", "models/convlstm2d_v_s2.io.h5"},
    {"models/LSTM_bi_masked.h5", "models/LSTM_bi_masked.io.h5"},
    {"models/LSTM_hs_relu.keras", "models/LSTM_hs_relu.io.h5"},
    {"models/gptq.keras", "models/gptq.io.h5"},
    {"models/gptq.h5", "models/gptq.io.h5"},
    {"models/int8.h5", "models/int8.io.h5"},
    {"models/integers.keras", "models/integers.io.h5"},
    {"models/windows.keras", "models/windows.io.h5"},
    {"models/sharded", "models/sharded.io.h5"},
    {"models/int8.keras", "models/int8.io.h5"},
    {"models/int4.h5", "models/int4.io.h5"},
    {"models/int4.keras", "models/int4.io.h5"},
    {"models/int4_blocks.h5", "models/int4_blocks.io.h5"},
    {"models/int4_blocks.keras", "models/int4_blocks.io.h5"},
    {"models/int4_inputs.keras", "models/int4_inputs.io.h5"},
    {"models/float8.h5", "models/float8.io.h5"},
    {"models/float8.keras", "models/float8.io.h5"},
    {"models/lstm_encdec.h5", "models/lstm_encdec.io.h5"},
    {"models/masking_lstm.keras", "models/masking_lstm.io.h5"},
    {"models/rnn_stack.keras", "models/rnn_stack.io.h5"},
    {"models/act_layer_in_conv.keras", "models/act_layer_in_conv.io.h5"},
    {"models/adaptive_pools.keras", "models/adaptive_pools.io.h5"},
    {"models/att_options.h5", "models/att_options.io.h5"},
    {"models/categories.keras", "models/categories.io.h5"},
    {"models/conv2dT_same_s2_k3.h5", "models/conv2dT_same_s2_k3.io.h5"},
    {"models/discret.h5", "models/discret.io.h5"},
    {"models/dwconv2d_m3_s2.h5", "models/dwconv2d_m3_s2.io.h5"},
    {"models/einsum_dense.keras", "models/einsum_dense.io.h5"},
    {"models/embed.keras", "models/embed.io.h5"},
    {"models/gap1d_masked.h5", "models/gap1d_masked.io.h5"},
    {"models/gn2.keras", "models/gn2.io.h5"},
    {"models/gqa_options.h5", "models/gqa_options.io.h5"},
    {"models/hswish_v3.keras", "models/hswish_v3.io.h5"},
    {"models/ln_ax12.h5", "models/ln_ax12.io.h5"},
    {"models/mha_axes2.h5", "models/mha_axes2.io.h5"},
    {"models/mha_masks.h5", "models/mha_masks.io.h5"},
    {"models/mha_steps.h5", "models/mha_steps.io.h5"},
    {"models/nested_twice.h5", "models/nested_twice.io.h5"},
    {"models/norm_adapt.keras", "models/norm_adapt.io.h5"},
    {"models/ops_activations.keras", "models/ops_activations.io.h5"},
    {"models/ops_attention.h5", "models/ops_attention.io.h5"},
    {"models/ops_axes.h5", "models/ops_axes.io.h5"},
    {"models/ops_einsum.keras", "models/ops_einsum.io.h5"},
    {"models/ops_elementwise.h5", "models/ops_elementwise.io.h5"},
    {"models/ops_moves.h5", "models/ops_moves.io.h5"},
    {"models/ops_nn.h5", "models/ops_nn.io.h5"},
    {"models/ops_products.keras", "models/ops_products.io.h5"},
    {"models/pixels.keras", "models/pixels.io.h5"}, /* uint8 */
    {"models/preprocessing.keras", "models/preprocessing.io.h5"},
    {"models/relu_full.h5", "models/relu_full.io.h5"},
    {"models/se_block.h5", "models/se_block.io.h5"},
    {"models/resizes.keras", "models/resizes.io.h5"},
    {"models/sepconv2d.keras", "models/sepconv2d.io.h5"},
    {"models/softmax_ax12.h5", "models/softmax_ax12.io.h5"},
    {"models/specnorm.h5", "models/specnorm.io.h5"},
    {"models/training.keras", "models/training.io.h5"},
    {"models/masked_scores.keras", "models/masked_scores.io.h5"},
    {"models/up2_bilinear.h5", "models/up2_bilinear.io.h5"},
    {"keras/corner_sampling.h5", "models/corner_sampling.io.h5"},
    {"keras/integer_lookup.h5", "models/integer_lookup.io.h5"},
    {"keras/keras1_functional.h5", "models/keras1_functional.io.h5"},
    {"keras/theano.h5", "models/theano.io.h5"},
    {"keras/tf_axes.h5", "models/tf_axes.io.h5"},
    {"keras/tf_elementwise.h5", "models/tf_elementwise.io.h5"},
    {"keras/tf_nodes.json", "models/tf_nodes.io.h5"},
    {"keras/tf_images.h5", "models/tf_images.io.h5"},
    {"keras/tf_local.h5", "models/tf_local.io.h5"},
    {"keras/tf_time_major.h5", "models/tf_time_major.io.h5"},
    {"keras/tf_training.h5", "models/tf_training.io.h5"},
    {"keras/keras1_sequential.h5", "models/keras1_sequential.io.h5"},
    {"keras/local.h5", "models/local.io.h5"},
    {"keras/nested_frozen.h5", "models/nested_frozen.io.h5"},
    {"keras/nested_frozen.keras", "models/nested_frozen.io.h5"},
    {"keras/seq_plain.h5", "models/seq_plain.io.h5"},
    {"keras/seq_plain.keras", "models/seq_plain.io.h5"},
    {"keras/seq_plain_lzf.h5", "models/seq_plain.io.h5"},
    {"keras/shared_layer.h5", "models/shared_layer.io.h5"},
    {"keras/shared_layer.keras", "models/shared_layer.io.h5"},
};

static void check_all(bool fusion)
{
    for (size_t i = 0; i < sizeof MODELS / sizeof *MODELS; i++) {
        char model[256], io[256];
        struct error error = {0};
        double worst = 0;
        snprintf(model, sizeof model, "tests/data/%s", MODELS[i][0]);
        snprintf(io, sizeof io, "tests/data/%s", MODELS[i][1]);
        if (!model_check(model, io, fusion, &worst, &error))
            fail_msg("%s: E%03d %s: %s", model, (int)error.code, error.what, error.why);
        if (!(worst <= TOLERANCE))
            fail_msg("%s is off by %g", model, worst);
    }
}

static void fused_models(void **state)
{
    (void)state;
    check_all(true);
}

static void unfused_models(void **state)
{
    (void)state;
    check_all(false);
}

/* A policy that names no block means the same to Keras as blocks of -1, and is what it then writes. */
static void int4_by_its_older_name(void **state)
{
    (void)state;
    struct error error = {0};
    double worst = 0;
    const char *path = hostile_copy("tests/data/models/int4.h5", "int4.h5");
    hostile_edit_config(path, "\"int4/-1\"", "\"int4\"");
    if (!model_check(path, "tests/data/models/int4.io.h5", true, &worst, &error))
        fail_msg("E%03d %s: %s", (int)error.code, error.what, error.why);
    assert_true(worst <= TOLERANCE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_models),
        cmocka_unit_test(unfused_models),
        cmocka_unit_test(int4_by_its_older_name),
    };
    return cmocka_run_group_tests(tests, hostile_make_folder, hostile_remove_folder);
}
