#include "tui/utf8.h"

#include <stdio.h>
#include <string.h>

size_t utf8_decode(const char *text, size_t bytes, uint32_t *point)
{
    const unsigned char *s = (const unsigned char *)text;
    *point = UTF8_REPLACEMENT;
    if (bytes == 0)
        return 0;
    if (s[0] < 0x80) {
        *point = s[0];
        return 1;
    }
    size_t length = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                    : (s[0] & 0xf0) == 0xe0        ? 3
                    : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                   : 0;
    if (length == 0 || length > bytes)
        return 1;
    uint32_t value = s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 1;
        value = value << 6 | (s[i] & 0x3fu);
    }
    if ((length == 3 && value < 0x800) || (length == 4 && (value < 0x10000 || value > 0x10ffff)) ||
        (value >= 0xd800 && value <= 0xdfff))
        return 1;
    *point = value;
    return length;
}

size_t utf8_encode(uint32_t point, char out[4])
{
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        point = UTF8_REPLACEMENT;
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xc0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xe0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (point & 0x3f));
    return 4;
}

struct range {
    uint32_t first, last;
};

static bool in_ranges(uint32_t point, const struct range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (point >= ranges[i].first && point <= ranges[i].last)
            return true;
    }
    return false;
}

int utf8_width(uint32_t point)
{
    static const struct range none[] = {
        {0x0300, 0x036f},   {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
        {0x0900, 0x0902},   {0x093c, 0x093c}, {0x0941, 0x0948}, {0x0e31, 0x0e31}, {0x0e34, 0x0e3a},
        {0x0e47, 0x0e4e},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200f}, {0x2028, 0x202e},
        {0x2060, 0x2064},   {0x20d0, 0x20f0}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff},
        {0xe0001, 0xe01ef},
    };
    static const struct range wide[] = {
        {0x1100, 0x115f},   {0x231a, 0x231b},   {0x2329, 0x232a},   {0x23e9, 0x23ec},
        {0x2614, 0x2615},   {0x2648, 0x2653},   {0x26a1, 0x26a1},   {0x2705, 0x2705},
        {0x270a, 0x270b},   {0x2728, 0x2728},   {0x274c, 0x274c},   {0x2753, 0x2755},
        {0x2757, 0x2757},   {0x2e80, 0x303e},   {0x3041, 0x33ff},   {0x3400, 0x4dbf},
        {0x4e00, 0xa4cf},   {0xa960, 0xa97c},   {0xac00, 0xd7a3},   {0xf900, 0xfaff},
        {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},   {0x16fe0, 0x18aff},
        {0x1b000, 0x1b2ff}, {0x1f004, 0x1f004}, {0x1f0cf, 0x1f0cf}, {0x1f18e, 0x1f19a},
        {0x1f200, 0x1f320}, {0x1f32d, 0x1f335}, {0x1f337, 0x1f37c}, {0x1f37e, 0x1f393},
        {0x1f3a0, 0x1f3ca}, {0x1f3e0, 0x1f3f0}, {0x1f3f4, 0x1f43e}, {0x1f440, 0x1f4fc},
        {0x1f4ff, 0x1f53d}, {0x1f54b, 0x1f567}, {0x1f595, 0x1f596}, {0x1f5fb, 0x1f64f},
        {0x1f680, 0x1f6c5}, {0x1f6cc, 0x1f6d2}, {0x1f6eb, 0x1f6ec}, {0x1f6f4, 0x1f6fc},
        {0x1f7e0, 0x1f7eb}, {0x1f90c, 0x1f9ff}, {0x1fa70, 0x1faff}, {0x20000, 0x3fffd},
    };
    if (point < 0x20 || (point >= 0x7f && point < 0xa0))
        return 0;
    if (point < 0x300)
        return 1;
    if (in_ranges(point, none, sizeof none / sizeof none[0]))
        return 0;
    return in_ranges(point, wide, sizeof wide / sizeof wide[0]) ? 2 : 1;
}

int utf8_columns(const char *text)
{
    int columns = 0;
    size_t bytes = strlen(text);
    while (bytes > 0) {
        uint32_t point;
        size_t length = utf8_decode(text, bytes, &point);
        columns += utf8_width(point);
        text += length;
        bytes -= length;
    }
    return columns;
}

/* Bytes of the longest beginning of text that fits into `columns`. */
static size_t head_bytes(const char *text, int columns)
{
    size_t bytes = strlen(text), at = 0;
    while (at < bytes) {
        uint32_t point;
        size_t took = utf8_decode(text + at, bytes - at, &point);
        columns -= utf8_width(point);
        if (columns < 0)
            break;
        at += took;
    }
    return at;
}

char *utf8_shorten(const char *text, int columns, char *out, size_t size)
{
    int width = utf8_columns(text);
    if (width <= columns || columns < 1) {
        snprintf(out, size, "%s", width <= columns ? text : "");
        return out;
    }
    int tail = (columns - 1) / 2;
    size_t head = head_bytes(text, columns - 1 - tail);
    /* the end begins where the rest is narrow enough */
    size_t bytes = strlen(text), at = head;
    while (at < bytes && utf8_columns(text + at) > tail) {
        uint32_t point;
        at += utf8_decode(text + at, bytes - at, &point);
    }
    snprintf(out, size, "%.*s\u2026%s", (int)head, text, text + at);
    return out;
}
