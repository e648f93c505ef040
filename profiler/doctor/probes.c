#include "profiler/doctor/probes.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum member_type { MEMBER_BOOL, MEMBER_INT, MEMBER_REAL, MEMBER_TEXT, MEMBER_LONG };

struct member {
    const char *name;
    enum member_type type;
    size_t offset;
};

#define SECTION_MEMBER(kind, member) {#member, MEMBER_##kind, offsetof(struct OWNER, member)},

/* one table of members a struct */
#define OWNER probe_host
static const struct member host_members[] = {PROBE_HOST(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_terminal
static const struct member terminal_members[] = {PROBE_TERMINAL(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_driver
static const struct member driver_members[] = {PROBE_DRIVER(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_cuda
static const struct member cuda_members[] = {PROBE_CUDA(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_nvml
static const struct member nvml_members[] = {PROBE_NVML(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_environment
static const struct member environment_members[] = {PROBE_ENVIRONMENT(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_gpu_part
static const struct member gpu_part_members[] = {PROBE_GPU_PART(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_tracing
static const struct member tracing_members[] = {PROBE_TRACING(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_python
static const struct member python_members[] = {PROBE_PYTHON(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_process
static const struct member process_members[] = {PROBE_PROCESS(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_node
static const struct member nodes_members[] = {PROBE_NODE(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_library
static const struct member libraries_members[] = {PROBE_LIBRARY(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_gpu
static const struct member gpus_members[] = {PROBE_GPU(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_holder
static const struct member holders_members[] = {PROBE_HOLDER(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_smoke
static const struct member smokes_members[] = {PROBE_SMOKE(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_framework
static const struct member frameworks_members[] = {PROBE_FRAMEWORK(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_need
static const struct member needs_members[] = {PROBE_NEED(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_package
static const struct member packages_members[] = {PROBE_PACKAGE(SECTION_MEMBER){NULL}};
#undef OWNER
#define OWNER probe_mapped
static const struct member mapped_members[] = {PROBE_MAPPED(SECTION_MEMBER){NULL}};
#undef OWNER

struct section {
    const char *name;
    const struct member *members;
    size_t offset;
    size_t most, size, count_offset; /* of a list; most 0: one object */
};

static const struct section sections[] = {
#define SECTION_ROW(members, name) {#name, name##_members, offsetof(struct probes, name), 0, 0, 0},
    PROBE_SECTIONS(SECTION_ROW)
#define LIST_ROW(members, one, name, most)                                                         \
    {#name,                                                                                        \
     name##_members,                                                                               \
     offsetof(struct probes, name),                                                                \
     most,                                                                                         \
     sizeof(struct probe_##one),                                                                   \
     offsetof(struct probes, name##_count)},
        PROBE_LISTS(LIST_ROW)};

#define SECTION_COUNT (sizeof sections / sizeof *sections)

static void forget_members(const struct member *members, char *object)
{
    for (const struct member *member = members; member->name; member++) {
        void *at = object + member->offset;
        if (member->type == MEMBER_BOOL)
            *(int *)at = ANSWER_UNKNOWN;
        else if (member->type == MEMBER_INT)
            *(int64_t *)at = PROBE_NO_INT;
        else if (member->type == MEMBER_REAL)
            *(double *)at = (double)NAN;
        else
            *(char *)at = '\0';
    }
}

struct probes *probes_new(void)
{
    struct probes *probes = xcalloc(1, sizeof *probes);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        const struct section *section = &sections[i];
        char *object = (char *)probes + section->offset;
        for (size_t k = 0; k < (section->most > 0 ? section->most : 1); k++)
            forget_members(section->members, object + k * section->size);
    }
    return probes;
}

static bool wrong(struct error *error, const char *where, const char *expected)
{
    error_set(error, ERROR_INPUT, "probes", "'%s' is not %s", where, expected);
    return error_hint(error, "doctor --json prints a record that can be read back");
}

static bool read_member(const struct member *member, const json_t *value, char *object,
                        const char *where, struct error *error)
{
    void *at = object + member->offset;
    char name[128];
    snprintf(name, sizeof name, "%s.%s", where, member->name);
    if (value == NULL || json_is_null(value))
        return true;
    switch (member->type) {
    case MEMBER_BOOL:
        if (!json_is_boolean(value))
            return wrong(error, name, "true or false");
        *(int *)at = json_is_true(value) ? ANSWER_YES : ANSWER_NO;
        return true;
    case MEMBER_INT:
        if (!json_is_integer(value))
            return wrong(error, name, "an integer");
        *(int64_t *)at = json_integer_value(value);
        return true;
    case MEMBER_REAL:
        if (!json_is_number(value))
            return wrong(error, name, "a number");
        *(double *)at = json_number_value(value);
        return true;
    case MEMBER_TEXT:
    case MEMBER_LONG:
        if (!json_is_string(value))
            return wrong(error, name, "a text");
        text_clean(at, member->type == MEMBER_TEXT ? PROBE_TEXT_BYTES : PROBE_LONG_BYTES,
                   json_string_value(value));
        return true;
    }
    return true;
}

static bool read_object(const struct section *section, const json_t *json, char *object,
                        const char *where, struct error *error)
{
    if (!json_is_object(json))
        return wrong(error, where, "an object");
    for (const struct member *member = section->members; member->name; member++)
        if (!read_member(member, json_object_get(json, member->name), object, where, error))
            return false;
    return true;
}

static bool read_list(const struct section *section, const json_t *json, struct probes *probes,
                      struct error *error)
{
    char *object = (char *)probes + section->offset, where[96];
    size_t index;
    json_t *one;
    if (!json_is_array(json))
        return wrong(error, section->name, "a list");
    if (json_array_size(json) > section->most) {
        error_set(error, ERROR_INPUT, "probes", "'%s' has %zu entries, at most %zu are read",
                  section->name, json_array_size(json), section->most);
        return error_hint(error, "doctor --json prints a record that can be read back");
    }
    json_array_foreach(json, index, one)
    {
        snprintf(where, sizeof where, "%s[%zu]", section->name, index);
        if (!read_object(section, one, object + index * section->size, where, error))
            return false;
    }
    *(size_t *)(void *)((char *)probes + section->count_offset) = json_array_size(json);
    return true;
}

/* The record may stand inside a line of `doctor --json`. */
static const json_t *unwrap(const json_t *json)
{
    const json_t *data = json_object_get(json, "data");
    const json_t *inner = json_object_get(data ? data : json, "probes");
    return json_is_object(inner) ? inner : json;
}

struct probes *probes_from_json(const json_t *json, struct error *error)
{
    const json_t *record = unwrap(json);
    const json_t *version = json_object_get(record, "version");
    if (!json_is_object(record) || !json_is_integer(version)) {
        error_set(error, ERROR_INPUT, "probes", "it is no probe record: it has no \"version\"");
        error_hint(error, "doctor --json prints a record that can be read back");
        return NULL;
    }
    if (json_integer_value(version) != PROBES_VERSION) {
        error_set(error, ERROR_INPUT, "probes", "it has version %lld, this program reads %d",
                  (long long)json_integer_value(version), PROBES_VERSION);
        return NULL;
    }
    struct probes *probes = probes_new();
    bool good = true;
    for (size_t i = 0; good && i < SECTION_COUNT; i++) {
        const struct section *section = &sections[i];
        const json_t *value = json_object_get(record, section->name);
        if (value == NULL || json_is_null(value))
            continue;
        good = section->most > 0 ? read_list(section, value, probes, error)
                                 : read_object(section, value, (char *)probes + section->offset,
                                               section->name, error);
    }
    if (!good) {
        free(probes);
        return NULL;
    }
    return probes;
}

static json_t *write_object(const struct section *section, const char *object)
{
    json_t *json = json_object();
    for (const struct member *member = section->members; member->name; member++) {
        const void *at = object + member->offset;
        json_t *value = NULL;
        if (member->type == MEMBER_BOOL && *(const int *)at != ANSWER_UNKNOWN)
            value = json_boolean(*(const int *)at == ANSWER_YES);
        else if (member->type == MEMBER_INT && *(const int64_t *)at != PROBE_NO_INT)
            value = json_integer((json_int_t) * (const int64_t *)at);
        else if (member->type == MEMBER_REAL && isfinite(*(const double *)at))
            value = json_real(*(const double *)at);
        else if (member->type >= MEMBER_TEXT && *(const char *)at)
            value = json_string(at);
        if (value)
            json_object_set_new(json, member->name, value);
    }
    return json;
}

json_t *probes_to_json(const struct probes *probes)
{
    json_t *json = json_pack("{s:i}", "version", PROBES_VERSION);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        const struct section *section = &sections[i];
        const char *object = (const char *)probes + section->offset;
        json_t *value;
        if (section->most == 0) {
            value = write_object(section, object);
        } else {
            size_t count =
                *(const size_t *)(const void *)((const char *)probes + section->count_offset);
            value = json_array();
            for (size_t k = 0; k < count; k++)
                json_array_append_new(value, write_object(section, object + k * section->size));
        }
        if ((json_is_array(value) ? json_array_size(value) : json_object_size(value)) > 0)
            json_object_set_new(json, section->name, value);
        else
            json_decref(value);
    }
    return json;
}
