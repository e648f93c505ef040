/* What `evaluate` prints, for whoever else evaluates. */
#ifndef LAYERTOP_COMMANDS_EVALUATION_H
#define LAYERTOP_COMMANDS_EVALUATION_H

#include "commands/command.h"

/* The reply to the engine's `evaluate` as lines. */
void evaluation_print(struct execution *execution, const json_t *data);

#endif
