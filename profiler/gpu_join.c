/* Waiting steps: see gpu_join.h. */
#include "profiler/gpu_join.h"

#include <stdlib.h>
#include <string.h>

#define NODE_NONE UINT32_MAX
#define NODES_MAX (1u << 20)

struct node {
    struct gpu_event event;
    uint32_t next;
};

struct waiting {
    uint64_t step;
    int64_t start_ns, end_ns;
    bool ended;
    uint64_t flushes_at_end, kernels, graphs;
    struct gpu_join_step how;
    struct ledger_interval *intervals;
    size_t interval_count, interval_capacity;
    uint32_t first_event;
    size_t event_count;
};

struct gpu_join {
    const struct gpu_trace *trace;
    struct waiting *steps; /* ring of GPU_JOIN_STEPS */
    size_t head, count;    /* head: the oldest */
    struct node *nodes;
    uint32_t node_count, node_capacity, free_node;
    uint64_t late, unplaced;
    int64_t closed_start_ns, closed_end_ns; /* of the step that was taken last */
    uint64_t caution;    /* more flushes to wait, since kernels came when their step was gone */
    int64_t count_error; /* kernels seen minus kernels the engine counted, per step */
    bool graphless;      /* no record comes for whole graphs */
    struct ledger_interval *scratch;
    size_t scratch_capacity;
};

struct gpu_join *gpu_join_new(const struct gpu_trace *trace)
{
    struct gpu_join *join = xcalloc(1, sizeof *join);
    join->trace = trace;
    join->steps = xcalloc(GPU_JOIN_STEPS, sizeof *join->steps);
    join->node_capacity = 1u << 14;
    join->nodes = xmalloc(join->node_capacity * sizeof *join->nodes);
    join->free_node = NODE_NONE;
    return join;
}

void gpu_join_free(struct gpu_join *join)
{
    if (!join)
        return;
    for (size_t i = 0; i < GPU_JOIN_STEPS; i++)
        free(join->steps[i].intervals);
    free(join->steps);
    free(join->nodes);
    free(join->scratch);
    free(join);
}

static struct waiting *waiting_at(const struct gpu_join *join, size_t index)
{
    return &join->steps[(join->head + index) % GPU_JOIN_STEPS];
}

static void events_free(struct gpu_join *join, struct waiting *step)
{
    for (uint32_t i = step->first_event; i != NODE_NONE;) {
        uint32_t next = join->nodes[i].next;
        join->nodes[i].next = join->free_node;
        join->free_node = i;
        i = next;
    }
    step->first_event = NODE_NONE;
    step->event_count = 0;
}

bool gpu_join_begin(struct gpu_join *join, uint64_t step, int64_t start_ns)
{
    if (join->count && !waiting_at(join, join->count - 1)->ended) {
        events_free(join, waiting_at(join, join->count - 1));
        join->count--;
    }
    if (join->count == GPU_JOIN_STEPS)
        return false;
    struct waiting *new = waiting_at(join, join->count++);
    struct ledger_interval *intervals = new->intervals;
    size_t capacity = new->interval_capacity;
    *new = (struct waiting){
        .step = step,
        .start_ns = start_ns,
        .end_ns = INT64_MAX,
        .intervals = intervals,
        .interval_capacity = capacity,
        .first_event = NODE_NONE,
    };
    return true;
}

void gpu_join_end(struct gpu_join *join, int64_t end_ns, const struct ledger_interval *intervals,
                  size_t count, const struct gpu_join_step *how)
{
    if (join->count == 0)
        return;
    struct waiting *step = waiting_at(join, join->count - 1);
    if (step->ended)
        return;
    if (count > step->interval_capacity) {
        step->interval_capacity = count;
        step->intervals = xrealloc(step->intervals, count * sizeof *step->intervals);
    }
    if (count)
        memcpy(step->intervals, intervals, count * sizeof *intervals);
    step->interval_count = count;
    step->end_ns = end_ns;
    step->ended = true;
    step->how = *how;
    step->flushes_at_end = join->trace->flushes(join->trace->context);
}

/* Steps are numbered upwards: search by the low 32 bits, which may wrap */
static struct waiting *find_by_tag(const struct gpu_join *join, uint32_t step_low)
{
    size_t low = 0;
    size_t high = join->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int32_t distance = (int32_t)((uint32_t)waiting_at(join, middle)->step - step_low);
        if (distance == 0)
            return waiting_at(join, middle);
        if (distance < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Every step is synchronised before it ends, so its work lies within it. GPU times are mapped onto
 * ours with an error of microseconds: what falls between two steps goes to the nearer one. */
static struct waiting *find_by_time(const struct gpu_join *join, int64_t start_ns)
{
    const int64_t slack = 20000;
    struct waiting *later = NULL;
    for (size_t i = join->count; i-- > 0;) {
        struct waiting *step = waiting_at(join, i);
        if (start_ns < step->start_ns) {
            later = step;
            continue;
        }
        if (start_ns <= step->end_ns)
            return step;
        int64_t after = start_ns - step->end_ns;
        if (after <= slack && (!later || after <= later->start_ns - start_ns))
            return step;
        break;
    }
    return later && later->start_ns - start_ns <= slack ? later : NULL;
}

/* An event that no waiting step takes: of a step that is gone, or of none at all? */
static bool is_late(const struct gpu_join *join, const struct gpu_event *event)
{
    if (event->kind == GPU_EVENT_OVERHEAD)
        return false;
    return event->tag != 0 ||
           (event->start_ns >= join->closed_start_ns && event->start_ns < join->closed_end_ns);
}

static uint32_t node_take(struct gpu_join *join)
{
    if (join->free_node != NODE_NONE) {
        uint32_t node = join->free_node;
        join->free_node = join->nodes[node].next;
        return node;
    }
    if (join->node_count == join->node_capacity) {
        if (join->node_capacity >= NODES_MAX)
            return NODE_NONE;
        join->node_capacity *= 2;
        join->nodes = xrealloc(join->nodes, join->node_capacity * sizeof *join->nodes);
    }
    return join->node_count++;
}

void gpu_join_drain(struct gpu_join *join)
{
    struct gpu_event events[256];
    size_t count;
    uint64_t late_before = join->late;
    while ((count = join->trace->take(join->trace->context, events, 256)) > 0) {
        for (size_t i = 0; i < count; i++) {
            const struct gpu_event *event = &events[i];
            struct waiting *step = event->tag ? find_by_tag(join, gpu_tag_step(event->tag))
                                              : find_by_time(join, event->start_ns);
            uint32_t node = step ? node_take(join) : NODE_NONE;
            if (node == NODE_NONE) {
                join->late += is_late(join, event);
                continue;
            }
            join->unplaced +=
                event->kind == GPU_EVENT_KERNEL && event->tag == 0 && event->op == GPU_OP_NONE;
            join->nodes[node] = (struct node){*event, step->first_event};
            step->first_event = node;
            step->event_count++;
            step->kernels += event->kind == GPU_EVENT_KERNEL;
            step->graphs += event->kind == GPU_EVENT_GRAPH;
            if (event->kind == GPU_EVENT_GRAPH)
                join->graphless = false;
        }
    }
    if (join->late > late_before && join->caution < GPU_JOIN_PATIENCE / 2)
        join->caution++;
}

/* How many kernels the step is waited for: the engine's count, mended by what the last step that
 * had to be given up on showed (a library's launch that the engine does not count). */
static uint64_t expected(const struct gpu_join *join, const struct waiting *step)
{
    int64_t count = (int64_t)step->how.kernels + join->count_error;
    return count > 0 ? (uint64_t)count : 0;
}

static bool complete(struct gpu_join *join, const struct waiting *step)
{
    uint64_t flushes = join->trace->flushes(join->trace->context);
    /* one is added because a flush may have been under way when the step ended */
    if (flushes < step->flushes_at_end + 2 + join->caution)
        return false;
    if (step->how.whole ? step->graphs > 0 || join->graphless
                        : step->kernels >= expected(join, step) && step->kernels > 0)
        return true;
    if (flushes < step->flushes_at_end + GPU_JOIN_PATIENCE)
        return false;
    if (step->how.whole)
        join->graphless = true;
    else
        join->count_error = (int64_t)step->kernels - (int64_t)step->how.kernels;
    return true;
}

static void joined_add(struct gpu_joined *out, const struct gpu_event *event)
{
    out->kernels += event->kind == GPU_EVENT_KERNEL;
    out->copies += event->kind == GPU_EVENT_COPY;
    if (event->kind == GPU_EVENT_GRAPH) {
        out->graphs++;
        out->graph_ns += event->end_ns - event->start_ns;
    }
    if (event->kind != GPU_EVENT_OVERHEAD && event->end_ns > out->device_end_ns)
        out->device_end_ns = event->end_ns;
}

bool gpu_join_next(struct gpu_join *join, bool force, struct gpu_joined *out,
                   void (*add)(void *context, const struct gpu_event *event), void *context)
{
    if (join->count == 0)
        return false;
    struct waiting *step = waiting_at(join, 0);
    if (!step->ended || (!force && !complete(join, step)))
        return false;
    *out =
        (struct gpu_joined){.how = step->how, .start_ns = step->start_ns, .end_ns = step->end_ns};
    size_t needed = step->interval_count + step->event_count;
    if (needed > join->scratch_capacity) {
        join->scratch_capacity = needed * 2;
        free(join->scratch);
        join->scratch = xmalloc(join->scratch_capacity * sizeof *join->scratch);
    }
    size_t count = 0;
    for (uint32_t i = step->first_event; i != NODE_NONE; i = join->nodes[i].next) {
        const struct gpu_event *event = &join->nodes[i].event;
        static const enum ledger_class classes[] = {
            [GPU_EVENT_KERNEL] = LEDGER_KERNEL,
            [GPU_EVENT_COPY] = LEDGER_COPY,
            [GPU_EVENT_OVERHEAD] = LEDGER_PROFILER,
            [GPU_EVENT_GRAPH] = LEDGER_KERNEL,
        };
        join->scratch[count++] =
            (struct ledger_interval){event->start_ns, event->end_ns, classes[event->kind]};
        joined_add(out, event);
        add(context, event);
    }
    /* where the device's own copy times are known, the host's wait for them is no copy */
    for (size_t i = 0; i < step->interval_count; i++) {
        if (out->copies == 0 || step->intervals[i].class != LEDGER_COPY)
            join->scratch[count++] = step->intervals[i];
    }
    /* events were chained newest first */
    for (size_t i = 0, j = step->event_count; i + 1 < j; i++) {
        struct ledger_interval swap = join->scratch[i];
        join->scratch[i] = join->scratch[--j];
        join->scratch[j] = swap;
    }
    ledger_partition(join->scratch, count, &out->split);
    join->closed_start_ns = step->start_ns;
    join->closed_end_ns = step->end_ns;
    events_free(join, step);
    join->head = (join->head + 1) % GPU_JOIN_STEPS;
    join->count--;
    return true;
}

size_t gpu_join_waiting(const struct gpu_join *join)
{
    size_t open = join->count && !waiting_at(join, join->count - 1)->ended;
    return join->count - open;
}

uint64_t gpu_join_unmatched(const struct gpu_join *join)
{
    return join->late + join->unplaced;
}
