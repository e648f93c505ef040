/* NVML's samples: a made-up table of functions. */
#include "engine/clock.h"
#include "profiler/marks.h"
#include "profiler/nvml.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <unistd.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

static atomic_int nvml_hang;
static int nvml_ok(void)
{
    return 0;
}
static int nvml_count(unsigned *count)
{
    *count = 2;
    return 0;
}
static int nvml_handle(unsigned index, void **device)
{
    static char devices[2];
    *device = &devices[index];
    return 0;
}
static int nvml_clock(void *device, unsigned type, unsigned *mhz)
{
    (void)device, (void)type;
    *mhz = 1755;
    while (atomic_load(&nvml_hang))
        usleep(1000);
    return 0;
}
static int nvml_power(void *device, unsigned *milliwatt)
{
    (void)device, (void)milliwatt;
    return 3; /* not supported */
}
static int nvml_processes(void *device, unsigned *count, struct nvml_process *infos)
{
    (void)device;
    infos[0] = (struct nvml_process){.pid = 1, .used_bytes = 5};
    infos[1] = (struct nvml_process){.pid = (unsigned)getpid(), .used_bytes = 77};
    *count = 2;
    return 0;
}
static int nvml_throttle(void *device, unsigned long long *reasons)
{
    (void)device;
    *reasons = 0x4 | 0x1; /* power cap, and idle */
    return 0;
}
static const struct nvml_api nvml_table = {.init = nvml_ok,
                                           .shutdown = nvml_ok,
                                           .device_count = nvml_count,
                                           .device_by_index = nvml_handle,
                                           .clock = nvml_clock,
                                           .power = nvml_power,
                                           .processes = nvml_processes,
                                           .throttle = nvml_throttle};

static void nvml_samples_come_by_queue(void **state)
{
    (void)state;
    struct nvml *nvml = nvml_open(&nvml_table);
    assert_non_null(nvml);
    struct nvml_sample sample;
    int64_t until = clock_now_ns() + 2000 * MS;
    while (!nvml_take(nvml, &sample) && clock_now_ns() < until)
        usleep(1000);
    assert_int_equal(sample.device, 0);
    assert_true(sample.values.clock_mhz == 1755);
    assert_true(isnan(sample.values.power_w));
    assert_true(isnan(sample.values.util));
    assert_int_equal(sample.values.ours, 77);
    assert_int_equal(sample.values.others, 5);
    assert_int_equal(sample.values.tenants, 1);
    assert_int_equal(sample.values.throttle, 0x4 | 0x1);
    assert_int_equal(sample.values.used, RECORD_UNKNOWN);
    nvml_close(nvml);
}

/* In a container NVML may name none of its processes as we do: then one of them is us. */
static int nvml_strangers(void *device, unsigned *count, struct nvml_process *infos)
{
    (void)device;
    infos[0] = (struct nvml_process){.pid = 1, .used_bytes = ~0ull};
    infos[1] = (struct nvml_process){.pid = 2, .used_bytes = ~0ull};
    *count = 2;
    return 0;
}

static void strangers_are_counted_without_us(void **state)
{
    (void)state;
    struct nvml_api table = nvml_table;
    table.processes = nvml_strangers;
    struct nvml *nvml = nvml_open(&table);
    struct nvml_sample sample;
    int64_t until = clock_now_ns() + 2000 * MS;
    while (!nvml_take(nvml, &sample) && clock_now_ns() < until)
        usleep(1000);
    assert_int_equal(sample.values.tenants, 1);
    assert_int_equal(sample.values.others, RECORD_UNKNOWN);
    assert_int_equal(sample.values.ours, RECORD_UNKNOWN);
    nvml_close(nvml);
}

static void marks_say_what_speaks_against_a_number(void **state)
{
    (void)state;
    struct marks marks;
    char text[256];
    struct record_device idle = {.throttle = 0x1, .tenants = 0};
    struct record_device hot = {.throttle = 0x40 | 0x4, .tenants = 2};
    struct record_device silent = {.throttle = RECORD_UNKNOWN, .tenants = RECORD_UNKNOWN};
    marks_clear(&marks);
    assert_true(json_is_null(marks_throttle_json(&marks)));
    marks_add(&marks, &silent);
    assert_string_equal(marks_text(&marks, text, sizeof text), "");
    marks_add(&marks, &idle);
    assert_string_equal(marks_text(&marks, text, sizeof text), "");
    assert_int_equal(marks_throttled(&marks), 0);
    marks_add(&marks, &hot);
    marks_add(&marks, &idle);
    assert_string_equal(marks_text(&marks, text, sizeof text),
                        "clocks held down by the power cap and temperature (hardware); 2 other "
                        "processes on the GPU");
    json_t *list = marks_throttle_json(&marks);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_array_get(list, 1)), "hw_thermal_slowdown");
    json_decref(list);
}

static void a_hung_nvml_blocks_nobody(void **state)
{
    (void)state;
    atomic_store(&nvml_hang, 1);
    struct nvml *nvml = nvml_open(&nvml_table);
    usleep(20000);
    struct nvml_sample sample;
    int64_t start = clock_now_ns();
    assert_false(nvml_take(nvml, &sample));
    nvml_sleep(nvml, true);
    nvml_sleep(nvml, false);
    nvml_close(nvml);
    assert_true(clock_now_ns() - start < 1000 * MS);
    atomic_store(&nvml_hang, 0);
    usleep(50000); /* the thread that was left behind ends by itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nvml_samples_come_by_queue),
        cmocka_unit_test(strangers_are_counted_without_us),
        cmocka_unit_test(marks_say_what_speaks_against_a_number),
        cmocka_unit_test(a_hung_nvml_blocks_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
