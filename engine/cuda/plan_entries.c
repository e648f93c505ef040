/* Between a plan's problems, the device's engines for them, and what was measured and kept on disk. */
#include "engine/cuda/check.h"
#include "engine/cuda/plan.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void name_problem(char out[24], const char *kind, const void *problem, size_t bytes)
{
    snprintf(out, 24, "%s:%016" PRIx64, kind, plan_hash(PLAN_HASH_START, problem, bytes));
}

/* "ENGINE TYPE=VALUE TYPE=VALUE" */
void conv_choice_write(const struct conv_choice *choice, char *out, size_t size)
{
    int used = snprintf(out, size, "%" PRId64, choice->engine);
    for (int i = 0; i < choice->knob_count && (size_t)used < size; i++) {
        used += snprintf(out + used, size - (size_t)used, " %" PRId64 "=%" PRId64, choice->types[i],
                         choice->values[i]);
    }
}

bool conv_choice_read(const char *text, struct conv_choice *choice)
{
    int used = 0;
    memset(choice, 0, sizeof *choice);
    if (sscanf(text, "%" SCNd64 "%n", &choice->engine, &used) != 1) {
        return false;
    }
    while (text[used] != '\0') {
        int more = 0, at = choice->knob_count;
        if (at == CONV_KNOBS_MAX ||
            sscanf(text + used, " %" SCNd64 "=%" SCNd64 "%n", &choice->types[at],
                   &choice->values[at], &more) != 2 ||
            more == 0) {
            return false;
        }
        choice->knob_count++;
        used += more;
    }
    return true;
}

/* Bytes as hexadecimal digits. */
static void write_hex(const void *data, size_t bytes, char *out)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        sprintf(out + 2 * i, "%02x", at[i]);
    }
}

static bool read_hex(const char *text, void *data, size_t bytes)
{
    unsigned char *to = data;
    for (size_t i = 0; i < bytes; i++) {
        unsigned value;
        if (strspn(text + 2 * i, "0123456789abcdef") < 2 ||
            sscanf(text + 2 * i, "%2x", &value) != 1) {
            return false;
        }
        to[i] = (unsigned char)value;
    }
    return text[2 * bytes] == '\0';
}

static void note(const struct plan *plan, const char *text)
{
    const struct observer *observer = plan->device->observer;
    if (text[0] != '\0' && observer != NULL && observer->note != NULL) {
        observer->note(observer->context, text);
    }
}

void plan_entries_open(struct plan *plan)
{
    static const char *const names[] = {"fp32", "tf32", "fp16", "bf16", "int8"};
    const struct device *device = plan->device;
    struct plan_key key = {.precision =
                               names[plan->int8 ? PRECISION_INT8 : plan->options.precision],
                           .layout = plan->options.channels_first ? "nchw" : "nhwc",
                           .compute_major = device->compute_major,
                           .compute_minor = device->compute_minor,
                           .multiprocessors = device->multiprocessors,
                           .cudnn_version = device->libraries->cudnn_version,
                           .cublaslt_version = device->libraries->cublaslt_version};
    char folder[4000], text[4400];

    if (!plan->options.autotune) {
        return;
    }
    plan_cache_name(&plan->cache, plan->graph, &key);
    if (plan_cache_folder(folder, sizeof folder)) {
        plan_cache_load(&plan->cache, folder, text, sizeof text);
        note(plan, text);
    }
}

static struct plan_entry *remember(struct plan *plan)
{
    plan->entries = xrealloc(plan->entries, (plan->entry_count + 1) * sizeof *plan->entries);
    struct plan_entry *entry = &plan->entries[plan->entry_count++];
    memset(entry, 0, sizeof *entry);
    return entry;
}

struct conv_entry *plan_conv_entry(struct plan *plan, const struct conv_problem *problem)
{
    struct conv_problem own;
    struct conv_choice known;
    char name[24];

    /* plans that are measured share engines only among themselves */
    memcpy(&own, problem, sizeof own);
    own.measured = plan->options.autotune;
    name_problem(name, "conv", &own, sizeof own);
    const struct plan_cache_row *row = plan_cache_find(&plan->cache, name);
    bool have = row != NULL && conv_choice_read(row->choice, &known);
    struct conv_entry *entry = conv_entry_find(plan->device, &own, have ? &known : NULL);
    if (have && entry->tuned && entry->time_ns == 0) {
        entry->time_ns = row->time_ns;
    }
    struct plan_entry *kept = remember(plan);
    kept->conv = entry;
    snprintf(kept->name, sizeof kept->name, "%s", name);
    return entry;
}

struct matmul_entry *plan_matmul_entry(struct plan *plan, const struct matmul_problem *problem,
                                       struct error *error)
{
    struct matmul_problem own;
    cublasLtMatmulAlgo_t known;
    char name[24];

    memcpy(&own, problem, sizeof own);
    own.measured = plan->options.autotune;
    name_problem(name, "matmul", &own, sizeof own);
    const struct plan_cache_row *row = plan_cache_find(&plan->cache, name);
    bool have = row != NULL && read_hex(row->choice, &known, sizeof known);
    struct matmul_entry *entry = matmul_entry_find(plan->device, &own, have ? &known : NULL, error);
    if (entry == NULL) {
        return NULL;
    }
    if (have && entry->tuned && entry->time_ns == 0) {
        entry->time_ns = row->time_ns;
    }
    struct plan_entry *kept = remember(plan);
    kept->matmul = entry;
    snprintf(kept->name, sizeof kept->name, "%s", name);
    return entry;
}

void plan_entries_save(struct plan *plan)
{
    char folder[4000], words[1024], text[1200];
    struct error error = {0};

    plan_cache_clear(&plan->cache);
    for (size_t i = 0; i < plan->entry_count; i++) {
        const struct plan_entry *entry = &plan->entries[i];
        if (entry->conv != NULL && entry->conv->tuned && entry->conv->engine != NULL) {
            conv_choice_write(&entry->conv->engine->choice, words, sizeof words);
            plan_cache_put(&plan->cache, entry->name, words, entry->conv->time_ns);
        } else if (entry->matmul != NULL && entry->matmul->tuned && entry->matmul->usable) {
            write_hex(&entry->matmul->algorithm, sizeof entry->matmul->algorithm, words);
            plan_cache_put(&plan->cache, entry->name, words, entry->matmul->time_ns);
        }
    }
    if (plan->cache.count > 0 && plan_cache_folder(folder, sizeof folder) &&
        !plan_cache_save(&plan->cache, folder, &error)) {
        snprintf(text, sizeof text, "what was measured is not kept: %s", error.why);
        note(plan, text);
    }
}

void plan_entries_close(struct plan *plan)
{
    plan_cache_clear(&plan->cache);
    free(plan->entries);
    plan->entries = NULL;
    plan->entry_count = 0;
}
