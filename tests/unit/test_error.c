/* Errors, cleaned text, dtypes and shapes: the words all rooms share. */
#include "engine/error.h"
#include "engine/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void clean_escapes_what_a_terminal_would_obey(void **state)
{
    (void)state;
    char out[64];
    assert_string_equal(text_clean(out, sizeof out, "plain"), "plain");
    assert_string_equal(text_clean(out, sizeof out, "a\x1b[2Jb\n"), "a\\x1b[2Jb\\x0a");
    assert_string_equal(text_clean(out, sizeof out, "\x7f"), "\\x7f");
    assert_string_equal(text_clean(out, sizeof out, "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80"),
                        "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80");
    assert_string_equal(text_clean(out, sizeof out, "\xc2\x9b"), "\\xc2\\x9b"); /* C1 CSI */
    assert_string_equal(text_clean(out, sizeof out, "\xc0\xaf"), "\\xc0\\xaf"); /* overlong */
    assert_string_equal(text_clean(out, sizeof out, "\xe2\x82"), "\\xe2\\x82"); /* cut short */
    assert_string_equal(text_clean(out, sizeof out, "\xed\xa0\x80"), "\\xed\\xa0\\x80");
    assert_string_equal(text_clean(out, sizeof out, "\xe2\x80\xae"), "\\xe2\\x80\\xae");
}

static void clean_cuts_at_a_character(void **state)
{
    (void)state;
    char out[6];
    assert_string_equal(text_clean(out, sizeof out, "abc\xe2\x82\xac"), "abc");
    assert_string_equal(text_clean(out, sizeof out, "ab\xe2\x82\xac"), "ab\xe2\x82\xac");
    assert_string_equal(text_clean(out, sizeof out, "ab\x01"), "ab");
    assert_string_equal(text_clean(out, 1, "ab"), "");
}

static void set_fills_and_clears_the_hint(void **state)
{
    (void)state;
    struct error error = {0};
    assert_false(error_set(&error, ERROR_VALUE, "set batch", "%d is not in %s", 0, "1..65536"));
    assert_false(error_hint(&error, "batch %d", 32));
    assert_int_equal(error.code, ERROR_VALUE);
    assert_string_equal(error.why, "0 is not in 1..65536");
    assert_string_equal(error.hint, "batch 32");
    /* wrapping a reason in another must not read what it overwrites */
    error_set(&error, ERROR_COMMAND, error.what, "load: %s", error.why);
    assert_string_equal(error.what, "set batch");
    assert_string_equal(error.why, "load: 0 is not in 1..65536");
    assert_string_equal(error.hint, "");
    assert_false(error_set(NULL, ERROR_VALUE, "", "nobody listens"));
}

static void codes_have_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(error_exit_code(ERROR_NONE), 0);
    assert_int_equal(error_exit_code(ERROR_MODEL_BROKEN), 3);
    assert_int_equal(error_exit_code(ERROR_MEMORY_LIMIT), 5);
    assert_int_equal(error_exit_code(ERROR_INTERRUPTED), 130);
    assert_true(error_code_known(21));
    assert_false(error_code_known(4242));
}

static void dtypes_have_numpy_names(void **state)
{
    (void)state;
    enum dtype dtype;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        assert_true(dtype_bytes((enum dtype)i) > 0);
        assert_true(dtype_parse(dtype_name((enum dtype)i), &dtype));
        assert_int_equal(dtype, i);
    }
    assert_false(dtype_parse("complex64", &dtype));
}

static void shapes_count_and_print(void **state)
{
    (void)state;
    char text[64];
    struct shape image = shape_of(4, (int64_t[]){DIM_UNKNOWN, 28, 28, 1});
    assert_string_equal(shape_format(text, sizeof text, &image), "(None, 28, 28, 1)");
    assert_int_equal(shape_elements(&image), -1);
    image.dims[0] = 2;
    assert_int_equal(shape_elements(&image), 1568);
    struct shape scalar = shape_of(0, NULL), one = shape_of(1, (int64_t[]){3});
    assert_int_equal(shape_elements(&scalar), 1);
    assert_string_equal(shape_format(text, sizeof text, &scalar), "()");
    assert_string_equal(shape_format(text, sizeof text, &one), "(3,)");
    struct shape huge = shape_of(2, (int64_t[]){INT64_C(1) << 40, INT64_C(1) << 40});
    assert_int_equal(shape_elements(&huge), -1);
    struct shape empty = shape_of(2, (int64_t[]){0, 5});
    assert_int_equal(shape_elements(&empty), 0);
    assert_true(shape_equal(&one, &one));
    assert_false(shape_equal(&one, &scalar));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_escapes_what_a_terminal_would_obey),
        cmocka_unit_test(clean_cuts_at_a_character),
        cmocka_unit_test(set_fills_and_clears_the_hint),
        cmocka_unit_test(codes_have_exit_codes),
        cmocka_unit_test(dtypes_have_numpy_names),
        cmocka_unit_test(shapes_count_and_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
