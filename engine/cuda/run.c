#include "engine/cuda/run.h"
#include "engine/clock.h"
#include "engine/cuda/check.h"
#include "engine/cuda/feed.h"
#include <stdlib.h>

/* Replay begins with the third run: the first loads kernels lazily, which no capture may do, and
 * the second is captured. */
#define EAGER_RUNS   1
/* After these nothing is loaded lazily any more: eager, captured, replayed. */
#define LOADING_RUNS 3

/* Stamps for a listener; without one the clock is not even read. */
static int64_t stamp(bool wanted)
{
    return wanted ? clock_now_ns() : 0;
}

void replay_free(struct plan *plan)
{
    if (plan->replay != NULL) {
        cudaGraphExecDestroy(plan->replay);
        plan->replay = NULL;
    }
}

bool plan_replays(const struct plan *plan)
{
    return plan->replay != NULL;
}

void *step_target(const struct plan *plan, const struct step *step)
{
    return step->to_temporary ? plan_workspace(plan) : plan_address(plan, step->op->outputs[0]);
}

static bool launch_step(struct plan *plan, struct step *step, struct error *error)
{
    void *result = plan_address(plan, step->op->outputs[0]), *target = step_target(plan, step);

    if (step->run != NULL && !step->run(plan, step, target, error)) {
        return false;
    }
    /* a depthwise kernel has run the first chain in its registers */
    size_t first = step->first_chain_inside ? 1 : 0;
    for (size_t i = first; i < step->chain_count; i++) {
        struct step_chain *chain = &step->chains[i];
        step_chain_resolve(plan, chain, target);
        if (!CUDA_OK(kernel_chain(&chain->chain, result, plan->device->stream), step->layer,
                     error)) {
            return false;
        }
    }
    return true;
}

/* Queue every op, each between the observer's op_begin and op_end. */
static bool launch_all(struct plan *plan, const struct step_context *context, bool events,
                       struct error *error)
{
    const struct observer *observer = context->observer;
    bool timed = observer != NULL && observer->op_end != NULL;

    for (size_t i = 0; i < plan->graph->op_count; i++) {
        struct step *step = &plan->steps[i];
        if (context->cancel != NULL &&
            atomic_load_explicit(context->cancel, memory_order_relaxed)) {
            return error_set(error, ERROR_INTERRUPTED, "step", "interrupted");
        }
        if (events &&
            !CUDA_OK(cudaEventRecord(plan->events[i], plan->device->stream), step->layer, error)) {
            return false;
        }
        if (step->impl == NULL) {
            continue;
        }
        int64_t start = stamp(timed);
        if (observer != NULL && observer->op_begin != NULL) {
            observer->op_begin(observer->context, (int)i);
        }
        bool good = launch_step(plan, step, error);
        if (good && plan->options.op_sync) {
            good = CUDA_OK(cudaStreamSynchronize(plan->device->stream), step->layer, error);
        }
        if (observer != NULL && observer->launches != NULL) {
            observer->launches(observer->context, (int)i, step->kernels);
        }
        if (timed) {
            observer->op_end(observer->context, (int)i,
                             plan->options.op_sync ? INTERVAL_KERNEL : INTERVAL_LAUNCH, start,
                             clock_now_ns());
        }
        if (!good) {
            return false;
        }
    }
    return !events ||
           CUDA_OK(cudaEventRecord(plan->events[plan->graph->op_count], plan->device->stream),
                   "events", error);
}

/* Stay eager from now on, and say why. */
static void refuse_capture(struct plan *plan, const struct step_context *context,
                           const struct error *why)
{
    const struct observer *observer = context->observer;

    plan->replay = NULL;
    plan->replay_refused = true;
    if (observer != NULL && observer->note != NULL) {
        char *text =
            xasprintf("no CUDA graph, each op is launched by itself: %s: %s", why->what, why->why);
        observer->note(observer->context, text);
        free(text);
    }
}

/* Capture the launches into a graph. A refused capture is no error: the plan stays eager. */
static bool capture(struct plan *plan, const struct step_context *context, struct error *error)
{
    cudaStream_t stream = plan->device->stream;
    cudaGraph_t graph = NULL;
    struct error refused = {0};

    if (!CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "graph",
                 &refused)) {
        refuse_capture(plan, context, &refused);
        return true;
    }
    bool good = launch_all(plan, context, false, &refused);
    cudaError_t status = cudaStreamEndCapture(stream, &graph);
    if (good) {
        good = CUDA_OK(status, "graph", &refused) &&
               CUDA_OK(cudaGraphInstantiate(&plan->replay, graph, 0), "graph", &refused);
    }
    if (graph != NULL) {
        cudaGraphDestroy(graph);
    }
    cudaGetLastError();
    if (!good && refused.code == ERROR_INTERRUPTED) {
        if (error != NULL) {
            *error = refused;
        }
        return false;
    }
    if (!good) {
        refuse_capture(plan, context, &refused);
    }
    return true;
}

static bool replay(struct plan *plan, const struct step_context *context, struct error *error)
{
    const struct observer *observer = context->observer;
    bool timed = observer != NULL && observer->interval != NULL;
    int64_t start = stamp(timed);

    if (!CUDA_OK(cudaGraphLaunch(plan->replay, plan->device->stream), "graph", error)) {
        return false;
    }
    if (timed) {
        observer->interval(observer->context, INTERVAL_LAUNCH, -1, 0, start, clock_now_ns());
    }
    return true;
}

bool run_launch(struct plan *plan, const struct step_context *context, struct error *error)
{
    bool events =
        plan->events != NULL && context->observer != NULL && context->observer->device_time != NULL;
    /* events inside a graph give no times per op, so events mean eager, and so does the host's clock */
    bool graph = plan->options.graph && plan->events == NULL && !plan->options.op_sync &&
                 !plan->replay_refused;

    if (plan->generation != plan->device->regions.generation) {
        replay_free(plan); /* addresses have moved */
        plan->generation = plan->device->regions.generation;
    }
    if (graph && plan->replay == NULL && plan->runs >= EAGER_RUNS &&
        !capture(plan, context, error)) {
        return false;
    }
    if (graph && plan->replay != NULL) {
        return replay(plan, context, error);
    }
    return launch_all(plan, context, events, error);
}

/* Where the host's bytes of a port lie on the device. */
static void *port_address(const struct plan *plan, const struct port *port)
{
    return port->staged ? regions_address(&plan->device->regions, REGION_ARENA, port->stage_offset)
                        : plan_address(plan, port->value);
}

bool run_copy_in(struct plan *plan, struct port *port, struct error *error)
{
    cudaStream_t stream = plan->device->stream;
    void *to = port_address(plan, port);

    if (!CUDA_OK(cudaMemcpyAsync(to, port->host, port->bytes, cudaMemcpyHostToDevice, stream),
                 "input", error)) {
        return false;
    }
    port->convert.x.data = to;
    return !port->staged ||
           CUDA_OK(kernel_chain(&port->convert, plan_address(plan, port->value), stream), "input",
                   error);
}

/* The first input out of pictures, which are on the device or on their way. */
static bool make_of_pictures(struct plan *plan, struct port *port, struct error *error)
{
    void *to = port_address(plan, port);

    port->convert.x.data = to;
    return feed_launch(plan, to, error) &&
           (!port->staged || CUDA_OK(kernel_chain(&port->convert, plan_address(plan, port->value),
                                                  plan->device->stream),
                                     "input", error));
}

static bool copy_out(struct plan *plan, struct port *port, struct error *error)
{
    cudaStream_t stream = plan->device->stream;
    void *from = port_address(plan, port);

    port->convert.x.data = plan_address(plan, port->value);
    return (!port->staged ||
            CUDA_OK(kernel_chain(&port->convert, from, stream), "output", error)) &&
           CUDA_OK(cudaMemcpyAsync(port->host, from, port->bytes, cudaMemcpyDeviceToHost, stream),
                   "output", error);
}

static bool copy_ports(struct plan *plan, const struct step_context *context, bool in,
                       struct error *error)
{
    const struct observer *observer = context->observer;
    bool timed = observer != NULL && observer->interval != NULL;
    size_t count = in ? plan->graph->input_count : plan->graph->output_count;

    for (size_t i = 0; i < count; i++) {
        struct port *port = in ? &plan->inputs[i] : &plan->outputs[i];
        int64_t start = stamp(timed);
        if (in && i == 0 && context->fed) {
            if (!make_of_pictures(plan, port, error)) {
                return false;
            }
            if (timed) {
                observer->interval(observer->context, INTERVAL_LAUNCH, -1, 0, start,
                                   clock_now_ns());
            }
            continue;
        }
        if (!(in ? run_copy_in(plan, port, error) : copy_out(plan, port, error))) {
            return false;
        }
        if (timed) {
            observer->interval(observer->context, INTERVAL_COPY, -1, port->bytes, start,
                               clock_now_ns());
        }
    }
    return true;
}

static void report_events(struct plan *plan, const struct observer *observer)
{
    for (size_t i = 0; i < plan->graph->op_count; i++) {
        float milliseconds;
        if (plan->steps[i].impl != NULL &&
            cudaEventElapsedTime(&milliseconds, plan->events[i], plan->events[i + 1]) ==
                cudaSuccess) {
            observer->device_time(observer->context, (int)i, (int64_t)((double)milliseconds * 1e6));
        }
    }
    cudaGetLastError();
}

bool plan_launch(struct plan *plan, const struct step_context *context, struct error *error)
{
    const struct observer *observer = context->observer;

    if (!device_use(plan->device, error)) {
        return false;
    }
    if (plan->fault != NULL) {
        *plan->fault = 0;
    }
    plan->free_before = plan->runs < LOADING_RUNS ? device_free_bytes() : 0;
    if (observer != NULL && observer->step_begin != NULL) {
        observer->step_begin(observer->context, context->step, clock_now_ns());
    }
    return copy_ports(plan, context, true, error) && run_launch(plan, context, error) &&
           copy_ports(plan, context, false, error);
}

bool plan_wait(struct plan *plan, const struct step_context *context, struct error *error)
{
    struct device *device = plan->device;
    const struct observer *observer = context->observer;
    bool eager_events = plan->events != NULL && observer != NULL && observer->device_time != NULL;

    if (!device_use(device, error)) {
        return false;
    }
    bool good =
        CUDA_OK(cudaStreamSynchronize(device->stream), "step", error) && plan_fault(plan, error);
    cudaGetLastError();
    feed_finish(plan);
    if (plan->runs < LOADING_RUNS) {
        device_charge_context(device, plan->free_before);
        device_report(device);
    }
    if (good && eager_events) {
        int64_t start = clock_now_ns();
        report_events(plan, observer);
        if (observer->interval != NULL) {
            observer->interval(observer->context, INTERVAL_PROFILER, -1, 0, start, clock_now_ns());
        }
    }
    if (observer != NULL && observer->step_end != NULL) {
        observer->step_end(observer->context, context->step, clock_now_ns());
    }
    plan->runs++;
    return good;
}

bool plan_run(struct plan *plan, const struct step_context *context, struct error *error)
{
    struct error later = {0};
    bool good = plan_launch(plan, context, error);
    /* also after a failure: nothing of this step may still run when the caller goes on */
    bool waited = plan_wait(plan, context, good ? error : &later);
    if (later.code == ERROR_LOST && error != NULL) { /* a library's failure was only its echo */
        *error = later;
    }
    return waited && good;
}
