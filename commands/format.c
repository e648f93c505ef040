#include "commands/format.h"
#include "engine/error.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

/* Three significant digits: 812, 12.4, 1.24. */
static int decimals(double value)
{
    double magnitude = fabs(value);
    return magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0;
}

static char *with_unit(char *out, size_t size, double value, const char *unit)
{
    snprintf(out, size, "%.*f%s%s", decimals(value), value, *unit ? " " : "", unit);
    return out;
}

static char *unknown(char *out, size_t size)
{
    snprintf(out, size, "-");
    return out;
}

char *format_time_ms(char *out, size_t size, double milliseconds)
{
    if (!isfinite(milliseconds))
        return unknown(out, size);
    double magnitude = fabs(milliseconds);
    if (magnitude < 0.9995)
        return with_unit(out, size, milliseconds * 1e3, "us");
    if (magnitude < 999.5)
        return with_unit(out, size, milliseconds, "ms");
    return with_unit(out, size, milliseconds / 1e3, "s");
}

char *format_bytes(char *out, size_t size, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    if (!isfinite(bytes))
        return unknown(out, size);
    size_t unit = 0;
    while (fabs(bytes) >= 1023.5 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(out, size, "%.0f B", bytes);
    else
        with_unit(out, size, bytes, units[unit]);
    return out;
}

static char *with_prefix(char *out, size_t size, double value, const char *suffix)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
    if (!isfinite(value))
        return unknown(out, size);
    size_t prefix = 0;
    while (fabs(value) >= (prefix == 0 ? 9999.5 : 999.5) && prefix < 5) {
        value /= 1000;
        prefix++;
    }
    char unit[16];
    snprintf(unit, sizeof unit, "%s%s", prefixes[prefix], suffix);
    if (prefix == 0 && value == floor(value))
        snprintf(out, size, "%.0f%s%s", value, *unit ? " " : "", unit);
    else
        with_unit(out, size, value, unit);
    return out;
}

char *format_count(char *out, size_t size, double count)
{
    return with_prefix(out, size, count, "");
}

char *format_percent(char *out, size_t size, double share)
{
    if (!isfinite(share))
        return unknown(out, size);
    snprintf(out, size, "%.1f %%", share * 100);
    return out;
}

char *format_deviation(char *out, size_t size, double planned, double measured)
{
    if (!isfinite(planned) || !isfinite(measured) || planned <= 0)
        return unknown(out, size);
    snprintf(out, size, "%+.1f %%", (measured / planned - 1) * 100);
    return out;
}

char *format_bar(char *out, size_t size, double share, int width, int utf8)
{
    static const char *const eighths[] = {"",
                                          "\xe2\x96\x8f",
                                          "\xe2\x96\x8e",
                                          "\xe2\x96\x8d",
                                          "\xe2\x96\x8c",
                                          "\xe2\x96\x8b",
                                          "\xe2\x96\x8a",
                                          "\xe2\x96\x89"};
    int parts = utf8 ? 8 : 1;
    size_t used = 0;
    if (size > 0)
        *out = '\0';
    if (!isfinite(share) || share <= 0)
        return out;
    int total = (int)lround((share < 1 ? share : 1) * width * parts);
    if (total == 0)
        total = 1;
    for (; total >= parts; total -= parts)
        used += (size_t)snprintf(out + used, used < size ? size - used : 0, "%s",
                                 utf8 ? "\xe2\x96\x88" : "#");
    if (total > 0)
        snprintf(out + used, used < size ? size - used : 0, "%s", eighths[total]);
    return out;
}

json_t *json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_bytes(uint64_t bytes)
{
    return bytes > INT64_MAX ? json_null() : json_integer((json_int_t)bytes);
}

double json_to_double(const json_t *value)
{
    return json_is_number(value) ? json_number_value(value) : NAN;
}

double json_get_double(const json_t *object, const char *key)
{
    return json_to_double(json_object_get(object, key));
}

int text_columns(const char *given)
{
    mbstate_t state = {0};
    int columns = 0;
    size_t size = 4 * strlen(given) + 1; /* cleaning makes four bytes of one at most */
    char *clean = xmalloc(size);
    const char *text = text_clean(clean, size, given);
    while (*text) {
        wchar_t wide;
        size_t length = mbrtowc(&wide, text, strlen(text), &state);
        if (length == (size_t)-1 || length == (size_t)-2 || length == 0) {
            state = (mbstate_t){0};
            columns++;
            text++;
            continue;
        }
        int width = wcwidth(wide);
        columns += width > 0 ? width : 0;
        text += length;
    }
    free(clean);
    return columns;
}
