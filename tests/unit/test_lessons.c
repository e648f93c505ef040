/* Lessons: the files that ship are played to their ends by a learner who types what stands there and
 * answers from its own run; what is wrong is refused. Then the first one, in a terminal, by somebody
 * who sees nothing but the screen. */
#include "commands/course_file.h"
#include "commands/myth.h"
#include "commands/tutor.h"
#include "commands/workbench_private.h"
#include "support/cli.h"
#include "support/vt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <poll.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOW 20000 /* ms */

/* ---- a learner without a screen ---- */

struct learner {
    struct workbench *workbench;
    struct sink sink;
    char text[65536]; /* everything told since the last command */
    enum error_code code;
    char why[1024];
    int commands, failed; /* that have ended */
};

static void keep_line(void *context, enum sink_style style, const char *text)
{
    struct learner *learner = context;
    size_t used = strlen(learner->text);
    (void)style;
    snprintf(learner->text + used, sizeof learner->text - used, "%s\n", text);
}

static void keep_result(void *context, const char *command, const json_t *data,
                        const json_t *warnings, const struct error *error)
{
    struct learner *learner = context;
    (void)command, (void)data, (void)warnings;
    learner->code = error ? error->code : ERROR_NONE;
    learner->commands++;
    learner->failed += error != NULL;
    snprintf(learner->why, sizeof learner->why, "%s", error ? error->why : "");
}

static struct learner *learner_new(void)
{
    const char *program = getenv("LAYERTOP_BIN");
    struct learner *learner = calloc(1, sizeof *learner);
    struct error error;
    learner->sink = (struct sink){.context = learner, .line = keep_line, .result = keep_result};
    learner->workbench =
        workbench_new(&(struct workbench_options){.program = program ? program : "build/layertop",
                                                  .interactive = true},
                      &error);
    assert_non_null(learner->workbench);
    workbench_set_sink(learner->workbench, &learner->sink);
    return learner;
}

static void learner_free(struct learner *learner)
{
    workbench_free(learner->workbench);
    free(learner);
}

static void say(struct learner *learner, const char *line)
{
    learner->text[0] = '\0';
    learner->code = ERROR_NONE;
    command_submit(learner->workbench, line);
    for (int i = 0; i < 60000 && command_busy(learner->workbench); i++) {
        struct pollfd polled = {.fd = workbench_fd(learner->workbench), .events = POLLIN};
        int timeout = workbench_timeout_ms(learner->workbench);
        poll(&polled, 1, timeout < 0 || timeout > 1000 ? 1000 : timeout);
        workbench_dispatch(learner->workbench);
    }
    assert_false(command_busy(learner->workbench));
}

static void say_well(struct learner *learner, const char *line)
{
    say(learner, line);
    if (learner->code != ERROR_NONE)
        fail_msg("%s: %s\n%s", line, learner->why, learner->text);
}

/* What a number is in the unit that the question wants. */
static double in_unit(const struct lesson_item *question, const json_t *wanted)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"%", 0.01}, {"KiB", 1024}, {"MB/s", 1e6}};
    for (size_t i = 0; question->unit && i < sizeof units / sizeof *units; i++)
        if (strcmp(units[i].unit, question->unit) == 0)
            return json_number_value(wanted) / units[i].factor;
    return json_number_value(wanted);
}

/* The right answer as it is read from a screen: four digits; and one that is far off. */
static void write_answers(const struct lesson_item *question, const json_t *wanted, char **right,
                          char **wrong)
{
    const char *word = json_string_value(wanted);
    double number = in_unit(question, wanted);
    const char *other = !question->choices ? "gpu:7"
                        : strncmp(question->choices, word ? word : "", 2) == 0
                            ? strrchr(question->choices, ',') + 2
                            : NULL;
    *right = word ? xasprintf("lesson check '%s'", word) : xasprintf("lesson check %.4g", number);
    *wrong = !word   ? xasprintf("lesson check %g", 3 * number + 77)
             : other ? xasprintf("lesson check '%s'", other)
                     : xasprintf("lesson check '%.*s'", (int)strcspn(question->choices, ","),
                                 question->choices);
}

static void answer(struct learner *learner)
{
    struct tutor *tutor = learner->workbench->tutor;
    const struct lesson_item *question = tutor_item(tutor);
    json_t *wanted = lesson_answer(question, tutor_results(tutor));
    if (!wanted)
        fail_msg("%s: no answer is known", question->ask);
    char *line, *wrong;
    write_answers(question, wanted, &line, &wrong);
    /* what is far off is refused, with a hint, and the question stays open */
    say(learner, wrong);
    if (learner->code != ERROR_ASSERT || tutor_item(tutor) != question)
        fail_msg("%s: '%s' was taken: %s", question->ask, wrong, learner->text);
    assert_non_null(strstr(learner->text, "hint: lesson hint"));
    assert_non_null(strstr(learner->why, "; ")); /* the hint itself */
    say(learner, line);
    if (learner->code != ERROR_NONE)
        fail_msg("%s: '%s' was refused: %s", question->ask, line, learner->why);
    free(wrong);
    free(line);
    json_decref(wanted);
}

/* Every text must have been filled: a "?" is a name that no result has. */
static void check_text(const struct learner *learner, const char *line)
{
    const char *known = learner->text;
    regex_t unfilled;
    assert_int_equal(regcomp(&unfilled, "(^|[ (])\\?([ ,.)%]|$)", REG_EXTENDED | REG_NEWLINE), 0);
    if (regexec(&unfilled, known, 0, NULL, 0) == 0)
        fail_msg("after '%s' something is not known:\n%s", line, known);
    regfree(&unfilled);
}

static void play(struct learner *learner, const char *path)
{
    char *line = xasprintf("lesson start %s", path);
    say_well(learner, line);
    free(line);
    struct tutor *tutor = learner->workbench->tutor;
    char id[128];
    int waits = 0;
    snprintf(id, sizeof id, "%s", tutor_lesson(tutor)->id);
    while (tutor_item(tutor)) {
        const struct lesson_item *item = tutor_item(tutor);
        if (item->is_question) {
            answer(learner);
            check_text(learner, "an answer");
            continue;
        }
        line = xstrdup(item->command);
        say_well(learner, line);
        check_text(learner, line);
        if (tutor_item(tutor) == item) { /* a recording that has not yet told enough */
            if (!item->until || ++waits > 100)
                fail_msg("%s: '%s' did not go on:\n%s", id, line, learner->text);
            usleep(20000);
        }
        free(line);
    }
    assert_non_null(strstr(learner->text, "is finished"));
    assert_true(lesson_progress_has(tutor_progress(tutor), id));
}

static void every_lesson_can_be_finished(void **state)
{
    (void)state;
    struct error error = {0};
    struct learner *learner = learner_new();
    json_t *files = lesson_files(&error), *path;
    size_t index;
    assert_non_null(files);
    assert_int_equal(json_array_size(files), 14);
    say_well(learner, "devices cpu; warmup 1"); /* a busy machine warms up for long */
    json_array_foreach(files, index, path)
    {
        play(learner, json_string_value(path));
    }
    say_well(learner, "lesson list");
    char *all = xasprintf("%zu of %zu finished", index, index);
    if (!strstr(learner->text, all))
        fail_msg("not all are finished:\n%s", learner->text);
    free(all);
    json_decref(files);
    learner_free(learner);
}

/* ---- what a lesson says to what is typed ---- */

static const char little[] = "# of a test\n"
                             "title: Little\ngoal: To be\n  short.\nminutes: 1\n"
                             "step: batch 8\nsee: Set.\n"
                             "step e: echo on\n"
                             "ask: What is said?\nanswer: e.text\nhint: It stands there.\n"
                             "ask: left out\nwhen: 1 > 2\nanswer: 3\n"
                             "ask: And {6 * 7}?\nanswer: 42\nwithin: 1\nunit: ms\nright: Yes.\n";

static void a_lesson_goes_on_by_itself(void **state)
{
    (void)state;
    struct learner *learner = learner_new();
    cli_write_file("little.lesson", little);
    char *line = xasprintf("lesson start %s/little.lesson", cli_folder);
    say_well(learner, "lesson reset");
    say(learner, "lesson check 3");
    assert_non_null(strstr(learner->text, "hint: lesson start 1"));
    say_well(learner, line);
    assert_non_null(strstr(learner->text, "Little\nTo be short.\n"));
    assert_non_null(strstr(learner->text, "step 1 of 2] type: batch 8\n"));
    say(learner, "lesson check 3");
    assert_int_equal(learner->code, ERROR_COMMAND);
    say_well(learner, "devices cpu");
    assert_non_null(strstr(learner->text, "waits for: batch 8\n"));
    say_well(learner, "help lesson");
    assert_null(strstr(learner->text, "waits for"));
    say_well(learner, "set batch_size 8"); /* the same in other words */
    assert_non_null(strstr(learner->text, "Set.\n"));
    say_well(learner, "batch 4; echo off; echo on");
    assert_non_null(strstr(learner->text, "question 1 of 3] type: lesson check ANSWER\n"));
    say_well(learner, "lesson hint");
    assert_non_null(strstr(learner->text, "hint: It stands there.\n"));
    say_well(learner, "lesson hint");
    assert_non_null(strstr(learner->text, "the answer is e.text\n"));
    say(learner, "lesson check off");
    assert_int_equal(learner->code, ERROR_ASSERT);
    say_well(learner, "lesson check ON");
    assert_non_null(strstr(learner->text, "left out"));
    assert_non_null(strstr(learner->text, "And 42?\n"));
    say(learner, "lesson check 44.0 ms");
    assert_non_null(strstr(learner->why, "is too high"));
    say(learner, "lesson check 0.04s");
    assert_non_null(strstr(learner->why, "is too low"));
    say(learner, "lesson check many");
    assert_int_equal(learner->code, ERROR_VALUE);
    say_well(learner, "lesson check 43000 us");
    assert_non_null(strstr(learner->text, "right.\nYes.\n"));
    assert_non_null(
        strstr(learner->text, "is finished, 3 questions in 5 answers] next: lesson list"));
    free(line);
    learner_free(learner);
}

static void faults_of_a_file_name_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what, *why;
    } cases[] = {
        {"", "x.lesson:1", "no title"},
        {"  on\n", "x.lesson:1", "go on from"},
        {"Title\n", "x.lesson:1", "KEY: TEXT"},
        {"title: a\ntitle: b\n", "x.lesson:2", "twice"},
        {"title:\n", "x.lesson:1", "is empty"},
        {"title: a\nsee: b\n", "x.lesson:2", "means nothing here"},
        {"title: a\ngoal: b\nstep: c\n", "x.lesson:3", "no ask"},
        {"title: a\ngoal: b\nstep: c\nask: d\n", "x.lesson:4", "no answer"},
        {"title: a\ngoal: b\nstep: c; d\nask: d\nanswer: 1\n", "x.lesson:5", "one command"},
        {"title: a\nask: d\nwithin: 3x\n", "x.lesson:3", "neither N% nor N"},
        {"title: a\nask: d\nuntil: 3\n", "x.lesson:3", "means nothing here"},
        {"title: a\ngoal: b\nask: d\nanswer: 1\nsay: e\n", "x.lesson:5", "after the last say"},
        {"minutes: few\n", "x.lesson:1", "no number of minutes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        assert_null(lesson_parse(cases[i].text, "/a/x.lesson", &error));
        if (strcmp(error.what, cases[i].what) != 0 || !strstr(error.why, cases[i].why))
            fail_msg("case %zu: %s: %s", i, error.what, error.why);
    }
    struct error error = {0};
    assert_null(lesson_find("99", &error));
    assert_string_equal(error.hint, "lesson list");
    assert_null(lesson_find("/dev/null", &error));
    assert_null(lesson_find("./none.lesson", &error));
}

static void texts_are_filled_and_wrapped(void **state)
{
    (void)state;
    json_t *results = json_pack("{s:{s:f, s:s, s:b}}", "a", "x", 1234.5678, "s", "word", "t", 1);
    static const struct {
        const char *text, *filled;
    } cases[] = {{"x {a.x} y", "x 1234.568 y"},
                 {"{a.x:ms}", "1.23 s"},
                 {"{a.x / 10000:%}", "12.3 %"},
                 {"{a.x:B}", "1.21 KiB"},
                 {"{a.s}{a.t}", "wordyes"},
                 {"{a.none}", "?"},
                 {"{open", "{open"},
                 {"{a.x * 1000:n}", "1.23 M"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *filled = course_text_fill(cases[i].text, results);
        assert_string_equal(filled, cases[i].filled);
        free(filled);
    }
    char *wrapped = course_text_wrap("one two three four", "> ", 10);
    assert_string_equal(wrapped, "> one two\n  three\n  four");
    free(wrapped);
    json_decref(results);
}

static void progress_is_kept(void **state)
{
    (void)state;
    struct error error = {0};
    struct stat status;
    char *path = xasprintf("%s/new/folder/lessons", cli_folder);
    struct lesson_progress *mine = lesson_progress_new(path), *other = lesson_progress_new(path);
    assert_true(lesson_progress_finish(mine, "one", 3, &error));
    assert_true(lesson_progress_finish(other, "two", 5, &error)); /* keeps the first */
    assert_true(lesson_progress_finish(other, "one", 9, &error)); /* the best time stays */
    lesson_progress_free(mine);
    lesson_progress_free(other);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    mine = lesson_progress_new(path);
    assert_true(lesson_progress_has(mine, "one") && lesson_progress_has(mine, "two"));
    assert_int_equal(lesson_progress_tries(mine, "one"), 3);
    assert_true(lesson_progress_forget(mine, "one", &error));
    lesson_progress_free(mine);
    mine = lesson_progress_new(path);
    assert_true(!lesson_progress_has(mine, "one") && lesson_progress_has(mine, "two"));
    assert_true(lesson_progress_forget(mine, NULL, &error));
    assert_false(lesson_progress_has(mine, "two"));
    lesson_progress_free(mine);
    cli_write_file("new/folder/lessons", "no JSON");
    mine = lesson_progress_new(path); /* counts as none */
    assert_false(lesson_progress_has(mine, "two"));
    assert_true(lesson_progress_finish(mine, "three", 1, &error));
    lesson_progress_free(mine);
    mine = lesson_progress_new("/proc/none/lessons"); /* nowhere to keep it: no error */
    assert_true(lesson_progress_finish(mine, "three", 1, &error));
    assert_true(lesson_progress_has(mine, "three"));
    lesson_progress_free(mine);
    free(path);
}

static void a_script_ends_with_six(void **state)
{
    (void)state;
    cli_expect_code(NULL,
                    "-c 'lesson start 1; devices cpu; load demo:digits; proof; lesson check gpu:0'",
                    6, "lesson 1, question 1: gpu:0 is not it");
    cli_expect_code(NULL, "-c 'lesson start 77'", 1, "hint: lesson list");
    struct cli_outcome outcome = cli_run(
        NULL, "--json -c 'lesson start 1; lesson; devices cpu; load demo:digits; proof; lesson'");
    const json_t *now = cli_at(cli_object_of(&outcome, "lesson"), "data");
    assert_string_equal(json_string_value(cli_at(now, "kind")), "question");
    assert_int_equal(cli_number_at(now, "number"), 1);
    assert_int_equal(cli_number_at(now, "of"), 3);
    cli_outcome_free(&outcome);
}

/* ---- myths ---- */

static void every_experiment_works(void **state)
{
    (void)state;
    struct myths myths;
    struct error error = {0};
    struct learner *learner = learner_new();
    if (!myths_read(&myths, &error))
        fail_msg("%s: %s", error.what, error.why);
    assert_int_equal(myths.count, 34);
    say_well(learner, "warmup 1");
    for (size_t i = 0; i < myths.count; i++) {
        char *line = xasprintf("myths %zu --run", i + 1);
        assert_int_equal(myths.list[i].number, i + 1);
        learner->failed = 0;
        learner->commands = 0;
        say(learner, line);
        if (learner->failed > 0 || learner->commands != (int)myths.list[i].count + 1)
            fail_msg("%s: %d of %d failed\n%s", line, learner->failed, learner->commands,
                     learner->text);
        /* and leaves no setting behind */
        for (size_t k = 0; k < setting_count(); k++) {
            const struct setting *setting = setting_at(k);
            json_t *usual = setting_parse(setting, setting->value, &error);
            if (strcmp(setting->name, "warmup") != 0 &&
                !json_equal(usual, workbench_setting(learner->workbench, setting->name)))
                fail_msg("%s leaves %s behind", line, setting->name);
            json_decref(usual);
        }
        free(line);
    }
    myths_free(&myths);
    learner_free(learner);
}

static void myths_are_told(void **state)
{
    (void)state;
    struct cli_outcome outcome = cli_run(NULL, "--json -c 'myths; myths w9'");
    const json_t *all = cli_at(json_array_get(outcome.objects, 0), "data.myths");
    assert_int_equal(json_array_size(all), 34);
    const json_t *one = cli_at(json_array_get(outcome.objects, 1), "data");
    assert_string_equal(json_string_value(cli_at(one, "id")), "W09");
    assert_int_equal(json_array_size(cli_at(one, "commands")), 5);
    cli_outcome_free(&outcome);
    cli_expect_code(NULL, "-c 'myths 35'", 1, "no myth '35', but 34 others");
    cli_expect_code(NULL, "-c 'myths 9 --walk'", 1, "hint: myths 9 --run");
    struct myths myths;
    struct error error = {0};
    assert_false(myths_parse(&myths, "myth W1: a\ntruth: b\nsee: c\n", "x", &error));
    myths_free(&myths);
    assert_false(myths_parse(&myths, "truth: b\n", "x", &error));
    assert_string_equal(error.what, "x:1");
    myths_free(&myths);
    assert_false(myths_parse(&myths, "myth: b\n", "x", &error));
    myths_free(&myths);
    assert_false(myths_parse(&myths, "myth W2: b\ntry: 'open\n", "x", &error));
    assert_string_equal(error.what, "x:2");
    myths_free(&myths);
}

/* ---- the bar: the screen alone ---- */

/* The last match of an expression's group on the screen, or NULL. To be freed. */
static char *last_on_screen(struct vt *vt, const char *expression)
{
    regex_t compiled;
    regmatch_t match[2];
    char *found = NULL;
    assert_int_equal(regcomp(&compiled, expression, REG_EXTENDED | REG_NEWLINE), 0);
    for (const char *at = vt_text(vt); regexec(&compiled, at, 2, match, 0) == 0;
         at += match[0].rm_eo) {
        free(found);
        found = xasprintf("%.*s", (int)(match[1].rm_eo - match[1].rm_so), at + match[1].rm_so);
    }
    regfree(&compiled);
    return found;
}

static void print_screen(struct vt *vt)
{
    for (const char *line = vt_text(vt); *line != '\0'; line = strchr(line, '\n') + 1)
        print_error("%.*s\n", (int)(strchr(line, '\n') - line), line);
}

/* What the answer to a question is, by one who reads: what the question speaks of, and where on the
 * screen the words around it stand. */
static char *read_answer(struct vt *vt)
{
    static const struct {
        const char *asked, *stands;
    } sights[] = {
        {"Which device computed it", "^(cpu|gpu:[0-9]+): [0-9]+ kernels"},
        {"How many kernels did one step take", ": ([0-9]+) kernels \\("},
        {"layer predictions launch", "^predictions  .* ([0-9]+) +[0-9]+ +[0-9.]+ KiB"},
    };
    size_t open = 0; /* the question that stands lowest */
    const char *lowest = NULL;
    for (size_t i = 0; i < sizeof sights / sizeof *sights; i++) {
        const char *at = strstr(vt_text(vt), sights[i].asked);
        if (at && (!lowest || at > lowest)) {
            lowest = at;
            open = i;
        }
    }
    char *found = lowest ? last_on_screen(vt, sights[open].stands) : NULL;
    if (found)
        return found;
    print_screen(vt);
    fail_msg("no answer can be read");
    return NULL;
}

static void lesson_one_by_the_screen_alone(void **state)
{
    (void)state;
    const char *program = getenv("LAYERTOP_BIN");
    const char *const argv[] = {program ? program : "build/layertop", NULL};
    char *home = xasprintf("XDG_STATE_HOME=%s/screen", cli_folder);
    char *config = xasprintf("XDG_CONFIG_HOME=%s/screen", cli_folder);
    const char *const environment[] = {home, config, NULL};
    struct vt *vt = vt_start(40, 120, argv, environment);
    assert_non_null(vt);
    int typed = 1, rounds = 0;
    bool finished = false;
    assert_true(vt_wait(vt, "no model", SLOW));
    vt_type(vt, "lesson start 1\r");
    char last[256] = "";
    while (!finished && ++rounds < 200) {
        vt_pump(vt, 100);
        finished = vt_wait(vt, "is finished", 1);
        char *wanted =
            last_on_screen(vt, "(\\[lesson 1, [a-z]+ [0-9] of [0-9]\\] type: [^\n]*[^ \n])");
        if (finished || !wanted || strcmp(wanted, last) == 0) {
            free(wanted);
            continue;
        }
        snprintf(last, sizeof last, "%s", wanted);
        const char *line = strstr(wanted, "type: ") + strlen("type: ");
        char *answer = strstr(line, "lesson check ANSWER") ? read_answer(vt) : NULL;
        char *keys = answer ? xasprintf("lesson check %s\r", answer) : xasprintf("%s\r", line);
        vt_type(vt, keys);
        typed++;
        free(keys);
        free(answer);
        free(wanted);
    }
    if (!finished) {
        print_screen(vt);
        fail_msg("not finished after %d lines, the last was %s", typed, last);
    }
    if (typed > 10)
        fail_msg("it took %d lines", typed);
    assert_true(vt_wait(vt, "next: lesson start 2", SLOW));
    vt_type(vt, "lesson list\r");
    assert_true(vt_wait(vt, "1 of [0-9]+ finished", SLOW));
    vt_free(vt);
    free(home);
    free(config);
}

static int make_folder(void **state)
{
    if (cli_make_folder(state) != 0)
        return -1;
    setenv("XDG_STATE_HOME", cli_folder, 1);
    setenv("XDG_CONFIG_HOME", cli_folder, 1);
    setenv("LAYERTOP_DATA", "share/layertop", 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_filled_and_wrapped),
        cmocka_unit_test(faults_of_a_file_name_their_line),
        cmocka_unit_test(progress_is_kept),
        cmocka_unit_test(a_lesson_goes_on_by_itself),
        cmocka_unit_test(a_script_ends_with_six),
        cmocka_unit_test(every_lesson_can_be_finished),
        cmocka_unit_test(myths_are_told),
        cmocka_unit_test(every_experiment_works),
        cmocka_unit_test(lesson_one_by_the_screen_alone),
    };
    return cmocka_run_group_tests(tests, make_folder, cli_remove_folder);
}
