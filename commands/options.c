#include "commands/options.h"

#include <stdio.h>
#include <string.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

const char program_synopsis[] =
    "layertop [MODEL] [-c CMD]... [-f FILE|-] [-i] [--json] [--no-tui] [--plain] [-k]\n"
    "         [--require steady|gpu|cupti] [--worker-command CMD] [--replay FILE [--speed X]]\n"
    "         [--version] [--help]\n";

const char program_purpose[] =
    "Top for the layers of a neural network: loads a Keras model (.keras, .h5, demo:NAME),\n"
    "runs it on the CPU and on NVIDIA GPUs, and shows where every microsecond and every byte\n"
    "goes.\n";

static const struct program_option options[] = {
    {.letter = 'c',
     .value = OPTION_LINE,
     .argument = "CMD",
     .summary = "run a command line and leave (several: in their order)"},
    {.letter = 'f',
     .value = OPTION_FILE,
     .argument = "FILE",
     .summary = "run the commands of a file (-: standard input) and leave"},
    {.letter = 'i', .summary = "stay at the prompt after -c and -f"},
    {.letter = 'k', .summary = "go on after an error; leave with the code of the first"},
    {.name = "json", .summary = "one JSON object a line for each command on standard output"},
    {.name = "no-tui", .summary = "lines instead of a screen, and nothing starts by itself"},
    {.name = "plain",
     .summary = "lines instead of a screen, for dumb terminals and screen readers"},
    {.name = "replay",
     .value = OPTION_RECORDING,
     .argument = "FILE",
     .summary = "play a recording"},
    {.name = "speed",
     .value = OPTION_WORDS,
     .argument = "X",
     .words = WORDS("0.5", "2", "4", "10", "max"),
     .summary = "of the replay: 0.01 to 1000 times, or max"},
    {.name = "require",
     .value = OPTION_WORDS,
     .argument = "WHAT",
     .words = WORDS("steady", "gpu", "cupti"),
     .summary = "fail unless each run was steady, on a gpu, timed by cupti"},
    {.name = "worker-command",
     .value = OPTION_TEXT,
     .argument = "CMD",
     .summary = "run the engine by `sh -c \"CMD --worker\"`: ssh host layertop"},
    {.name = "version", .summary = "say which version this is"},
    {.letter = 'h', .name = "help", .summary = "say this"},
    {.name = "worker"}, /* the engine's end of the stream; the front starts it */
    {.name = "replay-speed", .value = OPTION_WORDS, .argument = "X"},
    {.name = "complete", .value = OPTION_TEXT, .argument = "LINE"}, /* asked by shells */
};

const struct program_fact program_environment[] = {
    {"XDG_CONFIG_HOME", "where the configuration is, ~/.config if it is not set"},
    {"XDG_STATE_HOME",
     "where the history and what was learned is kept, ~/.local/state if it is not set"},
    {"XDG_CACHE_HOME", "where the GPU's tuned plans are kept, ~/.cache if it is not set"},
    {"LAYERTOP_DATA", "the folder with demo models, lessons and recordings"},
    {"LAYERTOP_CUDA_MODULE", "the GPU part, layertop-cuda.so, if it is not where it was installed"},
    {"CUDA_VISIBLE_DEVICES", "limits which GPUs may be named, as for other CUDA programs"},
    {"LD_LIBRARY_PATH, CUDA_HOME, CUDA_PATH, VIRTUAL_ENV, CONDA_PREFIX",
     "where cuBLASLt, cuDNN and CUPTI are looked for besides the system's paths"},
    {"NO_COLOR", "no colours, if it holds anything"},
    {"TERM, LANG, LC_ALL, LC_CTYPE",
     "the kind of the terminal and its character set: braille, blocks or ASCII"},
    {NULL, NULL},
};

const struct program_fact program_files[] = {
    {"$XDG_CONFIG_HOME/layertop/init.lt",
     "commands that run at interactive starts; `config save` writes it"},
    {"$XDG_STATE_HOME/layertop/history", "what was typed at the prompt"},
    {"$XDG_STATE_HOME/layertop/lessons", "which lessons were finished, and in how many answers"},
    {"PREFIX/share/layertop", "demo models, lessons, recordings, myths.text"},
    {"PREFIX/share/doc/layertop",
     "README.md; in docs/ tutorial.md, lecturers.md, and commands.md, the whole reference"},
    {"PREFIX/lib/layertop/layertop-cuda.so", "the GPU part"},
    {NULL, NULL},
};

size_t program_option_count(void)
{
    return sizeof options / sizeof *options;
}

const struct program_option *program_option_at(size_t index)
{
    return &options[index];
}

const struct program_option *program_option_find(const char *word)
{
    for (size_t i = 0; i < program_option_count(); i++) {
        const struct program_option *option = &options[i];
        if (option->letter && word[0] == '-' && word[1] == option->letter && !word[2])
            return option;
        if (option->name && strncmp(word, "--", 2) == 0 && strcmp(word + 2, option->name) == 0)
            return option;
    }
    return NULL;
}

char *program_option_format(const struct program_option *option, char *out, size_t size)
{
    char letter[3] = {'-', option->letter, '\0'};
    snprintf(out, size, "%s%s%s%s%s%s", option->letter ? letter : "",
             option->letter && option->name ? ", " : "", option->name ? "--" : "",
             option->name ? option->name : "", option->argument ? " " : "",
             option->argument ? option->argument : "");
    return out;
}
