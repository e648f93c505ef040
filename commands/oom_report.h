/* The report of running out of memory: what was asked, what is free, what lives at the peak, who else
 * holds memory and what would fit. */
#ifndef LAYERTOP_COMMANDS_OOM_REPORT_H
#define LAYERTOP_COMMANDS_OOM_REPORT_H

#include "commands/command.h"

/* Print an `oom` reply of the engine's. */
void oom_report_print(struct execution *execution, const json_t *report);
/* As execution_fail(); an error of memory first brings its report, into data.oom and onto the
 * screen. */
void oom_report_fail(struct execution *execution, const struct error *error);

#endif
