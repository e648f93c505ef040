/* Which engine cuDNN gives to the convolutions of ResNet50, MobileNetV2 and EfficientNetB0 on GPUs
 * that are not here: seven architectures (tests/data/cuda), four precisions, batch 32. For each there
 * must be one precompiled engine that does bias, residual and ReLU with the convolution, as far as
 * the network has them; functions other than ReLU are left to our own kernels. Which one it is stands
 * in tests/golden/cuda_engines.txt for the version of cuDNN that is named there.
 *
 * Without CUDA headers or cuDNN every test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/cuda/conv.h"
#include "engine/cuda/plan.h"
#include "support/golden.h"

struct row {
    const char *name;
    int64_t in, channels, outputs, kernel, stride, pad, out;
    bool sum, relu;
};

/* name, extent, channels -> filters, kernel, stride, padding before, extent of the output, residual,
 * ReLU. Channels of pictures are 3 in the model. */
static const struct row rows[] = {
    {"resnet50 conv1", 224, 3, 64, 7, 2, 3, 112, false, true},
    {"resnet50 conv2 1", 56, 64, 64, 1, 1, 0, 56, false, true},
    {"resnet50 conv2 2", 56, 64, 64, 3, 1, 1, 56, false, true},
    {"resnet50 conv2 3", 56, 64, 256, 1, 1, 0, 56, true, true},
    {"resnet50 conv3 1", 56, 256, 128, 1, 2, 0, 28, false, true},
    {"resnet50 conv3 0", 56, 256, 512, 1, 2, 0, 28, false, false},
    {"resnet50 conv3 3", 28, 128, 512, 1, 1, 0, 28, true, true},
    {"resnet50 conv4 2", 14, 256, 256, 3, 1, 1, 14, false, true},
    {"resnet50 conv5 2", 7, 512, 512, 3, 1, 1, 7, false, true},
    {"resnet50 conv5 3", 7, 512, 2048, 1, 1, 0, 7, true, true},
    {"mobilenetv2 Conv1", 224, 3, 32, 3, 2, 0, 112, false, false},
    {"mobilenetv2 project", 112, 32, 16, 1, 1, 0, 112, false, false},
    {"mobilenetv2 expand 2", 56, 24, 144, 1, 1, 0, 56, false, false},
    {"mobilenetv2 project 2", 56, 144, 24, 1, 1, 0, 56, true, false},
    {"mobilenetv2 project 7", 14, 384, 64, 1, 1, 0, 14, true, false},
    {"mobilenetv2 Conv_1", 7, 320, 1280, 1, 1, 0, 7, false, false},
    {"efficientnetb0 stem", 224, 3, 32, 3, 2, 0, 112, false, false},
    {"efficientnetb0 2a expand", 112, 16, 96, 1, 1, 0, 112, false, false},
    {"efficientnetb0 2a se", 1, 96, 4, 1, 1, 0, 1, false, false},
    {"efficientnetb0 2a se back", 1, 4, 96, 1, 1, 0, 1, false, false},
    {"efficientnetb0 3b project", 28, 240, 40, 1, 1, 0, 28, true, false},
    {"efficientnetb0 6b project", 7, 1152, 192, 1, 1, 0, 7, true, false},
};

static const struct {
    const char *file, *name;
    int capability;
} gpus[] = {
    {"t4", "T4", 75},     {"a100", "A100", 80},  {"rtx3090", "RTX 3090", 86}, {"l40s", "L40S", 89},
    {"h200", "H200", 90}, {"b200", "B200", 100}, {"rtx5090", "RTX 5090", 120}};

static const struct {
    const char *name;
    enum dtype dtype;
    bool tf32;
    int64_t channels; /* of pictures, as stored */
} precisions[] = {{"fp32", DTYPE_F32, false, 3},
                  {"tf32", DTYPE_F32, true, 4},
                  {"fp16", DTYPE_F16, false, 8},
                  {"bf16", DTYPE_BF16, false, 8}};

static struct conv_problem problem_of(const struct row *row, size_t precision)
{
    struct conv_problem problem;
    memset(&problem, 0, sizeof problem);
    struct kernel_conv *s = &problem.shape;
    s->batch = 32;
    s->in_channels = row->channels == 3 ? precisions[precision].channels : row->channels;
    s->out_channels = row->outputs;
    s->groups = 1;
    for (int i = 0; i < 3; i++) {
        s->in[i] = i > 0 ? row->in : 1;
        s->out[i] = i > 0 ? row->out : 1;
        s->kernel[i] = i > 0 ? row->kernel : 1;
        s->stride[i] = i > 0 ? row->stride : 1;
        s->pad[i] = i > 0 ? row->pad : 0;
        s->dilation[i] = 1;
    }
    problem.spatial = 2;
    problem.dtype = precisions[precision].dtype;
    problem.tf32 = precisions[precision].tf32;
    problem.bias = true;
    problem.sum = row->sum;
    problem.relu = row->relu;
    return problem;
}

static cudnnBackendDescriptor_t describe(const struct libraries *libraries, const char *file)
{
    struct error error = {0};
    char path[128];
    snprintf(path, sizeof path, "tests/data/cuda/%s.json", file);
    char *json = golden_read(path);
    cudnnBackendDescriptor_t properties = conv_properties_new(libraries, json, &error);
    free(json);
    if (properties == NULL) {
        fail_msg("%s: %s: %s", path, error.what, error.why);
    }
    return properties;
}

/* The engine of one row on one GPU, held against what must be; a line of the table. */
static void check_row(const struct libraries *libraries, cudnnBackendDescriptor_t properties,
                      size_t gpu, size_t precision, const struct row *row, FILE *table)
{
    struct conv_target target = {.properties = properties};
    struct conv_problem problem = problem_of(row, precision);
    struct error error = {0};
    struct conv_engine *engine = conv_engine_find(libraries, &target, &problem, &error);

    if (engine == NULL) {
        fail_msg("sm_%d %s %s: %s", gpus[gpu].capability, precisions[precision].name, row->name,
                 error.why);
    }
    if (engine->runtime_compiled) {
        fail_msg("sm_%d %s %s: only an engine that is compiled at run time fuses all",
                 gpus[gpu].capability, precisions[precision].name, row->name);
    }
    if (engine->workspace_bytes > CONV_WORKSPACE_BYTES) {
        fail_msg("sm_%d %s %s: %.0f MiB of workspace", gpus[gpu].capability,
                 precisions[precision].name, row->name, (double)engine->workspace_bytes / 1048576);
    }
    fprintf(table, "sm_%d %s %s%s%s: engine %lld, %.1f MiB\n", gpus[gpu].capability,
            precisions[precision].name, row->name, row->sum ? " +residual" : "",
            row->relu ? " +relu" : "", (long long)engine->choice.engine,
            (double)engine->workspace_bytes / 1048576);
    conv_engine_free(libraries, engine);
}

static void every_convolution_has_a_fused_engine(void **state)
{
    (void)state;
    const struct libraries *libraries = libraries_open(NULL);
    if (libraries == NULL) {
        skip();
    }
    char *text = NULL, first[64];
    size_t bytes = 0;
    FILE *table = open_memstream(&text, &bytes);
    snprintf(first, sizeof first, "cuDNN %zu\n", libraries->cudnn_version);
    fputs(first, table);
    for (size_t gpu = 0; gpu < sizeof gpus / sizeof gpus[0]; gpu++) {
        cudnnBackendDescriptor_t properties = describe(libraries, gpus[gpu].file);
        for (size_t p = 0; p < sizeof precisions / sizeof precisions[0]; p++) {
            if (precisions[p].dtype == DTYPE_BF16 && gpus[gpu].capability < 80) {
                continue;
            }
            for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                check_row(libraries, properties, gpu, p, &rows[i], table);
            }
        }
        libraries->cudnn.cudnnBackendDestroyDescriptor(properties);
    }
    fclose(table);
    char *kept = golden_read("tests/golden/cuda_engines.txt");
    if (getenv("UPDATE") != NULL || strncmp(kept, first, strlen(first)) == 0) {
        golden_check("cuda_engines", text);
    }
    free(kept);
    free(text);
}

/* A choice that was written and read again makes the same engine. */
static void a_choice_can_be_made_again(void **state)
{
    (void)state;
    const struct libraries *libraries = libraries_open(NULL);
    if (libraries == NULL) {
        skip();
    }
    struct conv_target target = {.properties = describe(libraries, "h200")};
    struct conv_choice choices[16], read;
    struct error error = {0};
    char words[1024];
    int made = 0;
    for (size_t p = 0; p < sizeof precisions / sizeof precisions[0]; p++) {
        struct conv_problem problem = problem_of(&rows[3], p);
        size_t count = conv_candidates(libraries, &target, &problem, choices, 16);
        assert_true(count >= 2);
        for (size_t i = 0; i < count && i < 4; i++) {
            conv_choice_write(&choices[i], words, sizeof words);
            assert_true(conv_choice_read(words, &read));
            assert_memory_equal(&read, &choices[i], sizeof read);
            struct conv_engine *engine =
                conv_engine_make(libraries, &target, &problem, &read, UINT64_MAX, &error);
            if (engine == NULL) {
                continue; /* cuDNN offers more than it takes in the end */
            }
            assert_int_equal(engine->choice.engine, choices[i].engine);
            assert_false(engine->runtime_compiled);
            made++;
            if (engine->workspace_bytes > 0) { /* a fence is kept to */
                assert_null(conv_engine_make(libraries, &target, &problem, &read,
                                             engine->workspace_bytes - 1, &error));
            }
            conv_engine_free(libraries, engine);
        }
        struct conv_engine *first = conv_engine_find(libraries, &target, &problem, &error);
        struct conv_engine *again =
            conv_engine_make(libraries, &target, &problem, &first->choice, UINT64_MAX, &error);
        assert_non_null(again);
        assert_int_equal(again->choice.engine, first->choice.engine);
        assert_int_equal(again->workspace_bytes, first->workspace_bytes);
        conv_engine_free(libraries, first);
        conv_engine_free(libraries, again);
    }
    assert_true(made >= 8);
    /* tensor cores in a strict plan: a file may say so, it is not done */
    struct conv_problem strict = problem_of(&rows[3], 0), loose = problem_of(&rows[3], 1);
    struct conv_engine *tf32 = conv_engine_find(libraries, &target, &loose, &error);
    assert_null(conv_engine_make(libraries, &target, &strict, &tf32->choice, UINT64_MAX, &error));
    assert_non_null(strstr(error.why, "precision"));
    conv_engine_free(libraries, tf32);
    libraries->cudnn.cudnnBackendDestroyDescriptor(target.properties);
}

static void words_that_are_no_choice(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "41 2",
                                      "41 2=",
                                      "41 2=3x=",
                                      "41=3",
                                      "1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 1=1 "
                                      "1=1 1=1 1=1 1=1 1=1 1=1 1=1"};
    struct conv_choice choice;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (conv_choice_read(bad[i], &choice)) {
            fail_msg("\"%s\" was taken for a choice", bad[i]);
        }
    }
    assert_true(conv_choice_read("41", &choice));
    assert_int_equal(choice.knob_count, 0);
}

/* `layout nchw`: cuDNN takes channels first, in every precision, depthwise too. */
static void channels_first_has_engines(void **state)
{
    (void)state;
    const struct libraries *libraries = libraries_open(NULL);
    if (libraries == NULL) {
        skip();
    }
    struct conv_target target = {.properties = describe(libraries, "h200")};
    struct error error = {0};
    for (size_t p = 0; p < sizeof precisions / sizeof precisions[0]; p++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i += 3) {
            struct conv_problem problem = problem_of(&rows[i], p);
            problem.channels_first = true;
            problem.sum = problem.relu = problem.bias = false;
            struct conv_engine *engine = conv_engine_find(libraries, &target, &problem, &error);
            if (engine == NULL || engine->runtime_compiled) {
                fail_msg("%s %s: %s", precisions[p].name, rows[i].name, error.why);
            }
            conv_engine_free(libraries, engine);
        }
        struct conv_problem depthwise = problem_of(&rows[2], p);
        depthwise.shape.groups = 64;
        depthwise.channels_first = true;
        depthwise.bias = depthwise.relu = false;
        struct conv_engine *engine = conv_engine_find(libraries, &target, &depthwise, &error);
        assert_non_null(engine);
        conv_engine_free(libraries, engine);
    }
    libraries->cudnn.cudnnBackendDestroyDescriptor(target.properties);
}

/* -- the forms a plan falls back on, and those it would like ------------------------------------ */

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

static struct conv_problem form_of(const struct conv_row *row)
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

static void every_form_has_an_engine(void **state)
{
    struct error error = {0};
    const struct libraries *libraries = libraries_open(&error);
    (void)state;
    if (libraries == NULL) {
        assert_int_equal(error.code, ERROR_GPU); /* and says where it looked */
        assert_non_null(strstr(error.why, "/usr/local/cuda/lib64"));
        skip();
    }
    struct conv_target target = {.properties = describe(libraries, "h200")};
    for (size_t i = 0; i < sizeof conv_rows / sizeof conv_rows[0]; i++) {
        for (int form = 0; form < 8; form++) {
            struct conv_problem problem = form_of(&conv_rows[i]);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_that_are_no_choice),
        cmocka_unit_test(a_choice_can_be_made_again),
        cmocka_unit_test(channels_first_has_engines),
        cmocka_unit_test(every_form_has_an_engine),
        cmocka_unit_test(every_convolution_has_a_fused_engine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else /* built with CUDA=0 */
#include "support/no_cuda.h"

int main(void)
{
    return no_cuda_main();
}
#endif
