/* What the instrument shows must be what happened: the program as a whole, with known delays in it
 * and its screen held against its JSON. Timings on a shared machine scatter, so what is compared
 * is measured side by side, and a comparison may be tried again. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "support/vt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES      12
#define SHORT_RUNS 40

static const char *program;
static const char *const environment[] = {"XDG_STATE_HOME=/tmp/layertop-truth-state",
                                          "XDG_CONFIG_HOME=/tmp/layertop-truth-config", NULL};

/* data of every `run` of `layertop --json demo:digits -c COMMANDS` with `variables` set. */
static json_t *runs_of(const char *variables, const char *commands)
{
    char line[4096], *text = NULL;
    size_t capacity = 0;
    snprintf(line, sizeof line,
             "%s timeout 60 %s demo:digits --json -c '%s' 2>/dev/null </dev/null", variables,
             program, commands);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    json_t *runs = json_array();
    while (getline(&text, &capacity, pipe) > 0) {
        json_t *object = json_loads(text, 0, NULL);
        if (strcmp(json_string_value(json_object_get(object, "cmd")), "run") == 0)
            json_array_append(runs, json_object_get(object, "data"));
        json_decref(object);
    }
    free(text);
    pclose(pipe);
    assert_true(json_array_size(runs) > 0);
    return runs;
}

/* Many runs of two steps: some of them pass undisturbed even where other programs take most of the
 * processor, and those tell the truth. */
static json_t *short_runs(const char *variables)
{
    char commands[2048] = "devices cpu; threads 1; batch 4; run 20";
    for (int i = 0; i < SHORT_RUNS; i++)
        strcat(commands, "; run 2 --warmup 0");
    return runs_of(variables, commands);
}

/* The least of a layer's times over all runs, NAN if it has none. */
static double layer_ms(const json_t *runs, size_t index, const char **name)
{
    double least = NAN;
    size_t i;
    json_t *data;
    json_array_foreach((json_t *)(uintptr_t)runs, i, data)
    {
        json_t *layer = json_array_get(json_object_get(data, "layers"), index);
        *name = json_string_value(json_object_get(layer, "name"));
        json_t *time = json_object_get(layer, "time_ms");
        if (json_is_number(time))
            least = fmin(least, json_number_value(time));
    }
    return least;
}

static double ledger_ms(const json_t *data, const char *key)
{
    return json_number_value(json_object_get(json_object_get(data, "ledger"), key));
}

/* One layer made 5 ms slower: its row moves by 5 ms, and no other row does. */
static void only_the_slow_layer_moves(void **state)
{
    (void)state;
    char why[200] = "";
    for (int attempt = 0; attempt < TRIES; attempt++) {
        json_t *plain = short_runs("");
        json_t *slow = short_runs("LAYERTOP_TEST_SLOW_LAYER=pool1:5");
        size_t count = json_array_size(json_object_get(json_array_get(slow, 0), "layers"));
        assert_true(count > 20);
        why[0] = '\0';
        bool moved = false;
        for (size_t i = 0; i < count; i++) {
            const char *name;
            double delta_ms = layer_ms(slow, i, &name) - layer_ms(plain, i, &name);
            if (isnan(delta_ms))
                continue;
            bool is_slow = strcmp(name, "pool1") == 0;
            moved |= is_slow;
            /* a busy-wait is never shorter than asked */
            if (is_slow ? delta_ms < 4.9 || delta_ms > 6.5 : fabs(delta_ms) > 0.5)
                snprintf(why, sizeof why, "%s moved by %.3f ms", name, delta_ms);
        }
        assert_true(moved);
        json_decref(plain);
        json_decref(slow);
        if (why[0] == '\0')
            return;
    }
    fail_msg("%s", why);
}

/* 5 ms of a step outside all intervals are found in "unexplained", and nowhere else. */
static void an_untraced_sleep_is_unexplained(void **state)
{
    (void)state;
    char why[200] = "";
    for (int attempt = 0; attempt < TRIES; attempt++) {
        json_t *runs = short_runs("LAYERTOP_TEST_STEP_SLEEP=5"), *data;
        bool found = false;
        size_t i;
        json_array_foreach(runs, i, data)
        {
            double unexplained = ledger_ms(data, "unexplained_ms");
            double gap = ledger_ms(data, "gap_ms"), kernel = ledger_ms(data, "kernel_ms");
            double wall = ledger_ms(data, "wall_ms");
            assert_true(unexplained >= 4.9); /* a sleep is never shorter than asked */
            found |= unexplained < 6.5 && gap < 0.5 && kernel < wall - 4.9;
            snprintf(why, sizeof why, "unexplained %.3f, gap %.3f, kernel %.3f of %.3f ms",
                     unexplained, gap, kernel, wall);
        }
        json_decref(runs);
        if (found)
            return;
    }
    fail_msg("%s", why);
}

/* samples/s in the screen's header, NAN if there is none */
static double shown_throughput(struct vt *vt)
{
    const char *at = strstr(vt_text(vt), "throughput ");
    char unit = ' ';
    double value = NAN;
    if (at == NULL || sscanf(at, "throughput %lf %c", &value, &unit) < 1)
        return NAN;
    return value * (unit == 'k' ? 1e3 : unit == 'M' ? 1e6 : 1);
}

static double measured_throughput(void)
{
    json_t *runs = runs_of("", "devices cpu; threads 1; batch 4; run 500");
    double rate = json_number_value(json_object_get(json_array_get(runs, 0), "throughput_per_s"));
    json_decref(runs);
    return rate;
}

/* `batch 4` at the prompt: within a second the screen shows the throughput that --json measures just
 * before and just after (where other programs come and go the two differ). */
static void the_screen_shows_what_json_says(void **state)
{
    (void)state;
    const char *argv[] = {program, "demo:digits", NULL};
    double shown = NAN, before = NAN, after = NAN;
    for (int attempt = 0; attempt < TRIES; attempt++) {
        before = measured_throughput();
        struct vt *vt = vt_start(40, 120, argv, environment);
        assert_non_null(vt);
        assert_true(vt_wait(vt, "throughput [0-9.]+k?/s", 60000));
        vt_type(vt, "threads 1\r");
        assert_true(vt_wait(vt, "^> threads 1", 20000));
        vt_pump(vt, 1200);
        vt_type(vt, "batch 4\r");
        vt_pump(vt, 1000);
        bool current = strstr(vt_text(vt), "b4 ") != NULL;
        shown = shown_throughput(vt);
        vt_type(vt, "\025quit\r");
        int status;
        assert_true(vt_wait_exit(vt, 30000, &status));
        vt_free(vt);
        after = measured_throughput();
        if (current && shown >= 0.9 * fmin(before, after) && shown <= 1.1 * fmax(before, after))
            return;
    }
    fail_msg("the screen shows %.0f samples/s, --json %.0f before and %.0f after", shown, before,
             after);
}

/* The CPU is a fair opponent: all physical cores that this process may use, and no more. */
static void the_cpu_uses_every_core(void **state)
{
    (void)state;
    cpu_set_t allowed;
    bool seen[CPU_SETSIZE] = {false};
    int cores = 0;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        char path[96];
        int first = cpu; /* the lowest sibling stands for the core */
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
                 cpu);
        FILE *file = fopen(path, "r");
        if (file != NULL) {
            if (fscanf(file, "%d", &first) != 1)
                first = cpu;
            fclose(file);
        }
        cores += !seen[first];
        seen[first] = true;
    }
    char line[512];
    snprintf(line, sizeof line, "timeout 60 %s --json -c devices 2>/dev/null </dev/null", program);
    FILE *pipe = popen(line, "r");
    json_t *object = json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL);
    pclose(pipe);
    json_t *devices = json_object_get(json_object_get(object, "data"), "devices");
    json_t *threads = json_object_get(json_array_get(devices, 0), "threads");
    assert_int_equal(json_integer_value(threads), cores);
    json_decref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_uses_every_core),
        cmocka_unit_test(only_the_slow_layer_moves),
        cmocka_unit_test(an_untraced_sleep_is_unexplained),
        cmocka_unit_test(the_screen_shows_what_json_says),
    };
    const char *named = getenv("LAYERTOP_BIN");
    program = named != NULL ? named : "build/layertop";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
