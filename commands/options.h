/* One table of the program's own options: what main.c reads, --help, the manual page and the
 * completion in shells come from it. Pure. */
#ifndef LAYERTOP_COMMANDS_OPTIONS_H
#define LAYERTOP_COMMANDS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

/* What stands after an option, for completion. */
enum option_value {
    OPTION_NOTHING,
    OPTION_LINE,      /* commands, as at the prompt */
    OPTION_FILE,      /* any file */
    OPTION_RECORDING, /* a file, or the recording that ships */
    OPTION_WORDS,     /* some of `words`, separated by commas */
    OPTION_TEXT       /* nothing that can be guessed */
};

struct program_option {
    char letter;      /* 0: none */
    const char *name; /* without the dashes; NULL: none */
    enum option_value value;
    const char *argument; /* its name, "CMD"; NULL: it takes none */
    const char *const *words;
    const char *summary; /* one line; NULL: not for people */
};

size_t program_option_count(void);
const struct program_option *program_option_at(size_t index);
/* By what is typed: "-c", "--json". NULL: no such option. */
const struct program_option *program_option_find(const char *word);
/* "-c CMD" or "-h, --help" into out[size]; returns out. */
char *program_option_format(const struct program_option *option, char *out, size_t size);

/* What may stand on the command line, in lines of at most 80 columns. */
extern const char program_synopsis[];
extern const char program_purpose[];

/* Environment variables and files, for the manual page: ends with a row without name. */
struct program_fact {
    const char *name, *text;
};
extern const struct program_fact program_environment[];
extern const struct program_fact program_files[];

#endif
