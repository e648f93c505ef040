/* Candidates for the word under the cursor. */
#ifndef LAYERTOP_COMMANDS_COMPLETE_H
#define LAYERTOP_COMMANDS_COMPLETE_H

#include "commands/command.h"

struct command_completion {
    struct workbench *workbench;
    const char *word; /* what stands before the cursor, quotes taken off */
    char quote;       /* the quote it is inside of, or 0 */
    char **candidates;
    size_t count;
};

/* Offer a word: kept if it begins with what is typed and is not there yet. */
void completion_add(struct command_completion *completion, const char *candidate);
void completion_add_settings(struct command_completion *completion);
/* Values of a setting. */
void completion_add_values(struct command_completion *completion, const struct setting *setting);
/* Paths of this machine; folders end in '/'. */
void completion_add_files(struct command_completion *completion);
/* Layers of the loaded model. */
void completion_add_layers(struct command_completion *completion);

#endif
