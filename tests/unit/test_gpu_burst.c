/* The policy of bursts with a made-up machine and a clock of its own: steps that take so long under
 * each detail, a switch that takes so long. */
#include "profiler/gpu_burst.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define US INT64_C(1000)
#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

struct machine {
    struct gpu_burst burst;
    int64_t whole_ns, nodes_ns, switch_ns, now_ns;
    int64_t traced_ns; /* end of the last step whose nodes were traced */
    int64_t oldest_ns; /* the longest that no step's nodes were traced */
    int64_t spent_ns;  /* more than all steps would have taken as whole graphs, and switches */
    uint64_t steps, traced, switches, longest, run;
};

static void step(struct machine *m, bool replayed)
{
    bool nodes = m->burst.detail == GPU_DETAIL_NODES;
    int64_t wall = nodes ? m->nodes_ns : m->whole_ns;
    m->now_ns += wall;
    m->steps++;
    if (nodes) {
        int64_t age = m->now_ns - m->traced_ns;
        m->oldest_ns = age > m->oldest_ns ? age : m->oldest_ns;
        m->traced_ns = m->now_ns;
        m->traced++;
        m->run++;
        m->longest = m->run > m->longest ? m->run : m->longest;
        m->spent_ns += m->nodes_ns - m->whole_ns;
    } else {
        m->run = 0;
    }
    enum gpu_detail wanted = gpu_burst_step(&m->burst, replayed, wall, m->now_ns);
    if (wanted == m->burst.detail)
        return;
    m->now_ns += m->switch_ns;
    m->spent_ns += m->switch_ns;
    m->switches++;
    gpu_burst_switched(&m->burst, wanted, m->switch_ns, m->now_ns);
}

static struct machine machine_new(uint64_t batch, int64_t whole_ns, int64_t nodes_ns,
                                  int64_t switch_ns)
{
    struct machine m = {.whole_ns = whole_ns,
                        .nodes_ns = nodes_ns,
                        .switch_ns = switch_ns,
                        .now_ns = 5 * S,
                        .traced_ns = 5 * S};
    gpu_burst_init(&m.burst, batch);
    return m;
}

static void run_for(struct machine *m, int64_t span_ns)
{
    int64_t until = m->now_ns + span_ns;
    m->oldest_ns = m->spent_ns = 0;
    m->longest = m->traced = m->steps = 0;
    while (m->now_ns < until)
        step(m, true);
}

/* Whatever steps, tracing and switching take: layers are refreshed in time, and where the budget
 * can be kept at all it is. */
static void layers_stay_fresh_within_the_budget(void **state)
{
    (void)state;
    static const int64_t steps[] = {40 * US, 300 * US, 2 * MS, 30 * MS, 400 * MS};
    static const double extra[] = {0, 0.01, 0.1, 0.5, 2};
    static const int64_t switches[] = {5 * US, 500 * US, 4 * MS};
    static const uint64_t batches[] = {1, 8};
    for (size_t s = 0; s < 5; s++) {
        for (size_t e = 0; e < 5; e++) {
            for (size_t w = 0; w < 6; w++) {
                uint64_t batch = batches[w % 2];
                int64_t nodes = steps[s] + (int64_t)(extra[e] * (double)steps[s]);
                struct machine m = machine_new(batch, steps[s], nodes, switches[w / 2]);
                run_for(&m, 5 * S);
                run_for(&m, 20 * S);
                assert_true(m.oldest_ns <= GPU_BURST_PERIOD_MAX_NS + nodes + 2 * m.switch_ns ||
                            m.oldest_ns <= steps[s] + 2 * nodes);
                assert_true(m.longest <= GPU_BURST_STEPS_MAX);
                double share = (double)m.spent_ns / (20.0 * 1e9);
                /* one traced step a period, which ends before the step that would pass it */
                double least = (double)(nodes - steps[s] + 2 * m.switch_ns) /
                               (double)(GPU_BURST_PERIOD_MAX_NS - steps[s]);
                double budget = batch >= 8 ? 0.02 : 0.05;
                assert_true(share <= fmax(budget, 1.1 * least));
                assert_true(m.switches >= 10);
            }
        }
    }
}

static void cheap_tracing_refreshes_twice_a_second(void **state)
{
    (void)state;
    struct machine m = machine_new(32, 3 * MS, 3 * MS + 20 * US, 100 * US);
    run_for(&m, 5 * S);
    run_for(&m, 20 * S);
    assert_true(m.oldest_ns <= GPU_BURST_PERIOD_MIN_NS + 10 * MS);
    assert_int_equal(m.longest, GPU_BURST_STEPS_MAX);
    assert_true(gpu_burst_cost(&m.burst) < 0.01);
}

static void steps_longer_than_the_period_are_all_traced(void **state)
{
    (void)state;
    struct machine m = machine_new(256, 3 * S, 3 * S + MS, MS);
    run_for(&m, 60 * S);
    assert_int_equal(m.traced, m.steps);
    assert_int_equal(m.switches, 0);
}

static void eager_steps_are_traced_kernel_by_kernel(void **state)
{
    (void)state;
    struct machine m = machine_new(8, MS, MS, 10 * US);
    for (int i = 0; i < 5000; i++)
        step(&m, false);
    assert_int_equal(m.traced, 5000);
    /* the graph is captured at last: a burst, then whole launches, then another capture */
    for (int i = 0; i < 100; i++)
        step(&m, true);
    assert_int_equal(m.burst.detail, GPU_DETAIL_WHOLE);
    step(&m, false);
    assert_int_equal(m.burst.detail, GPU_DETAIL_NODES);
}

/* The first replay after a switch warms up, except where it is all there is */
static void the_first_of_many_warms_up(void **state)
{
    (void)state;
    struct machine cheap = machine_new(8, MS, MS, 10 * US);
    assert_true(gpu_burst_warms_up(&cheap.burst));
    step(&cheap, true);
    assert_false(gpu_burst_warms_up(&cheap.burst));
    struct machine dear = machine_new(8, 200 * MS, 300 * MS, 10 * US);
    run_for(&dear, 20 * S);
    assert_int_equal(dear.burst.length, 1);
    dear.burst.done = 0;
    assert_false(gpu_burst_warms_up(&dear.burst));
}

/* A CUPTI that shows no kernels after a pause is left on for good */
static void a_blind_source_is_paused_no_more(void **state)
{
    (void)state;
    struct machine m = machine_new(8, MS, MS, 10 * US);
    for (int i = 0; i < GPU_BURST_BLIND - 1; i++)
        assert_false(gpu_burst_seen(&m.burst, 0));
    assert_false(gpu_burst_seen(&m.burst, 12));
    for (int i = 0; i < GPU_BURST_BLIND - 1; i++)
        assert_false(gpu_burst_seen(&m.burst, 0));
    assert_true(gpu_burst_seen(&m.burst, 0));
    assert_false(gpu_burst_seen(&m.burst, 0));
    run_for(&m, 10 * S);
    assert_int_equal(m.traced, m.steps);
}

static void a_cost_is_not_known_before_both_were_seen(void **state)
{
    (void)state;
    struct machine m = machine_new(8, MS, 2 * MS, MS);
    assert_true(isnan(gpu_burst_cost(&m.burst)));
    run_for(&m, 10 * S);
    assert_true(gpu_burst_cost(&m.burst) > 0);
    assert_true(gpu_burst_cost(&m.burst) <= 0.011);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_stay_fresh_within_the_budget),
        cmocka_unit_test(cheap_tracing_refreshes_twice_a_second),
        cmocka_unit_test(steps_longer_than_the_period_are_all_traced),
        cmocka_unit_test(eager_steps_are_traced_kernel_by_kernel),
        cmocka_unit_test(the_first_of_many_warms_up),
        cmocka_unit_test(a_blind_source_is_paused_no_more),
        cmocka_unit_test(a_cost_is_not_known_before_both_were_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
