/* The CUDA backend without a GPU: its own kernels and plans on the host (tests/emulator), held
 * against the plain reference by the very program that does so on a GPU, tests/gpu/test_cuda_ops.c.
 * Memory is full of NaNs before it is written, and so is the workspace behind every product. cuDNN's
 * convolutions are not in it: the emulator has no cuDNN, and ours run instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef LAYERTOP_CUDA_HEADERS

/* Beside this program: the module and the program of the GPU. */
static void run(const char *arguments)
{
    char folder[512], command[1600], line[1400], why[1400] = "";
    int good = 0;
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    assert_true(length > 0);
    folder[length] = '\0';
    *strrchr(folder, '/') = '\0';
    snprintf(command, sizeof command,
             "LAYERTOP_CUDA_MODULE=%s/../emulator/layertop-cuda.so %s/gpu/test_cuda_ops %s 2>&1",
             folder, folder, arguments);
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
        "recurrent", "attention", "gather", "cumulate", "top"};
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
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops_in_float32),
        cmocka_unit_test(ops_in_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else /* built with CUDA=0 */

static void test_cuda_parts(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuda_parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
