#include "commands/doctor_report.h"

#include "profiler/doctor/redact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_result(FILE *out, const struct doctor_result *result)
{
    fprintf(out, "- `%s` **%s** %s: %s", result->rule->id,
            doctor_state_name(result->finding->state), result->rule->title, result->finding->what);
    if (result->of)
        fprintf(out, " (because of %s)", result->of->id);
    fputc('\n', out);
}

static void write_root(FILE *out, const struct doctor_diagnosis *diagnosis)
{
    const struct doctor_result *root = diagnosis->root;
    if (!root) {
        fputs("No failure and no warning was found.\n", out);
        return;
    }
    fprintf(out, "Root cause: **%s** %s (confidence %g)\n\n%s\n", root->rule->id, root->rule->title,
            root->rule->confidence, root->finding->what);
    if (*root->finding->hint)
        fprintf(out, "\nTo be mended by: `%s`\n", root->finding->hint);
}

char *doctor_report_text(const struct probes *probes, const struct doctor_diagnosis *diagnosis,
                         const char *version)
{
    const struct redaction redaction = {probes->host.user, probes->host.host, probes->host.home};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return xstrdup("");
    fprintf(out,
            "# layertop doctor\n\n%s. Names of users and hosts, home folders, tails of "
            "UUIDs and secrets are taken out;\nread it once more before you publish it.\n\n",
            version);
    write_root(out, diagnosis);
    fputs("\n## Checks\n\n", out);
    for (size_t i = 0; i < diagnosis->count; i++)
        write_result(out, &diagnosis->results[i]);
    fputs("\n## Facts\n\n`doctor --from FILE` reads this object:\n\n```json\n", out);
    fclose(out);
    json_t *record = probes_to_json(probes), *clean = redact_json(record, &redaction);
    char *facts = json_dumps(clean, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    char *words = redact_text(text ? text : "", &redaction);
    char *whole = xasprintf("%s%s\n```\n", words, facts ? facts : "{}");
    free(facts);
    free(words);
    free(text);
    json_decref(record);
    json_decref(clean);
    return whole;
}
