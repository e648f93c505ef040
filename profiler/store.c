/* The store: checks each record wholly, then adds it to rows, series, segments and the ledger. */
#include "profiler/store.h"

#include "engine/clock.h"
#include "profiler/records.h"
#include "profiler/series.h"
#include "profiler/store_layers.h"
#include "profiler/store_segments.h"
#include "profiler/store_trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GPU_MAX    64
#define DEVICE_ANY INT32_MIN

struct ledger_sums {
    int64_t time_ns;
    uint64_t steps;
    double class_ns[LEDGER_CLASS_COUNT];
    double hidden_ns[LEDGER_INTERVAL_CLASSES];
    double unexplained_ns, wall_ns;
    unsigned known;
};

struct store {
    struct layer_table layers;
    struct segment_table segments;
    struct trace_slots traces;
    struct series *series[SERIES_COUNT];

    struct histogram wall_histogram;
    struct summary wall; /* ms; p50 and p95 are computed on demand */
    struct recent wall_recent;
    struct ledger_sums ledger[RECENT_WINDOWS];
    size_t ledger_head, ledger_used;
    struct store_cost cost;

    int64_t plan_ns;  /* the newest record's time when the present plan came */
    json_t *plan_key; /* what makes two plans the same one for the statistics */
    int device;       /* of the plan; DEVICE_ANY before one is known */
    char timing_source[8];
    char note[512];

    double gpu_rate[GPU_MAX];
    int64_t gpu_rate_ns[GPU_MAX];
    struct marks marks;     /* of the last sample */
    uint64_t foreign_bytes; /* of other processes; as used_bytes */
    uint64_t used_bytes;    /* newest figure of the device, RECORD_UNKNOWN if none */
    int64_t used_ns;

    uint32_t session, lost;
    const struct clock *clock;
    int64_t shift_ns, newest_ns;
    int64_t window_ns, memory_ns; /* length of the last window; time of the last memory sample */
    uint64_t dropped, generation;
};

static const struct series_shape store_series_shape = {
    .ring = 4096, .bins = 1024, .levels = 7, .base_ns = INT64_C(100000000)};

const char *store_series_name(enum store_series series)
{
    static const char *const names[SERIES_COUNT] = {
        [SERIES_STEP_MS] = "step",
        [SERIES_THROUGHPUT_CPU] = "throughput cpu",
        [SERIES_THROUGHPUT_GPU] = "throughput gpu",
        [SERIES_MEMORY_WEIGHTS] = "weights",
        [SERIES_MEMORY_ACTIVATIONS] = "activations",
        [SERIES_MEMORY_WORKSPACE] = "workspace",
        [SERIES_MEMORY_IDLE] = "idle",
        [SERIES_MEMORY_OTHER] = "other",
        [SERIES_MEMORY_CONTEXT] = "context",
        [SERIES_MEMORY_CUPTI] = "CUPTI",
        [SERIES_MEMORY_FOREIGN] = "other processes",
        [SERIES_MEMORY_FREE] = "free",
        [SERIES_MEMORY_USED] = "used",
        [SERIES_MEMORY_TOTAL] = "total",
        [SERIES_LIBRARY_ALLOC] = "libraries",
        [SERIES_GPU_CLOCK_MHZ] = "clock",
        [SERIES_GPU_TEMPERATURE_C] = "temperature",
        [SERIES_GPU_POWER_W] = "power",
        [SERIES_GPU_UTIL] = "utilisation",
    };
    return series < SERIES_COUNT ? names[series] : "?";
}

static void statistics_clear(struct store *store)
{
    histogram_init(&store->wall_histogram);
    store->wall = (struct summary){0, NAN, NAN, NAN, NAN, NAN, NAN};
    store->wall_recent = (struct recent){.used = 0};
    store->ledger_head = store->ledger_used = 0;
    store->cost = (struct store_cost){0, NAN, NAN, NAN};
}

struct store *store_new(void)
{
    struct store *store = xcalloc(1, sizeof *store);
    for (int i = 0; i < SERIES_COUNT; i++)
        store->series[i] = series_new(&store_series_shape);
    store->clock = &clock_system;
    store->device = DEVICE_ANY;
    store->used_bytes = store->foreign_bytes = RECORD_UNKNOWN;
    marks_clear(&store->marks);
    statistics_clear(store);
    return store;
}

void store_set_clock(struct store *store, const struct clock *clock)
{
    store->clock = clock;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    for (int i = 0; i < SERIES_COUNT; i++)
        series_free(store->series[i]);
    layer_table_free(&store->layers);
    segment_table_free(&store->segments);
    trace_slots_clear(&store->traces);
    json_decref(store->plan_key);
    free(store);
}

static void plan_forget(struct store *store)
{
    json_decref(store->plan_key);
    store->plan_key = NULL;
    store->device = DEVICE_ANY;
}

void store_model(struct store *store, const json_t *model)
{
    store->generation++;
    layer_table_model(&store->layers, model);
    trace_slots_clear(&store->traces);
    plan_forget(store);
    statistics_clear(store);
}

/* "cpu" → -1, "gpu:3" → 3; DEVICE_ANY if it is neither */
static int device_parse(const char *name)
{
    if (name && strcmp(name, "cpu") == 0)
        return RECORD_CPU;
    if (name && strncmp(name, "gpu:", 4) == 0 && name[4] >= '0' && name[4] <= '9')
        return (int)(strtol(name + 4, NULL, 10) % INT16_MAX);
    return DEVICE_ANY;
}

/* A plan that comes again with the same key keeps the statistics */
static json_t *plan_key_make(const json_t *plan)
{
    static const char *const keys[] = {"device", "batch", "precision",
                                       "fusion", "graph", "timing_source"};
    json_t *key = json_array();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(plan, keys[i]);
        json_array_append_new(key, value ? json_deep_copy(value) : json_null());
    }
    return key;
}

void store_plan(struct store *store, const json_t *plan)
{
    store->generation++;
    if (!json_is_object(plan)) {
        plan_forget(store);
        return;
    }
    json_t *key = plan_key_make(plan);
    if (!store->plan_key || !json_equal(key, store->plan_key)) {
        statistics_clear(store);
        layer_table_reset(&store->layers, false);
        trace_slots_clear(&store->traces);
        store->plan_ns = store->newest_ns;
    }
    json_decref(store->plan_key);
    store->plan_key = key;
    layer_table_plan(&store->layers, plan);
    int device = device_parse(json_string_value(json_object_get(plan, "device")));
    if (device != store->device)
        store->used_bytes = store->foreign_bytes = RECORD_UNKNOWN;
    marks_clear(&store->marks);
    store->device = device;
    const char *source = json_string_value(json_object_get(plan, "timing_source"));
    snprintf(store->timing_source, sizeof store->timing_source, "%s", source ? source : "");
}

void store_ended(struct store *store)
{
    /* what no sample covers is a gap: nothing to add to the series */
    store->generation++;
    store->used_bytes = store->foreign_bytes = RECORD_UNKNOWN;
    marks_clear(&store->marks);
    memset(store->gpu_rate_ns, 0, sizeof store->gpu_rate_ns);
}

void store_reset(struct store *store)
{
    store->generation++;
    statistics_clear(store);
    layer_table_reset(&store->layers, true);
    for (int i = 0; i < SERIES_COUNT; i++)
        series_clear(store->series[i]);
}

static void push(struct store *store, enum store_series which, int64_t time_ns, int64_t span_ns,
                 double value)
{
    series_push(store->series[which], time_ns, span_ns, value);
}

static double bytes_known(uint64_t bytes)
{
    return bytes == RECORD_UNKNOWN ? (double)NAN : (double)bytes;
}

/* Worker time to the front's. Workers here share our clock: a first record that is about as old as
 * a message takes to arrive needs no shift. Others, and recordings, begin now. */
static int64_t time_shifted(struct store *store, const struct record_header *header)
{
    const int64_t near = INT64_C(2000000000), far = INT64_C(3600000000000);
    int64_t time = header->time_ns;
    int64_t now = clock_read_ns(store->clock);
    if (time < 0 || time > INT64_MAX / 4)
        time = 0;
    if (header->session != 0 && header->session != store->session) {
        store->session = header->session;
        store->lost = 0;
        store->shift_ns = time > now - near && time < now + near ? 0 : now - time;
    }
    int64_t latest = store->newest_ns > now ? store->newest_ns : now;
    /* the same worker, but its time leapt: a recording that starts anew, or a broken frame */
    if (time + store->shift_ns < store->newest_ns - near)
        store->shift_ns = store->newest_ns - time;
    else if (header->session != 0 && time + store->shift_ns > latest + far)
        store->shift_ns = latest - time;
    return time + store->shift_ns;
}

static void feed_walls(struct store *store, const struct record_window *window,
                       const uint8_t *wall_ms, int64_t time_ns, int64_t span_ns)
{
    double sum = 0;
    uint32_t count = window->wall_count;
    for (uint32_t i = 0; i < count; i++) {
        double wall = record_wall_ms(wall_ms, i);
        sum += wall;
        struct summary *total = &store->wall;
        if (total->count == 0)
            *total = (struct summary){0, NAN, wall, wall, NAN, NAN, 0};
        total->count++;
        total->sum += wall;
        total->min = fmin(total->min, wall);
        total->max = fmax(total->max, wall);
        histogram_add(&store->wall_histogram, histogram_bucket((int64_t)(wall * 1e6)), 1);
        /* steps of one window are spread over it, in order */
        int64_t at = time_ns - (int64_t)((double)span_ns * (count - 1 - i) / count);
        int64_t own =
            (int64_t)(wall * 1e6) > span_ns / count ? (int64_t)(wall * 1e6) : span_ns / count;
        push(store, SERIES_STEP_MS, at, own, wall);
    }
    if (count)
        recent_add(&store->wall_recent, time_ns, sum * 1e6, count, 0);
}

static void feed_throughput(struct store *store, const struct record_header *header,
                            const struct record_window *window, int64_t time_ns, int64_t span_ns)
{
    if (window->samples == 0 || window->rate_ns <= 0)
        return;
    double rate = (double)window->samples / (double)window->rate_ns * 1e9;
    if (window->rate_ns > span_ns)
        span_ns = window->rate_ns;
    if (header->device == RECORD_CPU) {
        push(store, SERIES_THROUGHPUT_CPU, time_ns, span_ns, rate);
        return;
    }
    if (header->device >= GPU_MAX)
        return;
    store->gpu_rate[header->device] = rate;
    store->gpu_rate_ns[header->device] = time_ns;
    double sum = 0;
    for (int i = 0; i < GPU_MAX; i++) {
        if (store->gpu_rate_ns[i] && time_ns - store->gpu_rate_ns[i] < RECENT_SPAN_NS)
            sum += store->gpu_rate[i];
    }
    push(store, SERIES_THROUGHPUT_GPU, time_ns, span_ns, sum);
}

static void feed_ledger(struct store *store, const struct record_window *window, int64_t time_ns)
{
    struct ledger_sums *sums = &store->ledger[store->ledger_head];
    *sums = (struct ledger_sums){
        .time_ns = time_ns,
        .steps = window->ledger_steps,
        .unexplained_ns = (double)window->unexplained_ns,
        .wall_ns = (double)window->wall_ns,
        .known = window->known,
    };
    for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
        sums->class_ns[c] = (double)window->class_ns[c];
    for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
        sums->hidden_ns[c] = (double)window->hidden_ns[c];
    store->ledger_head = (store->ledger_head + 1) % RECENT_WINDOWS;
    if (store->ledger_used < RECENT_WINDOWS)
        store->ledger_used++;
}

/* Walk the layers of a window once to check them (segment NULL, store NULL), once to add them */
static bool walk_layers(struct record_reader reader, const struct record_window *window,
                        size_t layer_count, struct store *store, struct segment *segment,
                        int64_t time_ns, int64_t span_ns, struct error *error)
{
    bool bursts = store && store_in_bursts(store);
    for (uint32_t i = 0; i < window->layer_count; i++) {
        struct record_layer layer;
        const uint8_t *buckets;
        if (!record_get_layer(&reader, &layer, &buckets, error))
            return false;
        if (layer.layer >= layer_count)
            return error_set(error, ERROR_STREAM, "record", "names layer %u of %zu", layer.layer,
                             layer_count);
        if (store)
            layer_table_add(&store->layers, time_ns, span_ns, bursts, &layer, buckets);
        if (segment)
            segment_add_layer(segment, &layer, buckets);
    }
    return true;
}

static bool feed_window(struct store *store, struct record_reader *reader,
                        const struct record_header *header, struct error *error)
{
    struct record_window window;
    const uint8_t *wall_ms;
    size_t layers = store->layers.count;
    if (!record_get_window(reader, &window, &wall_ms, error) ||
        !walk_layers(*reader, &window, layers, NULL, NULL, 0, 0, error))
        return false;
    int64_t time_ns = time_shifted(store, header);
    int64_t span_ns = header->time_ns > window.begin_ns && window.begin_ns >= 0
                          ? header->time_ns - window.begin_ns
                          : 0;
    store->window_ns = span_ns;
    struct segment *segment = NULL;
    if (header->segment) {
        segment = segment_table_open(&store->segments, header->segment, header->device, layers);
        segment_add_window(segment, &window);
    }
    store->dropped += window.dropped + window.unmatched + window.untimed;
    feed_throughput(store, header, &window, time_ns, span_ns);
    bool ours = store->device == DEVICE_ANY || store->device == header->device;
    if (ours) {
        feed_walls(store, &window, wall_ms, time_ns, span_ns);
        if (header->segment == 0 && window.ledger_steps)
            feed_ledger(store, &window, time_ns);
        if (window.wall_count || window.layer_count)
            snprintf(store->timing_source, sizeof store->timing_source, "%s",
                     timing_source_name(window.timing));
    }
    walk_layers(*reader, &window, layers, ours ? store : NULL, segment, time_ns, span_ns, NULL);
    store->newest_ns = time_ns;
    return true;
}

/* Memory samples come at each window and on change: one holds until the next */
#define MEMORY_SPAN_NS    INT64_C(150000000)
#define DEVICE_SPAN_NS    INT64_C(300000000)
#define MEMORY_CONTEXT_AT 4 /* MEMORY_CONTEXT's place among a record's categories */

/* When steps are long a window is one of them, and samples are as far apart. */
static int64_t memory_span_ns(const struct store *store, int64_t time_ns)
{
    int64_t since_ns = time_ns - store->memory_ns, window_ns = store->window_ns;
    bool known = store->memory_ns > 0 && since_ns > MEMORY_SPAN_NS;
    return known && since_ns <= window_ns + window_ns / 2 ? since_ns : MEMORY_SPAN_NS;
}

static void push_other(struct store *store, int64_t time_ns, int64_t span_ns, double used,
                       double ours)
{
    /* on the CPU weights may be pages of the file, which resident anonymous memory does not hold:
     * then what others use is not known */
    if (used >= ours)
        push(store, SERIES_MEMORY_OTHER, time_ns, span_ns, used - ours);
}

static bool feed_memory(struct store *store, struct record_reader *reader,
                        const struct record_header *header, struct error *error)
{
    struct record_memory memory;
    if (!record_get_memory(reader, &memory, error))
        return false;
    int64_t time_ns = time_shifted(store, header);
    int64_t span_ns = memory_span_ns(store, time_ns);
    store->newest_ns = time_ns;
    if (store->device != DEVICE_ANY && store->device != header->device)
        return true;
    static const enum store_series shown[] = {SERIES_MEMORY_WEIGHTS, SERIES_MEMORY_ACTIVATIONS,
                                              SERIES_MEMORY_WORKSPACE, SERIES_MEMORY_IDLE};
    store->memory_ns = time_ns;
    double ours = 0, foreign = bytes_known(store->foreign_bytes);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        double bytes = bytes_known(memory.category[i]);
        push(store, shown[i], time_ns, span_ns, bytes);
        ours += isnan(bytes) ? 0 : bytes;
    }
    if (memory.used != RECORD_UNKNOWN) {
        store->used_bytes = memory.used;
        store->used_ns = time_ns;
        push(store, SERIES_MEMORY_USED, time_ns, span_ns, (double)memory.used);
    }
    push(store, SERIES_MEMORY_TOTAL, time_ns, span_ns, bytes_known(memory.total));
    push(store, SERIES_LIBRARY_ALLOC, time_ns, span_ns, bytes_known(memory.library));
    /* what else is known of what is used; the rest is "other" */
    double context = bytes_known(memory.category[MEMORY_CONTEXT_AT]);
    /* measured from outside, it holds what libraries allocated: that is a part of its own */
    if (memory.library != RECORD_UNKNOWN && context >= (double)memory.library)
        context -= (double)memory.library;
    push(store, SERIES_MEMORY_CONTEXT, time_ns, span_ns, context);
    push(store, SERIES_MEMORY_CUPTI, time_ns, span_ns, bytes_known(memory.cupti));
    double known[] = {context, bytes_known(memory.library), bytes_known(memory.cupti), foreign};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        ours += isnan(known[i]) ? 0 : known[i];
    if (store->used_bytes != RECORD_UNKNOWN && time_ns - store->used_ns <= RECENT_SPAN_NS)
        push_other(store, time_ns, span_ns, (double)store->used_bytes, ours);
    return true;
}

/* What other processes hold: as NVML says of each, or all that is used but ours. */
static uint64_t foreign_bytes(const struct record_device *device)
{
    if (device->others != RECORD_UNKNOWN)
        return device->others;
    bool known = device->used != RECORD_UNKNOWN && device->ours != RECORD_UNKNOWN;
    return known && device->used >= device->ours ? device->used - device->ours : RECORD_UNKNOWN;
}

static bool feed_device(struct store *store, struct record_reader *reader,
                        const struct record_header *header, struct error *error)
{
    struct record_device device;
    if (!record_get_device(reader, &device, error))
        return false;
    int64_t time_ns = time_shifted(store, header);
    store->newest_ns = time_ns;
    if (store->device != DEVICE_ANY && store->device != header->device)
        return true;
    push(store, SERIES_GPU_CLOCK_MHZ, time_ns, DEVICE_SPAN_NS, (double)device.clock_mhz);
    push(store, SERIES_GPU_TEMPERATURE_C, time_ns, DEVICE_SPAN_NS, (double)device.temperature_c);
    push(store, SERIES_GPU_POWER_W, time_ns, DEVICE_SPAN_NS, (double)device.power_w);
    push(store, SERIES_GPU_UTIL, time_ns, DEVICE_SPAN_NS, (double)device.util);
    if (device.used != RECORD_UNKNOWN) {
        store->used_bytes = device.used;
        store->used_ns = time_ns;
    }
    push(store, SERIES_MEMORY_USED, time_ns, DEVICE_SPAN_NS, bytes_known(device.used));
    push(store, SERIES_MEMORY_TOTAL, time_ns, DEVICE_SPAN_NS, bytes_known(device.total));
    if (device.used != RECORD_UNKNOWN && device.total != RECORD_UNKNOWN &&
        device.total >= device.used)
        push(store, SERIES_MEMORY_FREE, time_ns, DEVICE_SPAN_NS,
             (double)(device.total - device.used));
    store->foreign_bytes = foreign_bytes(&device);
    push(store, SERIES_MEMORY_FOREIGN, time_ns, DEVICE_SPAN_NS, bytes_known(store->foreign_bytes));
    marks_clear(&store->marks);
    marks_add(&store->marks, &device);
    if (header->segment)
        segment_add_sample(segment_table_open(&store->segments, header->segment, header->device,
                                              store->layers.count),
                           &device);
    return true;
}

static bool feed_cost(struct store *store, struct record_reader *reader,
                      const struct record_header *header, struct error *error)
{
    struct store_cost cost;
    if (!record_get_cost(reader, &cost, error))
        return false;
    if (header->segment)
        segment_set_cost(segment_table_open(&store->segments, header->segment, header->device,
                                            store->layers.count),
                         &cost);
    if (store->device == DEVICE_ANY || store->device == header->device)
        store->cost = cost;
    return true;
}

bool store_feed(struct store *store, const void *record, size_t bytes, struct error *error)
{
    struct record_reader reader;
    struct record_header header;
    if (!record_open(&reader, record, bytes, &header, error))
        return false;
    bool fed = true;
    switch (header.kind) {
    case RECORD_WINDOW:
        fed = feed_window(store, &reader, &header, error);
        break;
    case RECORD_MEMORY:
        fed = feed_memory(store, &reader, &header, error);
        break;
    case RECORD_DEVICE:
        fed = feed_device(store, &reader, &header, error);
        break;
    case RECORD_TRACE:
        fed = trace_slots_feed(&store->traces, &reader, header.device, time_shifted(store, &header),
                               store->layers.count, error);
        break;
    case RECORD_COST:
        fed = feed_cost(store, &reader, &header, error);
        break;
    case RECORD_NOTE:
        fed = record_get_note(&reader, store->note, sizeof store->note, error);
        break;
    }
    if (!fed)
        return false;
    if (header.session == store->session && header.lost != store->lost) {
        uint32_t lost = header.lost - store->lost;
        store->lost = header.lost;
        store->dropped += lost;
        if (header.segment && store->segments.count)
            segment_add_lost(store->segments.segments[store->segments.count - 1], lost);
    }
    store->generation++;
    return true;
}

size_t store_layer_count(const struct store *store)
{
    return store->layers.count;
}

void store_layer(const struct store *store, size_t index, struct store_layer *out)
{
    layer_table_get(&store->layers, index, recent_mean_ns(&store->wall_recent, NULL) * 1e-6, true,
                    out);
}

void store_layers(const struct store *store, struct store_layer *out)
{
    double wall_ms = recent_mean_ns(&store->wall_recent, NULL) * 1e-6;
    for (size_t i = 0; i < store->layers.count; i++)
        layer_table_get(&store->layers, i, wall_ms, false, &out[i]);
}

const struct series *store_series_get(const struct store *store, enum store_series which)
{
    return which < SERIES_COUNT ? store->series[which] : NULL;
}

void store_ledger(const struct store *store, struct ledger *out)
{
    struct ledger_sums sum = {.known = ~0u};
    int64_t newest = 0;
    for (size_t i = 0; i < store->ledger_used; i++) {
        size_t slot = (store->ledger_head + RECENT_WINDOWS - 1 - i) % RECENT_WINDOWS;
        const struct ledger_sums *one = &store->ledger[slot];
        if (i == 0)
            newest = one->time_ns;
        if (one->time_ns <= newest - RECENT_SPAN_NS)
            break;
        sum.steps += one->steps;
        for (int c = 0; c < LEDGER_CLASS_COUNT; c++)
            sum.class_ns[c] += one->class_ns[c];
        for (int c = 0; c < LEDGER_INTERVAL_CLASSES; c++)
            sum.hidden_ns[c] += one->hidden_ns[c];
        sum.unexplained_ns += one->unexplained_ns;
        sum.wall_ns += one->wall_ns;
        sum.known &= one->known;
    }
    ledger_from_sums(out, sum.steps, sum.class_ns, sum.hidden_ns, sum.known, sum.unexplained_ns,
                     sum.wall_ns);
}

void store_cost(const struct store *store, struct store_cost *out)
{
    *out = store->cost;
}

void store_wall(const struct store *store, struct summary *out)
{
    *out = store->wall;
    if (out->count == 0)
        return;
    out->mean = out->sum / (double)out->count;
    double p50 = histogram_quantile_ns(&store->wall_histogram, 0.50) * 1e-6;
    double p95 = histogram_quantile_ns(&store->wall_histogram, 0.95) * 1e-6;
    out->p50 = fmin(fmax(p50, out->min), out->max);
    out->p95 = fmin(fmax(p95, out->min), out->max);
}

const struct store_segment *store_segment_get(const struct store *store, uint32_t segment)
{
    return segment_table_get(&store->segments, segment, NULL);
}

uint32_t store_segment_last(const struct store *store)
{
    return segment_table_last(&store->segments);
}

const struct store_segment *store_segment_on(const struct store *store, uint32_t segment,
                                             const char *device)
{
    int wanted = device_parse(device);
    return segment_table_get(&store->segments, segment, &wanted);
}

void store_marks(const struct store *store, struct marks *out)
{
    *out = store->marks;
}

const char *store_timing_source(const struct store *store)
{
    return store->timing_source;
}

const char *store_note(const struct store *store)
{
    return store->note;
}

const struct store_trace *store_trace_get(const struct store *store, const char *device)
{
    int wanted = device ? device_parse(device) : store->device;
    return trace_slots_get(&store->traces, wanted);
}

bool store_in_bursts(const struct store *store)
{
    const struct store_trace *trace = trace_slots_get(&store->traces, store->device);
    return trace && trace->bursts;
}

uint64_t store_dropped(const struct store *store)
{
    return store->dropped;
}

uint64_t store_generation(const struct store *store)
{
    return store->generation;
}

int64_t store_plan_time_ns(const struct store *store)
{
    return store->plan_ns;
}

int64_t store_time_ns(const struct store *store)
{
    return store->newest_ns;
}
