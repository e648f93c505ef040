/* One object a line on standard output, exactly as the contract of --json says; everything for
 * people goes to standard error. */
#include "commands/sink.h"

#include <stdio.h>
#include <stdlib.h>

static void write_line(void *context, enum sink_style style, const char *line)
{
    (void)context;
    if (style == SINK_TEXT)
        return; /* the object says the same */
    fprintf(stderr, "%s%s\n", style == SINK_ECHO ? "> " : "", line);
    fflush(stderr);
}

static json_t *describe_error(const struct error *error)
{
    char *message = xasprintf("%s%s%s", error->what, *error->what ? ": " : "", error->why);
    char code[16];
    snprintf(code, sizeof code, "E%03d", (int)error->code);
    json_t *object = json_pack("{s:s, s:s}", "code", code, "message", message);
    json_object_set_new(object, "hint", *error->hint ? json_string(error->hint) : json_null());
    free(message);
    return object;
}

static void write_result(void *context, const char *command, const json_t *data,
                         const json_t *warnings, const struct error *error)
{
    (void)context;
    bool nothing = !data || (error && json_object_size(data) == 0);
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "cmd", json_string(command));
    json_object_set_new(object, "ok", json_boolean(!error));
    json_object_set_new(object, "data", nothing ? json_null() : json_deep_copy(data));
    if (error)
        json_object_set_new(object, "error", describe_error(error));
    json_object_set_new(object, "warn", warnings ? json_deep_copy(warnings) : json_array());
    /* ASCII: a terminal takes some of what lies beyond it for commands (U+009B begins one) */
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9) | JSON_ENSURE_ASCII);
    if (text)
        fprintf(stdout, "%s\n", text);
    sink_flush_output();
    free(text);
    json_decref(object);
}

struct sink *sink_json_new(void)
{
    struct sink *sink = xcalloc(1, sizeof *sink);
    *sink = (struct sink){.context = sink, .line = write_line, .result = write_result};
    return sink;
}
