/* nosync: the same steps by two clocks, one stopped when the call comes back, one when the output is
 * on the host. */
#include "engine/session_private.h"

#include "engine/clock.h"

#include <math.h>

#define STEPS_WARM 5
#define STEPS_MAX  1000

static bool one_step(struct session *session, double *returned_ms, double *wall_ms,
                     struct error *error)
{
    const struct slot *slot = &session->slots[0];
    struct step_context step = {.step = ++session->step, .cancel = session->ports->cancel};
    struct error later = {0};
    int64_t start_ns = clock_now_ns();
    bool good = slot->backend->plan_launch(slot->plan, &step, error);
    int64_t returned_ns = clock_now_ns();
    /* also after a failure: nothing may still run when the caller goes on */
    bool waited = slot->backend->plan_wait(slot->plan, &step, good ? error : &later);
    *returned_ms = (double)(returned_ns - start_ns) / 1e6;
    *wall_ms = (double)(clock_now_ns() - start_ns) / 1e6;
    return good && waited;
}

/* Steps of the first device; nobody listens, for who waits for events is no such clock. */
static bool time_steps(struct session *session, int64_t steps, json_t *returned, json_t *walls,
                       struct error *error)
{
    for (int64_t i = -STEPS_WARM; i < steps; i++) {
        double returned_ms, wall_ms;
        if (!one_step(session, &returned_ms, &wall_ms, error))
            return false;
        if (i < 0)
            continue;
        json_array_append_new(returned, json_real(returned_ms));
        json_array_append_new(walls, json_real(wall_ms));
        session_breathe(session, (double)i / (double)steps, "timing without waiting");
    }
    return true;
}

json_t *session_do_nosync(struct session *session, const json_t *arguments, struct error *error)
{
    const struct worker_hooks *hooks = session->hooks;
    int64_t steps = json_integer_value(json_object_get(arguments, "steps"));
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "nosync", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (steps < 1 || steps > STEPS_MAX) {
        error_set(error, ERROR_VALUE, "nosync", "steps are 1..%d", STEPS_MAX);
        return NULL;
    }
    if (session->slots[0].backend->plan_launch == NULL) {
        error_set(error, ERROR_UNSUPPORTED, "nosync",
                  "on %s a step comes back when its output is there", session->slots[0].id);
        error_hint(error, "devices 0");
        return NULL;
    }
    json_t *returned = json_array(), *walls = json_array();
    if (hooks->rest != NULL)
        hooks->rest(hooks->context, true);
    bool good = time_steps(session, steps, returned, walls, error);
    if (hooks->rest != NULL)
        hooks->rest(hooks->context, false);
    json_t *reply = good ? json_pack("{s:s, s:O, s:O}", "device", session->slots[0].id,
                                     "returned_ms", returned, "wall_ms", walls)
                         : NULL;
    json_decref(returned);
    json_decref(walls);
    return reply;
}
