/* A typed line: its words and values, and the editor that it is typed into. */
#include "tests/fuzz/fuzz.h"

#include "commands/command.h"
#include "commands/parse.h"
#include "commands/settings.h"
#include "tui/lineedit.h"

#include <stdlib.h>
#include <string.h>

/* A quoted word comes back as it was. */
static void check_quote(const char *word)
{
    struct parsed_line line;
    struct error error = {0};
    char *quoted = parse_quote(word);
    fuzz_must(parse_line(quoted, &line, &error));
    fuzz_must(line.count == 1 && line.commands[0].argc == 1);
    fuzz_must(strcmp(line.commands[0].argv[0], word) == 0);
    parsed_line_free(&line);
    free(quoted);
}

static void check_word(const char *word)
{
    struct error error = {0};
    int64_t numbers[64];
    uint64_t bytes;
    double milliseconds;
    char device[64];
    parse_integer(word, 0, INT64_MAX, "n", &numbers[0], &error);
    parse_size(word, "n", &bytes, &error);
    if (parse_time(word, "n", &milliseconds, &error))
        fuzz_must(milliseconds >= 0);
    fuzz_must(parse_list(word, "n", numbers, 64, &error) <= 64);
    fuzz_must(parse_range(word, "n", numbers, 64, &error) <= 64);
    parse_device(word, device, sizeof device, &error);
    for (size_t i = 0; i < setting_count(); i++) {
        char text[256];
        json_t *value = setting_parse(setting_at(i), word, &error);
        if (value != NULL)
            setting_format(setting_at(i), value, text, sizeof text);
        json_decref(value);
    }
    check_quote(word);
}

static void check_line(const char *text, size_t cursor)
{
    struct parsed_line line;
    struct parsed_cursor at;
    struct error error = {0};
    if (!parse_line(text, &line, &error))
        fuzz_must(error.code == ERROR_SYNTAX);
    for (size_t i = 0; i < line.count; i++) {
        fuzz_must(line.commands[i].argc > 0);
        command_find(line.commands[i].argv[0], &error);
        for (int j = 0; j < line.commands[i].argc; j++)
            check_word(line.commands[i].argv[j]);
    }
    parsed_line_free(&line);
    parse_cursor(text, cursor, &at);
    fuzz_must(at.start <= cursor);
    parsed_cursor_free(&at);
}

static void take_key(void *context, const struct input *key)
{
    static char first[] = "alpha", second[] = "alphabet", third[] = "alp\xc3\xa9";
    static char *const candidates[] = {first, second, third, NULL};
    struct lineedit *editor = context;
    switch (lineedit_key(editor, key)) {
    case LINEEDIT_ACCEPT: {
        char *line = lineedit_take(editor);
        lineedit_history_add(editor, line);
        free(line);
        break;
    }
    case LINEEDIT_COMPLETE: {
        struct parsed_cursor at;
        parse_cursor(lineedit_text(editor), lineedit_cursor(editor), &at);
        lineedit_offer(editor, at.start, candidates);
        parsed_cursor_free(&at);
        break;
    }
    default:
        break;
    }
    fuzz_must(lineedit_cursor(editor) <= strlen(lineedit_text(editor)));
    json_t *text = json_string(lineedit_text(editor)); /* NULL unless it is UTF-8 */
    fuzz_must(text != NULL);
    json_decref(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096)
        return 0;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    check_line(text, strlen(text) / 2);
    struct input_decoder decoder = {0};
    struct lineedit *editor = lineedit_new();
    input_feed(&decoder, text, size, take_key, editor);
    input_flush(&decoder, take_key, editor);
    check_line(lineedit_text(editor), lineedit_cursor(editor));
    lineedit_free(editor);
    free(text);
    return 0;
}
