/* layertop: options, the worker's entry, and the choice between script, screen and prompt. */
#include "commands/command.h"
#include "commands/complete_shell.h"
#include "commands/options.h"
#include "commands/parse.h"
#include "commands/script.h"
#include "profiler/collector.h"
#include "profiler/replay.h"
#include "tui/tui.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef LAYERTOP_VERSION
#define LAYERTOP_VERSION "unknown"
#endif

#define EXIT_OPTION 2
#define LONG_OPTION 256 /* of the table's first row, for getopt */

struct options {
    char *model;
    const char *worker_command;
    struct script_piece *pieces; /* of -c and -f, in their order */
    const char **files;          /* name of the file of a piece, NULL for -c */
    size_t piece_count;
    bool reads_stdin; /* -f - */
    bool interactive, json, no_tui, plain, keep_going, worker;
    const char *complete; /* a command line that a shell asks about */
    const char *replay;
    const char *speed; /* of the replay, as typed; NULL: 1 */
    unsigned require;
};

static int fail(const struct error *error)
{
    fprintf(stderr, "error[E%03d]: %s: %s\n", (int)error->code, error->what, error->why);
    if (*error->hint)
        fprintf(stderr, "hint: %s\n", error->hint);
    return error_exit_code(error->code);
}

static bool parse_require(const char *list, unsigned *require, struct error *error)
{
    static const struct {
        const char *word;
        unsigned bit;
    } words[] = {{"steady", REQUIRE_STEADY}, {"gpu", REQUIRE_GPU}, {"cupti", REQUIRE_CUPTI}};
    char *copy = xstrdup(list), *rest = copy, *word;
    bool ok = true;
    while (ok && (word = strsep(&rest, ",")) != NULL) {
        ok = false;
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
            if (strcmp(words[i].word, word) != 0)
                continue;
            *require |= words[i].bit;
            ok = true;
        }
        if (!ok)
            error_set(error, ERROR_OPTION, "--require", "'%s' is none of steady, gpu, cupti", word);
    }
    free(copy);
    return ok || error_hint(error, "layertop --help");
}

static void add_piece(struct options *options, const char *line, int fd, const char *file)
{
    size_t count = ++options->piece_count;
    options->pieces = xrealloc(options->pieces, count * sizeof *options->pieces);
    options->files = xrealloc(options->files, count * sizeof *options->files);
    options->pieces[count - 1] = (struct script_piece){.line = line, .fd = fd};
    options->files[count - 1] = file;
}

static bool add_file(struct options *options, const char *path, struct error *error)
{
    if (strcmp(path, "-") == 0) {
        options->reads_stdin = true;
        add_piece(options, NULL, STDIN_FILENO, path);
        return true;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, ERROR_OPTION, path, "cannot be read: %s", strerror(errno));
    add_piece(options, NULL, fd, path);
    return true;
}

/* Those that are only on or off. */
static const struct {
    const char *name;
    size_t offset;
} flags[] = {
    {"i", offsetof(struct options, interactive)}, {"k", offsetof(struct options, keep_going)},
    {"json", offsetof(struct options, json)},     {"no-tui", offsetof(struct options, no_tui)},
    {"plain", offsetof(struct options, plain)},   {"worker", offsetof(struct options, worker)},
};

static void print_help(void)
{
    char name[64];
    printf("%s\n%s\n  %-21s %s\n", program_synopsis, program_purpose, "MODEL",
           "load it; on a terminal also start it live");
    for (size_t i = 0; i < program_option_count(); i++) {
        const struct program_option *option = program_option_at(i);
        if (option->summary)
            printf("  %-21s %s\n", program_option_format(option, name, sizeof name),
                   option->summary);
    }
    printf("\nA standard input that is no terminal is a script. Type `help` at the prompt, or\n"
           "`layertop -c help`; `man layertop` has it all, `lesson list` teaches.\n");
}

/* One option with its value. Returns -1 to go on, else the exit code. */
static int take_option(struct options *options, const struct program_option *option,
                       const char *value, struct error *error)
{
    const char letter[2] = {option->letter, '\0'};
    const char *name = option->name ? option->name : letter;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(flags[i].name, name) == 0) {
            *(bool *)((char *)options + flags[i].offset) = true;
            return -1;
        }
    }
    if (strcmp(name, "c") == 0) {
        add_piece(options, value, -1, NULL);
    } else if (strcmp(name, "f") == 0) {
        return add_file(options, value, error) ? -1 : EXIT_OPTION;
    } else if (strcmp(name, "require") == 0) {
        return parse_require(value, &options->require, error) ? -1 : EXIT_OPTION;
    } else if (strcmp(name, "worker-command") == 0) {
        options->worker_command = value;
    } else if (strcmp(name, "replay") == 0) {
        options->replay = value;
    } else if (strcmp(name, "speed") == 0 || strcmp(name, "replay-speed") == 0) {
        options->speed = value;
    } else if (strcmp(name, "complete") == 0) {
        options->complete = value;
    } else if (strcmp(name, "version") == 0) {
        printf("layertop %s\n", LAYERTOP_VERSION);
        return 0;
    } else {
        print_help();
        return 0;
    }
    return -1;
}

/* getopt's view of the table; both arrays are to be freed. */
static void make_getopt(char **letters, struct option **names)
{
    size_t count = program_option_count(), used = 1, named = 0;
    *letters = xcalloc(2 * count + 2, 1);
    *names = xcalloc(count + 1, sizeof **names);
    (*letters)[0] = ':';
    for (size_t i = 0; i < count; i++) {
        const struct program_option *option = program_option_at(i);
        if (option->letter) {
            (*letters)[used++] = option->letter;
            if (option->argument)
                (*letters)[used++] = ':';
        }
        if (option->name)
            (*names)[named++] =
                (struct option){.name = option->name,
                                .has_arg = option->argument ? required_argument : no_argument,
                                .val = LONG_OPTION + (int)i};
    }
}

static int read_options(int argc, char **argv, struct options *options, struct error *error)
{
    char *letters;
    struct option *names;
    int found, code = -1;
    opterr = 0;
    make_getopt(&letters, &names);
    while (code < 0 && (found = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        const char word[3] = {'-', (char)found, '\0'};
        const struct program_option *option =
            found >= LONG_OPTION           ? program_option_at((size_t)(found - LONG_OPTION))
            : found == ':' || found == '?' ? NULL
                                           : program_option_find(word);
        if (option) {
            code = take_option(options, option, optarg, error);
        } else {
            error_set(error, ERROR_OPTION, argv[optind - 1],
                      found == ':' ? "needs a value" : "no such option");
            error_hint(error, "layertop --help");
            code = EXIT_OPTION;
        }
    }
    free(letters);
    free(names);
    return code;
}

/* Returns -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *options, struct error *error)
{
    int code = read_options(argc, argv, options, error);
    if (code >= 0)
        return code;
    if (optind < argc)
        options->model = argv[optind++];
    if (optind < argc) {
        error_set(error, ERROR_OPTION, argv[optind], "one model at a time: '%s' was named already",
                  options->model);
        error_hint(error, "layertop --help");
        return EXIT_OPTION;
    }
    if (options->replay && options->model) {
        error_set(error, ERROR_OPTION, "--replay", "a recording brings its own model");
        return EXIT_OPTION;
    }
    if (options->interactive && options->reads_stdin) {
        error_set(error, ERROR_OPTION, "-i", "the prompt and -f - cannot share standard input");
        return EXIT_OPTION;
    }
    return -1;
}

/* This executable, to be started again as the worker. */
static char *own_path(const char *name)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return xstrdup(name);
    path[length] = '\0';
    return xstrdup(path);
}

static int serve(const struct options *options)
{
    if (options->replay) {
        double speed = options->speed ? strtod(options->speed, NULL) : 1;
        return replay_main(STDIN_FILENO, STDOUT_FILENO, options->replay, speed > 0 ? speed : 0,
                           &clock_system);
    }
    struct collector *collector = collector_new();
    int code = worker_main(STDIN_FILENO, STDOUT_FILENO, collector_hooks(collector));
    collector_free(collector);
    return code;
}

/* What shows something: `load MODEL` or `replay FILE`. NULL if neither was asked for. */
static char *first_line(const struct options *options)
{
    if (!options->replay && !options->model)
        return NULL;
    char *word = parse_quote(options->replay ? options->replay : options->model);
    char *speed = options->replay && options->speed ? parse_quote(options->speed) : NULL;
    char *line = options->replay ? xasprintf("replay %s%s%s", word, speed ? " --speed " : "",
                                             speed ? speed : "")
                                 : xasprintf("load %s", word);
    free(speed);
    free(word);
    return line;
}

/* `source INIT` if there is such a file, else NULL. */
static char *init_line(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    char *path = NULL, *line = NULL;
    if (config && *config == '/')
        path = xasprintf("%s/layertop/init.lt", config);
    else if (home && *home == '/')
        path = xasprintf("%s/.config/layertop/init.lt", home);
    if (path && access(path, R_OK) == 0) {
        char *word = parse_quote(path);
        line = xasprintf("source %s", word);
        free(word);
    }
    free(path);
    return line;
}

/* Screen or prompt. */
static int interact(struct workbench *workbench, const struct options *options)
{
    char **lines = xcalloc(options->piece_count + 3, sizeof *lines);
    size_t count = 0;
    char *init = init_line();
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (init)
        lines[count++] = init;
    char *first = first_line(options);
    if (first)
        lines[count++] = first;
    for (size_t i = 0; i < options->piece_count; i++) {
        char *word = options->files[i] ? parse_quote(options->files[i]) : NULL;
        lines[count++] = word ? xasprintf("source %s", word) : xstrdup(options->pieces[i].line);
        free(word);
    }
    bool starts = options->model && !options->replay && options->piece_count == 0 &&
                  !options->no_tui && terminal;
    struct tui_options tui = {.commands = (const char *const *)lines,
                              .command_count = count,
                              .then = starts ? "start" : NULL};
    bool screen = !options->no_tui && !options->plain && tui_possible();
    int code = screen ? tui_run(workbench, &tui) : plain_run(workbench, &tui);
    for (size_t i = 0; i < count; i++)
        free(lines[i]);
    free(lines);
    return code;
}

/* No screen and no prompt: -c, -f, a piped script, or objects for another program. */
static int run_script(struct workbench *workbench, const struct options *options, bool stays)
{
    struct sink *sink = options->json ? sink_json_new() : sink_text_new();
    struct script_piece *pieces = xcalloc(options->piece_count + 2, sizeof *pieces);
    size_t count = 0;
    char *load = first_line(options);
    if (load)
        pieces[count++].line = load;
    for (size_t i = 0; i < options->piece_count; i++)
        pieces[count++] = options->pieces[i];
    if (options->piece_count == 0 || stays)
        pieces[count++] = (struct script_piece){.fd = STDIN_FILENO};
    workbench_set_sink(workbench, sink);
    int code = script_run(workbench, pieces, count);
    workbench_set_sink(workbench, NULL);
    free(load);
    free(pieces);
    sink_free(sink);
    return code;
}

/* --complete: to the shell that asks. */
static int offer(struct workbench *workbench, const char *line)
{
    char *text = complete_shell(workbench, line);
    fputs(text, stdout);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct error error = {0};
    int code = parse_options(argc, argv, &options, &error);
    if (code == EXIT_OPTION)
        fail(&error);
    if (code < 0 && options.worker)
        code = serve(&options);
    if (code < 0) {
        setlocale(LC_CTYPE, "");  /* numbers keep the C locale */
        signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write */
        signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow */
        bool stays = options.interactive || (options.piece_count == 0 && isatty(STDIN_FILENO) != 0);
        char *program = own_path(argv[0]);
        struct workbench_options bench = {.program = program,
                                          .worker_command = options.worker_command,
                                          .keep_going = options.keep_going,
                                          .interactive = stays,
                                          .require = options.require};
        struct workbench *workbench = workbench_new(&bench, &error);
        if (!workbench)
            code = fail(&error);
        else if (options.complete)
            code = offer(workbench, options.complete);
        else if (stays && !options.json)
            code = interact(workbench, &options);
        else
            code = run_script(workbench, &options, stays);
        struct error ending = {0};
        if (workbench && !workbench_close(workbench, &ending)) {
            int failed = fail(&ending);
            code = code == 0 ? failed : code;
        }
        workbench_free(workbench);
        free(program);
    }
    free(options.pieces);
    free(options.files);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    return code == 0 && !written ? error_exit_code(ERROR_FILE) : code;
}
