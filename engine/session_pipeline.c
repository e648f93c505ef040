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
        .threads = settings->parallel_calls,
        .raw = settings->preprocess_on_gpu};
    return true;
}

/* Is there the one GPU that `preprocess_on gpu` wants? */
static bool can_feed(const struct session *session, const struct settings *settings,
                     struct error *error)
{
    const struct slot *slot = &session->slots[0];
    if (!settings->preprocess_on_gpu)
        return true;
    if (session->slot_count == 1 && slot->backend->plan_feed != NULL)
        return true;
    if (session->slot_count == 1)
        error_set(
            error, ERROR_UNSUPPORTED, "preprocess_on gpu",
            "pictures are resized and scaled by the GPU that runs the model, and that runs on "
            "%s",
            slot->id);
    else
        error_set(error, ERROR_UNSUPPORTED, "preprocess_on gpu",
                  "pictures are resized and scaled by one GPU, and the model runs on %zu devices",
                  session->slot_count);
    return error_hint(error, "set preprocess_on cpu");
}

/* Let the plan take the pipeline's pictures, if they are raw. */
static bool attach(struct session *session, struct pipeline *pipeline,
                   const struct settings *settings, struct error *error)
{
    const struct slot *slot = &session->slots[0];
    if (session->slot_count == 0 || slot->plan == NULL || slot->backend->plan_feed == NULL)
        return true;
    struct picture_feed feed = {.filter = settings->interpolation,
                                .preprocess = session_preprocess(session, settings, NULL),
                                .ahead = settings->pipeline == PIPELINE_OVERLAP};
    bool raw = pipeline != NULL && settings->preprocess_on_gpu;
    if (raw) {
        feed.batch_bytes = pipeline_batch_bytes(pipeline);
        feed.slot_bytes = pipeline_slot_bytes(pipeline);
    }
    if (!slot->backend->plan_feed(slot->plan, raw ? &feed : NULL, error))
        return false;
    session->fed_ahead = false;
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
    if (!can_feed(session, settings, error))
        return false;
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
    bool good = make(session, next, &fresh, error);
    if (good && !attach(session, fresh, next, error)) {
        pipeline_free(fresh);
        good = false;
    }
    if (!good) {
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
        session->graph->input_count == 1 && pipeline_serves(session->pipeline, &options) &&
        can_feed(session, &session->settings, &why) &&
        attach(session, session->pipeline, &session->settings, &why))
        return;
    session_drop_pipeline(session);
    bool good = make(session, &session->settings, &session->pipeline, &why);
    if (good && !attach(session, session->pipeline, &session->settings, &why)) {
        session_drop_pipeline(session);
        good = false;
    }
    if (!good)
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

bool session_feeds_gpu(const struct session *session)
{
    return session->pipeline != NULL && pipeline_slot_bytes(session->pipeline) > 0;
}

/* The next raw batch, copied for the step that is fed next. */
static bool send_pictures(struct session *session, struct error *error)
{
    const struct slot *slot = &session->slots[0];
    size_t bytes = pipeline_batch_bytes(session->pipeline);
    int64_t start_ns = clock_now_ns();
    /* a plan that was brought back after a failure takes none yet */
    if (slot->backend->plan_feed_room(slot->plan) == NULL &&
        !attach(session, session->pipeline, &session->settings, error))
        return false;
    if (!pipeline_next(session->pipeline, slot->backend->plan_feed_room(slot->plan), error))
        return false;
    int64_t made_ns = clock_now_ns();
    bool good = slot->backend->plan_feed_send(slot->plan, error);
    if (session->tap.interval != NULL) {
        session->tap.interval(session->tap.context, INTERVAL_PREPROCESS, -1, bytes, start_ns,
                              made_ns);
        session->tap.interval(session->tap.context, INTERVAL_COPY, -1, bytes, made_ns,
                              clock_now_ns());
    }
    return good;
}

void session_feed_ahead(struct session *session)
{
    struct error later; /* the next step will meet it again */
    if (session_feeds_gpu(session) && pipeline_ready(session->pipeline))
        session->fed_ahead = send_pictures(session, &later);
}

void session_reset_pipeline(struct session *session)
{
    const struct slot *slot = &session->slots[0];
    if (session->pipeline == NULL)
        return;
    pipeline_times(session->pipeline, true);
    if (session_feeds_gpu(session))
        slot->backend->plan_feed_times(slot->plan, true);
}

bool session_feed(struct session *session, size_t first, size_t members, struct error *error)
{
    size_t bytes = session_value_bytes(session->graph, session->graph->inputs[0]);
    int64_t start_ns = clock_now_ns();
    if (session_feeds_gpu(session)) {
        bool sent = session->fed_ahead;
        session->fed_ahead = false;
        return sent || send_pictures(session, error);
    }
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
    const struct slot *slot = &session->slots[0];
    struct pipeline_times times = pipeline_times(session->pipeline, false);
    double steps = times.batches > 0 ? (double)times.batches * 1e6 : 1e6;
    bool on_gpu = session_feeds_gpu(session);
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:I}", "mode",
        settings->pipeline == PIPELINE_OVERLAP ? "overlap" : "serial", "mapping",
        settings->batched ? "batch" : "picture", "parallel_calls", settings->parallel_calls,
        "pictures", (json_int_t)pipeline_pictures(session->pipeline), "preprocess",
        session_preprocess(session, settings, NULL), "preprocess_on", on_gpu ? "gpu" : "cpu",
        "prepare_ms", (double)times.prepare_ns / steps, "wait_ms", (double)times.wait_ns / steps,
        "decode_ms", (double)times.stage_ns[0] / steps, "resize_ms",
        (double)times.stage_ns[1] / steps, "scale_ms",
        on_gpu ? 0.0 : (double)times.stage_ns[2] / steps, "bytes",
        (json_int_t)pipeline_bytes(session->pipeline));
    if (on_gpu) {
        struct picture_times fed = slot->backend->plan_feed_times(slot->plan, false);
        double count = fed.batches > 0 ? (double)fed.batches : 1;
        json_object_set_new(json, "copied_bytes", json_real((double)fed.copied_bytes / count));
        json_object_set_new(json, "copy_ms", json_real((double)fed.copy_ns / count / 1e6));
        json_object_set_new(json, "gpu_ms", json_real((double)fed.device_ns / count / 1e6));
    }
    return json;
}
