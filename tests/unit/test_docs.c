/* The documents: what stands in their boxes is typed. ```layertop boxes are lines for the prompt, all of a page in
 * one session; ```sh boxes are run by a shell in the same folder afterwards; ```lesson boxes are
 * lessons, which are played up to their first question. Each page begins in an empty folder. */
#define _GNU_SOURCE /* asprintf */
#include "commands/lesson.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX 200

/* What cannot work everywhere, and what it answers then. */
static const struct {
    const char *line, *code;
} may_fail[] = {
    {"doctor", "E030"}, /* there is no GPU to be well */
};

struct page {
    char *text;
    char *typed[LINES_MAX]; /* lines for the prompt */
    size_t typed_count;
    char *shell, *lesson; /* all boxes of that kind; "" if there is none */
};

static void add_text(char **text, const char *line)
{
    char *longer = NULL;
    assert_true(asprintf(&longer, "%s%s\n", *text, line) >= 0);
    free(*text);
    *text = longer;
}

static void read_page(struct page *page, const char *path)
{
    FILE *file = fopen(path, "r");
    char line[4096], kind[32] = "";
    assert_non_null(file);
    *page = (struct page){.shell = strdup(""), .lesson = strdup("")};
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "```", 3) == 0) {
            snprintf(kind, sizeof kind, "%.31s", *kind ? "" : line + 3);
            if (line[3] && strcmp(kind, "layertop") != 0 && strcmp(kind, "sh") != 0 &&
                strcmp(kind, "lesson") != 0)
                fail_msg("%s: boxes of '%s' are not tested", path, kind);
        } else if (strcmp(kind, "layertop") == 0 && *line) {
            assert_true(page->typed_count < LINES_MAX);
            page->typed[page->typed_count++] = strdup(line);
        } else if (strcmp(kind, "sh") == 0) {
            add_text(&page->shell, line);
        } else if (strcmp(kind, "lesson") == 0) {
            add_text(&page->lesson, line);
        }
    }
    fclose(file);
}

static void free_page(struct page *page)
{
    for (size_t i = 0; i < page->typed_count; i++)
        free(page->typed[i]);
    free(page->shell);
    free(page->lesson);
}

static void check_answer(const char *path, const char *line, const json_t *object)
{
    if (json_is_true(cli_at(object, "ok")))
        return;
    const char *code = json_string_value(cli_at(object, "error.code"));
    for (size_t i = 0; i < sizeof may_fail / sizeof *may_fail; i++)
        if (strncmp(line, may_fail[i].line, strlen(may_fail[i].line)) == 0 &&
            strcmp(code, may_fail[i].code) == 0)
            return;
    fail_msg("%s: '%s': %s: %s", path, line, code,
             json_string_value(cli_at(object, "error.message")));
}

/* One object a line at least; `myths 9 --run` has more, which must be well too. */
static void type_all(const char *path, const struct page *page)
{
    FILE *script = fopen("page.lt", "w");
    assert_non_null(script);
    fprintf(script, "warmup 1\n"); /* a busy machine warms up for long */
    for (size_t i = 0; i < page->typed_count; i++)
        fprintf(script, "echo line %zu\n%s\n", i, page->typed[i]);
    fclose(script);
    struct cli_outcome outcome = cli_run(NULL, "--json -k -f page.lt");
    size_t index, at = 0;
    int answers = 1;
    json_t *object;
    json_array_foreach(outcome.objects, index, object)
    {
        char marker[32];
        const char *text =
            json_string_value(json_object_get(json_object_get(object, "data"), "text"));
        snprintf(marker, sizeof marker, "line %zu", at);
        if (text && strcmp(text, marker) == 0) {
            if (answers == 0)
                fail_msg("%s: nothing answered '%s'", path, page->typed[at - 1]);
            answers = 0;
            at++;
        } else if (at > 0) {
            check_answer(path, page->typed[at - 1], object);
            answers++;
        }
    }
    if (at != page->typed_count || answers == 0)
        fail_msg("%s: %zu of %zu lines were answered\n%s", path, at, page->typed_count,
                 outcome.errors);
    cli_outcome_free(&outcome);
}

static void run_shell(const char *path, const struct page *page)
{
    FILE *script = fopen("page.sh", "w");
    assert_non_null(script);
    fprintf(script, "set -e\nPATH=$PWD/bin:$PATH\n%s", page->shell);
    fclose(script);
    int status = system("timeout -k 2 200 sh page.sh >page.out 2>page.err </dev/null");
    if (status != 0)
        fail_msg("%s: the shell ended with %d: %s", path, status, cli_read_file("page.err"));
}

static void begin_lesson(const char *path, const struct page *page)
{
    struct error error = {0};
    struct lesson *lesson = lesson_parse(page->lesson, "half.lesson", &error);
    if (!lesson)
        fail_msg("%s: %s: %s", path, error.what, error.why);
    cli_write_file("half.lesson", page->lesson);
    FILE *script = fopen("lesson.lt", "w");
    assert_non_null(script);
    fprintf(script, "lesson start ./half.lesson; warmup 1\n");
    for (size_t i = 0; i < lesson->count && !lesson->items[i].is_question; i++)
        fprintf(script, "%s\n", lesson->items[i].command);
    fprintf(script, "lesson\n");
    fclose(script);
    struct cli_outcome outcome = cli_run(NULL, "--json -f lesson.lt");
    assert_int_equal(outcome.code, 0);
    const json_t *now = cli_at(cli_object_of(&outcome, "lesson"), "data");
    assert_string_equal(json_string_value(cli_at(now, "kind")), "question");
    const char *question = json_string_value(cli_at(now, "question"));
    if (strstr(question, "? ms") || strchr(question, '{'))
        fail_msg("%s: %s", path, question);
    cli_outcome_free(&outcome);
    lesson_free(lesson);
}

static char documents[PATH_MAX];

static void check_page(const char *name)
{
    struct page page;
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", documents, name);
    read_page(&page, path);
    assert_true(page.typed_count > 0);
    type_all(name, &page);
    if (*page.shell)
        run_shell(name, &page);
    if (*page.lesson)
        begin_lesson(name, &page);
    free_page(&page);
}

static void the_tutorial_works(void **state)
{
    (void)state;
    check_page("tutorial.md");
}

static void the_lecturers_page_works(void **state)
{
    (void)state;
    check_page("lecturers.md");
}

/* In a folder of its own, with a `layertop` and an `ssh` that goes nowhere in its path. */
static int make_folder(void **state)
{
    const char *program = getenv("LAYERTOP_BIN");
    char *whole = realpath(program ? program : "build/layertop", NULL);
    char *data = realpath("share/layertop", NULL);
    if (!whole || !data || !realpath("docs", documents) || cli_make_folder(state) != 0 ||
        chdir(cli_folder) != 0 || mkdir("bin", 0700) != 0 || symlink(whole, "bin/layertop") != 0)
        return -1;
    cli_write_file("bin/ssh", "#!/bin/sh\nshift\nexec sh -c \"$*\"\n");
    if (chmod("bin/ssh", 0700) != 0)
        return -1;
    setenv("LAYERTOP_BIN", whole, 1);
    setenv("LAYERTOP_DATA", data, 1);
    setenv("XDG_STATE_HOME", cli_folder, 1);
    setenv("XDG_CONFIG_HOME", cli_folder, 1);
    free(whole);
    free(data);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tutorial_works),
        cmocka_unit_test(the_lecturers_page_works),
    };
    return cmocka_run_group_tests(tests, make_folder, cli_remove_folder);
}
