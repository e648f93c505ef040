/* `export keras FILE`, one of the kinds of `export`. */
#ifndef LAYERTOP_COMMANDS_EXPORT_KERAS_H
#define LAYERTOP_COMMANDS_EXPORT_KERAS_H

#include "commands/command.h"

/* Ask the worker to write the model to `path` and wait for its answer. */
void export_keras(struct execution *execution, const char *path);

#endif
