/* The collector: observer calls in, record frames out. See collector.h, records.h. */
#include "profiler/collector.h"

#include "engine/clock.h"
#include "profiler/collector_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLICES_FORESEEN 64
#define WINDOW_NS       INT64_C(100000000)
#define AWAKE_NS        INT64_C(2000000000) /* samples go on so long after the last step */
#define FLUSH_LIMIT_NS  INT64_C(2000000000)

/* ---------------------------------------------------------------- what becomes of one step */

static void step_clear(struct collector *c)
{
    for (size_t i = 0; i < c->touched_count; i++)
        c->step_layers[c->touched[i]] = (struct step_layer){.duration_ns = 0};
    c->touched_count = 0;
    c->interval_count = 0;
    c->intervals_lost = 0;
    c->step_kernels = 0;
}

static struct step_layer *step_layer(struct collector *c, int op)
{
    if (op < 0 || (size_t)op >= c->op_count)
        return NULL;
    int layer = c->op_layer[op];
    if (layer < 0)
        return NULL;
    struct step_layer *row = &c->step_layers[layer];
    if (!row->touched) {
        row->touched = true;
        c->touched[c->touched_count++] = (uint32_t)layer;
    }
    return row;
}

static void add_interval(struct collector *c, enum ledger_class class, int64_t start_ns,
                         int64_t end_ns)
{
    if (c->interval_count == c->interval_capacity) {
        c->intervals_lost++;
        return;
    }
    c->intervals[c->interval_count++] = (struct ledger_interval){start_ns, end_ns, class};
}

/* Put the layers of the present step into the window. Only those whose last op lies before the one
 * that has just run (its launches may not be counted yet), unless the step is over: so that a window that closes inside a long step holds whole layer times. Work that
 * comes later for such a layer (a batch in slices) is added as the rest of the same step. */
static void commit_layers(struct collector *c, bool whole_step)
{
    for (size_t i = 0; i < c->touched_count; i++) {
        struct step_layer *row = &c->step_layers[c->touched[i]];
        bool measured = row->timed || row->committed;
        if (!measured || (!whole_step && c->last_op[c->touched[i]] >= c->newest_op))
            continue;
        if (row->committed && row->duration_ns == 0 && row->kernels == 0)
            continue;
        window_add_layer(&c->window, c->touched[i], row->duration_ns, row->kernels,
                         row->kernels_known, row->committed);
        row->committed = true;
        row->duration_ns = 0;
        row->kernels = 0;
    }
}

static unsigned known_classes(const struct collector *c)
{
    const unsigned all = (1u << LEDGER_CLASS_COUNT) - 1;
    if (c->device == RECORD_CPU || c->source == TIMING_CUPTI)
        return all;
    /* the host's clock sees each op from its launch to its end, as one */
    if (c->source == TIMING_CLOCK)
        return all & ~(1u << LEDGER_LAUNCH);
    /* without the kernels' own intervals, kernel and gap cannot be told apart */
    return all & ~(1u << LEDGER_KERNEL) & ~(1u << LEDGER_GAP);
}

/* After the last call that belongs to a step (device events report after step_end) */
static void step_settle(struct collector *c)
{
    if (!c->step_open_to_events)
        return;
    c->step_open_to_events = false;
    trace_table_step(c->table, true);
    commit_layers(c, true);
    step_clear(c);
}

static void step_finish(struct collector *c, int64_t end_ns)
{
    int64_t wall_ns = end_ns - c->step_start_ns;
    bool continues = c->last_end_ns && c->step_start_ns - c->last_end_ns < BACK_TO_BACK_NS;
    int64_t rate_ns = end_ns - (continues ? c->last_end_ns : c->step_start_ns);
    window_add_step(&c->window, wall_ns);
    c->last_end_ns = end_ns;
    /* with CUPTI they are counted when the device's own records have come */
    if (c->source != TIMING_CUPTI || !c->joining)
        window_add_rate(&c->window, c->batch, rate_ns);
    if (c->source == TIMING_OFF || collector_unwatched(c)) {
        c->apart = true;
        step_clear(c); /* what an engine tells all the same belongs to no later step */
        return;
    }
    if (c->source == TIMING_CUPTI) {
        struct gpu_join_step how = collector_burst_how(c);
        how.apart = c->apart;
        c->apart = false;
        c->plan_kernels = how.kernels;
        if (c->joining)
            gpu_join_end(c->join, end_ns, c->intervals, c->interval_count, &how);
        else
            c->window.totals.dropped++;
        c->joining = false;
        step_clear(c);
        collector_burst_step(c, how.replayed, wall_ns, end_ns);
        return;
    }
    if (c->intervals_lost) {
        /* more intervals than foreseen (slices): make room, this ledger would be wrong */
        c->window.totals.dropped++;
        c->interval_capacity += c->intervals_lost * 2;
        c->intervals = xrealloc(c->intervals, c->interval_capacity * sizeof *c->intervals);
    } else {
        struct ledger_split split;
        ledger_partition(c->intervals, c->interval_count, &split);
        window_add_ledger(&c->window, &split, wall_ns, known_classes(c));
    }
    c->step_open_to_events = true;
    if (c->source == TIMING_CLOCK)
        step_settle(c);
    else
        collector_check_events(c);
}

static void add_event(void *context, const struct gpu_event *event)
{
    struct collector *c = context;
    collector_trace_event(c, event);
    struct step_layer *row = event->kind == GPU_EVENT_KERNEL ? step_layer(c, event->op) : NULL;
    if (!row)
        return;
    row->timed = true;
    row->duration_ns += event->end_ns - event->start_ns;
    row->kernels++;
}

/* The samples of a step are done when the device has done them: its records say when. A step that
 * left none ends when the host says so. */
static void count_samples(struct collector *c, const struct gpu_joined *joined)
{
    int64_t end_ns = joined->device_end_ns ? joined->device_end_ns : joined->end_ns;
    bool continues = c->joined_end_ns && !joined->how.apart &&
                     joined->start_ns - c->joined_end_ns < BACK_TO_BACK_NS;
    int64_t rate_ns = end_ns - (continues ? c->device_end_ns : joined->start_ns);
    window_add_rate(&c->window, c->batch, rate_ns > 0 ? rate_ns : 0);
    c->device_end_ns = end_ns;
    c->joined_end_ns = joined->end_ns;
}

/* Layers and ledger know only steps whose every kernel was recorded */
static void take_joined(struct collector *c, const struct gpu_joined *joined)
{
    count_samples(c, joined);
    collector_burst_joined(c, joined);
    bool counts = !joined->how.whole && !joined->how.warm_up;
    trace_table_step(c->table, counts);
    if (counts) {
        for (size_t i = 0; i < c->touched_count; i++)
            c->step_layers[c->touched[i]].kernels_known = true;
        commit_layers(c, true);
        window_add_ledger(&c->window, &joined->split, joined->end_ns - joined->start_ns,
                          known_classes(c));
    }
    step_clear(c);
}

/* Steps whose kernels have all come, or all that wait if `force` */
static void gpu_collect(struct collector *c, bool force)
{
    if (!c->join || c->in_step)
        return;
    step_settle(c);
    gpu_join_drain(c->join);
    struct gpu_joined joined;
    while (gpu_join_next(c->join, force, &joined, add_event, c))
        take_joined(c, &joined);
    struct gpu_losses now;
    uint64_t unmatched = gpu_join_unmatched(c->join);
    c->trace->losses(c->trace->context, &now);
    c->window.totals.dropped += now.dropped - c->losses.dropped;
    c->window.totals.untimed += now.untimed - c->losses.untimed;
    c->window.totals.unmatched += unmatched - c->unmatched;
    c->traced.dropped += now.dropped - c->losses.dropped;
    c->traced.untimed += now.untimed - c->losses.untimed;
    c->traced.unmatched += unmatched - c->unmatched;
    c->losses = now;
    c->unmatched = unmatched;
}

/* ---------------------------------------------------------------- windows */

/* Close the window and send what goes with it. `final`: everything that waits must go too. */
static void round_up(struct collector *c, int64_t now_ns, bool final)
{
    if (!c->in_step)
        gpu_collect(c, final);
    else if (c->source == TIMING_CLOCK)
        commit_layers(c, false);
    collector_close_window(c, now_ns);
    collector_send_trace(c, now_ns, final);
    if (c->plan_device_known && now_ns - c->last_end_ns < AWAKE_NS)
        collector_send_memory(c, c->device, now_ns);
    collector_send_samples(c);
}

/* A step that began and never ended was interrupted: nothing of it counts */
static void step_abandon(struct collector *c)
{
    if (!c->in_step)
        return;
    if (c->source == TIMING_CUPTI)
        c->trace->pop(c->trace->context);
    c->in_step = false;
    c->joining = false;
    trace_table_step(c->table, false);
    c->begun_ns = 0;
    step_clear(c);
}

/* Everything of finished steps leaves now; waits for the GPU's records at most `limit_ns` */
static void drain(struct collector *c, int64_t limit_ns)
{
    step_abandon(c);
    step_settle(c);
    if (c->join) {
        int64_t until = clock_now_ns() + limit_ns;
        gpu_collect(c, false);
        for (int i = 0; i < 4 && gpu_join_waiting(c->join) > 0; i++) {
            int64_t left = until - clock_now_ns();
            if (left <= 0 || !c->trace->flush(c->trace->context, left))
                break;
            gpu_collect(c, false);
        }
    }
    round_up(c, clock_now_ns(), true);
}

/* ---------------------------------------------------------------- observer */

static void on_step_begin(void *context, uint64_t step, int64_t start_ns)
{
    struct collector *c = context;
    step_abandon(c);
    step_settle(c);
    start_ns = collector_begin_step(c, start_ns);
    c->in_step = true;
    c->step_start_ns = start_ns;
    c->newest_op = -1;
    if (c->window.totals.begin_ns == 0 ||
        (window_empty(&c->window) && start_ns - c->window.totals.begin_ns > WINDOW_NS))
        c->window.totals.begin_ns = start_ns;
    if (c->source != TIMING_CUPTI)
        return;
    c->step = step;
    c->joining = !collector_unwatched(c) && gpu_join_begin(c->join, step, start_ns);
    c->trace->push(c->trace->context, gpu_tag(step, GPU_OP_NONE));
    add_interval(c, LEDGER_PROFILER, start_ns, clock_now_ns());
}

static void on_step_end(void *context, uint64_t step, int64_t end_ns)
{
    struct collector *c = context;
    (void)step;
    if (!c->in_step)
        return;
    if (c->source == TIMING_CUPTI)
        c->trace->pop(c->trace->context);
    c->in_step = false;
    step_finish(c, end_ns);
    /* what closing a window costs belongs to observed steps */
    if (collector_unwatched(c) && !window_full(&c->window))
        return;
    if (end_ns - c->window.totals.begin_ns >= WINDOW_NS || window_full(&c->window)) {
        int64_t begin_ns = clock_now_ns();
        round_up(c, end_ns, false);
        cost_round(&c->cost, clock_now_ns() - begin_ns);
    }
}

static void on_op_begin(void *context, int op)
{
    struct collector *c = context;
    if (c->source != TIMING_CUPTI)
        return;
    int64_t start_ns = clock_now_ns();
    c->trace->push(c->trace->context, gpu_tag(c->step, op));
    add_interval(c, LEDGER_PROFILER, start_ns, clock_now_ns());
}

static void on_op_end(void *context, int op, enum interval_class class, int64_t start_ns,
                      int64_t end_ns)
{
    struct collector *c = context;
    if (collector_unwatched(c))
        return;
    if (c->source == TIMING_CUPTI)
        c->trace->pop(c->trace->context);
    add_interval(c, (enum ledger_class) class, start_ns, end_ns);
    c->in_slices = c->in_slices || op < c->newest_op;
    if (op > c->newest_op)
        c->newest_op = op;
    if (c->source == TIMING_CLOCK && class == INTERVAL_KERNEL) {
        struct step_layer *row = step_layer(c, op);
        if (row) {
            row->timed = true;
            row->duration_ns += end_ns - start_ns;
        }
        trace_table_kernel(c->table, op, 0, end_ns - start_ns);
    }
    /* a window closes inside a step only if the step is long: between steps it costs no step */
    if (!c->in_slices && end_ns - c->window.totals.begin_ns >= WINDOW_NS &&
        end_ns - c->step_start_ns >= WINDOW_NS)
        round_up(c, end_ns, false);
    add_interval(c, LEDGER_PROFILER, end_ns, clock_now_ns());
}

static void on_interval(void *context, enum interval_class class, int op, uint64_t bytes,
                        int64_t start_ns, int64_t end_ns)
{
    (void)op;
    (void)bytes;
    add_interval(context, (enum ledger_class) class, start_ns, end_ns);
}

static void on_device_time(void *context, int op, int64_t duration_ns)
{
    struct collector *c = context;
    c->device_timed = true;
    struct step_layer *row = c->source == TIMING_EVENTS ? step_layer(c, op) : NULL;
    if (!row)
        return;
    row->timed = true;
    row->duration_ns += duration_ns;
    trace_table_kernel(c->table, op, 0, duration_ns);
}

static void on_launches(void *context, int op, uint32_t kernels)
{
    struct collector *c = context;
    c->step_kernels += kernels;
    /* with CUPTI its own count is shown; ours says when all have come */
    bool counted = c->source == TIMING_CLOCK || c->source == TIMING_EVENTS;
    struct step_layer *row = counted ? step_layer(c, op) : NULL;
    if (!row)
        return;
    row->kernels += kernels;
    row->kernels_known = true;
}

static void on_implementations(void *context, const char *const *names)
{
    struct collector *c = context;
    trace_table_names(c->table, names);
}

static void on_samples(void *context, uint64_t samples)
{
    struct collector *c = context;
    c->batch = samples;
}

static void on_note(void *context, const char *text)
{
    collector_note(context, text);
}

/* What is not listened to is NULL, so that the engine does not even read the clock for it. Whoever
 * took a copy of the whole observer before is served all the same: each callback looks at the
 * source by itself. */
void collector_choose_callbacks(struct collector *c, bool all)
{
    bool on = all || (c->source != TIMING_OFF && !c->cost.unwatched);
    struct observer *o = &c->observer;
    *o = (struct observer){
        .context = c,
        .plan = collector_on_plan,
        .samples = on_samples,
        .segment = collector_on_segment,
        .step_begin = on_step_begin,
        .step_end = on_step_end,
        .op_begin = all || c->source == TIMING_CUPTI ? on_op_begin : NULL,
        .op_end = on ? on_op_end : NULL,
        .interval = on ? on_interval : NULL,
        .device_time = all || c->source == TIMING_EVENTS ? on_device_time : NULL,
        .launches = on ? on_launches : NULL,
        .implementations = on_implementations,
        .memory = collector_on_memory,
        .note = on_note,
    };
}

static enum timing_source source_for(const struct collector *c, int device)
{
    if (c->profile == PROFILE_OFF)
        return TIMING_OFF;
    if (device == RECORD_CPU || c->profile == PROFILE_CLOCK)
        return TIMING_CLOCK;
    if (c->trace && (c->profile == PROFILE_AUTO || c->profile == PROFILE_CUPTI))
        return TIMING_CUPTI;
    return c->events_failed ? TIMING_CLOCK : TIMING_EVENTS;
}

void collector_choose(struct collector *c)
{
    c->source = source_for(c, c->device);
    if (c->source == TIMING_CUPTI && !c->join)
        c->join = gpu_join_new(c->trace);
    collector_choose_callbacks(c, false);
}

/* Which layer each op counts for, and room for everything a step brings */
static void map_ops(struct collector *c, const struct graph *graph)
{
    free(c->op_layer);
    free(c->last_op);
    free(c->step_layers);
    free(c->touched);
    c->op_count = graph ? graph->op_count : 0;
    size_t layers = graph ? graph->model->layer_count : 0;
    c->op_layer = xcalloc(c->op_count + 1, sizeof *c->op_layer);
    c->last_op = xcalloc(layers + 1, sizeof *c->last_op);
    c->step_layers = xcalloc(layers + 1, sizeof *c->step_layers);
    c->touched = xcalloc(layers + 1, sizeof *c->touched);
    c->touched_count = 0;
    for (size_t i = 0; i < c->op_count; i++) {
        int layer = graph->ops[i].layer;
        c->op_layer[i] = layer >= 0 && (size_t)layer < layers ? layer : -1;
        if (c->op_layer[i] >= 0)
            c->last_op[layer] = (int)i;
    }
    /* a step on the CPU may run every op once for each slice of the batch */
    size_t slices = graph && graph->batch > 0 ? (size_t)graph->batch : 1;
    size_t wanted = c->op_count * (4 + (slices < SLICES_FORESEEN ? slices : SLICES_FORESEEN)) + 256;
    if (wanted > c->interval_capacity) {
        c->interval_capacity = wanted;
        c->intervals = xrealloc(c->intervals, wanted * sizeof *c->intervals);
    }
    window_resize(&c->window, layers);
}

void collector_on_plan(void *context, const char *device, const struct graph *graph,
                       const char *const *impls)
{
    struct collector *c = context;
    drain(c, FLUSH_LIMIT_NS / 4);
    c->plan_device_known = device != NULL && graph != NULL;
    c->device = device ? collector_device(device) : RECORD_CPU;
    c->gpu_touched = c->gpu_touched || c->device != RECORD_CPU;
    c->batch = graph && graph->batch > 0 ? (uint64_t)graph->batch : 0;
    c->last_end_ns = 0;
    c->plan_kernels = 0;
    c->in_slices = false;
    collector_restart_cost(c);
    collector_burst_begin(c, true);
    c->plan_steps = 0;
    trace_table_plan(c->table, graph, impls);
    collector_trace_begin(c);
    map_ops(c, graph);
    window_clear(&c->window, clock_now_ns());
    collector_choose(c);
    collector_restart_cost(c);
    if (c->device != RECORD_CPU && !c->nvml)
        c->nvml = nvml_open(c->nvml_api);
    if (c->plan_device_known)
        collector_send_memory(c, c->device, clock_now_ns());
}

void collector_on_segment(void *context, uint32_t segment)
{
    struct collector *c = context;
    drain(c, FLUSH_LIMIT_NS);
    c->segment = segment;
    c->segment_ns = clock_now_ns();
    c->last_end_ns = 0;
    collector_restart_cost(c);
    collector_burst_begin(c, false);
    collector_trace_begin(c);
    collector_choose_callbacks(c, false);
    window_clear(&c->window, clock_now_ns());
}

/* ---------------------------------------------------------------- hooks */

static void hook_attach(void *context, bool (*emit)(void *, const void *, size_t),
                        void *emit_context)
{
    struct collector *c = context;
    c->emit = emit;
    c->emit_context = emit_context;
    if (c->unsent_note)
        collector_note(c, c->unsent_note);
    free(c->unsent_note);
    c->unsent_note = NULL;
}

static void hook_weigh(void *context, bool asked)
{
    struct collector *c = context;
    c->cost_asked = asked;
}

static void hook_rest(void *context, bool resting)
{
    collector_rest(context, resting);
}

static const char *hook_timing_source(void *context, const char *device)
{
    const struct collector *c = context;
    return timing_source_name(source_for(c, device ? collector_device(device) : c->device));
}

static void hook_tick(void *context)
{
    struct collector *c = context;
    int64_t now_ns = clock_now_ns();
    if (!c->in_step) {
        step_settle(c);
        gpu_collect(c, false);
        collector_check_trace(c);
    }
    if (!c->cost.unwatched && now_ns - c->window.totals.begin_ns >= WINDOW_NS)
        round_up(c, now_ns, false);
    for (int i = 0; i < COLLECTOR_DEVICES; i++) {
        if (c->memory[i].known && c->memory[i].sent_ns == 0)
            collector_send_memory(c, i - 1, now_ns);
    }
    if (c->nvml)
        nvml_sleep(c->nvml, now_ns - c->last_end_ns > AWAKE_NS);
    int64_t end_ns = clock_now_ns();
    if (c->in_step)
        add_interval(c, LEDGER_PROFILER, now_ns, end_ns);
    else
        cost_round(&c->cost, end_ns - now_ns);
}

static void hook_flush(void *context)
{
    drain(context, FLUSH_LIMIT_NS);
}

static void hook_close(void *context)
{
    struct collector *c = context;
    drain(c, FLUSH_LIMIT_NS / 4);
    collector_close_trace(c);
    nvml_close(c->nvml);
    c->nvml = NULL;
    c->emit = NULL;
}

struct collector *collector_new(void)
{
    struct collector *c = xcalloc(1, sizeof *c);
    c->device = RECORD_CPU;
    c->profile = PROFILE_AUTO;
    c->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    long page = sysconf(_SC_PAGESIZE);
    long pages = sysconf(_SC_PHYS_PAGES);
    c->page_bytes = page > 0 ? (uint64_t)page : 4096;
    c->host_bytes = pages > 0 ? (uint64_t)pages * c->page_bytes : RECORD_UNKNOWN;
    c->session = (uint32_t)((uint64_t)getpid() * 2654435761u ^ (uint64_t)clock_now_ns());
    c->session += c->session == 0;
    window_init(&c->window);
    c->table = trace_table_new();
    map_ops(c, NULL);
    c->source = source_for(c, c->device);
    collector_choose_callbacks(c, true);
    c->hooks = (struct worker_hooks){
        .context = c,
        .observer = &c->observer,
        .attach = hook_attach,
        .configure = collector_configure,
        .timing_source = hook_timing_source,
        .weigh = hook_weigh,
        .rest = hook_rest,
        .tick = hook_tick,
        .flush = hook_flush,
        .close = hook_close,
        .probe = collector_probe,
        .memory = collector_tell_memory,
    };
    return c;
}

const struct worker_hooks *collector_hooks(struct collector *collector)
{
    return &collector->hooks;
}

void collector_free(struct collector *collector)
{
    if (!collector)
        return;
    collector->emit = NULL;
    collector_close_trace(collector);
    nvml_close(collector->nvml);
    gpu_join_free(collector->join);
    window_free(&collector->window);
    trace_table_free(collector->table);
    free(collector->unsent_note);
    free(collector->op_layer);
    free(collector->last_op);
    free(collector->step_layers);
    free(collector->touched);
    free(collector->intervals);
    free(collector->writer.data);
    if (collector->statm_fd >= 0)
        close(collector->statm_fd);
    free(collector);
}
