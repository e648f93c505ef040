#include "commands/sink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct text_sink {
    struct sink sink;
    int terminal;      /* is stderr one? progress is drawn there only */
    int progress_open; /* a progress line stands on it */
};

void sink_flush_output(void)
{
    if (fflush(stdout) == 0 || errno == EPIPE)
        return;
    fprintf(stderr, "error[E%03d]: standard output: cannot be written: %s\n", (int)ERROR_FILE,
            strerror(errno));
}

static void clear_progress(struct text_sink *text)
{
    if (text->progress_open)
        fputs("\r\x1b[K", stderr);
    text->progress_open = 0;
}

static void write_line(void *context, enum sink_style style, const char *line)
{
    struct text_sink *text = context;
    clear_progress(text);
    if (style == SINK_TEXT) {
        fprintf(stdout, "%s\n", line);
        sink_flush_output();
    } else {
        fprintf(stderr, "%s%s\n", style == SINK_ECHO ? "> " : "", line);
        fflush(stderr);
    }
}

static void write_progress(void *context, double fraction, const char *label)
{
    struct text_sink *text = context;
    clear_progress(text);
    if (!text->terminal || fraction < 0)
        return;
    if (fraction >= 0)
        fprintf(stderr, "%3.0f %% %s", fraction * 100, label);
    else
        fprintf(stderr, "%s ...", label);
    fflush(stderr);
    text->progress_open = 1;
}

struct sink *sink_text_new(void)
{
    struct text_sink *text = xcalloc(1, sizeof *text);
    const char *terminal = getenv("TERM");
    text->sink = (struct sink){.context = text, .line = write_line, .progress = write_progress};
    text->terminal =
        isatty(STDERR_FILENO) && terminal && *terminal && strcmp(terminal, "dumb") != 0;
    return &text->sink;
}

void sink_free(struct sink *sink)
{
    if (sink)
        free(sink->context);
}
