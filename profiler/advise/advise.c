/* The table of rules, and how what they find is ranked. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct advise_rule advise_rules[] = {
    {"A01", "no kernel ran on the GPU", 1.0, "A02 A03 A04", advise_check_no_kernels},
    {"A02", "bound by launches", .9, "A03 A04 A05 A18 A30", advise_check_launches},
    {"A03", "GPU idle between its work", .9, "A04", advise_check_idle},
    {"A04", "kernels shorter than their launch", .85, "", advise_check_tiny},
    {"A05", "batch too small", .95, "A30 A31 A35", advise_check_small_batch},
    {"A06", "batch past the knee", .95, "", advise_check_knee},
    {"A07", "slower than allowed", .95, "", advise_check_slo},
    {"A08", "another device is faster", .95, "A02 A03 A04 A05 A16 A18 A29 A61",
     advise_check_other_device},
    {"A10", "cold start in the numbers", 1.0, "A11 A48", advise_check_cold},
    {"A11", "not steady", .9, "A48", advise_check_steady},
    {"A13", "last batch filled up", 1.0, "", advise_check_last_batch},
    {"A15", "clocks held down", .95, "A11 A48", advise_check_throttle},
    {"A16", "bound by copies", .95, "A18 A19 A20", advise_check_copies},
    {"A17", "pageable copies", .95, "A16 A18", advise_check_pageable},
    {"A18", "copies and kernels do not overlap", .9, "", advise_check_overlap},
    {"A19", "floats made of bytes on the host", .9, "", advise_check_floats},
    {"A20", "large outputs", .9, "", advise_check_outputs},
    {"A21", "preprocessing holds the model up", 1.0, "A19", advise_check_preprocess},
    {"A23", "layers bound by memory", .9, "", advise_check_memory_roof},
    {"A24", "layers at the peak of arithmetic", .9, "", advise_check_compute_roof},
    {"A25", "a layer far slower than its like", .7, "A36", advise_check_outlier},
    {"A26", "channels that tensor cores do not take whole", .8, "A25 A36", advise_check_alignment},
    {"A27", "half precision without tensor cores", .95, "A29 A61", advise_check_no_tensor_cores},
    {"A28", "answers differ from fp32", 1.0, "", advise_check_answers},
    {"A29", "TF32 unused", .85, "", advise_check_tf32},
    {"A61", "half precision unused", .8, "A29", advise_check_half},
    {"A30", "multiprocessors unfilled", .85, "A31", advise_check_fill},
    {"A31", "last wave nearly empty", .75, "", advise_check_tail},
    {"A32", "tensors turned around", .9, "A25 A36", advise_check_shuffles},
    {"A33", "layers not fused", .95, "A25 A37", advise_check_fusion},
    {"A34", "recurrent layer step by step", .95, "A02 A03 A04 A25 A36", advise_check_unrolled},
    {"A35", "weights read for few samples", .9, "", advise_check_weights},
    {"A36", "one layer dominates", 1.0, "", advise_check_dominant},
    {"A37", "layers without effect take time", 1.0, "A25 A36", advise_check_idle_layers},
    {"A38", "kernels by rule of thumb", .9, "", advise_check_autotune},
    {"A39", "little room for workspace", .9, "A40", advise_check_limit},
    {"A40", "near the end of memory", .95, "", advise_check_wall},
    {"A41", "memory reserved beside other processes", .8, "", advise_check_prealloc},
    {"A42", "memory held and not used", .9, "", advise_check_unused},
    {"A43", "other processes on the GPU", .9, "A11 A48", advise_check_tenants},
    {"A45", "unfair to the CPU", 1.0, "", advise_check_fair_cpu},
    {"A46", "zeros that save nothing", .95, "", advise_check_zeros},
    {"A47", "two of four weights are zero", .7, "", advise_check_pattern},
    {"A48", "steps differ much", .9, "", advise_check_jitter},
    {"A49", "the profiler itself", 1.0, "", advise_check_observer},
    {"A50", "a graph hides the layers", 1.0, "", advise_check_hidden_layers},
    {"A51", "time outside the model", .9, "", advise_check_gap},
    {"A52", "GPUs without work", 1.0, "", advise_check_idle_gpus},
    {"A53", "records lost", 1.0, "", advise_check_lost},
    {"A54", "tensors beyond 32-bit indices", 1.0, "", advise_check_index},
    {"A55", "tiles for bfloat16 unused", .9, "", advise_check_tiles},
    {"A56", "bfloat16 without tiles", .95, "", advise_check_no_tiles},
    {"A57", "other programs on these processors", .95, "A10 A11 A25 A36 A48 A49",
     advise_check_load},
    {"A58", "pages come from disk", .9, "A11 A25 A36 A48", advise_check_swap},
    {"A59", "threads do not match the cores", .95, "", advise_check_threads},
    {"A60", "batch not cut into slices that fit the cache", .8, "A06", advise_check_slices},
    {"A63", "int8 unused", .6, "", advise_check_int8},
    {"A62", "layers left to the CPU", .95, "A03 A16 A18 A25 A36", advise_check_fallback},
    {NULL, NULL, 0, NULL, NULL},
};

const char *advise_state_name(enum advise_state state)
{
    static const char *const names[ADVISE_STATES] = {"nothing", "ask",  "note", "consequence",
                                                     "try",     "risk", "gain"};
    return names[state];
}

double advise_speedup(const struct advise_finding *finding, double saved_ms)
{
    double left = finding->base_ms - saved_ms;
    return left > 0 ? finding->base_ms / left : (double)INFINITY;
}

/* ---- what rules ask ---- */

double advise_step_ms(const struct advise_facts *facts)
{
    return isfinite(facts->run.wall_ms) ? facts->run.wall_ms : facts->ledger.wall_ms;
}

double advise_share(const struct advise_facts *facts, double class_ms)
{
    double share = class_ms / facts->ledger.wall_ms;
    return isfinite(share) && share > 0 ? share : 0;
}

bool advise_on_gpu(const struct advise_facts *facts)
{
    return strcmp(facts->device.kind, "gpu") == 0;
}

bool advise_on_cpu(const struct advise_facts *facts)
{
    return strcmp(facts->device.kind, "cpu") == 0;
}

bool advise_listed(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; length > 0 && (at = strstr(at, word)) != NULL; at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

/* How many of the ops' kinds are in `list`, and how many there are. */
static size_t count_ops(const struct advise_layer *layer, const char *list, size_t *kinds)
{
    char ops[ADVISE_TEXT_BYTES];
    size_t found = 0;
    snprintf(ops, sizeof ops, "%s", layer->ops);
    *kinds = 0;
    for (char *rest = ops, *word; (word = strsep(&rest, "+")) != NULL;) {
        if (!*word)
            continue;
        ++*kinds;
        found += advise_listed(list, word);
    }
    return found;
}

bool advise_ops_only(const struct advise_layer *layer, const char *list)
{
    size_t kinds, found = count_ops(layer, list, &kinds);
    return kinds > 0 && found == kinds;
}

bool advise_ops_any(const struct advise_layer *layer, const char *list)
{
    size_t kinds;
    return count_ops(layer, list, &kinds) > 0;
}

double advise_scaled(const struct advise_facts *facts, double mean_ms)
{
    double mean = isfinite(facts->ledger.wall_ms) ? facts->ledger.wall_ms : facts->run.mean_ms;
    double scale = advise_step_ms(facts) / mean;
    return mean_ms > 0 ? mean_ms * (isfinite(scale) ? scale : 1) : 0;
}

double advise_layer_ms(const struct advise_facts *facts, const struct advise_layer *layer)
{
    (void)facts; /* scaled_layers() has made it a part of the step */
    return layer->fused != FLAG_YES && layer->time_ms > 0 ? layer->time_ms : 0;
}

/* The layers with their times as parts of the step, which together are no more than all of it. Caller
 * frees. */
static struct advise_layer *scaled_layers(const struct advise_facts *facts)
{
    size_t count = facts->layers_count;
    struct advise_layer *layers = xcalloc(count + 1, sizeof *layers);
    double sum_ms = 0, step_ms = advise_step_ms(facts);
    for (size_t i = 0; i < count; i++) {
        layers[i] = facts->layers[i];
        layers[i].time_ms = layers[i].median_ms >= 0 ? layers[i].median_ms
                                                     : advise_scaled(facts, layers[i].time_ms);
        sum_ms += layers[i].fused != FLAG_YES ? layers[i].time_ms : 0;
    }
    for (size_t i = 0; i < count && sum_ms > step_ms; i++) /* of other steps than the wall */
        layers[i].time_ms *= step_ms / sum_ms;
    return layers;
}

/* ---- what rules say ---- */

static void write_text(char *out, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
static void write_text(char *out, size_t size, const char *format, va_list arguments)
{
    /* names of layers are clean; cut where a character ends: JSON takes no half ones */
    vsnprintf(out, size, format, arguments);
    size_t end = strlen(out);
    if (end + 1 < size)
        return;
    while (end > 0 && ((unsigned char)out[end - 1] & 0xC0) == 0x80)
        end--;
    if (end > 0 && (unsigned char)out[end - 1] >= 0xC0)
        end--;
    out[end] = '\0';
}

#define WRITE(field)                                                                               \
    do {                                                                                           \
        va_list arguments;                                                                         \
        va_start(arguments, field);                                                                \
        write_text(finding->field, sizeof finding->field, field, arguments);                       \
        va_end(arguments);                                                                         \
    } while (0)

void advise_say(struct advise_finding *finding, const char *what, ...)
{
    WRITE(what);
}

void advise_tell(struct advise_finding *finding, enum advise_state state, const char *what, ...)
{
    WRITE(what);
    finding->state = state;
}

void advise_formula(struct advise_finding *finding, const char *formula, ...)
{
    WRITE(formula);
}

void advise_act(struct advise_finding *finding, const char *action, ...)
{
    WRITE(action);
}

void advise_keras(struct advise_finding *finding, const char *keras, ...)
{
    WRITE(keras);
}

void advise_ask(struct advise_finding *finding, const char *what, const char *ask)
{
    finding->state = ADVISE_ASK;
    snprintf(finding->what, sizeof finding->what, "%s", what);
    snprintf(finding->ask, sizeof finding->ask, "%s", ask);
}

void advise_change(struct advise_finding *finding, const char *key, const char *value, ...)
{
    va_list arguments;
    if (finding->change_count == ADVISE_CHANGES_MAX)
        return;
    size_t at = finding->change_count++;
    snprintf(finding->changes[at].key, sizeof finding->changes[at].key, "%s", key);
    va_start(arguments, value);
    write_text(finding->changes[at].value, sizeof finding->changes[at].value, value, arguments);
    va_end(arguments);
}

bool advise_saves(const struct advise_facts *facts, struct advise_finding *finding, double low_ms,
                  double saved_ms, double high_ms)
{
    double step_ms = advise_step_ms(facts);
    if (!isfinite(saved_ms) || !(saved_ms >= ADVISE_GAIN_LEAST * step_ms))
        return false;
    finding->state = ADVISE_GAIN;
    finding->base_ms = step_ms;
    finding->saved_ms = fmin(saved_ms, step_ms);
    finding->saved_low_ms = fmin(fmax(low_ms, 0), finding->saved_ms);
    finding->saved_high_ms = fmin(fmax(high_ms, finding->saved_ms), step_ms);
    return true;
}

void advise_layer_add(const struct advise_facts *facts, struct advise_finding *finding,
                      size_t layer)
{
    double ms = advise_layer_ms(facts, &facts->layers[layer]);
    size_t at = finding->layer_count;
    while (at > 0 && advise_layer_ms(facts, &facts->layers[finding->layers[at - 1]]) < ms)
        at--;
    if (at == ADVISE_LAYERS_MAX)
        return;
    if (finding->layer_count < ADVISE_LAYERS_MAX)
        finding->layer_count++;
    for (size_t i = finding->layer_count - 1; i > at; i--)
        finding->layers[i] = finding->layers[i - 1];
    finding->layers[at] = layer;
}

char *advise_layer_names(const struct advise_facts *facts, const struct advise_finding *finding,
                         size_t count, char *out, size_t size)
{
    size_t used = 0, shown = finding->layer_count < 3 ? finding->layer_count : 3;
    *out = '\0';
    for (size_t i = 0; i < shown && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%.60s", i ? ", " : "",
                                 facts->layers[finding->layers[i]].label);
    if (count > shown && used < size)
        snprintf(out + used, size - used, " and %zu more", count - shown);
    return out;
}

/* ---- ranking ---- */

static bool is_advice(enum advise_state state)
{
    return state >= ADVISE_TRY;
}

/* What would save far less than another is not what that one comes from: at least this share of it.
 * Other programs and missing pages hit every layer alike: they must be much larger than what is seen
 * at one. */
static double least_of_cause(const struct advise_rule *cause)
{
    return advise_listed("A57 A58", cause->id) ? 1.5 : 0.5;
}

/* An advice that is only what another one brings with it: of those that explain it, the one that
 * saves most. A risk or a try explains as well as a gain. */
static const struct advise_rule *cause_of(const struct advise_report *report, size_t index)
{
    const struct advise_result *best = NULL;
    for (size_t i = 0; i < report->count; i++) {
        const struct advise_result *other = &report->results[i];
        if (i == index || !is_advice(other->finding->state) ||
            !advise_listed(other->rule->causes, report->results[index].rule->id))
            continue;
        if (other->finding->saved_ms <
            least_of_cause(other->rule) * report->results[index].finding->saved_ms)
            continue;
        if (!best || other->finding->saved_ms > best->finding->saved_ms)
            best = other;
    }
    return best ? best->rule : NULL;
}

static void tell_consequences(struct advise_report *report)
{
    bool follows[ADVISE_RULES_MAX] = {false};
    for (size_t i = 0; i < report->count; i++) {
        if (!is_advice(report->findings[i].state))
            continue;
        report->results[i].of = cause_of(report, i);
        follows[i] = report->results[i].of != NULL;
    }
    for (size_t i = 0; i < report->count; i++)
        if (follows[i])
            report->findings[i].state = ADVISE_CONSEQUENCE;
}

/* By state, gains by what they save; equal ones in the table's order. */
static int by_rank(const void *a, const void *b)
{
    const struct advise_result *left = a, *right = b;
    if (left->finding->state != right->finding->state)
        return left->finding->state > right->finding->state ? -1 : 1;
    double x = left->finding->state == ADVISE_GAIN ? left->finding->saved_ms : 0;
    double y = right->finding->state == ADVISE_GAIN ? right->finding->saved_ms : 0;
    if (x != y)
        return x > y ? -1 : 1;
    return left->rule < right->rule ? -1 : left->rule > right->rule;
}

void advise_examine(const struct advise_facts *facts, struct advise_report *out)
{
    memset(out, 0, sizeof *out);
    out->step_ms = advise_step_ms(facts);
    if (!(out->step_ms > 0)) {
        out->step_ms = (double)NAN;
        return;
    }
    struct advise_facts even = *facts;
    even.layers = scaled_layers(facts);
    for (const struct advise_rule *rule = advise_rules; rule->id; rule++) {
        struct advise_finding *finding = &out->findings[out->count];
        struct advise_result *result = &out->results[out->count++];
        finding->base_ms = out->step_ms;
        finding->sure = rule->sure;
        rule->check(&even, finding);
        *result = (struct advise_result){.rule = rule, .finding = finding};
        advise_take_way(facts, rule, finding);
        result->trial = advise_trial_of(facts, rule, finding);
        if (result->trial)
            advise_believe(finding, result->trial);
    }
    free(even.layers);
    tell_consequences(out);
    qsort(out->results, out->count, sizeof *out->results, by_rank);
    while (out->advice < out->count && is_advice(out->results[out->advice].finding->state))
        out->advice++;
}
