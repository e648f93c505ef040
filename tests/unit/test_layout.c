/* Layout: for every size and wish, rectangles lie inside the screen and do not overlap. */
#include "tui/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static void all_rects(const struct layout *layout, const struct rect *rects[9])
{
    rects[0] = &layout->header;
    rects[1] = &layout->table;
    for (int i = 0; i < LAYOUT_PLOTS; i++)
        rects[2 + i] = &layout->plots[i];
    rects[5] = &layout->log;
    rects[6] = &layout->prompt;
    rects[7] = &layout->bar;
    rects[8] = &layout->detail;
}

static void check(int rows, int cols, const struct layout_wish *wish)
{
    struct layout layout;
    const struct rect *rects[9];
    layout_compute(rows, cols, wish, &layout);
    all_rects(&layout, rects);
    int64_t area = 0;
    for (int i = 0; i < 9; i++) {
        const struct rect *a = rects[i];
        if (a->rows == 0)
            continue;
        if (a->y < 0 || a->x < 0 || a->rows < 1 || a->cols < 1 || a->y + a->rows > rows ||
            a->x + a->cols > cols)
            fail_msg("%dx%d: rectangle %d is outside: y %d x %d %dx%d", cols, rows, i, a->y, a->x,
                     a->cols, a->rows);
        area += (int64_t)a->rows * a->cols;
        for (int k = 0; k < i; k++) {
            const struct rect *b = rects[k];
            if (b->rows > 0 && a->y < b->y + b->rows && b->y < a->y + a->rows &&
                a->x < b->x + b->cols && b->x < a->x + a->cols)
                fail_msg("%dx%d: rectangles %d and %d overlap", cols, rows, i, k);
        }
    }
    assert_true(area <= (int64_t)rows * cols);
    assert_int_equal(layout.prompt.rows, 1); /* there is always a prompt */
    if (!layout.too_small) {
        assert_true(layout.table.rows >= 1);
        assert_true(layout.log.rows >= 2);
        /* nothing but the column between table and plots is left over */
        assert_true(area >= (int64_t)rows * cols - 3 * rows);
    }
}

static void every_size_fits_without_overlap(void **state)
{
    (void)state;
    for (int wishes = 0; wishes < 32; wishes++) {
        struct layout_wish wish = {wishes & 1, wishes & 2, wishes & 4, wishes & 8,
                                   wishes & 16 ? 17 : 0};
        for (int rows = 1; rows <= 100; rows++) {
            for (int cols = 1; cols <= 300; cols++)
                check(rows, cols, &wish);
        }
    }
}

static void good_sizes_show_everything(void **state)
{
    (void)state;
    static const int sizes[][2] = {{24, 80}, {40, 120}, {50, 160}, {50, 200}};
    for (size_t i = 0; i < 4; i++) {
        struct layout layout;
        layout_compute(sizes[i][0], sizes[i][1], &(struct layout_wish){0}, &layout);
        assert_false(layout.too_small);
        assert_false(layout.cramped);
        assert_int_equal(layout.header.rows, 3);
        for (int k = 0; k < LAYOUT_PLOTS; k++) {
            assert_true(layout.plots[k].rows >= 5);
            assert_true(layout.plots[k].cols >= 32);
        }
        assert_true(layout.table.cols >= 40);
        assert_true(layout.table.rows >= 12);
    }
}

static void small_sizes_say_so(void **state)
{
    (void)state;
    struct layout layout;
    layout_compute(23, 80, &(struct layout_wish){0}, &layout);
    assert_true(layout.cramped);
    assert_false(layout.too_small);
    layout_compute(24, 79, &(struct layout_wish){0}, &layout);
    assert_true(layout.cramped);
    layout_compute(LAYOUT_MIN_ROWS - 1, 80, &(struct layout_wish){0}, &layout);
    assert_true(layout.too_small);
    layout_compute(1, 1, &(struct layout_wish){0}, &layout);
    assert_true(layout.too_small);
    assert_int_equal(layout.header.rows, 0);
    layout_compute(0, -3, &(struct layout_wish){0}, &layout); /* ioctl may say anything */
    assert_int_equal(layout.prompt.cols, 1);
}

static void a_notice_gets_a_row(void **state)
{
    (void)state;
    struct layout without, with;
    layout_compute(24, 80, &(struct layout_wish){0}, &without);
    layout_compute(24, 80, &(struct layout_wish){.notice = true}, &with);
    assert_int_equal(with.header.rows, without.header.rows + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_fits_without_overlap),
        cmocka_unit_test(good_sizes_show_everything),
        cmocka_unit_test(small_sizes_say_so),
        cmocka_unit_test(a_notice_gets_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
