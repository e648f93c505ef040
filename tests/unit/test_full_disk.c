/* A disk without room: one clear error, nothing lost, the file of before as it was. On a small file
 * system of our own where one may be mounted (as root, or in a user namespace), and everywhere with
 * files that may not grow past a limit, which the same code meets. */
#define _GNU_SOURCE /* unshare */
#include "commands/history.h"
#include "support/cli.h"
#include "support/vt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_BYTES (256 << 10)
#define LIMIT      1024 /* bytes a file, where nothing can be mounted */
#define OLD        "what was there before\n"

static bool mounted;
static char disk[64], program[4096];

/* ---- the disk ---- */

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        (void)0; /* /proc says no by itself */
    if (fd >= 0)
        close(fd);
}

/* A mount that ends with this process: as root, or as root of a namespace of our own. */
static bool mount_disk(void)
{
    char map[64], size[32];
    unsigned user = getuid(), group = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            return false;
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "%u %u 1", user, user);
        write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "%u %u 1", group, group);
        write_file("/proc/self/gid_map", map);
    }
    snprintf(size, sizeof size, "size=%d", DISK_BYTES);
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", disk, "tmpfs", 0, size) == 0;
}

static char *on_disk(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", disk, name);
    return path[turn];
}

static void empty_disk(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s/*", disk);
    assert_int_equal(system(command), 0);
}

/* Leave so many bytes free; the other way, a file has a limit of its own. */
static void fill_disk(long free_bytes)
{
    char block[1024];
    if (!mounted)
        return;
    memset(block, 'x', sizeof block);
    int fd = open(on_disk("filling"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    while (write(fd, block, sizeof block) > 0)
        continue;
    off_t size = lseek(fd, 0, SEEK_END);
    assert_int_equal(ftruncate(fd, size - free_bytes), 0);
    close(fd);
}

static int count_files(void)
{
    char command[128], text[16] = "";
    snprintf(command, sizeof command, "ls -A %s | grep -vc filling", disk);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(text, sizeof text, pipe));
    pclose(pipe);
    return atoi(text);
}

static void expect_old(const char *name)
{
    char text[64] = "";
    FILE *file = fopen(on_disk(name), "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, OLD);
}

static const char *cause(void)
{
    return mounted ? "No space left on device" : "File too large";
}

static struct cli_outcome run(const char *format, ...)
{
    char arguments[2048], line[2400];
    va_list list;
    va_start(list, format);
    vsnprintf(arguments, sizeof arguments, format, list);
    va_end(list);
    snprintf(line, sizeof line, "demo:digits -c 'devices cpu; batch 1; run 3' %s", arguments);
    return cli_run(NULL, line);
}

static size_t count(const char *text, const char *part)
{
    size_t found = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        found++;
    return found;
}

/* ---- commands that write a file ---- */

static void what_is_written_leaves_the_old_file(void **state)
{
    (void)state;
    static const struct {
        const char *command, *name;
    } rows[] = {{"export json", "a.json"},
                {"export csv", "a.csv"},
                {"export chrome", "a.trace"},
                {"export keras", "a.h5"},
                {"export keras", "a.keras"},
                {"predict share/layertop/demo/digits/heldout_x.npy", "a.npy"},
                {"predict share/layertop/demo/digits/heldout_x.npy", "a.npz"}};
    const int all = sizeof rows / sizeof *rows;
    const int each = mounted ? all : 2; /* what is printed has the limit, too */
    size_t causes = 0;
    empty_disk();
    for (int i = 0; i < all; i++)
        write_file(on_disk(rows[i].name), OLD);
    fill_disk(512);
    for (int from = 0; from < all; from += each) {
        const int to = from + each < all ? from + each : all;
        char line[2048] = "-k";
        for (int i = from; i < to; i++)
            snprintf(line + strlen(line), sizeof line - strlen(line), " -c '%s %s'",
                     rows[i].command, on_disk(rows[i].name));
        struct cli_outcome outcome = run("%s -c 'echo goes on'", line);
        if (outcome.code != 1 || count(outcome.errors, "error[") != (size_t)(to - from))
            fail_msg("code %d\n%s", outcome.code, outcome.errors);
        for (int i = from; i < to; i++) {
            char text[256];
            snprintf(text, sizeof text,
                     "error[E013]: %s: cannot be written: ", on_disk(rows[i].name));
            if (!strstr(outcome.errors, text))
                fail_msg("no '%s' in\n%s", text, outcome.errors);
            expect_old(rows[i].name);
        }
        causes += count(outcome.errors, cause());
        assert_non_null(strstr(outcome.output, "goes on"));
        cli_outcome_free(&outcome);
    }
    assert_true(causes >= 4);             /* HDF5 does not tell */
    assert_int_equal(count_files(), all); /* nothing half done beside them */
}

static void settings_stay_as_they_were_saved(void **state)
{
    (void)state;
    char folder[128];
    empty_disk();
    if (!mounted)
        return; /* a kilobyte is more than they take */
    snprintf(folder, sizeof folder, "%s/layertop", disk);
    assert_int_equal(mkdir(folder, 0777), 0);
    write_file(on_disk("layertop/init.lt"), OLD);
    fill_disk(0);
    setenv("XDG_CONFIG_HOME", disk, 1);
    struct cli_outcome outcome = run("-c 'config save'");
    unsetenv("XDG_CONFIG_HOME");
    assert_int_equal(outcome.code, 1);
    assert_non_null(strstr(outcome.errors, "init.lt: cannot be written: No space left"));
    expect_old("layertop/init.lt");
    cli_outcome_free(&outcome);
}

/* ---- recordings ---- */

/* The recording ends; what runs does not, and what was written can be played. */
static void a_recording_is_told_at_once_and_plays(void **state)
{
    (void)state;
    char line[512];
    empty_disk();
    fill_disk(24 << 10);
    const char *steps = mounted ? "run 20; batch 2; run 20; batch 3; run 20; batch 4; run 20; "
                                  "fusion off; run 20"
                                : "batch 2"; /* what is printed has the limit, too */
    snprintf(line, sizeof line,
             "-k -c 'record %s' -c '%s' -c 'echo it runs on' -c 'record off; record off'",
             on_disk("long.ltr"), steps);
    struct cli_outcome outcome = run("%s", line);
    const char *early = mounted ? "the recording ends early: No space" : "cannot be written: File";
    assert_int_equal(outcome.code, 1);
    if (!strstr(outcome.errors, early))
        fail_msg("no '%s' in\n%s", early, outcome.errors);
    assert_non_null(strstr(outcome.output, "it runs on"));
    assert_non_null(strstr(outcome.errors, "nothing is being recorded"));
    assert_int_not_equal(access(on_disk("long.ltr"), F_OK), 0);
    cli_outcome_free(&outcome);
    if (!mounted) { /* there was no room for its beginning */
        assert_int_equal(count_files(), 0);
        return;
    }
    snprintf(line, sizeof line, "--replay %s --speed max -c layers", on_disk("long.ltr.part"));
    outcome = cli_run(NULL, line);
    assert_int_equal(outcome.code, 0);
    assert_non_null(strstr(outcome.errors, "cut at its end"));
    cli_outcome_free(&outcome);
}

/* The end of the program packs the recording: no room for that keeps what was recorded. */
static void a_recording_that_cannot_be_packed_stays(void **state)
{
    (void)state;
    char line[256];
    empty_disk();
    if (!mounted)
        return;
    fill_disk(48 << 10); /* the journal fits, and beside it no second copy */
    snprintf(line, sizeof line, "-c 'record %s' -c 'run 20'", on_disk("short.ltr"));
    struct cli_outcome outcome = run("%s", line);
    assert_int_equal(outcome.code, 1);
    if (!strstr(outcome.errors, "short.ltr: cannot be written: ") ||
        !strstr(outcome.errors, "hint: replay "))
        fail_msg("%s", outcome.errors);
    assert_int_equal(count_files(), 1);
    assert_int_equal(access(on_disk("short.ltr.part"), F_OK), 0);
    cli_outcome_free(&outcome);
}

/* ---- the prompt ---- */

static void the_history_keeps_whole_lines(void **state)
{
    (void)state;
    static const char line[] = "echo a line that is quite long and does not fit any more";
    char text[512] = "", path[128];
    struct rlimit all, some;
    struct error error = {0};
    empty_disk();
    snprintf(path, sizeof path, "%s", on_disk("history"));
    struct history *history = history_new(path);
    assert_true(history_add(history, "run 1", &error));
    fill_disk(0);
    getrlimit(RLIMIT_FSIZE, &all);
    some = all;
    some.rlim_cur = 20;
    if (!mounted)
        setrlimit(RLIMIT_FSIZE, &some);
    /* a page is taken already: so many lines still fit */
    int more = 0;
    while (history_add(history, line, &error) && more < 1000) {
        char other[32];
        snprintf(other, sizeof other, "run %d", ++more + 1);
        if (!history_add(history, other, &error))
            break;
    }
    setrlimit(RLIMIT_FSIZE, &all);
    assert_true(more < 1000);
    assert_int_equal(error.code, ERROR_FILE);
    assert_non_null(strstr(error.why, "the history is not kept: "));
    assert_true(history_add(history, "told once", NULL));
    history_free(history);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(text, sizeof text, file))
        assert_true(strncmp(text, "run ", 4) == 0 || strncmp(text, line, sizeof line - 1) == 0 ||
                    strcmp(text, "told once\n") == 0);
    assert_int_equal(text[strlen(text) - 1], '\n');
    fclose(file);
}

static void the_screen_is_saved_whole_or_not(void **state)
{
    (void)state;
    const char *argv[] = {program, "demo:digits", NULL};
    char path[128], line[256], state_home[128], config_home[128];
    empty_disk();
    snprintf(path, sizeof path, "%s", on_disk("screen.txt"));
    write_file(path, OLD);
    fill_disk(512);
    snprintf(state_home, sizeof state_home, "XDG_STATE_HOME=%s", cli_folder);
    snprintf(config_home, sizeof config_home, "XDG_CONFIG_HOME=%s", cli_folder);
    const char *const environment[] = {state_home, config_home, NULL};
    struct vt *vt = vt_start(24, 80, argv, environment);
    assert_true(vt_wait(vt, "live", 20000));
    snprintf(line, sizeof line, "save-display %s\r", path);
    vt_type(vt, line);
    if (!vt_wait(vt, "cannot be written", 20000))
        fail_msg("%s", vt_text(vt));
    vt_free(vt);
    expect_old("screen.txt");
    assert_int_equal(count_files(), 1);
}

static void standard_output_without_room_is_an_error(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        return;
    static const char *const options[] = {"--no-tui -c version", "--json -c version", "--version"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char command[4352], said[256] = "";
        snprintf(command, sizeof command, "%s %s 2>&1 >/dev/full </dev/null", program, options[i]);
        FILE *pipe = popen(command, "r");
        assert_non_null(pipe);
        bool told = fgets(said, sizeof said, pipe) != NULL;
        assert_int_equal(WEXITSTATUS(pclose(pipe)), 1);
        assert_true(i == 2 || (told && strstr(said, "standard output: cannot be written: No sp")));
    }
}

/* ---- both kinds of disk ---- */

/* The program as it is started where files have a limit. */
static int limit_files(void **state)
{
    char path[128];
    (void)state;
    mounted = false;
    snprintf(disk, sizeof disk, "%s/folder", cli_folder);
    mkdir(disk, 0777);
    snprintf(path, sizeof path, "%s/limited", cli_folder);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return -1;
    fprintf(file, "#!/bin/sh\ntrap '' XFSZ\nulimit -f %d\nexec '%s' \"$@\"\n", LIMIT / 512,
            program);
    fclose(file);
    chmod(path, 0755);
    signal(SIGXFSZ, SIG_IGN);
    setenv("LAYERTOP_BIN", path, 1);
    snprintf(program, sizeof program, "%s", path);
    return 0;
}

static int make_disk(void **state)
{
    const char *given = getenv("LAYERTOP_BIN");
    char *path = realpath(given ? given : "build/layertop", NULL);
    snprintf(program, sizeof program, "%s", path ? path : "");
    free(path);
    if (cli_make_folder(state) != 0)
        return -1;
    snprintf(disk, sizeof disk, "%s/disk", cli_folder);
    mounted = mkdir(disk, 0777) == 0 && mount_disk();
    if (!mounted)
        print_message("nothing can be mounted here: files with a limit stand for a full disk\n");
    return mounted ? 0 : limit_files(state);
}

static int remove_disk(void **state)
{
    umount(disk);
    return cli_remove_folder(state);
}

#define TESTS                                                                                      \
    cmocka_unit_test(what_is_written_leaves_the_old_file),                                         \
        cmocka_unit_test(settings_stay_as_they_were_saved),                                        \
        cmocka_unit_test(a_recording_is_told_at_once_and_plays),                                   \
        cmocka_unit_test(a_recording_that_cannot_be_packed_stays),                                 \
        cmocka_unit_test(the_history_keeps_whole_lines),                                           \
        cmocka_unit_test(the_screen_is_saved_whole_or_not)

int main(void)
{
    const struct CMUnitTest disk_tests[] = {
        TESTS, cmocka_unit_test(standard_output_without_room_is_an_error)};
    const struct CMUnitTest limit_tests[] = {TESTS};
    int failed = cmocka_run_group_tests_name("disk", disk_tests, make_disk, NULL);
    if (mounted)
        failed += cmocka_run_group_tests_name("limit", limit_tests, limit_files, NULL);
    remove_disk(NULL);
    return failed;
}
