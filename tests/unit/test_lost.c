/* A GPU that is lost in the middle of a step: the command fails in words, its worker ends, and the next
 * command begins with another one. The GPU is a fake (tests/tools/fake_gpu.c) that loses each context
 * in its sixth step. */
#include "tests/support/cli.h"
#include "tests/support/fake_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
    setenv("FAKE_GPU_LOST", "6", 1);
    return fake_gpu_build(state) || cli_make_folder(state);
}

static int teardown(void **state)
{
    unsetenv("FAKE_GPU_LOST");
    return fake_gpu_remove(state) | cli_remove_folder(state);
}

/* The object number `index` of all. */
static const json_t *object_at(const struct cli_outcome *outcome, size_t index)
{
    const json_t *object = json_array_get(outcome->objects, index);
    assert_non_null(object);
    return object;
}

static void the_next_command_has_another_worker(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "-k --json -c 'devices 0' -c 'load demo:digits' -c 'run 10 --warmup 0' "
                      "-c 'run 2 --warmup 0' -c 'run 9 --warmup 0' -c 'run 3 --warmup 0'");
    assert_int_equal(out.code, 4); /* the first failure's */
    const json_t *lost = object_at(&out, 2), *next = object_at(&out, 3);
    assert_string_equal(json_string_value(cli_at(lost, "error.code")), "E034");
    assert_non_null(strstr(json_string_value(cli_at(lost, "error.message")), "fell off the bus"));
    assert_true(json_is_true(cli_at(next, "ok")));
    assert_string_equal(json_string_value(cli_at(next, "data.device")), "gpu:0");
    assert_non_null(strstr(json_string_value(json_array_get(cli_at(next, "warn"), 0)),
                           "new worker, model loaded again"));
    assert_non_null(strstr(out.errors, "worker ended: the GPU's context is lost"));
    /* and once more: nothing is worn out */
    assert_string_equal(json_string_value(cli_at(object_at(&out, 4), "error.code")), "E034");
    assert_true(json_is_true(cli_at(object_at(&out, 5), "ok")));
    cli_outcome_free(&out);
}

/* Live steps have no reply to fail: a line says why they ended. */
static void a_live_run_ends_with_a_line(void **state)
{
    (void)state;
    struct cli_outcome out =
        cli_run(NULL, "-k --json -c 'devices 0' -c 'load demo:digits' -c start "
                      "-c 'sleep 1s' -c 'run 2 --warmup 0'");
    assert_non_null(strstr(out.errors, "the live run ended: the fake GPU fell off the bus"));
    assert_non_null(strstr(out.errors, "worker ended: the GPU's context is lost"));
    assert_true(json_is_true(cli_at(object_at(&out, 4), "ok")));
    assert_int_equal(out.code, 0);
    cli_outcome_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_command_has_another_worker),
        cmocka_unit_test(a_live_run_ends_with_a_line),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
