/* Several devices that share the batches, on the CPU: `logical` cuts it into fenced ones. */
#include "tests/support/program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define CPU "demo:digits -k -c 'devices cpu; threads 1; batch 9' "

static void a_run_tells_of_each_and_of_all(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(CPU "-c 'logical 2x4MiB; run 40; mem; plan 9'", &code);
    assert_int_equal(code, 0);
    assert_int_equal(json_array_size(program_at(out, 5, "data.per_device")), 2);
    assert_string_equal(json_string_value(program_at(out, 5, "data.device")), "cpu.0");
    assert_string_equal(json_string_value(program_at(out, 5, "data.per_device.1.device")), "cpu.1");
    assert_true(program_number(out, 5, "data.per_device.0.batch") == 5);
    assert_true(program_number(out, 5, "data.per_device.1.batch") == 4);
    assert_true(program_number(out, 5, "data.split.batch") == 9);
    assert_true(program_number(out, 5, "data.split.devices") == 2);
    /* together they do what each does in the same time */
    double first = program_number(out, 5, "data.per_device.0.throughput_per_s");
    double second = program_number(out, 5, "data.per_device.1.throughput_per_s");
    double all = program_number(out, 5, "data.split.throughput_per_s");
    assert_true(fabs(first + second - all) < 0.01 * all);
    /* each has times for its layers */
    for (int device = 0; device < 2; device++) {
        char path[64];
        double timed = 0;
        for (int layer = 0; layer < 23; layer++) {
            snprintf(path, sizeof path, "data.per_device.%d.layers.%d.time_ms", device, layer);
            double time_ms = program_number(out, 5, path);
            timed += time_ms > 0 ? time_ms : 0;
        }
        assert_true(timed > 0);
    }
    assert_int_equal(json_array_size(program_at(out, 6, "data.devices")), 2);
    json_decref(out);
}

/* The float32 values behind the header of a small .npy. */
static size_t read_values(const char *folder, const char *name, float *out, size_t capacity)
{
    char path[128], header[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(header, 1, sizeof header, file), sizeof header);
    size_t count = fread(out, sizeof *out, capacity, file);
    fclose(file);
    unlink(path);
    return count;
}

static void the_outputs_are_those_of_one_device(void **state)
{
    (void)state;
    char whole[] = "/tmp/layertop-split-XXXXXX", parts[64], arguments[512];
    int code;
    assert_non_null(mkdtemp(whole));
    snprintf(parts, sizeof parts, "%s/3.npy", whole);
    /* 10 digits in batches of 4: shares of 2, 1 and 1, and a last batch that leaves two devices
     * without a row */
    snprintf(arguments, sizeof arguments,
             "demo:digits -c 'devices cpu; threads 1; batch 4; predict "
             "share/layertop/demo/digits %s/1.npy; logical 3x8MiB; predict "
             "share/layertop/demo/digits %s; batch 3; predict "
             "share/layertop/demo/digits %s/4.npy'",
             whole, parts, whole);
    json_t *out = program_objects(arguments, &code);
    assert_int_equal(code, 0);
    float one[128], three[128], each[128];
    assert_int_equal(read_values(whole, "1.npy", one, 128), 100);
    assert_int_equal(read_values(whole, "3.npy", three, 128), 100);
    assert_int_equal(read_values(whole, "4.npy", each, 128), 100);
    rmdir(whole);
    for (int i = 0; i < 100; i++) {
        assert_true(fabsf(one[i] - three[i]) < 1e-5f);
        assert_true(fabsf(one[i] - each[i]) < 1e-5f);
    }
    json_decref(out);
}

static void fences_hold_for_each(void **state)
{
    (void)state;
    int code;
    json_t *out = program_objects(
        CPU "-c 'batch max --dry; logical 2x2MiB; batch max --dry; batch 1; batch 500; run 1; "
            "logical 99x1MiB; logical 2; logical none; run 1'",
        &code);
    double fits = program_number(out, 6, "data.fits");
    assert_true(fits > 9);
    assert_string_equal(json_string_value(program_at(out, 7, "error.code")), "E011");
    assert_string_equal(json_string_value(program_at(out, 8, "error.code")), "E041");
    char hint[32];
    snprintf(hint, sizeof hint, "batch %.0f", fits - fmod(fits, 2));
    assert_string_equal(json_string_value(program_at(out, 8, "error.hint")), hint);
    assert_true(program_number(out, 9, "data.split.batch") == 9);
    assert_string_equal(json_string_value(program_at(out, 10, "error.code")), "E011");
    assert_string_equal(json_string_value(program_at(out, 11, "error.code")), "E011");
    assert_null(program_at(out, 13, "data.per_device"));
    json_decref(out);
    /* what fits does, and one more does not, on each of them */
    char arguments[256];
    snprintf(arguments, sizeof arguments, CPU "-c 'logical 2x2MiB; batch %.0f; batch %.0f'", fits,
             fits + 1);
    out = program_objects(arguments, &code);
    assert_true(json_is_true(program_at(out, 5, "ok")));
    assert_string_equal(json_string_value(program_at(out, 6, "error.code")), "E041");
    json_decref(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_tells_of_each_and_of_all),
        cmocka_unit_test(the_outputs_are_those_of_one_device),
        cmocka_unit_test(fences_hold_for_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
