/* The line editor and the decoder before it: strings of keys in, text and cursor out. */
#include "engine/error.h"
#include "tui/lineedit.h"
#include "tui/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

struct session {
    struct lineedit *editor;
    struct input_decoder decoder;
    enum lineedit_result last;
    int accepted, completes;
};

static void on_key(void *context, const struct input *key)
{
    struct session *session = context;
    session->last = lineedit_key(session->editor, key);
    if (session->last == LINEEDIT_ACCEPT) {
        char *line = lineedit_take(session->editor);
        lineedit_history_add(session->editor, line);
        free(line);
        session->accepted++;
    }
    session->completes += session->last == LINEEDIT_COMPLETE;
}

static void type(struct session *session, const char *keys)
{
    input_feed(&session->decoder, keys, strlen(keys), on_key, session);
    if (input_pending(&session->decoder))
        input_flush(&session->decoder, on_key, session);
    assert_false(input_pending(&session->decoder));
}

static struct session start(void)
{
    return (struct session){.editor = lineedit_new()};
}

/* "ab|cd": the text with the cursor in it. */
static const char *shown(const struct session *session)
{
    static char out[LINEEDIT_BYTES + 2];
    const char *text = lineedit_text(session->editor);
    size_t cursor = lineedit_cursor(session->editor);
    assert_true(cursor <= strlen(text));
    memcpy(out, text, cursor);
    out[cursor] = '|';
    strcpy(out + cursor + 1, text + cursor);
    return out;
}

#define C_A   "\001"
#define C_E   "\005"
#define C_K   "\013"
#define C_R   "\022"
#define C_T   "\024"
#define C_U   "\025"
#define C_W   "\027"
#define C_Y   "\031"
#define UNDO  "\037"
#define LEFT  "\033[D"
#define RIGHT "\033[C"
#define UP    "\033[A"
#define DOWN  "\033[B"

static void keys_edit(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *shown;
    } cases[] = {
        {"abc", "abc|"},
        {"abc\177", "ab|"},
        {"abc" LEFT LEFT "x", "ax|bc"},
        {"abc" C_A "x" C_E "y", "xabcy|"},
        {"abc" LEFT "\033[3~", "ab|"},
        {"abc\033[H\004", "|bc"},
        {"abc\033OHx\033OFy", "xabcy|"},
        {"batch 32" C_W, "batch |"},
        {"batch 32" C_W C_W, "|"},
        {"batch 32" C_W C_W C_Y, "batch 32|"}, /* kills join, in the order of the text */
        {"batch 32" C_A C_K C_Y C_Y, "batch 32batch 32|"},
        {"one two" C_U, "|"},
        {"one two\033b\033b" C_K, "|"},
        {"one two" C_A "\033f\033d", "one|"},
        {"one two" C_A "\033d\033d" C_Y, "one two|"},
        {"one two\033\177", "one |"},
        {"one two\033[1;5D", "one |two"},
        {"one two\033[1;5D\033[1;5C", "one two|"},
        {"abc" C_T, "acb|"},
        {"abc" LEFT LEFT C_T, "ba|c"},
        {"abc" C_U UNDO, "abc|"},
        {"one two" C_W UNDO UNDO, "one|"}, /* a word is a step */
        {"one two" UNDO UNDO UNDO UNDO, "|"},
        {"h\303\244\303\266" LEFT "\177", "h|\303\266"},
        {"\346\227\245\346\234\254" LEFT "x", "\346\227\245x|\346\234\254"},
        {"e\314\201x" LEFT LEFT "\004", "|x"}, /* a letter goes with its accent */
        {"a\377b", "a\357\277\275b|"},         /* malformed input */
        {"a\033[200~b\nc\td\033[201~e", "ab\nc de|"},
        {"x\033[200~rm\033[A\003\033[201~", "xrm[A|"}, /* nothing pasted is a key */
        {"x\033[200~long paste here\033[201~" UNDO, "x|"},
        {"a\033[99~b\033[1;2;3zc\033[?1;2cd", "abcd|"}, /* unknown sequences leave no trace */
        {"\033\033[Da", "a|"},
        {"\033Oa", "|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct session session = start();
        type(&session, cases[i].keys);
        if (strcmp(shown(&session), cases[i].shown) != 0)
            fail_msg("case %zu: '%s', not '%s'", i, shown(&session), cases[i].shown);
        lineedit_free(session.editor);
    }
}

static void sequences_survive_any_cut(void **state)
{
    (void)state;
    const char keys[] = "ab\303\244" LEFT "\033[1;5D\033[200~x\xe2\x8f\x8ey\033[201~\033OFz";
    struct session whole = start();
    type(&whole, keys);
    char expected[64];
    strcpy(expected, shown(&whole));
    for (size_t cut = 1; cut + 1 < sizeof keys; cut++) {
        struct session session = start();
        input_feed(&session.decoder, keys, cut, on_key, &session);
        input_feed(&session.decoder, keys + cut, sizeof keys - 1 - cut, on_key, &session);
        assert_string_equal(shown(&session), expected);
        lineedit_free(session.editor);
    }
    lineedit_free(whole.editor);
}

static void escape_alone_is_a_key(void **state)
{
    (void)state;
    struct session session = start();
    input_feed(&session.decoder, "\033", 1, on_key, &session);
    assert_true(input_pending(&session.decoder));
    session.last = LINEEDIT_CHANGED;
    input_flush(&session.decoder, on_key, &session);
    assert_int_equal(session.last, LINEEDIT_IGNORED);
    lineedit_free(session.editor);
}

static void history_walks_and_keeps_the_line(void **state)
{
    (void)state;
    struct session session = start();
    type(&session, "batch 1\rbatch 2\rbatch 2\rrun\r");
    assert_int_equal(session.accepted, 4);
    type(&session, "half" UP);
    assert_string_equal(shown(&session), "run|");
    type(&session, UP);
    assert_string_equal(shown(&session), "batch 2|");
    type(&session, UP); /* equal neighbours are one */
    assert_string_equal(shown(&session), "batch 1|");
    type(&session, UP);
    assert_int_equal(session.last, LINEEDIT_BELL);
    type(&session, DOWN DOWN DOWN);
    assert_string_equal(shown(&session), "half|");
    type(&session, "\033<");
    assert_string_equal(shown(&session), "batch 1|");
    type(&session, "\033>");
    assert_string_equal(shown(&session), "half|");
    lineedit_free(session.editor);
}

static void search_finds_backwards(void **state)
{
    (void)state;
    struct session session = start();
    const char *pattern;
    bool failed;
    type(&session, "batch 1\rrun 10\rbatch 2\rshow\r");
    type(&session, "typed" C_R "ba");
    assert_true(lineedit_searching(session.editor, &pattern, &failed));
    assert_string_equal(pattern, "ba");
    assert_string_equal(shown(&session), "|batch 2");
    type(&session, C_R);
    assert_string_equal(shown(&session), "|batch 1");
    type(&session, C_R);
    assert_true(lineedit_searching(session.editor, &pattern, &failed) && failed);
    type(&session, "\007"); /* Ctrl-G: as it was */
    assert_string_equal(shown(&session), "typed|");
    type(&session, C_R "run" C_E "0"); /* a key of the editor leaves the search and counts */
    assert_string_equal(shown(&session), "run 100|");
    type(&session, C_U C_R "show\r");
    assert_int_equal(session.accepted, 5);
    lineedit_free(session.editor);
}

static void candidates_complete(void **state)
{
    (void)state;
    struct session session = start();
    size_t count;
    int chosen;
    type(&session, "ba\t");
    assert_int_equal(session.last, LINEEDIT_COMPLETE);
    lineedit_offer(session.editor, 0, (char *[]){(char *)(uintptr_t) "batch", NULL});
    assert_string_equal(shown(&session), "batch |");
    type(&session, C_U "p");
    char *two[] = {(char *)(uintptr_t) "precision", (char *)(uintptr_t) "predict", NULL};
    lineedit_offer(session.editor, 0, two);
    assert_string_equal(shown(&session), "pre|");
    assert_null(lineedit_list(session.editor, &count, &chosen));
    lineedit_offer(session.editor, 0, two); /* nothing to add: the list opens */
    assert_non_null(lineedit_list(session.editor, &count, &chosen));
    assert_int_equal(count, 2);
    assert_int_equal(chosen, -1);
    type(&session, "\t");
    assert_string_equal(shown(&session), "precision|");
    type(&session, "\t");
    assert_string_equal(shown(&session), "predict|");
    type(&session, "\033[Z");
    assert_string_equal(shown(&session), "precision|");
    type(&session, "\033"); /* Escape: as typed */
    assert_string_equal(shown(&session), "pre|");
    assert_null(lineedit_list(session.editor, &count, &chosen));
    lineedit_offer(session.editor, 0, two);
    type(&session, "\tx"); /* a letter goes on behind the chosen one */
    assert_string_equal(shown(&session), "precisionx|");
    type(&session, C_U "load mo" LEFT LEFT);
    lineedit_offer(session.editor, 5, (char *[]){(char *)(uintptr_t) "models/", NULL});
    assert_string_equal(shown(&session), "load models/|mo");
    lineedit_offer(session.editor, 5, (char *[]){NULL});
    assert_string_equal(shown(&session), "load models/|mo");
    lineedit_free(session.editor);
}

static void a_line_has_an_end(void **state)
{
    (void)state;
    struct session session = start();
    char chunk[1025];
    memset(chunk, 'x', 1024);
    chunk[1024] = '\0';
    for (int i = 0; i < 40; i++)
        type(&session, chunk);
    assert_int_equal(strlen(lineedit_text(session.editor)), LINEEDIT_BYTES);
    assert_int_equal(session.last, LINEEDIT_BELL);
    type(&session, C_U);
    assert_string_equal(lineedit_text(session.editor), "");
    type(&session, "\004");
    assert_int_equal(session.last, LINEEDIT_END);
    lineedit_free(session.editor);
}

static bool well_formed(const char *text)
{
    size_t bytes = strlen(text);
    while (bytes > 0) {
        uint32_t point;
        size_t length = utf8_decode(text, bytes, &point);
        if (point == UTF8_REPLACEMENT && length == 1)
            return false;
        text += length;
        bytes -= length;
    }
    return true;
}

/* Random bytes with a taste for sequences: the text stays well formed and the cursor inside. */
static void random_keys_keep_it_valid(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        LEFT,       RIGHT,       UP,          DOWN,       C_A,
        C_E,        C_K,         C_R,         C_T,        C_U,
        C_W,        C_Y,         UNDO,        "\033b",    "\033f",
        "\033d",    "\r",        "\177",      "\t",       "\004",
        "\007",     "\033[200~", "\033[201~", "\303\244", "\346\227\245",
        "\314\201", "\033[3~",   "\033",      " ",        "\033[Z",
        "\033<"};
    uint32_t seed = 12345;
    struct session session = start();
    for (int i = 0; i < 60000; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t pick = seed >> 16;
        if (pick % 3 == 0) {
            char byte[2] = {(char)(pick >> 4 & 255), '\0'};
            input_feed(&session.decoder, byte, 1, on_key, &session);
        } else {
            const char *piece = pieces[pick / 3 % (sizeof pieces / sizeof pieces[0])];
            input_feed(&session.decoder, piece, strlen(piece), on_key, &session);
        }
        if (pick % 17 == 0)
            input_flush(&session.decoder, on_key, &session);
        if (session.completes > 0) {
            session.completes = 0;
            lineedit_offer(
                session.editor, lineedit_cursor(session.editor) / 2 * 0,
                (char *[]){(char *)(uintptr_t) "\303\244a", (char *)(uintptr_t) "\303\266", NULL});
        }
        size_t cursor = lineedit_cursor(session.editor);
        const char *text = lineedit_text(session.editor);
        assert_true(cursor <= strlen(text));
        assert_true(((unsigned char)text[cursor] & 0xc0) != 0x80);
        if (i % 64 == 0)
            assert_true(well_formed(text));
    }
    input_flush(&session.decoder, on_key, &session);
    lineedit_free(session.editor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_edit),
        cmocka_unit_test(sequences_survive_any_cut),
        cmocka_unit_test(escape_alone_is_a_key),
        cmocka_unit_test(history_walks_and_keeps_the_line),
        cmocka_unit_test(search_finds_backwards),
        cmocka_unit_test(candidates_complete),
        cmocka_unit_test(a_line_has_an_end),
        cmocka_unit_test(random_keys_keep_it_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
