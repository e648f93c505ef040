#include "commands/table.h"

#include <string.h>

static void run_echo(struct execution *execution, int argc, char *const *argv)
{
    size_t bytes = 1;
    for (int i = 1; i < argc; i++)
        bytes += strlen(argv[i]) + 1;
    char *text = xcalloc(1, bytes), *clean = xmalloc(4 * bytes);
    for (int i = 1; i < argc; i++) {
        strcat(text, argv[i]);
        if (i + 1 < argc)
            strcat(text, " ");
    }
    json_object_set_new(execution->data, "text", json_string(text_clean(clean, 4 * bytes, text)));
    execution_print(execution, "%s", text);
    free(clean);
    free(text);
    execution_done(execution);
}

const struct command command_echo = {
    .name = "echo",
    .usage = "echo [WORD...]",
    .summary = "print words",
    .help = "",
    .json = "text",
    .see = WORDS("source"),
    .examples = WORDS("echo 'batch 64:'"),
    .arguments_max = -1,
    .run = run_echo,
};
