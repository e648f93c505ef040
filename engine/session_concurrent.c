/* Compared devices at once: what each loses by the other's work. The CPU's steps stay on the engine
 * thread, whose threads OpenMP keeps; the other group has a thread for as long as this takes. Nobody
 * listens: the listener belongs to the engine thread, and only whole steps count here. With an input
 * pipeline both take their batches from the one there is, in turn. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/cpu/cpu.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define LOADED_STEPS 3 /* after these a backend loads nothing lazily any more */

/* One group's part. */
struct racer {
    struct session *session;
    size_t first, members;
    size_t steps; /* measured; it goes on until the other has as many */
    size_t count;
    int64_t *wall_ns;
    int64_t start_ns, end_ns; /* of the measured steps */
    atomic_int *running;      /* groups that still measure */
    pthread_mutex_t *feeding; /* held by the one that the pipeline serves */
    bool engine_thread;
    bool good;
    struct error error;
};

static bool quiet_step(struct racer *racer, struct error *error)
{
    struct session *session = racer->session;
    struct step_context step = {.cancel = session->ports->cancel};
    bool good = true;
    size_t launched = 0;
    if (session->pipeline != NULL) {
        pthread_mutex_lock(racer->feeding);
        good = session_feed_unseen(session, racer->first, racer->members, error);
        pthread_mutex_unlock(racer->feeding);
    }
    for (; good && launched < racer->members; launched++) {
        const struct slot *slot = &session->slots[racer->first + launched];
        good = slot->backend->plan_launch != NULL
                   ? slot->backend->plan_launch(slot->plan, &step, error)
                   : slot->backend->plan_run(slot->plan, &step, error);
    }
    for (size_t i = 0; i < launched; i++) {
        const struct slot *slot = &session->slots[racer->first + i];
        struct error later;
        if (slot->backend->plan_launch != NULL &&
            !slot->backend->plan_wait(slot->plan, &step, good ? error : &later))
            good = false;
    }
    return good;
}

static void *race(void *context)
{
    struct racer *racer = context;
    bool measuring = true;
    racer->good = true;
    if (!racer->engine_thread)
        machine_unbind_thread();
    racer->start_ns = clock_now_ns();
    while (racer->good && (measuring || atomic_load(racer->running) > 0)) {
        int64_t start_ns = clock_now_ns();
        racer->good = quiet_step(racer, &racer->error);
        int64_t end_ns = clock_now_ns();
        if (racer->good && measuring) {
            racer->wall_ns[racer->count++] = end_ns - start_ns;
            racer->end_ns = end_ns;
        }
        if (racer->engine_thread)
            session_breathe(racer->session, (double)NAN, "CPU and GPU at once");
        if (measuring && (!racer->good || racer->count == racer->steps)) {
            measuring = false;
            atomic_fetch_sub(racer->running, 1);
        }
    }
    return NULL;
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* {wall_ms: {median}, throughput_per_s, slowdown} of one group beside the other. */
static json_t *racer_json(const struct racer *racer, double alone_ms)
{
    qsort(racer->wall_ns, racer->count, sizeof *racer->wall_ns, compare_ns);
    double median_ms = (double)racer->wall_ns[racer->count / 2] / 1e6;
    double samples = (double)racer->count * (double)racer->session->settings.batch;
    return json_pack("{s:{s:f}, s:f, s:f}", "wall_ms", "median", median_ms, "throughput_per_s",
                     samples / ((double)(racer->end_ns - racer->start_ns) / 1e9), "slowdown",
                     median_ms / alone_ms);
}

bool session_race(struct session *session, size_t steps, const double *alone_ms, json_t **out,
                  struct error *error)
{
    struct racer racers[2] = {0};
    atomic_int running = 2;
    pthread_mutex_t feeding = PTHREAD_MUTEX_INITIALIZER;
    size_t second = 0;
    bool good = true;
    for (size_t i = 0; i < 2; i++) {
        struct racer *racer = &racers[i];
        racer->session = session;
        session_group(session->slots, session->slot_count, second, &racer->first, &racer->members);
        second = racer->first + racer->members;
        racer->steps = steps;
        racer->running = &running;
        racer->feeding = &feeding;
        racer->wall_ns = xcalloc(steps, sizeof *racer->wall_ns);
        racer->engine_thread = session_is_cpu(session->slots[racer->first].id);
        for (int loaded = 0; good && loaded < LOADED_STEPS; loaded++)
            good = quiet_step(racer, error);
    }
    struct racer *here = &racers[racers[0].engine_thread ? 0 : 1];
    struct racer *there = here == &racers[0] ? &racers[1] : &racers[0];
    pthread_t thread;
    if (good && pthread_create(&thread, NULL, race, there) != 0)
        good = error_set(error, ERROR_COMMAND, "compare concurrent", "no thread can be started");
    else if (good) {
        race(here);
        pthread_join(thread, NULL);
        for (size_t i = 0; good && i < 2; i++) {
            good = racers[i].good;
            if (!good && error != NULL)
                *error = racers[i].error;
        }
    }
    for (size_t i = 0; i < 2; i++) {
        out[i] = good ? racer_json(&racers[i], alone_ms[i]) : NULL;
        free(racers[i].wall_ns);
    }
    return good;
}
