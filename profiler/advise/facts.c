#include "profiler/advise/facts.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MOST 100000 /* entries of a list that are read */

enum member_type { MEMBER_NUM, MEMBER_FLAG, MEMBER_TEXT };

struct member {
    const char *name;
    enum member_type type;
    size_t offset;
};

#define TABLE_MEMBER(kind, member) {#member, MEMBER_##kind, offsetof(struct OWNER, member)},

/* one table of members a struct */
#define OWNER advise_settings
static const struct member settings_members[] = {ADVISE_SETTINGS(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_device
static const struct member device_members[] = {ADVISE_DEVICE(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_plan
static const struct member plan_members[] = {ADVISE_PLAN(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_run
static const struct member run_members[] = {ADVISE_RUN(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_pipeline
static const struct member pipeline_members[] = {ADVISE_PIPELINE(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_ledger
static const struct member ledger_members[] = {ADVISE_LEDGER(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_memory
static const struct member memory_members[] = {ADVISE_MEMORY(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_marks
static const struct member marks_members[] = {ADVISE_MARKS(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_weights
static const struct member weights_members[] = {ADVISE_WEIGHTS(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_accuracy
static const struct member accuracy_members[] = {ADVISE_ACCURACY(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_fit
static const struct member fit_members[] = {ADVISE_FIT(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_layer
static const struct member layers_members[] = {ADVISE_LAYER(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_kernel
static const struct member kernels_members[] = {ADVISE_KERNEL(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_copy
static const struct member copies_members[] = {ADVISE_COPY(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_rival
static const struct member rivals_members[] = {ADVISE_RIVAL(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_point
static const struct member points_members[] = {ADVISE_POINT(TABLE_MEMBER){NULL}};
#undef OWNER
#define OWNER advise_trial
static const struct member trials_members[] = {ADVISE_TRIAL(TABLE_MEMBER){NULL}};
#undef OWNER

struct section {
    const char *name;
    const struct member *members;
    size_t offset;
};

static const struct section sections[] = {
#define SECTION_ROW(members, name) {#name, name##_members, offsetof(struct advise_facts, name)},
    ADVISE_SECTIONS(SECTION_ROW)};

struct list {
    const char *name;
    const struct member *members;
    size_t offset, count_offset, size;
};

static const struct list lists[] = {
#define LIST_ROW(members, one, name)                                                               \
    {#name, name##_members, offsetof(struct advise_facts, name),                                   \
     offsetof(struct advise_facts, name##_count), sizeof(struct advise_##one)},
    ADVISE_LISTS(LIST_ROW)};

#define SECTION_COUNT (sizeof sections / sizeof *sections)
#define LIST_COUNT    (sizeof lists / sizeof *lists)

static void forget_members(const struct member *members, void *object)
{
    for (const struct member *member = members; member->name; member++) {
        void *at = (char *)object + member->offset;
        if (member->type == MEMBER_NUM)
            *(double *)at = (double)NAN;
        else if (member->type == MEMBER_FLAG)
            *(int *)at = FLAG_UNKNOWN;
        else
            *(char *)at = '\0';
    }
}

struct advise_facts *advise_facts_new(void)
{
    struct advise_facts *facts = xcalloc(1, sizeof *facts);
    for (size_t i = 0; i < SECTION_COUNT; i++)
        forget_members(sections[i].members, (char *)facts + sections[i].offset);
    return facts;
}

void advise_facts_free(struct advise_facts *facts)
{
#define FREE_LIST(members, one, name) free(facts->name);
    if (facts) {
        ADVISE_LISTS(FREE_LIST)
    }
    free(facts);
}

/* Room is made in powers of two. */
static bool needs_room(size_t count)
{
    return (count & (count - 1)) == 0;
}

#define DEFINE_ADD(members, one, name)                                                             \
    struct advise_##one *advise_add_##one(struct advise_facts *facts)                              \
    {                                                                                              \
        size_t count = facts->name##_count;                                                        \
        if (needs_room(count))                                                                     \
            facts->name = xrealloc(facts->name, (count ? 2 * count : 1) * sizeof *facts->name);    \
        struct advise_##one *added = &facts->name[facts->name##_count++];                          \
        forget_members(name##_members, added);                                                     \
        return added;                                                                              \
    }
ADVISE_LISTS(DEFINE_ADD)

/* ---- from JSON ---- */

static bool wrong(struct error *error, const char *where, const char *expected)
{
    error_set(error, ERROR_INPUT, "facts", "'%s' is not %s", where, expected);
    return error_hint(error, "advise --json prints a record that can be read back");
}

static bool read_member(const struct member *member, const json_t *value, void *object,
                        const char *where, struct error *error)
{
    void *at = (char *)object + member->offset;
    char name[128];
    snprintf(name, sizeof name, "%s.%s", where, member->name);
    if (value == NULL || json_is_null(value))
        return true;
    switch (member->type) {
    case MEMBER_NUM:
        if (!json_is_number(value))
            return wrong(error, name, "a number");
        *(double *)at = json_number_value(value);
        return true;
    case MEMBER_FLAG:
        if (!json_is_boolean(value))
            return wrong(error, name, "true or false");
        *(int *)at = json_is_true(value) ? FLAG_YES : FLAG_NO;
        return true;
    case MEMBER_TEXT:
        if (!json_is_string(value))
            return wrong(error, name, "a text");
        text_clean(at, ADVISE_TEXT_BYTES, json_string_value(value));
        return true;
    }
    return true;
}

static bool read_object(const struct member *members, const json_t *json, void *object,
                        const char *where, struct error *error)
{
    if (!json_is_object(json))
        return wrong(error, where, "an object");
    for (const struct member *member = members; member->name; member++)
        if (!read_member(member, json_object_get(json, member->name), object, where, error))
            return false;
    return true;
}

static bool read_list(const struct list *list, const json_t *json, struct advise_facts *facts,
                      struct error *error)
{
    char where[64];
    size_t count = json_array_size(json);
    if (!json_is_array(json))
        return wrong(error, list->name, "a list");
    if (count > LIST_MOST) {
        error_set(error, ERROR_INPUT, "facts", "'%s' has %zu entries, at most %d are read",
                  list->name, count, LIST_MOST);
        return error_hint(error, "advise --json prints a record that can be read back");
    }
    size_t room = 1;
    while (room < count) /* as advise_add_...() would have made it */
        room *= 2;
    char *entries = xcalloc(room, list->size);
    *(void **)(void *)((char *)facts + list->offset) = entries;
    *(size_t *)(void *)((char *)facts + list->count_offset) = count;
    for (size_t i = 0; i < count; i++) {
        forget_members(list->members, entries + i * list->size);
        snprintf(where, sizeof where, "%s[%zu]", list->name, i);
        if (!read_object(list->members, json_array_get(json, i), entries + i * list->size, where,
                         error))
            return false;
    }
    return true;
}

/* The record may stand inside a line of `advise --json`. */
static const json_t *unwrap(const json_t *json)
{
    const json_t *data = json_object_get(json, "data");
    const json_t *inner = json_object_get(data ? data : json, "facts");
    return json_is_object(inner) ? inner : json;
}

struct advise_facts *advise_facts_from_json(const json_t *json, struct error *error)
{
    const json_t *record = unwrap(json);
    const json_t *version = json_object_get(record, "version");
    if (!json_is_object(record) || !json_is_integer(version)) {
        error_set(error, ERROR_INPUT, "facts", "it is no record of facts: it has no \"version\"");
        error_hint(error, "advise --json prints a record that can be read back");
        return NULL;
    }
    if (json_integer_value(version) != ADVISE_FACTS_VERSION) {
        error_set(error, ERROR_INPUT, "facts", "it has version %lld, this program reads %d",
                  (long long)json_integer_value(version), ADVISE_FACTS_VERSION);
        return NULL;
    }
    struct advise_facts *facts = advise_facts_new();
    bool good = true;
    for (size_t i = 0; good && i < SECTION_COUNT; i++) {
        const json_t *value = json_object_get(record, sections[i].name);
        if (value && !json_is_null(value))
            good = read_object(sections[i].members, value, (char *)facts + sections[i].offset,
                               sections[i].name, error);
    }
    for (size_t i = 0; good && i < LIST_COUNT; i++) {
        const json_t *value = json_object_get(record, lists[i].name);
        if (value && !json_is_null(value))
            good = read_list(&lists[i], value, facts, error);
    }
    if (!good) {
        advise_facts_free(facts);
        return NULL;
    }
    return facts;
}

/* ---- to JSON ---- */

static json_t *write_object(const struct member *members, const void *object)
{
    json_t *json = json_object();
    for (const struct member *member = members; member->name; member++) {
        const void *at = (const char *)object + member->offset;
        json_t *value = NULL;
        if (member->type == MEMBER_NUM && isfinite(*(const double *)at))
            value = json_real(*(const double *)at);
        else if (member->type == MEMBER_FLAG && *(const int *)at != FLAG_UNKNOWN)
            value = json_boolean(*(const int *)at == FLAG_YES);
        else if (member->type == MEMBER_TEXT && *(const char *)at)
            value = json_string(at);
        if (value)
            json_object_set_new(json, member->name, value);
    }
    return json;
}

json_t *advise_facts_to_json(const struct advise_facts *facts)
{
    json_t *json = json_pack("{s:i}", "version", ADVISE_FACTS_VERSION);
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        json_t *value = write_object(sections[i].members, (const char *)facts + sections[i].offset);
        if (json_object_size(value) > 0)
            json_object_set(json, sections[i].name, value);
        json_decref(value);
    }
    for (size_t i = 0; i < LIST_COUNT; i++) {
        const char *entries = *(void *const *)(const void *)((const char *)facts + lists[i].offset);
        size_t count = *(const size_t *)(const void *)((const char *)facts + lists[i].count_offset);
        json_t *value = json_array();
        for (size_t k = 0; k < count; k++)
            json_array_append_new(value,
                                  write_object(lists[i].members, entries + k * lists[i].size));
        if (count > 0)
            json_object_set(json, lists[i].name, value);
        json_decref(value);
    }
    return json;
}
