#include "tui/units.h"

#include <math.h>
#include <stdio.h>

char *unit_number(char *out, size_t size, double value)
{
    double magnitude = fabs(value);
    if (isnan(value))
        snprintf(out, size, "\u2013");
    else if (magnitude == 0)
        snprintf(out, size, "0");
    else if (magnitude >= 99.95)
        snprintf(out, size, "%.0f", value);
    else if (magnitude >= 9.995)
        snprintf(out, size, "%.1f", value);
    else if (magnitude >= 0.9995)
        snprintf(out, size, "%.2f", value);
    else
        snprintf(out, size, "%.3f", value);
    return out;
}

void unit_scale(enum unit unit, double top, double *factor, const char **name)
{
    static const struct {
        double factor;
        const char *name;
    } scales[][6] = {
        [UNIT_MS] = {{1e-6, "ns"}, {1e-3, "\u00b5s"}, {1, "ms"}, {1e3, "s"}, {0, NULL}},
        [UNIT_BYTES] = {{1, "B"},
                        {1024, "KiB"},
                        {1048576, "MiB"},
                        {1073741824, "GiB"},
                        {1099511627776.0, "TiB"},
                        {0, NULL}},
        [UNIT_PER_SECOND] = {{1, "/s"}, {1e3, "k/s"}, {1e6, "M/s"}, {1e9, "G/s"}, {0, NULL}},
        [UNIT_COUNT_PER_STEP] =
            {{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}, {0, NULL}},
    };
    size_t best = 0;
    for (size_t i = 0; i < 6 && scales[unit][i].name != NULL; i++) {
        /* 999.6 would round to 1000 */
        if (fabs(top) >= 0.9995 * scales[unit][i].factor)
            best = i;
    }
    *factor = scales[unit][best].factor;
    *name = scales[unit][best].name;
}

static char *unit_format_spaced(char *out, size_t size, enum unit unit, double value,
                                const char *space)
{
    char number[32];
    double factor;
    const char *name;
    if (isnan(value)) {
        snprintf(out, size, "\u2013");
        return out;
    }
    if (value == 0) {
        unit_scale(unit, unit == UNIT_MS ? 1 : 0, &factor, &name);
        snprintf(out, size, "0%s%s", space, name);
        return out;
    }
    unit_scale(unit, value, &factor, &name);
    if (factor == 1 && unit != UNIT_MS && value == floor(value))
        snprintf(number, sizeof number, "%.0f", value);
    else
        unit_number(number, sizeof number, value / factor);
    snprintf(out, size, "%s%s%s", number, space, name);
    return out;
}

char *unit_ms(char *out, size_t size, double ms)
{
    return unit_format_spaced(out, size, UNIT_MS, ms, " ");
}

char *unit_bytes(char *out, size_t size, double bytes)
{
    return unit_format_spaced(out, size, UNIT_BYTES, bytes, " ");
}

char *unit_rate(char *out, size_t size, double per_second)
{
    return unit_format_spaced(out, size, UNIT_PER_SECOND, per_second, "");
}

char *unit_count(char *out, size_t size, double count)
{
    return unit_format_spaced(out, size, UNIT_COUNT_PER_STEP, count, "");
}

char *unit_share(char *out, size_t size, double fraction)
{
    if (isnan(fraction))
        snprintf(out, size, "\u2013");
    else
        snprintf(out, size, "%.*f %%", fabs(fraction) < 0.0995 ? 1 : 0, fraction * 100);
    return out;
}

char *unit_format(char *out, size_t size, enum unit unit, double value)
{
    switch (unit) {
    case UNIT_MS:
        return unit_ms(out, size, value);
    case UNIT_BYTES:
        return unit_bytes(out, size, value);
    case UNIT_PER_SECOND:
        return unit_rate(out, size, value);
    case UNIT_COUNT_PER_STEP:
        return unit_count(out, size, value);
    }
    return out;
}
