#include "commands/measures.h"

#include "commands/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

json_t *ledger_json(const struct ledger *ledger)
{
    static const enum ledger_class order[] = {LEDGER_PREPROCESS, LEDGER_COPY, LEDGER_LAUNCH,
                                              LEDGER_KERNEL,     LEDGER_GAP,  LEDGER_PROFILER};
    static const enum ledger_class hidden[] = {LEDGER_COPY, LEDGER_LAUNCH, LEDGER_PREPROCESS,
                                               LEDGER_PROFILER};
    json_t *object = json_object();
    bool known = ledger && ledger->steps > 0;
    char key[48];
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        snprintf(key, sizeof key, "%s_ms", ledger_class_name(order[i]));
        json_object_set_new(object, key, json_number(known ? ledger->class_ms[order[i]] : NAN));
    }
    json_object_set_new(object, "unexplained_ms",
                        json_number(known ? ledger->unexplained_ms : NAN));
    json_object_set_new(object, "wall_ms", json_number(known ? ledger->wall_ms : NAN));
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        snprintf(key, sizeof key, "hidden_%s_ms", ledger_class_name(hidden[i]));
        json_object_set_new(object, key, json_number(known ? ledger->hidden_ms[hidden[i]] : NAN));
    }
    return object;
}

/* "kernel 1.2 ms, launch 0.1 ms" of what is more than nothing */
static void append_classes(char *line, size_t size, const double *ms, int count)
{
    char number[FORMAT_SIZE];
    for (int i = 0; i < count; i++) {
        size_t used = strlen(line);
        if (ms[i] > 0)
            snprintf(line + used, size - used, "%s%s %s", used ? ", " : "",
                     ledger_class_name((enum ledger_class)i),
                     format_time_ms(number, sizeof number, ms[i]));
    }
}

void ledger_print(struct execution *execution, const struct ledger *ledger)
{
    char line[256] = "", hidden[256] = "", number[FORMAT_SIZE];
    append_classes(line, sizeof line, ledger->class_ms, LEDGER_CLASS_COUNT);
    execution_print(execution, "  ledger      %s, unexplained %s", line,
                    format_time_ms(number, sizeof number, ledger->unexplained_ms));
    append_classes(hidden, sizeof hidden, ledger->hidden_ms, LEDGER_GAP);
    if (*hidden)
        execution_print(execution, "  hidden      %s (behind kernels and copies; not in the sum)",
                        hidden);
}

void cost_json(json_t *data, const struct store_cost *cost)
{
    bool known = cost && isfinite(cost->share);
    json_object_set_new(data, "profiler_cost_share", json_number(known ? cost->share : NAN));
    json_object_set_new(data, "profiler_cost_interval",
                        known ? json_pack("[f, f]", cost->low, cost->high) : json_null());
    json_object_set_new(data, "profiler_cost_pairs",
                        known ? json_integer((json_int_t)cost->pairs) : json_null());
}

void cost_print(struct execution *execution, const struct store_cost *cost)
{
    if (cost && isfinite(cost->share))
        execution_print(execution,
                        "  profiler    costs %+.1f %% of a step (%+.1f to %+.1f %%, %llu on/off "
                        "pairs)",
                        cost->share * 100, cost->low * 100, cost->high * 100,
                        (unsigned long long)cost->pairs);
}

void marks_find(const struct store *store, uint32_t segment, struct marks *out)
{
    const struct store_segment *found = segment ? store_segment_get(store, segment) : NULL;
    marks_clear(out);
    if (found)
        *out = found->marks;
    else if (!segment)
        store_marks(store, out);
}

void marks_report_json(json_t *data, const struct marks *marks)
{
    bool known = marks && marks->samples > 0;
    bool told = known && marks->tenants != UINT64_MAX;
    json_object_set_new(data, "throttle", known ? marks_throttle_json(marks) : json_null());
    json_object_set_new(data, "other_processes",
                        told ? json_integer((json_int_t)marks->tenants) : json_null());
}

void marks_report_warn(struct execution *execution, const struct marks *marks)
{
    char text[256];
    if (*marks_text(marks, text, sizeof text))
        execution_warn(execution, "these numbers are marked: %s", text);
}
