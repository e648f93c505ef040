/* What the live screen may cost: build/layertop in a terminal of ours, 200x50, on demo:digits. Every
 * figure is read from outside the program (/proc, the bytes that reach the terminal), and printed. */
#include "support/vt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Sanitizers make everything slower and larger: every budget below is multiplied by this. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RELAX 4
#else
#define RELAX 1
#endif

#define FIRST_FRAME_MS   (100.0 * RELAX)
#define FIRST_NUMBERS_MS (1000.0 * RELAX)
#define FRAME_BYTES      (12.0 * 1024) /* the same program draws the same: not relaxed */
#define FRAME_WRITES     3
#define CPU_SHARE        (0.015 * RELAX)
#define RESIDENT_BYTES   (50e6 * RELAX)
#define ECHO_MS          (20.0 * RELAX)
#define IDLE_SWITCHES    2

#define LAYERS 1038 /* NASNetLarge's, and none of them fused away */

#define ROWS  50
#define COLS  200
#define SLOW  20000 /* ms: longest wait for anything to come at all */
#define TRIES 5     /* another program may take the processor: the best of so many counts */

static const char *program;
static const char *const environment[] = {"XDG_STATE_HOME=/tmp/layertop-test-budget/state",
                                          "XDG_CONFIG_HOME=/tmp/layertop-test-budget/config", NULL};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct vt *start_with(const char *model, const char *const *variables)
{
    const char *argv[] = {program, model, NULL};
    struct vt *vt = vt_start(ROWS, COLS, argv, variables);
    assert_non_null(vt);
    return vt;
}

static struct vt *start(void)
{
    return start_with("demo:digits", environment);
}

static void expect(struct vt *vt, const char *expression)
{
    if (!vt_wait(vt, expression, SLOW))
        fail_msg("no '%s' on the screen:\n%s", expression, vt_text(vt));
}

static struct vt *start_live(void)
{
    struct vt *vt = start();
    expect(vt, "throughput [0-9.]+k?/s");
    vt_pump(vt, 1500); /* the start is over */
    return vt;
}

/* The number after `key` in /proc/PID/FILE. */
static double proc_number(pid_t pid, const char *name, const char *key)
{
    char path[300], line[512];
    double value = NAN;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return NAN;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtod(line + strlen(key), NULL);
    }
    fclose(file);
    return value;
}

/* Processor time of all threads, user and system, in seconds. */
static double cpu_seconds(pid_t pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    const char *rest = strrchr(line, ')'); /* the name may hold spaces */
    assert_non_null(rest);
    assert_int_equal(
        sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system),
        2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* How often the threads of a process went to sleep so far: each is a time that something woke it. */
static double switches(pid_t pid)
{
    char path[64], name[300];
    double sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "task/%s/status", entry->d_name);
        double count = proc_number(pid, name, "voluntary_ctxt_switches:");
        sum += isnan(count) ? 0 : count;
    }
    closedir(folder);
    return sum;
}

static void a_frame_comes_at_once(void **state)
{
    (void)state;
    double frame = INFINITY, numbers = INFINITY;
    for (int i = 0; i < TRIES; i++) {
        double begin = now_ms();
        struct vt *vt = start();
        expect(vt, "F1 help");
        frame = fmin(frame, now_ms() - begin);
        expect(vt, "throughput [0-9.]+k?/s");
        numbers = fmin(numbers, now_ms() - begin);
        vt_free(vt);
        if (frame <= FIRST_FRAME_MS && numbers <= FIRST_NUMBERS_MS)
            break;
    }
    print_message("# first frame %.0f ms, first live numbers %.0f ms\n", frame, numbers);
    assert_true(frame <= FIRST_FRAME_MS);
    assert_true(numbers <= FIRST_NUMBERS_MS);
}

static void a_frame_is_small(void **state)
{
    (void)state;
    double most_bytes = INFINITY, most_writes = INFINITY;
    for (int try = 0; try < TRIES && (most_bytes > FRAME_BYTES || most_writes > FRAME_WRITES);
         try++) {
        struct vt *vt = start_live();
        double bytes = 0, writes = 0, frames = 0, changed = 0;
        double seen_bytes = proc_number(vt_pid(vt), "io", "wchar:");
        double seen_writes = proc_number(vt_pid(vt), "io", "syscw:");
        most_bytes = most_writes = 0;
        assert_false(isnan(seen_writes));
        /* what is written within 30 ms belongs to one frame: they come 100 ms apart */
        for (double end = now_ms() + 4000; now_ms() < end;) {
            vt_pump(vt, 5);
            double now_bytes = proc_number(vt_pid(vt), "io", "wchar:");
            double now_writes = proc_number(vt_pid(vt), "io", "syscw:");
            if (now_writes > seen_writes) {
                if (now_ms() - changed > 30) {
                    bytes = writes = 0;
                    frames++;
                }
                changed = now_ms();
                bytes += now_bytes - seen_bytes;
                writes += now_writes - seen_writes;
                most_bytes = fmax(most_bytes, bytes);
                most_writes = fmax(most_writes, writes);
            }
            seen_bytes = now_bytes;
            seen_writes = now_writes;
        }
        vt_free(vt);
        print_message("# %.0f frames, at most %.0f bytes and %.0f writes each\n", frames,
                      most_bytes, most_writes);
        assert_true(frames >= 20.0 / RELAX); /* it was live */
    }
    assert_true(most_bytes <= FRAME_BYTES);
    assert_true(most_writes <= FRAME_WRITES);
}

/* A share of one core, and resident bytes, of the front that shows a model live for 5 s. */
static void front_within_budget(const char *model, const char *const *variables)
{
    double share = INFINITY, resident = INFINITY;
    for (int i = 0; i < TRIES && (share > CPU_SHARE || resident > RESIDENT_BYTES); i++) {
        struct vt *vt = start_with(model, variables);
        expect(vt, "throughput [0-9.]+k?/s");
        vt_pump(vt, 1500); /* the start is over */
        double begin = now_ms(), before = cpu_seconds(vt_pid(vt));
        uint64_t bytes = vt_bytes(vt);
        vt_pump(vt, 5000);
        share = fmin(share, (cpu_seconds(vt_pid(vt)) - before) / (now_ms() - begin) * 1e3);
        resident = fmin(resident, proc_number(vt_pid(vt), "status", "VmRSS:") * 1024);
        assert_true(vt_bytes(vt) - bytes > 5000); /* it was live */
        vt_free(vt);
    }
    print_message("# front: %.2f %% of one core, %.1f MB resident (%s)\n", share * 100,
                  resident / 1e6, model);
    assert_true(share <= CPU_SHARE);
    assert_true(resident <= RESIDENT_BYTES);
}

static void the_front_costs_little(void **state)
{
    (void)state;
    front_within_budget("demo:digits", environment);
}

/* As many layers as NASNetLarge has, the largest of Keras's applications, each with a row, a bar and
 * a sparkline; the batch makes a step last about as long. */
static void a_thousand_layers_cost_little(void **state)
{
    (void)state;
    static const char *const with_long[] = {"XDG_STATE_HOME=/tmp/layertop-test-budget/state",
                                            "XDG_CONFIG_HOME=/tmp/layertop-test-budget/long",
                                            "LAYERTOP_DATA=/tmp/layertop-test-budget/data", NULL};
    assert_int_equal(system("cd /tmp && mkdir -p layertop-test-budget/data/demo/applications "
                            "layertop-test-budget/long/layertop && "
                            "echo batch 512 >layertop-test-budget/long/layertop/init.lt"),
                     0);
    FILE *file =
        popen("gzip -nc >/tmp/layertop-test-budget/data/demo/applications/long.json.gz", "w");
    assert_non_null(file);
    fprintf(file,
            "{\"keras_version\": \"3.0.0\", \"weights\": {}, \"config\": {\"module\": \"keras\", "
            "\"class_name\": "
            "\"Sequential\", \"config\": {\"name\": \"long\", \"layers\": [{\"module\": "
            "\"keras.layers\", \"class_name\": "
            "\"InputLayer\", \"config\": {\"name\": \"in\", \"batch_shape\": [null, 8, 8, 4]}}");
    for (int i = 0; i < LAYERS; i++)
        fprintf(file,
                ", {\"module\": \"keras.layers\", \"class_name\": \"AveragePooling2D\", "
                "\"config\": {\"name\": \"pool_%d\", "
                "\"pool_size\": [2, 2], \"strides\": [1, 1], \"padding\": \"same\"}}",
                i);
    fprintf(file, "]}}}");
    assert_int_equal(pclose(file), 0);
    front_within_budget("demo:long", with_long);
}

/* What the profiler says that it costs, and the lower end of its interval. */
static double profiler_cost(int batch, int steps, double *low)
{
    char line[512], text[65536];
    snprintf(line, sizeof line,
             "timeout 100 %s demo:digits --json -c 'devices cpu; batch %d; run %d --cost' "
             "2>/dev/null </dev/null | grep '\"cmd\":\"run\"'",
             program, batch, steps);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    size_t length = fread(text, 1, sizeof text - 1, pipe);
    text[length] = '\0';
    pclose(pipe);
    json_t *object = json_loads(text, 0, NULL);
    const json_t *data = json_object_get(object, "data");
    const json_t *interval = json_object_get(data, "profiler_cost_interval");
    assert_true(json_is_array(interval));
    double share = json_number_value(json_object_get(data, "profiler_cost_share"));
    *low = json_number_value(json_array_get(interval, 0));
    json_decref(object);
    return share;
}

/* Where other programs scatter the pairs, the interval is wide: it has to lie above the budget as a
 * whole, each time, to be a fault. */
static void the_profiler_costs_little(void **state)
{
    (void)state;
    static const struct {
        int batch, steps;
        double budget;
    } rows[] = {{1, 15000, 0.05 * RELAX}, {8, 5000, 0.02 * RELAX}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double low = INFINITY;
        for (int try = 0; try < TRIES && low > rows[i].budget; try++) {
            double share = profiler_cost(rows[i].batch, rows[i].steps, &low);
            print_message("# profiler at batch %d: %.1f %% of a step (from %.1f %%)\n",
                          rows[i].batch, share * 100, low * 100);
        }
        assert_true(low <= rows[i].budget);
    }
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void a_key_is_seen_at_once(void **state)
{
    (void)state;
    enum { KEYS = 20 };
    double median = INFINITY;
    struct vt *vt = start_live();
    for (int i = 0; i < TRIES && median > ECHO_MS; i++) {
        double times[KEYS];
        char key[2] = "a", shown[KEYS + 8] = "> ";
        for (int k = 0; k < KEYS; k++) {
            key[0] = (char)('a' + k);
            strcat(shown, key);
            double begin = now_ms();
            vt_type(vt, key);
            expect(vt, shown);
            times[k] = now_ms() - begin;
            vt_pump(vt, 37); /* fall on every part of a frame */
        }
        qsort(times, KEYS, sizeof times[0], compare);
        median = fmin(median, (times[KEYS / 2 - 1] + times[KEYS / 2]) / 2);
        print_message("# key to echo: median %.1f ms, worst %.1f ms\n", median, times[KEYS - 1]);
        vt_type(vt, "\025"); /* Ctrl-U empties the line */
        expect(vt, "> *$");
    }
    vt_free(vt);
    assert_true(median <= ECHO_MS);
}

static void an_idle_screen_wakes_nobody(void **state)
{
    (void)state;
    double front = INFINITY, worker = INFINITY;
    struct vt *vt = start_live();
    vt_type(vt, "stop\r");
    expect(vt, "stopped");
    pid_t child = vt_child(vt, 0);
    assert_true(child > 0);
    for (int i = 0; i < TRIES && (front > IDLE_SWITCHES || worker > IDLE_SWITCHES); i++) {
        vt_pump(vt, i == 0 ? 4000 : 1000); /* what was begun ends, samples of memory too */
        double front_before = switches(vt_pid(vt)), worker_before = switches(child);
        vt_pump(vt, 2000);
        front = switches(vt_pid(vt)) - front_before;
        worker = switches(child) - worker_before;
        print_message("# idle for 2 s: the front woke %.0f times, the worker %.0f\n", front,
                      worker);
    }
    vt_free(vt);
    assert_true(front <= IDLE_SWITCHES);
    assert_true(worker <= IDLE_SWITCHES);
}

int main(void)
{
    program = getenv("LAYERTOP_BIN");
    if (program == NULL)
        program = "build/layertop";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_at_once),
        cmocka_unit_test(a_frame_is_small),
        cmocka_unit_test(the_front_costs_little),
        cmocka_unit_test(a_thousand_layers_cost_little),
        cmocka_unit_test(the_profiler_costs_little),
        cmocka_unit_test(a_key_is_seen_at_once),
        cmocka_unit_test(an_idle_screen_wakes_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
