#include "support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole file, or "" if there is none; to be freed. */
static char *read_file(const char *path)
{
    char *text = calloc(1, 1 << 20);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        size_t count = fread(text, 1, (1 << 20) - 1, file);
        text[count] = '\0';
        fclose(file);
    }
    return text;
}

/* Line by line: cmocka cuts long messages. */
static void print_lines(const char *title, const char *text)
{
    print_error("--- %s\n", title);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        print_error("%.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

void golden_check(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s.txt", name);
    const char *update = getenv("UPDATE");
    if (update != NULL && strcmp(update, "1") == 0) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        return;
    }
    char *golden = read_file(path);
    bool same = strcmp(golden, text) == 0;
    if (!same) {
        print_lines(path, golden);
        print_lines("now (UPDATE=1 rewrites the file)", text);
    }
    free(golden);
    if (!same)
        fail_msg("%s differs", path);
}
