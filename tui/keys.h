/* One table of keys: what acts on the panes, the bar at the bottom and the help come from it. A key
 * that changes anything but the view becomes a command line, so that the log is a script of what was
 * done. Pure. */
#ifndef LAYERTOP_TUI_KEYS_H
#define LAYERTOP_TUI_KEYS_H

#include "tui/input.h"
#include "tui/view.h"

enum key_action {
    KEY_COMMAND, /* keys_command() says which */
    KEY_HELP,
    KEY_SEARCH,
    KEY_SEARCH_NEXT,
    KEY_PROMPT, /* focus back to the prompt */
    KEY_UP,
    KEY_DOWN,
    KEY_PAGE_UP,
    KEY_PAGE_DOWN,
    KEY_TOP,
    KEY_BOTTOM,
    KEY_PAN_BACK, /* the time axis, to the past */
    KEY_PAN_ON,
    KEY_PAN_LIVE,
    KEY_DETAILS, /* of the chosen layer: shown or not */
    KEY_WIDE_TABLE,
    KEY_TALL_LOG,
};

struct key_binding {
    uint32_t letter;       /* acts while the panes have the focus; 0: none */
    enum input_code named; /* the same as a named key there, INPUT_CHAR: none */
    int function;          /* F-key that acts everywhere, 0: none */
    const char *label;     /* in the bar; "": not there */
    const char *summary;   /* in the help */
    enum key_action action;
    const char *verb; /* of KEY_COMMAND: the command, or the setting it changes */
};

size_t keys_count(void);
const struct key_binding *keys_at(size_t index);

/* The binding of a key: F-keys always, others only while the panes have the focus. NULL: none. */
const struct key_binding *keys_find(const struct input *key, enum focus focus);

/* Does this build have the command or setting behind it? */
bool keys_available(const struct key_binding *key);

/* The command line of a KEY_COMMAND binding in the present state ("batch 64"), to be freed. NULL if
 * there is nothing to do (no layer to explain). */
char *keys_command(const struct key_binding *key, const struct view *view);

/* Is it in the bar while `focus` has the keys? And its name there: "F8", "+". */
bool keys_in_bar(const struct key_binding *key, enum focus focus);
void keys_name(const struct key_binding *key, enum focus focus, char *out, size_t size);
/* All its names: "? F1", "k Up". */
void keys_all_names(const struct key_binding *key, char *out, size_t size);

/* What the prompt does with keys, for people: ends with a row without name. */
struct prompt_key {
    const char *name, *summary;
};
extern const struct prompt_key prompt_keys[];

#endif
