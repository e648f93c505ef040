/* The queue of commands and the life of the one that runs. */
#include "commands/workbench_private.h"

#include "commands/parse.h"
#include "commands/tutor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a command calls ---- */

void execution_done(struct execution *execution)
{
    execution->done = true;
}

void execution_fail(struct execution *execution, const struct error *error)
{
    if (error && error->code != ERROR_NONE)
        execution->error = *error;
    else if (execution->error.code == ERROR_NONE)
        error_set(&execution->error, ERROR_COMMAND, execution->command->name, "it failed");
    execution->done = true;
}

void dispatch_show_text(const struct sink *sink, enum sink_style style, const char *text)
{
    size_t size = 4 * strlen(text) + 1; /* cleaning makes four bytes of one at most */
    char *clean = xmalloc(size), *copy = xstrdup(text), *rest = copy, *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        sink->line(sink->context, style, text_clean(clean, size, line));
    free(copy);
    free(clean);
}

void execution_print(struct execution *execution, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = xmalloc((size_t)(length > 0 ? length : 0) + 1);
    *text = '\0';
    vsnprintf(text, (size_t)(length > 0 ? length : 0) + 1, format, again);
    va_end(again);
    bool lines = strchr(format, '\n') != NULL || strcmp(format, "%s") == 0;
    if (execution->sink && lines) {
        dispatch_show_text(execution->sink, SINK_TEXT, text);
    } else if (execution->sink) { /* a newline is part of a name that a file holds */
        size_t size = 4 * strlen(text) + 1;
        char *clean = xmalloc(size);
        execution->sink->line(execution->sink->context, SINK_TEXT, text_clean(clean, size, text));
        free(clean);
    }
    free(text);
}

void execution_warn(struct execution *execution, const char *format, ...)
{
    va_list arguments;
    char text[1024], clean[1024];
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    text_clean(clean, sizeof clean, text);
    /* a command that loads or runs many times is told once what each of them says */
    size_t index;
    json_t *said;
    json_array_foreach(execution->warnings, index, said)
    {
        if (strcmp(json_string_value(said), clean) == 0)
            return;
    }
    json_array_append_new(execution->warnings, json_string(clean));
    if (execution->sink) {
        char *line = xasprintf("note: %s", clean);
        execution->sink->line(execution->sink->context, SINK_WARNING, line);
        free(line);
    }
}

static void on_reply(struct workbench *workbench, void *context, const json_t *data,
                     const struct error *error)
{
    struct execution *execution = context;
    const char *note = json_string_value(json_object_get(data, "note"));
    (void)workbench;
    execution->request = 0;
    if (note)
        execution_warn(execution, "%s", note);
    execution->reply(execution, data, error);
}

void execution_request(struct execution *execution, const char *verb, json_t *arguments,
                       void (*reply)(struct execution *, const json_t *, const struct error *))
{
    execution->reply = reply;
    uint64_t serial = workbench_request(execution->workbench, verb, arguments, on_reply, execution);
    /* a reply that came at once may have ended the command or sent the next request */
    if (!execution->done && execution->request == 0)
        execution->request = serial;
}

/* ---- the queue ---- */

static void queued_clear(struct queued *item)
{
    for (int i = 0; i < item->argc; i++)
        free(item->argv[i]);
    free(item->argv);
    *item = (struct queued){0};
}

static void queue_insert(struct workbench *workbench, size_t position, struct queued item)
{
    workbench->queue =
        xrealloc(workbench->queue, (workbench->queue_count + 1) * sizeof *workbench->queue);
    memmove(&workbench->queue[position + 1], &workbench->queue[position],
            (workbench->queue_count - position) * sizeof *workbench->queue);
    workbench->queue[position] = item;
    workbench->queue_count++;
}

static void queue_drop(struct workbench *workbench)
{
    for (size_t i = 0; i < workbench->queue_count; i++)
        queued_clear(&workbench->queue[i]);
    workbench->queue_count = 0;
}

void dispatch_insert(struct workbench *workbench, const char *line, const struct sink *sink,
                     int depth, size_t *position)
{
    struct parsed_line parsed;
    struct error error = {0};
    bool ok = parse_line(line, &parsed, &error);
    for (size_t i = 0; i < parsed.count; i++) {
        queue_insert(workbench, (*position)++,
                     (struct queued){.argc = parsed.commands[i].argc,
                                     .argv = parsed.commands[i].argv,
                                     .sink = sink,
                                     .depth = depth});
        parsed.commands[i] = (struct parsed_command){0}; /* the words are the queue's now */
    }
    if (!ok)
        queue_insert(workbench, (*position)++,
                     (struct queued){.error = error, .sink = sink, .depth = depth});
    parsed_line_free(&parsed);
}

void command_submit(struct workbench *workbench, const char *line)
{
    size_t position = workbench->queue_count;
    dispatch_insert(workbench, line, workbench->sink, 0, &position);
}

void command_submit_if_well(struct workbench *workbench, const char *line)
{
    size_t position = workbench->queue_count, from = position;
    dispatch_insert(workbench, line, workbench->sink, 0, &position);
    for (; from < position; from++)
        workbench->queue[from].if_well = true;
}

bool command_busy(const struct workbench *workbench)
{
    return workbench->current || (workbench->queue_count > 0 && !workbench->quitting);
}

bool command_cancel(struct workbench *workbench)
{
    bool busy = command_busy(workbench);
    queue_drop(workbench);
    if (!busy)
        return false;
    workbench->interrupted = true;
    if (!workbench->current && !workbench->interactive)
        dispatch_quit(workbench, true, error_exit_code(ERROR_INTERRUPTED));
    if (workbench->current && !workbench->current->done) {
        /* others may be asked for beside it, which are none of its business */
        if (workbench->current->request != 0 || workbench->change.active) {
            workbench_cancel(workbench);
        } else {
            struct error error;
            error_set(&error, ERROR_INTERRUPTED, workbench->current->command->name, "interrupted");
            execution_fail(workbench->current, &error);
        }
    }
    return true;
}

void dispatch_quit(struct workbench *workbench, bool has_code, int code)
{
    workbench->quitting = true;
    if (has_code)
        workbench->exit_code = code;
    queue_drop(workbench);
}

/* ---- running ---- */

void dispatch_show_error(const struct sink *sink, const struct error *error)
{
    char *line = xasprintf("error[E%03d]: %s%s%s", (int)error->code, error->what,
                           *error->what ? ": " : "", error->why);
    sink->line(sink->context, SINK_ERROR, line);
    free(line);
    if (*error->hint) {
        line = xasprintf("hint: %s", error->hint);
        sink->line(sink->context, SINK_HINT, line);
        free(line);
    }
}

/* Report how a command ended, and decide whether the rest still runs. */
static void report(struct workbench *workbench, const struct sink *sink, const char *name,
                   const json_t *data, const json_t *warnings, const struct error *error)
{
    bool failed = error->code != ERROR_NONE;
    workbench->failed = failed;
    if (sink) {
        if (sink->progress)
            sink->progress(sink->context, -1, "");
        if (failed)
            dispatch_show_error(sink, error);
        if (sink->result)
            sink->result(sink->context, name, data, warnings, failed ? error : NULL);
    }
    if (failed && !workbench->interactive && !workbench->quitting) {
        if (workbench->exit_code == 0)
            workbench->exit_code = error_exit_code(error->code);
        if (!workbench->keep_going)
            dispatch_quit(workbench, false, 0);
    }
    if (workbench->interrupted && !workbench->interactive)
        dispatch_quit(workbench, true, error_exit_code(ERROR_INTERRUPTED));
    workbench->interrupted = false;
}

/* Every error says what to type next: where nobody knows better, the page of the command, or of the
 * setting that it was to change. */
static void hint_at_help(struct error *error, const struct command *command, int argc, char **argv)
{
    bool sets = command && argc > 1 && strcmp(command->name, "set") == 0;
    const struct setting *setting = sets ? setting_find(argv[1], NULL) : NULL;
    bool wanted = error->code != ERROR_NONE && error->code != ERROR_INTERRUPTED &&
                  error->code != ERROR_ASSERT && error->code != ERROR_WORKER;
    bool model = error->code >= ERROR_MODEL_FILE && error->code <= ERROR_MODEL_SHAPE;
    if (wanted && !*error->hint && model)
        error_hint(error, "help load"); /* whatever command wanted the model again */
    else if (wanted && !*error->hint && setting)
        error_hint(error, "help set %s", setting->name);
    else if (wanted && !*error->hint && command)
        error_hint(error, "help %s", command->name);
    else if (wanted && !*error->hint)
        error_hint(error, "help");
}

/* The lesson under way has a word to say to what was typed. */
static void tell_lesson(struct workbench *workbench, const struct execution *execution)
{
    char *text = workbench->tutor ? tutor_observe(workbench->tutor, execution) : NULL;
    if (text && execution->sink)
        dispatch_show_text(execution->sink, SINK_HINT, text);
    free(text);
}

static void finish_current(struct workbench *workbench)
{
    struct execution *execution = workbench->current;
    hint_at_help(&execution->error, execution->command, execution->argc, execution->argv);
    workbench->current = NULL;
    workbench->cancel_ns = 0;
    if ((execution->command->flags & COMMAND_RESULT) && execution->error.code == ERROR_NONE) {
        json_decref(workbench->last_result);
        workbench->last_result = json_incref(execution->data);
        workbench->last_result_of = execution->command->name;
    }
    report(workbench, execution->sink, execution->command->name, execution->data,
           execution->warnings, &execution->error);
    if (execution->error.code == ERROR_NONE)
        tell_lesson(workbench, execution);
    if (execution->free_state)
        execution->free_state(execution->state);
    for (int i = 0; i < execution->argc; i++)
        free(execution->argv[i]);
    free(execution->argv);
    json_decref(execution->data);
    json_decref(execution->warnings);
    free(execution);
}

/* Make the hint the whole line again, with the word that was meant. */
static void mend_hint(struct error *error, int argc, char **argv)
{
    if (!*error->hint || strchr(error->hint, ' ') || strcmp(error->hint, "help") == 0)
        return;
    for (int i = 1; i < argc; i++) {
        char *word = parse_quote(argv[i]);
        size_t used = strlen(error->hint);
        if (used + strlen(word) + 2 < sizeof error->hint)
            snprintf(error->hint + used, sizeof error->hint - used, " %s", word);
        free(word);
    }
}

static bool check_arguments(const struct command *command, int argc, struct error *error)
{
    int count = argc - 1;
    if (count < command->arguments_min)
        error_set(error, ERROR_SYNTAX, command->name, "it needs %s: %s",
                  command->arguments_min == 1 ? "an argument" : "more arguments", command->usage);
    else if (command->arguments_max >= 0 && count > command->arguments_max)
        error_set(error, ERROR_SYNTAX, command->name, "too many arguments: %s", command->usage);
    else
        return true;
    return error_hint(error, "help %s", command->name);
}

/* Is the line the setting's of the same name? */
bool command_is_of_setting(const struct command *command, int argc, char *const *argv)
{
    for (const char *const *word = command->not_words; word && *word; word++)
        if (argc == 1 || (argc == 2 && strcmp(*word, argv[1]) == 0))
            return true;
    if (!command->words)
        return false;
    for (const char *const *word = command->words; argc > 1 && *word; word++)
        if (strcmp(*word, argv[1]) == 0)
            return false;
    return true;
}

/* The words of a setting (`batch 32`) become those of `set` or, without a value, of `show`. */
static void spell_setting(struct queued *item)
{
    item->argv = xrealloc(item->argv, (size_t)(item->argc + 2) * sizeof *item->argv);
    memmove(item->argv + 1, item->argv, (size_t)(item->argc + 1) * sizeof *item->argv);
    item->argv[0] = xstrdup(item->argc > 1 ? "set" : "show");
    item->argc++;
}

static void start_next(struct workbench *workbench)
{
    struct queued item = workbench->queue[0];
    struct error error = item.error;
    workbench->queue_count--;
    memmove(workbench->queue, workbench->queue + 1,
            workbench->queue_count * sizeof *workbench->queue);
    const struct sink *sink = item.sink ? item.sink : workbench->sink;
    const struct command *command = NULL;
    if (item.if_well && workbench->failed) {
        queued_clear(&item);
        return;
    }
    if (error.code == ERROR_NONE) {
        bool is_setting;
        command = command_resolve(item.argv[0], &is_setting, &error);
        if (is_setting || (command && command_is_of_setting(command, item.argc, item.argv))) {
            spell_setting(&item);
            command = command_resolve(item.argv[0], &is_setting, &error);
        }
        if (!command)
            mend_hint(&error, item.argc, item.argv);
    }
    if (command && check_arguments(command, item.argc, &error) &&
        (command->flags & COMMAND_NEEDS_MODEL) && !workbench->load_arguments) {
        error_set(&error, ERROR_NO_MODEL, command->name, "no model is loaded");
        error_hint(&error, "load demo:digits");
    }
    if (error.code != ERROR_NONE) {
        json_t *warnings = json_array();
        char name[64] = "";
        hint_at_help(&error, command, item.argc, item.argv);
        if (command)
            snprintf(name, sizeof name, "%s", command->name);
        else if (item.argc > 0)
            text_clean(name, sizeof name, item.argv[0]);
        report(workbench, sink, name, NULL, warnings, &error);
        json_decref(warnings);
        queued_clear(&item);
        return;
    }
    if ((item.depth > 0 || item.if_well) && workbench->interactive && sink) {
        char line[256] = "";
        for (int i = 0; i < item.argc; i++) {
            char *word = parse_quote(item.argv[i]);
            size_t used = strlen(line);
            snprintf(line + used, sizeof line - used, "%s%s", i ? " " : "", word);
            free(word);
        }
        dispatch_show_text(sink, SINK_ECHO, line);
    }
    struct execution *execution = xcalloc(1, sizeof *execution);
    *execution = (struct execution){.workbench = workbench,
                                    .sink = sink,
                                    .command = command,
                                    .argc = item.argc,
                                    .argv = item.argv,
                                    .data = json_object(),
                                    .warnings = json_array()};
    workbench->current = execution;
    workbench->current_depth = item.depth;
    command->run(execution, execution->argc, execution->argv);
}

void dispatch_run(struct workbench *workbench)
{
    /* a script may hold many commands that end at once: events must get in between */
    for (int budget = 100; budget > 0; budget--) {
        struct execution *current = workbench->current;
        if (current && !current->done && current->tick)
            current->tick(current);
        if (current && !current->done)
            return;
        if (current)
            finish_current(workbench);
        if (workbench->quitting || workbench->restart_wanted || workbench->replay.leave ||
            workbench->queue_count == 0)
            return;
        start_next(workbench);
        if (workbench->current && workbench->current->done)
            finish_current(workbench);
    }
}

bool dispatch_ticking(const struct workbench *workbench)
{
    return workbench->current && workbench->current->tick;
}

void dispatch_free(struct workbench *workbench)
{
    queue_drop(workbench);
    free(workbench->queue);
    workbench->queue = NULL;
    if (workbench->current) {
        workbench->current->sink = NULL; /* nobody listens any more */
        finish_current(workbench);
    }
}
