/* The framed stream: every cut, every flipped bit, noise before it, other versions. */
#include "engine/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Three frames: JSON, an empty one, bytes. */
static struct stream_buffer sample(void)
{
    struct stream_buffer buffer = {0};
    stream_put_preamble(&buffer);
    json_t *hello = json_pack("{s:s, s:i}", "version", "test", "pid", 7);
    assert_true(stream_put_json(&buffer, STREAM_HELLO, 0, hello));
    json_decref(hello);
    assert_true(stream_put(&buffer, STREAM_CANCEL, UINT64_C(0x1122334455667788), NULL, 0));
    assert_true(stream_put(&buffer, STREAM_RECORD, 3, "\0\1\2\3", 4));
    return buffer;
}

/* Takes the three frames of sample(); returns how many whole ones came before the end. */
static int expect_sample(struct stream_decoder *decoder, enum stream_result *last)
{
    struct stream_frame frame;
    int count = 0;
    while ((*last = stream_decoder_next(decoder, &frame, NULL)) == STREAM_FRAME) {
        switch (count++) {
        case 0: {
            assert_int_equal(frame.type, STREAM_HELLO);
            json_t *json = stream_frame_json(&frame);
            assert_int_equal(json_integer_value(json_object_get(json, "pid")), 7);
            json_decref(json);
            break;
        }
        case 1:
            assert_int_equal(frame.type, STREAM_CANCEL);
            assert_true(frame.id == UINT64_C(0x1122334455667788));
            assert_int_equal(frame.bytes, 0);
            break;
        case 2:
            assert_int_equal(frame.type, STREAM_RECORD);
            assert_int_equal(frame.bytes, 4);
            assert_memory_equal(frame.data, "\0\1\2\3", 4);
            break;
        default:
            fail_msg("a frame too many");
        }
    }
    return count;
}

static void frames_survive_the_way(void **state)
{
    (void)state;
    struct stream_buffer bytes = sample();
    struct stream_decoder decoder;
    enum stream_result last;
    stream_decoder_init(&decoder);
    stream_decoder_feed(&decoder, bytes.data, bytes.end);
    assert_int_equal(expect_sample(&decoder, &last), 3);
    assert_int_equal(last, STREAM_MORE);
    stream_decoder_free(&decoder);
    stream_buffer_free(&bytes);
}

static void every_cut_is_only_a_wait(void **state)
{
    (void)state;
    struct stream_buffer bytes = sample();
    for (size_t cut = 0; cut <= bytes.end; cut++) {
        struct stream_decoder decoder;
        enum stream_result last;
        stream_decoder_init(&decoder);
        stream_decoder_feed(&decoder, bytes.data, cut);
        int before = expect_sample(&decoder, &last);
        assert_int_equal(last, STREAM_MORE);
        assert_int_equal(before == 3, cut == bytes.end);
        stream_decoder_free(&decoder);
    }
    /* a byte at a time, with the rest arriving while frames are taken */
    struct stream_decoder decoder;
    struct stream_frame frame;
    stream_decoder_init(&decoder);
    int count = 0;
    for (size_t i = 0; i < bytes.end; i++) {
        stream_decoder_feed(&decoder, bytes.data + i, 1);
        while (stream_decoder_next(&decoder, &frame, NULL) == STREAM_FRAME)
            count++;
    }
    assert_int_equal(count, 3);
    stream_decoder_free(&decoder);
    stream_buffer_free(&bytes);
}

static void every_flipped_bit_is_seen(void **state)
{
    (void)state;
    struct stream_buffer bytes = sample();
    for (size_t bit = 8 * STREAM_PREAMBLE_BYTES; bit < 8 * bytes.end; bit++) {
        struct stream_decoder decoder;
        struct error error = {0};
        struct stream_frame frame;
        enum stream_result result;
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        stream_decoder_init(&decoder);
        stream_decoder_feed(&decoder, bytes.data, bytes.end);
        do
            result = stream_decoder_next(&decoder, &frame, &error);
        while (result == STREAM_FRAME);
        if (result != STREAM_BROKEN)
            fail_msg("bit %zu of byte %zu went unseen", bit % 8, bit / 8);
        assert_int_equal(error.code, ERROR_STREAM);
        /* and it stays broken */
        stream_decoder_feed(&decoder, bytes.data, bytes.end);
        assert_int_equal(stream_decoder_next(&decoder, &frame, NULL), STREAM_BROKEN);
        stream_decoder_free(&decoder);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    stream_buffer_free(&bytes);
}

static void noise_before_the_preamble_is_skipped(void **state)
{
    (void)state;
    struct stream_buffer bytes = sample();
    const char *greetings[] = {"", "Welcome to gpu01\r\n", "\x8f", "\x8fLAYER", "\x8fLAYERTOP\r\n"};
    for (size_t g = 0; g < sizeof greetings / sizeof *greetings; g++) {
        for (size_t piece = 1; piece < 40; piece += 6) {
            struct stream_buffer all = {0};
            struct stream_decoder decoder;
            struct stream_frame frame;
            int count = 0;
            stream_buffer_append(&all, greetings[g], strlen(greetings[g]));
            stream_buffer_append(&all, bytes.data, bytes.end);
            stream_decoder_init(&decoder);
            for (size_t i = 0; i < all.end; i += piece) {
                stream_decoder_feed(&decoder, all.data + i,
                                    all.end - i < piece ? all.end - i : piece);
                while (stream_decoder_next(&decoder, &frame, NULL) == STREAM_FRAME)
                    count++;
            }
            assert_int_equal(count, 3);
            assert_int_equal(decoder.skipped, strlen(greetings[g]));
            stream_decoder_free(&decoder);
            stream_buffer_free(&all);
        }
    }
    stream_buffer_free(&bytes);
}

/* `bytes` of noise, then the sample: the result of the first call that is not MORE. */
static enum stream_result after_noise(size_t noise, struct error *error)
{
    struct stream_buffer bytes = sample();
    struct stream_decoder decoder;
    struct stream_frame frame;
    enum stream_result result = STREAM_MORE;
    stream_decoder_init(&decoder);
    for (size_t i = 0; i < noise && result == STREAM_MORE; i += 1024) {
        char block[1024];
        memset(block, 'z', sizeof block);
        stream_decoder_feed(&decoder, block, noise - i < 1024 ? noise - i : 1024);
        result = stream_decoder_next(&decoder, &frame, error);
    }
    if (result == STREAM_MORE) {
        stream_decoder_feed(&decoder, bytes.data, bytes.end);
        result = stream_decoder_next(&decoder, &frame, error);
    }
    stream_decoder_free(&decoder);
    stream_buffer_free(&bytes);
    return result;
}

static void noise_has_an_end(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(after_noise(STREAM_NOISE_MAX, &error), STREAM_FRAME);
    assert_int_equal(after_noise(STREAM_NOISE_MAX + 1, &error), STREAM_BROKEN);
    assert_int_equal(error.code, ERROR_STREAM);
    assert_non_null(strstr(error.why, "zzz"));
}

static void another_version_is_one_clear_error(void **state)
{
    (void)state;
    struct stream_buffer bytes = sample();
    struct stream_decoder decoder;
    struct stream_frame frame;
    struct error error = {0};
    bytes.data[STREAM_MAGIC_BYTES] = 9;
    stream_decoder_init(&decoder);
    stream_decoder_feed(&decoder, bytes.data, bytes.end);
    assert_int_equal(stream_decoder_next(&decoder, &frame, &error), STREAM_BROKEN);
    assert_non_null(strstr(error.why, "version 9"));
    stream_decoder_free(&decoder);
    stream_buffer_free(&bytes);
}

static void oversized_frames_are_refused_on_both_sides(void **state)
{
    (void)state;
    struct stream_buffer buffer = {0};
    uint8_t *big = xcalloc(1, STREAM_FRAME_MAX + 1);
    assert_false(stream_put(&buffer, STREAM_RECORD, 0, big, STREAM_FRAME_MAX + 1));
    assert_int_equal(stream_buffer_bytes(&buffer), 0);
    stream_put_preamble(&buffer);
    assert_true(stream_put(&buffer, STREAM_RECORD, 0, big, STREAM_FRAME_MAX));
    struct stream_decoder decoder;
    struct stream_frame frame;
    stream_decoder_init(&decoder);
    stream_decoder_feed(&decoder, buffer.data, buffer.end);
    assert_int_equal(stream_decoder_next(&decoder, &frame, NULL), STREAM_FRAME);
    assert_int_equal(frame.bytes, STREAM_FRAME_MAX);
    stream_decoder_free(&decoder);
    stream_buffer_free(&buffer);
    free(big);
}

static void errors_survive_the_way(void **state)
{
    (void)state;
    struct error error, back;
    error_set(&error, ERROR_MEMORY, "set batch", "asked %d MiB", 12);
    error_hint(&error, "batch %d", 8);
    json_t *json = stream_error_json(&error);
    stream_error_parse(json, &back);
    assert_int_equal(back.code, ERROR_MEMORY);
    assert_string_equal(back.what, "set batch");
    assert_string_equal(back.why, "asked 12 MiB");
    assert_string_equal(back.hint, "batch 8");
    json_decref(json);
    stream_error_parse(NULL, &back);
    assert_int_equal(back.code, ERROR_STREAM);
    json = json_pack("{s:i, s:i}", "code", 4242, "why", 5);
    stream_error_parse(json, &back);
    assert_int_equal(back.code, ERROR_STREAM);
    json_decref(json);
}

static void buffers_move_and_shrink(void **state)
{
    (void)state;
    struct stream_buffer buffer = {0};
    uint32_t in = 0, out = 0;
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < round % 97; i++, in++)
            stream_buffer_append(&buffer, &in, sizeof in);
        while (stream_buffer_bytes(&buffer) > (size_t)(round % 13) * sizeof out) {
            uint32_t value;
            memcpy(&value, buffer.data + buffer.start, sizeof value);
            assert_int_equal(value, out++);
            stream_buffer_consume(&buffer, sizeof value);
        }
    }
    stream_buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_survive_the_way),
        cmocka_unit_test(every_cut_is_only_a_wait),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(noise_before_the_preamble_is_skipped),
        cmocka_unit_test(noise_has_an_end),
        cmocka_unit_test(another_version_is_one_clear_error),
        cmocka_unit_test(oversized_frames_are_refused_on_both_sides),
        cmocka_unit_test(errors_survive_the_way),
        cmocka_unit_test(buffers_move_and_shrink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
