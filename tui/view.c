#include "tui/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const sort_names[] = {"time", "order", "name", "flops", "bytes", NULL};

const enum style view_plot_styles[VIEW_PLOTTED] = {STYLE_SERIES_A, STYLE_SERIES_B, STYLE_SERIES_C,
                                                   STYLE_SERIES_D};

struct sort_row {
    int index;
    double key;
    const char *name;
};

static int compare_rows(const void *left, const void *right)
{
    const struct sort_row *a = left, *b = right;
    if (a->name != NULL && strcmp(a->name, b->name) != 0)
        return strcmp(a->name, b->name);
    if (isnan(a->key) != isnan(b->key))
        return isnan(a->key) ? 1 : -1;
    if (a->key > b->key || a->key < b->key)
        return a->key > b->key ? -1 : 1;
    return a->index - b->index;
}

static struct sort_row sort_row(const struct view *view, int index, enum sort_key sort)
{
    const struct store_layer *layer = &view->layers[index];
    struct sort_row row = {index, NAN, NULL};
    switch (sort) {
    case SORT_TIME:
        row.key = layer->time_ms;
        break;
    case SORT_NAME:
        row.name = layer->name;
        break;
    case SORT_FLOPS:
        row.key = (double)layer->flops;
        break;
    case SORT_BYTES:
        row.key = (double)layer->bytes;
        break;
    case SORT_ORDER:
    case SORT_COUNT:
        break;
    }
    return row;
}

static int *sorted_rows(const struct view *view, enum sort_key sort, size_t *count)
{
    struct sort_row *rows = xcalloc(view->layer_count, sizeof *rows);
    size_t used = 0;
    for (size_t i = 0; i < view->layer_count; i++) {
        if (view->layers[i].fused_into < 0)
            rows[used++] = sort_row(view, (int)i, sort);
    }
    int *order = xcalloc(used, sizeof *order);
    if (sort == SORT_TIME && view->order != NULL && view->order->count == view->layer_count) {
        size_t at = 0;
        for (size_t i = 0; i < view->layer_count; i++) {
            int index = view->order->places[i];
            if (view->layers[index].fused_into < 0)
                order[at++] = index;
        }
    } else {
        qsort(rows, used, sizeof *rows, compare_rows);
        for (size_t i = 0; i < used; i++)
            order[i] = rows[i].index;
    }
    free(rows);
    *count = used;
    return order;
}

static void choose_plotted(struct view *view)
{
    int chosen = view->focus == FOCUS_PANES && view->selected >= 0 &&
                         (size_t)view->selected < view->row_count
                     ? view->rows[view->selected]
                     : -1;
    view->plotted_count = 0;
    for (size_t i = 0; i <= view->row_count && view->plotted_count < VIEW_PLOTTED; i++) {
        int index = i == 0 ? chosen : view->by_time[i - 1];
        if (index < 0 || (i > 0 && index == chosen) || view->layers[index].total.count == 0)
            continue;
        view->plotted[view->plotted_count++] = index;
    }
}

void view_take(struct view *view)
{
    view->layer_count = store_layer_count(view->store);
    view->layers = xcalloc(view->layer_count, sizeof *view->layers);
    store_layers(view->store, view->layers);
    view->rows = sorted_rows(view, view->sort, &view->row_count);
    view->by_time = sorted_rows(view, SORT_TIME, &view->row_count);
    choose_plotted(view);
}

void view_drop(struct view *view)
{
    free(view->layers);
    free(view->rows);
    free(view->by_time);
    view->layers = NULL;
    view->rows = view->by_time = NULL;
    view->layer_count = view->row_count = 0;
}

void view_clamp_rows(int *selected, int *top, size_t count, int rows)
{
    int last = (int)count - 1;
    *selected = *selected > last ? last : *selected;
    *selected = *selected < 0 ? 0 : *selected;
    rows = rows < 1 ? 1 : rows;
    if (*top > *selected)
        *top = *selected;
    if (*top < *selected - rows + 1)
        *top = *selected - rows + 1;
    if (*top > (int)count - rows)
        *top = (int)count - rows;
    *top = *top < 0 ? 0 : *top;
}
