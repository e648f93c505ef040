/* Canvas, themes, numbers and plots: drawn into text. */
#include "commands/settings.h"
#include "support/golden.h"
#include "tui/canvas.h"
#include "tui/plot.h"
#include "tui/units.h"
#include "tui/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_picture(const struct canvas *canvas, const char *expected)
{
    char *text = canvas_to_text(canvas);
    assert_string_equal(text, expected);
    free(text);
}

static void text_is_cut_and_clipped(void **state)
{
    (void)state;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 3, 10, SYMBOLS_BRAILLE);
    assert_int_equal(canvas_text(canvas, 0, 0, 10, STYLE_NORMAL, "0123456789"), 10);
    assert_int_equal(canvas_text(canvas, 1, 0, 5, STYLE_NORMAL, "0123456789"), 5);
    canvas_text_right(canvas, 2, 0, 10, STYLE_NORMAL, "end");
    assert_picture(canvas, "0123456789\n0123\u2026\n       end\n");
    canvas_clip(canvas, (struct rect){1, 2, 1, 3});
    for (int y = -2; y < 6; y++)
        canvas_text(canvas, y, -3, 40, STYLE_NORMAL, "xxxxxxxxxxxxxxxxxxxx");
    assert_picture(canvas, "0123456789\n01xxx\n       end\n");
    canvas_clip(canvas, (struct rect){-5, -5, 100, 100});
    canvas_put(canvas, 99, 99, 'x', STYLE_NORMAL);
    assert_int_equal(canvas->clip.rows, 3);
    canvas_free(canvas);
}

static void wide_characters_keep_their_cells(void **state)
{
    (void)state;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 1, 7, SYMBOLS_BRAILLE);
    assert_int_equal(canvas_text(canvas, 0, 0, 7, STYLE_NORMAL, "a\u65e5\u672cb"), 6);
    assert_picture(canvas, "a\u65e5\u672cb\n");
    canvas_put(canvas, 0, 2, 'x', STYLE_NORMAL); /* half of it goes, so all of it goes */
    assert_picture(canvas, "a x\u672cb\n");
    canvas_put(canvas, 0, 6, 0x65e5, STYLE_NORMAL); /* no room for its right half */
    assert_picture(canvas, "a x\u672cb\n");
    canvas_reset(canvas, 1, 7, SYMBOLS_BRAILLE);
    assert_int_equal(canvas_text(canvas, 0, 0, 7, STYLE_NORMAL, "e\u0301x\033y"), 3);
    assert_picture(canvas, "e\u0301xy\n");
    canvas_free(canvas);
}

static void ascii_has_likes_for_our_signs(void **state)
{
    (void)state;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 1, 20, SYMBOLS_ASCII);
    canvas_text(canvas, 0, 0, 20, STYLE_NORMAL, "12 \u00b5s \u2013 2\u00d73 \u00b7 \u25cf");
    assert_picture(canvas, "12 us - 2x3 . *\n");
    canvas_reset(canvas, 1, 8, SYMBOLS_ASCII);
    canvas_bar(canvas, 0, 0, 8, 0.5, STYLE_NORMAL);
    assert_picture(canvas, "####\n");
    canvas_free(canvas);
}

static void bars_show_eighths(void **state)
{
    (void)state;
    static const struct {
        double fraction;
        const char *picture;
    } cases[] = {
        {0, "\n"},
        {NAN, "\n"},
        {0.0001, "\u258f\n"},
        {0.25, "\u2588\n"},
        {0.28125, "\u2588\u258f\n"},
        {0.5, "\u2588\u2588\n"},
        {1, "\u2588\u2588\u2588\u2588\n"},
        {7, "\u2588\u2588\u2588\u2588\n"},
    };
    struct canvas *canvas = canvas_new();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        canvas_reset(canvas, 1, 6, SYMBOLS_BRAILLE);
        canvas_bar(canvas, 0, 0, 4, cases[i].fraction, STYLE_NORMAL);
        assert_picture(canvas, cases[i].picture);
    }
    canvas_free(canvas);
}

static void numbers_have_three_digits_and_a_unit(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(unit_ms(out, sizeof out, 0.812), "812 \u00b5s");
    assert_string_equal(unit_ms(out, sizeof out, 0.99996), "1.00 ms");
    assert_string_equal(unit_ms(out, sizeof out, 12.34), "12.3 ms");
    assert_string_equal(unit_ms(out, sizeof out, 1234), "1.23 s");
    assert_string_equal(unit_ms(out, sizeof out, 0.0000123), "12.3 ns");
    assert_string_equal(unit_ms(out, sizeof out, 0), "0 ms");
    assert_string_equal(unit_ms(out, sizeof out, NAN), "\u2013");
    assert_string_equal(unit_bytes(out, sizeof out, 512), "512 B");
    assert_string_equal(unit_bytes(out, sizeof out, 3.5 * 1024 * 1024), "3.50 MiB");
    assert_string_equal(unit_bytes(out, sizeof out, NAN), "\u2013");
    assert_string_equal(unit_rate(out, sizeof out, 26312), "26.3k/s");
    assert_string_equal(unit_share(out, sizeof out, 0.0834), "8.3 %");
    assert_string_equal(unit_share(out, sizeof out, 0.834), "83 %");
}

static void ticks_are_one_two_five(void **state)
{
    (void)state;
    for (double least = 1e-7; least < 1e9; least *= 1.037) {
        double step = plot_tick(least), first = step / pow(10, floor(log10(step) + 1e-9));
        if (fabs(first - 1) > 1e-6 && fabs(first - 2) > 1e-6 && fabs(first - 5) > 1e-6)
            fail_msg("tick %g for %g", step, least);
        assert_true(step >= least * (1 - 1e-6));
        assert_true(step <= least * 2.5 * (1 + 1e-6)); /* no coarser than needed */
    }
    assert_true(plot_tick(0.1 + 0.2 - 0.1) < 0.21);
    assert_true(plot_tick(NAN) > 0);
    assert_true(plot_tick(0) > 0);
}

static void themes_degrade(void **state)
{
    (void)state;
    for (int i = 0; theme_names[i] != NULL; i++) {
        for (int style = 0; style < STYLE_COUNT; style++) {
            static const int colors[] = {0, 8, 16, 256, 1 << 24};
            for (size_t k = 0; k < 5; k++) {
                struct look look = theme_look(theme_names[i], (enum style)style, colors[k]);
                assert_true(look.color < (colors[k] > 0 ? colors[k] : 1));
                if (colors[k] == 0 || strcmp(theme_names[i], "mono") == 0)
                    assert_int_equal(look.color, -1);
            }
        }
    }
    /* every theme that can be set is one of ours */
    struct error error;
    const struct setting *setting = setting_find("theme", &error);
    assert_non_null(setting);
    for (int i = 0; setting->choices[i] != NULL; i++) {
        bool known = false;
        for (int k = 0; theme_names[k] != NULL; k++)
            known = known || strcmp(theme_names[k], setting->choices[i]) == 0;
        assert_true(known);
    }
    assert_true(theme_look("colourblind", STYLE_HEAT_LOW, 256).color !=
                theme_look("default", STYLE_HEAT_LOW, 256).color);
    /* an error never looks like text, not even without colours */
    assert_true(theme_look("mono", STYLE_ERROR, 256).flags != 0);
    assert_int_equal(theme_look("default", STYLE_NORMAL, 256).color, -1);
}

static struct series_cell value(double mean, double spread)
{
    return (struct series_cell){(float)(mean - spread), (float)(mean + spread), (float)mean, 1};
}

static struct plot two_lines(struct series_cell *a, struct series_cell *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double t = (double)i / (double)count;
        a[i] = value(1.0 + 0.6 * sin(t * 12), 0.02);
        b[i] = value(0.4, 0.01);
        if (t > 0.4 && t < 0.5)
            a[i] = b[i] = (struct series_cell){0, 0, 0, 0}; /* a gap */
    }
    a[count * 3 / 4].max = 1.9f; /* a spike */
    if (count > 60)
        a[3].max = 40.0f; /* and one that towers over all */
    struct plot plot = {
        .kind = PLOT_LINES,
        .title = "layer time",
        .unit = UNIT_MS,
        .now = 0.61,
        .summary = {600, 0.95, 0.41, 1.9, 0.9, 1.58, 570},
        .traces = {{"conv1+bn1+relu1", NULL, STYLE_SERIES_A, a},
                   {"dense", NULL, STYLE_SERIES_B, b}},
        .trace_count = 2,
        .limit = NAN,
        .span_ns = INT64_C(60000000000),
    };
    return plot;
}

static struct plot stack(struct series_cell cells[3][400], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cells[0][i] = value(100e6, 0);
        cells[1][i] = value(i < count / 2 ? 50e6 : 200e6, 0);
        cells[2][i] = value(20e6, 0);
    }
    struct plot plot = {
        .kind = PLOT_STACKED,
        .title = "memory",
        .unit = UNIT_BYTES,
        .now = 320e6,
        .summary = {600, 245e6, 170e6, 320e6, 320e6, 320e6, 0},
        .traces = {{"weights", "wts", STYLE_SERIES_A, cells[0]},
                   {"activations", "act", STYLE_SERIES_B, cells[1]},
                   {"workspace", "wsp", STYLE_SERIES_C, cells[2]}},
        .trace_count = 3,
        .legend = true,
        .limit = 400e6,
        .span_ns = INT64_C(300000000000),
    };
    return plot;
}

static void plots_match_their_pictures(void **state)
{
    (void)state;
    static const char *const sets[] = {"braille", "block", "ascii"};
    static const struct {
        const char *name;
        int rows, cols;
    } sizes[] = {{"large", 12, 60}, {"small", 5, 33}, {"tiny", 3, 20}};
    struct canvas *canvas = canvas_new();
    for (int set = 0; set < 3; set++) {
        for (int size = 0; size < 3; size++) {
            struct series_cell a[400], b[400], cells[3][400];
            char name[64];
            size_t columns = plot_columns((enum symbols)set, sizes[size].cols);
            int rows = sizes[size].rows;
            struct plot lines = two_lines(a, b, columns), areas = stack(cells, columns);
            canvas_reset(canvas, rows * 2 + 1, sizes[size].cols, (enum symbols)set);
            plot_draw(canvas, (struct rect){0, 0, rows, sizes[size].cols}, &lines);
            plot_draw(canvas, (struct rect){rows + 1, 0, rows, sizes[size].cols}, &areas);
            char *text = canvas_to_text(canvas);
            snprintf(name, sizeof name, "plot_%s_%s", sets[set], sizes[size].name);
            golden_check(name, text);
            free(text);
        }
    }
    canvas_free(canvas);
}

/* No size, no data and no set may draw outside or divide by nothing. */
static void plots_survive_any_size(void **state)
{
    (void)state;
    struct canvas *canvas = canvas_new();
    for (int set = 0; set < 3; set++) {
        for (int rows = 1; rows <= 14; rows++) {
            for (int cols = 1; cols <= 70; cols++) {
                struct series_cell a[400], b[400], cells[3][400];
                size_t columns = plot_columns((enum symbols)set, cols);
                canvas_reset(canvas, rows, cols, (enum symbols)set);
                struct plot plot = two_lines(a, b, columns + 1);
                plot_draw(canvas, (struct rect){0, 0, rows, cols}, &plot);
                plot = stack(cells, columns + 1);
                plot_draw(canvas, (struct rect){0, 0, rows, cols}, &plot);
                memset(a, 0, sizeof a);
                plot.traces[0].cells = a;
                plot.trace_count = 1;
                plot_draw(canvas, (struct rect){0, 0, rows, cols}, &plot);
                plot.traces[0].cells = NULL;
                plot.limit = NAN;
                plot_draw(canvas, (struct rect){0, 0, rows, cols}, &plot);
                for (size_t i = 0; i < 400; i++)
                    a[i] = value(0, 0);
                plot.traces[0].cells = a;
                plot_draw(canvas, (struct rect){0, 0, rows, cols}, &plot);
            }
        }
    }
    canvas_free(canvas);
}

static void sparklines_leave_gaps(void **state)
{
    (void)state;
    struct series_cell cells[8] = {{0}};
    for (int i = 0; i < 8; i++)
        cells[i] = value(i, 0);
    cells[3].count = 0;
    struct canvas *canvas = canvas_new();
    canvas_reset(canvas, 1, 8, SYMBOLS_BRAILLE);
    sparkline_draw(canvas, 0, 0, 8, STYLE_NORMAL, cells);
    assert_picture(canvas, "\u2581\u2582\u2583 \u2585\u2586\u2587\u2588\n");
    canvas_reset(canvas, 1, 8, SYMBOLS_ASCII);
    sparkline_draw(canvas, 0, 0, 8, STYLE_NORMAL, cells);
    assert_picture(canvas, "_.. =+*#\n");
    canvas_free(canvas);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_cut_and_clipped),
        cmocka_unit_test(wide_characters_keep_their_cells),
        cmocka_unit_test(ascii_has_likes_for_our_signs),
        cmocka_unit_test(bars_show_eighths),
        cmocka_unit_test(numbers_have_three_digits_and_a_unit),
        cmocka_unit_test(ticks_are_one_two_five),
        cmocka_unit_test(themes_degrade),
        cmocka_unit_test(plots_match_their_pictures),
        cmocka_unit_test(plots_survive_any_size),
        cmocka_unit_test(sparklines_leave_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
