/* What the CUDA module says where it cannot work, each cause in its own sentence: no driver, the
 * toolkit's stub, a driver that plays failures (tests/tools/fake_driver.c), libraries that are none,
 * calls that fail. Without CUDA headers every test but one is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cuda_module.h"

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/cuda/check.h"

#define CHILD "LAYERTOP_TEST_CUDA_CHILD"

/* -- the module in another process: the linker reads LD_LIBRARY_PATH only at the start --------- */

/* Run this program as a child that opens the module and prints the error; `environment` is a list
 * of NAME=VALUE. Returns the child's words. */
static char *open_in_child(const char *const *environment)
{
    char command[2048] = CHILD "=1", self[512];
    char *words = calloc(1, 4096);
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    for (size_t i = 0; environment[i] != NULL; i++) {
        strcat(strcat(command, " "), environment[i]);
    }
    strcat(strcat(command, " "), self);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(words, 1, 4095, pipe);
    words[got] = '\0';
    pclose(pipe);
    return words;
}

static int child_main(void)
{
    struct error error = {0};
    const struct backend *backend = cuda_module_open(getenv("LAYERTOP_CUDA_MODULE"), &error);
    printf("E%03d %s: %s | %s\n", backend != NULL ? 0 : (int)error.code, error.what, error.why,
           error.hint);
    return 0;
}

static bool driver_here(void)
{
    const char *const nothing[] = {NULL};
    char *words = open_in_child(nothing);
    bool here = strstr(words, "libcuda.so.1 was not found") == NULL;
    free(words);
    return here;
}

static void test_no_driver(void **state)
{
    (void)state;
    if (driver_here()) {
        skip();
    }
    const char *const nothing[] = {NULL};
    char *words = open_in_child(nothing);
    assert_memory_equal(words, "E030 ", 5);
    assert_non_null(strstr(words, "libcuda.so.1 was not found"));
    assert_non_null(strstr(words, "| nvidia-smi"));
    free(words);
}

static void test_stub_driver(void **state)
{
    static const char stub[] = "/usr/local/cuda/lib64/stubs/libcuda.so";
    char folder[] = "/tmp/layertop-stub-XXXXXX", link[64], variable[96];
    (void)state;
    if (access(stub, R_OK) != 0) {
        skip();
    }
    assert_non_null(mkdtemp(folder));
    snprintf(link, sizeof link, "%s/libcuda.so.1", folder);
    snprintf(variable, sizeof variable, "LD_LIBRARY_PATH=%s", folder);
    assert_int_equal(symlink(stub, link), 0);
    const char *const environment[] = {variable, NULL};
    char *words = open_in_child(environment);
    unlink(link);
    rmdir(folder);
    assert_memory_equal(words, "E030 ", 5);
    assert_non_null(strstr(words, "the CUDA toolkit's stub"));
    assert_non_null(strstr(words, "unset LD_LIBRARY_PATH"));
    free(words);
}

/* -- a scripted driver, and libraries that are none ---------------------------------------------- */

static char scripted[] = "/tmp/layertop-driver-XXXXXX";

static void compile(const char *source, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "${CC:-cc} -shared -fPIC -o %s/%s %s", scripted, name,
             source);
    if (system(command) != 0) {
        fail_msg("%s", command);
    }
}

static int make_driver(void **state)
{
    (void)state;
    if (mkdtemp(scripted) == NULL) {
        return -1;
    }
    compile("tests/tools/fake_driver.c", "libcuda.so.1");
    return 0;
}

static int remove_driver(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", scripted);
    return system(command);
}

/* What the module says of the scripted driver under these variables. */
static char *play(const char *first, const char *second)
{
    char path[128];
    snprintf(path, sizeof path, "LD_LIBRARY_PATH=%s", scripted);
    const char *const environment[] = {path, first, second, NULL};
    return open_in_child(environment);
}

static void every_failure_has_its_sentence(void **state)
{
    static const struct {
        const char *first, *second, *code, *says, *hint;
    } rows[] = {
        {"FAKE_CUDA_INIT=100", NULL, "E030", "the driver is installed and finds no GPU (100)",
         "nvidia-smi"},
        {"FAKE_CUDA_COUNT=0", NULL, "E030", "the driver is installed and finds no GPU (100)",
         "nvidia-smi"},
        {"FAKE_CUDA_INIT=100", "CUDA_VISIBLE_DEVICES=-1", "E031",
         "CUDA_VISIBLE_DEVICES=-1: token 1 of 1 (-1) is invalid", "unset CUDA_VISIBLE_DEVICES"},
        {"FAKE_CUDA_INIT=100", "CUDA_VISIBLE_DEVICES=zero", "E031",
         "token 1 of 1 (zero) is invalid (it is neither an index nor a UUID)",
         "unset CUDA_VISIBLE_DEVICES"},
        {"FAKE_CUDA_INIT=100", "CUDA_VISIBLE_DEVICES=''", "E031",
         "CUDA_VISIBLE_DEVICES is set and empty", "unset CUDA_VISIBLE_DEVICES"},
        {"FAKE_CUDA_INIT=100", "CUDA_VISIBLE_DEVICES=7", "E031",
         "no GPU answers; CUDA_VISIBLE_DEVICES is 7", "unset CUDA_VISIBLE_DEVICES"},
        {"FAKE_CUDA_INIT=34", NULL, "E030", "the CUDA toolkit's stub, not a driver (cuInit: 34)",
         "unset LD_LIBRARY_PATH"},
        {"FAKE_CUDA_INIT=35", NULL, "E030", "the driver is older than this build needs",
         "nvidia-smi"},
        {"FAKE_CUDA_INIT=803", NULL, "E030", "its kernel module have different versions",
         "cat /proc/driver/nvidia/version"},
        {"FAKE_CUDA_INIT=804", NULL, "E030", "forward-compatibility libcuda.so.1",
         "unset LD_LIBRARY_PATH"},
        {"FAKE_CUDA_INIT=802", NULL, "E030", "the NVSwitch fabric is not ready",
         "systemctl status nvidia-fabricmanager"},
        {"FAKE_CUDA_INIT=304", NULL, "E030", "the operating system refused the driver",
         "ls -l /dev/nvidia*"},
        {"FAKE_CUDA_INIT=999", NULL, "E030", "/dev/nvidia-uvm is missing", "ls -l /dev/nvidia-uvm"},
        {"FAKE_CUDA_INIT=3", NULL, "E030", "the driver did not start (cuInit: 3)", "nvidia-smi"},
        {"FAKE_CUDA_VERSION=11040", NULL, "E030", "it supports CUDA 11.4, and this build needs",
         "nvidia-smi"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *words = play(rows[i].first, rows[i].second), hint[128];
        snprintf(hint, sizeof hint, "| %s\n", rows[i].hint);
        if (strncmp(words, rows[i].code, 4) != 0 || strstr(words, rows[i].says) == NULL ||
            strstr(words, hint) == NULL) {
            fail_msg("%s %s: %s", rows[i].first, rows[i].second != NULL ? rows[i].second : "",
                     words);
        }
        free(words);
    }
}

/* With a driver that is well the libraries come next: each is named, with what is wrong and what to
 * do. */
static void libraries_that_are_none_are_named(void **state)
{
    static const struct {
        const char *library, *source, *says;
    } rows[] = {
        {"libcublasLt.so.13", "-x c /dev/null", "it has no cublasLt"},
        {"libcudnn.so.9", "-x c /dev/null", "it has no cudnn"},
    };
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        compile(rows[i].source, rows[i].library);
        char *words = play(NULL, NULL);
        snprintf(path, sizeof path, "%s/%s", scripted, rows[i].library);
        unlink(path);
        /* a machine without cuBLASLt hears of that first */
        bool other = i == 1 && strstr(words, "cuBLASLt") != NULL;
        if (strncmp(words, "E030", 4) != 0 ||
            (!other && (strstr(words, rows[i].says) == NULL || strstr(words, path) == NULL ||
                        strstr(words, "too old") == NULL))) {
            fail_msg("%s: %s", rows[i].library, words);
        }
        free(words);
    }
}

/* A driver that is well as far as it goes, and lacks what the runtime calls next. */
static void a_driver_that_lacks_calls_is_too_old(void **state)
{
    (void)state;
    char *words = play(NULL, NULL);
    bool libraries = strstr(words, "cuBLASLt") == NULL && strstr(words, "cuDNN") == NULL;
    if (libraries && (strstr(words, "it lacks calls that this build's CUDA") == NULL ||
                      strstr(words, "| nvidia-smi\n") == NULL))
        fail_msg("%s", words);
    free(words);
}

/* A libcuda.so.1 that has none of a driver's functions. */
static void a_driver_without_functions(void **state)
{
    char folder[128], path[160], variable[192];
    (void)state;
    snprintf(folder, sizeof folder, "%s/empty", scripted);
    assert_int_equal(mkdir(folder, 0700), 0);
    compile("-x c /dev/null", "empty/libcuda.so.1");
    snprintf(path, sizeof path, "%s/libcuda.so.1", folder);
    snprintf(variable, sizeof variable, "LD_LIBRARY_PATH=%s", folder);
    const char *const environment[] = {variable, NULL};
    char *words = open_in_child(environment);
    assert_memory_equal(words, "E030 ", 5);
    assert_non_null(strstr(words, "is no driver's library"));
    assert_non_null(strstr(words, path));
    free(words);
}

static void a_busy_gpu_has_its_sentence(void **state)
{
    struct error error = {0};
    (void)state;
    assert_false(cuda_check(46, "cudaFree(NULL)", "gpu:0", &error));
    assert_int_equal(error.code, ERROR_DEVICE);
    assert_non_null(strstr(error.why, "exclusive mode and another process holds it"));
    assert_string_equal(error.hint, "nvidia-smi");
    error = (struct error){0};
    assert_false(cuda_check(209, "kernel_probe(s)", "gpu:0", &error));
    assert_non_null(strstr(error.why, "holds no code for this GPU's architecture"));
    /* what kills the context: a kernel, the memory, or a GPU that fell off the bus */
    static const int deadly[] = {700, 714, 719, 214, 999};
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        error = (struct error){0};
        assert_false(cuda_check(deadly[i], "cudaStreamSynchronize(s)", "step", &error));
        assert_int_equal(error.code, ERROR_LOST);
        assert_non_null(strstr(error.why, "the next command begins with a new worker"));
    }
    assert_false(cuda_check(1, "cudaMemcpyAsync(a)", "step", &error));
    assert_int_equal(error.code, ERROR_CUDA);
}

/* Whatever the driver says, the CPU works, and the reason is told. */
static void the_cpu_works_all_the_same(void **state)
{
    char command[512], words[8192] = "";
    (void)state;
    if (access("build/layertop", X_OK) != 0) {
        skip();
    }
    snprintf(command, sizeof command,
             "LD_LIBRARY_PATH=%s FAKE_CUDA_INIT=803 LAYERTOP_CUDA_MODULE=$PWD/build/"
             "layertop-cuda.so build/layertop --json demo:digits -c 'batch 2; run 2' 2>&1",
             scripted);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t got = fread(words, 1, sizeof words - 1, pipe);
    words[got] = '\0';
    assert_int_equal(pclose(pipe), 0);
    assert_non_null(strstr(words, "\"device\":\"cpu\""));
    assert_non_null(strstr(words, "different versions"));
}

static void test_no_module(void **state)
{
    struct error error = {0};
    (void)state;
    assert_null(cuda_module_open("/nowhere/layertop-cuda.so", &error));
    assert_int_equal(error.code, ERROR_GPU);
    assert_non_null(strstr(error.why, "/nowhere/layertop-cuda.so is not there"));
    assert_string_equal(error.hint, "unset LAYERTOP_CUDA_MODULE");
    /* a file that is no library */
    assert_null(cuda_module_open("/proc/self/environ", &error));
    assert_non_null(strstr(error.why, "does not load"));
}

int main(void)
{
    if (getenv(CHILD) != NULL) {
        return child_main();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_has_its_sentence),
        cmocka_unit_test(libraries_that_are_none_are_named),
        cmocka_unit_test(a_driver_that_lacks_calls_is_too_old),
        cmocka_unit_test(a_driver_without_functions),
        cmocka_unit_test(a_busy_gpu_has_its_sentence),
        cmocka_unit_test(the_cpu_works_all_the_same),
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_stub_driver),
        cmocka_unit_test(test_no_module),
    };
    return cmocka_run_group_tests(tests, make_driver, remove_driver);
}

#else /* built with CUDA=0 */

static void test_no_module(void **state)
{
    struct error error = {0};
    (void)state;
    assert_null(cuda_module_open("/nowhere/layertop-cuda.so", &error));
    assert_int_equal(error.code, ERROR_GPU);
}

static void test_cuda_parts(void **state)
{
    (void)state;
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_module),
        cmocka_unit_test(test_cuda_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif