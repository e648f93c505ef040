#include "support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *golden_read(const char *path)
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
void golden_print(const char *title, const char *text)
{
    print_error("--- %s\n", title);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        print_error("%.*s\n", (int)length, text);
        text += length + (text[length] == '\n');
    }
}

bool golden_same(const char *path, const char *text)
{
    const char *update = getenv("UPDATE");
    if (update != NULL && strcmp(update, "1") == 0) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
        return true;
    }
    char *golden = golden_read(path);
    bool same = strcmp(golden, text) == 0;
    if (!same) {
        golden_print(path, golden);
        golden_print("now (UPDATE=1 rewrites the file)", text);
    }
    free(golden);
    return same;
}

void golden_check(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s.txt", name);
    if (!golden_same(path, text))
        fail_msg("%s differs", path);
}
