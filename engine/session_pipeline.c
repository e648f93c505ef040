/* The input pipeline as a part of the steps: what it does is timed, and stands in their ledger. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/pipeline.h"

#include <string.h>

/* What the settings ask for, without an open input; false if they ask for no pipeline. */
static bool asked(const struct session *session, const struct settings *settings,
                  struct pipeline_options *out)
{
    const struct graph *graph = session->graph;
    if (settings->pipeline == PIPELINE_OFF || graph == NULL || graph->input_count == 0)
        return false;
    const struct graph_value *value = &graph->values[graph->inputs[0]];
    *out = (struct pipeline_options){
        .source = settings->input,
        .made_width = settings->picture_width,
        .made_height = settings->picture_height,
        .seed = settings->seed,
        .port = {.name = session->model->inputs[0].name,
                 .row = shape_of(value->shape.rank - 1, value->shape.dims + 1),
                 .dtype = session_host_dtype(value->dtype)},
        .batch = (size_t)graph->batch,
        .preprocess = session_preprocess(session, settings, NULL),
        .filter = settings->interpolation,
        .overlap = settings->pipeline == PIPELINE_OVERLAP,
        .batched = settings->batched,
        .threads = settings->parallel_calls};
    return true;
}

static bool make(const struct session *session, const struct settings *settings,
                 struct pipeline **out, struct error *error)
{
    struct pipeline_options options;
    *out = NULL;
    if (!asked(session, settings, &options))
        return true;
    const struct graph *graph = session->graph;
    if (graph->input_count != 1)
        return error_set(error, ERROR_INPUT, "pipeline",
                         "it fills one input with pictures, and the model has %zu",
                         graph->input_count);
    if (settings->input[0] != '\0') {
        options.input = session_open_input(session, settings, graph, settings->input, error);
        if (options.input == NULL)
            return false;
    }
    *out = pipeline_new(&options, error);
    if (options.input != NULL)
        input_free(options.input);
    return *out != NULL;
}

bool session_set_pipeline(struct session *session, const struct settings *next, struct error *error)
{
    struct pipeline *fresh;
    if (!make(session, next, &fresh, error)) {
        if (error->hint[0] == '\0')
            error_hint(error, "set pipeline off");
        return false;
    }
    pipeline_free(session->pipeline);
    session->pipeline = fresh;
    session->settings = *next;
    return true;
}

void session_drop_pipeline(struct session *session)
{
    pipeline_free(session->pipeline);
    session->pipeline = NULL;
}

void session_renew_pipeline(struct session *session)
{
    struct pipeline_options options;
    struct error why = {0};
    if (session->pipeline != NULL && asked(session, &session->settings, &options) &&
        session->graph->input_count == 1 && pipeline_serves(session->pipeline, &options))
        return;
    session_drop_pipeline(session);
    if (!make(session, &session->settings, &session->pipeline, &why))
        session_note(session, "no pipeline here, inputs are made ready once: %s", why.why);
}

bool session_feed_unseen(struct session *session, size_t first, size_t members, struct error *error)
{
    const struct slot *slots = session->slots + first;
    bool whole = members == 1 && slots[0].part == NULL;
    void *out =
        whole ? slots[0].backend->plan_input(slots[0].plan, 0) : pipeline_room(session->pipeline);
    if (!pipeline_next(session->pipeline, out, error))
        return false;
    size_t bytes = session_value_bytes(session->graph, session->graph->inputs[0]);
    size_t row = bytes / (size_t)session->graph->batch;
    for (size_t i = 0; !whole && i < members; i++)
        memcpy(slots[i].backend->plan_input(slots[i].plan, 0),
               (const char *)out + (size_t)slots[i].first * row, (size_t)slots[i].samples * row);
    return true;
}

bool session_feed(struct session *session, size_t first, size_t members, struct error *error)
{
    size_t bytes = session_value_bytes(session->graph, session->graph->inputs[0]);
    int64_t start_ns = clock_now_ns();
    if (!session_feed_unseen(session, first, members, error))
        return false;
    if (session->tap.interval != NULL)
        session->tap.interval(session->tap.context, INTERVAL_PREPROCESS, -1, bytes, start_ns,
                              clock_now_ns());
    return true;
}

void session_fed(struct session *session, int64_t start_ns)
{
    int64_t begin_ns, end_ns;
    if (session->tap.interval != NULL &&
        pipeline_behind(session->pipeline, start_ns, &begin_ns, &end_ns))
        session->tap.interval(session->tap.context, INTERVAL_PREPROCESS, -1, 0, begin_ns, end_ns);
}

json_t *session_pipeline_json(struct session *session)
{
    const struct settings *settings = &session->settings;
    struct pipeline_times times = pipeline_times(session->pipeline, false);
    double steps = times.batches > 0 ? (double)times.batches * 1e6 : 1e6;
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:I}", "mode",
        settings->pipeline == PIPELINE_OVERLAP ? "overlap" : "serial", "mapping",
        settings->batched ? "batch" : "picture", "parallel_calls", settings->parallel_calls,
        "pictures", (json_int_t)pipeline_pictures(session->pipeline), "preprocess",
        session_preprocess(session, settings, NULL), "prepare_ms", (double)times.prepare_ns / steps,
        "wait_ms", (double)times.wait_ns / steps, "decode_ms", (double)times.stage_ns[0] / steps,
        "resize_ms", (double)times.stage_ns[1] / steps, "scale_ms",
        (double)times.stage_ns[2] / steps, "bytes", (json_int_t)pipeline_bytes(session->pipeline));
}
