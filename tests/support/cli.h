/* The program run by a shell, as scripts run it. LAYERTOP_BIN names the binary (default
 * build/layertop). Everything here fails the running cmocka test rather than return an error. */
#ifndef LAYERTOP_TESTS_CLI_H
#define LAYERTOP_TESTS_CLI_H

#include <jansson.h>

#define DEMO "demo:digits -c 'devices cpu' "

extern char cli_folder[]; /* of this process, for files */

/* Setup and teardown of a group: make and remove the folder. */
int cli_make_folder(void **state);
int cli_remove_folder(void **state);

/* A file of the folder; the text is to be freed. */
char *cli_read_file(const char *name);
void cli_write_file(const char *name, const char *text);

struct cli_outcome {
    int code; /* 1000 + signal if one ended it */
    char *output, *errors;
    json_t *objects; /* of --json: every line must be one */
};

/* Run `layertop ARGUMENTS` by sh with `input` on standard input (NULL: empty). */
struct cli_outcome cli_run(const char *input, const char *arguments);
void cli_outcome_free(struct cli_outcome *outcome);
/* The same for its exit code alone, and for a part of what stands on standard error (NULL: any). */
void cli_expect_code(const char *input, const char *arguments, int code, const char *errors);

/* The member at "a.b.c" of an object. */
json_t *cli_at(const json_t *object, const char *path);
double cli_number_at(const json_t *object, const char *path);
/* The last object of a command. */
const json_t *cli_object_of(const struct cli_outcome *outcome, const char *command);

#endif
