/* Golden screens: every tests/screens/NAME.script is performed on a stage, and what the terminal
 * showed is held against NAME.txt. UPDATE=1 in the environment rewrites the pictures; names on the
 * command line choose scripts. */
#include "support/golden.h"
#include "support/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDER "tests/screens/"

static int forget(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static void looks_like_its_picture(void **state)
{
    const char *name = *state;
    char script[512], picture[512], output[64], home[] = "/tmp/layertop-stage-XXXXXX";
    assert_non_null(mkdtemp(home));
    snprintf(script, sizeof script, FOLDER "%s.script", name);
    snprintf(picture, sizeof picture, FOLDER "%s.txt", name);
    snprintf(output, sizeof output, "%s/output", home);
    char *why = stage_perform(script, output, home);
    char *text = golden_read(output);
    nftw(home, forget, 8, FTW_DEPTH | FTW_PHYS);
    if (why != NULL) {
        golden_print(why, text);
        free(why);
        free(text);
        fail_msg("%s failed", script);
    }
    bool same = golden_same(picture, text);
    free(text);
    if (!same)
        fail_msg("%s differs", picture);
}

static bool chosen(const char *name, int argc, char *const argv[])
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

int main(int argc, char *argv[])
{
    stage_worker(argc, argv);
    glob_t scripts;
    if (glob(FOLDER "*.script", 0, NULL, &scripts) != 0)
        return 1;
    struct CMUnitTest *tests = calloc(scripts.gl_pathc, sizeof *tests);
    size_t count = 0;
    for (size_t i = 0; i < scripts.gl_pathc; i++) {
        char *name = scripts.gl_pathv[i] + strlen(FOLDER);
        *strrchr(name, '.') = '\0';
        if (chosen(name, argc, argv))
            tests[count++] = (struct CMUnitTest){
                .name = name, .test_func = looks_like_its_picture, .initial_state = name};
    }
    int code = _cmocka_run_group_tests("screens", tests, count, NULL, NULL);
    free(tests);
    globfree(&scripts);
    return code;
}
