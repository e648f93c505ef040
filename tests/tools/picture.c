/* Takes a picture of a program in a terminal.
 *
 *   picture OUT.svg COLSxROWS STEP... -- PROGRAM [ARGUMENT...]
 *
 * A STEP is `wait:SECONDS`, `line:TEXT` (typed, then Enter) or `for:REGEX` (waits up to a minute
 * until the screen shows it). PROGRAM is a path. */
#include "support/vt.h"
#include "support/vt_picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 60000

static bool take_step(struct vt *vt, const char *step)
{
    if (strncmp(step, "wait:", 5) == 0) {
        vt_pump(vt, (int)(strtod(step + 5, NULL) * 1000));
    } else if (strncmp(step, "line:", 5) == 0) {
        vt_type(vt, step + 5);
        vt_type(vt, "\r");
    } else if (strncmp(step, "for:", 4) == 0) {
        return vt_wait(vt, step + 4, PATIENCE_MS);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    int rows, cols, at = 3;
    if (argc < 5 || sscanf(argv[2], "%dx%d", &cols, &rows) != 2) {
        fputs("picture OUT.svg COLSxROWS STEP... -- PROGRAM [ARGUMENT...]\n", stderr);
        return 2;
    }
    int program = at;
    while (program < argc && strcmp(argv[program], "--") != 0)
        program++;
    if (program + 1 >= argc) {
        fputs("picture: no program after --\n", stderr);
        return 2;
    }
    struct vt *vt = vt_start(rows, cols, (const char *const *)(argv + program + 1), NULL);
    bool good = vt != NULL;
    for (; good && at < program; at++) {
        good = take_step(vt, argv[at]);
        if (!good)
            fprintf(stderr, "picture: '%s' is no step, or never came\n", argv[at]);
    }
    FILE *out = good ? fopen(argv[1], "w") : NULL;
    if (out != NULL)
        vt_picture(vt, out);
    good = out != NULL && fclose(out) == 0;
    vt_free(vt);
    if (!good)
        perror(argv[1]);
    return good ? 0 : 1;
}
