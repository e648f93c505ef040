/* What ran kernel by kernel: the roof, names, the table of the collector, its frame, what the store
 * makes of it. */
#include "profiler/demangle.h"
#include "profiler/roof.h"
#include "profiler/store_trace.h"
#include "profiler/trace_table.h"
#include "tests/support/collector_bench.h"

#include "engine/backend.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool near(double value, double wanted)
{
    return fabs(value / wanted - 1) < 1e-3;
}

/* ---------------------------------------------------------------- the roof */

/* NVIDIA's data sheets give 989 TFLOP/s fp16, 495 tf32, 67 fp32, 4.8 TB/s for the H200 at 1830 MHz
 * under tensor load and 1980 otherwise */
static void the_roof_of_a_gpu_is_its_data_sheet(void **state)
{
    (void)state;
    struct roof h200 = roof_gpu(&(struct gpu_specs){
        .cores = 16896, .sm_mhz = 1830, .memory_mhz = 3201, .bus_bits = 6144, .major = 9});
    assert_int_equal(h200.source, ROOF_DEVICE_PEAK);
    assert_true(fabs(h200.flops_per_s[PRECISION_FP16] / 989e12 - 1) < 0.01);
    assert_true(fabs(h200.flops_per_s[PRECISION_TF32] / 495e12 - 1) < 0.01);
    assert_true(fabs(h200.flops_per_s[PRECISION_INT8] / 1979e12 - 1) < 0.01);
    assert_true(fabs(h200.flops_per_s[PRECISION_FP32] / 61.9e12 - 1) < 0.01);
    assert_true(fabs(h200.bytes_per_s / 4.8e12 - 1) < 0.03);
    struct roof t4 = roof_gpu(&(struct gpu_specs){.cores = 2560,
                                                  .sm_mhz = 1590,
                                                  .memory_mhz = 5001,
                                                  .bus_bits = 256,
                                                  .major = 7,
                                                  .minor = 5});
    assert_true(fabs(t4.flops_per_s[PRECISION_FP16] / 65e12 - 1) < 0.01);
    assert_true(isnan(t4.flops_per_s[PRECISION_TF32]));
    assert_true(isnan(t4.flops_per_s[PRECISION_BF16]));
    assert_true(fabs(t4.bytes_per_s / 320e9 - 1) < 0.01);
    /* a driver that says nothing, an architecture that is not in the table */
    assert_int_equal(roof_gpu(&(struct gpu_specs){.cores = 0}).source, ROOF_UNKNOWN);
    struct roof newer = roof_gpu(&(struct gpu_specs){.cores = 128, .sm_mhz = 1000, .major = 42});
    assert_true(near(newer.flops_per_s[PRECISION_FP32], 256e9));
    assert_true(isnan(newer.flops_per_s[PRECISION_FP16]));
    assert_true(isnan(newer.bytes_per_s));
}

static void the_roof_of_a_cpu_is_its_instructions(void **state)
{
    (void)state;
    const char *text = "processor\t: 0\nmodel name\t: some\nflags\t\t: fpu sse2 fma avx512f "
                       "avx512_vnni amx_bf16 amx_int8\n\nprocessor\t: 1\n";
    struct roof roof = roof_cpu(text, 2, 3e9);
    assert_true(near(roof.flops_per_s[PRECISION_FP32], 384e9));
    assert_true(near(roof.flops_per_s[PRECISION_BF16], 12.288e12));
    assert_true(isnan(roof.flops_per_s[PRECISION_TF32]));
    assert_true(isnan(roof.bytes_per_s));
    roof = roof_cpu("flags : sse2 xavx512f fma", 1, 1e9);
    assert_true(near(roof.flops_per_s[PRECISION_FP32], 32e9));
    assert_true(isnan(roof.flops_per_s[PRECISION_BF16]));
    assert_int_equal(roof_cpu("Features : asimd", 2, 3e9).source, ROOF_UNKNOWN);
    assert_int_equal(roof_cpu(text, 2, 0).source, ROOF_UNKNOWN);
    double hertz = roof_clock();
    assert_true(hertz >= 0 && hertz < 2e10);
    double bytes = roof_memory(2); /* a busy machine is slow, none is that fast */
    assert_true(bytes > 1e8 && bytes < 1e13);
}

/* ---------------------------------------------------------------- names */

static void mangled_names_are_undone(void **state)
{
    (void)state;
    char *plain = demangle("sm90_xmma_gemm_f32");
    assert_string_equal(plain, "sm90_xmma_gemm_f32");
    free(plain);
    char *broken = demangle("_Zthis is none");
    assert_string_equal(broken, "_Zthis is none");
    free(broken);
    void *library = dlopen("libstdc++.so.6", RTLD_NOW);
    char *name = demangle("_Z6kernelPfi");
    assert_string_equal(name, library ? "kernel(float*, int)" : "_Z6kernelPfi");
    free(name);
    if (library)
        dlclose(library);
}

/* ---------------------------------------------------------------- table and frame */

static bool name_kernel(void *context, uint32_t number, struct gpu_kernel *out)
{
    (void)context;
    *out = (struct gpu_kernel){.name = number == 1 ? "winograd\x1b[31m" : "relu",
                               .grid = {number, 2, 3},
                               .block = {128, 1, 1},
                               .registers = 40,
                               .shared_static_bytes = 1024,
                               .shared_dynamic_bytes = 2048};
    return number < 3;
}
static const struct gpu_trace naming = {.kernel = name_kernel};

/* Two steps that count, of which the first is given to ops 0 and 1 and to nobody; one that does not */
static struct trace_table *filled(void)
{
    struct trace_table *table = trace_table_new();
    struct graph *graph = &collector_bench_graph;
    graph->ops[0].flops = 4000000;
    graph->ops[0].bytes = 1000;
    trace_table_plan(table, graph, (const char *const[]){"cudnn", "own", NULL});
    assert_false(trace_table_changed(table));
    for (int step = 0; step < 3; step++) {
        trace_table_kernel(table, 0, 1, 3 * MS);
        trace_table_kernel(table, 0, 2, MS / 2);
        trace_table_kernel(table, 0, 2, MS / 2);
        trace_table_kernel(table, 1, 0, (step + 1) * MS);
        trace_table_copy(table, gpu_copy_detail(1, 1, 3), 1 << 20, MS / 4);
        if (step == 0)
            trace_table_kernel(table, GPU_OP_NONE, 7, 1000);
        trace_table_step(table, step < 2);
    }
    trace_table_overhead(table, 1u << 16, MS);
    trace_table_overhead(table, 1u << 16, MS);
    assert_true(trace_table_changed(table));
    return table;
}

static struct record_writer frame_of(struct trace_table *table)
{
    struct record_writer writer = {.data = NULL};
    struct record_header header = {.kind = RECORD_TRACE, .device = 0, .time_ns = 5 * MS};
    struct record_trace head = {.timing = TIMING_CUPTI,
                                .bursts = true,
                                .graphs = 4,
                                .graph_ns = 8 * MS,
                                .burst_cost = 0.008f,
                                .dropped = 1,
                                .unmatched = 2,
                                .untimed = 3,
                                .roof = roof_unknown()};
    record_begin(&writer, &header);
    trace_table_encode(table, &head, &naming, &writer);
    assert_false(trace_table_changed(table));
    return writer;
}

static const struct store_kernel *kernel_named(const struct store_trace *trace, const char *name)
{
    for (size_t i = 0; i < trace->kernel_count; i++)
        if (strcmp(trace->kernels[i].name, name) == 0)
            return &trace->kernels[i];
    return NULL;
}

static void kernels_arrive_in_the_store(void **state)
{
    (void)state;
    struct trace_table *table = filled();
    struct record_writer frame = frame_of(table);
    struct collector_bench *bench;
    collector_bench_setup((void **)&bench);
    json_t *plan = json_pack("{s:s}", "device", "gpu:0");
    store_plan(bench->store, plan);
    assert_null(store_trace_get(bench->store, NULL));
    struct error error = {.code = ERROR_NONE};
    assert_true(store_feed(bench->store, frame.data, frame.bytes, &error));
    const struct store_trace *trace = store_trace_get(bench->store, NULL);
    assert_non_null(trace);
    assert_ptr_equal(trace, store_trace_get(bench->store, "gpu:0"));
    assert_null(store_trace_get(bench->store, "cpu"));
    assert_string_equal(trace->timing_source, "cupti");
    assert_int_equal(trace->steps, 2);
    assert_true(near(trace->graph_ms, 2));
    assert_true(trace->bursts);
    assert_int_equal(trace->dropped + 10 * trace->unmatched + 100 * trace->untimed, 321);
    assert_int_equal(trace->kernel_count, 4);
    /* the longest kernel of op 0 bears its rates: 4 MFLOP in 4 ms */
    const struct store_kernel *winograd = kernel_named(trace, "winograd?[31m");
    if (!winograd)
        winograd = &trace->kernels[0];
    assert_int_equal(winograd->op, 0);
    assert_int_equal(winograd->layer, 1);
    assert_null(strchr(winograd->name, '\x1b'));
    assert_true(near(winograd->per_step, 1));
    assert_true(near(winograd->step_ms, 3));
    assert_true(near(winograd->flops_per_s, 1e9));
    assert_true(near(winograd->bytes_per_s, 250e3));
    assert_int_equal(winograd->shape.grid[0], 1);
    assert_int_equal(winograd->shape.registers, 40);
    const struct store_kernel *relu = kernel_named(trace, "relu");
    assert_non_null(relu);
    assert_true(near(relu->per_step, 2));
    assert_true(near(relu->mean_ms, 0.5));
    assert_true(isnan(relu->flops_per_s));
    /* an op timed as a whole bears the name of its implementation, and no shape */
    const struct store_kernel *own = kernel_named(trace, "own");
    assert_non_null(own);
    assert_false(own->launched);
    assert_true(near(own->step_ms, 1.5));
    assert_true(near(own->max_ms, 2));
    assert_int_equal(trace->copy_count, 1);
    assert_string_equal(trace->copies[0].kind, "host to device (pageable)");
    assert_true(trace->copies[0].pageable);
    assert_true(near(trace->copies[0].bytes_per_step, 1 << 20));
    assert_int_equal(trace->overhead_count, 1);
    assert_string_equal(trace->overheads[0].kind, "flushing buffers");
    assert_true(near(trace->overheads[0].total_ms, 2));
    /* another plan forgets it, the same one does not */
    store_plan(bench->store, plan);
    assert_non_null(store_trace_get(bench->store, NULL));
    json_object_set_new(plan, "batch", json_integer(9));
    store_plan(bench->store, plan);
    assert_null(store_trace_get(bench->store, NULL));
    json_decref(plan);
    collector_bench_teardown((void **)&bench);
    free(frame.data);
    trace_table_free(table);
}

/* Cut anywhere, or with any byte changed, a frame is refused or read: never more than that */
static void broken_frames_do_no_harm(void **state)
{
    (void)state;
    struct trace_table *table = filled();
    struct record_writer frame = frame_of(table);
    struct collector_bench *bench;
    collector_bench_setup((void **)&bench);
    struct error error;
    for (size_t bytes = RECORD_HEADER_BYTES; bytes < frame.bytes; bytes++) {
        uint8_t *cut = malloc(bytes);
        memcpy(cut, frame.data, bytes);
        error = (struct error){.code = ERROR_NONE};
        assert_false(store_feed(bench->store, cut, bytes, &error));
        assert_int_equal(error.code, ERROR_STREAM);
        free(cut);
    }
    assert_null(store_trace_get(bench->store, "gpu:0"));
    for (size_t i = RECORD_HEADER_BYTES; i < frame.bytes; i++) {
        uint8_t before = frame.data[i];
        frame.data[i] = 0xff;
        store_feed(bench->store, frame.data, frame.bytes, NULL);
        frame.data[i] = before;
    }
    assert_true(store_feed(bench->store, frame.data, frame.bytes, NULL));
    collector_bench_teardown((void **)&bench);
    free(frame.data);
    trace_table_free(table);
}

/* ---------------------------------------------------------------- from the collector */

static void the_cpus_ops_bear_their_implementation(void **state)
{
    struct collector_bench *bench = *state;
    const struct observer *o = collector_bench_observer(bench);
    o->implementations(o->context, (const char *const[]){"brgconv:avx512", NULL, NULL});
    o->segment(o->context, 3);
    for (int i = 0; i < 10; i++)
        collector_bench_step(bench, (uint64_t)i, (const int64_t[]){2 * MS, 3 * MS, 4 * MS});
    o->step_begin(o->context, 10, bench->now);
    o->op_end(o->context, 0, INTERVAL_KERNEL, bench->now, bench->now + 500 * MS);
    bench->hooks->flush(bench->hooks->context); /* an interrupted step counts nowhere */
    const struct store_trace *trace = store_trace_get(bench->store, "cpu");
    assert_non_null(trace);
    assert_int_equal(trace->steps, 10);
    assert_int_equal(trace->kernel_count, 3);
    const struct store_kernel *conv = kernel_named(trace, "brgconv:avx512");
    assert_non_null(conv);
    assert_true(near(conv->per_step, 1));
    assert_true(near(conv->step_ms, 2));
    assert_false(conv->launched);
    o->segment(o->context, 4);
    collector_bench_step(bench, 20, (const int64_t[]){MS, MS, MS});
    bench->hooks->flush(bench->hooks->context);
    trace = store_trace_get(bench->store, "cpu");
    assert_int_equal(trace->steps, 1);
    assert_true(near(kernel_named(trace, "brgconv:avx512")->step_ms, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_roof_of_a_gpu_is_its_data_sheet),
        cmocka_unit_test(the_roof_of_a_cpu_is_its_instructions),
        cmocka_unit_test(mangled_names_are_undone),
        cmocka_unit_test(kernels_arrive_in_the_store),
        cmocka_unit_test(broken_frames_do_no_harm),
        cmocka_unit_test_setup_teardown(the_cpus_ops_bear_their_implementation,
                                        collector_bench_setup, collector_bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
