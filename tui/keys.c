#include "tui/keys.h"
#include "commands/command.h"
#include "tui/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct key_binding bindings[] = {
    {'?', INPUT_CHAR, 1, "help", "this help", KEY_HELP, NULL},
    {'/', INPUT_CHAR, 3, "search", "find a layer by a part of its name", KEY_SEARCH, NULL},
    {' ', INPUT_CHAR, 5, "run/stop", "run steps live, or pause", KEY_COMMAND, "start"},
    {'s', INPUT_CHAR, 6, "sort", "sort layers by time, order, name, flops, bytes", KEY_COMMAND,
     "sort"},
    {'d', INPUT_ENTER, 0, "detail", "what is known of the chosen layer, or less of it", KEY_DETAILS,
     NULL},
    {'-', INPUT_CHAR, 7, "batch/2", "halve the batch", KEY_COMMAND, "batch/2"},
    {'+', INPUT_CHAR, 8, "batch\u00d72", "double the batch", KEY_COMMAND, "batch*2"},
    {'q', INPUT_CHAR, 10, "quit", "end layertop", KEY_COMMAND, "quit"},
    {'p', INPUT_CHAR, 4, "precision", "the next precision", KEY_COMMAND, "precision"},
    {'m', INPUT_CHAR, 9, "memory", "where the memory goes", KEY_COMMAND, "mem"},
    {'r', INPUT_CHAR, 0, "run", "measure 100 steps", KEY_COMMAND, "run"},
    {'x', INPUT_CHAR, 0, "explain", "explain the chosen layer", KEY_COMMAND, "explain"},
    {'a', INPUT_CHAR, 0, "advise", "what to change, and what it would gain", KEY_COMMAND, "advise"},
    {'D', INPUT_CHAR, 0, "", "check the machine", KEY_COMMAND, "doctor"},
    {'f', INPUT_CHAR, 0, "", "fusion on or off", KEY_COMMAND, "fusion"},
    {'g', INPUT_CHAR, 0, "", "CUDA graphs on or off", KEY_COMMAND, "graph"},
    {'G', INPUT_CHAR, 0, "", "memory growth on or off", KEY_COMMAND, "growth"},
    {'S', INPUT_CHAR, 2, "settings", "show all settings", KEY_COMMAND, "show"},
    {'w', INPUT_CHAR, 0, "", "write the screen to layertop-screen.txt", KEY_COMMAND,
     "save-display"},
    {'[', INPUT_CHAR, 0, "", "plots over a shorter time", KEY_COMMAND, "span/2"},
    {']', INPUT_CHAR, 0, "", "plots over a longer time", KEY_COMMAND, "span*2"},
    {'h', INPUT_LEFT, 0, "", "plots back in time", KEY_PAN_BACK, NULL},
    {'l', INPUT_RIGHT, 0, "", "plots forward in time", KEY_PAN_ON, NULL},
    {'0', INPUT_CHAR, 0, "", "plots up to now", KEY_PAN_LIVE, NULL},
    {'k', INPUT_UP, 0, "", "the row above", KEY_UP, NULL},
    {'j', INPUT_DOWN, 0, "", "the row below", KEY_DOWN, NULL},
    {CONTROL('B'), INPUT_PAGE_UP, 0, "", "a page up", KEY_PAGE_UP, NULL},
    {CONTROL('F'), INPUT_PAGE_DOWN, 0, "", "a page down", KEY_PAGE_DOWN, NULL},
    {'<', INPUT_HOME, 0, "", "the first row", KEY_TOP, NULL},
    {'>', INPUT_END, 0, "", "the last row", KEY_BOTTOM, NULL},
    {'n', INPUT_CHAR, 0, "", "the next match of the search", KEY_SEARCH_NEXT, NULL},
    {'t', INPUT_CHAR, 0, "", "a wide table in place of the plots", KEY_WIDE_TABLE, NULL},
    {'L', INPUT_CHAR, 0, "", "a tall log", KEY_TALL_LOG, NULL},
    {':', INPUT_CHAR, 0, "prompt", "back to the prompt (Tab and Esc too)", KEY_PROMPT, NULL},
};

size_t keys_count(void)
{
    return sizeof bindings / sizeof bindings[0];
}

const struct key_binding *keys_at(size_t index)
{
    return &bindings[index];
}

const struct key_binding *keys_find(const struct input *key, enum focus focus)
{
    if (key->code == INPUT_CHAR && key->alt)
        return NULL;
    for (size_t i = 0; i < keys_count(); i++) {
        const struct key_binding *binding = &bindings[i];
        if (key->code >= INPUT_F1 && key->code <= INPUT_F12) {
            if (binding->function == (int)(key->code - INPUT_F1) + 1)
                return binding;
        } else if (focus == FOCUS_PANES) {
            if (key->code == INPUT_CHAR ? binding->letter == key->point
                                        : binding->named == key->code)
                return binding;
        }
    }
    /* '=' is '+' without Shift on many keyboards */
    struct input plus = {.code = INPUT_CHAR, .point = '+'};
    if (focus == FOCUS_PANES && key->code == INPUT_CHAR && key->point == '=')
        return keys_find(&plus, focus);
    return NULL;
}

bool keys_available(const struct key_binding *key)
{
    char word[32];
    struct error error;
    if (key->action != KEY_COMMAND)
        return true;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(key->verb, "*/"), key->verb);
    return command_find(word, &error) != NULL;
}

/* A word as the command grammar reads it back: quoted as in sh. */
static char *quoted(const char *word)
{
    char *out = xmalloc(strlen(word) * 4 + 3), *end = out;
    *end++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'') {
            memcpy(end, "'\\''", 4);
            end += 4;
        } else {
            *end++ = *word;
        }
    }
    memcpy(end, "'", 2);
    return out;
}

static char *explain_command(const struct view *view)
{
    if (view->selected < 0 || (size_t)view->selected >= view->row_count)
        return NULL;
    char *name = quoted(view->layers[view->rows[view->selected]].name);
    char *line = xasprintf("explain %s", name);
    free(name);
    return line;
}

static char *next_precision(const struct view *view)
{
    struct error error;
    const struct setting *setting = setting_find("precision", &error);
    if (setting == NULL || setting->choices == NULL)
        return NULL;
    const char *const *choice = setting->choices;
    while (*choice != NULL && strcmp(*choice, view->precision) != 0)
        choice++;
    if (*choice == NULL || *++choice == NULL)
        choice = setting->choices;
    return xasprintf("precision %s", *choice);
}

char *keys_command(const struct key_binding *key, const struct view *view)
{
    const char *verb = key->verb;
    double span_s = (double)view->span_ns / 1e9;
    if (strcmp(verb, "start") == 0)
        return xstrdup(view->state == STATE_LIVE ? "stop" : "start");
    if (strcmp(verb, "sort") == 0)
        return xasprintf("set sort %s", sort_names[(view->sort + 1) % SORT_COUNT]);
    if (strcmp(verb, "batch*2") == 0)
        return xasprintf("batch %lld", (long long)view->batch * 2);
    if (strcmp(verb, "batch/2") == 0)
        return view->batch > 1 ? xasprintf("batch %lld", (long long)view->batch / 2) : NULL;
    if (strcmp(verb, "span*2") == 0)
        return span_s < 3600 ? xasprintf("set span %gs", span_s * 2) : NULL;
    if (strcmp(verb, "span/2") == 0)
        return span_s > 10 ? xasprintf("set span %gs", span_s / 2) : NULL;
    if (strcmp(verb, "precision") == 0)
        return next_precision(view);
    if (strcmp(verb, "fusion") == 0)
        return xasprintf("fusion %s", view->fusion ? "off" : "on");
    if (strcmp(verb, "graph") == 0)
        return xasprintf("set graph %s", view->graph ? "off" : "on");
    if (strcmp(verb, "growth") == 0)
        return xasprintf("growth %s", view->growth ? "off" : "on");
    if (strcmp(verb, "explain") == 0)
        return explain_command(view);
    if (strcmp(verb, "run") == 0)
        return xstrdup("run 100");
    if (strcmp(verb, "save-display") == 0)
        return xstrdup("save-display layertop-screen.txt");
    return xstrdup(verb);
}

bool keys_in_bar(const struct key_binding *key, enum focus focus)
{
    if (key->label[0] == '\0' || !keys_available(key))
        return false;
    return focus == FOCUS_PANES ? key->letter != 0 : key->function != 0;
}

void keys_name(const struct key_binding *key, enum focus focus, char *out, size_t size)
{
    if (focus != FOCUS_PANES && key->function != 0)
        snprintf(out, size, "F%d", key->function);
    else if (key->letter == ' ')
        snprintf(out, size, "Space");
    else if (key->letter < 0x20)
        snprintf(out, size, "Ctrl-%c", (char)(key->letter + 64));
    else
        snprintf(out, size, "%c", (char)key->letter);
}

void keys_all_names(const struct key_binding *key, char *out, size_t size)
{
    static const char *const named[] = {
        [INPUT_ENTER] = "Enter", [INPUT_UP] = "Up",        [INPUT_DOWN] = "Down",
        [INPUT_LEFT] = "Left",   [INPUT_RIGHT] = "Right",  [INPUT_HOME] = "Home",
        [INPUT_END] = "End",     [INPUT_PAGE_UP] = "PgUp", [INPUT_PAGE_DOWN] = "PgDn",
    };
    char letter[16], function[16] = "";
    keys_name(key, FOCUS_PANES, letter, sizeof letter);
    if (key->function != 0)
        snprintf(function, sizeof function, " F%d", key->function);
    snprintf(out, size, "%s%s%s%s", letter, key->named != INPUT_CHAR ? " " : "",
             key->named != INPUT_CHAR ? named[key->named] : "", function);
}

const struct prompt_key prompt_keys[] = {
    {"Tab", "complete commands, settings and values; again walks through the list"},
    {"Up Down", "history"},
    {"Ctrl-R", "search the history"},
    {"Ctrl-A Ctrl-E", "ends of the line; Alt-B Alt-F by words"},
    {"Ctrl-W Ctrl-U", "kill a word, the line before; Ctrl-K after; Ctrl-Y brings it back"},
    {"Ctrl-_", "undo"},
    {"PgUp PgDn", "scroll the log"},
    {"Ctrl-C", "cancel the running command; again offers to quit"},
    {"Ctrl-D", "end layertop, on an empty line"},
    {"Ctrl-L", "draw the screen anew"},
    {"Ctrl-Z", "suspend"},
    {NULL, NULL},
};
