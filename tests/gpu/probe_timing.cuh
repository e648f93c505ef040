/* Are the times right that our CUPTI stack (profiler/cupti.h) hands out? Each experiment knows the truth
 * from another clock.
 *
 *   probe_cupti spin      kernels that spin for so many clocks, against the clocks they counted
 *   probe_cupti repeat    one kernel once and 100 times between two CUDA events, against its mean
 *   probe_cupti launch    events around a graph's launch, against its nodes and against its one record
 *   probe_cupti switch    nodes, whole graphs, nodes ... : every record counted, and what a switch costs
 *   probe_cupti ballast FREE_MIB SECONDS   hold the device's memory but for FREE_MIB
 *
 * Prints one JSON object of figures; the test that runs it judges them. Part of probe_cupti. */
#ifndef LAYERTOP_TESTS_GPU_PROBE_TIMING_CUH
#define LAYERTOP_TESTS_GPU_PROBE_TIMING_CUH

#include "tests/gpu/probe_cupti.cuh"

#include <cmath>

namespace timing {

/* One thread that spins; out[0] the clocks it took, out[1] nanoseconds of the device's timer. */
__global__ void spin_kernel(long long clocks, unsigned long long *out)
{
    unsigned long long begin, end;
    long long start = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    while (clock64() - start < clocks)
        continue;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(end));
    out[0] = (unsigned long long)(clock64() - start);
    out[1] = end - begin;
}

static const struct gpu_trace *trace;
static cudaStream_t stream;
static unsigned long long *result; /* [2], readable by the host */

static void open_all(void)
{
    struct error error = {};
    trace = cupti_open(nullptr, nullptr, &error);
    if (!trace) {
        fprintf(stderr, "CUPTI: %s\n", error.why);
        exit(4);
    }
    CUDA(cudaSetDevice(0));
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA(cudaMallocHost((void **)&result, 16));
    spin_kernel<<<1, 1, 0, stream>>>(200000000, result); /* the clocks rise */
    CUDA(cudaStreamSynchronize(stream));
}

static std::vector<struct gpu_event> take_all(void)
{
    std::vector<struct gpu_event> all, part(65536);
    for (int i = 0; i < 3; i++)
        trace->flush(trace->context, 2000000000);
    size_t count;
    while ((count = trace->take(trace->context, part.data(), part.size())) > 0)
        all.insert(all.end(), part.begin(), part.begin() + (long)count);
    return all;
}

static void put(json_t *out, const char *key, double value)
{
    json_object_set_new(out, key, std::isfinite(value) ? json_real(value) : json_null());
}

static double median(std::vector<double> values)
{
    if (values.empty())
        return NAN;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

static void put_losses(json_t *out)
{
    struct gpu_losses losses;
    trace->losses(trace->context, &losses);
    put(out, "dropped", (double)losses.dropped);
    put(out, "untimed", (double)losses.untimed);
}

static void spin(json_t *out)
{
    const long long clocks[] = {20000, 200000, 2000000, 20000000};
    double worst_us = 0, worst_share = 0, mhz = 0;
    open_all();
    take_all();
    for (int i = 3; i >= 0; i--) {
        std::vector<double> off;
        for (int round = 0; round < 5; round++) {
            spin_kernel<<<1, 1, 0, stream>>>(clocks[i], result);
            CUDA(cudaStreamSynchronize(stream));
            if (i == 3)
                mhz = (double)result[0] / (double)result[1] * 1e3;
            double wanted_us = (double)result[0] / mhz;
            for (const struct gpu_event &event : take_all())
                if (event.kind == GPU_EVENT_KERNEL)
                    off.push_back((double)(event.end_ns - event.start_ns) * 1e-3 - wanted_us);
        }
        double wanted_us = (double)clocks[i] / mhz, error_us = fabs(median(off));
        std::string key = "off_us_of_" + std::to_string((long)wanted_us) + "_us";
        put(out, key.c_str(), median(off));
        /* a kernel begins and ends a little outside of its own code */
        if (error_us > 1 && error_us / wanted_us > worst_share) {
            worst_us = error_us;
            worst_share = error_us / wanted_us;
        }
    }
    put(out, "sm_mhz", mhz);
    put(out, "worst_us", worst_us);
    put(out, "worst_share", worst_share);
    put_losses(out);
}

static void repeat(json_t *out)
{
    cudaEvent_t begin, end;
    open_all();
    take_all();
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    auto between = [&](int times) {
        std::vector<double> took;
        for (int round = 0; round < 9; round++) {
            CUDA(cudaEventRecord(begin, stream));
            for (int i = 0; i < times; i++)
                spin_kernel<<<1, 1, 0, stream>>>(200000, result);
            CUDA(cudaEventRecord(end, stream));
            CUDA(cudaStreamSynchronize(stream));
            float milliseconds;
            CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
            took.push_back((double)milliseconds * 1e3);
        }
        return median(took);
    };
    double once = between(1), often = between(100);
    std::vector<double> kernels;
    for (const struct gpu_event &event : take_all())
        if (event.kind == GPU_EVENT_KERNEL)
            kernels.push_back((double)(event.end_ns - event.start_ns) * 1e-3);
    double by_events = (often - once) / 99, by_cupti = median(kernels);
    put(out, "us_by_events", by_events);
    put(out, "us_by_cupti", by_cupti);
    put(out, "off_us", by_cupti - by_events);
    put(out, "off_share", fabs(by_cupti - by_events) / by_events);
    put(out, "kernels", (double)kernels.size());
    put_losses(out);
}

/* A graph of `nodes` spins, each launched as op 0, 1, 2 ... */
static cudaGraphExec_t captured(int nodes, long long clocks)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    trace->push(trace->context, gpu_tag(1, GPU_OP_NONE));
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int op = 0; op < nodes; op++) {
        trace->push(trace->context, gpu_tag(1, op));
        spin_kernel<<<1, 1, 0, stream>>>(clocks, result);
        trace->pop(trace->context);
    }
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    trace->pop(trace->context);
    CUDA(cudaGraphLaunch(exec, stream)); /* loads it */
    CUDA(cudaStreamSynchronize(stream));
    return exec;
}

static void launch(json_t *out)
{
    const int nodes = 50;
    cudaEvent_t begin, end;
    open_all();
    cudaGraphExec_t exec = captured(nodes, 40000);
    CUDA(cudaEventCreate(&begin));
    CUDA(cudaEventCreate(&end));
    const char *names[] = {"nodes", "whole"};
    for (int detail = 0; detail < 2; detail++) {
        if (!trace->detail(trace->context, (enum gpu_detail)detail, 1000000000))
            exit(5);
        take_all();
        std::vector<double> by_events, by_cupti, off;
        for (int round = 0; round < 20; round++) {
            CUDA(cudaEventRecord(begin, stream));
            CUDA(cudaGraphLaunch(exec, stream));
            CUDA(cudaEventRecord(end, stream));
            CUDA(cudaStreamSynchronize(stream));
            float milliseconds;
            CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
            int64_t first = INT64_MAX, last = 0;
            for (const struct gpu_event &event : take_all()) {
                if (event.kind != GPU_EVENT_KERNEL && event.kind != GPU_EVENT_GRAPH)
                    continue;
                first = std::min(first, event.start_ns);
                last = std::max(last, event.end_ns);
            }
            if (last == 0)
                continue;
            by_events.push_back((double)milliseconds * 1e3);
            by_cupti.push_back((double)(last - first) * 1e-3);
            off.push_back(by_cupti.back() - by_events.back());
        }
        json_t *row = json_object();
        put(row, "launches_seen", (double)by_cupti.size());
        put(row, "us_by_events", median(by_events));
        put(row, "us_by_cupti", median(by_cupti));
        put(row, "off_us", median(off));
        json_object_set_new(out, names[detail], row);
    }
    put_losses(out);
}

static void switching(json_t *out)
{
    const int nodes = 40, rounds = 10, replays = 20;
    open_all();
    cudaGraphExec_t exec = captured(nodes, 4000);
    take_all();
    std::vector<double> cost_us, wall_us[2];
    uint64_t kernels = 0, graphs = 0, wrong_phase = 0, unknown_op = 0, refused = 0;
    for (int round = 0; round < rounds; round++) {
        for (int detail = 0; detail < 2; detail++) {
            int64_t start = clock_now_ns();
            refused += !trace->detail(trace->context, (enum gpu_detail)detail, 1000000000);
            if (round + detail)
                cost_us.push_back((double)(clock_now_ns() - start) * 1e-3);
            for (int i = 0; i < replays; i++) {
                start = clock_now_ns();
                trace->push(trace->context, gpu_tag((uint64_t)(2 + i), GPU_OP_NONE));
                CUDA(cudaGraphLaunch(exec, stream));
                CUDA(cudaStreamSynchronize(stream));
                trace->pop(trace->context);
                wall_us[detail].push_back((double)(clock_now_ns() - start) * 1e-3);
            }
            for (const struct gpu_event &event : take_all()) {
                kernels += event.kind == GPU_EVENT_KERNEL;
                graphs += event.kind == GPU_EVENT_GRAPH;
                wrong_phase += event.kind == (detail ? GPU_EVENT_KERNEL : GPU_EVENT_GRAPH);
                unknown_op += event.kind == GPU_EVENT_KERNEL && (event.op < 0 || event.op >= nodes);
            }
        }
    }
    put(out, "kernels_missing", (double)(rounds * replays * nodes) - (double)kernels);
    put(out, "graphs_missing", (double)(rounds * replays) - (double)graphs);
    put(out, "wrong_phase", (double)wrong_phase);
    put(out, "unknown_op", (double)unknown_op);
    put(out, "refused", (double)refused);
    put(out, "switch_us_median", median(cost_us));
    put(out, "step_us_nodes", median(wall_us[0]));
    put(out, "step_us_whole", median(wall_us[1]));
    put_losses(out);
}

/* In pieces, so that what is left is what was asked for however memory is cut. Says when it is held. */
static void ballast(double free_mib, double seconds)
{
    size_t available, total, piece = (size_t)256 << 20;
    CUDA(cudaSetDevice(0));
    CUDA(cudaMemGetInfo(&available, &total));
    while (piece >= ((size_t)2 << 20)) {
        void *held;
        CUDA(cudaMemGetInfo(&available, &total));
        if ((double)available < free_mib * 1048576 + (double)piece ||
            cudaMalloc(&held, piece) != cudaSuccess) {
            cudaGetLastError();
            piece /= 2;
        }
    }
    CUDA(cudaMemGetInfo(&available, &total));
    printf("{\"free_bytes\": %zu}\n", available);
    fflush(stdout);
    usleep((useconds_t)(seconds * 1e6));
}

/* Runs the experiment `name`; false if there is none of that name. */
static bool run(const std::string &name, int count, char **arguments, json_t *out)
{
    if (name == "spin")
        spin(out);
    else if (name == "repeat")
        repeat(out);
    else if (name == "launch")
        launch(out);
    else if (name == "switch")
        switching(out);
    else if (name == "ballast" && count == 4)
        ballast(atof(arguments[2]), atof(arguments[3]));
    else
        return false;
    if (trace)
        trace->close(trace->context);
    return true;
}

} // namespace timing

#endif
