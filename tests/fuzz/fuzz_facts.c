/* What `doctor` reads: a shared library's needs, a probe record with all rules on it, a report. */
#include "tests/fuzz/fuzz.h"

#include "engine/probe/elf.h"
#include "engine/probe/probe.h"
#include "profiler/doctor/redact.h"
#include "profiler/doctor/rules.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void check_record(const json_t *json)
{
    static struct doctor_diagnosis diagnosis;
    struct error error = {0};
    struct probes *probes = probes_from_json(json, &error);
    if (probes == NULL) {
        fuzz_must(error.code == ERROR_INPUT && error.why[0] != '\0');
        return;
    }
    doctor_examine(probes, &diagnosis);
    for (size_t i = 0; i < diagnosis.count; i++) {
        json_t *what = json_string(diagnosis.findings[i].what);
        json_t *hint = json_string(diagnosis.findings[i].hint);
        fuzz_must(what != NULL && hint != NULL && diagnosis.findings[i].what[0] != '\0');
        json_decref(what);
        json_decref(hint);
    }
    /* what was read can be written and read again */
    json_t *written = probes_to_json(probes);
    struct probes *again = probes_from_json(written, &error);
    fuzz_must(again != NULL);
    free(again);
    free(probes);
    json_decref(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct redaction redaction = {"alice", "gpu01", "/home/alice"};
    char path[32];
    struct elf_needs needs;
    struct error error = {0};
    int fd = fuzz_file(data, size, path);
    if (elf_read(path, &needs, &error))
        elf_needs_free(&needs);
    else
        fuzz_must(error.code != ERROR_NONE && error.why[0] != '\0');
    json_t *json = probe_file(path, &error);
    if (json != NULL) {
        check_record(json);
        json_decref(redact_json(json, &redaction));
    }
    json_decref(json);
    close(fd);
    char *text = xmalloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    char *clean = redact_text(text, &redaction);
    fuzz_must(clean != NULL);
    free(clean);
    free(text);
    return 0;
}
