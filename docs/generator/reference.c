#include "docs/generator/page.h"

#include "commands/command.h"
#include "commands/help_text.h"
#include "commands/lesson.h"
#include "commands/myth.h"
#include "commands/options.h"
#include "commands/settings_show.h"
#include "profiler/advise/rules.h"
#include "profiler/doctor/rules.h"
#include "tui/keys.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Text as Markdown: what stands between backticks stays, what Markdown would take for its own does
 * not. */
static void put(FILE *out, const char *text, size_t length)
{
    bool code = false;
    for (size_t i = 0; i < length; i++) {
        code ^= text[i] == '`';
        if (!code && strchr("*<>_|[]", text[i]))
            fputc('\\', out);
        fputc(text[i], out);
    }
}

static void put_text(FILE *out, const char *text)
{
    put(out, text, strlen(text));
}

/* Lines of help: prose, and lines that begin with two blanks, which are shown as they are. */
static void put_help(FILE *out, const char *text)
{
    bool box = false, any = *text != '\0';
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        bool kept = strncmp(line, "  ", 2) == 0;
        if (kept != box)
            fputs(!kept ? "```\n\n" : line == text ? "```\n" : "\n```\n", out);
        box = kept;
        if (kept)
            fprintf(out, "%.*s", (int)length - 2, line + 2);
        else
            put(out, line, length);
        fputc('\n', out);
        line += length + (line[length] == '\n');
    }
    if (box)
        fputs("```\n", out);
    if (any)
        fputc('\n', out);
}

/* A sentence of a summary: "measure N steps" as "Measure N steps." */
static void put_sentence(FILE *out, const char *text)
{
    char first[2] = {(char)toupper((unsigned char)text[0]), '\0'};
    put_text(out, first);
    put_text(out, text + 1);
    fputs(strchr(".?!", text[strlen(text) - 1]) ? "\n\n" : ".\n\n", out);
}

static void put_words(FILE *out, const char *before, const char *const *words)
{
    if (!words || !*words)
        return;
    fputs(before, out);
    for (const char *const *word = words; *word; word++)
        fprintf(out, "%s`%s`", word == words ? "" : ", ", *word);
    fputs(".\n\n", out);
}

static void put_program(FILE *out)
{
    char name[64];
    fprintf(out, "## The program\n\n```\n%s```\n\n| option | meaning |\n|---|---|\n",
            program_synopsis);
    for (size_t i = 0; i < program_option_count(); i++) {
        const struct program_option *option = program_option_at(i);
        if (!option->summary)
            continue;
        fprintf(out, "| `%s` | ", program_option_format(option, name, sizeof name));
        put_text(out, option->summary);
        fputs(" |\n", out);
    }
    fputs("\n| environment | meaning |\n|---|---|\n", out);
    for (const struct program_fact *fact = program_environment; fact->name; fact++) {
        fprintf(out, "| `%s` | ", fact->name);
        put_text(out, fact->text);
        fputs(" |\n", out);
    }
    fputs("\n| file | meaning |\n|---|---|\n", out);
    for (const struct program_fact *fact = program_files; fact->name; fact++) {
        fprintf(out, "| `%s` | ", fact->name);
        put_text(out, fact->text);
        fputs(" |\n", out);
    }
}

static void put_command(FILE *out, const struct command *command)
{
    fprintf(out, "### %s\n\n```\n%s\n```\n\n", command->name, command->usage);
    put_sentence(out, command->summary);
    put_help(out, command->help);
    if (command->flags & COMMAND_NEEDS_MODEL)
        fputs("It needs a model.\n\n", out);
    put_words(out, "Also: ", command->aliases);
    if (command->json)
        fprintf(out, "Keys of `data` with `--json`: `%s`.\n\n", command->json);
    fputs("```\n", out);
    for (const char *const *example = command->examples; *example; example++)
        fprintf(out, "%s\n", *example);
    fputs("```\n\n", out);
    put_words(out, "See also: ", command->see);
}

static void put_setting(FILE *out, const struct setting *setting)
{
    char range[256];
    fprintf(out, "### set %s\n\n", setting->name);
    put_sentence(out, setting->summary);
    put_help(out, setting->help);
    fprintf(out, "Default `%s`; ", setting->value);
    put_text(out, setting_range(setting, range, sizeof range));
    fprintf(out, ". For example `%s`.%s\n\n", setting->example,
            setting->for_gpus ? " It means nothing to the CPU." : "");
    put_words(out, "Also: ", setting->aliases);
}

static void put_keys(FILE *out)
{
    char name[64];
    fputs("## Keys of the screen\n\nF-keys act everywhere; the others while the panes have the "
          "focus\n(`Esc`, or `Tab` on an empty line).\n\n| key | does |\n|---|---|\n",
          out);
    for (size_t i = 0; i < keys_count(); i++) {
        const struct key_binding *key = keys_at(i);
        if (!keys_available(key))
            continue;
        keys_all_names(key, name, sizeof name);
        fprintf(out, "| `%s` | ", name);
        put_text(out, key->summary);
        fputs(" |\n", out);
    }
    fputs("\nAt the prompt:\n\n| key | does |\n|---|---|\n", out);
    for (const struct prompt_key *key = prompt_keys; key->name; key++) {
        fprintf(out, "| `%s` | ", key->name);
        put_text(out, key->summary);
        fputs(" |\n", out);
    }
    fputc('\n', out);
}

static void put_errors(FILE *out)
{
    static const struct {
        int number, code;
    } numbers[] = {
#define ERROR_ROW(name, number, code) {number, code},
        ERROR_CODES(ERROR_ROW)
#undef ERROR_ROW
    };
    fputs("## Errors\n\nEach comes with what was tried, why it failed, and mostly a hint: the "
          "line to type.\nA script that stops on it ends with the exit code.\n\n"
          "| error | exit | meaning | what helps |\n|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < help_error_count(); i++) {
        const struct help_text *text = help_error_at(i);
        int number = atoi(text->name + 1), code = 1;
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            code = numbers[j].number == number ? numbers[j].code : code;
        fprintf(out, "| %s | %d | ", text->name, code);
        put_text(out, text->summary);
        fputs(" | ", out);
        for (const char *line = text->text; *line;
             line += strcspn(line, "\n"), line += *line == '\n') {
            if (line != text->text)
                fputc(' ', out);
            put(out, line, strcspn(line, "\n"));
        }
        fputs(" |\n", out);
    }
    fputc('\n', out);
}

static void put_topics(FILE *out)
{
    fputs("## Topics\n\n", out);
    for (size_t i = 0; i < help_topic_count(); i++) {
        const struct help_text *topic = help_topic_at(i);
        fprintf(out, "### %s: ", topic->name);
        put_text(out, topic->summary);
        fputs("\n\n", out);
        put_help(out, topic->text);
    }
}

static void put_rules(FILE *out)
{
    fputs("## Rules of advise\n\nRanked by the time they would save in your run; ids are "
          "stable.\n\n| id | what is wrong |\n|---|---|\n",
          out);
    for (const struct advise_rule *rule = advise_rules; rule->id; rule++) {
        fprintf(out, "| %s | ", rule->id);
        put_text(out, rule->title);
        fputs(" |\n", out);
    }
    fputs("\n## Rules of doctor\n\nIn the order of causes: the first that fails and follows from "
          "no other is the root cause.\n\n| id | what is looked at | of |\n|---|---|---|\n",
          out);
    for (const struct doctor_rule *rule = doctor_rules; rule->id; rule++) {
        fprintf(out, "| %s | ", rule->id);
        put_text(out, rule->title);
        fprintf(out, " |%s%s%s%s |\n", rule->scope & SCOPE_MACHINE ? " machine" : "",
                rule->scope & SCOPE_OURS ? " layertop" : "",
                rule->scope & SCOPE_PYTHON ? " --python" : "",
                rule->scope & SCOPE_PROCESS ? " --pid" : "");
    }
    fputc('\n', out);
}

static void put_course(FILE *out)
{
    size_t index;
    json_t *path, *files = lesson_files(NULL);
    struct myths myths = {0};
    fputs("## Lessons\n\n`lesson start N` begins one.\n\n"
          "| N | lesson | goal | minutes | questions |\n|---|---|---|---|---|\n",
          out);
    json_array_foreach(files, index, path)
    {
        struct lesson *lesson = lesson_read(json_string_value(path), NULL);
        if (!lesson)
            exit(1);
        fprintf(out, "| %d | ", lesson->number);
        put_text(out, lesson->title);
        fputs(" | ", out);
        put_text(out, lesson->goal);
        fprintf(out, " | %d | %zu |\n", lesson->minutes, lesson_questions(lesson));
        lesson_free(lesson);
    }
    json_decref(files);
    if (index == 0 || !myths_read(&myths, NULL))
        exit(1);
    fputs("\n## Myths\n\n`myths N` says what is true, `myths N --run` shows it.\n\n"
          "| id | what is believed, and wrong |\n|---|---|\n",
          out);
    for (size_t i = 0; i < myths.count; i++) {
        fprintf(out, "| %s | ", myths.list[i].id);
        put_text(out, myths.list[i].belief);
        fputs(" |\n", out);
    }
    myths_free(&myths);
}

void write_reference(FILE *out)
{
    fputs("# layertop: the reference\n\n"
          "Written by `make docs` from the tables that the program runs by: change those, not "
          "this page.\nThe same texts come from `help` at the prompt.\n\n",
          out);
    put_program(out);
    fputs("\n## Commands\n\nAny unique beginning will do. ", out);
    for (size_t i = 0; i < command_count(); i++)
        fprintf(out, "%s[%s](#%s)", i ? " \u00b7 " : "", command_at(i)->name, command_at(i)->name);
    fputs("\n\n", out);
    for (size_t i = 0; i < command_count(); i++)
        put_command(out, command_at(i));
    fputs("## Settings\n\n`set KEY VALUE` or just `KEY VALUE`; `show` shows all, `unset KEY` goes "
          "back to the default.\n\n",
          out);
    for (size_t i = 0; i < setting_count(); i++)
        put_setting(out, setting_at(i));
    put_keys(out);
    put_topics(out);
    put_errors(out);
    put_rules(out);
    put_course(out);
}
