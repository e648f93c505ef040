/* The program as scripts see it: options, exit codes, the objects of --json, on demo:digits and the
 * CPU. LAYERTOP_BIN names the binary (default build/layertop). */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#define DEMO "demo:digits -c 'devices cpu' "

static char folder[] = "/tmp/layertop-cli-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

struct outcome {
    int code;
    char *output, *errors;
    json_t *objects; /* of --json: every line must be one */
};

static char *read_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    size_t used = fread(text, 1, (1 << 20) - 1, file);
    text[used] = '\0';
    fclose(file);
    return text;
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Run `layertop ARGUMENTS` by sh with `input` on standard input (NULL: empty). */
static struct outcome layertop(const char *input, const char *arguments)
{
    const char *program = getenv("LAYERTOP_BIN");
    char command[4096];
    struct outcome outcome = {0};
    write_file("in", input ? input : "");
    snprintf(command, sizeof command, "timeout -k 2 100 %s %s <%s/in >%s/out 2>%s/err",
             program ? program : "build/layertop", arguments, folder, folder, folder);
    int status = system(command);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    outcome.output = read_file("out");
    outcome.errors = read_file("err");
    if (strstr(arguments, "--json")) {
        outcome.objects = json_array();
        char *copy = strdup(outcome.output), *rest = copy, *line;
        while ((line = strsep(&rest, "\n")) != NULL && (*line || rest)) {
            json_error_t error;
            json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
            if (!object)
                fail_msg("'%s' is no object: %s", line, error.text);
            json_array_append_new(outcome.objects, object);
        }
        free(copy);
    }
    return outcome;
}

static void outcome_free(struct outcome *outcome)
{
    free(outcome->output);
    free(outcome->errors);
    json_decref(outcome->objects);
}

static void expect_code(const char *input, const char *arguments, int code, const char *errors)
{
    struct outcome outcome = layertop(input, arguments);
    if (outcome.code != code)
        fail_msg("layertop %s: code %d, not %d\n%s", arguments, outcome.code, code, outcome.errors);
    if (errors && !strstr(outcome.errors, errors))
        fail_msg("layertop %s: no '%s' in\n%s", arguments, errors, outcome.errors);
    outcome_free(&outcome);
}

/* The member at "a.b.c" of an object; fails if it is not there. */
static json_t *at(const json_t *object, const char *path)
{
    char *copy = strdup(path), *rest = copy, *key;
    json_t *value = (json_t *)(uintptr_t)object;
    while (value && (key = strsep(&rest, ".")) != NULL)
        value = json_object_get(value, key);
    free(copy);
    if (!value) {
        char *dump = json_dumps(object, 0);
        fail_msg("no %s in %.600s", path, dump);
    }
    return value;
}

static double number_at(const json_t *object, const char *path)
{
    json_t *value = at(object, path);
    if (!json_is_number(value))
        fail_msg("%s is no number", path);
    return json_number_value(value);
}

static const json_t *object_of(const struct outcome *outcome, const char *command)
{
    size_t index;
    json_t *object, *found = NULL;
    json_array_foreach(outcome->objects, index,
                       object) if (strcmp(json_string_value(at(object, "cmd")), command) == 0)
        found = object;
    if (!found)
        fail_msg("no object of '%s' in\n%s\n%s", command, outcome->output, outcome->errors);
    return found;
}

/* ---- options ---- */

static void options(void **state)
{
    (void)state;
    expect_code(NULL, "--help", 0, NULL);
    expect_code(NULL, "--version", 0, NULL);
    expect_code(NULL, "--frobnicate", 2, "error[E016]: --frobnicate: no such option");
    expect_code(NULL, "-c", 2, "needs a value");
    expect_code(NULL, "a.h5 b.h5", 2, "one model at a time");
    expect_code(NULL, "--require speed -c help", 2, "none of steady, gpu, cupti");
    expect_code(NULL, "-f /nonexistent/script", 2, "/nonexistent/script");
    struct outcome outcome = layertop(NULL, "--version");
    assert_int_equal(strncmp(outcome.output, "layertop ", 9), 0);
    outcome_free(&outcome);
}

static void exit_codes(void **state)
{
    (void)state;
    expect_code(NULL, "-c 'echo hello'", 0, NULL);
    expect_code(NULL, "-c 'exit 9'", 9, NULL);
    expect_code(NULL, "-c frobnicate", 1, "error[E002]: frobnicate: unknown command");
    expect_code(NULL, "-c 'btach 32'", 1, "hint: batch 32");
    expect_code(NULL, "-c 'batch 0'", 1, "error[E011]: set batch");
    expect_code(NULL, "-c \"echo 'open\"", 1, "error[E003]");
    expect_code(NULL, "-c run", 1, "error[E012]");
    expect_code(NULL, "/nonexistent/model.h5", 3, "error[E020]");
    expect_code(NULL, "-c 'load /nonexistent/model.h5'", 3, "error[E020]");
    expect_code(NULL, "-c 'devices 1000'", 4, "error[E03");
    expect_code(NULL, "-c 'source /nonexistent/script'", 1, "error[E013]");
    expect_code(NULL, "-c 'devices cpu; save-display x'", 1, "error[E015]");
    expect_code(NULL, DEMO "-c 'run 3' --require gpu", 7, "error[E070]");
    expect_code(NULL, DEMO "-c 'run 3' --require cupti", 7, "error[E070]");
    expect_code(NULL, DEMO "-c 'run 2' --require steady", 8, "error[E071]");
}

static void errors_stop_or_not(void **state)
{
    (void)state;
    struct outcome outcome = layertop(NULL, "-c 'echo one; foo; echo two' -c 'echo three'");
    assert_int_equal(outcome.code, 1);
    assert_string_equal(outcome.output, "one\n");
    outcome_free(&outcome);
    outcome = layertop(NULL, "-k -c 'echo one; load /nonexistent' -c 'foo; echo three'");
    assert_int_equal(outcome.code, 3); /* of the first */
    assert_string_equal(outcome.output, "one\nthree\n");
    outcome_free(&outcome);
    outcome = layertop(NULL, "-k -c 'foo; exit 0'");
    assert_int_equal(outcome.code, 0);
    outcome_free(&outcome);
}

static void scripts(void **state)
{
    (void)state;
    char arguments[512];
    struct outcome outcome = layertop("echo a; echo b # c\n\n# d\necho e", "");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(outcome.output, "a\nb\ne\n");
    outcome_free(&outcome);
    outcome = layertop("echo a\nexit 4\necho never\n", "");
    assert_int_equal(outcome.code, 4);
    assert_string_equal(outcome.output, "a\n");
    outcome_free(&outcome);
    /* standard input is not read after -c */
    outcome = layertop("echo never\n", "-c 'echo once'");
    assert_string_equal(outcome.output, "once\n");
    outcome_free(&outcome);
    outcome = layertop("echo in\n", "-c 'echo once' -f - -c 'echo last'");
    assert_string_equal(outcome.output, "once\nin\nlast\n");
    outcome_free(&outcome);
    write_file("script.lt", "#!/usr/bin/env layertop\necho from 'a file'\n");
    snprintf(arguments, sizeof arguments, "-f %s/script.lt -c 'source %s/script.lt'", folder,
             folder);
    outcome = layertop(NULL, arguments);
    assert_string_equal(outcome.output, "from a file\nfrom a file\n");
    outcome_free(&outcome);
    outcome = layertop(NULL, ""); /* nothing to do */
    assert_int_equal(outcome.code, 0);
    assert_string_equal(outcome.output, "");
    outcome_free(&outcome);
}

/* ---- objects ---- */

static void every_command_is_one_object(void **state)
{
    (void)state;
    struct outcome outcome =
        layertop(NULL, "--json -k -c 'echo a; foo; batch 0; \"open' -c 'symbols ascii; help; show "
                       "batch; version; sleep 1ms; history; clear'");
    assert_int_equal(outcome.code, 1);
    static const char *const commands[] = {"echo", "foo",     "set",   "",        "set",  "help",
                                           "show", "version", "sleep", "history", "clear"};
    assert_int_equal(json_array_size(outcome.objects), 11);
    for (size_t i = 0; i < 11; i++) {
        const json_t *object = json_array_get(outcome.objects, i);
        assert_int_equal(json_integer_value(at(object, "v")), 1);
        assert_string_equal(json_string_value(at(object, "cmd")), commands[i]);
        assert_true(json_is_array(at(object, "warn")));
        assert_int_equal(json_is_true(at(object, "ok")), i == 0 || i > 3);
        if (i == 0 || i > 3) {
            assert_true(json_is_object(at(object, "data")));
            assert_null(json_object_get(object, "error"));
        }
    }
    const json_t *object = json_array_get(outcome.objects, 2);
    assert_string_equal(json_string_value(at(object, "error.code")), "E011");
    assert_non_null(strstr(json_string_value(at(object, "error.message")), "set batch"));
    assert_string_equal(json_string_value(at(object, "error.hint")), "batch 64");
    outcome_free(&outcome);
}

static void set_tells_key_value_and_cost(void **state)
{
    (void)state;
    struct outcome outcome = layertop(
        NULL, "demo:digits --json -k -c 'devices cpu; batch_size 8; growth off; limit 1GiB' -c "
              "'batch 0; show batch'");
    assert_int_equal(outcome.code, 1);
    const json_t *batch = json_array_get(outcome.objects, 2);
    assert_string_equal(json_string_value(at(batch, "cmd")), "set");
    assert_string_equal(json_string_value(at(batch, "data.key")), "batch");
    assert_int_equal(number_at(batch, "data.value"), 8);
    assert_true(number_at(batch, "data.cost_ms") >= 0);
    assert_int_equal(json_array_size(at(batch, "warn")), 1);
    const json_t *growth = json_array_get(outcome.objects, 3);
    assert_true(json_is_false(at(growth, "data.value")));
    assert_true(json_is_string(at(growth, "data.note"))); /* stored: no GPU in use */
    assert_int_equal(number_at(json_array_get(outcome.objects, 4), "data.value"), 1 << 30);
    /* a refused value keeps the old one */
    assert_int_equal(number_at(object_of(&outcome, "show"), "data.value"), 8);
    outcome_free(&outcome);
}

static void check_layers(const json_t *layers, double wall_ms)
{
    size_t index, fused = 0, heads = 0;
    json_t *layer;
    double sum_ms = 0;
    json_array_foreach((json_t *)(uintptr_t)layers, index, layer)
    {
        json_t *time = at(layer, "time_ms"), *share = at(layer, "share");
        assert_true(json_is_string(at(layer, "name")));
        assert_true(json_is_string(at(layer, "class")));
        assert_true(json_is_string(at(layer, "impl")) || json_is_null(at(layer, "impl")));
        assert_true(json_is_number(at(layer, "kernels")) || json_is_null(at(layer, "kernels")));
        assert_true(json_is_integer(at(layer, "flops")));
        assert_true(json_is_integer(at(layer, "bytes")));
        if (json_object_get(layer, "fused_into")) {
            assert_true(json_is_null(time));
            assert_true(json_is_null(share));
            fused++;
        } else if (json_is_number(time)) {
            sum_ms += json_number_value(time);
            assert_true(fabs(json_number_value(share) - json_number_value(time) / wall_ms) < 0.01);
        }
        heads += json_object_get(layer, "fused") != NULL;
    }
    assert_true(fused > 0 && heads > 0);
    assert_true(sum_ms > 0.5 * wall_ms && sum_ms < 1.01 * wall_ms);
}

static void run_gives_all_of_the_contract(void **state)
{
    (void)state;
    struct outcome outcome = layertop(NULL, DEMO "--json -c 'batch 4; run 30 --warmup 5'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = at(object_of(&outcome, "run"), "data");
    assert_string_equal(json_string_value(at(data, "device")), "cpu");
    assert_int_equal(number_at(data, "batch"), 4);
    assert_string_equal(json_string_value(at(data, "precision")), "fp32");
    assert_int_equal(number_at(data, "steps"), 30);
    assert_int_equal(number_at(data, "warmup"), 5);
    assert_true(json_is_boolean(at(data, "steady")));
    assert_true(number_at(data, "wall_ms.min") > 0);
    assert_true(number_at(data, "wall_ms.median") >= number_at(data, "wall_ms.min"));
    assert_true(number_at(data, "wall_ms.p90") >= number_at(data, "wall_ms.median"));
    assert_true(number_at(data, "wall_ms.p95") >= number_at(data, "wall_ms.p90"));
    assert_true(number_at(data, "throughput_per_s") > 0);
    assert_string_equal(json_string_value(at(data, "timing_source")), "clock");
    assert_true(number_at(data, "memory.planned_bytes") > 0);
    at(data, "memory.measured_bytes");
    at(data, "memory.context_bytes");
    static const char *const classes[] = {"preprocess_ms", "copy_ms", "launch_ms",
                                          "kernel_ms",     "gap_ms",  "profiler_ms",
                                          "unexplained_ms"};
    double sum_ms = 0, wall_ms = number_at(data, "ledger.wall_ms");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        sum_ms += number_at(at(data, "ledger"), classes[i]);
    assert_true(fabs(sum_ms - wall_ms) < 1e-6 * wall_ms + 1e-9);
    assert_true(number_at(data, "ledger.hidden_launch_ms") >= 0);
    assert_true(number_at(data, "ledger.hidden_copy_ms") >= 0);
    assert_true(json_is_null(at(data, "profiler_cost_share"))); /* too short to tell */
    assert_true(json_is_null(at(data, "profiler_cost_interval")));
    assert_int_equal(json_array_size(at(data, "layers")), 23);
    assert_string_equal(json_string_value(at(json_array_get(at(data, "layers"), 3), "name")),
                        "bn1");
    assert_string_equal(json_string_value(at(json_array_get(at(data, "layers"), 3), "fused_into")),
                        "conv1");
    check_layers(at(data, "layers"), wall_ms);
    outcome_free(&outcome);
}

static void the_profilers_own_cost_is_told(void **state)
{
    (void)state;
    struct outcome outcome =
        layertop(NULL, DEMO "--json -c 'batch 64; run 500 --warmup 5 --cost; layers --top 1'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = at(object_of(&outcome, "run"), "data");
    double share = number_at(data, "profiler_cost_share");
    const json_t *interval = at(data, "profiler_cost_interval");
    assert_true(number_at(data, "profiler_cost_pairs") >= 6);
    assert_true(json_number_value(json_array_get(interval, 0)) <= share);
    assert_true(json_number_value(json_array_get(interval, 1)) >= share);
    assert_true(number_at(at(object_of(&outcome, "layers"), "data"), "profiler_cost_share") ==
                share);
    outcome_free(&outcome);
    outcome = layertop(NULL, DEMO "--json -c 'profile off; run 500 --warmup 5 --cost'");
    assert_int_equal(outcome.code, 0);
    assert_true(json_is_null(at(object_of(&outcome, "run"), "data.profiler_cost_share")));
    outcome_free(&outcome);
}

static void what_is_not_measured_is_null(void **state)
{
    (void)state;
    struct outcome outcome = layertop(NULL, DEMO "--json -c 'profile off; run 3'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = at(object_of(&outcome, "run"), "data");
    assert_true(json_is_null(at(data, "timing_source")));
    assert_true(json_is_null(at(data, "ledger.kernel_ms")));
    assert_true(number_at(data, "wall_ms.median") > 0);
    assert_true(json_is_null(at(json_array_get(at(data, "layers"), 2), "time_ms")));
    assert_null(strstr(outcome.output, "NaN"));
    outcome_free(&outcome);
}

static void commands_about_the_model(void **state)
{
    (void)state;
    struct outcome outcome = layertop(
        NULL, DEMO "--json -c 'model; model layer conv2; model graph; plan 64; mem; run 3; layers "
                   "--top 2; devices; unload'");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(json_string_value(at(object_of(&outcome, "load"), "data.name")), "digits");
    assert_int_equal(number_at(object_of(&outcome, "plan"), "data.batch"), 64);
    assert_true(number_at(object_of(&outcome, "plan"), "data.memory.planned_bytes") > 0);
    const json_t *layers = at(object_of(&outcome, "layers"), "data.layers");
    assert_int_equal(json_array_size(layers), 2);
    assert_true(number_at(json_array_get(layers, 0), "time_ms") >=
                number_at(json_array_get(layers, 1), "time_ms"));
    assert_true(json_array_size(at(object_of(&outcome, "devices"), "data.devices")) >= 1);
    outcome_free(&outcome);
    outcome = layertop(NULL, "--json -c 'load demo:'");
    assert_int_equal(outcome.code, 0);
    const json_t *models = at(object_of(&outcome, "load"), "data.models");
    assert_true(json_array_size(models) > 10);
    assert_string_equal(json_string_value(json_array_get(models, 0)), "demo:digits");
    outcome_free(&outcome);
}

static void a_sweep_measures_each_value(void **state)
{
    (void)state;
    struct outcome outcome = layertop(
        NULL, DEMO "--json -c 'batch 4; sweep batch 1..8x2 --steps 5 --metric lat; show batch'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = at(object_of(&outcome, "sweep"), "data");
    assert_string_equal(json_string_value(at(data, "setting")), "batch");
    assert_int_equal(json_array_size(at(data, "points")), 4);
    double best = 0;
    for (size_t i = 0; i < 4; i++) {
        const json_t *point = json_array_get(at(data, "points"), i);
        assert_int_equal(number_at(point, "batch"), 1 << i);
        assert_int_equal(number_at(point, "steps"), 5);
        assert_true(number_at(point, "wall_ms.median") >= number_at(point, "wall_ms.min"));
        assert_true(number_at(point, "wall_ms.p95") >= number_at(point, "wall_ms.median"));
        assert_true(number_at(point, "memory.planned_bytes") > 0);
        best = fmax(best, number_at(point, "throughput_per_s"));
    }
    /* the knee is the first with 95 % of the best */
    for (size_t i = 0; i < 4; i++) {
        const json_t *point = json_array_get(at(data, "points"), i);
        if (number_at(point, "throughput_per_s") < 0.95 * best)
            continue;
        assert_int_equal(number_at(data, "knee"), 1 << i);
        break;
    }
    assert_true(number_at(data, "best") >= 1); /* by --metric lat */
    assert_int_equal(number_at(object_of(&outcome, "show"), "data.value"), 4);
    outcome_free(&outcome);
    outcome = layertop(NULL, DEMO "--json -c 'sweep precision fp32,bf16 --steps 3'");
    data = at(object_of(&outcome, "sweep"), "data");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(json_string_value(at(json_array_get(at(data, "points"), 1), "value")),
                        "bf16");
    assert_true(json_is_null(at(data, "knee")));
    outcome_free(&outcome);
}

static void a_sweep_ends_where_memory_does(void **state)
{
    (void)state;
    struct outcome outcome = layertop(
        NULL, DEMO "--json -c 'batch 4; limit 2MiB; sweep batch 4..64x2 --steps 2; show batch'");
    assert_int_equal(outcome.code, 0);
    const json_t *sweep = object_of(&outcome, "sweep");
    assert_int_equal(json_array_size(at(sweep, "data.points")), 3);
    assert_int_equal(number_at(sweep, "data.ended.value"), 32);
    assert_string_equal(json_string_value(at(sweep, "data.ended.code")), "E041");
    assert_int_equal(json_array_size(at(sweep, "warn")), 1);
    assert_int_equal(number_at(object_of(&outcome, "show"), "data.value"), 4);
    outcome_free(&outcome);
    /* without a single point there is nothing to show */
    expect_code(NULL, DEMO "-c 'batch 4; limit 2MiB; sweep batch 64'", 5, "error[E041]");
    expect_code(NULL, DEMO "-c 'sweep batch 1,foo'", 1, "error[E011]");
    expect_code(NULL, DEMO "-c 'sweep refresh 50ms'", 1, "error[E011]: sweep: refresh");
}

/* Copy the first `bytes` of a file in the folder. */
static void cut_file(const char *from, const char *to, size_t bytes)
{
    char path[256];
    uint8_t *data = malloc(bytes + 1);
    snprintf(path, sizeof path, "%s/%s", folder, from);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(data, 1, bytes, file), bytes);
    fclose(file);
    snprintf(path, sizeof path, "%s/%s", folder, to);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
    free(data);
}

static size_t file_bytes(const char *name)
{
    char path[256];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &status) == 0 ? (size_t)status.st_size : 0;
}

/* A front that is killed leaves a journal behind: live at batch 32, then at batch 2, then with
 * fusion off. */
static void make_journal(void)
{
    const char *program = getenv("LAYERTOP_BIN");
    char command[1024];
    snprintf(command, sizeof command,
             "timeout -s KILL 4 %s " DEMO "-c 'record %s/j.ltr; start; sleep 300ms; batch 2; sleep "
             "300ms; profile off; profile auto; fusion off; sleep 300ms; stop; sleep 60s' "
             ">/dev/null 2>&1 </dev/null",
             program ? program : "build/layertop", folder);
    assert_int_not_equal(system(command), 0);
}

static void a_journal_is_played(void **state)
{
    (void)state;
    char arguments[1024];
    make_journal();
    assert_true(file_bytes("j.ltr.part") > 10000);
    snprintf(arguments, sizeof arguments,
             "--json -k -c 'replay %s/j.ltr.part --speed 20; layers; show batch; show fusion; "
             "start; stop; fusion on; batch 32; show fusion; batch 7; precision bf16; run 3; plan "
             "2; mem; fusion off' -c "
             "'replay off; show batch; run 3'",
             folder);
    struct outcome outcome = layertop(NULL, arguments);
    assert_int_equal(outcome.code, 1);
    assert_string_equal(json_string_value(at(json_array_get(outcome.objects, 0), "data.model")),
                        "digits");
    const json_t *layers = at(object_of(&outcome, "layers"), "data");
    assert_true(number_at(layers, "wall_ms") > 0);
    assert_int_equal(json_array_size(at(layers, "layers")), 23); /* fusion off: all of them */
    static const struct {
        size_t index;
        bool ok;
        const char *text; /* in the error or the value */
    } wanted[] = {{2, true, "2"},
                  {3, true, "false"},
                  {6, true, "true"},
                  {7, true, "32"},
                  {8, true, "true"},
                  {9, false, "'7' was not recorded; there is 32, 2"},
                  {10, false, "'bf16' was not recorded"},
                  {11, false, "a recording plays, it does not compute"},
                  {12, true, "2"},
                  {14, false, "off was recorded with batch 2 only"},
                  {16, true, "32"},
                  {17, false, "no model is loaded"}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const json_t *object = json_array_get(outcome.objects, wanted[i].index);
        char *dump = json_dumps(object, 0);
        if (json_is_true(at(object, "ok")) != wanted[i].ok || !strstr(dump, wanted[i].text))
            fail_msg("%zu: no %s in %s", wanted[i].index, wanted[i].text, dump);
        free(dump);
    }
    outcome_free(&outcome);
}

static void a_cut_journal_plays_to_its_last_frame(void **state)
{
    (void)state;
    char arguments[512];
    size_t bytes = file_bytes("j.ltr.part"), measured = 0;
    assert_true(bytes > 10000);
    for (size_t i = 0; i < 6; i++) {
        size_t cut = bytes / 2 + i * (bytes / 13) + i;
        cut_file("j.ltr.part", "cut.part", cut);
        snprintf(arguments, sizeof arguments, "--json -c 'replay %s/cut.part --speed max; layers'",
                 folder);
        struct outcome outcome = layertop(NULL, arguments);
        if (outcome.code != 0)
            fail_msg("cut at %zu: %s", cut, outcome.errors);
        /* a cut right behind a change of the plan has nothing measured with the new one */
        measured += json_is_real(at(object_of(&outcome, "layers"), "data.wall_ms"));
        outcome_free(&outcome);
    }
    assert_true(measured >= 1);
    cut_file("j.ltr.part", "cut.part", 14);
    snprintf(arguments, sizeof arguments, "-c 'replay %s/cut.part'", folder);
    expect_code(NULL, arguments, 1, "error[E013]");
    snprintf(arguments, sizeof arguments, "-c 'replay %s/in'", folder);
    expect_code(NULL, arguments, 1, "is no recording of layertop");
    expect_code(NULL, "-c 'replay /nonexistent/file'", 1, "error[E013]");
    expect_code(NULL, "-c 'replay off'", 1, "nothing is being played");
    expect_code(NULL, "-c 'replay /dev/null'", 1, "is no regular file");
    snprintf(arguments, sizeof arguments, "--replay %s/j.ltr.part --speed max -c layers", folder);
    expect_code(NULL, arguments, 0, NULL);
}

static void record_off_makes_one_file(void **state)
{
    (void)state;
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             DEMO "--json -c 'record %s/h.ltr; run 20; batch 2; run 20; record off'", folder);
    struct outcome outcome = layertop(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    outcome_free(&outcome);
    size_t bytes = file_bytes("h.ltr");
    assert_true(bytes > 5000);
    assert_int_equal(file_bytes("h.ltr.part"), 0);
    snprintf(arguments, sizeof arguments,
             "--json -c 'replay %s/h.ltr --speed max; layers; batch 32; show batch'", folder);
    outcome = layertop(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    assert_true(number_at(object_of(&outcome, "layers"), "data.wall_ms") > 0);
    assert_int_equal(number_at(object_of(&outcome, "show"), "data.value"), 32);
    outcome_free(&outcome);
    /* a cut HDF5 file is one clear error at once */
    for (size_t cut = 100; cut < bytes; cut += bytes / 5) {
        cut_file("h.ltr", "cut.ltr", cut);
        snprintf(arguments, sizeof arguments, "-c 'replay %s/cut.ltr'", folder);
        time_t start = time(NULL);
        expect_code(NULL, arguments, 1, "error[E013]");
        assert_true(time(NULL) - start <= 2);
    }
    snprintf(arguments, sizeof arguments, DEMO "-c 'record %s/h.ltr'", folder);
    expect_code(NULL, arguments, 1, "exists already");
    expect_code(NULL, DEMO "-c 'record off'", 1, "nothing is being recorded");
    expect_code(NULL, DEMO "-c 'record /nonexistent/x'", 1, "error[E013]");
    /* the end of the program is the end of a recording */
    snprintf(arguments, sizeof arguments, DEMO "-c 'record %s/end.ltr; run 20'", folder);
    expect_code(NULL, arguments, 0, NULL);
    assert_true(file_bytes("end.ltr") > 5000);
    assert_int_equal(file_bytes("end.ltr.part"), 0);
}

static json_t *read_json(const char *name)
{
    char *text = read_file(name);
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    if (!object)
        fail_msg("%s: %s", name, error.text);
    free(text);
    return object;
}

static void measurements_are_exported(void **state)
{
    (void)state;
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             DEMO "-c 'start; sleep 900ms; stop; run 20; export json %s/e.json; export csv "
                  "%s/e.csv; export chrome %s/e.trace'",
             folder, folder, folder);
    expect_code(NULL, arguments, 0, NULL);
    json_t *whole = read_json("e.json");
    assert_int_equal(json_array_size(at(whole, "layers")), 23);
    assert_int_equal(number_at(whole, "run.steps"), 20);
    assert_true(json_array_size(at(whole, "series.step_ms")) > 0);
    assert_int_equal(number_at(whole, "settings.batch"), 32);
    json_decref(whole);
    /* every span has its time, children lie in their step, counters have values */
    json_t *event, *trace = read_json("e.trace");
    size_t index, spans = 0, counters = 0;
    double step_from = 0, step_to = 0;
    json_array_foreach(at(trace, "traceEvents"), index, event)
    {
        const char *phase = json_string_value(at(event, "ph"));
        number_at(event, "pid");
        number_at(event, "tid");
        counters += strcmp(phase, "C") == 0;
        if (strcmp(phase, "X") != 0)
            continue;
        double from = number_at(event, "ts"), to = from + number_at(event, "dur");
        assert_true(from >= 0 && to > from);
        spans++;
        if (strcmp(json_string_value(at(event, "cat")), "step") == 0) {
            assert_true(from >= step_to);
            step_from = from;
            step_to = to;
        } else {
            assert_true(from >= step_from - 0.01 && to <= step_to + 0.01);
        }
    }
    assert_true(spans > 10 && counters > 0);
    json_decref(trace);
    char *csv = read_file("e.csv");
    assert_non_null(strstr(csv, "\r\nbn1,BatchNormalization,,,,,0,0,conv1\r\n"));
    free(csv);
    expect_code(NULL, DEMO "-c 'export csv /nonexistent/x'", 1, "error[E013]");
    expect_code(NULL, DEMO "-c 'export chrome /nonexistent/x'", 1, "nothing is measured yet");
}

static void settings_are_kept(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", folder, 1);
    expect_code(NULL, "-c 'symbols ascii; refresh 250ms; limit 40%; config save'", 0, NULL);
    char *text = read_file("layertop/init.lt");
    assert_non_null(strstr(text, "\nset limit 40%\nset refresh 250ms\nset symbols ascii\n"));
    assert_null(strstr(text, "batch"));
    free(text);
    /* what was written is a script that gives the same again */
    char arguments[256];
    snprintf(arguments, sizeof arguments, "--json -c 'source %s/layertop/init.lt; config'", folder);
    struct outcome outcome = layertop(NULL, arguments);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(json_array_size(at(object_of(&outcome, "config"), "data.settings")), 3);
    outcome_free(&outcome);
    setenv("XDG_CONFIG_HOME", "/proc/nowhere", 1);
    expect_code(NULL, "-c 'config save'", 1, "error[E013]");
    unsetenv("XDG_CONFIG_HOME");
    expect_code(NULL, "-c 'config foo'", 1, "error[E003]");
}

static void a_command_is_watched(void **state)
{
    (void)state;
    const char *program = getenv("LAYERTOP_BIN");
    char command[512];
    snprintf(
        command, sizeof command,
        "timeout -s INT 2 %s -c 'watch \"echo \\\"a b\\\"; echo c\" 200ms; echo never' >%s/out "
        "2>%s/err </dev/null; test $? = 124",
        program ? program : "build/layertop", folder, folder);
    assert_int_equal(system(command), 0);
    char *output = read_file("out");
    assert_int_equal(strncmp(output, "a b\nc\na b\nc\na b\nc\n", 18), 0);
    assert_null(strstr(output, "never"));
    free(output);
    expect_code(NULL, "-c 'watch foo'", 1, "error[E002]");
    expect_code(NULL, "-c 'watch \"watch mem\"'", 1, "does not watch itself");
    expect_code(NULL, "-c 'watch mem 0'", 1, "error[E011]");
    /* an error ends it */
    expect_code(NULL, "-c 'watch run 100ms'", 1, "error[E012]");
}

static void layers_are_filtered(void **state)
{
    (void)state;
    struct outcome outcome = layertop(NULL, DEMO "--json -c 'run 3; layers --filter conv2d'");
    assert_int_equal(outcome.code, 0);
    const json_t *layers = at(object_of(&outcome, "layers"), "data.layers");
    assert_int_equal(json_array_size(layers), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(json_string_value(at(json_array_get(layers, i), "class")), "Conv2D");
    outcome_free(&outcome);
}

static void required_numbers_come_with_the_error(void **state)
{
    (void)state;
    struct outcome outcome = layertop(NULL, DEMO "--json --require gpu -c 'run 3'");
    assert_int_equal(outcome.code, 7);
    const json_t *object = object_of(&outcome, "run");
    assert_true(json_is_false(at(object, "ok")));
    assert_string_equal(json_string_value(at(object, "error.code")), "E070");
    assert_true(number_at(object, "data.wall_ms.median") > 0);
    outcome_free(&outcome);
}

static void live_steps_fill_the_table(void **state)
{
    (void)state;
    struct outcome outcome =
        layertop(NULL, DEMO "--json -c 'start; sleep 700ms; layers; stop; start; stop'");
    assert_int_equal(outcome.code, 0);
    const json_t *data = at(object_of(&outcome, "layers"), "data");
    assert_true(number_at(data, "wall_ms") > 0);
    assert_true(number_at(data, "layers_ms") > 0);
    outcome_free(&outcome);
}

static void predictions(void **state)
{
    (void)state;
    char arguments[512], header[128];
    /* x.npy: two images of zeros, float32 (2, 28, 28, 1) */
    snprintf(arguments, sizeof arguments, "%s/x.npy", folder);
    FILE *file = fopen(arguments, "w");
    assert_non_null(file);
    snprintf(header, sizeof header, "%-117s\n",
             "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 28, 28, 1), }");
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
    fwrite(header, 1, 118, file);
    for (int i = 0; i < 2 * 28 * 28; i++)
        fwrite("\0\0\0\0", 1, 4, file);
    fclose(file);
    snprintf(arguments, sizeof arguments, DEMO "--json -c 'predict %s/x.npy %s/y.npy --top 2'",
             folder, folder);
    struct outcome outcome = layertop(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    const json_t *data = at(object_of(&outcome, "predict"), "data");
    assert_int_equal(number_at(data, "rows"), 2);
    assert_int_equal(json_array_size(at(data, "outputs")), 1);
    outcome_free(&outcome);
    snprintf(arguments, sizeof arguments, "%s/y.npy", folder);
    assert_int_equal(access(arguments, R_OK), 0);
    expect_code(NULL, DEMO "-c 'predict /nonexistent.npy'", 1, "error[E01");
}

static void an_interrupt_ends_a_script(void **state)
{
    (void)state;
    const char *program = getenv("LAYERTOP_BIN");
    char command[1024];
    /* the interrupt comes once the run is under way */
    snprintf(command, sizeof command,
             "%s " DEMO "-k -c 'run 10000000' -c 'echo never' >%s/out 2>%s/err </dev/null & "
             "p=$!; sleep 2; kill -INT $p; wait $p; echo $? >%s/code",
             program ? program : "build/layertop", folder, folder, folder);
    assert_int_equal(system(command), 0);
    char *code = read_file("code"), *output = read_file("out"), *errors = read_file("err");
    if (strcmp(code, "130\n") != 0)
        fail_msg("code %s\n%s\n%s", code, output, errors);
    assert_null(strstr(output, "never"));
    assert_non_null(strstr(errors, "error[E090]"));
    free(code);
    free(output);
    free(errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(errors_stop_or_not),
        cmocka_unit_test(scripts),
        cmocka_unit_test(every_command_is_one_object),
        cmocka_unit_test(set_tells_key_value_and_cost),
        cmocka_unit_test(run_gives_all_of_the_contract),
        cmocka_unit_test(the_profilers_own_cost_is_told),
        cmocka_unit_test(what_is_not_measured_is_null),
        cmocka_unit_test(commands_about_the_model),
        cmocka_unit_test(a_sweep_measures_each_value),
        cmocka_unit_test(a_sweep_ends_where_memory_does),
        cmocka_unit_test(a_journal_is_played),
        cmocka_unit_test(a_cut_journal_plays_to_its_last_frame),
        cmocka_unit_test(record_off_makes_one_file),
        cmocka_unit_test(measurements_are_exported),
        cmocka_unit_test(settings_are_kept),
        cmocka_unit_test(a_command_is_watched),
        cmocka_unit_test(layers_are_filtered),
        cmocka_unit_test(required_numbers_come_with_the_error),
        cmocka_unit_test(live_steps_fill_the_table),
        cmocka_unit_test(predictions),
        cmocka_unit_test(an_interrupt_ends_a_script),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
