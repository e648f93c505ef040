/* CUPTI and NVML from end to end without a GPU: the worker is this program, with made-up tables of
 * both, and its GPU is a fake that tells of kernels and copies. The front is the real one.
 *
 * What such a run records, and the raw buffers beside it, are kept as synthetic-gpu in
 * tests/data/recordings (UPDATE=1 makes them anew). Every recording there that has raw buffers is
 * decoded again from them, and must hold what the recording shows. */
#define _GNU_SOURCE
#include "tests/support/cli.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/mock_cupti.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/worker.h"
#include "profiler/collector.h"
#include "profiler/collector_private.h"
#include "profiler/cupti_decode.h"
#include "tests/support/vt.h"

#include <glob.h>
#include <math.h>

#define DATA "tests/data/recordings/"
#define KEPT DATA "synthetic-gpu.ltr"

/* ---------------------------------------------------------------- the worker: CUPTI, NVML */

/* What the fake GPU did: its kernels and copies become records. */
void fake_gpu_kernel(const char *name, const uint32_t *grid, int64_t start_ns, int64_t end_ns);
void fake_gpu_copy(bool in, uint64_t bytes, int64_t start_ns, int64_t end_ns);

__attribute__((visibility("default"))) void fake_gpu_kernel(const char *name, const uint32_t *grid,
                                                            int64_t start_ns, int64_t end_ns)
{
    static char *names[64]; /* CUPTI's names live as long as their module */
    size_t at = 0;
    if (!mock_cupti.on[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL])
        return;
    while (at < 63 && names[at] && strcmp(names[at], name) != 0)
        at++;
    if (!names[at])
        names[at] = strdup(name);
    struct activity activity = activity_kernel(mock_cupti_correlation(), start_ns, end_ns, 0);
    CUpti_ActivityKernel10 record;
    memcpy(&record, activity.data, sizeof record);
    record.name = names[at];
    record.gridX = (int32_t)grid[0];
    record.gridY = (int32_t)grid[1];
    record.gridZ = (int32_t)grid[2];
    record.blockX = 128;
    record.blockY = record.blockZ = 1;
    record.registersPerThread = 40;
    record.staticSharedMemory = 1024;
    memcpy(activity.data, &record, sizeof record);
    mock_cupti_add(activity);
}

__attribute__((visibility("default"))) void fake_gpu_copy(bool in, uint64_t bytes, int64_t start_ns,
                                                          int64_t end_ns)
{
    if (!mock_cupti.on[CUPTI_ACTIVITY_KIND_MEMCPY])
        return;
    struct activity activity = activity_copy(mock_cupti_correlation(), start_ns, end_ns, bytes);
    CUpti_ActivityMemcpy6 record;
    memcpy(&record, activity.data, sizeof record);
    record.copyKind = in ? CUPTI_ACTIVITY_MEMCPY_KIND_HTOD : CUPTI_ACTIVITY_MEMCPY_KIND_DTOH;
    record.srcKind = in ? CUPTI_ACTIVITY_MEMORY_KIND_PINNED : CUPTI_ACTIVITY_MEMORY_KIND_DEVICE;
    record.dstKind = in ? CUPTI_ACTIVITY_MEMORY_KIND_DEVICE : CUPTI_ACTIVITY_MEMORY_KIND_PINNED;
    memcpy(activity.data, &record, sizeof record);
    mock_cupti_add(activity);
}

static int nvml_well(void)
{
    return 0;
}
static int nvml_count(unsigned *count)
{
    *count = 1;
    return 0;
}
static int nvml_handle(unsigned index, void **device)
{
    static char one;
    (void)index;
    *device = &one;
    return 0;
}
static int nvml_clock(void *device, unsigned type, unsigned *mhz)
{
    (void)device;
    *mhz = type == 1 ? 1755 : 2619;
    return 0;
}
static int nvml_temperature(void *device, unsigned sensor, unsigned *celsius)
{
    (void)device, (void)sensor;
    *celsius = 41;
    return 0;
}
static int nvml_bus(void *device, unsigned *bits)
{
    (void)device;
    *bits = 6144;
    return 0;
}
static int nvml_cores(void *device, unsigned *count)
{
    (void)device;
    *count = 16896;
    return 0;
}
static int nvml_capability(void *device, int *major, int *minor)
{
    (void)device;
    *major = 9;
    *minor = 0;
    return 0;
}
static int nvml_memory_info(void *device, struct nvml_memory *out)
{
    (void)device;
    *out = (struct nvml_memory){.total = 64u << 20, .used = 30u << 20, .free = 34u << 20};
    return 0;
}
static int nvml_throttle(void *device, unsigned long long *reasons)
{
    (void)device;
    *reasons = 0x4; /* the power cap */
    return 0;
}
static const struct nvml_api scripted_nvml = {.init = nvml_well,
                                              .shutdown = nvml_well,
                                              .device_count = nvml_count,
                                              .device_by_index = nvml_handle,
                                              .clock = nvml_clock,
                                              .temperature = nvml_temperature,
                                              .memory = nvml_memory_info,
                                              .throttle = nvml_throttle,
                                              .max_clock = nvml_clock,
                                              .bus_width = nvml_bus,
                                              .cores = nvml_cores,
                                              .capability = nvml_capability};

static int play_worker(void)
{
    struct collector *collector = collector_new();
    mock_cupti_reset(NULL);
    collector->cupti_api = &mock_cupti_api;
    collector->nvml_api = &scripted_nvml;
    int code = worker_main(STDIN_FILENO, STDOUT_FILENO, collector_hooks(collector));
    collector_free(collector);
    return code;
}

/* ---------------------------------------------------------------- the front */

static char self[512];

static struct cli_outcome run(const char *commands)
{
    char *arguments =
        xasprintf("--json --worker-command '%s' -c 'devices 0; profile cupti; batch 8' "
                  "-c 'load demo:digits' %s",
                  self, commands);
    struct cli_outcome out = cli_run(NULL, arguments);
    free(arguments);
    return out;
}

static void every_layer_has_its_kernels(void **state)
{
    (void)state;
    struct cli_outcome out = run("-c 'run 400 --warmup 5' -c kernels -c layers -c mem");
    assert_int_equal(out.code, 0);
    const json_t *run = cli_at(cli_object_of(&out, "run"), "data");
    const json_t *kernels = cli_at(cli_object_of(&out, "kernels"), "data");
    assert_string_equal(json_string_value(cli_at(run, "device")), "gpu:0");
    assert_string_equal(json_string_value(cli_at(run, "timing_source")), "cupti");
    size_t index, busy = 0;
    json_t *layer, *row;
    json_array_foreach(cli_at(run, "layers"), index, layer)
    {
        if (json_is_number(json_object_get(layer, "time_ms"))) {
            assert_true(cli_number_at(layer, "kernels") >= 1);
            busy++;
        }
    }
    assert_true(busy >= 5);
    /* the classes and the rest make up the wall; kernels and copies are the device's own times */
    double wall = cli_number_at(run, "ledger.wall_ms");
    assert_true(cli_number_at(run, "ledger.kernel_ms") > 0.5);
    assert_true(fabs(cli_number_at(run, "ledger.copy_ms") - 0.08) < 0.01);
    static const char *const classes[] = {"preprocess", "copy",     "launch",     "kernel",
                                          "gap",        "profiler", "unexplained"};
    double sum = 0;
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        char key[40];
        snprintf(key, sizeof key, "ledger.%s_ms", classes[i]);
        sum += cli_number_at(run, key);
    }
    assert_true(fabs(sum - wall) < 1e-6);
    /* in a throttled half second the numbers are marked */
    assert_string_equal(json_string_value(json_array_get(cli_at(run, "throttle"), 0)),
                        "sw_power_cap");
    assert_non_null(strstr(out.errors, "clocks held down by the power cap"));
    /* and so are the tables of the same numbers */
    static const char *const tables[] = {"kernels", "layers"};
    const char *warning = out.errors;
    for (size_t i = 0; i < 2; i++) {
        const json_t *table = cli_at(cli_object_of(&out, tables[i]), "data");
        assert_string_equal(json_string_value(json_array_get(cli_at(table, "throttle"), 0)),
                            "sw_power_cap");
        warning = strstr(warning, "clocks held down by the power cap");
        assert_non_null(warning);
        warning++;
    }
    assert_non_null(strstr(warning, "clocks held down by the power cap"));
    /* its buffers lie in the host's memory */
    const json_t *memory = cli_at(cli_object_of(&out, "mem"), "data");
    const json_t *device = json_array_get(cli_at(memory, "devices"), 0);
    assert_true(json_is_integer(cli_at(device, "library_bytes")));
    assert_int_equal(json_integer_value(cli_at(device, "cupti_bytes")), 0);
    /* kernel by kernel: shape, and against the roof */
    int rated = 0;
    json_array_foreach(cli_at(kernels, "kernels"), index, row)
    {
        assert_int_equal(strncmp(json_string_value(cli_at(row, "name")), "fake_", 5), 0);
        assert_int_equal(json_integer_value(json_array_get(cli_at(row, "grid"), 1)), 2);
        assert_int_equal(cli_number_at(row, "registers"), 40);
        assert_int_equal(cli_number_at(row, "shared_bytes"), 1024);
        rated += cli_number_at(row, "roof_share") > 0 && cli_number_at(row, "bytes_per_s") > 0;
    }
    assert_true(rated >= 5);
    /* 6144 bits at 2619 MHz, twice a clock; 16,896 cores at 1755 MHz, two FLOPs each */
    assert_true(fabs(cli_number_at(kernels, "roof.bytes_per_s") / 4.0228e12 - 1) < 1e-3);
    assert_true(fabs(cli_number_at(kernels, "roof.flops_per_s") / 59.305e12 - 1) < 1e-3);
    bool in = false, out_again = false;
    const json_t *copies = cli_at(kernels, "copies");
    assert_int_equal(json_array_size(copies), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *copy = json_array_get(copies, i);
        const char *kind = json_string_value(cli_at(copy, "kind"));
        in = in || strcmp(kind, "host to device (pinned)") == 0;
        out_again = out_again || strcmp(kind, "device to host (pinned)") == 0;
        assert_true(fabs(cli_number_at(copy, "per_step") - 1) < 1e-9);
    }
    assert_true(in && out_again);
    const json_t *lost = cli_at(kernels, "lost");
    assert_true(cli_number_at(lost, "dropped") + cli_number_at(lost, "untimed") +
                    cli_number_at(lost, "unmatched") <
                0.5);
    cli_outcome_free(&out);
}

/* ---------------------------------------------------------------- recorded, played, decoded */

/* Kernels of the steps in a raw file by op; *steps: how many there are. */
static void decode_raw(const char *path, uint64_t *by_op, size_t ops, size_t *steps)
{
    FILE *file = fopen(path, "rb");
    struct {
        char magic[8];
        uint32_t version, count;
    } head;
    if (!file || fread(&head, sizeof head, 1, file) != 1)
        fail_msg("%s cannot be read", path);
    assert_memory_equal(head.magic, "LTCUPTI1", 8);
    uint32_t sizes[32][2];
    assert_true(head.count <= 32);
    assert_int_equal(fread(sizes, sizeof sizes[0], head.count, file), head.count);
    struct cupti_api real = {0};
    char tried[700] = "";
    bool library = cupti_library_open(&real, 13, tried, sizeof tried);
    struct cupti_decoder *decoder =
        cupti_decoder_new(library ? real.next_record : activity_walk, false);
    uint64_t block[2], first = UINT64_MAX, last = 0;
    while (fread(block, sizeof block, 1, file) == 1) {
        uint8_t *bytes = aligned_alloc(8, (block[0] + 7) / 8 * 8);
        assert_int_equal(fread(bytes, 1, block[0], file), block[0]);
        /* pointers of the process that wrote them are dead */
        for (CUpti_Activity *record = NULL;
             activity_walk(bytes, block[0], &record) == CUPTI_SUCCESS;)
            if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL)
                ((CUpti_ActivityKernel10 *)(void *)record)->name = NULL;
        assert_true(cupti_decoder_buffer(decoder, bytes, block[0]));
        free(bytes);
    }
    cupti_decoder_flushed(decoder);
    cupti_decoder_flushed(decoder);
    size_t count;
    const struct gpu_event *events = cupti_decoder_events(decoder, &count);
    for (size_t i = 0; i < count; i++) {
        if (events[i].kind != GPU_EVENT_KERNEL)
            continue;
        assert_in_range(events[i].op, 0, ops - 1);
        assert_true(events[i].end_ns > events[i].start_ns);
        by_op[events[i].op]++;
        uint64_t step = gpu_tag_step(events[i].tag);
        first = step < first ? step : first;
        last = step > last ? step : last;
    }
    *steps = first <= last ? (size_t)(last - first + 1) : 0;
    struct gpu_losses losses;
    cupti_decoder_losses(decoder, &losses);
    assert_int_equal(losses.dropped + losses.untimed, 0);
    cupti_decoder_free(decoder);
    cupti_library_close(&real);
    fclose(file);
}

/* The kernels that a recording shows against those of its raw buffers. */
static void check_recording(const char *path)
{
    uint64_t by_op[512] = {0};
    size_t steps = 0, index;
    json_t *row;
    char *arguments = xasprintf("--json --replay %s --speed max -c 'sleep 700ms' -c kernels", path);
    struct cli_outcome out = cli_run(NULL, arguments);
    free(arguments);
    assert_int_equal(out.code, 0);
    const json_t *kernels = cli_at(cli_object_of(&out, "kernels"), "data");
    assert_string_equal(json_string_value(cli_at(kernels, "timing_source")), "cupti");
    assert_int_equal(strncmp(json_string_value(cli_at(kernels, "device")), "gpu:", 4), 0);
    char *raw = xasprintf("%s.cupti", path);
    decode_raw(raw, by_op, 512, &steps);
    free(raw);
    double shown = 0, decoded = 0;
    json_array_foreach(cli_at(kernels, "kernels"), index, row)
    {
        shown += cli_number_at(row, "per_step");
    }
    for (size_t i = 0; i < 512; i++)
        decoded += (double)by_op[i];
    assert_true(steps >= 10 && shown >= 5);
    /* each step of the recording has all its kernels in the raw buffers */
    if (fabs(decoded / (double)steps / shown - 1) > 0.02)
        fail_msg("%s: %g kernels a step are shown, the raw buffers have %g in %zu steps", path,
                 shown, decoded, steps);
    cli_outcome_free(&out);
}

static void copy_file(const char *from, const char *to)
{
    char *command = xasprintf("cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
    free(command);
}

static void what_is_recorded_is_decoded_again(void **state)
{
    (void)state;
    char *path = xasprintf("%s/gpu.ltr", cli_folder), *raw = xasprintf("%s.cupti", path);
    char *commands =
        xasprintf("-c 'run 5' -c 'record %s --raw' -c 'run 24 --warmup 0' -c 'record off'", path);
    struct cli_outcome out = run(commands);
    assert_int_equal(out.code, 0);
    cli_outcome_free(&out);
    check_recording(path);
    if (getenv("UPDATE")) {
        copy_file(path, KEPT);
        copy_file(raw, KEPT ".cupti");
    }
    free(commands);
    free(raw);
    free(path);
}

/* Those that are kept, made-up ones and real ones. */
static void kept_recordings_are_decoded_again(void **state)
{
    (void)state;
    glob_t found;
    assert_int_equal(glob(DATA "*.cupti", 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *path = strdup(found.gl_pathv[i]);
        path[strlen(path) - strlen(".cupti")] = '\0';
        check_recording(path);
        free(path);
    }
    globfree(&found);
}

/* On a machine without a GPU the screen shows one, and where its times come from. */
static void a_recording_drives_the_screen(void **state)
{
    (void)state;
    const char *program = getenv("LAYERTOP_BIN");
    const char *const argv[] = {program ? program : "build/layertop", "--replay", KEPT, NULL};
    struct vt *vt = vt_start(40, 140, argv, NULL);
    assert_non_null(vt);
    if (!vt_wait(vt, "gpu:0", 20000) || !vt_wait(vt, "timing cupti", 20000) ||
        !vt_wait(vt, "throttled", 20000) || !vt_wait(vt, "GPU memory", 20000) ||
        !vt_wait(vt, "conv1", 20000))
        fail_msg("%s", vt_text(vt));
    vt_free(vt);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--worker") == 0)
        return play_worker();
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_layer_has_its_kernels, fake_gpu_build,
                                        fake_gpu_remove),
        cmocka_unit_test_setup_teardown(what_is_recorded_is_decoded_again, fake_gpu_build,
                                        fake_gpu_remove),
        cmocka_unit_test(kept_recordings_are_decoded_again),
        cmocka_unit_test(a_recording_drives_the_screen),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}

#else /* built with CUDA=0 */
#include "support/no_cuda.h"

int main(void)
{
    return no_cuda_main();
}
#endif
