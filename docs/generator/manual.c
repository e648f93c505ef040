#include "docs/generator/page.h"

#include "commands/command.h"
#include "commands/help_text.h"
#include "commands/options.h"
#include "commands/settings_show.h"
#include "tui/keys.h"

#include <stdbool.h>
#include <string.h>

/* Of the hand-written parts below. */
#define DATE "2026-11-22"

/* ---- text as man(7) wants it ---- */

static void put(FILE *out, const char *text, size_t length)
{
    bool bold = false, begins = true;
    for (size_t i = 0; i < length; i++) {
        char letter = text[i];
        if (begins && (letter == '.' || letter == '\''))
            fputs("\\&", out);
        begins = letter == '\n';
        if (letter == '`')
            fputs((bold = !bold) ? "\\fB" : "\\fR", out);
        else if (letter == '\\')
            fputs("\\e", out);
        else if (letter == '-' || letter == '^' || letter == '~')
            fputs(letter == '-' ? "\\-" : letter == '^' ? "\\(ha" : "\\(ti", out);
        else
            fputc(letter, out);
    }
}

static void put_text(FILE *out, const char *text)
{
    put(out, text, strlen(text));
}

/* A term and what it means. */
static void put_item(FILE *out, const char *term, const char *meaning)
{
    fputs(".TP\n.B ", out);
    put_text(out, term);
    fputc('\n', out);
    put_text(out, meaning);
    fputc('\n', out);
}

/* Lines as they are. */
static void put_lines(FILE *out, const char *text)
{
    fputs(".nf\n", out);
    put_text(out, text);
    fputs(text[strlen(text) - 1] == '\n' ? ".fi\n" : "\n.fi\n", out);
}

/* ---- what is written by hand ---- */

static const char description[] =
    "`layertop` is top for the layers of a neural network. It loads a Keras model (.keras, .h5, "
    "or\n"
    "one of those that ship, `demo:`NAME) into its own inference engine, runs it on the CPU or on\n"
    "an NVIDIA GPU, and shows in a terminal, live, where every microsecond and every byte goes.\n"
    "Change one thing at the prompt, such as the batch size, the device or the precision, and\n"
    "watch the plots answer. No Python is needed.\n";
static const char modes[] =
    "On a terminal, `layertop` MODEL loads the model and runs it live; below the plots is a "
    "prompt.\n"
    "With `-c` or `-f`, or with a standard input that is no terminal, there is no screen: the\n"
    "commands run in their order, the first error ends the program with its exit code, and with\n"
    "`--json` each command answers with one object on a line of its own.\n";
static const char engine[] =
    "The engine runs in a worker, a second process. If it ends, by the kernel's memory killer or "
    "by\n"
    "a driver's fault, the screen stays and the next command starts another one.\n";
static const char examples[] = "layertop demo:mobilenetv2\n"
                               "layertop model.keras --json -c 'batch 8' -c 'run 100'\n"
                               "layertop model.keras -c 'run 50; advise'\n"
                               "layertop -c 'doctor --python venv'\n"
                               "layertop model.h5 -c 'run 100; assert \"wall_ms.p95 < 5ms\"'\n"
                               "layertop --worker-command 'ssh gpu01 layertop' model.keras\n"
                               "layertop -c 'lesson list'\n";
static const char limits[] =
    "It measures its own engine, not Keras, TensorFlow or PyTorch: a model that is slow there and\n"
    "fast here is slow for a reason outside the network. Lambda layers are never executed; all\n"
    "layers that cannot run are named when the model is loaded.\n";

/* ---- what is made from the tables ---- */

static void put_options(FILE *out)
{
    char name[64];
    fputs(".SH OPTIONS\n", out);
    put_item(out, "MODEL", "load it; on a terminal also start it live");
    for (size_t i = 0; i < program_option_count(); i++)
        if (program_option_at(i)->summary)
            put_item(out, program_option_format(program_option_at(i), name, sizeof name),
                     program_option_at(i)->summary);
}

static void put_commands(FILE *out)
{
    fputs(".SH COMMANDS\n", out);
    put_text(out, "At the prompt, behind `-c`, and in scripts. Any unique beginning of a name will "
                  "do; `help` COMMAND tells more.\n");
    for (size_t i = 0; i < command_count(); i++)
        put_item(out, command_at(i)->usage, command_at(i)->summary);
}

static void put_settings(FILE *out)
{
    fputs(".SH SETTINGS\n", out);
    put_text(out, "`set` KEY VALUE, or just KEY VALUE; `show` shows all, `help set` KEY tells "
                  "more.\n");
    for (size_t i = 0; i < setting_count(); i++) {
        const struct setting *setting = setting_at(i);
        char range[256];
        fputs(".TP\n.BI ", out);
        put_text(out, setting->name);
        fputs(" \" VALUE\"\n", out);
        put_text(out, setting->summary);
        fputs(" (", out);
        put_text(out, setting_range(setting, range, sizeof range));
        fputs("; default ", out);
        put_text(out, setting->value);
        fputs(")\n", out);
    }
}

static void put_keys(FILE *out)
{
    char name[64];
    fputs(".SH KEYS\n", out);
    put_text(out,
             "F-keys act everywhere; the others while the panes have the focus (Esc, or Tab on "
             "an empty line).\n");
    for (size_t i = 0; i < keys_count(); i++) {
        keys_all_names(keys_at(i), name, sizeof name);
        if (keys_available(keys_at(i)))
            put_item(out, name, keys_at(i)->summary);
    }
    fputs(".SS At the prompt\n", out);
    for (const struct prompt_key *key = prompt_keys; key->name; key++)
        put_item(out, key->name, key->summary);
}

static void put_exit_codes(FILE *out)
{
    for (size_t i = 0; i < help_topic_count(); i++) {
        if (strcmp(help_topic_at(i)->name, "exit") != 0)
            continue;
        fputs(".SH \"EXIT STATUS\"\n", out);
        put_lines(out, help_topic_at(i)->text);
    }
}

static void put_facts(FILE *out, const char *title, const struct program_fact *fact)
{
    fprintf(out, ".SH %s\n", title);
    for (; fact->name; fact++)
        put_item(out, fact->name, fact->text);
}

void write_manual(FILE *out)
{
    fputs(".\\\" Written by `make docs` from the program's tables: change those, not this page.\n"
          ".TH LAYERTOP 1 \"" DATE "\" layertop \"User Commands\"\n"
          ".SH NAME\nlayertop \\- top for the layers of a neural network\n.SH SYNOPSIS\n",
          out);
    put_lines(out, program_synopsis);
    fputs(".SH DESCRIPTION\n", out);
    put_text(out, description);
    fputs(".PP\n", out);
    put_text(out, modes);
    fputs(".PP\n", out);
    put_text(out, engine);
    put_options(out);
    put_commands(out);
    put_settings(out);
    put_keys(out);
    put_exit_codes(out);
    put_facts(out, "ENVIRONMENT", program_environment);
    put_facts(out, "FILES", program_files);
    fputs(".SH EXAMPLES\n", out);
    put_lines(out, examples);
    fputs(".SH LIMITS\n", out);
    put_text(out, limits);
    fputs(".SH \"SEE ALSO\"\n", out);
    put_text(out,
             "`lesson list` and `myths` at the prompt teach. In PREFIX/share/doc/layertop are\n"
             "docs/tutorial.md (diagnose a slow model in ten minutes), docs/lecturers.md and\n"
             "docs/commands.md (every command with its arguments, examples and keys of JSON).\n");
    fputs(".PP\n.BR nvidia\\-smi (1),\n.BR top (1)\n", out);
}
