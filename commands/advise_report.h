/* What `advise` found, for people and for programs. */
#ifndef LAYERTOP_COMMANDS_ADVISE_REPORT_H
#define LAYERTOP_COMMANDS_ADVISE_REPORT_H

#include "commands/command.h"
#include "profiler/advise/rules.h"

/* Into `data`: step_ms, first (an id or null), advice[], consequences[], notes[], asks[], and the
 * facts. */
void advise_report_json(json_t *data, const struct advise_facts *facts,
                        const struct advise_report *report);
void advise_report_print(struct execution *execution, const struct advise_facts *facts,
                         const struct advise_report *report);
/* The lines for the user's own script, of each advice that has some; "code" in `data`. */
void advise_report_code(struct execution *execution, const struct advise_report *report);
/* What `apply` may be asked for: {ID: {title, action, changes}}. New reference. */
json_t *advise_report_choices(const struct advise_report *report);

#endif
