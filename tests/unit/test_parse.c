/* Words, values and near words out of typed text. */
#include "commands/format.h"
#include "commands/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

/* Write a parsed line as [a|b] [c] so that one string says it all. */
static void expect_line(const char *text, const char *expected, bool ok)
{
    struct parsed_line line;
    struct error error = {0};
    char out[512] = "";
    bool result = parse_line(text, &line, &error);
    for (size_t i = 0; i < line.count; i++) {
        strcat(out, i ? " [" : "[");
        for (int j = 0; j < line.commands[i].argc; j++) {
            strcat(out, j ? "|" : "");
            strcat(out, line.commands[i].argv[j]);
        }
        assert_null(line.commands[i].argv[line.commands[i].argc]);
        strcat(out, "]");
    }
    assert_string_equal(out, expected);
    assert_int_equal(result, ok);
    assert_int_equal(error.code, ok ? ERROR_NONE : ERROR_SYNTAX);
    parsed_line_free(&line);
}

static void lines_split_into_commands_and_words(void **state)
{
    (void)state;
    expect_line("", "", true);
    expect_line("  \t ; ;; ", "", true);
    expect_line("run 10", "[run|10]", true);
    expect_line("a;b c ;d", "[a] [b|c] [d]", true);
    expect_line("a b # c; d", "[a|b]", true);
    expect_line("# all of it", "", true);
    expect_line("a#b #c", "[a#b]", true);
    expect_line("a\nb", "[a|b]", true);
    expect_line("a #x\nb", "[a|b]", true);
}

static void words_are_quoted_as_in_sh(void **state)
{
    (void)state;
    expect_line("load 'my model; #1.h5'", "[load|my model; #1.h5]", true);
    expect_line("a \"b \\\"c\\\" \\\\ \\n\"", "[a|b \"c\" \\ \\n]", true);
    expect_line("a\\ b", "[a b]", true);
    expect_line("a'b'\"c\"d", "[abcd]", true);
    expect_line("a '' \"\"", "[a||]", true);
    expect_line("'it'\\''s'", "[it's]", true);
    expect_line("a; b 'c", "[a]", false);
    expect_line("a \"c", "", false);
    expect_line("a\\", "", false);
}

static void quoted_words_are_read_back(void **state)
{
    (void)state;
    static const char *const words[] = {"plain", "",          "two words",   "it's",
                                        "a;b",   "#x",        "\"",          "\\",
                                        "$HOME", "tab\there", "na\xc3\xafve"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *quoted = parse_quote(words[i]);
        struct parsed_line line;
        assert_true(parse_line(quoted, &line, NULL));
        assert_int_equal(line.count, 1);
        assert_int_equal(line.commands[0].argc, 1);
        assert_string_equal(line.commands[0].argv[0], words[i]);
        parsed_line_free(&line);
        free(quoted);
    }
}

static void the_word_at_the_cursor(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t cursor;
        int argc;
        const char *word;
        size_t start;
        char quote;
    } cases[] = {
        {"", 0, 0, "", 0, 0},
        {"ru", 2, 0, "ru", 0, 0},
        {"run ", 4, 1, "", 4, 0},
        {"run 10", 5, 1, "1", 4, 0},
        {"a; set ba", 9, 1, "ba", 7, 0},
        {"a;", 2, 0, "", 2, 0},
        {"load 'my mo", 11, 1, "my mo", 5, '\''},
        {"load my\\ mo", 11, 1, "my mo", 5, 0},
        {"load x", 99, 1, "x", 5, 0},
        {"a # b", 5, 1, "", 5, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parsed_cursor at;
        parse_cursor(cases[i].text, cases[i].cursor, &at);
        assert_int_equal(at.argc, cases[i].argc);
        assert_string_equal(at.word, cases[i].word);
        assert_int_equal(at.start, cases[i].start);
        assert_int_equal(at.quote, cases[i].quote);
        parsed_cursor_free(&at);
    }
}

static void integers_keep_their_range(void **state)
{
    (void)state;
    int64_t value = 7;
    struct error error;
    assert_true(parse_integer("32", 1, 100, "n", &value, NULL));
    assert_int_equal(value, 32);
    assert_true(parse_integer("-3", -5, 5, "n", &value, NULL));
    assert_int_equal(value, -3);
    static const char *const bad[] = {
        "", "0", "101", "3x", "x", " 3", "1e2", "0x10", "99999999999999999999", "3 ", "-", "+"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(parse_integer(bad[i], 1, 100, "n", &value, &error));
        assert_int_equal(error.code, ERROR_VALUE);
        assert_int_equal(value, -3);
    }
}

static void sizes_and_times_have_units(void **state)
{
    (void)state;
    uint64_t bytes;
    double ms;
    struct error error;
    assert_true(parse_size("512MiB", "s", &bytes, NULL));
    assert_int_equal(bytes, 512u << 20);
    assert_true(parse_size("1.5g", "s", &bytes, NULL));
    assert_int_equal(bytes, 3u << 29);
    assert_true(parse_size("2 GB", "s", &bytes, NULL));
    assert_int_equal(bytes, 2000000000);
    assert_true(parse_size("8192", "s", &bytes, NULL));
    assert_int_equal(bytes, 8192);
    static const char *const bad_sizes[] = {"",    "MiB", "-1",   "1XiB",
                                            "1e9", "nan", "0x10", "9999999TiB"};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
        assert_false(parse_size(bad_sizes[i], "s", &bytes, &error));
        assert_int_equal(error.code, ERROR_VALUE);
    }
    assert_true(parse_time("25ms", "t", &ms, NULL));
    assert_true(fabs(ms - 25) < 1e-12);
    assert_true(parse_time("1.5s", "t", &ms, NULL));
    assert_true(fabs(ms - 1500) < 1e-12);
    assert_true(parse_time("300us", "t", &ms, NULL));
    assert_true(fabs(ms - 0.3) < 1e-12);
    assert_true(parse_time("10", "t", &ms, NULL));
    assert_true(fabs(ms - 10) < 1e-12);
    assert_false(parse_time("10 days", "t", &ms, &error));
    assert_false(parse_time("-1s", "t", &ms, &error));
    assert_false(parse_time("", "t", &ms, &error));
}

static void lists_and_ranges(void **state)
{
    (void)state;
    int64_t out[16];
    struct error error;
    assert_int_equal(parse_list("0,1,4", "l", out, 16, NULL), 3);
    assert_int_equal(out[2], 4);
    assert_int_equal(parse_list("3", "l", out, 16, NULL), 1);
    assert_int_equal(parse_list("0,,1", "l", out, 16, &error), 0);
    assert_int_equal(parse_list("0,1,", "l", out, 16, &error), 0);
    assert_int_equal(parse_list("", "l", out, 16, &error), 0);
    assert_int_equal(parse_list("1,2,3", "l", out, 2, &error), 0);
    assert_int_equal(parse_range("1..256x2", "r", out, 16, NULL), 9);
    assert_int_equal(out[8], 256);
    assert_int_equal(parse_range("8..64+8", "r", out, 16, NULL), 8);
    assert_int_equal(out[1], 16);
    assert_int_equal(parse_range("1..10x3", "r", out, 16, NULL), 3); /* 1 3 9 */
    assert_int_equal(parse_range("5", "r", out, 16, NULL), 1);
    assert_int_equal(parse_range("1..3", "r", out, 16, NULL), 3);
    static const char *const bad[] = {"",    "0..3",  "5..1",  "1..9x1", "1..9+0",   "1..",
                                      "..3", "1...3", "1..99", "a..b",   "1..9x2x2", "-1..3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse_range(bad[i], "r", out, 16, &error), 0);
}

static void devices_in_every_spelling(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"0", "gpu:0"},
        {"gpu:1", "gpu:1"},
        {"GPU:1", "gpu:1"},
        {"/GPU:0", "gpu:0"},
        {"/gpu:2", "gpu:2"},
        {"/device:GPU:3", "gpu:3"},
        {"gpu", "gpu:0"},
        {"cpu", "cpu"},
        {"CPU", "cpu"},
        {"/CPU:0", "cpu"},
        {"cpu:0", "cpu"},
        {"/physical_device:GPU:0", "gpu:0"},
        {"GPU-8f3a12", "GPU-8f3a12"},
        {"MIG-8f3a12/1/0", "MIG-8f3a12/1/0"},
    };
    char out[64];
    struct error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(parse_device(cases[i][0], out, sizeof out, NULL));
        assert_string_equal(out, cases[i][1]);
    }
    static const char *const bad[] = {"",        "-1", "gpu:", "gpu:x", "tpu:0", "GPU-",
                                      "GPU-a;b", "1x", "0,1",  "cpu:1", "99999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(parse_device(bad[i], out, sizeof out, &error));
        assert_int_equal(error.code, ERROR_VALUE);
        assert_true(error.hint[0]);
    }
}

static void near_words(void **state)
{
    (void)state;
    static const char *const words[] = {"batch", "growth", "graph", "run", "load"};
    assert_int_equal(edit_distance("batch", "batch"), 0);
    assert_int_equal(edit_distance("btach", "batch"), 1);
    assert_int_equal(edit_distance("Batc", "batch"), 1);
    assert_int_equal(edit_distance("", "run"), 3);
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    assert_string_equal(nearest_word("btach", words, 5), "batch");
    assert_string_equal(nearest_word("lod", words, 5), "load");
    assert_null(nearest_word("xyzzy", words, 5));
    assert_null(nearest_word("x", words, 5)); /* everything short is near everything short */
}

static void numbers_for_people(void **state)
{
    (void)state;
    char out[64];
    assert_string_equal(format_time_ms(out, sizeof out, 0.0123), "12.3 us");
    assert_string_equal(format_time_ms(out, sizeof out, 12.345), "12.3 ms");
    assert_string_equal(format_time_ms(out, sizeof out, 1240), "1.24 s");
    assert_string_equal(format_time_ms(out, sizeof out, (double)NAN), "-");
    assert_string_equal(format_bytes(out, sizeof out, 512), "512 B");
    assert_string_equal(format_bytes(out, sizeof out, 3.41 * 1073741824), "3.41 GiB");
    assert_string_equal(format_count(out, sizeof out, 812), "812");
    assert_string_equal(format_count(out, sizeof out, 25.6e6), "25.6 M");
    assert_string_equal(format_percent(out, sizeof out, 0.342), "34.2 %");
    assert_string_equal(format_deviation(out, sizeof out, 100, 101.6), "+1.6 %");
    assert_string_equal(format_bar(out, sizeof out, 0.5, 8, 0), "####");
    assert_string_equal(format_bar(out, sizeof out, 0.001, 8, 0), "#");
    assert_string_equal(format_bar(out, sizeof out, 0, 8, 0), "");
    assert_string_equal(format_bar(out, sizeof out, 0.5625, 2, 1), "\xe2\x96\x88\xe2\x96\x8f");
    json_t *null = json_number((double)INFINITY);
    assert_true(json_is_null(null));
    json_decref(null);
}

/* Whatever is typed, words come out that can be quoted and read back, and nothing is read beyond
 * the end. */
static void any_bytes_are_a_line(void **state)
{
    (void)state;
    static const char letters[] = "ab \t;#'\"\\$\n\x1b\xc3\xa9,.0x+-%";
    uint32_t random = 1;
    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t length = 0;
        for (size_t i = 0; i < sizeof text - 1; i++) {
            random = random * 1664525 + 1013904223;
            if ((random >> 16) % sizeof text == 0)
                break;
            text[length++] = letters[(random >> 8) % (sizeof letters - 1)];
        }
        text[length] = '\0';
        struct parsed_line line, again;
        struct error error;
        parse_line(text, &line, &error);
        for (size_t i = 0; i < line.count; i++) {
            assert_true(line.commands[i].argc > 0);
            char *quoted = parse_quote(line.commands[i].argv[0]);
            assert_true(parse_line(quoted, &again, NULL));
            assert_string_equal(again.commands[0].argv[0], line.commands[i].argv[0]);
            parsed_line_free(&again);
            free(quoted);
        }
        parsed_line_free(&line);
        for (size_t cursor = 0; cursor <= length; cursor++) {
            struct parsed_cursor word;
            parse_cursor(text, cursor, &word);
            assert_true(word.start <= cursor);
            parsed_cursor_free(&word);
        }
        uint64_t bytes;
        double ms;
        int64_t values[4];
        char device[16];
        parse_size(text, "s", &bytes, NULL);
        parse_time(text, "t", &ms, NULL);
        parse_range(text, "r", values, 4, NULL);
        parse_list(text, "l", values, 4, NULL);
        parse_device(text, device, sizeof device, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_split_into_commands_and_words),
        cmocka_unit_test(words_are_quoted_as_in_sh),
        cmocka_unit_test(quoted_words_are_read_back),
        cmocka_unit_test(the_word_at_the_cursor),
        cmocka_unit_test(integers_keep_their_range),
        cmocka_unit_test(sizes_and_times_have_units),
        cmocka_unit_test(lists_and_ranges),
        cmocka_unit_test(devices_in_every_spelling),
        cmocka_unit_test(near_words),
        cmocka_unit_test(numbers_for_people),
        cmocka_unit_test(any_bytes_are_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
