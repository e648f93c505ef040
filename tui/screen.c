#define _GNU_SOURCE /* signalfd */
#include "tui/screen.h"
#include "commands/history.h"
#include "engine/clock.h"
#include "tui/prompt.h"
#include "tui/tui.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ESCAPE_WAIT_NS INT64_C(25000000)

static int64_t now_ns(const struct screen *screen)
{
    return clock_read_ns(workbench_clock(screen->workbench));
}

/* ---- the view ---- */

static const char *setting_text(const struct screen *screen, const char *name, const char *fallback)
{
    const json_t *value = workbench_setting(screen->workbench, name);
    return json_is_string(value) ? json_string_value(value) : fallback;
}

static double setting_number(const struct screen *screen, const char *name, double fallback)
{
    const json_t *value = workbench_setting(screen->workbench, name);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

static bool setting_on(const struct screen *screen, const char *name)
{
    return !json_is_false(workbench_setting(screen->workbench, name));
}

static enum symbols wanted_symbols(const struct screen *screen)
{
    const char *name = setting_text(screen, "symbols", "auto");
    enum symbols possible = terminal_symbols(screen->terminal);
    if (strcmp(name, "ascii") == 0)
        return SYMBOLS_ASCII;
    if (strcmp(name, "block") == 0)
        return possible == SYMBOLS_ASCII ? SYMBOLS_ASCII : SYMBOLS_BLOCK;
    return possible;
}

/* Is this plan on a device, and which: "gpu:0", or "gpu:0 and 1 more" for a list. */
static void device_text(const json_t *plan, const json_t *setting, char *out, size_t size)
{
    const char *planned = json_string_value(json_object_get(plan, "device"));
    const char *first = json_string_value(json_array_get(setting, 0));
    const char *only = json_string_value(setting);
    if (planned == NULL)
        planned = first != NULL ? first : only != NULL ? only : "auto";
    if (json_array_size(setting) > 1)
        snprintf(out, size, "%.40s +%zu", planned, json_array_size(setting) - 1);
    else
        snprintf(out, size, "%.60s", planned);
}

/* The fence in bytes: a size, or a percentage of the device's memory; NAN if there is none. */
static double limit_bytes(const struct workbench *workbench)
{
    const json_t *limit = workbench_setting(workbench, "limit");
    if (json_is_integer(limit))
        return (double)json_integer_value(limit);
    if (!json_is_string(limit))
        return NAN;
    double total = series_last(store_series_get(workbench_store(workbench), SERIES_MEMORY_TOTAL));
    return strtod(json_string_value(limit), NULL) / 100 * total;
}

void screen_view(const struct screen *screen, struct view *view)
{
    const struct workbench *workbench = screen->workbench;
    *view = (struct view){
        .store = workbench_store(workbench),
        .model = workbench_model(workbench),
        .plan = workbench_plan(workbench),
        .state = workbench_state(workbench),
        .order = &screen->order,
        .notice = workbench_notice(workbench),
        .recording = workbench_recording(workbench),
        .growth = setting_on(screen, "growth"),
        .fusion = setting_on(screen, "fusion"),
        .graph = setting_on(screen, "graph"),
        .limit_bytes = limit_bytes(workbench),
        .span_ns = (int64_t)(setting_number(screen, "span", 60000) * 1e6),
        .focus = screen->focus,
        .selected = screen->selected,
        .top = screen->top,
        .search = lineedit_text(screen->search),
        .log = screen->log,
        .log_back = screen->log_back,
        .answer = screen->answer,
        .progress = screen->progress,
        .progress_text = screen->progress_text,
    };
    workbench_replay_state(workbench, &view->replay);
    if (view->notice == NULL)
        view->notice = "";
    view->model_name = json_string_value(json_object_get(view->model, "name"));
    device_text(view->plan, workbench_setting(workbench, "devices"), view->devices,
                sizeof view->devices);
    const json_t *device = workbench_device(workbench);
    const char *name = json_string_value(json_object_get(device, "name"));
    const char *driver = json_string_value(json_object_get(device, "driver"));
    if (name != NULL)
        snprintf(view->device_name, sizeof view->device_name, "%.50s%s%.30s", name,
                 driver != NULL ? ", driver " : "", driver != NULL ? driver : "");
    const json_t *batch = json_object_get(view->plan, "batch");
    view->batch = json_is_integer(batch) ? json_integer_value(batch)
                                         : (int64_t)setting_number(screen, "batch", 32);
    const char *precision = json_string_value(json_object_get(view->plan, "precision"));
    snprintf(view->precision, sizeof view->precision, "%.15s",
             precision != NULL ? precision : setting_text(screen, "precision", "fp32"));
    const char *sort = setting_text(screen, "sort", "time");
    for (int i = 0; sort_names[i] != NULL; i++) {
        if (strcmp(sort, sort_names[i]) == 0)
            view->sort = (enum sort_key)i;
    }
    /* while nothing runs, time stands still on the screen too */
    int64_t newest = store_time_ns(view->store);
    view->now_ns = view->state == STATE_LIVE || view->state == STATE_RUNNING || newest == 0
                       ? now_ns(screen)
                       : newest;
    view->ago_ns =
        screen->held_ns > 0 && screen->held_ns < view->now_ns ? view->now_ns - screen->held_ns : 0;
    view_take(view);
}

/* ---- frames ---- */

static void refresh_order(struct screen *screen)
{
    const struct store *store = workbench_store(screen->workbench);
    const json_t *plan = workbench_plan(screen->workbench);
    size_t count = store_layer_count(store);
    int64_t now = now_ns(screen);
    if (!order_due(&screen->order, count, plan, now))
        return;
    double *times = xcalloc(count + 1, sizeof *times);
    struct store_layer *layers = xcalloc(count + 1, sizeof *layers);
    store_layers(store, layers);
    for (size_t i = 0; i < count; i++)
        times[i] = layers[i].time_ms;
    free(layers);
    if (count != screen->order.count)
        screen->followed = -1; /* another model */
    order_look(&screen->order, times, count, plan, now);
    free(times);
}

/* The selection stays on its layer when rows change places, once somebody has chosen one. */
static void follow_selection(struct screen *screen, struct view *view)
{
    if (screen->followed >= 0 && screen->selected == screen->followed_row) {
        for (size_t i = 0; i < view->row_count; i++)
            if (view->rows[i] == screen->followed)
                screen->selected = (int)i;
    }
    view_clamp_rows(&screen->selected, &screen->top, view->row_count,
                    pane_layers_rows(screen->layout.table));
    if (screen->selected != screen->followed_row || screen->followed >= 0)
        screen->followed = view->row_count > 0 ? view->rows[screen->selected] : -1;
    screen->followed_row = screen->selected;
    view->selected = screen->selected;
    view->top = screen->top;
}

/* Details of a layer are shown where there is room for them anyway, or when they are asked for. */
static void compute_layout(struct screen *screen, size_t row_count)
{
    struct layout *layout = &screen->layout;
    struct layout_wish wish = screen->wish;
    screen->unused = screen->unused && row_count == 0;
    wish.tall_log = wish.tall_log || screen->unused;
    wish.detail = screen->details && row_count > 0;
    wish.answer = screen->answer > 0 ? pane_log_rows(screen->log, screen->answer, screen->cols) : 0;
    layout_compute(screen->rows, screen->cols, &wish, layout);
    int spare = pane_layers_rows(layout->table) - (int)row_count;
    if (!wish.detail && row_count > 0 && spare > LAYOUT_DETAIL_ROWS) {
        wish.detail = true;
        layout_compute(screen->rows, screen->cols, &wish, layout);
    }
}

/* Draw everything into the canvas; returns the cursor's column in the prompt row. */
static int compose(struct screen *screen)
{
    struct view view;
    char prompt[160];
    terminal_size(screen->terminal, &screen->rows, &screen->cols);
    screen->wish.notice = workbench_notice(screen->workbench)[0] != '\0';
    canvas_reset(screen->canvas, screen->rows, screen->cols, wanted_symbols(screen));
    refresh_order(screen);
    screen_view(screen, &view);
    compute_layout(screen, view.row_count);
    follow_selection(screen, &view);
    int cursor = -1;
    if (screen->focus == FOCUS_HELP) {
        struct rect body = {0, 0, screen->rows - 1, screen->cols};
        screen->help_lines = pane_help_draw(screen->canvas, body, screen->help_top);
        int most = screen->help_lines - body.rows;
        int top = screen->help_top > most ? most : screen->help_top;
        top = top < 0 ? 0 : top;
        if (top != screen->help_top) {
            screen->help_top = top;
            canvas_clip(screen->canvas, body);
            canvas_fill(screen->canvas, body, ' ', STYLE_NORMAL);
            pane_help_draw(screen->canvas, body, top);
        }
        canvas_clip(screen->canvas, (struct rect){screen->rows - 1, 0, 1, screen->cols});
        canvas_text(screen->canvas, screen->rows - 1, 0, screen->cols, STYLE_DIM,
                    "arrows, PgUp and PgDn scroll; any other key goes back");
    } else {
        panes_draw(screen->canvas, &screen->layout, &view);
        if (screen->focus == FOCUS_SEARCH) {
            cursor = prompt_draw(screen->canvas, screen->layout.prompt,
                                 screen->not_found ? "no layer has /" : "/", screen->search, false);
        } else {
            prompt_text(screen->workbench, screen->cols / 2, prompt, sizeof prompt);
            cursor = prompt_draw(screen->canvas, screen->layout.prompt, prompt, screen->editor,
                                 screen->focus == FOCUS_PANES);
        }
        if (screen->layout.bar.rows > 0)
            prompt_list_draw(screen->canvas, screen->layout.bar, screen->editor);
    }
    view_drop(&view);
    return screen->focus == FOCUS_PROMPT || screen->focus == FOCUS_SEARCH ? cursor : -1;
}

static void draw(struct screen *screen)
{
    terminal_set_theme(screen->terminal, setting_text(screen, "theme", "default"),
                       strcmp(setting_text(screen, "color", "auto"), "off") != 0);
    terminal_set_mouse(screen->terminal, setting_on(screen, "mouse"));
    int cursor = compose(screen);
    if (!terminal_show(screen->terminal, screen->canvas, cursor >= 0 ? screen->layout.prompt.y : -1,
                       cursor)) {
        screen->dirty = true; /* the next tick tries again */
    } else {
        screen->dirty = false;
    }
    screen->keyed = false;
    screen->store_seen = store_generation(workbench_store(screen->workbench));
    screen->log_seen = log_generation(screen->log);
    screen->state_seen = workbench_state(screen->workbench);
    screen->drawn_ns = now_ns(screen);
}

static char *display_text(void *context)
{
    struct screen *screen = context;
    compose(screen);
    screen->dirty = true;
    return canvas_to_text(screen->canvas);
}

/* ---- the sink ---- */

static void sink_line(void *context, enum sink_style style, const char *text)
{
    struct screen *screen = context;
    /* kept out: what comes by itself after the last command has ended */
    screen->answered = screen->answered || !command_busy(screen->workbench);
    screen->answer += screen->answered ? 0 : 1;
    log_add(screen->log, style, text);
}

static void sink_clear(void *context)
{
    struct screen *screen = context;
    log_clear(screen->log);
    screen->log_back = screen->answer = 0;
}

static void sink_progress(void *context, double fraction, const char *text)
{
    struct screen *screen = context;
    screen->progress = fraction;
    text_clean(screen->progress_text, sizeof screen->progress_text, text != NULL ? text : "");
    screen->dirty = true;
}

/* ---- the loop ---- */

static void suspend(struct screen *screen)
{
    screen->suspend = false;
    terminal_suspend(screen->terminal);
    /* the whole job stops, as it would if the terminal had sent the signal */
    kill(0, SIGSTOP);
    terminal_resume(screen->terminal);
    screen->keyed = true;
}

static void on_signals(struct screen *screen, int fd)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch (info.ssi_signo) {
        case SIGWINCH:
            screen->keyed = true; /* draw at once */
            break;
        case SIGTSTP:
            screen->suspend = true;
            break;
        case SIGCONT:
            terminal_resume(screen->terminal);
            screen->keyed = true;
            break;
        case SIGINT:
            screen_key(screen, &(struct input){.code = INPUT_CHAR, .point = CONTROL('C')});
            break;
        case SIGHUP:
            screen->gone = true;
            screen->end_signal = SIGHUP;
            break;
        default:
            screen->end_signal = (int)info.ssi_signo;
        }
    }
}

static void read_keys(struct screen *screen, short events)
{
    char bytes[4096];
    for (;;) {
        ssize_t count = read(terminal_fd(screen->terminal), bytes, sizeof bytes);
        if (count > 0) {
            screen->read_ns = now_ns(screen);
            input_feed(&screen->decoder, bytes, (size_t)count, screen_key, screen);
            continue;
        }
        if (count < 0 && errno == EINTR)
            continue;
        /* the end of the file and EIO say what POLLHUP says: nobody is there any more */
        if (count == 0 || errno != EAGAIN || (events & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
            screen->gone = true;
            screen->end_signal = SIGHUP;
        }
        return;
    }
}

static void read_noise(struct screen *screen)
{
    char bytes[4096];
    ssize_t count;
    /* at most as much as the pipe holds: a loud library must not keep us here */
    for (int i = 0; i < 16; i++) {
        count = read(terminal_noise_fd(screen->terminal), bytes, sizeof bytes);
        if (count <= 0)
            return;
        log_feed(screen->log, bytes, (size_t)count);
    }
}

/* When the next frame is due: never while nothing waits to be drawn, so that an idle screen wakes
 * nobody. */
static int64_t frame_due_ns(const struct screen *screen)
{
    return screen->dirty
               ? screen->drawn_ns + (int64_t)(setting_number(screen, "refresh", 100) * 1e6)
               : CLOCK_NEVER;
}

/* Until when there is nothing to do unless a descriptor says so. */
static int64_t next_ns(const struct screen *screen)
{
    int64_t until = frame_due_ns(screen);
    int timeout_ms = workbench_timeout_ms(screen->workbench);
    if (timeout_ms >= 0) {
        int64_t due = now_ns(screen) + timeout_ms * INT64_C(1000000);
        until = due < until ? due : until;
    }
    if (input_pending(&screen->decoder)) {
        int64_t due = screen->read_ns + ESCAPE_WAIT_NS;
        until = due < until ? due : until;
    }
    return until;
}

static bool changed(const struct screen *screen)
{
    return screen->store_seen != store_generation(workbench_store(screen->workbench)) ||
           screen->log_seen != log_generation(screen->log) ||
           screen->state_seen != workbench_state(screen->workbench);
}

static void loop(struct screen *screen, int signals)
{
    const struct clock *clock = workbench_clock(screen->workbench);
    draw(screen);
    while (!screen->gone && screen->end_signal == 0 && !workbench_quitting(screen->workbench)) {
        enum { TTY, SIGNALS, NOISE, WORKER, COUNT };
        short worker = POLLIN;
        if (workbench_wants_write(screen->workbench))
            worker |= POLLOUT;
        struct pollfd fds[COUNT] = {
            [TTY] = {terminal_fd(screen->terminal), POLLIN, 0},
            [SIGNALS] = {signals, POLLIN, 0},
            [NOISE] = {terminal_noise_fd(screen->terminal), POLLIN, 0},
            [WORKER] = {workbench_fd(screen->workbench), worker, 0},
        };
        int ready = clock->wait(clock->context, fds, COUNT, next_ns(screen));
        if (ready < 0 && errno != EINTR)
            break;
        if (ready > 0 && fds[SIGNALS].revents != 0)
            on_signals(screen, signals);
        if (ready > 0 && fds[TTY].revents != 0)
            read_keys(screen, fds[TTY].revents);
        else if (input_pending(&screen->decoder) &&
                 now_ns(screen) - screen->read_ns >= ESCAPE_WAIT_NS)
            input_flush(&screen->decoder, screen_key, screen);
        if (ready > 0 && fds[NOISE].revents != 0)
            read_noise(screen);
        if (screen->gone)
            break;
        workbench_dispatch(screen->workbench);
        if (changed(screen))
            screen->dirty = true;
        if (screen->suspend)
            suspend(screen);
        if (screen->keyed || (screen->dirty && now_ns(screen) >= frame_due_ns(screen)))
            draw(screen);
    }
}

static void load_history(struct screen *screen)
{
    screen->history = workbench_history(screen->workbench);
    for (size_t i = 0; i < history_count(screen->history); i++)
        lineedit_history_add(screen->editor, history_at(screen->history, i));
}

int tui_run(struct workbench *workbench, const struct tui_options *options)
{
    struct error error = {0};
    struct terminal *terminal = terminal_open(&error);
    if (terminal == NULL) {
        dprintf(2, "layertop: %s: %s\nhint: %s\n", error.what, error.why, error.hint);
        return 1;
    }
    struct screen screen = {
        .workbench = workbench,
        .terminal = terminal,
        .canvas = canvas_new(),
        .log = log_new(),
        .editor = lineedit_new(),
        .search = lineedit_new(),
        .progress = -1,
        .followed = -1,
    };
    screen.sink = (struct sink){
        .context = &screen, .line = sink_line, .progress = sink_progress, .clear = sink_clear};
    workbench_set_sink(workbench, &screen.sink);
    workbench_set_display(workbench, display_text, &screen);
    load_history(&screen);

    sigset_t mask, before;
    sigemptyset(&mask);
    static const int handled[] = {SIGWINCH, SIGTERM, SIGINT, SIGHUP, SIGCONT, SIGTSTP, SIGQUIT};
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++)
        sigaddset(&mask, handled[i]);
    sigprocmask(SIG_BLOCK, &mask, &before);
    int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);

    log_add(screen.log, SINK_NOTE,
            "type a command, Tab completes, Esc goes to the panes, F1 helps");
    screen.unused = options->command_count == 0 && options->then == NULL;
    if (screen.unused)
        log_add(screen.log, SINK_NOTE,
                "try: load demo:digits; start  or: load FILE; start  or: lesson start 1");
    for (size_t i = 0; i < options->command_count; i++)
        screen_submit(&screen, options->commands[i]);
    if (options->then)
        command_submit_if_well(workbench, options->then);
    loop(&screen, signals);

    workbench_set_sink(workbench, NULL);
    workbench_set_display(workbench, NULL, NULL);
    terminal_close(terminal, screen.gone);
    close(signals);
    /* signals that waited are not delivered after all: the program ends anyway */
    struct timespec none = {0, 0};
    while (sigtimedwait(&mask, NULL, &none) > 0)
        ;
    sigprocmask(SIG_SETMASK, &before, NULL);
    canvas_free(screen.canvas);
    log_free(screen.log);
    lineedit_free(screen.editor);
    lineedit_free(screen.search);
    order_clear(&screen.order);
    return screen.end_signal != 0 ? 128 + screen.end_signal : workbench_exit_code(workbench);
}

bool tui_possible(void)
{
    return isatty(0) && isatty(1) && terminal_possible();
}
