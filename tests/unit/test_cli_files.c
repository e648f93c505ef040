/* Files that the program writes: recordings, cut and whole, and exports. And what it writes of the
 * names that a file holds. */
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Copy the first `bytes` of a file in the folder. */
static void cut_file(const char *from, const char *to, size_t bytes)
{
    char path[256];
    uint8_t *data = malloc(bytes + 1);
    snprintf(path, sizeof path, "%s/%s", cli_folder, from);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(data, 1, bytes, file), bytes);
    fclose(file);
    snprintf(path, sizeof path, "%s/%s", cli_folder, to);
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
    snprintf(path, sizeof path, "%s/%s", cli_folder, name);
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
             program ? program : "build/layertop", cli_folder);
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
             cli_folder);
    struct cli_outcome outcome = cli_run(NULL, arguments);
    assert_int_equal(outcome.code, 1);
    assert_string_equal(json_string_value(cli_at(json_array_get(outcome.objects, 0), "data.model")),
                        "digits");
    const json_t *layers = cli_at(cli_object_of(&outcome, "layers"), "data");
    assert_true(cli_number_at(layers, "wall_ms") > 0);
    assert_int_equal(json_array_size(cli_at(layers, "layers")), 23); /* fusion off: all of them */
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
        if (json_is_true(cli_at(object, "ok")) != wanted[i].ok || !strstr(dump, wanted[i].text))
            fail_msg("%zu: no %s in %s", wanted[i].index, wanted[i].text, dump);
        free(dump);
    }
    cli_outcome_free(&outcome);
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
                 cli_folder);
        struct cli_outcome outcome = cli_run(NULL, arguments);
        if (outcome.code != 0)
            fail_msg("cut at %zu: %s", cut, outcome.errors);
        /* a cut right behind a change of the plan has nothing measured with the new one */
        measured += json_is_real(cli_at(cli_object_of(&outcome, "layers"), "data.wall_ms"));
        cli_outcome_free(&outcome);
    }
    assert_true(measured >= 1);
    cut_file("j.ltr.part", "cut.part", 14);
    snprintf(arguments, sizeof arguments, "-c 'replay %s/cut.part'", cli_folder);
    cli_expect_code(NULL, arguments, 1, "error[E013]");
    snprintf(arguments, sizeof arguments, "-c 'replay %s/in'", cli_folder);
    cli_expect_code(NULL, arguments, 1, "is no recording of layertop");
    cli_expect_code(NULL, "-c 'replay /nonexistent/file'", 1, "error[E013]");
    cli_expect_code(NULL, "-c 'replay off'", 1, "nothing is being played");
    cli_expect_code(NULL, "-c 'replay /dev/null'", 1, "is no regular file");
    snprintf(arguments, sizeof arguments, "--replay %s/j.ltr.part --speed max -c layers",
             cli_folder);
    cli_expect_code(NULL, arguments, 0, NULL);
}

static void record_off_makes_one_file(void **state)
{
    (void)state;
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             DEMO "--json -c 'record %s/h.ltr; run 20; batch 2; run 20; record off'", cli_folder);
    struct cli_outcome outcome = cli_run(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    cli_outcome_free(&outcome);
    size_t bytes = file_bytes("h.ltr");
    assert_true(bytes > 5000);
    assert_int_equal(file_bytes("h.ltr.part"), 0);
    snprintf(arguments, sizeof arguments,
             "--json -c 'replay %s/h.ltr --speed max; layers; batch 32; show batch'", cli_folder);
    outcome = cli_run(NULL, arguments);
    if (outcome.code != 0)
        fail_msg("%s", outcome.errors);
    assert_true(cli_number_at(cli_object_of(&outcome, "layers"), "data.wall_ms") > 0);
    assert_int_equal(cli_number_at(cli_object_of(&outcome, "show"), "data.value"), 32);
    cli_outcome_free(&outcome);
    /* a cut HDF5 file is one clear error at once */
    for (size_t cut = 100; cut < bytes; cut += bytes / 5) {
        cut_file("h.ltr", "cut.ltr", cut);
        snprintf(arguments, sizeof arguments, "-c 'replay %s/cut.ltr'", cli_folder);
        time_t start = time(NULL);
        cli_expect_code(NULL, arguments, 1, "error[E013]");
        assert_true(time(NULL) - start <= 2);
    }
    snprintf(arguments, sizeof arguments, DEMO "-c 'record %s/h.ltr'", cli_folder);
    cli_expect_code(NULL, arguments, 1, "exists already");
    cli_expect_code(NULL, DEMO "-c 'record off'", 1, "nothing is being recorded");
    cli_expect_code(NULL, DEMO "-c 'record /nonexistent/x'", 1, "error[E013]");
    /* the end of the program is the end of a recording */
    snprintf(arguments, sizeof arguments, DEMO "-c 'record %s/end.ltr; run 20'", cli_folder);
    cli_expect_code(NULL, arguments, 0, NULL);
    assert_true(file_bytes("end.ltr") > 5000);
    assert_int_equal(file_bytes("end.ltr.part"), 0);
}

static json_t *read_json(const char *name)
{
    char *text = cli_read_file(name);
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
             cli_folder, cli_folder, cli_folder);
    cli_expect_code(NULL, arguments, 0, NULL);
    json_t *whole = read_json("e.json");
    assert_int_equal(json_array_size(cli_at(whole, "layers")), 23);
    assert_int_equal(cli_number_at(whole, "run.steps"), 20);
    assert_true(json_array_size(cli_at(whole, "series.step_ms")) > 0);
    assert_int_equal(cli_number_at(whole, "settings.batch"), 32);
    json_decref(whole);
    /* every span has its time, children lie in their step, counters have values */
    json_t *event, *trace = read_json("e.trace");
    size_t index, spans = 0, counters = 0;
    double step_from = 0, step_to = 0;
    json_array_foreach(cli_at(trace, "traceEvents"), index, event)
    {
        const char *phase = json_string_value(cli_at(event, "ph"));
        cli_number_at(event, "pid");
        cli_number_at(event, "tid");
        counters += strcmp(phase, "C") == 0;
        if (strcmp(phase, "X") != 0)
            continue;
        double from = cli_number_at(event, "ts"), to = from + cli_number_at(event, "dur");
        assert_true(from >= 0 && to > from);
        spans++;
        if (strcmp(json_string_value(cli_at(event, "cat")), "step") == 0) {
            assert_true(from >= step_to);
            step_from = from;
            step_to = to;
        } else {
            assert_true(from >= step_from - 0.01 && to <= step_to + 0.01);
        }
    }
    assert_true(spans > 10 && counters > 0);
    json_decref(trace);
    char *csv = cli_read_file("e.csv");
    assert_non_null(strstr(csv, "\r\nbn1,BatchNormalization,,,,,0,0,conv1\r\n"));
    free(csv);
    cli_expect_code(NULL, DEMO "-c 'export csv /nonexistent/x'", 1, "error[E013]");
    cli_expect_code(NULL, DEMO "-c 'export chrome /nonexistent/x'", 1, "nothing is measured yet");
}

/* The model that was loaded before a replay is there again after it, for whatever command */
static void a_replay_ends_where_it_began(void **state)
{
    (void)state;
    char arguments[512];
    snprintf(arguments, sizeof arguments,
             DEMO "-c 'record %s/back.ltr; record off; replay %s/back.ltr --speed max; replay off; "
                  "model layer conv1; unload'",
             cli_folder, cli_folder);
    cli_expect_code(NULL, arguments, 0, NULL);
    snprintf(arguments, sizeof arguments, "-c 'replay %s/back.ltr --speed max; replay off; echo x'",
             cli_folder);
    cli_expect_code(NULL, arguments, 0, NULL); /* nothing to come back to */
}

/* A file is renamed onto its name: /dev/null must not become one */
static void only_files_are_replaced(void **state)
{
    (void)state;
    static const char *const commands[] = {
        "run 2; export csv %s",
        "export keras %s",
        "predict share/layertop/demo/digits/"
        "digit-7.png %s",
        "record %s; record off",
    };
    static const char *const names[] = {"pipe.csv", "pipe.keras", "pipe.npy", "pipe.ltr"};
    char path[256], link[256], command[256], arguments[512];
    struct stat status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", cli_folder, names[i]);
        assert_int_equal(mkfifo(path, 0600), 0);
        snprintf(command, sizeof command, commands[i], path);
        snprintf(arguments, sizeof arguments, DEMO "-c '%s'", command);
        cli_expect_code(NULL, arguments, 1, "error[E013]");
        assert_int_equal(lstat(path, &status), 0);
        assert_true(S_ISFIFO(status.st_mode));
    }
    /* a symbolic link stays one, and what it points to is new */
    cli_write_file("real.csv", "old\n");
    snprintf(link, sizeof link, "%s/link.csv", cli_folder);
    assert_int_equal(symlink("real.csv", link), 0);
    snprintf(arguments, sizeof arguments, DEMO "-c 'run 2; export csv %s'", link);
    cli_expect_code(NULL, arguments, 0, NULL);
    assert_int_equal(lstat(link, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    char *csv = cli_read_file("real.csv");
    assert_non_null(strstr(csv, "conv1"));
    free(csv);
}

/* Names of a file may hold anything: each line of the text is still one line of ours, and JSON has
 * them as they are. */
static void names_with_newlines(void **state)
{
    (void)state;
    static const char *const commands[] = {"layers", "model", "run 2", "mem", "kernels", "roof"};
    char arguments[512];
    cli_write_file(
        "lines.json",
        "{\"class_name\":\"Sequential\",\"keras_version\":\"3.9.2\",\"config\":{\"name\":"
        "\"s\\nt\",\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"name\":"
        "\"x\\ny\",\"batch_shape\":[null,8]}},{\"class_name\":\"Softmax\",\"config\":"
        "{\"name\":\"a\\nb\\u001b[31m\",\"trainable\":true}}]}}");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(arguments, sizeof arguments, "--plain -c 'devices cpu; load %s/lines.json; %s'",
                 cli_folder, commands[i]);
        struct cli_outcome out = cli_run(NULL, arguments);
        assert_int_equal(out.code, 0);
        assert_null(strchr(out.output, '\x1b'));
        assert_null(strstr(out.output, "\nb"));
        assert_null(strstr(out.output, "\nt"));
        assert_null(strstr(out.output, "x\ny"));
        if (strcmp(commands[i], "layers") == 0) {
            assert_non_null(strstr(out.output, "\nx\\x0ay          InputLayer "));
            assert_non_null(strstr(out.output, "\na\\x0ab\\x1b[31m  Softmax "));
        }
        cli_outcome_free(&out);
    }
    snprintf(arguments, sizeof arguments, "--json -c 'devices cpu; load %s/lines.json; layers'",
             cli_folder);
    struct cli_outcome out = cli_run(NULL, arguments);
    const json_t *layers = cli_at(cli_object_of(&out, "layers"), "data.layers");
    assert_string_equal(json_string_value(json_object_get(json_array_get(layers, 1), "name")),
                        "a\nb\x1b[31m");
    cli_outcome_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_journal_is_played),
        cmocka_unit_test(a_cut_journal_plays_to_its_last_frame),
        cmocka_unit_test(record_off_makes_one_file),
        cmocka_unit_test(measurements_are_exported),
        cmocka_unit_test(a_replay_ends_where_it_began),
        cmocka_unit_test(only_files_are_replaced),
        cmocka_unit_test(names_with_newlines),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
