#include "tui/log.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 2000

struct line {
    char *text;
    enum sink_style style;
    unsigned repeats;
};

struct log {
    struct line lines[LOG_LINES]; /* ring */
    size_t first, count;
    uint64_t generation;
    char partial[LINE_MAX_BYTES]; /* of log_feed() */
    size_t partial_bytes;
};

struct log *log_new(void)
{
    return xcalloc(1, sizeof(struct log));
}

void log_clear(struct log *log)
{
    for (size_t i = 0; i < log->count; i++)
        free(log->lines[(log->first + i) % LOG_LINES].text);
    log->first = log->count = 0;
    log->generation++;
}

void log_free(struct log *log)
{
    if (log == NULL)
        return;
    log_clear(log);
    free(log);
}

void log_add(struct log *log, enum sink_style style, const char *text)
{
    char blank[LINE_MAX_BYTES], clean[LINE_MAX_BYTES];
    size_t used = 0;
    for (; *text != '\0' && used + 8 < sizeof blank; text++) {
        if (*text == '\t') {
            do
                blank[used++] = ' ';
            while (used % 8 != 0);
        } else {
            blank[used++] = *text;
        }
    }
    blank[used] = '\0';
    text_clean(clean, sizeof clean, blank);
    log->generation++;
    if (log->count > 0 && style != SINK_ECHO) {
        struct line *last = &log->lines[(log->first + log->count - 1) % LOG_LINES];
        if (last->style == style && clean[0] != '\0' && strcmp(last->text, clean) == 0) {
            last->repeats++;
            return;
        }
    }
    struct line line = {xstrdup(clean), style, 1};
    if (log->count == LOG_LINES) {
        free(log->lines[log->first].text);
        log->first = (log->first + 1) % LOG_LINES;
        log->count--;
    }
    log->lines[(log->first + log->count++) % LOG_LINES] = line;
}

size_t log_count(const struct log *log)
{
    return log->count;
}

const char *log_line(const struct log *log, size_t index, enum sink_style *style, unsigned *repeats)
{
    const struct line *line = &log->lines[(log->first + index) % LOG_LINES];
    if (style != NULL)
        *style = line->style;
    if (repeats != NULL)
        *repeats = line->repeats;
    return line->text;
}

uint64_t log_generation(const struct log *log)
{
    return log->generation;
}

void log_feed(struct log *log, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool end = bytes[i] == '\n' || log->partial_bytes + 1 == sizeof log->partial;
        if (!end && bytes[i] != '\r' && bytes[i] != '\0')
            log->partial[log->partial_bytes++] = bytes[i];
        if (end) {
            log->partial[log->partial_bytes] = '\0';
            if (log->partial_bytes > 0)
                log_add(log, SINK_NOTE, log->partial);
            log->partial_bytes = 0;
        }
    }
}
