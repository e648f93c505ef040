/* One model for another, and the same with other weights: what was there comes back on failure. */
#include "engine/session_private.h"

#include <stdlib.h>
#include <string.h>

/* A model with what was made of it, put aside while another one takes its place. */
struct held {
    struct model *model;
    char *model_path;
    struct constant_pool *pool;
    struct calibration *calibration;
    struct pruning *pruned;
    struct graph *graph;
    json_t *plan_json;
    double plan_ms;
    uint64_t baseline_bytes;
    bool live;
};

static struct held take_model(struct session *session)
{
    struct held held = {.model = session->model,
                        .model_path = session->model_path,
                        .pool = session->pool,
                        .calibration = session->calibration,
                        .pruned = session->pruned,
                        .graph = session->graph,
                        .plan_json = session->plan_json,
                        .plan_ms = session->plan_ms,
                        .baseline_bytes = session->baseline_bytes,
                        .live = session->live};
    session->model = NULL;
    session->model_path = NULL;
    session->pool = NULL;
    session->calibration = NULL;
    session->pruned = NULL;
    session->graph = NULL;
    session->plan_json = NULL;
    session->live = false;
    return held;
}

static void free_model(struct held *held)
{
    if (held->graph != NULL)
        graph_free(held->graph);
    session_forget_calibration(held->calibration);
    session_prune_free(held->pruned);
    if (held->pool != NULL)
        constant_pool_free(held->pool);
    if (held->model != NULL)
        model_free(held->model);
    free(held->model_path);
    json_decref(held->plan_json);
}

/* The new model could not be planned: the one before takes its place again. */
static void bring_back(struct session *session, const struct held *before)
{
    struct error lost;
    session->model = before->model;
    session->model_path = before->model_path;
    session->pool = before->pool;
    session->calibration = before->calibration;
    session->pruned = before->pruned;
    session->graph = before->graph;
    session->baseline_bytes = before->baseline_bytes;
    if (before->plan_json == NULL)
        return;
    session->bringing_back = true;
    bool back = session_build(session, &session->settings, &lost);
    session->bringing_back = false;
    session->plan_json = before->plan_json;
    if (back) {
        session->plan_ms = before->plan_ms;
        session->live = before->live;
        session_observe(session, &session->slots[0]);
        return;
    }
    session_note(session, "the model before could not be brought back: %s", lost.why);
    session_drop_model(session);
}

bool session_adopt(struct session *session, struct model *model, const char *path,
                   struct error *error)
{
    /* an unsupported layer must not cost the plans that are there */
    struct pruning *pruned;
    if (!session_prune(model, &session->settings, &pruned, error)) {
        model_free(model);
        return false;
    }
    struct constant_pool *pool = constant_pool_new();
    struct graph_options options = {.batch = session->settings.batch,
                                    .fusion = session->settings.fusion};
    phases_begin(&session->phases, PHASE_LOWER);
    struct graph *graph = graph_lower(model, &options, pool, error);
    phases_end(&session->phases);
    if (graph == NULL) {
        constant_pool_free(pool);
        model_free(model);
        session_prune_free(pruned);
        return false;
    }
    uint64_t read_bytes = session_resident_bytes();
    session_drop_plans(session); /* those of two models may not fit */
    struct held before = take_model(session);
    session_rebase(session, read_bytes);
    session->model = model;
    session->model_path = xstrdup(path);
    session->pool = pool;
    session->pruned = pruned;
    session->graph = graph;
    if (!session_build(session, &session->settings, error)) {
        struct held failed = take_model(session);
        free_model(&failed);
        bring_back(session, &before);
        return false;
    }
    if (before.model != NULL) { /* it was part of the baseline */
        uint64_t with = session_resident_bytes();
        free_model(&before);
        uint64_t without = session_resident_bytes();
        session->baseline_bytes -=
            with > without && with - without < session->baseline_bytes ? with - without : 0;
    }
    session_drop_pipeline(session); /* a folder may hold other pictures by now */
    session_renew_pipeline(session);
    session_publish_plan(session);
    session_observe(session, &session->slots[0]);
    return true;
}

bool session_reweigh(struct session *session, const struct settings *next, struct error *error)
{
    struct model *model = session->model;
    struct pruning *pruned;
    session_use_pruned(session->pruned, false);
    if (!session_prune(model, next, &pruned, error)) {
        session_use_pruned(session->pruned, true);
        return false;
    }
    session_drop_plans(session); /* constants of two kinds of weights may not fit */
    struct held before = take_model(session);
    session->model = model;
    session->model_path = before.model_path;
    session->pool = constant_pool_new();
    session->calibration = before.calibration;
    session->pruned = pruned;
    session->baseline_bytes = before.baseline_bytes;
    if (!session_build(session, next, error)) {
        struct held failed = take_model(session);
        constant_pool_free(failed.pool);
        session_use_pruned(pruned, false);
        session_prune_free(pruned);
        session_use_pruned(before.pruned, true);
        bring_back(session, &before);
        return false;
    }
    session->live = before.live;
    if (before.graph != NULL)
        graph_free(before.graph);
    constant_pool_free(before.pool);
    session_prune_free(before.pruned);
    json_decref(before.plan_json);
    return true;
}

void session_drop_model(struct session *session)
{
    bool had_plan = session->plan_json != NULL;
    session_drop_plans(session);
    struct held held = take_model(session);
    free_model(&held);
    session_drop_pipeline(session);
    if (had_plan)
        session->ports->plan(session->ports->context, NULL);
}
