/* The header: what runs where and how, the headline numbers, and where a step's time goes. */
#include "tui/units.h"
#include "tui/utf8.h"
#include "tui/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct piece {
    const char *label; /* dim, before the value; may be "" */
    char value[96];
    enum style style;
    int importance; /* pieces of low importance go first when room is short */
};

static const char *state_name(const struct view *view, enum style *style)
{
    switch (view->state) {
    case STATE_IDLE:
        *style = STYLE_DIM;
        return view->model != NULL ? "stopped" : "idle";
    case STATE_LOADING:
        *style = STYLE_WARNING;
        return "loading";
    case STATE_LIVE:
        *style = STYLE_GOOD;
        return "live";
    case STATE_RUNNING:
        *style = STYLE_GOOD;
        return "running";
    case STATE_DEAD:
        *style = STYLE_ERROR;
        return "worker ended";
    }
    *style = STYLE_DIM;
    return "";
}

/* "1:35", "2:00:05" */
static void clock_text(char *out, size_t size, double seconds)
{
    long whole = (long)seconds;
    if (whole >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    else
        snprintf(out, size, "%ld:%02ld", whole / 60, whole % 60);
}

/* What goes on, in words: a recording that is played says where it is, and how fast it goes. */
static const char *state_text(const struct view *view, enum style *style, char *out, size_t size)
{
    const struct replay_state *replay = &view->replay;
    const char *name = state_name(view, style);
    bool played = view->state == STATE_LIVE || view->state == STATE_IDLE;
    if (replay->path == NULL || !played)
        return name;
    snprintf(out, size, "replay");
    if (view->state == STATE_IDLE)
        snprintf(out + strlen(out), size - strlen(out), " stopped");
    else if (replay->speed == 0)
        snprintf(out + strlen(out), size - strlen(out), " at full speed");
    else if (replay->speed != 1)
        snprintf(out + strlen(out), size - strlen(out), " %g\u00d7", replay->speed);
    if (!isnan(replay->position_s)) {
        char position[24], duration[24];
        clock_text(position, sizeof position, replay->position_s);
        clock_text(duration, sizeof duration, replay->duration_s);
        snprintf(out + strlen(out), size - strlen(out), " %s of %s", position, duration);
    }
    return out;
}

static int piece_cols(const struct piece *piece)
{
    return utf8_columns(piece->label) + (piece->label[0] != '\0') + utf8_columns(piece->value);
}

/* Draw as many pieces as fit, the most important ones, in their order. Returns the columns used. */
static int draw_pieces(struct canvas *canvas, int y, int x, int cols, int gap, bool right,
                       const struct piece *pieces, size_t count)
{
    bool shown[16] = {false};
    int used = 0, start = x;
    for (int importance = 9; importance >= 0; importance--) {
        for (size_t i = 0; i < count; i++) {
            if (pieces[i].importance != importance || pieces[i].value[0] == '\0')
                continue;
            int width = piece_cols(&pieces[i]) + (used > 0 ? gap : 0);
            if (used + width > cols)
                continue;
            used += width;
            shown[i] = true;
        }
    }
    if (right)
        start = x += cols - used;
    for (size_t i = 0; i < count; i++) {
        if (!shown[i])
            continue;
        x += x > start ? gap : 0;
        if (pieces[i].label[0] != '\0')
            x += canvas_text(canvas, y, x, 40, STYLE_LABEL, pieces[i].label) + 1;
        x += canvas_text(canvas, y, x, 96, pieces[i].style, pieces[i].value);
    }
    return used;
}

static void draw_identity(struct canvas *canvas, struct rect rect, const struct view *view)
{
    enum style style;
    char words[80];
    const char *state = state_text(view, &style, words, sizeof words);
    int x = rect.x, end = rect.x + rect.cols;
    x += canvas_text(canvas, rect.y, x, end - x, STYLE_ACCENT, "layertop") + 1;
    const char *name = view->model_name != NULL ? view->model_name : "no model";
    x += 1 + canvas_text(canvas, rect.y, x, rect.cols > 90 ? 40 : 20, STYLE_VALUE, name) + 1;
    canvas_put(canvas, rect.y, x, 0x25cf, style);
    x += 2;
    x += canvas_text(canvas, rect.y, x, end - x, style, state) + 2;

    const char *timing = store_timing_source(view->store);
    enum { RECORD, DEVICE, NAME, BATCH, PRECISION, GROWTH, FUSION, GRAPH, TIMING, DROPPED, COUNT };
    struct piece pieces[COUNT] = {
        [RECORD] = {"", "", STYLE_ERROR, 9},
        [DEVICE] = {"", "", STYLE_VALUE, 9},
        [NAME] = {"", "", STYLE_DIM, 5},
        [BATCH] = {"batch", "", STYLE_VALUE, 9},
        [PRECISION] = {"", "", STYLE_VALUE, 8},
        [GROWTH] = {"growth", "", STYLE_NORMAL, 6},
        [FUSION] = {"fusion", "", STYLE_NORMAL, 3},
        [GRAPH] = {"graph", "", STYLE_NORMAL, 3},
        [TIMING] = {"timing", "", STYLE_NORMAL, 7},
        [DROPPED] = {"dropped", "", STYLE_WARNING, 9},
    };
    const size_t size = sizeof pieces[0].value;
    if (view->recording != NULL)
        snprintf(pieces[RECORD].value, size, "recording");
    snprintf(pieces[DEVICE].value, size, "%.40s", view->devices);
    snprintf(pieces[NAME].value, size, "%.90s", view->device_name);
    snprintf(pieces[BATCH].value, size, "%lld", (long long)view->batch);
    snprintf(pieces[PRECISION].value, size, "%s", view->precision);
    snprintf(pieces[GROWTH].value, size, "%s", view->growth ? "on" : "off");
    snprintf(pieces[FUSION].value, size, "%s", view->fusion ? "on" : "off");
    if (strncmp(view->devices, "cpu", 3) != 0)
        snprintf(pieces[GRAPH].value, size, "%s", view->graph ? "on" : "off");
    bool bursts = strcmp(timing, "cupti") == 0 && store_in_bursts(view->store);
    snprintf(pieces[TIMING].value, size, "%.20s%s", timing, bursts ? " in bursts" : "");
    if (strcmp(timing, "off") == 0)
        pieces[TIMING].style = STYLE_WARNING;
    if (store_dropped(view->store) > 0)
        snprintf(pieces[DROPPED].value, size, "%llu records",
                 (unsigned long long)store_dropped(view->store));
    draw_pieces(canvas, rect.y, x, end - x, 2, true, pieces, COUNT);
}

/* The device's own readings, where there are some. */
static void gpu_pieces(const struct store *store, struct piece *clock, struct piece *power)
{
    double mhz = series_last(store_series_get(store, SERIES_GPU_CLOCK_MHZ));
    double celsius = series_last(store_series_get(store, SERIES_GPU_TEMPERATURE_C));
    double watt = series_last(store_series_get(store, SERIES_GPU_POWER_W));
    if (!isnan(mhz))
        snprintf(clock->value, sizeof clock->value, "%.0f MHz", mhz);
    if (!isnan(watt) && !isnan(celsius))
        snprintf(power->value, sizeof power->value, "%.0f W %.0f \u00b0C", watt, celsius);
}

/* What speaks against believing the numbers, and NVML's utilisation under the only name it deserves. */
static void mark_pieces(const struct store *store, struct piece *mark, struct piece *busy)
{
    struct marks marks;
    store_marks(store, &marks);
    bool throttled = marks_throttled(&marks) != 0, known = marks.tenants != UINT64_MAX;
    unsigned long long tenants = known ? (unsigned long long)marks.tenants : 0;
    char others[48] = "";
    if (tenants > 0)
        snprintf(others, sizeof others, "%llu other process%s", tenants, tenants == 1 ? "" : "es");
    snprintf(mark->value, sizeof mark->value, "%s%s%s", throttled ? "throttled" : "",
             throttled && tenants > 0 ? ", " : "", others);
    double share = series_last(store_series_get(store, SERIES_GPU_UTIL));
    if (!isnan(share))
        unit_share(busy->value, sizeof busy->value, share);
}

static void draw_headline(struct canvas *canvas, struct rect rect, const struct view *view)
{
    const struct store *store = view->store;
    struct summary wall;
    struct ledger ledger;
    char text[32];
    store_wall(store, &wall);
    store_ledger(store, &ledger);
    double step = ledger.steps > 0 ? ledger.wall_ms : wall.mean;
    enum { STEP, P95, RATE, MEMORY, PLAN, KERNEL, COST, CLOCK, POWER, MARK, BUSY, COUNT };
    struct piece pieces[COUNT] = {
        [STEP] = {"step", "", STYLE_VALUE, 9},
        [P95] = {"p95", "", STYLE_NORMAL, 5},
        [RATE] = {"throughput", "", STYLE_VALUE, 9},
        [MEMORY] = {"memory", "", STYLE_VALUE, 9},
        [PLAN] = {"plan", "", STYLE_NORMAL, 4},
        [KERNEL] = {"kernel", "", STYLE_VALUE, 8},
        [COST] = {"profiler", "", STYLE_NORMAL, 1},
        [CLOCK] = {"clock", "", STYLE_NORMAL, 3},
        [POWER] = {"", "", STYLE_NORMAL, 2},
        [MARK] = {"", "", STYLE_ERROR, 9},
        [BUSY] = {"some kernel ran", "", STYLE_NORMAL, 1},
    };
    const size_t size = sizeof pieces[0].value;
    unit_ms(pieces[STEP].value, size, step);
    if (wall.count > 0)
        unit_ms(pieces[P95].value, size, wall.p95);
    double cpu = series_last(store_series_get(store, SERIES_THROUGHPUT_CPU));
    double gpu = series_last(store_series_get(store, SERIES_THROUGHPUT_GPU));
    bool on_cpu = strncmp(view->devices, "cpu", 3) == 0;
    unit_rate(pieces[RATE].value, size, on_cpu || isnan(gpu) ? cpu : gpu);
    double used = series_last(store_series_get(store, SERIES_MEMORY_USED));
    double total = series_last(store_series_get(store, SERIES_MEMORY_TOTAL));
    unit_bytes(pieces[MEMORY].value, size, used);
    if (!isnan(used) && !isnan(total) && rect.cols >= 100) {
        size_t length = strlen(pieces[MEMORY].value);
        snprintf(pieces[MEMORY].value + length, size - length, " of %s",
                 unit_bytes(text, sizeof text, total));
    }
    const json_t *planned = json_object_get(json_object_get(view->plan, "memory"), "planned_bytes");
    if (json_is_number(planned))
        unit_bytes(pieces[PLAN].value, size, json_number_value(planned));
    bool known = ledger.steps > 0 && ledger.wall_ms > 0;
    unit_share(pieces[KERNEL].value, size,
               known ? ledger.class_ms[LEDGER_KERNEL] / ledger.wall_ms : NAN);
    struct store_cost cost;
    store_cost(store, &cost);
    if (!isnan(cost.share))
        unit_share(pieces[COST].value, size, fmax(cost.share, 0));
    gpu_pieces(store, &pieces[CLOCK], &pieces[POWER]);
    mark_pieces(store, &pieces[MARK], &pieces[BUSY]);
    draw_pieces(canvas, rect.y, rect.x, rect.cols, 3, false, pieces, COUNT);
}

static const enum style class_styles[LEDGER_CLASS_COUNT + 1] = {
    [LEDGER_KERNEL] = STYLE_SERIES_C,     [LEDGER_COPY] = STYLE_SERIES_B,
    [LEDGER_PROFILER] = STYLE_SERIES_D,   [LEDGER_LAUNCH] = STYLE_SERIES_E,
    [LEDGER_PREPROCESS] = STYLE_SERIES_A, [LEDGER_GAP] = STYLE_SERIES_F,
    [LEDGER_CLASS_COUNT] = STYLE_ERROR,
};

/* Without colours and blocks a letter tells the classes apart. */
static uint32_t class_symbol(enum symbols symbols, int class)
{
    static const uint32_t blocks[] = {0x2588, 0x2593, 0x2592, 0x2593, 0x2592, 0x2591, '?'};
    return symbols == SYMBOLS_ASCII ? (uint32_t) "kcplig?"[class] : blocks[class];
}

/* A bar of the step's wall time by class, and the shares in words. */
static void draw_ledger(struct canvas *canvas, struct rect rect, const struct view *view)
{
    struct ledger ledger;
    store_ledger(view->store, &ledger);
    int bar = rect.cols >= 120 ? 40 : rect.cols >= 100 ? 30 : 22;
    int x = rect.x + canvas_text(canvas, rect.y, rect.x, 6, STYLE_LABEL, "ledger") + 1;
    if (ledger.steps == 0 || !(ledger.wall_ms > 0)) {
        canvas_text(canvas, rect.y, x, rect.cols - 7, STYLE_DIM,
                    view->state == STATE_LIVE ? "waiting for the first steps"
                    : view->model != NULL     ? "no steps now: start, or run 100"
                                              : "no model: load demo:digits");
        return;
    }
    double parts[LEDGER_CLASS_COUNT + 1], sum = 0;
    for (int i = 0; i <= LEDGER_CLASS_COUNT; i++) {
        double ms = i < LEDGER_CLASS_COUNT ? ledger.class_ms[i] : ledger.unexplained_ms;
        parts[i] = isnan(ms) ? 0 : ms / ledger.wall_ms;
        double from = sum;
        sum += parts[i] > 0 ? parts[i] : 0;
        for (int k = (int)(from * bar + 0.5); k < (int)(sum * bar + 0.5) && k < bar; k++)
            canvas_put(canvas, rect.y, x + k, class_symbol(canvas->symbols, i), class_styles[i]);
    }
    x += bar + 1;
    struct piece pieces[LEDGER_CLASS_COUNT + 1];
    for (int i = 0; i <= LEDGER_CLASS_COUNT; i++) {
        pieces[i] = (struct piece){i < LEDGER_CLASS_COUNT ? ledger_class_name((enum ledger_class)i)
                                                          : "unexplained",
                                   "", class_styles[i], 0};
        double magnitude = fabs(parts[i]);
        if (magnitude >= 0.0005)
            unit_share(pieces[i].value, sizeof pieces[i].value, parts[i]);
        pieces[i].importance = magnitude > 0.3 ? 9 : magnitude > 0.1 ? 7 : magnitude > 0.01 ? 5 : 2;
    }
    draw_pieces(canvas, rect.y, x, rect.x + rect.cols - x, 2, false, pieces,
                sizeof pieces / sizeof pieces[0]);
}

void pane_header_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    canvas_clip(canvas, rect);
    int notice = view->notice[0] != '\0' && rect.rows > 2;
    struct rect row = {rect.y, rect.x, 1, rect.cols};
    draw_identity(canvas, row, view);
    row.y++;
    if (rect.rows > 1)
        draw_headline(canvas, row, view);
    row.y++;
    if (rect.rows - notice > 2) {
        draw_ledger(canvas, row, view);
        row.y++;
    }
    if (notice)
        canvas_textf(canvas, row.y, rect.x, rect.cols, STYLE_ERROR,
                     "%s; the numbers stay, the next command starts a new one", view->notice);
}

void pane_small_draw(struct canvas *canvas, struct rect rect, const struct view *view)
{
    (void)view;
    canvas_clip(canvas, rect);
    char text[80];
    snprintf(text, sizeof text, "layertop needs more room: %dx%d, this is %dx%d", LAYOUT_GOOD_COLS,
             LAYOUT_GOOD_ROWS, canvas->cols, canvas->rows);
    const char *rest = text;
    for (int y = 0; y < rect.rows && *rest != '\0'; y++) { /* broken at blanks, else anywhere */
        int take = (int)strlen(rest);
        if (take > rect.cols) {
            take = rect.cols;
            while (take > 1 && rest[take] != ' ')
                take--;
            take = rest[take] == ' ' ? take : rect.cols;
        }
        canvas_textf(canvas, rect.y + y, rect.x, rect.cols, STYLE_NORMAL, "%.*s", take, rest);
        rest += take;
        rest += *rest == ' ';
    }
}
