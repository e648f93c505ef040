#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

char cli_folder[] = "/tmp/layertop-cli-XXXXXX";

int cli_make_folder(void **state)
{
    (void)state;
    return mkdtemp(cli_folder) ? 0 : -1;
}

int cli_remove_folder(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", cli_folder);
    return system(command);
}

char *cli_read_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", cli_folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    size_t used = fread(text, 1, (1 << 20) - 1, file);
    text[used] = '\0';
    fclose(file);
    return text;
}

void cli_write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", cli_folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

struct cli_outcome cli_run(const char *input, const char *arguments)
{
    const char *program = getenv("LAYERTOP_BIN");
    char command[4096];
    struct cli_outcome outcome = {0};
    cli_write_file("in", input ? input : "");
    snprintf(command, sizeof command, "timeout -k 2 240 %s %s <%s/in >%s/out 2>%s/err",
             program ? program : "build/layertop", arguments, cli_folder, cli_folder, cli_folder);
    int status = system(command);
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    outcome.output = cli_read_file("out");
    outcome.errors = cli_read_file("err");
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

void cli_outcome_free(struct cli_outcome *outcome)
{
    free(outcome->output);
    free(outcome->errors);
    json_decref(outcome->objects);
}

void cli_expect_code(const char *input, const char *arguments, int code, const char *errors)
{
    struct cli_outcome outcome = cli_run(input, arguments);
    if (outcome.code != code)
        fail_msg("layertop %s: code %d, not %d\n%s", arguments, outcome.code, code, outcome.errors);
    if (errors && !strstr(outcome.errors, errors))
        fail_msg("layertop %s: no '%s' in\n%s", arguments, errors, outcome.errors);
    cli_outcome_free(&outcome);
}

json_t *cli_at(const json_t *object, const char *path)
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

double cli_number_at(const json_t *object, const char *path)
{
    json_t *value = cli_at(object, path);
    if (!json_is_number(value))
        fail_msg("%s is no number", path);
    return json_number_value(value);
}

const json_t *cli_object_of(const struct cli_outcome *outcome, const char *command)
{
    size_t index;
    json_t *object, *found = NULL;
    json_array_foreach(outcome->objects, index,
                       object) if (strcmp(json_string_value(cli_at(object, "cmd")), command) == 0)
        found = object;
    if (!found)
        fail_msg("no object of '%s' in\n%s\n%s", command, outcome->output, outcome->errors);
    return found;
}
