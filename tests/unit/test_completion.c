/* What Tab offers: at our own prompt, and in the shells that ask the program. Each shell runs in a
 * terminal of its own, loads its script of share/, and has keys typed; one that is not installed is
 * skipped. */
#define _GNU_SOURCE /* realpath, asprintf */
#include "commands/complete_shell.h"
#include "commands/options.h"
#include "commands/table.h"
#include "support/cli.h"
#include "support/vt.h"

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

#define SLOW 20000 /* ms */

static char tree[PATH_MAX]; /* of the sources */

static struct workbench *open_workbench(void)
{
    struct error error;
    struct workbench *workbench = workbench_new(&(struct workbench_options){0}, &error);
    assert_non_null(workbench);
    return workbench;
}

/* ---- our own prompt ---- */

static bool offers(struct workbench *workbench, const char *text, const char *word)
{
    size_t start;
    bool found = false;
    char **candidates = command_complete(workbench, text, strlen(text), &start);
    for (char **at = candidates; *at; at++)
        found = found || strcmp(*at, word) == 0;
    command_candidates_free(candidates);
    return found;
}

static void expect(struct workbench *workbench, const char *text, const char *word)
{
    if (!offers(workbench, text, word))
        fail_msg("'%s': '%s' is not offered", text, word);
}

static void every_name_is_offered(void **state)
{
    struct workbench *workbench = open_workbench();
    (void)state;
    for (size_t i = 0; i < command_count(); i++) {
        const char *name = command_at(i)->name;
        char beginning[3] = {name[0], name[1], '\0'};
        expect(workbench, beginning, name);
    }
    for (size_t i = 0; i < setting_count(); i++)
        expect(workbench, "set ", setting_at(i)->name);
    workbench_free(workbench);
}

static void every_option_of_a_usage_is_offered(void **state)
{
    struct workbench *workbench = open_workbench();
    size_t options = 0;
    (void)state;
    for (size_t i = 0; i < command_count(); i++) {
        char line[80];
        snprintf(line, sizeof line, "%s --", command_at(i)->name);
        for (const char *at = command_at(i)->usage; (at = strstr(at, "--")) != NULL; options++) {
            char *option = strndup(at, strcspn(at, " ]|"));
            expect(workbench, line, option);
            at += strlen(option);
            free(option);
        }
    }
    assert_true(options > 40);
    expect(workbench, "run ", "--cost");
    expect(workbench, "layers --sort f", "flops");
    expect(workbench, "calibrate --method ", "entropy");
    assert_false(offers(workbench, "run --warmup ", "--cost"));
    assert_false(offers(workbench, "load demo:digits ", "demo:cnn"));
    expect(workbench, "load demo:efficientnetv2", "demo:efficientnetv2b0");
    workbench_free(workbench);
}

/* ---- what shells are told ---- */

static void expect_line(struct workbench *workbench, const char *line, const char *word)
{
    char *offered = complete_shell(workbench, line), *whole = NULL, *begin;
    assert_true(asprintf(&whole, "\n%s", word) >= 0);
    begin = strstr(offered, whole);
    if (strncmp(offered, word, strlen(word)) != 0 && !begin)
        fail_msg("'%s': '%s' is not among\n%s", line, word, offered);
    free(whole);
    free(offered);
}

static void shells_are_told_what_fits(void **state)
{
    struct workbench *workbench = open_workbench();
    char name[64];
    (void)state;
    for (size_t i = 0; i < program_option_count(); i++) {
        const struct program_option *option = program_option_at(i);
        if (option->summary && option->name) {
            snprintf(name, sizeof name, "--%s\t%s\n", option->name, option->summary);
            expect_line(workbench, "layertop -", name);
        }
    }
    expect_line(workbench, "layertop dem", "demo:digits\t");
    expect_line(workbench, "layertop ", "demo:\t");
    expect_line(workbench, "layertop ", "\tfiles keras h5 hdf5 json\n");
    expect_line(workbench, "layertop --replay ", "demo:synthetic-gpu\t");
    expect_line(workbench, "layertop -f ", "\tfiles\n");
    expect_line(workbench, "layertop --require steady,g", "steady,gpu\t");
    expect_line(workbench, "layertop -c 'batch 8; unl", "batch 8; unload\tforget the model");
    expect_line(workbench, "layertop x.h5 -c \"set prec", "set precision\t");
    expect_line(workbench, "layertop -c 'docto", "doctor\t");
    expect_line(workbench, "layertop -c 'doctor --pyt", "doctor --python\t");
    /* a second model, a word that is nothing, the program's own name */
    char *none = complete_shell(workbench, "layertop net.h5 dem");
    assert_string_equal(none, "");
    free(none);
    none = complete_shell(workbench, "layertop --worker-command ");
    assert_string_equal(none, "");
    free(none);
    none = complete_shell(workbench, "layert");
    assert_string_equal(none, "");
    free(none);
    workbench_free(workbench);
}

/* ---- the shells ---- */

/* A shell whose prompt is "ready>" and that has loaded its script. NULL: it is not installed. */
static struct vt *open_shell(const char *const names[], const char *const arguments[],
                             const char *setup)
{
    const char *program = NULL;
    for (; !program && *names; names++)
        if (access(*names, X_OK) == 0)
            program = *names;
    if (!program)
        return NULL;
    const char *argv[8] = {program};
    for (size_t i = 0; arguments[i]; i++)
        argv[i + 1] = arguments[i];
    char *path = NULL, *home = NULL;
    assert_true(asprintf(&path, "PATH=%s/bin:%s", cli_folder, getenv("PATH")) >= 0);
    assert_true(asprintf(&home, "HOME=%s", cli_folder) >= 0);
    const char *const environment[] = {path, home, NULL};
    struct vt *vt = vt_start(24, 100, argv, environment);
    free(path);
    free(home);
    assert_non_null(vt);
    vt_type(vt, setup);
    if (!vt_wait(vt, "ready>", SLOW))
        fail_msg("%s does not start:\n%s", program, vt_text(vt));
    return vt;
}

/* Type, and wait for what the line becomes, and for what is listed beside it. */
static void type(struct vt *vt, const char *keys, const char *line, const char *listed)
{
    vt_type(vt, keys);
    if (!vt_wait(vt, line, SLOW) || (listed && !vt_wait(vt, listed, SLOW)))
        fail_msg("'%s' does not become '%s' with '%s':\n%s", keys, line, listed ? listed : "",
                 vt_text(vt));
    vt_type(vt, "\025\014"); /* Ctrl-U, Ctrl-L: an empty line on an empty screen */
    vt_wait_gone(vt, line, SLOW);
}

static void bash_completes(void **state)
{
    static const char *const names[] = {"/bin/bash", "/usr/bin/bash", NULL};
    static const char *const arguments[] = {"--norc", "--noprofile", "-i", NULL};
    char setup[PATH_MAX + 200];
    (void)state;
    snprintf(setup, sizeof setup,
             "PS1='rea''dy> '; bind 'set bell-style none'; "
             "bind 'set show-all-if-ambiguous on'; cd %s; "
             ". %s/share/bash-completion/completions/layertop; clear\n",
             cli_folder, tree);
    struct vt *vt = open_shell(names, arguments, setup);
    if (!vt) {
        skip();
        return;
    }
    type(vt, "layertop demo:mobilenetv3l\t", "ready> layertop demo:mobilenetv3large", NULL);
    type(vt, "layertop --repl\tx", "ready> layertop --replay x", NULL);
    type(vt, "layertop --require st\tx", "ready> layertop --require steady x", NULL);
    type(vt, "layertop m\t", "ready> layertop my\\\\ model.keras", NULL);
    type(vt, "layertop \t", "ready> layertop", "demo: +my model.keras +net.h5");
    type(vt, "layertop -c 'load demo:dig\t", "ready> layertop -c 'load demo:digits'", NULL);
    type(vt, "layertop -c 'batch 8; unl\t", "ready> layertop -c 'batch 8; unload'", NULL);
    type(vt, "layertop -c 'doctor --pyth\t", "ready> layertop -c 'doctor --python", NULL);
    type(vt, "layertop -c 'precision bf\t", "ready> layertop -c 'precision bf16'", NULL);
    vt_free(vt);
}

static void zsh_completes(void **state)
{
    static const char *const names[] = {"/bin/zsh", "/usr/bin/zsh", NULL};
    static const char *const arguments[] = {"-f", "-i", NULL};
    char setup[PATH_MAX + 200];
    (void)state;
    snprintf(setup, sizeof setup,
             "PS1='rea''dy> '; unsetopt beep; cd %s; fpath=(%s/share/zsh/site-functions $fpath); "
             "autoload -U compinit; compinit -u -D; clear\n",
             cli_folder, tree);
    struct vt *vt = open_shell(names, arguments, setup);
    if (!vt) {
        skip();
        return;
    }
    type(vt, "layertop demo:mobilenetv3l\t", "ready> layertop demo:mobilenetv3large", NULL);
    type(vt, "layertop --repl\t", "ready> layertop --replay", NULL);
    type(vt, "layertop m\t", "ready> layertop my\\\\ model.keras", NULL);
    type(vt, "layertop n\t", "ready> layertop net.h5", NULL);
    type(vt, "layertop -c 'load demo:dig\t", "ready> layertop -c 'load demo:digits", NULL);
    type(vt, "layertop -c 'batch 8; unl\t", "ready> layertop -c 'batch 8; unload", NULL);
    type(vt, "layertop --js\t -c \"precision bf\t", "ready> layertop --json +-c \"precision bf16",
         NULL);
    type(vt, "layertop --no-tui -\t", "ready> layertop --no-tui -",
         "--plain +-- lines instead of a screen");
    vt_free(vt);
}

static void fish_completes(void **state)
{
    static const char *const names[] = {"/usr/bin/fish", "/bin/fish", NULL};
    const char *fish = access(names[0], X_OK) == 0 ? names[0] : names[1];
    static const struct {
        const char *typed, *offered;
    } cases[] = {
        {"layertop demo:mobilenetv3l", "demo:mobilenetv3large\n"},
        {"layertop --repl", "--replay\tplay a recording\n"},
        {"layertop m", "my model.keras\n"},
        {"layertop n", "net.h5\n"},
        {"layertop --no-tui x", ""}, /* x.txt is no model */
        {"layertop -c 'load demo:dig", "load demo:digits\n"},
        {"layertop -c 'batch 8; unl", "batch 8; unload\tforget the model"},
        {"layertop --json -c \"precision bf", "precision bf16\n"},
    };
    (void)state;
    if (access(fish, X_OK) != 0) {
        skip();
        return;
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *script = NULL, *command = NULL;
        assert_true(asprintf(&script,
                             "set -x PATH %s/bin $PATH\n"
                             "source %s/share/fish/vendor_completions.d/layertop.fish\n"
                             "complete -C (string collect -- %s)\n",
                             cli_folder, tree, "\"$typed\"") >= 0);
        cli_write_file("try.fish", script);
        setenv("typed", cases[i].typed, 1);
        assert_true(asprintf(&command, "cd %s && HOME=%s timeout 60 %s try.fish >out.txt 2>&1",
                             cli_folder, cli_folder, fish) >= 0);
        assert_int_equal(system(command), 0);
        char *out = cli_read_file("out.txt");
        if (strncmp(out, cases[i].offered, strlen(cases[i].offered)) != 0 ||
            (!*cases[i].offered && *out))
            fail_msg("'%s': '%s' and not '%s'", cases[i].typed, out, cases[i].offered);
        free(out);
        free(command);
        free(script);
    }
}

static int make_folder(void **state)
{
    const char *program = getenv("LAYERTOP_BIN");
    char *whole = realpath(program ? program : "build/layertop", NULL), *link = NULL, *bin = NULL;
    char *data = realpath("share/layertop", NULL);
    if (!whole || !data || !realpath(".", tree) || cli_make_folder(state) != 0 ||
        asprintf(&bin, "%s/bin", cli_folder) < 0 || mkdir(bin, 0700) != 0 ||
        asprintf(&link, "%s/layertop", bin) < 0 || symlink(whole, link) != 0)
        return -1;
    setenv("LAYERTOP_DATA", data, 1);
    cli_write_file("my model.keras", "");
    cli_write_file("net.h5", "");
    cli_write_file("x.txt", "");
    free(bin);
    free(link);
    free(data);
    free(whole);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_offered),
        cmocka_unit_test(every_option_of_a_usage_is_offered),
        cmocka_unit_test(shells_are_told_what_fits),
        cmocka_unit_test(bash_completes),
        cmocka_unit_test(zsh_completes),
        cmocka_unit_test(fish_completes),
    };
    return cmocka_run_group_tests(tests, make_folder, cli_remove_folder);
}
