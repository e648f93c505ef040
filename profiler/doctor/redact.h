/* Take out of text what a public issue should not hold: names of users and hosts, home folders, the
 * tails of UUIDs, tokens, passwords, addresses. Pure; any thread. */
#ifndef LAYERTOP_PROFILER_DOCTOR_REDACT_H
#define LAYERTOP_PROFILER_DOCTOR_REDACT_H

#include "profiler/doctor/probes.h"

/* Names to be replaced where they stand as words; "" or NULL is none. */
struct redaction {
    const char *user, *host, *home;
};

/* `text` with everything of that kind replaced: "alice" -> "USER", her home -> "~", "gpu01" ->
 * "HOST", "GPU-1f2e3d4c-..." -> "GPU-1f2e...", "hf_abc..." ->
 * "TOKEN", "token=..." -> "token=SECRET", a URL's user and password, e-mail and IP addresses. Caller
 * frees. */
char *redact_text(const char *text, const struct redaction *redaction);

/* The same for every text of a value, however deep, and for the members that are names themselves
 * ("host", "user", "home" of probes.h). New reference. */
json_t *redact_json(const json_t *json, const struct redaction *redaction);

#endif
