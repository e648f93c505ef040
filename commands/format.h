/* Numbers for people: every one with a unit, "-" for what is not known. Each writes into out[size]
 * and returns out. */
#ifndef LAYERTOP_COMMANDS_FORMAT_H
#define LAYERTOP_COMMANDS_FORMAT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define FORMAT_SIZE 32 /* enough for every one of them */

char *format_time_ms(char *out, size_t size,
                     double milliseconds);                  /* "812 us", "12.4 ms", "1.24 s" */
char *format_bytes(char *out, size_t size, double bytes);   /* "512 B", "3.41 GiB" */
char *format_count(char *out, size_t size, double count);   /* "25.6 M", "812" */
char *format_percent(char *out, size_t size, double share); /* 0..1 -> "34.2 %" */
/* "+1.6 %": how far `measured` lies from `planned`. */
char *format_deviation(char *out, size_t size, double planned, double measured);
/* A bar of `width` cells for share 0..1; block elements with eighths if utf8, else '#'. Never
 * empty for a share above zero. out needs 3 * width + 1 bytes. */
char *format_bar(char *out, size_t size, double share, int width, int utf8);

/* JSON: null for what is not finite. New references. */
json_t *json_number(double value);
json_t *json_bytes(uint64_t bytes); /* UINT64_MAX: null */
/* A number's value, NaN when it is missing, null or none. */
double json_to_double(const json_t *value);
double json_get_double(const json_t *object, const char *key);

/* Columns a UTF-8 text takes on a screen (wide characters 2, combining 0), its control characters
 * counted as they are printed, by their numbers. */
int text_columns(const char *text);

#endif
