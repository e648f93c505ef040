/* The program as scripts see it: options, exit codes, what stops a script, on demo:digits and the CPU. */
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
#include <unistd.h>

static void options(void **state)
{
    (void)state;
    cli_expect_code(NULL, "--help", 0, NULL);
    cli_expect_code(NULL, "--version", 0, NULL);
    cli_expect_code(NULL, "--frobnicate", 2, "error[E016]: --frobnicate: no such option");
    cli_expect_code(NULL, "-c", 2, "needs a value");
    cli_expect_code(NULL, "a.h5 b.h5", 2, "one model at a time");
    cli_expect_code(NULL, "--require speed -c help", 2, "none of steady, gpu, cupti");
    cli_expect_code(NULL, "-f /nonexistent/script", 2, "/nonexistent/script");
    struct cli_outcome outcome = cli_run(NULL, "--version");
    assert_int_equal(strncmp(outcome.output, "layertop ", 9), 0);
    cli_outcome_free(&outcome);
}

static void exit_codes(void **state)
{
    (void)state;
    cli_expect_code(NULL, "-c 'echo hello'", 0, NULL);
    cli_expect_code(NULL, "-c 'exit 9'", 9, NULL);
    cli_expect_code(NULL, "-c frobnicate", 1, "error[E002]: frobnicate: unknown command");
    cli_expect_code(NULL, "-c 'btach 32'", 1, "hint: batch 32");
    cli_expect_code(NULL, "-c foo", 1, "unknown command\nhint: help\n"); /* not `oom` */
    cli_expect_code(NULL, "-c 'limit 101%'", 1, "hint: help set limit");
    cli_expect_code(NULL, "-c 'sleep 1y'", 1, "hint: sleep 500ms");
    cli_expect_code(NULL, DEMO "-c 'sweep batch 8..1x2'", 1, "hint: sweep batch 1..");
    cli_expect_code(NULL, DEMO "-c 'batch max --slo 0'", 1, "not a time above 0");
    cli_expect_code(NULL, "-c 'span 1'", 1, "'1' is not a time from 5s to 24h");
    cli_expect_code(NULL, "-c 'batch 0'", 1, "error[E011]: set batch");
    cli_expect_code(NULL, "-c \"echo 'open\"", 1, "error[E003]");
    cli_expect_code(NULL, "-c run", 1, "error[E012]");
    cli_expect_code(NULL, "/nonexistent/model.h5", 3, "error[E020]");
    cli_expect_code(NULL, "-c 'load /nonexistent/model.h5'", 3, "error[E020]");
    cli_expect_code(NULL, "demo:resnet5", 3, "hint: load demo:resnet50\n");
    cli_expect_code(NULL, "demo:nonesuch", 3, "hint: load demo:digits\n");
    cli_expect_code(NULL, "-c 'devices 1000'", 4, "error[E03");
    cli_expect_code(NULL, "-c 'source /nonexistent/script'", 1, "error[E013]");
    char pipe[256], arguments[512];
    snprintf(pipe, sizeof pipe, "%s/script.pipe", cli_folder);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    snprintf(arguments, sizeof arguments, "-c 'source %s'", pipe); /* nobody writes */
    cli_expect_code(NULL, arguments, 1, "no regular file");
    cli_expect_code(NULL, "-c 'devices cpu; save-display x'", 1, "error[E015]");
    cli_expect_code(NULL, DEMO "-c 'run 3' --require gpu", 7, "error[E070]");
    cli_expect_code(NULL, DEMO "-c 'run 3' --require cupti", 7, "error[E070]");
    cli_expect_code(NULL, DEMO "-c 'run 2' --require steady", 8, "error[E071]");
}

static void errors_stop_or_not(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, "-c 'echo one; foo; echo two' -c 'echo three'");
    assert_int_equal(outcome.code, 1);
    assert_string_equal(outcome.output, "one\n");
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, "-k -c 'echo one; load /nonexistent' -c 'foo; echo three'");
    assert_int_equal(outcome.code, 3); /* of the first */
    assert_string_equal(outcome.output, "one\nthree\n");
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, "-k -c 'foo; exit 0'");
    assert_int_equal(outcome.code, 0);
    cli_outcome_free(&outcome);
}

static void scripts(void **state)
{
    (void)state;
    char arguments[512];
    struct cli_outcome outcome = cli_run("echo a; echo b # c\n\n# d\necho e", "");
    assert_int_equal(outcome.code, 0);
    assert_string_equal(outcome.output, "a\nb\ne\n");
    cli_outcome_free(&outcome);
    outcome = cli_run("echo a\nexit 4\necho never\n", "");
    assert_int_equal(outcome.code, 4);
    assert_string_equal(outcome.output, "a\n");
    cli_outcome_free(&outcome);
    /* standard input is not read after -c */
    outcome = cli_run("echo never\n", "-c 'echo once'");
    assert_string_equal(outcome.output, "once\n");
    cli_outcome_free(&outcome);
    outcome = cli_run("echo in\n", "-c 'echo once' -f - -c 'echo last'");
    assert_string_equal(outcome.output, "once\nin\nlast\n");
    cli_outcome_free(&outcome);
    cli_write_file("script.lt", "#!/usr/bin/env layertop\necho from 'a file'\n");
    snprintf(arguments, sizeof arguments, "-f %s/script.lt -c 'source %s/script.lt'", cli_folder,
             cli_folder);
    outcome = cli_run(NULL, arguments);
    assert_string_equal(outcome.output, "from a file\nfrom a file\n");
    cli_outcome_free(&outcome);
    outcome = cli_run(NULL, ""); /* nothing to do */
    assert_int_equal(outcome.code, 0);
    assert_string_equal(outcome.output, "");
    cli_outcome_free(&outcome);
}

static void settings_are_kept(void **state)
{
    (void)state;
    setenv("XDG_CONFIG_HOME", cli_folder, 1);
    cli_expect_code(NULL, "-c 'symbols ascii; refresh 250ms; limit 40%; config save'", 0, NULL);
    char *text = cli_read_file("layertop/init.lt");
    assert_non_null(strstr(text, "\nset limit 40%\nset refresh 250ms\nset symbols ascii\n"));
    assert_null(strstr(text, "batch"));
    free(text);
    /* what was written is a script that gives the same again */
    char arguments[256];
    snprintf(arguments, sizeof arguments, "--json -c 'source %s/layertop/init.lt; config'",
             cli_folder);
    struct cli_outcome outcome = cli_run(NULL, arguments);
    assert_int_equal(outcome.code, 0);
    assert_int_equal(json_array_size(cli_at(cli_object_of(&outcome, "config"), "data.settings")),
                     3);
    cli_outcome_free(&outcome);
    setenv("XDG_CONFIG_HOME", "/proc/nowhere", 1);
    cli_expect_code(NULL, "-c 'config save'", 1, "error[E013]");
    unsetenv("XDG_CONFIG_HOME");
    cli_expect_code(NULL, "-c 'config foo'", 1, "error[E003]");
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
        program ? program : "build/layertop", cli_folder, cli_folder);
    assert_int_equal(system(command), 0);
    char *output = cli_read_file("out");
    assert_int_equal(strncmp(output, "a b\nc\na b\nc\na b\nc\n", 18), 0);
    assert_null(strstr(output, "never"));
    free(output);
    cli_expect_code(NULL, "-c 'watch foo'", 1, "error[E002]");
    cli_expect_code(NULL, "-c 'watch \"watch mem\"'", 1, "does not watch itself");
    cli_expect_code(NULL, "-c 'watch mem 0'", 1, "error[E011]");
    /* an error ends it */
    cli_expect_code(NULL, "-c 'watch run 100ms'", 1, "error[E012]");
}

static void required_numbers_come_with_the_error(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, DEMO "--json --require gpu -c 'run 3'");
    assert_int_equal(outcome.code, 7);
    const json_t *object = cli_object_of(&outcome, "run");
    assert_true(json_is_false(cli_at(object, "ok")));
    assert_string_equal(json_string_value(cli_at(object, "error.code")), "E070");
    assert_true(cli_number_at(object, "data.wall_ms.median") > 0);
    cli_outcome_free(&outcome);
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
             program ? program : "build/layertop", cli_folder, cli_folder, cli_folder);
    assert_int_equal(system(command), 0);
    char *code = cli_read_file("code"), *output = cli_read_file("out"),
         *errors = cli_read_file("err");
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
        cmocka_unit_test(settings_are_kept),
        cmocka_unit_test(a_command_is_watched),
        cmocka_unit_test(required_numbers_come_with_the_error),
        cmocka_unit_test(an_interrupt_ends_a_script),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
