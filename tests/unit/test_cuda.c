/* What of the CUDA backend can be proved without a GPU: the sentences for what is missing,
 * CUDA_VISIBLE_DEVICES, the arena's bookkeeping, elementwise chains, and that cuDNN has an engine for
 * the convolutions of common networks on an H200 (described in tests/data/cuda/h200.json by its
 * published properties). Without CUDA headers every test is skipped. */
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
#include "engine/cuda/arena.h"
#include "engine/cuda/check.h"
#include "engine/cuda/conv.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/libraries.h"
#include "engine/cuda/regions.h"
#include "engine/cuda/visible.h"

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

/* -- CUDA_VISIBLE_DEVICES ------------------------------------------------------------------- */

static void test_visible(void **state)
{
    static const char *const uuids[] = {"GPU-aaaa1111-0", "GPU-aaaa2222-0", "GPU-bbbb3333-0"};
    static const struct {
        const char *text;
        size_t known;
        int count, indices[4];
        size_t bad, tokens;
        const char *says; /* part of the sentence; "" for none */
    } rows[] = {
        {NULL, 3, 3, {0, 1, 2}, 0, 0, ""},
        {"0,1,2", 3, 3, {0, 1, 2}, 0, 3, ""},
        {"2,0", 3, 2, {2, 0}, 0, 2, ""},
        {" 1 , 2", 3, 2, {1, 2}, 0, 2, ""},
        {"", 3, 0, {0}, 1, 1, "set and empty"},
        {"-1", 3, 0, {0}, 1, 1, "token 1 of 1 (-1)"},
        {"0,2,-1,1", 3, 2, {0, 2}, 3, 4, "token 3 of 4 (-1) is invalid"},
        {"0,7,1", 3, 1, {0}, 2, 3, "there are 3 GPUs"},
        {"3", 3, 0, {0}, 1, 1, "there are 3 GPUs"},
        {"1", 1, 0, {0}, 1, 1, "there is 1 GPU"},
        {"0,0", 3, 0, {0}, 2, 2, "named twice"},
        {"1,GPU-aaaa2", 3, 0, {0}, 2, 2, "named twice"},
        {"GPU-bbbb", 3, 1, {2}, 0, 1, ""},
        {"gpu-bbbb,0", 3, 2, {2, 0}, 0, 2, ""},
        {"GPU-aaaa", 3, 0, {0}, 1, 1, "several GPUs begin so"},
        {"GPU-cccc,0", 3, 0, {0}, 1, 2, "no GPU has this UUID"},
        {"all", 3, 0, {0}, 1, 1, "neither an index nor a UUID"},
        {"0,", 3, 1, {0}, 2, 2, "token 2 of 2 (nothing)"},
        {"1x", 3, 0, {0}, 1, 1, "neither"},
        {"MIG-1234", 3, 1, {VISIBLE_UNKNOWN}, 0, 1, ""},
        {"5,6", 0, 2, {5, 6}, 0, 2, ""},
        {"GPU-aaaa", 0, 1, {VISIBLE_UNKNOWN}, 0, 1, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct visible visible;
        char text[512];
        visible_parse(&visible, rows[i].text, uuids, rows[i].known);
        assert_int_equal(visible.count, rows[i].count);
        for (int j = 0; j < rows[i].count; j++) {
            assert_int_equal(visible.indices[j], rows[i].indices[j]);
        }
        assert_int_equal(visible.bad_token, rows[i].bad);
        assert_int_equal(visible.token_count, rows[i].tokens);
        assert_true(visible.restricted == (rows[i].text != NULL));
        visible_describe(text, sizeof text, &visible, rows[i].text);
        if (rows[i].says[0] == '\0') {
            assert_string_equal(text, "");
        } else if (strstr(text, rows[i].says) == NULL) {
            fail_msg("\"%s\": %s", rows[i].text, text);
        }
    }
}

/* -- the arena on a mapper that only counts ---------------------------------------------------- */

struct fake {
    uint64_t budget, taken, handles;
    int64_t mapped;     /* bytes mapped now */
    int fail_map_after; /* the n-th map from now fails; negative: none */
};

static bool fake_take(void *context, uint64_t bytes, uint64_t *handle, struct error *error)
{
    struct fake *fake = context;
    if (fake->taken + bytes > fake->budget) {
        return error_set(error, ERROR_MEMORY, "fake", "no memory");
    }
    fake->taken += bytes;
    *handle = ++fake->handles;
    return true;
}

static void fake_give(void *context, uint64_t bytes, uint64_t handle)
{
    struct fake *fake = context;
    assert_true(handle > 0 && handle <= fake->handles);
    assert_true(fake->taken >= bytes);
    fake->taken -= bytes;
}

static bool fake_map(void *context, uint64_t address, uint64_t bytes, uint64_t handle,
                     struct error *error)
{
    struct fake *fake = context;
    (void)handle;
    assert_true(address >= 0x1000);
    if (fake->fail_map_after == 0) {
        fake->fail_map_after = -1;
        return error_set(error, ERROR_CUDA, "fake", "no mapping");
    }
    fake->fail_map_after -= fake->fail_map_after > 0;
    fake->mapped += (int64_t)bytes;
    return true;
}

static void fake_unmap(void *context, uint64_t address, uint64_t bytes)
{
    struct fake *fake = context;
    (void)address;
    fake->mapped -= (int64_t)bytes;
}

static void check_arena(const struct arena *arena, const struct fake *fake, uint64_t bytes)
{
    uint64_t at = 0;
    assert_int_equal(arena->mapped_bytes, bytes);
    assert_int_equal(fake->mapped, bytes);
    assert_int_equal(fake->taken, bytes);
    for (size_t i = 0; i < arena->chunk_count; i++) {
        assert_int_equal(arena->chunks[i].offset, at);
        at += arena->chunks[i].bytes;
    }
    assert_int_equal(at, bytes);
}

static void test_arena(void **state)
{
    struct fake fake = {.budget = 100, .fail_map_after = -1};
    struct arena_mapper mapper = {&fake, fake_take, fake_give, fake_map, fake_unmap};
    struct arena arena;
    struct error error = {0};
    (void)state;

    arena_init(&arena, &mapper, 0x1000, 120, 2, 16, false);
    assert_true(arena_grow(&arena, 35, &error)); /* 16 + 16 + 4 */
    check_arena(&arena, &fake, 36);
    assert_int_equal(arena.chunk_count, 3);
    assert_true(arena_grow(&arena, 20, &error)); /* nothing to do */
    check_arena(&arena, &fake, 36);

    /* past the budget: as before, and the mapper's error */
    assert_false(arena_grow(&arena, 110, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    check_arena(&arena, &fake, 36);
    /* past the addresses */
    assert_false(arena_grow(&arena, 121, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    assert_false(arena_grow(&arena, UINT64_MAX, &error));
    check_arena(&arena, &fake, 36);
    /* a mapping fails half-way: what was taken for it is given back */
    fake.fail_map_after = 2;
    assert_false(arena_grow(&arena, 90, &error));
    check_arena(&arena, &fake, 36);
    /* and it still grows afterwards, to the last byte */
    assert_true(arena_grow(&arena, 100, &error));
    check_arena(&arena, &fake, 100);

    /* shrink: contents kept means whole chunks only */
    arena_shrink(&arena, 41, true);
    check_arena(&arena, &fake, 52);
    /* 42 needs a smaller piece, but the budget has none to take first: it stays */
    fake.budget = 52;
    arena_shrink(&arena, 41, false);
    check_arena(&arena, &fake, 52);
    fake.budget = 100;
    arena_shrink(&arena, 41, false);
    check_arena(&arena, &fake, 42);
    arena_shrink(&arena, 0, false);
    check_arena(&arena, &fake, 0);
    arena_clear(&arena);
}

static void test_arena_pool(void **state)
{
    struct fake fake = {.budget = 48, .fail_map_after = -1};
    struct arena_mapper mapper = {&fake, fake_take, fake_give, fake_map, fake_unmap};
    struct arena arena;
    struct error error = {0};
    (void)state;

    arena_init(&arena, &mapper, 0x1000, 160, 2, 16, true);
    assert_true(arena_grow(&arena, 17, &error));
    check_arena(&arena, &fake, 32);
    assert_false(arena_grow(&arena, 49, &error));
    check_arena(&arena, &fake, 32);
    arena_shrink(&arena, 3, false);
    check_arena(&arena, &fake, 16);
    arena_clear(&arena);
    assert_int_equal(fake.taken, 0);
}

static void test_system_bytes(void **state)
{
    uint64_t gib = 1ull << 30, mib = 1ull << 20;
    (void)state;
    assert_int_equal(regions_system_bytes(140 * gib, 9), 1800 * mib);
    assert_int_equal(regions_system_bytes(140 * gib, 10), 1800 * mib);
    assert_int_equal(regions_system_bytes(40 * gib, 8), 1536 * mib);
    assert_int_equal(regions_system_bytes(16 * gib, 7), 1050 * mib);
    assert_int_equal(regions_system_bytes(2 * gib - 1, 9), 225 * mib);
}

/* -- chains: merged axes and modes read the same elements ------------------------------------- */

/* Where the kernel reads an operand for element i (chain.cuh, read_operand). */
static int64_t offset_by_mode(const struct chain *chain, const struct operand *operand, int64_t i)
{
    int64_t offset = 0;
    switch (operand->mode) {
    case OPERAND_SCALAR:
        return 0;
    case OPERAND_LINEAR:
        return i;
    case OPERAND_LAST:
        return i % chain->dims[chain->rank - 1];
    default:
        for (int axis = chain->rank - 1; axis >= 0; axis--) {
            offset += i % chain->dims[axis] * operand->strides[axis];
            i /= chain->dims[axis];
        }
        return offset;
    }
}

static int64_t offset_by_broadcast(const struct shape *shape, const struct shape *operand,
                                   int64_t i)
{
    int64_t offset = 0, stride = 1;
    for (int axis = shape->rank - 1, at = operand->rank - 1; axis >= 0; axis--, at--) {
        int64_t index = i % shape->dims[axis];
        i /= shape->dims[axis];
        if (at >= 0) {
            offset += operand->dims[at] == 1 ? 0 : index * stride;
            stride *= operand->dims[at];
        }
    }
    return offset;
}

static void test_chain(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct shape shape = {.rank = 1 + round % 5}, operands[3];
        struct chain chain;
        for (int i = 0; i < shape.rank; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            shape.dims[i] = 1 + (int64_t)(seed >> 33) % 5;
        }
        if (round % 4 == 0) {
            shape.dims[shape.rank - 1] = 8;
        }
        chain_begin(&chain, &shape);
        chain.dtype = round % 2 ? DTYPE_F16 : DTYPE_F32; /* eight at a time, or four */
        for (int o = 0; o < 3; o++) {
            operands[o] = shape;
            for (int i = 0; i < shape.rank; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                operands[o].dims[i] = (seed >> 40) % 2 ? 1 : shape.dims[i];
            }
            if (o == 2) { /* as a bias comes */
                operands[o] = (struct shape){.rank = 1, .dims = {shape.dims[shape.rank - 1]}};
            }
        }
        chain.x = chain_operand(&chain, &operands[0]);
        chain.count = 2;
        for (int o = 0; o < 2; o++) {
            chain.stages[o].kind = STAGE_BINARY;
            chain.stages[o].operand = chain_operand(&chain, &operands[o + 1]);
        }
        chain.select = round % 3 == 0;
        chain.chosen[0] = chain_operand(&chain, &operands[1]);
        chain.chosen[1] = chain_operand(&chain, &operands[0]);
        chain_finish(&chain);
        const struct operand *made[] = {&chain.x, &chain.stages[0].operand,
                                        &chain.stages[1].operand, &chain.chosen[0],
                                        &chain.chosen[1]};
        const struct shape *read[] = {&operands[0], &operands[1], &operands[2], &operands[1],
                                      &operands[0]};
        int count = chain.select ? 5 : 3;
        for (int64_t i = 0; i < chain.elements; i++) {
            for (int o = 0; o < count; o++) {
                int64_t wanted = offset_by_broadcast(&shape, read[o], i);
                assert_int_equal(offset_by_mode(&chain, made[o], i), wanted);
                if (chain.vector > 1 && made[o]->mode != OPERAND_SCALAR && i % chain.vector == 0) {
                    /* neighbours: one aligned load, or one value */
                    int64_t more = chain.vector - 1,
                            last = offset_by_mode(&chain, made[o], i + more);
                    bool one = last == wanted;
                    bool many = last == wanted + more && wanted % chain.vector == 0;
                    assert_true(one || many);
                }
            }
        }
    }
}

static void test_chain_modes(void **state)
{
    struct shape shape = {.rank = 4, .dims = {2, 3, 3, 8}};
    struct shape channel = {.rank = 1, .dims = {8}}, one = {.rank = 1, .dims = {1}};
    struct shape gate = {.rank = 4, .dims = {2, 1, 1, 8}};
    struct chain chain;
    (void)state;
    chain_begin(&chain, &shape);
    chain.count = 3;
    const struct shape *operands[] = {&channel, &one, &shape};
    for (int i = 0; i < 3; i++) {
        chain.stages[i].kind = STAGE_BINARY;
        chain.stages[i].operand = chain_operand(&chain, operands[i]);
    }
    chain_finish(&chain);
    assert_int_equal(chain.rank, 2);
    assert_int_equal(chain.dims[0], 18);
    assert_int_equal(chain.vector, 4);
    assert_int_equal(chain.x.mode, OPERAND_LINEAR);
    assert_int_equal(chain.stages[0].operand.mode, OPERAND_LAST);
    assert_int_equal(chain.stages[1].operand.mode, OPERAND_SCALAR);
    assert_int_equal(chain.stages[2].operand.mode, OPERAND_LINEAR);
    /* a squeeze-and-excite gate */
    chain_begin(&chain, &shape);
    chain.count = 1;
    chain.stages[0].kind = STAGE_BINARY;
    chain.stages[0].operand = chain_operand(&chain, &gate);
    chain_finish(&chain);
    assert_int_equal(chain.rank, 3);
    assert_int_equal(chain.stages[0].operand.mode, OPERAND_STRIDED);
    assert_int_equal(chain.vector, 4);
}

/* -- cuDNN without a device ------------------------------------------------------------------ */

struct conv_row {
    const char *name;
    int64_t batch, in, in_channels, out_channels, kernel, stride, pad, out;
    bool transposed;
};

static const struct conv_row conv_rows[] = {
    {"digits conv1", 32, 28, 1, 8, 3, 1, 1, 28, false},
    {"cnn conv1", 32, 28, 1, 32, 3, 1, 0, 26, false},
    {"cnn conv2", 32, 13, 32, 64, 3, 1, 0, 11, false},
    {"resnet stem", 32, 230, 3, 64, 7, 2, 0, 112, false},
    {"resnet 1x1", 32, 56, 64, 256, 1, 1, 0, 56, false},
    {"resnet 1x1 stride 2", 32, 56, 256, 128, 1, 2, 0, 28, false},
    {"resnet 3x3", 32, 28, 128, 128, 3, 1, 1, 28, false},
    {"resnet 3x3, 7x7", 1, 7, 512, 512, 3, 1, 1, 7, false},
    {"mobilenet stem, same", 32, 224, 3, 32, 3, 2, 0, 112, false}, /* pads (0,1) */
    {"mobilenet expand", 32, 56, 24, 144, 1, 1, 0, 56, false},
    {"odd channels", 8, 17, 30, 45, 3, 1, 1, 17, false},
    {"transposed", 8, 14, 64, 32, 2, 2, 0, 28, true},
};

static struct conv_problem problem_of(const struct conv_row *row)
{
    struct conv_problem problem;
    memset(&problem, 0, sizeof problem);
    struct kernel_conv *s = &problem.shape;
    s->batch = row->batch;
    s->in_channels = row->in_channels;
    s->out_channels = row->out_channels;
    s->groups = 1;
    s->transposed = row->transposed;
    for (int i = 0; i < 3; i++) {
        bool used = i > 0;
        s->in[i] = used ? row->in : 1;
        s->out[i] = used ? row->out : 1;
        s->kernel[i] = used ? row->kernel : 1;
        s->stride[i] = used ? row->stride : 1;
        s->pad[i] = used ? row->pad : 0;
        s->dilation[i] = 1;
    }
    problem.spatial = 2;
    return problem;
}

static char *read_text(const char *path)
{
    char *text = calloc(1, 8192);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got = fread(text, 1, 8191, file);
    text[got] = '\0';
    fclose(file);
    return text;
}

static void test_conv_engines(void **state)
{
    struct error error = {0};
    const struct libraries *libraries = libraries_open(&error);
    (void)state;
    if (libraries == NULL) {
        assert_int_equal(error.code, ERROR_GPU); /* and says where it looked */
        assert_non_null(strstr(error.why, "/usr/local/cuda/lib64"));
        skip();
    }
    char *json = read_text("tests/data/cuda/h200.json");
    struct conv_target target = {.properties = conv_properties_new(libraries, json, &error)};
    free(json);
    if (target.properties == NULL) {
        fail_msg("%s: %s", error.what, error.why);
    }
    for (size_t i = 0; i < sizeof conv_rows / sizeof conv_rows[0]; i++) {
        for (int form = 0; form < 8; form++) {
            struct conv_problem problem = problem_of(&conv_rows[i]);
            /* what a plan falls back on must be there; what it would like, mostly */
            problem.bias = form % 4 >= 1;
            problem.relu = form % 4 >= 2;
            problem.sum = form % 4 == 3;
            problem.tf32 = form >= 4;
            struct conv_engine *engine = conv_engine_find(libraries, &target, &problem, &error);
            bool needed = form % 4 == 0 || !conv_rows[i].transposed;
            if (engine == NULL && needed) {
                fail_msg("%s, form %d: %s", conv_rows[i].name, form, error.why);
            }
            if (engine != NULL) {
                if (getenv("VERBOSE") != NULL) {
                    print_message("%s form %d: engine %d%s, workspace %.1f MiB\n",
                                  conv_rows[i].name, form, (int)engine->choice.engine,
                                  engine->runtime_compiled ? " (compiled)" : "",
                                  (double)engine->workspace_bytes / 1048576);
                }
                assert_true(engine->workspace_bytes <= CONV_WORKSPACE_BYTES);
                /* the plain convolution never needs a compiler at run time */
                assert_true(form % 4 != 0 || !engine->runtime_compiled);
            }
            conv_engine_free(libraries, engine);
        }
    }
    libraries->cudnn.cudnnBackendDestroyDescriptor(target.properties);
}

int main(void)
{
    if (getenv(CHILD) != NULL) {
        return child_main();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failure_has_its_sentence),
        cmocka_unit_test(libraries_that_are_none_are_named),
        cmocka_unit_test(a_driver_without_functions),
        cmocka_unit_test(a_busy_gpu_has_its_sentence),
        cmocka_unit_test(the_cpu_works_all_the_same),
        cmocka_unit_test(test_no_driver),
        cmocka_unit_test(test_stub_driver),
        cmocka_unit_test(test_no_module),
        cmocka_unit_test(test_visible),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_pool),
        cmocka_unit_test(test_system_bytes),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_chain_modes),
        cmocka_unit_test(test_conv_engines),
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
