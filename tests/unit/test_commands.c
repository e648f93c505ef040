/* The table of commands and the queue, without a worker, or with one that dies at once. */
#include "commands/command.h"
#include "commands/help_text.h"
#include "commands/history.h"
#include "commands/parse.h"
#include "commands/workbench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <poll.h>

/* ---- a sink that remembers ---- */

struct memory {
    struct sink sink;
    char text[65536];
    json_t *results; /* [{cmd, ok, data, warn, code?, hint?}] */
};

static void keep_line(void *context, enum sink_style style, const char *text)
{
    struct memory *memory = context;
    size_t used = strlen(memory->text);
    snprintf(memory->text + used, sizeof memory->text - used, "%d %s\n", (int)style, text);
}

static void keep_result(void *context, const char *command, const json_t *data,
                        const json_t *warnings, const struct error *error)
{
    struct memory *memory = context;
    json_t *result =
        json_pack("{s:s, s:b, s:o, s:o}", "cmd", command, "ok", error == NULL, "data",
                  data ? json_deep_copy(data) : json_null(), "warn", json_deep_copy(warnings));
    assert_non_null(result);
    if (error) {
        json_object_set_new(result, "code", json_integer(error->code));
        json_object_set_new(result, "why", json_string(error->why));
        json_object_set_new(result, "hint", json_string(error->hint));
    }
    json_array_append_new(memory->results, result);
}

struct bench {
    struct memory memory;
    struct workbench *workbench;
};

static struct bench *bench_new(struct workbench_options options)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct error error;
    if (!options.program)
        options.program = "/nonexistent/layertop";
    bench->memory.sink =
        (struct sink){.context = &bench->memory, .line = keep_line, .result = keep_result};
    bench->memory.results = json_array();
    bench->workbench = workbench_new(&options, &error);
    assert_non_null(bench->workbench);
    workbench_set_sink(bench->workbench, &bench->memory.sink);
    return bench;
}

static void bench_free(struct bench *bench)
{
    workbench_free(bench->workbench);
    json_decref(bench->memory.results);
    free(bench);
}

/* Submit a line and run until nothing is left, at most ten seconds. */
static void say(struct bench *bench, const char *line)
{
    command_submit(bench->workbench, line);
    for (int i = 0; i < 10000 && command_busy(bench->workbench); i++) {
        struct pollfd polled = {.fd = workbench_fd(bench->workbench), .events = POLLIN};
        int timeout = workbench_timeout_ms(bench->workbench);
        poll(&polled, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout);
        workbench_dispatch(bench->workbench);
    }
    assert_false(command_busy(bench->workbench));
}

static json_t *result_at(struct bench *bench, size_t index)
{
    json_t *result = json_array_get(bench->memory.results, index);
    if (!result)
        fail_msg("only %zu results:\n%s", json_array_size(bench->memory.results),
                 bench->memory.text);
    return result;
}

static const char *text_at(struct bench *bench, size_t index, const char *key)
{
    const char *text = json_string_value(json_object_get(result_at(bench, index), key));
    return text ? text : "";
}

static int code_at(struct bench *bench, size_t index)
{
    return (int)json_integer_value(json_object_get(result_at(bench, index), "code"));
}

/* ---- the table ---- */

static void check_example(const char *owner, const char *example)
{
    struct parsed_line line;
    struct error error = {0};
    if (!parse_line(example, &line, &error) || line.count == 0)
        fail_msg("%s: example '%s' does not parse", owner, example);
    for (size_t i = 0; i < line.count; i++)
        if (!command_find(line.commands[i].argv[0], &error))
            fail_msg("%s: example '%s': %s", owner, example, error.why);
    parsed_line_free(&line);
}

static void every_command_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        assert_non_null(command->run);
        assert_true(command->name[0] && command->usage[0] && command->summary[0]);
        assert_non_null(command->help);
        assert_non_null(command->examples);
        assert_non_null(command->examples[0]);
        assert_int_equal(strncmp(command->usage, command->name, strlen(command->name)), 0);
        assert_ptr_equal(command_find(command->name, NULL), command);
        for (const char *const *alias = command->aliases; alias && *alias; alias++)
            assert_ptr_equal(command_find(*alias, NULL), command);
        for (const char *const *example = command->examples; *example; example++)
            check_example(command->name, *example);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(command->name, command_at(j)->name);
    }
    for (size_t i = 0; i < setting_count(); i++)
        check_example(setting_at(i)->name, setting_at(i)->example);
}

static void words_resolve(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"run", "run"},     {"dev", "devices"},       {"lay", "layers"},
        {"q", "quit"},      {"exit", "quit"},         {"?", "help"},
        {"batch", "batch"}, /* and its lines are those of `set`, but for `batch max` */
        {"bat", "batch"},   {"memory_growth", "set"}, {"batch_size", "set"},
        {"fus", "set"},     {"sho", "show"},          {"list_physical_devices", "devices"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct command *command = command_find(cases[i][0], NULL);
        if (!command)
            fail_msg("'%s' is not found", cases[i][0]);
        assert_string_equal(command->name, cases[i][1]);
    }
    struct error error;
    assert_null(command_find("st", &error)); /* start, stop */
    assert_non_null(strstr(error.why, "could be: start, stop"));
    assert_null(command_find("gr", &error)); /* growth, graph: settings */
    assert_non_null(strstr(error.why, "growth, graph"));
    assert_null(command_find("btach", &error));
    assert_non_null(strstr(error.why, "did you mean 'batch'"));
    assert_string_equal(error.hint, "batch");
    assert_null(command_find("batchsize", &error)); /* other names count too, and ours is said */
    assert_non_null(strstr(error.why, "did you mean 'batch'"));
    assert_null(setting_find("memorygrowth", &error));
    assert_non_null(strstr(error.why, "did you mean 'growth'"));
    assert_null(command_find("frobnicate", &error));
    assert_int_equal(error.code, ERROR_UNKNOWN_COMMAND);
    assert_string_equal(error.hint, "help");
}

static void see_also_leads_somewhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        assert_non_null(command->see);
        for (const char *const *word = command->see; *word; word++) {
            bool found = false;
            for (size_t j = 0; j < command_count(); j++)
                found = found || (j != i && strcmp(command_at(j)->name, *word) == 0);
            for (size_t j = 0; j < setting_count(); j++)
                found = found || strcmp(setting_at(j)->name, *word) == 0;
            for (size_t j = 0; j < help_topic_count(); j++)
                found = found || strcmp(help_topic_at(j)->name, *word) == 0;
            if (!found)
                fail_msg("help %s: see also '%s'", command->name, *word);
        }
    }
}

static void every_error_has_a_help_text(void **state)
{
    (void)state;
    static const int numbers[] = {
#define NUMBER(name, number, exit_code) number,
        ERROR_CODES(NUMBER)
#undef NUMBER
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char name[16];
        bool found = numbers[i] == 0;
        snprintf(name, sizeof name, "E%03d", numbers[i]);
        for (size_t j = 0; j < help_error_count(); j++)
            found = found || strcmp(help_error_at(j)->name, name) == 0;
        if (!found)
            fail_msg("no help for %s", name);
    }
}

static void help_knows_every_word(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    size_t asked = 0;
    char line[64];
    for (size_t i = 0; i < command_count(); i++, asked++) {
        snprintf(line, sizeof line, "help %s", command_at(i)->name);
        say(bench, line);
    }
    for (size_t i = 0; i < setting_count(); i++, asked++) {
        snprintf(line, sizeof line, "help set %s", setting_at(i)->name);
        say(bench, line);
    }
    for (size_t i = 0; i < help_topic_count(); i++, asked++) {
        snprintf(line, sizeof line, "help %s", help_topic_at(i)->name);
        say(bench, line);
    }
    for (size_t i = 0; i < help_error_count(); i++, asked++) {
        snprintf(line, sizeof line, "help %s", help_error_at(i)->name);
        say(bench, line);
    }
    assert_int_equal(json_array_size(bench->memory.results), asked);
    for (size_t i = 0; i < asked; i++)
        if (!json_is_true(json_object_get(result_at(bench, i), "ok")))
            fail_msg("help number %zu failed: %s", i, text_at(bench, i, "why"));
    say(bench, "help frobnicate");
    assert_int_equal(code_at(bench, asked), ERROR_UNKNOWN_COMMAND);
    bench_free(bench);
}

/* ---- the queue ---- */

static void commands_run_in_order(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){0});
    say(bench, "echo one; echo 'two  words' # three");
    assert_int_equal(json_array_size(bench->memory.results), 2);
    assert_string_equal(bench->memory.text, "0 one\n0 two  words\n");
    assert_string_equal(text_at(bench, 0, "cmd"), "echo");
    assert_int_equal(workbench_exit_code(bench->workbench), 0);
    assert_false(workbench_quitting(bench->workbench));
    bench_free(bench);
}

static void a_script_stops_at_the_first_error(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){0});
    say(bench, "echo one; btach 32; echo two");
    assert_int_equal(json_array_size(bench->memory.results), 2);
    assert_int_equal(code_at(bench, 1), ERROR_UNKNOWN_COMMAND);
    assert_string_equal(text_at(bench, 1, "cmd"), "btach");
    assert_string_equal(text_at(bench, 1, "hint"), "batch 32");
    assert_non_null(strstr(bench->memory.text, "error[E002]: btach: unknown command"));
    assert_non_null(strstr(bench->memory.text, "hint: batch 32"));
    assert_true(workbench_quitting(bench->workbench));
    assert_int_equal(workbench_exit_code(bench->workbench), 1);
    bench_free(bench);
}

static void keep_going_returns_the_first_code(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.keep_going = true});
    say(bench, "run; echo 'open; echo never");
    say(bench, "batch 0; echo last");
    assert_int_equal(json_array_size(bench->memory.results), 4);
    assert_int_equal(code_at(bench, 0), ERROR_NO_MODEL);
    assert_int_equal(code_at(bench, 1), ERROR_SYNTAX);
    assert_int_equal(code_at(bench, 2), ERROR_VALUE);
    assert_false(workbench_quitting(bench->workbench));
    assert_int_equal(workbench_exit_code(bench->workbench), 1);
    bench_free(bench);
}

static void a_prompt_survives_errors(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    say(bench, "frobnicate; echo still here; echo a b c; save-display x");
    assert_int_equal(json_array_size(bench->memory.results), 4);
    assert_int_equal(code_at(bench, 3), ERROR_UNSUPPORTED);
    assert_false(workbench_quitting(bench->workbench));
    assert_int_equal(workbench_exit_code(bench->workbench), 0);
    say(bench, "exit 3; echo never");
    assert_true(workbench_quitting(bench->workbench));
    assert_int_equal(workbench_exit_code(bench->workbench), 3);
    assert_int_equal(json_array_size(bench->memory.results), 5);
    bench_free(bench);
}

static void arguments_are_counted(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    say(bench, "load; sleep; sleep 1s 2s; unset; quit 1 2; set batch; batch 1 2; quit x; sleep x");
    for (size_t i = 0; i < 7; i++)
        assert_int_equal(code_at(bench, i), ERROR_SYNTAX);
    assert_int_equal(code_at(bench, 7), ERROR_VALUE);
    assert_int_equal(code_at(bench, 8), ERROR_VALUE);
    assert_false(workbench_quitting(bench->workbench));
    bench_free(bench);
}

static void settings_of_the_front_need_no_worker(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    say(bench, "symbols ascii; set refresh = 250ms; refresh; unset symbols; show");
    assert_string_equal(text_at(bench, 0, "cmd"), "set");
    json_t *data = json_object_get(result_at(bench, 0), "data");
    assert_string_equal(json_string_value(json_object_get(data, "key")), "symbols");
    assert_string_equal(json_string_value(json_object_get(data, "value")), "ascii");
    assert_true(json_is_number(json_object_get(data, "cost_ms")));
    assert_string_equal(text_at(bench, 2, "cmd"), "show");
    data = json_object_get(result_at(bench, 2), "data");
    assert_int_equal((int)json_number_value(json_object_get(data, "value")), 250);
    assert_string_equal(json_string_value(workbench_setting(bench->workbench, "symbols")), "auto");
    assert_int_equal(
        json_array_size(json_object_get(json_object_get(result_at(bench, 4), "data"), "settings")),
        setting_count());
    assert_int_equal(workbench_fd(bench->workbench), -1);
    bench_free(bench);
}

static void foreign_names_are_answered_once(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    say(bench, "show batch_size; show batch_size");
    assert_int_equal(json_array_size(json_object_get(result_at(bench, 0), "warn")), 1);
    assert_int_equal(json_array_size(json_object_get(result_at(bench, 1), "warn")), 0);
    assert_non_null(strstr(bench->memory.text, "batch_size is called batch here"));
    bench_free(bench);
}

static void the_prompt_shows_the_state(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    char prompt[128];
    assert_string_equal(workbench_prompt(bench->workbench, NULL, prompt, sizeof prompt),
                        "layertop[no model auto b32 fp32]> ");
    bench_free(bench);
}

static void every_error_says_what_to_type(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.keep_going = true});
    say(bench, "source /nonexistent/script");
    assert_string_equal(text_at(bench, 0, "hint"), "help source");
    say(bench, "echo 'open");
    assert_string_equal(text_at(bench, 1, "hint"), "help");
    say(bench, "source"); /* one that knows better is left alone */
    assert_string_equal(text_at(bench, 2, "hint"), "help source");
    say(bench, "run");
    assert_string_equal(text_at(bench, 3, "hint"), "load demo:digits");
    bench_free(bench);
}

/* ---- a worker that cannot live ---- */

static void a_missing_worker_is_an_error(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.keep_going = true});
    say(bench, "devices; batch 64; echo on");
    assert_int_equal(code_at(bench, 0), ERROR_WORKER);
    assert_int_equal(code_at(bench, 1), ERROR_WORKER);
    assert_true(json_is_true(json_object_get(result_at(bench, 2), "ok")));
    /* a refused value keeps the old one */
    assert_int_equal(json_integer_value(workbench_setting(bench->workbench, "batch")), 32);
    assert_int_equal(workbench_exit_code(bench->workbench), 1);
    bench_free(bench);
}

static void a_worker_that_dies_says_why(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){
        .interactive = true, .worker_command = "echo no such host >&2; exit 3; :"});
    say(bench, "devices");
    assert_int_equal(code_at(bench, 0), ERROR_WORKER);
    assert_non_null(strstr(bench->memory.text, "exit 3"));
    assert_non_null(strstr(bench->memory.text, "no such host"));
    assert_int_equal(workbench_state(bench->workbench), STATE_DEAD);
    assert_non_null(strstr(workbench_notice(bench->workbench), "worker ended: exit 3"));
    say(bench, "growth off; echo alive");
    assert_true(json_is_true(workbench_setting(bench->workbench, "growth")));
    assert_true(json_is_true(json_object_get(result_at(bench, 2), "ok")));
    bench_free(bench);
}

static void a_cancelled_script_ends_with_130(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.keep_going = true});
    assert_false(command_cancel(bench->workbench));
    command_submit(bench->workbench, "sleep 1h; echo never");
    workbench_dispatch(bench->workbench);
    assert_true(command_busy(bench->workbench));
    assert_int_equal(workbench_timeout_ms(bench->workbench), 50);
    assert_true(command_cancel(bench->workbench));
    workbench_dispatch(bench->workbench);
    assert_false(command_busy(bench->workbench));
    assert_int_equal(code_at(bench, 0), ERROR_INTERRUPTED);
    assert_int_equal(json_array_size(bench->memory.results), 1);
    assert_int_equal(workbench_exit_code(bench->workbench), 130);
    bench_free(bench);
}

static void a_worker_that_does_not_react_is_killed(void **state)
{
    (void)state;
    struct bench *bench = bench_new(
        (struct workbench_options){.interactive = true, .worker_command = "sleep 100; :"});
    command_submit(bench->workbench, "devices; echo never");
    workbench_dispatch(bench->workbench);
    assert_true(command_cancel(bench->workbench));
    workbench_dispatch(bench->workbench);
    assert_true(command_busy(bench->workbench)); /* it may still answer */
    assert_true(command_cancel(bench->workbench));
    assert_int_equal(workbench_timeout_ms(bench->workbench), 0);
    workbench_dispatch(bench->workbench);
    assert_false(command_busy(bench->workbench));
    assert_int_equal(workbench_fd(bench->workbench), -1);
    assert_int_equal(json_array_size(bench->memory.results), 1);
    assert_int_equal(code_at(bench, 0), ERROR_INTERRUPTED);
    assert_false(workbench_quitting(bench->workbench));
    bench_free(bench);
}

/* ---- files ---- */

static char folder[] = "/tmp/layertop-test-XXXXXX";

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

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void source_runs_before_the_rest(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){0});
    char line[512];
    write_file("inner.lt", "echo b\n");
    snprintf(line, sizeof line, "# a script\necho a; source %s/inner.lt\n\necho c\n", folder);
    write_file("outer.lt", line);
    snprintf(line, sizeof line, "source %s/outer.lt; echo d", folder);
    say(bench, line);
    assert_string_equal(bench->memory.text, "0 a\n0 b\n0 c\n0 d\n");
    bench_free(bench);
}

static void source_fails_as_a_script_does(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){0});
    char line[512];
    write_file("bad.lt", "echo a\nfrobnicate\necho never\n");
    snprintf(line, sizeof line, "source %s/bad.lt; echo never", folder);
    say(bench, line);
    assert_null(strstr(bench->memory.text, "never"));
    assert_int_equal(workbench_exit_code(bench->workbench), 1);
    bench_free(bench);

    bench = bench_new((struct workbench_options){0});
    snprintf(line, sizeof line, "source %s/self.lt", folder);
    write_file("self.lt", line);
    say(bench, line);
    assert_non_null(strstr(bench->memory.text, "sourced by itself"));
    bench_free(bench);

    bench = bench_new((struct workbench_options){0});
    say(bench, "source /nonexistent/file");
    assert_int_equal(code_at(bench, 0), ERROR_FILE);
    bench_free(bench);
}

static void history_is_bounded_and_private(void **state)
{
    (void)state;
    char path[256], line[32];
    struct stat status;
    snprintf(path, sizeof path, "%s/state/history", folder);
    struct history *history = history_new(path);
    assert_true(history_add(history, "run", NULL));
    assert_true(history_add(history, "layers", NULL));
    assert_true(history_add(history, "run", NULL));
    assert_true(history_add(history, " secret", NULL));
    assert_true(history_add(history, "", NULL));
    assert_int_equal(history_count(history), 2);
    assert_string_equal(history_at(history, 0), "layers");
    assert_string_equal(history_at(history, 1), "run");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    history_free(history);

    history = history_new(path);
    assert_int_equal(history_count(history), 2);
    assert_string_equal(history_at(history, 1), "run");
    for (int i = 0; i < HISTORY_LINES + 50; i++) {
        snprintf(line, sizeof line, "run %d", i);
        assert_true(history_add(history, line, NULL));
    }
    assert_int_equal(history_count(history), HISTORY_LINES);
    assert_string_equal(history_at(history, 0), "run 50");
    history_free(history);

    /* the file was written anew, within bounds */
    history = history_new(path);
    assert_int_equal(history_count(history), HISTORY_LINES);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_size < HISTORY_LINES * 10);
    assert_int_equal(status.st_mode & 0777, 0600);
    history_free(history);

    history = history_new("/proc/nonexistent/history"); /* costs nothing */
    assert_true(history_add(history, "run", NULL));
    assert_int_equal(history_count(history), 1);
    history_free(history);
}

/* ---- completion ---- */

static void expect_completion(struct bench *bench, const char *text, size_t start,
                              const char *expected)
{
    size_t at = 99;
    char out[1024] = "";
    char **candidates = command_complete(bench->workbench, text, strlen(text), &at);
    for (char **candidate = candidates; *candidate; candidate++) {
        strcat(out, *out ? " " : "");
        strcat(out, *candidate);
    }
    command_candidates_free(candidates);
    assert_string_equal(out, expected);
    assert_int_equal(at, start);
}

static void words_are_completed(void **state)
{
    (void)state;
    struct bench *bench = bench_new((struct workbench_options){.interactive = true});
    char line[512], expected[512];
    expect_completion(bench, "loa", 0, "load");
    expect_completion(bench, "echo x; sta", 8, "start");
    expect_completion(bench, "gr", 0, "graph growth");
    expect_completion(bench, "growth ", 7, "off on");
    expect_completion(bench, "growth o", 7, "off on");
    expect_completion(bench, "set prec", 4, "precision");
    expect_completion(bench, "set precision b", 14, "bf16");
    expect_completion(bench, "precision fp", 10, "fp16 fp32");
    expect_completion(bench, "growth on ", 10, "");
    expect_completion(bench, "help E04", 5, "E040 E041");
    expect_completion(bench, "layers --sort n", 14, "name");
    expect_completion(bench, "mem ", 4, "trim who");
    expect_completion(bench, "frobnicate ", 11, "");
    expect_completion(bench, "echo # gr", 9, "");
    write_file("my model.h5", "");
    snprintf(line, sizeof line, "load %s/my", folder);
    snprintf(expected, sizeof expected, "'%s/my model.h5'", folder);
    expect_completion(bench, line, 5, expected);
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_is_complete),
        cmocka_unit_test(words_resolve),
        cmocka_unit_test(see_also_leads_somewhere),
        cmocka_unit_test(every_error_has_a_help_text),
        cmocka_unit_test(help_knows_every_word),
        cmocka_unit_test(commands_run_in_order),
        cmocka_unit_test(a_script_stops_at_the_first_error),
        cmocka_unit_test(keep_going_returns_the_first_code),
        cmocka_unit_test(a_prompt_survives_errors),
        cmocka_unit_test(arguments_are_counted),
        cmocka_unit_test(settings_of_the_front_need_no_worker),
        cmocka_unit_test(foreign_names_are_answered_once),
        cmocka_unit_test(the_prompt_shows_the_state),
        cmocka_unit_test(every_error_says_what_to_type),
        cmocka_unit_test(a_missing_worker_is_an_error),
        cmocka_unit_test(a_worker_that_dies_says_why),
        cmocka_unit_test(a_cancelled_script_ends_with_130),
        cmocka_unit_test(a_worker_that_does_not_react_is_killed),
        cmocka_unit_test(source_runs_before_the_rest),
        cmocka_unit_test(source_fails_as_a_script_does),
        cmocka_unit_test(history_is_bounded_and_private),
        cmocka_unit_test(words_are_completed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
