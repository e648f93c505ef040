/* The measuring of kernels between steps, on steps that only count time: engine/cuda/tune.c is
 * compiled here with a GPU of a few functions. Without CUDA headers every test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/cuda/tune.c"

/* -- a GPU whose time is counted --------------------------------------------------------------- */

static double now_ns, stamps[2];
static int saves, recaptures, notes;

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    static int made;
    *event = (cudaEvent_t)&stamps[made++ % 2];
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    *(double *)(void *)event = now_ns;
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t a, cudaEvent_t b)
{
    *milliseconds = (float)((*(double *)(void *)b - *(double *)(void *)a) / 1e6);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}
bool device_use(const struct device *device, struct error *error)
{
    (void)device;
    (void)error;
    return true;
}
uint64_t device_free_bytes(void)
{
    return 1;
}
void device_charge_context(struct device *device, uint64_t free_before)
{
    (void)device;
    (void)free_before;
}
void device_report(struct device *device)
{
    (void)device;
}
void *step_target(const struct plan *plan, const struct step *step)
{
    (void)plan;
    (void)step;
    return NULL;
}
void replay_free(struct plan *plan)
{
    (void)plan;
    recaptures++;
}
void plan_entries_save(struct plan *plan)
{
    (void)plan;
    saves++;
}

/* -- steps with candidates ---------------------------------------------------------------------- */

#define CANDIDATES 4

/* A problem: what it takes now, what others would take; 0: it cannot run, -1: it runs and fails. */
struct problem {
    double ns[1 + CANDIDATES];
    size_t count;
    int used, kept, begun, runs[1 + CANDIDATES];
    bool tuned;
    int64_t kept_ns;
};

static bool run_step(struct plan *plan, struct step *step, void *target, struct error *error)
{
    struct problem *p = step->data;
    (void)plan;
    (void)target;
    (void)error;
    p->runs[1 + p->used]++;
    now_ns += p->ns[1 + p->used];
    return p->ns[1 + p->used] > 0;
}

static size_t begin(struct plan *plan, struct step *step)
{
    struct problem *p = step->data;
    (void)plan;
    p->begun++;
    return p->tuned ? 0 : p->count;
}

static bool use(struct plan *plan, struct step *step, int candidate)
{
    struct problem *p = step->data;
    (void)plan;
    if (candidate >= 0 && p->ns[1 + candidate] == 0) {
        p->used = -1;
        return false;
    }
    p->used = candidate;
    return true;
}

static void keep(struct plan *plan, struct step *step, int candidate, int64_t time_ns)
{
    struct problem *p = step->data;
    (void)plan;
    assert_int_equal(p->used, -1); /* nothing is left switched */
    p->kept = candidate;
    p->kept_ns = time_ns;
    p->tuned = true;
}

static const struct tuning tuning = {begin, use, keep};

static void on_note(void *context, const char *text)
{
    (void)context;
    assert_non_null(strstr(text, "autotune: "));
    notes++;
}

struct rig {
    struct device device;
    struct observer observer;
    struct graph graph;
    struct step steps[4];
    struct plan plan;
};

static struct rig *rig_new(struct problem *const *problems, size_t count)
{
    struct rig *rig = calloc(1, sizeof *rig);
    saves = recaptures = notes = 0;
    rig->observer.note = on_note;
    rig->device.observer = &rig->observer;
    rig->device.plans = &rig->plan;
    rig->graph.op_count = count;
    rig->plan.device = &rig->device;
    rig->plan.graph = &rig->graph;
    rig->plan.steps = rig->steps;
    rig->plan.options.autotune = true;
    rig->plan.runs = TUNE_AFTER_RUNS;
    for (size_t i = 0; i < count; i++) {
        rig->steps[i].impl = "some";
        rig->steps[i].run = run_step;
        rig->steps[i].data = problems[i];
        rig->steps[i].tuning = problems[i] != NULL ? &tuning : NULL;
        if (problems[i] != NULL) {
            problems[i]->used = -1;
            problems[i]->kept = -2;
        }
    }
    return rig;
}

/* Pauses of no length: one candidate each. Returns how many there were. */
static int tune_all(struct rig *rig)
{
    int pauses = 1;
    while (plan_tune(&rig->plan, 0)) {
        assert_true(++pauses < 100);
    }
    assert_false(plan_tune(&rig->plan, 0)); /* and stays so */
    tune_free(&rig->plan);
    return pauses;
}

static void the_fastest_is_kept(void **state)
{
    struct problem a = {.ns = {1e5, 9e4, 5e4, 0, 7e4}, .count = 4},
                   b = {.ns = {2e5, 3e5, 1.99e5}, .count = 2};
    struct problem *problems[] = {&a, NULL, &b};
    struct rig *rig = rig_new(problems, 3);
    (void)state;
    int pauses = tune_all(rig);
    assert_int_equal(a.kept, 1);
    assert_in_range(a.kept_ns, 49000, 51000);
    assert_int_equal(b.kept, -1); /* half a percent is noise */
    assert_in_range(b.kept_ns, 198000, 202000);
    assert_int_equal(a.runs[3], 0); /* what cannot run is not run */
    assert_int_equal(pauses, 5 + 3 + 1);
    assert_int_equal(saves, 1);
    assert_int_equal(recaptures, 1);
    assert_int_equal(notes, 1);
    free(rig);
}

static void the_hopeless_is_left_soon(void **state)
{
    struct problem a = {.ns = {1e5, 1e7, 9e4}, .count = 2};
    struct problem *problems[] = {&a};
    struct rig *rig = rig_new(problems, 1);
    (void)state;
    tune_all(rig);
    assert_int_equal(a.kept, 1);
    assert_in_range(a.runs[1], 1, 2);
    assert_true(a.runs[2] > 10);
    free(rig);
}

static void what_fails_is_not_kept(void **state)
{
    struct problem a = {.ns = {1e5, -1, 8e4}, .count = 2}, b = {.ns = {-1, 1e4}, .count = 1};
    struct problem *problems[] = {&a, &b};
    struct rig *rig = rig_new(problems, 2);
    (void)state;
    tune_all(rig);
    assert_int_equal(a.kept, 1);
    /* if the present one cannot be timed, nothing can be said to be faster */
    assert_int_equal(b.kept, -1);
    assert_int_equal(b.runs[1], 0);
    free(rig);
}

static void steps_of_one_problem_are_measured_once(void **state)
{
    struct problem a = {.ns = {1e5, 5e4}, .count = 1};
    struct problem *problems[] = {&a, &a, &a};
    struct rig *rig = rig_new(problems, 3);
    (void)state;
    tune_all(rig);
    assert_int_equal(a.begun, 3);
    assert_int_equal(rig->plan.tune.tried, 2);
    free(rig);
}

static void nothing_to_measure_writes_nothing(void **state)
{
    struct problem a = {.ns = {1e5, 5e4}, .count = 1};
    struct problem *problems[] = {&a};
    struct rig *rig = rig_new(problems, 1);
    (void)state;
    a.tuned = true; /* by an earlier start */
    assert_false(plan_tune(&rig->plan, 0));
    assert_int_equal(saves + recaptures + notes, 0);
    assert_int_equal(a.runs[0] + a.runs[1], 0);
    free(rig);
}

static void the_first_numbers_wait_for_nothing(void **state)
{
    struct problem a = {.ns = {1e5, 5e4}, .count = 1};
    struct problem *problems[] = {&a};
    struct rig *rig = rig_new(problems, 1);
    (void)state;
    for (rig->plan.runs = 0; rig->plan.runs < TUNE_AFTER_RUNS; rig->plan.runs++) {
        assert_true(plan_tune(&rig->plan, INT64_MAX)); /* there is more to come, later */
        assert_int_equal(a.begun, 0);
    }
    assert_false(plan_tune(&rig->plan, INT64_MAX)); /* all in one long pause */
    assert_int_equal(a.kept, 0);
    rig->plan.options.autotune = false;
    rig->plan.tune = (struct tune){0};
    assert_false(plan_tune(&rig->plan, INT64_MAX));
    free(rig);
}

/* The workspace that any plan of the device lacks is not used. */
static void the_smallest_plan_bounds_the_workspace(void **state)
{
    struct problem a = {.ns = {1e5}, .count = 0};
    struct problem *problems[] = {&a};
    struct rig *rig = rig_new(problems, 1);
    struct plan other = {.workspace_bytes = 5000, .temporary_bytes = 1024};
    (void)state;
    rig->plan.workspace_bytes = 1 << 20;
    assert_int_equal(plan_tuning_workspace(&rig->plan), 1 << 20);
    rig->plan.next = &other;
    assert_int_equal(plan_tuning_workspace(&rig->plan), 3840); /* 3976 in whole alignments */
    rig->device.plans = NULL;
    assert_int_equal(plan_tuning_workspace(&rig->plan), 0);
    free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_is_kept),
        cmocka_unit_test(the_hopeless_is_left_soon),
        cmocka_unit_test(what_fails_is_not_kept),
        cmocka_unit_test(steps_of_one_problem_are_measured_once),
        cmocka_unit_test(nothing_to_measure_writes_nothing),
        cmocka_unit_test(the_first_numbers_wait_for_nothing),
        cmocka_unit_test(the_smallest_plan_bounds_the_workspace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else /* built with CUDA=0 */
#include "support/no_cuda.h"

int main(void)
{
    return no_cuda_main();
}
#endif
