/* Several ways to do one advice, and what --try measured of them. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

char *advise_changes_text(const struct advise_set *changes, size_t count, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s %s", i ? ", " : "", changes[i].key,
                                 changes[i].value);
    return out;
}

struct advise_way *advise_way_add(struct advise_finding *finding, double low_ms, double saved_ms,
                                  double high_ms)
{
    if (finding->way_count == ADVISE_WAYS_MAX)
        return NULL;
    struct advise_way *way = &finding->ways[finding->way_count++];
    *way =
        (struct advise_way){.saved_ms = saved_ms, .saved_low_ms = low_ms, .saved_high_ms = high_ms};
    return way;
}

void advise_way_change(struct advise_way *way, const char *key, const char *value, ...)
{
    va_list arguments;
    if (!way || way->change_count == ADVISE_CHANGES_MAX)
        return;
    struct advise_set *set = &way->changes[way->change_count++];
    snprintf(set->key, sizeof set->key, "%s", key);
    va_start(arguments, value);
    vsnprintf(set->value, sizeof set->value, value, arguments);
    va_end(arguments);
}

/* The newest trial of a rule; `change` is what it changed, NULL: whatever that was. */
static const struct advise_trial *newest_trial(const struct advise_facts *facts, const char *id,
                                               const char *change)
{
    for (size_t i = facts->trials_count; i-- > 0;)
        if (strcmp(facts->trials[i].id, id) == 0 &&
            (!change || strcmp(facts->trials[i].change, change) == 0))
            return &facts->trials[i];
    return NULL;
}

static const struct advise_trial *trial_of_way(const struct advise_facts *facts, const char *id,
                                               const struct advise_way *way)
{
    char text[ADVISE_TEXT_BYTES]; /* as long as a trial's is kept */
    return newest_trial(facts, id,
                        advise_changes_text(way->changes, way->change_count, text, sizeof text));
}

const struct advise_trial *advise_trial_of(const struct advise_facts *facts,
                                           const struct advise_rule *rule,
                                           const struct advise_finding *finding)
{
    char text[ADVISE_TEXT_BYTES];
    advise_changes_text(finding->changes, finding->change_count, text, sizeof text);
    return newest_trial(facts, rule->id, finding->way_count > 1 ? text : NULL);
}

/* What a way saves, of `base_ms`: as measured, else as predicted; less than nothing if neither is
 * known. */
static double worth(const struct advise_facts *facts, const char *id, const struct advise_way *way,
                    double base_ms)
{
    const struct advise_trial *trial = trial_of_way(facts, id, way);
    if (trial && trial->speedup > 0)
        return trial->low > 1 ? base_ms * (1 - 1 / trial->speedup) : 0;
    return isfinite(way->saved_ms) ? way->saved_ms : -1;
}

void advise_take_way(const struct advise_facts *facts, const struct advise_rule *rule,
                     struct advise_finding *finding)
{
    const struct advise_way *best = NULL;
    double most = 0, own;
    if (finding->way_count == 0 && finding->change_count > 0) {
        struct advise_way *only = advise_way_add(finding, finding->saved_low_ms, finding->saved_ms,
                                                 finding->saved_high_ms);
        only->change_count = finding->change_count;
        memcpy(only->changes, finding->changes, sizeof only->changes);
        return;
    }
    for (size_t i = 0; i < finding->way_count; i++) {
        own = worth(facts, rule->id, &finding->ways[i], finding->base_ms);
        if (!best || own > most) {
            best = &finding->ways[i];
            most = own;
        }
    }
    if (!best)
        return;
    finding->change_count = best->change_count;
    memcpy(finding->changes, best->changes, sizeof finding->changes);
    if (finding->state == ADVISE_GAIN && isfinite(best->saved_ms)) {
        finding->saved_ms = best->saved_ms;
        finding->saved_low_ms = best->saved_low_ms;
        finding->saved_high_ms = best->saved_high_ms;
    }
}

void advise_believe(struct advise_finding *finding, const struct advise_trial *trial)
{
    bool advice = finding->state == ADVISE_GAIN || finding->state == ADVISE_TRY;
    if (!advice || !isfinite(trial->speedup) || !(trial->speedup > 0))
        return;
    if (!(trial->low > 1) || trial->speedup < 1 / (1 - ADVISE_GAIN_LEAST)) {
        finding->state = ADVISE_NOTE;
        char text[sizeof finding->what];
        snprintf(text, sizeof text,
                 "measured %.3f times as fast (95 %% interval %.3f to %.3f): nothing to gain from "
                 "%.100s",
                 trial->speedup, trial->low, trial->high, trial->change);
        snprintf(finding->what, sizeof finding->what, "%s", text);
        return;
    }
    finding->state = ADVISE_GAIN;
    finding->sure = 1;
    finding->saved_ms = finding->base_ms * (1 - 1 / trial->speedup);
    finding->saved_low_ms = finding->base_ms * (1 - 1 / trial->low);
    finding->saved_high_ms = finding->base_ms * (1 - 1 / trial->high);
    snprintf(finding->formula, sizeof finding->formula,
             "measured against the present in pairs: 95 %% interval %.3f to %.3f times", trial->low,
             trial->high);
}
