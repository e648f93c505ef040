/* Proof that a device computes this model: one sample through it and through a plain CPU plan, in
 * fp32 and without fusion, on the same input; how far the outputs lie apart, and what ran. */
#include "engine/session_private.h"

#include "engine/host_op.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One plan of one sample on a device. */
struct trial {
    struct slot slot; /* a copy: the plan is ours, the device is not, but for the reference's */
    struct graph *graph;
    uint64_t kernels;
    bool own_device;
};

static void count_launches(void *context, int op, uint32_t kernels)
{
    struct trial *trial = context;
    (void)op;
    trial->kernels += kernels;
}

static void trial_free(struct trial *trial)
{
    if (trial->slot.plan != NULL)
        trial->slot.backend->plan_free(trial->slot.plan);
    if (trial->graph != NULL)
        graph_free(trial->graph);
    if (trial->own_device && trial->slot.device != NULL)
        trial->slot.backend->device_close(trial->slot.device);
}

static bool trial_run(struct session *session, struct trial *trial, bool fusion,
                      enum precision precision, struct error *error)
{
    struct graph_options lowering = {.batch = 1, .fusion = fusion};
    struct plan_options options = {
        .precision = precision, .slice = -1, .host = session->settings.fallback ? &host_ops : NULL};
    struct observer observer = {.context = trial, .launches = count_launches};
    struct step_context step = {.observer = &observer, .cancel = session->ports->cancel};
    struct slot *slot = &trial->slot;
    trial->graph = graph_lower(session->model, &lowering, session->pool, error);
    if (trial->graph == NULL)
        return false;
    slot->part = NULL;
    slot->first = 0;
    slot->samples = 1;
    session_give_ranges(session, fusion, &options);
    slot->plan = slot->backend->plan_new(slot->device, trial->graph, &options, error);
    constant_pool_trim(session->pool);
    return slot->plan != NULL &&
           session_fill_inputs(session, &session->settings, trial->graph, slot, 1, error) &&
           slot->backend->plan_run(slot->plan, &step, error);
}

/* The largest difference of any output value, against the largest value of its output. Integers
 * must be the same: one that is not makes the error infinite. */
static double compare(const struct trial *a, const struct trial *reference)
{
    double error = 0;
    for (size_t i = 0; i < a->graph->output_count; i++) {
        const struct graph_value *value = &a->graph->values[a->graph->outputs[i]];
        const void *x = a->slot.backend->plan_output(a->slot.plan, i);
        const void *y = reference->slot.backend->plan_output(reference->slot.plan, i);
        size_t count = (size_t)shape_elements(&value->shape);
        if (session_host_dtype(value->dtype) != DTYPE_F32) {
            size_t bytes = session_value_bytes(a->graph, a->graph->outputs[i]);
            error = memcmp(x, y, bytes) == 0 ? error : (double)INFINITY;
            continue;
        }
        const float *u = x, *v = y;
        double apart = 0, largest = 0;
        for (size_t j = 0; j < count; j++) {
            double difference = fabs((double)u[j] - (double)v[j]);
            if (!isfinite(u[j]) && isfinite(v[j]))
                difference = (double)INFINITY;
            apart = difference > apart ? difference : apart;
            largest = fabs((double)v[j]) > largest ? fabs((double)v[j]) : largest;
        }
        double relative = apart > 0 ? apart / (largest > 0 ? largest : 1) : 0;
        error = relative > error ? relative : error;
    }
    return error;
}

/* Layers with at least one op that runs; {impl: ops}. */
static json_t *what_ran(const struct trial *trial, json_t *impls)
{
    const char *const *names = trial->slot.backend->plan_impls(trial->slot.plan);
    size_t layers = trial->graph->model->layer_count;
    bool *seen = xcalloc(layers + 1, sizeof *seen);
    json_int_t count = 0;
    for (size_t i = 0; i < trial->graph->op_count; i++) {
        int layer = trial->graph->ops[i].layer;
        if (names[i] == NULL)
            continue;
        json_int_t ops = json_integer_value(json_object_get(impls, names[i]));
        json_object_set_new(impls, names[i], json_integer(ops + 1));
        if (layer >= 0 && !seen[layer]) {
            seen[layer] = true;
            count++;
        }
    }
    free(seen);
    return json_integer(count);
}

static json_t *prove(struct session *session, const struct slot *slot, const struct trial *plain)
{
    struct trial trial = {.slot = *slot};
    struct error error = {0};
    trial.slot.plan = NULL;
    json_t *proof = json_pack(
        "{s:s, s:s, s:s, s:s}", "device", slot->id, "model", session->model->name, "precision",
        precision_name(session->settings.precision), "reference", "cpu, fp32, fusion off");
    if (trial_run(session, &trial, session->settings.fusion, session->settings.precision, &error)) {
        json_t *impls = json_object();
        double apart = compare(&trial, plain);
        json_object_set_new(proof, "kernels", json_integer((json_int_t)trial.kernels));
        json_object_set_new(proof, "layers", what_ran(&trial, impls));
        json_object_set_new(proof, "impls", impls);
        json_object_set_new(proof, "error", isfinite(apart) ? json_real(apart) : json_null());
    } else {
        json_object_set_new(proof, "error", json_null());
        json_object_set_new(proof, "why", json_string(error.why));
    }
    trial_free(&trial);
    return proof;
}

json_t *session_do_proof(struct session *session, const json_t *arguments, struct error *error)
{
    (void)arguments;
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "proof", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    struct device_options options = {.threads = session->settings.threads, .growth = true};
    struct observer nobody = {0};
    struct trial plain = {.slot = {.id = "cpu", .backend = &backend_cpu}, .own_device = true};
    plain.slot.device = backend_cpu.device_open(&options, &nobody, error);
    json_t *proofs = NULL;
    if (plain.slot.device != NULL && trial_run(session, &plain, false, PRECISION_FP32, error)) {
        proofs = json_array();
        for (size_t i = 0; i < session->slot_count; i++)
            json_array_append_new(proofs, prove(session, &session->slots[i], &plain));
        json_decref(session->proofs);
        session->proofs = json_incref(proofs);
    }
    trial_free(&plain);
    return proofs != NULL ? json_pack("{s:o}", "devices", proofs) : NULL;
}

json_t *session_proof_of(const struct session *session, const char *id)
{
    size_t index;
    const json_t *proof;
    json_array_foreach(session->proofs, index, proof)
    {
        const char *device = json_string_value(json_object_get(proof, "device"));
        size_t length = strcspn(device, "."); /* a logical device proves its card */
        if (strlen(id) == length && strncmp(device, id, length) == 0)
            return json_deep_copy(proof);
    }
    return json_null();
}
