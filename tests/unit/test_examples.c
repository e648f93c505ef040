/* Every example of `help` is typed, in the order of the tables: each works, or says what this machine
 * or this model lacks. */
#include "commands/settings.h"
#include "commands/table.h"
#include "engine/npy.h"
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
#include <unistd.h>

#define MODEL "demo:digits"

/* What cannot work here, by its beginning, and what it answers then. */
static const struct {
    const char *example, *code;
} may_fail[] = {
    {"load net.h5 --shape 224", "E025"}, /* of a model that takes 28 x 28 */
    {"load net.keras --outputs block5", "E022"},
    {"load net.keras --map MyDense", "E011"}, /* the class is somebody's own */
    {"set devices 0,1", "E03"},               /* one GPU, or none */
    {"devices 0", "E03"},
    {"oom", "E001"},               /* memory did not run out */
    {"batch 512 --force", "E040"}, /* or it did now */
    {"save-display", "E015"},      /* there is no screen */
    {"doctor", "E030"},            /* there is no GPU to be well */
    {"lesson check", "E001"},      /* lesson 3 has just begun */
    {"assert", "E060"},            /* decided, whichever way */
    {"apply A55", "E011"},         /* a processor without tiles */
};

/* What must have happened before a command has anything to say. */
static const struct {
    const char *command, *line;
} before[] = {
    {"fit", "sweep batch 1,2 --steps 2"},
    {"whatif", "run 2"},
    {"gap", "run 2"},
    {"serve", "run 2"},
    {"assert", "run 2"},
    {"apply", "run 2; advise"},
};

/* Not here: what ends the program, never ends, or measures for seconds what others measure too. */
static bool is_typed(const char *example)
{
    static const char *const others[] = {"quit",
                                         "exit 3",
                                         "watch layers",
                                         "ab batch=8 batch=32",
                                         "advise --try",
                                         "prune 0.5",
                                         "ab fusion=off vs fusion=on precision=bf16 --rounds 20",
                                         "compare teacher.keras student.keras",
                                         "compare before.ltr after.ltr",
                                         "compare student.keras --top 20",
                                         "bench --recreate",
                                         "bench --single --rounds 20",
                                         "watch mem 500ms",
                                         "batch max",
                                         "batch max --headroom 5%",
                                         "run 1000 --cost",
                                         "sleep 2s",
                                         "watch 'layers --top 3' 5"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(example, others[i]) == 0)
            return false;
    return true;
}

static void write_files(void)
{
    static float image[28 * 28];
    struct error error;
    struct npy_array array = {.name = "",
                              .dtype = DTYPE_F32,
                              .shape = {.rank = 4, .dims = {1, 28, 28, 1}},
                              .data = image,
                              .bytes = sizeof image};
    assert_true(npy_write("x.npy", &array, 1, &error));
    for (int i = 0; i < 28 * 28; i++)
        image[i] = (float)(i % 17);
    assert_true(npy_write("train_x.npy", &array, 1, &error));
    cli_write_file("session.lt", "echo sourced\n");
    cli_write_file("facts.json", "{\"version\": 1, \"run\": {\"wall_ms\": 10}}");
    cli_write_file("probes.json", "{\"version\": 1, \"driver\": {\"module_loaded\": true}}");
    assert_int_equal(system("mkdir -p venv/lib/python3.11/site-packages"), 0);
    cli_expect_code(NULL,
                    "-c 'devices cpu; load " MODEL
                    "; export keras model.keras; export keras net.h5; export keras net.keras'",
                    0, NULL);
}

static void type_example(FILE *script, size_t *number, const char *example)
{
    fprintf(script, "echo example %zu\n%s\n", (*number)++, example);
}

/* The examples of all commands, then of all settings; returns how many, their texts into list. */
static size_t write_script(const char *path, const char **list, size_t capacity)
{
    FILE *script = fopen(path, "w");
    size_t count = 0;
    assert_non_null(script);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        fprintf(script, "unset batch; unset precision; devices cpu; load %s\n", MODEL);
        for (size_t b = 0; b < sizeof before / sizeof *before; b++)
            if (strcmp(before[b].command, command->name) == 0)
                fprintf(script, "%s\n", before[b].line);
        for (const char *const *example = command->examples; *example; example++) {
            if (!is_typed(*example))
                continue;
            assert_true(count < capacity);
            list[count] = *example;
            type_example(script, &count, *example);
        }
    }
    for (size_t i = 0; i < setting_count(); i++) {
        assert_true(count < capacity);
        list[count] = setting_at(i)->example;
        type_example(script, &count, setting_at(i)->example);
        fprintf(script, "unset %s; devices cpu\n", setting_at(i)->name);
    }
    fclose(script);
    return count;
}

/* What follows a key in a shape ("[]{name time_ms} next"), up to the end of its object; NULL: it is
 * not there. */
static const char *find_key(const char *shape, const char *key)
{
    int depth = 0;
    for (const char *at = shape; *at && depth >= 0;) {
        size_t length = strcspn(at, " {}[]");
        if (depth == 0 && length == strlen(key) && strncmp(at, key, length) == 0)
            return at + length;
        at += length;
        depth += (*at == '{') - (*at == '}');
        at += *at != '\0';
    }
    return NULL;
}

/* Every key that came is one that the command's table row tells of. */
static void check_shape(const char *example, const char *shape, const json_t *value)
{
    const char *key;
    size_t index;
    json_t *member;
    json_array_foreach((json_t *)(uintptr_t)value, index, member)
    {
        check_shape(example, shape, member);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        const char *after = find_key(shape, key);
        if (!after)
            fail_msg("'%s': the command's .json lacks '%s': %s", example, key, shape);
        after += strspn(after, "[]");
        if (after[0] == '{' && after[1] != '}')
            check_shape(example, after + 1, member);
    }
}

static void check_answer(const char *example, const json_t *object)
{
    if (json_is_true(cli_at(object, "ok"))) {
        const char *name = json_string_value(cli_at(object, "cmd"));
        const struct command *command = command_find(name, NULL);
        assert_non_null(command);
        if (command->json || json_object_size(cli_at(object, "data")) > 0)
            check_shape(example, command->json ? command->json : "", cli_at(object, "data"));
        return;
    }
    const char *code = json_string_value(cli_at(object, "error.code"));
    for (size_t i = 0; i < sizeof may_fail / sizeof *may_fail; i++)
        if (strncmp(example, may_fail[i].example, strlen(may_fail[i].example)) == 0 &&
            strncmp(code, may_fail[i].code, strlen(may_fail[i].code)) == 0)
            return;
    fail_msg("'%s': %s: %s", example, code, json_string_value(cli_at(object, "error.message")));
}

static void every_example_works(void **state)
{
    (void)state;
    const char *examples[256];
    write_files();
    size_t count = write_script("examples.lt", examples, 256);
    struct cli_outcome outcome = cli_run(NULL, "--json -k -f examples.lt");
    size_t index, answered = 0;
    const char *waiting = NULL;
    json_t *object;
    json_array_foreach(outcome.objects, index, object)
    {
        const json_t *text = json_object_get(json_object_get(object, "data"), "text");
        char marker[64];
        snprintf(marker, sizeof marker, "example %zu", answered);
        if (answered < count && json_is_string(text) &&
            strcmp(json_string_value(text), marker) == 0) {
            waiting = examples[answered++];
        } else if (waiting) {
            check_answer(waiting, object);
            waiting = NULL;
        }
    }
    if (answered != count || waiting)
        fail_msg("%zu of %zu examples answered\n%s", answered, count, outcome.errors);
    cli_outcome_free(&outcome);
    cli_expect_code(NULL, "-c quit", 0, NULL);
    cli_expect_code(NULL, "-c 'exit 3'", 3, NULL);
}

/* In a folder of its own, where the names of the examples are free. */
static int make_folder(void **state)
{
    const char *program = getenv("LAYERTOP_BIN");
    char *whole = realpath(program ? program : "build/layertop", NULL);
    char *picture = realpath("tests/data/pictures/rgba.png", NULL), command[3 * PATH_MAX + 192];
    char *digits = realpath("share/layertop/demo/digits", NULL);
    if (!whole || !picture || !digits || cli_make_folder(state) != 0)
        return -1;
    setenv("LAYERTOP_BIN", whole, 1);
    setenv("XDG_CONFIG_HOME", cli_folder, 1);
    snprintf(command, sizeof command,
             "cp '%s' %s/cat.jpg && cp '%s/heldout_x.npy' %s/test_x.npy && "
             "cp '%s/heldout_y.npy' %s/test_y.npy",
             picture, cli_folder, digits, cli_folder, digits, cli_folder);
    free(whole);
    free(digits);
    free(picture);
    return system(command) == 0 ? chdir(cli_folder) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_example_works),
    };
    return cmocka_run_group_tests(tests, make_folder, cli_remove_folder);
}
