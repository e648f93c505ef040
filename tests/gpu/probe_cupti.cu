/* What CUPTI does on this machine, where its documentation leaves room:
 *
 *   probe_cupti              run every experiment, each in a process of its own (CUPTI's attributes
 *                            must be set before a context), and print one JSON object
 *   probe_cupti all SECONDS  the same, but nothing begins after SECONDS
 *   probe_cupti NAME ARGS    run one
 *
 * correlation MODE   which API kinds external correlation records need (none, runtime, driver, calls,
 *                    all), for launches by <<<>>>, cudaLaunchKernelExC, cuLaunchKernel, cudaMemcpyAsync
 * graph              callbacks and node ids through capture, instantiation, a second executable
 * sessions           records counted through on, off, on; and after a session without launches
 * replay PINNED LIMIT CALLS    1.2 million kernels of replayed graphs: zero timestamps, memory
 * flush              latency of cuptiActivityFlushAll(0) at 20 Hz, and what it costs the steps
 * bursts             tracing on and off over replays: cost of each, of the switch, records lost
 * memory             which ways to allocate leave MEMORY2 records
 * ours GRAPH         our own stack (profiler/cupti.h) end to end: every kernel with its op?
 * spin, repeat, launch, switch, ballast: probe_timing.cuh
 */
#include "tests/gpu/probe_cupti.cuh"
#include "tests/gpu/probe_timing.cuh"

/* ---------------------------------------------------------------- experiments */

static void correlation(const std::string &mode, json_t *out)
{
    open_cupti();
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_MEMCPY));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION));
    if (mode == "all") {
        CUPTI(api.enable(CUPTI_ACTIVITY_KIND_RUNTIME));
        CUPTI(api.enable(CUPTI_ACTIVITY_KIND_DRIVER));
    } else {
        enable_calls(mode == "runtime" || mode == "calls", mode == "driver" || mode == "calls");
    }
    open_device();
    cudaFunction_t function;
    CUDA(cudaGetFuncBySymbol(&function, (const void *)probe_kernel));
    float *pinned;
    CUDA(cudaMallocHost((void **)&pinned, 4096));
    int rounds = 10;
    void *arguments[] = {&device_data, &rounds};
    forget();
    auto each = [&](uint64_t base, auto launch) {
        for (uint64_t i = 0; i < 100; i++) {
            CUPTI(api.push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, base + i));
            launch();
            uint64_t last;
            CUPTI(api.pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last));
        }
    };
    each(1000, [&] { probe_kernel<<<1, 32, 0, stream>>>(device_data, rounds); });
    each(2000, [&] {
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3(1);
        config.blockDim = dim3(32);
        config.stream = stream;
        CUDA(cudaLaunchKernelExC(&config, (const void *)probe_kernel, arguments));
    });
    each(3000, [&] {
        if (cuLaunchKernel((CUfunction)function, 1, 1, 1, 32, 1, 1, 0, (CUstream)stream, arguments,
                           nullptr) != CUDA_SUCCESS)
            exit(3);
    });
    each(4000,
         [&] { CUDA(cudaMemcpyAsync(device_data, pinned, 4096, cudaMemcpyHostToDevice, stream)); });
    settle();
    uint64_t copies = 0;
    for (uint32_t id : seen.copies)
        copies += seen.external.count(id);
    set(out, "kernels", (uint64_t)seen.kernels.size());
    set(out, "external", (uint64_t)seen.external.size());
    set(out, "runtime_records", seen.records[CUPTI_ACTIVITY_KIND_RUNTIME]);
    set(out, "driver_records", seen.records[CUPTI_ACTIVITY_KIND_DRIVER]);
    set(out, "joined_runtime_of_100", joined(1000, 1099));
    set(out, "joined_exc_of_100", joined(2000, 2099));
    set(out, "joined_driver_of_100", joined(3000, 3099));
    set(out, "joined_copies_of_100", copies);
}

static void graph_callbacks(void)
{
    for (CUpti_CallbackId id : {(CUpti_CallbackId)CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED,
                                (CUpti_CallbackId)CUPTI_CBID_RESOURCE_GRAPHNODE_CLONED,
                                (CUpti_CallbackId)CUPTI_CBID_RESOURCE_GRAPHNODE_DESTROY_STARTING,
                                (CUpti_CallbackId)CUPTI_CBID_RESOURCE_GRAPH_NODE_UPDATED})
        CUPTI(api.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RESOURCE, id));
}

static cudaGraph_t capture(int nodes)
{
    cudaGraph_t graph;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int op = 0; op < nodes; op++) {
        current_op = op;
        probe_kernel<<<1, 32, 0, stream>>>(device_data, 10);
        current_op = -1;
    }
    CUDA(cudaStreamEndCapture(stream, &graph));
    return graph;
}

static cudaGraphExec_t instantiate(cudaGraph_t graph)
{
    cudaGraphExec_t exec;
    in_instantiate = true;
    CUDA(cudaGraphInstantiate(&exec, graph, 0));
    in_instantiate = false;
    return exec;
}

static void graph(json_t *out)
{
    open_cupti();
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION));
    enable_calls(true, true);
    graph_callbacks();
    open_device();
    cudaGraph_t captured = capture(10);
    cudaGraphExec_t first = instantiate(captured);
    cudaGraphExec_t second = instantiate(captured);
    forget();
    uint64_t pushed = 0;
    auto replay = [&](cudaGraphExec_t exec, int times) {
        for (int i = 0; i < times; i++) {
            CUPTI(api.push(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, 5000 + pushed++));
            CUDA(cudaGraphLaunch(exec, stream));
            uint64_t last;
            CUPTI(api.pop(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &last));
            CUDA(cudaStreamSynchronize(stream));
        }
    };
    auto report = [&](const char *name) {
        settle();
        uint64_t known = 0, right_external = 0;
        std::map<int, uint64_t> per_op;
        std::set<uint32_t> ids;
        for (auto &kernel : seen.kernels) {
            auto op = node_op.find(kernel.second);
            known += op != node_op.end();
            if (op != node_op.end())
                per_op[op->second]++;
            ids.insert(kernel.first);
            right_external += seen.external.count(kernel.first);
        }
        bool even = per_op.size() == 10;
        for (auto &one : per_op)
            even = even && one.second == seen.kernels.size() / 10;
        json_t *row = json_object();
        set(row, "kernels", (uint64_t)seen.kernels.size());
        set(row, "with_known_node", known);
        set(row, "with_external_id", right_external);
        set(row, "correlation_ids", (uint64_t)ids.size());
        json_object_set_new(row, "every_op_equally", json_boolean(even));
        json_object_set_new(out, name, row);
        forget();
    };
    replay(first, 20);
    report("first_exec_20_replays");
    replay(second, 20);
    report("second_exec_20_replays");
    cudaGraph_t again = capture(10);
    cudaGraphExecUpdateResultInfo info;
    cudaError_t update = cudaGraphExecUpdate(first, again, &info);
    replay(first, 20);
    report("after_update_20_replays");
    json_object_set_new(out, "update", json_string(cudaGetErrorString(update)));
    CUDA(cudaGraphExecDestroy(second));
    replay(first, 5);
    report("after_destroy_5_replays");
    set(out, "created_in_capture", created_in_capture);
    set(out, "created_in_instantiate", created_in_instantiate);
    set(out, "created_elsewhere", created_elsewhere);
    set(out, "cloned", cloned);
    set(out, "updated", updated);
    set(out, "destroyed", destroyed);
}

static void sessions(json_t *out)
{
    open_cupti();
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    open_device();
    forget();
    auto hundred = [&](const char *name) {
        for (int i = 0; i < 100; i++)
            probe_kernel<<<1, 32, 0, stream>>>(device_data, 10);
        settle();
        set(out, name, (uint64_t)seen.kernels.size());
        forget();
    };
    hundred("on_1");
    CUPTI(api.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    hundred("off_1");
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    hundred("on_2");
    CUPTI(api.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    settle();
    CUPTI(api.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    hundred("on_3_after_an_empty_session");
}

static double resident_mib(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &size, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

static double device_used_mib(void)
{
    size_t free_bytes, total_bytes;
    CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
    return (double)(total_bytes - free_bytes) / 1048576;
}

static void replay_many(bool pinned, int limit, bool calls, json_t *out)
{
    open_cupti();
    seen.keep = false;
    attribute(CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED, pinned, 1);
    if (limit)
        attribute(CUPTI_ACTIVITY_ATTR_DEVICE_BUFFER_POOL_LIMIT, (size_t)limit, sizeof(size_t));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    if (calls) {
        CUPTI(api.enable(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION));
        enable_calls(true, true);
    }
    open_device();
    cudaGraphExec_t exec = instantiate(capture(1000));
    CUDA(cudaGraphLaunch(exec, stream));
    forget();
    double device_before = device_used_mib(), host_before = resident_mib();
    int64_t start = clock_now_ns(), last_flush = start;
    for (int i = 0; i < 1200; i++) {
        CUDA(cudaGraphLaunch(exec, stream));
        CUDA(cudaStreamSynchronize(stream));
        if (clock_now_ns() - last_flush > 50000000) {
            CUPTI(api.flush_all(0));
            last_flush = clock_now_ns();
        }
    }
    double seconds = (double)(clock_now_ns() - start) * 1e-9;
    settle();
    size_t dropped = 0;
    CUPTI(api.dropped(nullptr, 0, &dropped));
    set(out, "kernels", seen.records[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    set(out, "zero_timestamps", seen.zero_times);
    set(out, "dropped", (uint64_t)dropped);
    set(out, "us_per_kernel", seconds * 1e6 / 1.2e6);
    set(out, "device_growth_mib", device_used_mib() - device_before);
    set(out, "host_growth_mib", resident_mib() - host_before);
}

static double median(std::vector<double> values)
{
    if (values.empty())
        return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

static double steps_us(double seconds)
{
    std::vector<double> walls;
    int64_t until = clock_now_ns() + (int64_t)(seconds * 1e9);
    while (clock_now_ns() < until) {
        int64_t start = clock_now_ns();
        for (int i = 0; i < 100; i++)
            probe_kernel<<<1, 32, 0, stream>>>(device_data, 200);
        CUDA(cudaStreamSynchronize(stream));
        walls.push_back((double)(clock_now_ns() - start) * 1e-3);
    }
    return median(walls);
}

static void flush(json_t *out)
{
    open_cupti();
    seen.keep = false;
    attribute(CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED, 1, 1);
    open_device();
    set(out, "step_us_cupti_off", steps_us(1));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    set(out, "step_us_kernels", steps_us(1));
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION));
    enable_calls(true, true);
    set(out, "step_us_kernels_and_calls", steps_us(1));
    std::atomic<bool> stop{false};
    std::vector<double> latency;
    std::thread flusher([&] {
        while (!stop) {
            usleep(50000);
            int64_t start = clock_now_ns();
            api.flush_all(0);
            latency.push_back((double)(clock_now_ns() - start) * 1e-3);
        }
    });
    set(out, "step_us_flushed_at_20_hz", steps_us(2));
    stop = true;
    flusher.join();
    set(out, "flush_us_median", median(latency));
    set(out, "flush_us_max", *std::max_element(latency.begin(), latency.end()));
    set(out, "flushes", (uint64_t)latency.size());
    settle();
    set(out, "zero_timestamps", seen.zero_times);
}

/* Tracing in bursts: 100 ms on, 400 ms off, for 8 s, over replays of a graph of 60 kernels */
static void bursts(json_t *out)
{
    open_cupti();
    seen.keep = false;
    attribute(CUPTI_ACTIVITY_ATTR_MEM_ALLOCATION_TYPE_HOST_PINNED, 1, 1);
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    open_device();
    cudaGraphExec_t exec = instantiate(capture(60));
    std::vector<double> on_us, off_us, enable_us, disable_us;
    uint64_t traced = 0;
    auto phase = [&](double seconds, std::vector<double> &walls) {
        int64_t until = clock_now_ns() + (int64_t)(seconds * 1e9);
        uint64_t steps = 0;
        while (clock_now_ns() < until) {
            int64_t start = clock_now_ns();
            CUDA(cudaGraphLaunch(exec, stream));
            CUDA(cudaStreamSynchronize(stream));
            walls.push_back((double)(clock_now_ns() - start) * 1e-3);
            steps++;
        }
        return steps;
    };
    std::vector<double> warm;
    phase(0.3, warm);
    forget();
    for (int i = 0; i < 16; i++) {
        traced += phase(0.1, on_us);
        CUPTI(api.flush_all(0));
        int64_t start = clock_now_ns();
        CUPTI(api.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
        disable_us.push_back((double)(clock_now_ns() - start) * 1e-3);
        phase(0.4, off_us);
        start = clock_now_ns();
        CUPTI(api.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
        enable_us.push_back((double)(clock_now_ns() - start) * 1e-3);
    }
    settle();
    set(out, "step_us_on", median(on_us));
    set(out, "step_us_off", median(off_us));
    set(out, "enable_us_median", median(enable_us));
    set(out, "disable_us_median", median(disable_us));
    set(out, "kernels", seen.records[CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL]);
    set(out, "kernels_expected", traced * 60);
    set(out, "zero_timestamps", seen.zero_times);
}

static void memory(json_t *out)
{
    open_cupti();
    CUPTI(api.enable(CUPTI_ACTIVITY_KIND_MEMORY2));
    open_device();
    forget();
    const size_t base = 64 << 20, granule = 2 << 20;
    void *plain, *asynchronous;
    CUDA(cudaMalloc(&plain, base));
    CUDA(cudaMallocAsync(&asynchronous, base + granule, stream));
    CUmemAllocationProp properties = {};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    CUmemAccessDesc access = {};
    access.location = properties.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    bool mapped = cuMemCreate(&handle, base + 2 * granule, &properties, 0) == CUDA_SUCCESS &&
                  cuMemAddressReserve(&address, base + 2 * granule, 0, 0, 0) == CUDA_SUCCESS &&
                  cuMemMap(address, base + 2 * granule, 0, handle, 0) == CUDA_SUCCESS &&
                  cuMemSetAccess(address, base + 2 * granule, &access, 1) == CUDA_SUCCESS;
    settle();
    set(out, "records_cudaMalloc", seen.allocations[base]);
    set(out, "records_cudaMallocAsync", seen.allocations[base + granule]);
    json_object_set_new(out, "mapped", json_boolean(mapped));
    set(out, "records_cuMemCreate", seen.allocations[base + 2 * granule]);
    set(out, "records_all", seen.records[CUPTI_ACTIVITY_KIND_MEMORY2]);
}

static void ours(bool graphs, json_t *out)
{
    struct error error = {};
    const struct gpu_trace *trace = cupti_open(nullptr, nullptr, &error);
    if (!trace) {
        json_object_set_new(out, "refused", json_string(error.why));
        exit(5);
    }
    open_device();
    cudaGraphExec_t exec = nullptr;
    uint64_t step = 1;
    auto run = [&] {
        for (int op = 0; op < 10; op++) {
            trace->push(trace->context, gpu_tag(step, op));
            for (int k = 0; k <= op % 2; k++)
                probe_kernel<<<1, 32, 0, stream>>>(device_data, 10);
            trace->pop(trace->context);
        }
    };
    trace->push(trace->context, gpu_tag(step, GPU_OP_NONE));
    if (graphs) {
        cudaGraph_t captured;
        CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        run();
        CUDA(cudaStreamEndCapture(stream, &captured));
        CUDA(cudaGraphInstantiate(&exec, captured, 0));
    } else {
        run();
    }
    trace->pop(trace->context);
    CUDA(cudaStreamSynchronize(stream));
    trace->flush(trace->context, 1000000000);
    trace->flush(trace->context, 1000000000);
    std::vector<struct gpu_event> events(65536);
    trace->take(trace->context, events.data(), events.size());
    uint64_t right = 0, wrong_op = 0, untagged = 0, outside = 0, total = 0;
    std::map<uint64_t, std::pair<int64_t, int64_t>> bounds;
    for (step = 2; step < 502; step++) {
        int64_t start = clock_now_ns();
        trace->push(trace->context, gpu_tag(step, GPU_OP_NONE));
        if (graphs)
            CUDA(cudaGraphLaunch(exec, stream));
        else
            run();
        CUDA(cudaStreamSynchronize(stream));
        trace->pop(trace->context);
        bounds[step] = {start, clock_now_ns()};
    }
    for (int i = 0; i < 3; i++)
        trace->flush(trace->context, 1000000000);
    std::map<int, uint64_t> per_op;
    size_t taken;
    while ((taken = trace->take(trace->context, events.data(), events.size())) > 0) {
        for (size_t i = 0; i < taken; i++) {
            const struct gpu_event &event = events[i];
            if (event.kind != GPU_EVENT_KERNEL)
                continue;
            total++;
            untagged += event.tag == 0;
            per_op[event.op]++;
            bool within = false;
            if (event.tag) {
                auto bound = bounds.find(gpu_tag_step(event.tag));
                within = bound != bounds.end() && event.start_ns >= bound->second.first &&
                         event.end_ns <= bound->second.second;
            } else {
                for (auto &bound : bounds)
                    within = within || (event.start_ns >= bound.second.first &&
                                        event.end_ns <= bound.second.second);
            }
            outside += !within;
        }
    }
    for (auto &one : per_op) {
        uint64_t expected = one.first < 0 ? 0 : 500 * (1 + one.first % 2);
        (one.second == expected ? right : wrong_op) += one.second;
    }
    struct gpu_losses losses;
    trace->losses(trace->context, &losses);
    set(out, "kernels_of_7500", total);
    set(out, "with_right_op", right);
    set(out, "with_wrong_op", wrong_op);
    set(out, "untagged", untagged);
    set(out, "outside_their_step", outside);
    set(out, "dropped", losses.dropped);
    set(out, "untimed", losses.untimed);
    set(out, "library_bytes", trace->library_bytes(trace->context));
    trace->close(trace->context);
}

/* ---------------------------------------------------------------- all of them */

static json_t *run_child(const char *arguments, bool *passed)
{
    char program[512];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    std::string command = "timeout -k 5 30 '" + std::string(program) + "' " + arguments + " 2>&1";
    FILE *pipe = popen(command.c_str(), "r");
    std::string text;
    char part[4096];
    while (pipe && fgets(part, sizeof part, pipe))
        text += part;
    int status = pipe ? pclose(pipe) : -1;
    size_t brace = text.find('{');
    json_t *result =
        brace == std::string::npos ? nullptr : json_loads(text.c_str() + brace, 0, nullptr);
    if (!result) {
        result = json_object();
        json_object_set_new(result, "error", json_string(text.c_str()));
    }
    if (status != 0) {
        json_object_set_new(result, "status", json_integer(status));
        *passed = false;
    }
    return result;
}

int main(int count, char **arguments)
{
    json_t *out = json_object();
    bool passed = true;
    int64_t until = INT64_MAX;
    if (count == 3 && strcmp(arguments[1], "all") == 0)
        until = clock_now_ns() + (int64_t)(atof(arguments[2]) * 1e9);
    if (count > 1 && until == INT64_MAX) {
        std::string name = arguments[1];
        auto number = [&](int i) { return i < count ? atoi(arguments[i]) : 0; };
        if (name == "correlation")
            correlation(count > 2 ? arguments[2] : "calls", out);
        else if (name == "graph")
            graph(out);
        else if (name == "sessions")
            sessions(out);
        else if (name == "replay")
            replay_many(number(2), number(3), number(4), out);
        else if (name == "flush")
            flush(out);
        else if (name == "bursts")
            bursts(out);
        else if (name == "memory")
            memory(out);
        else if (name == "ours")
            ours(number(2), out);
        else if (!timing::run(name, count, arguments, out))
            return 2;
    } else {
        /* what the program rests on first; time may be over before the long ones */
        const char *all[] = {"ours 0",
                             "ours 1",
                             "correlation calls",
                             "graph",
                             "memory",
                             "flush",
                             "bursts",
                             "sessions",
                             "correlation none",
                             "correlation runtime",
                             "correlation driver",
                             "correlation all",
                             "replay 1 0 1",
                             "replay 0 0 1",
                             "replay 1 8 1",
                             "replay 0 8 1",
                             "replay 1 8 0"};
        for (const char *one : all) {
            if (clock_now_ns() >= until) {
                json_object_set_new(out, one, json_string("not run: the time was over"));
                passed = false;
                continue;
            }
            json_object_set_new(out, one, run_child(one, &passed));
        }
    }
    json_dumpf(out, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    printf("\n");
    return passed ? 0 : 1;
}
