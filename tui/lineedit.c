#include "tui/lineedit.h"
#include "engine/error.h"
#include "tui/utf8.h"

#include <stdlib.h>
#include <string.h>

#define UNDO_STEPS  64
#define HISTORY_MAX 1000

struct undo {
    char *text;
    size_t cursor;
};

struct lineedit {
    char text[LINEEDIT_BYTES + 1];
    size_t bytes, cursor;

    char *killed;        /* what Ctrl-Y brings back */
    bool kill_goes_on;   /* the key before was a kill: kills next to each other join */
    bool insert_goes_on; /* the key before typed a character: one undo step for a word */
    bool paste_goes_on;  /* one undo step for a paste */
    struct undo undo[UNDO_STEPS];
    size_t undo_count;

    char **history;
    size_t history_count, history_at; /* at == count: the line being typed */
    char *unsent;                     /* that line, while the history is shown */

    bool searching, search_failed;
    char pattern[256];
    size_t pattern_bytes, search_at; /* history index of the match; count: none */
    char *search_origin;

    char **candidates; /* the open list */
    size_t candidate_count, candidate_start;
    int candidate_chosen;
    size_t candidate_end; /* end of the word in the text now */
};

struct lineedit *lineedit_new(void)
{
    return xcalloc(1, sizeof(struct lineedit));
}

static void list_close(struct lineedit *editor)
{
    for (size_t i = 0; i < editor->candidate_count; i++)
        free(editor->candidates[i]);
    free(editor->candidates);
    editor->candidates = NULL;
    editor->candidate_count = 0;
}

static void undo_clear(struct lineedit *editor)
{
    while (editor->undo_count > 0)
        free(editor->undo[--editor->undo_count].text);
}

void lineedit_free(struct lineedit *editor)
{
    if (editor == NULL)
        return;
    list_close(editor);
    undo_clear(editor);
    for (size_t i = 0; i < editor->history_count; i++)
        free(editor->history[i]);
    free(editor->history);
    free(editor->killed);
    free(editor->unsent);
    free(editor->search_origin);
    free(editor);
}

const char *lineedit_text(const struct lineedit *editor)
{
    return editor->text;
}

size_t lineedit_cursor(const struct lineedit *editor)
{
    return editor->cursor;
}

static void undo_push(struct lineedit *editor)
{
    if (editor->undo_count == UNDO_STEPS) {
        free(editor->undo[0].text);
        memmove(editor->undo, editor->undo + 1, (UNDO_STEPS - 1) * sizeof editor->undo[0]);
        editor->undo_count--;
    }
    editor->undo[editor->undo_count++] = (struct undo){xstrdup(editor->text), editor->cursor};
}

static bool undo_pop(struct lineedit *editor)
{
    if (editor->undo_count == 0)
        return false;
    struct undo *undo = &editor->undo[--editor->undo_count];
    editor->bytes = strlen(undo->text);
    memcpy(editor->text, undo->text, editor->bytes + 1);
    editor->cursor = undo->cursor;
    free(undo->text);
    return true;
}

/* Insert text that is known to be well formed; drops what does not fit, whole characters only. */
static void insert(struct lineedit *editor, const char *text, size_t bytes)
{
    if (bytes > LINEEDIT_BYTES - editor->bytes)
        return;
    memmove(editor->text + editor->cursor + bytes, editor->text + editor->cursor,
            editor->bytes - editor->cursor + 1);
    memcpy(editor->text + editor->cursor, text, bytes);
    editor->bytes += bytes;
    editor->cursor += bytes;
}

static void erase(struct lineedit *editor, size_t from, size_t to)
{
    memmove(editor->text + from, editor->text + to, editor->bytes - to + 1);
    editor->bytes -= to - from;
    if (editor->cursor > to)
        editor->cursor -= to - from;
    else if (editor->cursor > from)
        editor->cursor = from;
}

void lineedit_set(struct lineedit *editor, const char *text)
{
    size_t bytes = strlen(text);
    editor->bytes = editor->cursor = 0;
    editor->text[0] = '\0';
    while (bytes > 0) {
        uint32_t point;
        char encoded[4];
        size_t length = utf8_decode(text, bytes, &point);
        insert(editor, encoded, utf8_encode(point, encoded));
        text += length;
        bytes -= length;
    }
}

char *lineedit_take(struct lineedit *editor)
{
    char *text = xstrdup(editor->text);
    lineedit_set(editor, "");
    undo_clear(editor);
    list_close(editor);
    editor->history_at = editor->history_count;
    editor->searching = false;
    return text;
}

/* Offset of the character before or after `at`; combining characters go with their base. */
static size_t step_back(const struct lineedit *editor, size_t at)
{
    while (at > 0) {
        do
            at--;
        while (at > 0 && ((unsigned char)editor->text[at] & 0xc0) == 0x80);
        uint32_t point;
        utf8_decode(editor->text + at, editor->bytes - at, &point);
        if (point < 0x300 || utf8_width(point) > 0)
            break;
    }
    return at;
}

static size_t step_on(const struct lineedit *editor, size_t at)
{
    bool first = true;
    while (at < editor->bytes) {
        uint32_t point;
        size_t length = utf8_decode(editor->text + at, editor->bytes - at, &point);
        if (!first && (point < 0x300 || utf8_width(point) > 0))
            break;
        at += length;
        first = false;
    }
    return at;
}

static bool is_word(unsigned char byte)
{
    return byte >= 0x80 || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= 'a' && byte <= 'z');
}

static size_t word_back(const struct lineedit *editor, size_t at)
{
    while (at > 0 && !is_word((unsigned char)editor->text[at - 1]))
        at--;
    while (at > 0 && is_word((unsigned char)editor->text[at - 1]))
        at--;
    return at;
}

static size_t word_on(const struct lineedit *editor, size_t at)
{
    while (at < editor->bytes && !is_word((unsigned char)editor->text[at]))
        at++;
    while (at < editor->bytes && is_word((unsigned char)editor->text[at]))
        at++;
    return at;
}

/* Start of the blank-separated word before the cursor, for Ctrl-W. */
static size_t blank_back(const struct lineedit *editor, size_t at)
{
    while (at > 0 && editor->text[at - 1] == ' ')
        at--;
    while (at > 0 && editor->text[at - 1] != ' ')
        at--;
    return at;
}

static enum lineedit_result move_to(struct lineedit *editor, size_t at)
{
    if (at == editor->cursor)
        return LINEEDIT_BELL;
    editor->cursor = at;
    return LINEEDIT_CHANGED;
}

static enum lineedit_result delete_range(struct lineedit *editor, size_t from, size_t to)
{
    if (from == to)
        return LINEEDIT_BELL;
    undo_push(editor);
    erase(editor, from, to);
    return LINEEDIT_CHANGED;
}

/* Delete and remember; kills that follow each other join, before or after what is there. */
static enum lineedit_result kill_range(struct lineedit *editor, size_t from, size_t to, bool joined)
{
    if (from == to)
        return LINEEDIT_BELL;
    char *piece = xmalloc(to - from + 1);
    memcpy(piece, editor->text + from, to - from);
    piece[to - from] = '\0';
    if (joined && editor->killed != NULL) {
        bool before = from < editor->cursor;
        char *both =
            xasprintf("%s%s", before ? piece : editor->killed, before ? editor->killed : piece);
        free(piece);
        piece = both;
    }
    free(editor->killed);
    editor->killed = piece;
    delete_range(editor, from, to);
    editor->kill_goes_on = true;
    return LINEEDIT_CHANGED;
}

void lineedit_history_add(struct lineedit *editor, const char *line)
{
    if (line[0] == '\0')
        return;
    bool same =
        editor->history_count > 0 && strcmp(editor->history[editor->history_count - 1], line) == 0;
    if (!same) {
        if (editor->history_count == HISTORY_MAX) {
            free(editor->history[0]);
            memmove(editor->history, editor->history + 1,
                    (HISTORY_MAX - 1) * sizeof editor->history[0]);
            editor->history_count--;
        }
        editor->history =
            xrealloc(editor->history, (editor->history_count + 1) * sizeof editor->history[0]);
        editor->history[editor->history_count++] = xstrdup(line);
    }
    editor->history_at = editor->history_count;
}

static enum lineedit_result history_show(struct lineedit *editor, size_t at)
{
    if (at == editor->history_at || at > editor->history_count)
        return LINEEDIT_BELL;
    if (editor->history_at == editor->history_count) {
        free(editor->unsent);
        editor->unsent = xstrdup(editor->text);
    }
    undo_clear(editor);
    editor->history_at = at;
    lineedit_set(editor, at < editor->history_count ? editor->history[at]
                         : editor->unsent != NULL   ? editor->unsent
                                                    : "");
    return LINEEDIT_CHANGED;
}

bool lineedit_searching(const struct lineedit *editor, const char **pattern, bool *failed)
{
    if (pattern != NULL)
        *pattern = editor->pattern;
    if (failed != NULL)
        *failed = editor->search_failed;
    return editor->searching;
}

/* Look for the pattern in lines before `from` and show the newest match. */
static void search_from(struct lineedit *editor, size_t from)
{
    editor->search_failed = false;
    if (editor->pattern_bytes == 0)
        return;
    for (size_t i = from; i-- > 0;) {
        const char *match = strstr(editor->history[i], editor->pattern);
        if (match != NULL) {
            editor->search_at = i;
            lineedit_set(editor, editor->history[i]);
            size_t offset = (size_t)(match - editor->history[i]);
            editor->cursor = offset < editor->bytes ? offset : editor->bytes;
            return;
        }
    }
    editor->search_failed = true;
}

static enum lineedit_result search_start(struct lineedit *editor)
{
    editor->searching = true;
    editor->search_failed = false;
    editor->pattern_bytes = 0;
    editor->pattern[0] = '\0';
    editor->search_at = editor->history_count;
    free(editor->search_origin);
    editor->search_origin = xstrdup(editor->text);
    return LINEEDIT_CHANGED;
}

static void search_end(struct lineedit *editor, bool keep)
{
    editor->searching = false;
    if (!keep)
        lineedit_set(editor, editor->search_origin);
    undo_clear(editor);
    editor->history_at = editor->history_count;
}

/* A key while a search goes on. *again: the search is over and the key counts for the line. */
static enum lineedit_result search_key(struct lineedit *editor, const struct input *key,
                                       bool *again)
{
    uint32_t point = key->point;
    *again = false;
    if (key->code == INPUT_CHAR && !key->alt && point >= 0x20) {
        char encoded[4];
        size_t length = utf8_encode(point, encoded);
        if (editor->pattern_bytes + length >= sizeof editor->pattern)
            return LINEEDIT_BELL;
        memcpy(editor->pattern + editor->pattern_bytes, encoded, length);
        editor->pattern[editor->pattern_bytes += length] = '\0';
        /* the present match may still do */
        size_t from = editor->search_at < editor->history_count ? editor->search_at + 1
                                                                : editor->history_count;
        search_from(editor, from);
        return LINEEDIT_CHANGED;
    }
    if (key->code == INPUT_CHAR && point == CONTROL('R')) {
        search_from(editor, editor->search_at);
        return editor->search_failed ? LINEEDIT_BELL : LINEEDIT_CHANGED;
    }
    if (key->code == INPUT_BACKSPACE) {
        while (editor->pattern_bytes > 0 &&
               ((unsigned char)editor->pattern[--editor->pattern_bytes] & 0xc0) == 0x80)
            ;
        editor->pattern[editor->pattern_bytes] = '\0';
        editor->search_at = editor->history_count;
        search_from(editor, editor->history_count);
        return LINEEDIT_CHANGED;
    }
    bool leave = key->code == INPUT_CHAR && (point == CONTROL('G') || point == CONTROL('C'));
    search_end(editor, !leave);
    *again = !leave && key->code != INPUT_ESCAPE;
    return LINEEDIT_CHANGED;
}

char *const *lineedit_list(const struct lineedit *editor, size_t *count, int *chosen)
{
    *count = editor->candidate_count;
    *chosen = editor->candidate_chosen;
    return editor->candidates;
}

static void replace_word(struct lineedit *editor, size_t start, size_t end, const char *word)
{
    erase(editor, start, end);
    editor->cursor = start;
    insert(editor, word, strlen(word));
}

static enum lineedit_result list_walk(struct lineedit *editor, int step)
{
    int count = (int)editor->candidate_count;
    editor->candidate_chosen = editor->candidate_chosen < 0
                                   ? (step > 0 ? 0 : count - 1)
                                   : (editor->candidate_chosen + step + count) % count;
    replace_word(editor, editor->candidate_start, editor->candidate_end,
                 editor->candidates[editor->candidate_chosen]);
    editor->candidate_end = editor->cursor;
    return LINEEDIT_CHANGED;
}

void lineedit_offer(struct lineedit *editor, size_t start, char *const *candidates)
{
    size_t count = 0, common = 0;
    list_close(editor);
    if (candidates == NULL || candidates[0] == NULL || start > editor->cursor)
        return;
    common = strlen(candidates[0]);
    for (; candidates[count] != NULL; count++) {
        size_t same = 0;
        while (same < common && candidates[count][same] == candidates[0][same])
            same++;
        common = same;
    }
    while (common > 0 && ((unsigned char)candidates[0][common] & 0xc0) == 0x80)
        common--; /* never half a character */
    size_t typed = editor->cursor - start;
    if (count == 1 || common > typed) {
        char *word = xmalloc(common + 2);
        memcpy(word, candidates[0], common);
        word[common] = '\0';
        char last = common > 0 ? word[common - 1] : '\0';
        if (count == 1 && last != '/' && last != '=' && last != ':')
            memcpy(word + common, " ", 2);
        undo_push(editor);
        size_t end = editor->cursor;
        /* the blank after a word that is completed inside a line is already there */
        if (count == 1 && editor->text[end] == ' ' && word[common] == ' ')
            end++;
        replace_word(editor, start, end, word);
        free(word);
        return;
    }
    editor->candidates = xcalloc(count + 1, sizeof *editor->candidates);
    for (size_t i = 0; i < count; i++)
        editor->candidates[i] = xstrdup(candidates[i]);
    editor->candidate_count = count;
    editor->candidate_start = start;
    editor->candidate_end = editor->cursor;
    editor->candidate_chosen = -1;
    undo_push(editor);
}

static enum lineedit_result swap_characters(struct lineedit *editor)
{
    size_t right =
        editor->cursor == editor->bytes ? step_back(editor, editor->bytes) : editor->cursor;
    if (right == 0 || editor->bytes == 0)
        return LINEEDIT_BELL;
    size_t left = step_back(editor, right), end = step_on(editor, right);
    char swapped[LINEEDIT_BYTES];
    memcpy(swapped, editor->text + right, end - right);
    memcpy(swapped + (end - right), editor->text + left, right - left);
    undo_push(editor);
    memcpy(editor->text + left, swapped, end - left);
    editor->cursor = end;
    return LINEEDIT_CHANGED;
}

/* Keys with a control code or Alt. */
static enum lineedit_result command_key(struct lineedit *editor, const struct input *key,
                                        bool joined)
{
    size_t at = editor->cursor;
    if (key->alt) {
        switch (key->point) {
        case 'b':
            return move_to(editor, word_back(editor, at));
        case 'f':
            return move_to(editor, word_on(editor, at));
        case 'd':
            return kill_range(editor, at, word_on(editor, at), joined);
        case '<':
            return history_show(editor, 0);
        case '>':
            return history_show(editor, editor->history_count);
        case '/':
            return undo_pop(editor) ? LINEEDIT_CHANGED : LINEEDIT_BELL;
        default:
            return LINEEDIT_IGNORED;
        }
    }
    switch (key->point) {
    case CONTROL('A'):
        return move_to(editor, 0);
    case CONTROL('B'):
        return move_to(editor, step_back(editor, at));
    case CONTROL('D'):
        if (editor->bytes == 0)
            return LINEEDIT_END;
        return delete_range(editor, at, step_on(editor, at));
    case CONTROL('E'):
        return move_to(editor, editor->bytes);
    case CONTROL('F'):
        return move_to(editor, step_on(editor, at));
    case CONTROL('K'):
        return kill_range(editor, at, editor->bytes, joined);
    case CONTROL('N'):
        return history_show(editor, editor->history_at + 1);
    case CONTROL('P'):
        return history_show(editor, editor->history_at - 1);
    case CONTROL('R'):
        return search_start(editor);
    case CONTROL('T'):
        return swap_characters(editor);
    case CONTROL('U'):
        return kill_range(editor, 0, at, joined);
    case CONTROL('W'):
        return kill_range(editor, blank_back(editor, at), at, joined);
    case CONTROL('Y'):
        if (editor->killed == NULL)
            return LINEEDIT_BELL;
        undo_push(editor);
        insert(editor, editor->killed, strlen(editor->killed));
        return LINEEDIT_CHANGED;
    case CONTROL('_'):
        return undo_pop(editor) ? LINEEDIT_CHANGED : LINEEDIT_BELL;
    default:
        return LINEEDIT_IGNORED;
    }
}

static enum lineedit_result named_key(struct lineedit *editor, const struct input *key, bool joined)
{
    size_t at = editor->cursor;
    switch (key->code) {
    case INPUT_LEFT:
        return move_to(editor,
                       key->control || key->alt ? word_back(editor, at) : step_back(editor, at));
    case INPUT_RIGHT:
        return move_to(editor,
                       key->control || key->alt ? word_on(editor, at) : step_on(editor, at));
    case INPUT_HOME:
        return move_to(editor, 0);
    case INPUT_END:
        return move_to(editor, editor->bytes);
    case INPUT_UP:
        return history_show(editor, editor->history_at - 1);
    case INPUT_DOWN:
        return history_show(editor, editor->history_at + 1);
    case INPUT_BACKSPACE:
        if (key->alt)
            return kill_range(editor, word_back(editor, at), at, joined);
        return delete_range(editor, step_back(editor, at), at);
    case INPUT_DELETE:
        return delete_range(editor, at, step_on(editor, at));
    default:
        return LINEEDIT_IGNORED;
    }
}

static enum lineedit_result type_character(struct lineedit *editor, uint32_t point, bool joined)
{
    char encoded[4];
    size_t length = utf8_encode(point, encoded);
    if (length > LINEEDIT_BYTES - editor->bytes)
        return LINEEDIT_BELL;
    if (!joined)
        undo_push(editor);
    insert(editor, encoded, length);
    editor->insert_goes_on = true;
    return LINEEDIT_CHANGED;
}

enum lineedit_result lineedit_key(struct lineedit *editor, const struct input *key)
{
    bool kill_joined = editor->kill_goes_on, insert_joined = editor->insert_goes_on;
    bool paste_joined = editor->paste_goes_on;
    editor->kill_goes_on = editor->insert_goes_on = editor->paste_goes_on = false;
    if (key->pasted) {
        uint32_t point = key->code == INPUT_ENTER ? '\n'
                         : key->code == INPUT_TAB ? ' '
                                                  : key->point;
        if (editor->searching)
            search_end(editor, true);
        list_close(editor);
        if (key->code > INPUT_TAB || (point < 0x20 && point != '\n') ||
            (point >= 0x7f && point < 0xa0))
            return LINEEDIT_CHANGED; /* a control character among pasted text is no text */
        editor->paste_goes_on = true;
        return type_character(editor, point, paste_joined);
    }
    if (editor->searching) {
        bool again;
        enum lineedit_result result = search_key(editor, key, &again);
        if (!again)
            return result;
    }
    if (editor->candidates != NULL) {
        if (key->code == INPUT_TAB || key->code == INPUT_BACKTAB)
            return list_walk(editor, key->code == INPUT_TAB ? 1 : -1);
        list_close(editor);
        if (key->code == INPUT_ESCAPE || (key->code == INPUT_CHAR && key->point == CONTROL('G'))) {
            undo_pop(editor);
            return LINEEDIT_CHANGED;
        }
    }
    switch (key->code) {
    case INPUT_ENTER:
        return LINEEDIT_ACCEPT;
    case INPUT_TAB:
        return LINEEDIT_COMPLETE;
    case INPUT_CHAR:
        if (key->alt || key->point < 0x20)
            return command_key(editor, key, kill_joined);
        if (key->point >= 0x7f && key->point < 0xa0)
            return LINEEDIT_IGNORED;
        return type_character(editor, key->point, insert_joined && key->point != ' ');
    default:
        return named_key(editor, key, kill_joined);
    }
}
