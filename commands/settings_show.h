/* What the commands about settings share: set, show, unset, devices. */
#ifndef LAYERTOP_COMMANDS_SETTINGS_SHOW_H
#define LAYERTOP_COMMANDS_SETTINGS_SHOW_H

#include "commands/command.h"

/* Answer a name of TensorFlow's once with ours. */
void setting_answer_alias(struct execution *execution, const struct setting *setting,
                          const char *word);
/* Parse and change; ends the command, now or when the worker has answered. */
void setting_change(struct execution *execution, const struct setting *setting, const char *text);
/* The words of a value as one text. Caller frees. */
char *setting_join(const struct setting *setting, int argc, char *const *argv);
/* "1 to 1048576", "fp32, tf32, ..." into out[size]; returns out. */
char *setting_range(const struct setting *setting, char *out, size_t size);

#endif
