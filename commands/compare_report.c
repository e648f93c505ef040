#include "commands/compare_report.h"

#include "commands/format.h"
#include "commands/layer_match.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_WIDTH 36

struct compared {
    size_t a, b;
    enum layer_match how;
    double a_ms, b_ms;
    struct pairs_ratio times;
};

const char *compare_verdict(const struct pairs_ratio *times)
{
    return !pairs_differ(times) ? "no difference" : times->ratio < 1 ? "faster" : "slower";
}

json_t *compare_interval_json(const struct pairs_ratio *times)
{
    return json_pack("[o, o]", json_number(1 / times->high), json_number(1 / times->low));
}

static int by_change(const void *left, const void *right)
{
    const struct compared *x = left, *y = right;
    double a = fabs(x->b_ms - x->a_ms), b = fabs(y->b_ms - y->a_ms);
    return (a < b) - (a > b);
}

static struct match_layer *matchable(const struct compare_side *side)
{
    struct match_layer *list = xcalloc(side->layer_count + 1, sizeof *list);
    for (size_t i = 0; i < side->layer_count; i++)
        list[i] = (struct match_layer){side->layers[i].name, side->layers[i].class_name,
                                       side->layers[i].shape};
    return list;
}

/* Pairs of layers that both sides timed, the largest change first; *left: partner of each of a's that
 * is told in the table, -1 of the others. */
static struct compared *compared_layers(const struct compare_side side[2],
                                        void (*times)(const void *, size_t, size_t,
                                                      struct pairs_ratio *),
                                        const void *context, bool *told[2], size_t *count)
{
    struct match_layer *a = matchable(&side[0]), *b = matchable(&side[1]);
    int *partner = xcalloc(side[0].layer_count + 1, sizeof *partner);
    enum layer_match *how = xcalloc(side[0].layer_count + 1, sizeof *how);
    struct compared *list = xcalloc(side[0].layer_count + 1, sizeof *list);
    layer_match(a, side[0].layer_count, b, side[1].layer_count, partner, how);
    *count = 0;
    for (size_t i = 0; i < side[0].layer_count; i++) {
        if (partner[i] < 0)
            continue;
        size_t j = (size_t)partner[i];
        struct compared row = {
            i, j, how[i], side[0].layer_ms[i], side[1].layer_ms[j], {NAN, NAN, NAN}};
        if (!isfinite(row.a_ms) || !isfinite(row.b_ms))
            continue;
        times(context, i, j, &row.times);
        told[0][i] = told[1][j] = true;
        list[(*count)++] = row;
    }
    qsort(list, *count, sizeof *list, by_change);
    free(a);
    free(b);
    free(partner);
    free(how);
    return list;
}

/* "conv1", or "conv2d = conv2d_5" where the names differ. */
static char *row_label(const struct compare_side side[2], const struct compared *row, char *out,
                       size_t size)
{
    const char *a = side[0].layers[row->a].label, *b = side[1].layers[row->b].label;
    if (strcmp(a, b) == 0)
        snprintf(out, size, "%.*s", LABEL_WIDTH, a);
    else
        snprintf(out, size, "%.*s = %.*s", LABEL_WIDTH / 2 - 2, a, LABEL_WIDTH / 2 - 1, b);
    return out;
}

static void print_rows(struct execution *execution, const struct compare_side side[2],
                       const struct compared *rows, size_t count, size_t top)
{
    char label[2 * LABEL_WIDTH], a[FORMAT_SIZE], b[FORMAT_SIZE];
    size_t shown = count < top ? count : top;
    int width = 5;
    for (size_t i = 0; i < shown; i++) {
        int columns = text_columns(row_label(side, &rows[i], label, sizeof label));
        width = columns > width ? columns : width;
    }
    if (shown > 0)
        execution_print(execution, "%-*s  %-18s %9s %9s  %8s  %s", width, "layer", "class", "A",
                        "B", "B's", "95 % interval");
    for (size_t i = 0; i < shown; i++) {
        const struct compared *row = &rows[i];
        row_label(side, row, label, sizeof label);
        execution_print(execution, "%s%*s  %-18.18s %9s %9s  %7.3fx  %.3f to %.3f%s", label,
                        width - text_columns(label), "", side[0].layers[row->a].class_name,
                        format_time_ms(a, sizeof a, row->a_ms),
                        format_time_ms(b, sizeof b, row->b_ms), 1 / row->times.ratio,
                        1 / row->times.high, 1 / row->times.low,
                        pairs_differ(&row->times) ? "" : "  no difference");
    }
    if (shown < count)
        execution_print(execution, "  and %zu more", count - shown);
}

/* Layers that take time and have no partner that does. */
static void tell_rest(struct execution *execution, const struct compare_side *side, char letter,
                      const bool *told)
{
    double sum = 0;
    size_t count = 0;
    char time[FORMAT_SIZE], key[] = {'o', 'n', 'l', 'y', '_', 0, 0};
    key[5] = letter == 'A' ? 'a' : 'b';
    for (size_t i = 0; i < side->layer_count; i++) {
        if (told[i] || !isfinite(side->layer_ms[i]))
            continue;
        sum += side->layer_ms[i];
        count++;
    }
    json_object_set_new(
        execution->data, key,
        json_pack("{s:I, s:o}", "layers", (json_int_t)count, "layers_ms", json_number(sum)));
    if (count > 0)
        execution_print(execution, "only in %c: %zu layer%s, %s a step", letter, count,
                        count == 1 ? "" : "s", format_time_ms(time, sizeof time, sum));
}

static json_t *row_json(const struct compare_side side[2], const struct compared *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s}", "a",
                     side[0].layers[row->a].name, "b", side[1].layers[row->b].name, "class",
                     side[0].layers[row->a].class_name, "matched", layer_match_name(row->how),
                     "a_ms", json_number(row->a_ms), "b_ms", json_number(row->b_ms), "speedup",
                     json_number(1 / row->times.ratio), "speedup_interval",
                     compare_interval_json(&row->times), "verdict", compare_verdict(&row->times));
}

void compare_report_layers(struct execution *execution, const struct compare_side side[2],
                           void (*times)(const void *context, size_t a, size_t b,
                                         struct pairs_ratio *out),
                           const void *context, size_t top)
{
    bool *told[2] = {xcalloc(side[0].layer_count + 1, sizeof **told),
                     xcalloc(side[1].layer_count + 1, sizeof **told)};
    size_t count;
    struct compared *rows = compared_layers(side, times, context, told, &count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, row_json(side, &rows[i]));
    json_object_set_new(execution->data, "layers", list);
    print_rows(execution, side, rows, count, top);
    tell_rest(execution, &side[0], 'A', told[0]);
    tell_rest(execution, &side[1], 'B', told[1]);
    free(rows);
    free(told[0]);
    free(told[1]);
}
