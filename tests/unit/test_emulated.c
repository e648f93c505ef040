/* The CUDA backend without a GPU: its own kernels and plans on the host (tests/emulator), held
 * against the plain reference by the very program that does so on a GPU, tests/gpu/test_cuda_ops.c.
 * Memory is full of NaNs before it is written, and so is the workspace behind every product. cuDNN's
 * convolutions are not in it: the emulator has no cuDNN, and ours run instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "tests/support/cli.h"

static char folder[512]; /* of this program; beside it the module and the program of the GPU */

static int use_emulator(void **state)
{
    char module[600];
    assert_int_equal(cli_make_folder(state), 0);
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    assert_true(length > 0);
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';
    snprintf(module, sizeof module, "%s/../emulator/layertop-cuda.so", folder);
    return setenv("LAYERTOP_CUDA_MODULE", module, 1);
}

static void run(const char *arguments)
{
    char command[1600], line[1400], why[1400] = "";
    int good = 0;
    snprintf(command, sizeof command, "%s/gpu/test_cuda_ops %s 2>&1", folder, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe) != NULL) {
        good += strncmp(line, "ok ", 3) == 0;
        /* a comment tells of a plan that was not captured as a CUDA graph */
        if (strncmp(line, "ok ", 3) != 0 && why[0] == '\0') {
            snprintf(why, sizeof why, "%s", line);
        }
    }
    int status = pclose(pipe);
    if (status != 0 || why[0] != '\0' || good == 0) {
        fail_msg("%s: status %d, %d good: %s", arguments, status, good, why);
    }
}

static void ops_in_float32(void **state)
{
    static const char *const tests[] = {
        "matmul",    "pool",      "unary",  "binary",   "affine",  "softmax", "normalise",
        "reduce",    "moves",     "select", "constant", "concat",  "resize",  "reshape",
        "integers",  "network",   "tf32",   "conv_de",  "conv_gr", "conv_tr", "conv_1d",
        "recurrent", "attention", "gather", "cumulate", "top",     "pictures"};
    (void)state;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        run(tests[i]);
    }
}

static void ops_in_half(void **state)
{
    (void)state;
    run("fp16 recurrent");
    run("bf16 attention");
    run("bf16 matmul");
    run("fp16 softmax");
    run("fp16 moves");
    run("bf16 gather");
    run("fp16 cumulate");
    run("bf16 top");
    run("fp16 pictures");
}

static void ops_in_bytes(void **state)
{
    static const char *const tests[] = {"conv_1d", "conv_gr", "conv_de",
                                        "conv_tr", "matmul",  "parts"};
    char arguments[32];
    (void)state;
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        snprintf(arguments, sizeof arguments, "int8 %s", tests[i]);
        run(arguments);
    }
}

/* From the calibration to what it costs: the layers say what computes in bytes, and the labels that
 * the answers hold. Nothing runs in bytes before a calibration. */
static void digits_in_bytes(void **state)
{
    (void)state;
    cli_expect_code(NULL, "-c 'devices 0; load demo:digits; precision int8'", 1, "hint: calibrate");
    struct cli_outcome out = cli_run(
        NULL, "--json -c 'devices 0; load demo:digits; batch 4; calibrate; run 1 --warmup 0; "
              "mem; precision int8; run 1 --warmup 0; layers; mem'");
    assert_int_equal(out.code, 0);
    const json_t *evaluation = NULL, *layers = cli_object_of(&out, "layers"), *layer;
    size_t index, bytes = 0, floats = 0, memories = 0;
    double workspace[2] = {0};
    json_t *object;
    json_array_foreach(out.objects, index, object)
    {
        const char *command = json_string_value(json_object_get(object, "cmd"));
        const json_t *found = json_object_get(json_object_get(object, "data"), "evaluation");
        evaluation = found != NULL ? found : evaluation;
        if (strcmp(command, "mem") == 0 && memories < 2) {
            const json_t *device = json_array_get(cli_at(object, "data.devices"), 0);
            workspace[memories++] = cli_number_at(device, "workspace_bytes");
        }
    }
    assert_true(cli_number_at(evaluation, "accuracy") >=
                cli_number_at(evaluation, "reference_accuracy") - 0.01);
    assert_true(cli_number_at(evaluation, "agreement") > 0.98);
    assert_true(cli_number_at(evaluation, "output_error.max") > 1e-6); /* not float32's own */
    json_array_foreach(cli_at(layers, "data.layers"), index, layer)
    {
        const char *precision = json_string_value(json_object_get(layer, "precision"));
        const char *class = json_string_value(json_object_get(layer, "class"));
        bool weights = strcmp(class, "Conv2D") == 0 || strcmp(class, "Dense") == 0;
        if (precision == NULL) {
            assert_false(weights);
            continue;
        }
        assert_true((strncmp(precision, "int8", 4) == 0) == weights);
        bytes += weights;
        floats += !weights;
        if (strcmp(precision, "int8") == 0) { /* quantise, multiply, back */
            assert_string_equal(json_string_value(json_object_get(layer, "impl")), "cublaslt");
            assert_int_equal(cli_number_at(layer, "kernels"), 3);
        }
    }
    assert_int_equal(bytes, 6);
    assert_int_equal(floats, 3);
    assert_int_equal(memories, 2);
    assert_true(workspace[1] > workspace[0]); /* the rows of bytes and their sums */
    cli_outcome_free(&out);
}

/* Outputs of an op that the CPU stands in for come back each to its own place: states as well. */
static void fallback_has_several_outputs(void **state)
{
    (void)state;
    setenv("EMULATOR_LACKS_PRODUCTS", "1", 1);
    cli_expect_code(NULL, "-c 'load tests/data/models/lstm_encdec.h5' -c 'devices 0'", 4,
                    "set fallback cpu");
    struct cli_outcome out = cli_run(NULL, "--json -c 'fallback cpu' -c 'load tests/data/models/"
                                           "lstm_encdec.h5' -c 'devices 0' -c proof");
    unsetenv("EMULATOR_LACKS_PRODUCTS");
    assert_int_equal(out.code, 0);
    const json_t *proof = cli_at(cli_object_of(&out, "proof"), "data");
    const json_t *device = json_array_get(cli_at(proof, "devices"), 0);
    assert_string_equal(json_string_value(cli_at(device, "device")), "gpu:0");
    assert_int_equal(cli_number_at(device, "impls.cpu"), 2);
    assert_true(cli_number_at(device, "error") < 1e-6);
    cli_outcome_free(&out);
}

/* A machine that pins no memory runs what asks for none. */
static void pageable_memory_is_not_pinned(void **state)
{
    (void)state;
    setenv("EMULATOR_PINS_NOTHING", "1", 1);
    struct cli_outcome pinned = cli_run(NULL, "-c 'devices 0' -c 'load demo:dense'");
    struct cli_outcome pageable = cli_run(
        NULL,
        "-c 'devices 0' -c 'host_memory pageable' -c 'load demo:dense' -c 'run 2 --warmup 0'");
    unsetenv("EMULATOR_PINS_NOTHING");
    assert_int_equal(pinned.code, 5);
    assert_non_null(strstr(pinned.output, "cudaHostAlloc"));
    assert_int_equal(pageable.code, 0);
    cli_outcome_free(&pinned);
    cli_outcome_free(&pageable);
}

/* Pictures are decoded here and made the input there, in a row and ahead; a step that `predict` makes
 * has its own, and a CPU takes none. */
static void pictures_are_resized_there(void **state)
{
    (void)state;
    struct cli_outcome out = cli_run(
        NULL, "--json -k -c 'devices 0; load demo:cnn; batch 2; autotune off; picture 40x30; "
              "preprocess_on gpu; pipeline serial; run 3 --warmup 1; pipeline overlap; run 3 "
              "--warmup 1; precision fp16; run 3 --warmup 1; precision fp32; devices cpu; run 1'");
    assert_int_equal(out.code, 0);
    size_t index, count = 0;
    json_t *object;
    json_array_foreach(out.objects, index, object)
    {
        if (strcmp(json_string_value(json_object_get(object, "cmd")), "run") != 0)
            continue;
        const json_t *run = json_object_get(object, "data");
        if (++count == 4) { /* on the CPU */
            assert_null(json_object_get(run, "pipeline"));
            continue;
        }
        assert_string_equal(json_string_value(cli_at(run, "pipeline.preprocess_on")), "gpu");
        assert_int_equal(cli_number_at(run, "pipeline.copied_bytes"), 256 + 2 * 1280);
        assert_true(cli_number_at(run, "pipeline.copy_ms") > 0);
        assert_true(cli_number_at(run, "pipeline.gpu_ms") > 0);
        assert_true(cli_number_at(run, "pipeline.scale_ms") <= 0);
        assert_true(cli_number_at(run, "ledger.preprocess_ms") > 0);
    }
    assert_int_equal(count, 4);
    cli_outcome_free(&out);
}

/* Each series of the memory plot has its row; what is not known has none. */
static void memory_has_its_rows(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "demo:digits -c 'devices 0' -c 'profile off' -c 'limit 1GiB' -c mem");
    assert_int_equal(out.code, 0);
    static const char *const rows[] = {"total",       "free",      "weights",
                                       "activations", "workspace", "idle",
                                       "CUPTI's own", "planned",   "limit"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char row[32];
        snprintf(row, sizeof row, "\n  %-12s ", rows[i]);
        if (strstr(out.output, row) == NULL) {
            fail_msg("no row %s in %s", rows[i], out.output);
        }
    }
    assert_null(strstr(out.output, "\n  libraries"));
    cli_outcome_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_in_float32),
        cmocka_unit_test(ops_in_half),
        cmocka_unit_test(ops_in_bytes),
        cmocka_unit_test(digits_in_bytes),
        cmocka_unit_test(fallback_has_several_outputs),
        cmocka_unit_test(pageable_memory_is_not_pinned),
        cmocka_unit_test(pictures_are_resized_there),
        cmocka_unit_test(memory_has_its_rows),
    };
    return cmocka_run_group_tests(tests, use_emulator, cli_remove_folder);
}

#else /* built with CUDA=0 */
#include "support/no_cuda.h"

int main(void)
{
    return no_cuda_main();
}
#endif
