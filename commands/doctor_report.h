/* The report of `doctor --report`: what was found and the facts behind it, as Markdown to paste into
 * an issue, with names, homes, UUIDs and secrets taken out. */
#ifndef LAYERTOP_COMMANDS_DOCTOR_REPORT_H
#define LAYERTOP_COMMANDS_DOCTOR_REPORT_H

#include "profiler/doctor/rules.h"

/* The whole text; `version` is ours. Caller frees. */
char *doctor_report_text(const struct probes *probes, const struct doctor_diagnosis *diagnosis,
                         const char *version);

#endif
