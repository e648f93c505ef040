/* Numbers for the screen, which has columns and glyphs to spare that a pipe has not (for those there
 * is commands/format.h): three significant digits, the unit beside them, an en dash for what is not
 * known. All functions write into out[size] (32 is enough) and return out. Pure. */
#ifndef LAYERTOP_TUI_UNITS_H
#define LAYERTOP_TUI_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum unit { UNIT_MS, UNIT_BYTES, UNIT_PER_SECOND, UNIT_COUNT_PER_STEP };

/* "0.812 ms", "812 µs", "1.25 s" from milliseconds. */
char *unit_ms(char *out, size_t size, double ms);
/* "12.3 MiB" from bytes; NaN is not known. */
char *unit_bytes(char *out, size_t size, double bytes);
/* "26.3k/s" from a rate per second. */
char *unit_rate(char *out, size_t size, double per_second);
/* "1.23M", "812", "3.4G" with powers of 1000. */
char *unit_count(char *out, size_t size, double count);
/* "8.3 %" from a fraction. */
char *unit_share(char *out, size_t size, double fraction);
/* Any of them by unit. */
char *unit_format(char *out, size_t size, enum unit unit, double value);

/* The factor and name of the unit that suits values up to `top`, for an axis: a value divided by
 * *factor is in *name ("µs", "MiB", "k/s"). */
void unit_scale(enum unit unit, double top, double *factor, const char **name);
/* A number with three significant digits and no unit, no exponent: "0.081", "12.3", "812". */
char *unit_number(char *out, size_t size, double value);

#endif
