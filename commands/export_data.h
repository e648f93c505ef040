/* `export json|csv|chrome FILE`: what was measured, for other programs. Files of the front's. */
#ifndef LAYERTOP_COMMANDS_EXPORT_DATA_H
#define LAYERTOP_COMMANDS_EXPORT_DATA_H

#include "commands/command.h"

/* Settings, model, plan, the last run, the layer table, the ledger and all series. */
void export_json(struct execution *execution, const char *path);
/* The layer table, one line a layer, in model order. */
void export_csv(struct execution *execution, const char *path);
/* Trace events for Perfetto and chrome://tracing: for each tenth of a second of the last half
 * minute the mean step and its layers, one behind the other, and counters of memory and speed. */
void export_chrome(struct execution *execution, const char *path);

#endif
