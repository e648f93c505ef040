/* The screen as a user has it: build/layertop in a terminal of ours, on demo:digits. */
#include "support/vt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOW 10000 /* ms: a busy machine with sanitizers is no failure of the screen */

static const char *program;
static const char *const environment[] = {"XDG_STATE_HOME=/tmp/layertop-test-state",
                                          "XDG_CONFIG_HOME=/tmp/layertop-test-config", NULL};

static struct vt *start(int rows, int cols, const char *model)
{
    const char *argv[] = {program, model, NULL};
    struct vt *vt = vt_start(rows, cols, argv, environment);
    assert_non_null(vt);
    return vt;
}

static void expect(struct vt *vt, const char *expression, int milliseconds)
{
    if (vt_wait(vt, expression, milliseconds))
        return;
    for (const char *line = vt_text(vt); *line != '\0'; line = strchr(line, '\n') + 1)
        print_error("%.*s\n", (int)(strchr(line, '\n') - line), line);
    fail_msg("no '%s' on the screen", expression);
}

static void quit(struct vt *vt)
{
    int status;
    vt_type(vt, "\025quit\r");
    if (!vt_wait_exit(vt, SLOW, &status))
        fail_msg("did not end");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(vt_alternate(vt));
    assert_true(vt_cursor_visible(vt));
    vt_free(vt);
}

static void starts_live_and_answers_a_batch(void **state)
{
    (void)state;
    struct vt *vt = start(40, 120, "demo:digits");
    expect(vt, "live .*batch 32", SLOW);
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    expect(vt, "conv2\\+bn2\\+relu2", SLOW); /* fused layers stand in their head's row */
    assert_true(vt_alternate(vt));
    vt_type(vt, "batch 4\r");
    expect(vt, "^> batch 4", SLOW); /* what was typed stands in the log */
    expect(vt, "live .*batch 4 ", SLOW);
    expect(vt, "digits .* b4 ", SLOW); /* in the prompt too */
    double rate = vt_number(vt, "throughput ([0-9.]+)k?/s");
    assert_true(rate > 0);
    /* numbers of the new batch come within a second on an idle machine */
    expect(vt, "step [0-9.]+ [^ ]+s ", SLOW);
    vt_type(vt, "foo\r");
    expect(vt, "error\\[E002\\]", SLOW);
    quit(vt);
}

/* What is wrong with the file stays on a small screen: nothing is started that cannot be. */
static void a_mistyped_file_says_why(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, "nosuchfile.h5");
    expect(vt, "error.E020.: nosuchfile.h5: No such file", SLOW);
    vt_pump(vt, 300);
    assert_null(strstr(vt_text(vt), "E012"));
    vt_type(vt, "echo after\r");
    expect(vt, "\nafter", SLOW);
    vt_type(vt, "\033[15~"); /* F5: by hand it is tried, and says what is missing */
    expect(vt, "error.E012.: start: no model is loaded", SLOW);
    quit(vt);
    vt = vt_start(24, 80, (const char *const[]){program, NULL}, environment);
    assert_non_null(vt);
    expect(vt, "try: load demo:digits; start", SLOW);
    vt_type(vt, "load demo:digits; start\r");
    expect(vt, "live .*batch 32", SLOW);
    quit(vt);
}

static void keys_become_commands(void **state)
{
    (void)state;
    struct vt *vt = start(40, 120, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    vt_type(vt, "\t"); /* an empty line: to the panes */
    expect(vt, "^\\? help", SLOW);
    vt_type(vt, "+");
    expect(vt, "^> batch 64", SLOW);
    expect(vt, "live .*batch 64", SLOW);
    vt_type(vt, "-");
    expect(vt, "^> batch 32", SLOW);
    vt_type(vt, "s");
    expect(vt, "^> set sort order", SLOW);
    expect(vt, "layer .*by order", SLOW);
    vt_type(vt, " ");
    expect(vt, "^> stop", SLOW);
    expect(vt, "stopped", SLOW);
    vt_type(vt, "/pool2\r");
    expect(vt, "pool2  MaxPooling2D", SLOW); /* the search chose that row */
    vt_type(vt, ":echo typed\r");
    expect(vt, "^typed", SLOW);
    vt_type(vt, "\033OP"); /* F1 */
    expect(vt, "^Keys", SLOW);
    vt_type(vt, "x");
    expect(vt, "^> echo typed", SLOW);
    quit(vt);
}

static void long_work_shows_progress_and_is_cancelled(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    vt_type(vt, "run 10000000\r");
    expect(vt, "%.*Ctrl-C cancels", SLOW);
    vt_type(vt, "half"); /* the prompt goes on meanwhile */
    expect(vt, "> half *$", SLOW);
    vt_type(vt, "\003");
    expect(vt, "error\\[E090\\]", SLOW);
    expect(vt, "^F1 help", SLOW);
    quit(vt);
}

static void the_mouse_chooses_and_sorts(void **state)
{
    (void)state;
    struct vt *vt = start(40, 120, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    vt_type(vt, "sort order\r");
    expect(vt, "sort order", SLOW);
    expect(vt, "by order", SLOW);
    vt_type(vt, "\033[<0;5;7M\033[<0;5;7m"); /* the third row: image, rescaling, conv1 */
    expect(vt, "^conv1\\+bn1\\+relu1  Conv2D", SLOW);
    vt_type(vt, "\033[<65;5;7M"); /* the wheel */
    expect(vt, "^(conv3|pool2|conv4|dropout|flatten|conv2|pool1)[^ ]*  [A-Z][a-zA-Z0-9]+ ", SLOW);
    vt_type(vt, "\033[<0;5;4M"); /* the heading */
    expect(vt, "^> set sort name", SLOW);
    vt_type(vt, ":");
    quit(vt);
}

static void prompt_completes_and_remembers(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, NULL);
    expect(vt, "^layertop.*> *$", SLOW);
    vt_type(vt, "prec\t");
    expect(vt, "> precision *$", SLOW);
    vt_type(vt, "fp\t");
    expect(vt, "^fp16  fp32", SLOW); /* the list, in the bar's row */
    vt_type(vt, "\t\t");
    expect(vt, "> precision fp32", SLOW);
    vt_type(vt, "\025echo one\r");
    expect(vt, "^one", SLOW);
    vt_type(vt, "\033[A");
    expect(vt, "> echo one *$", SLOW);
    vt_type(vt, "\025\033[200~echo two\necho three\n\033[201~");
    expect(vt, "echo two.+echo three", SLOW); /* pasted lines wait for Enter */
    vt_type(vt, "\r");
    expect(vt, "^three", SLOW);
    vt_type(vt, "\003");
    expect(vt, "nothing is running", SLOW);
    quit(vt);
}

static void survives_a_storm_of_sizes(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    uint32_t seed = 7;
    for (int i = 0; i < 60; i++) {
        seed = seed * 1664525u + 1013904223u;
        int rows = 1 + (int)(seed >> 16) % 60, cols = 1 + (int)(seed >> 8 & 0xffff) % 200;
        vt_resize(vt, i % 10 == 0 ? 1 : rows, i % 15 == 0 ? 1 : cols);
        vt_pump(vt, i % 5 == 0 ? 60 : 5);
    }
    vt_resize(vt, 1, 1);
    vt_pump(vt, 150);
    vt_resize(vt, 6, 30);
    expect(vt, "needs more room", SLOW);
    vt_resize(vt, 20, 60);
    expect(vt, "better at 80x24, this is 60x20", SLOW);
    vt_resize(vt, 24, 80);
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    expect(vt, "conv2\\+bn2\\+relu2", SLOW);
    quit(vt);
}

static void a_dead_worker_is_told_and_replaced(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    pid_t worker = vt_child(vt, 0);
    assert_true(worker > 0);
    kill(worker, SIGKILL);
    expect(vt, "worker ended: signal 9", SLOW);
    expect(vt, "conv2\\+bn2\\+relu2", SLOW); /* the numbers stay */
    vt_type(vt, "batch 4\r");
    expect(vt, "live .*batch 4 ", SLOW);
    assert_true(vt_wait_gone(vt, "worker ended: signal 9;", SLOW));
    assert_true(vt_child(vt, 0) != worker);
    quit(vt);
}

static void ends_when_the_terminal_goes(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, "demo:digits");
    expect(vt, "throughput [0-9.]+k?/s", SLOW);
    pid_t worker = vt_child(vt, 0);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    vt_hang_up(vt);
    int status;
    assert_true(vt_wait_exit(vt, SLOW, &status));
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    assert_true(seconds < 3); /* 1 s is the budget of an idle machine */
    assert_true(WIFEXITED(status));
    for (int i = 0; i < 100 && kill(worker, 0) == 0; i++) /* nor does the worker stay */
        usleep(50000);
    assert_int_equal(kill(worker, 0), -1);
    vt_free(vt);
}

static void puts_the_terminal_back_after_a_crash(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, NULL);
    expect(vt, "^layertop.*> *$", SLOW);
    kill(vt_pid(vt), SIGABRT);
    int status;
    assert_true(vt_wait_exit(vt, SLOW, &status));
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    assert_false(vt_alternate(vt));
    assert_true(vt_cursor_visible(vt));
    expect(vt, "crashed.*|signal 06", 100);
    vt_free(vt);
}

static void suspends_and_comes_back(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, NULL);
    int status;
    expect(vt, "^layertop.*> *$", SLOW);
    vt_type(vt, "ech\032");
    /* the shell would hear of it by waitpid */
    bool stopped = false;
    for (int i = 0; i < 400 && !stopped; i++) {
        vt_pump(vt, 10);
        stopped =
            waitpid(vt_pid(vt), &status, WNOHANG | WUNTRACED) == vt_pid(vt) && WIFSTOPPED(status);
    }
    assert_true(stopped);
    assert_false(vt_alternate(vt));
    kill(vt_pid(vt), SIGCONT);
    expect(vt, "> ech *$", SLOW);
    assert_true(vt_alternate(vt));
    quit(vt);
}

static void idle_writes_nothing(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, NULL);
    expect(vt, "^layertop.*> *$", SLOW);
    vt_pump(vt, 500);
    uint64_t before = vt_bytes(vt);
    vt_pump(vt, 700);
    assert_int_equal(vt_bytes(vt) - before, 0);
    quit(vt);
}

static void save_display_writes_what_is_seen(void **state)
{
    (void)state;
    struct vt *vt = start(24, 80, NULL);
    char path[64], command[128];
    snprintf(path, sizeof path, "/tmp/layertop-display-%d.txt", (int)getpid());
    snprintf(command, sizeof command, "save-display %s\r", path);
    expect(vt, "^layertop.*> *$", SLOW);
    vt_type(vt, command);
    expect(vt, "> save-display", SLOW);
    vt_pump(vt, 300);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char text[8192] = "";
    size_t count = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    unlink(path);
    text[count] = '\0';
    assert_non_null(strstr(text, "layertop"));
    assert_non_null(strstr(text, "F1 help"));
    quit(vt);
}

static void line_mode_has_the_same_editor(void **state)
{
    (void)state;
    const char *argv[] = {program, "--plain", NULL};
    struct vt *vt = vt_start(24, 80, argv, environment);
    expect(vt, "^layertop.*> *$", SLOW);
    assert_false(vt_alternate(vt));
    vt_type(vt, "exho one\033[D\033[D\033[D\033[D\033[D\033[D\177c\r");
    expect(vt, "> echo one\n+one\n", SLOW);
    vt_type(vt, "\033[A");
    expect(vt, "> echo one *\n*$", SLOW);
    vt_type(vt, "\025prec\tfp\t");
    expect(vt, "^fp16  fp32", SLOW); /* the list stands above the prompt */
    expect(vt, "> precision fp *\n*$", SLOW);
    vt_type(vt, "\003");
    expect(vt, "> *\n*$", SLOW);
    vt_type(vt, "foo\r");
    expect(vt, "error\\[E002\\]", SLOW);
    vt_type(vt, "\004");
    int status;
    assert_true(vt_wait_exit(vt, SLOW, &status));
    assert_int_equal(WEXITSTATUS(status), 0);
    vt_free(vt);
}

/* A dumb terminal edits its line itself and gets no escape sequence at all. */
static void a_dumb_terminal_gets_plain_lines(void **state)
{
    (void)state;
    const char *argv[] = {program, NULL};
    const char *dumb[] = {"TERM=dumb", environment[0], environment[1], NULL};
    struct vt *vt = vt_start(24, 80, argv, dumb);
    expect(vt, "^layertop.*> *$", SLOW);
    vt_type(vt, "echo one\r");
    expect(vt, "^one\n", SLOW);
    vt_type(vt, "quit\r");
    int status;
    assert_true(vt_wait_exit(vt, SLOW, &status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(vt_escapes(vt), 0);
    vt_free(vt);
}

int main(void)
{
    /* beside us: build/tests/test_screen and build/layertop, or the same of a sanitizer build */
    static char path[4096];
    ssize_t count = readlink("/proc/self/exe", path, sizeof path - 32);
    if (count <= 0)
        return 1;
    path[count] = '\0';
    *strrchr(path, '/') = '\0';
    strcpy(strrchr(path, '/'), "/layertop");
    program = path;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_live_and_answers_a_batch),
        cmocka_unit_test(a_mistyped_file_says_why),
        cmocka_unit_test(keys_become_commands),
        cmocka_unit_test(long_work_shows_progress_and_is_cancelled),
        cmocka_unit_test(the_mouse_chooses_and_sorts),
        cmocka_unit_test(prompt_completes_and_remembers),
        cmocka_unit_test(survives_a_storm_of_sizes),
        cmocka_unit_test(a_dead_worker_is_told_and_replaced),
        cmocka_unit_test(ends_when_the_terminal_goes),
        cmocka_unit_test(puts_the_terminal_back_after_a_crash),
        cmocka_unit_test(suspends_and_comes_back),
        cmocka_unit_test(idle_writes_nothing),
        cmocka_unit_test(save_display_writes_what_is_seen),
        cmocka_unit_test(line_mode_has_the_same_editor),
        cmocka_unit_test(a_dumb_terminal_gets_plain_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
