/* doctor: why a GPU is not used here, or by another program; the root cause first, and once. */
#include "commands/complete.h"
#include "commands/doctor_report.h"
#include "commands/parse.h"
#include "commands/table.h"
#include "commands/workbench_private.h"
#include "engine/output_file.h"

#include <fcntl.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct order {
    char *report; /* a file of ours, or NULL */
    bool here;    /* the facts are of this moment: the terminal counts */
};

static void free_order(void *state)
{
    struct order *order = state;
    free(order->report);
    free(order);
}

/* ---- what people read ---- */

static void print_result(struct execution *execution, const struct doctor_result *result)
{
    execution_print(execution, "  %-4s %-4s %s: %s", doctor_state_name(result->finding->state),
                    result->rule->id, result->rule->title, result->finding->what);
    if (*result->finding->hint)
        execution_print(execution, "            mend: %s", result->finding->hint);
}

static void print_root(struct execution *execution, const struct doctor_diagnosis *diagnosis)
{
    const struct doctor_result *root = diagnosis->root;
    if (!root) {
        execution_print(execution, "healthy: no failure and no warning");
        return;
    }
    bool fails = root->finding->state == DOCTOR_FAIL;
    execution_print(execution, "%s: %s %s (confidence %g)", fails ? "root cause" : "first warning",
                    root->rule->id, root->rule->title, root->rule->confidence);
    execution_print(execution, "  %s", root->finding->what);
    if (*root->finding->hint)
        execution_print(execution, "  mend: %s", root->finding->hint);
}

/* Ids of all findings of one state, "D08 D09". */
static char *ids_of(const struct doctor_diagnosis *diagnosis, enum doctor_state state,
                    const struct doctor_rule *of)
{
    char *text = xstrdup("");
    for (size_t i = 0; i < diagnosis->count; i++) {
        const struct doctor_result *result = &diagnosis->results[i];
        if (result->finding->state != state || result->of != of)
            continue;
        char *longer = xasprintf("%s%s%s (%s)", text, *text ? ", " : "", result->rule->id,
                                 result->rule->title);
        free(text);
        text = longer;
    }
    return text;
}

/* What one failure explains: its consequences, and what it kept from being checked. */
static void print_explained(struct execution *execution, const struct doctor_diagnosis *diagnosis,
                            const struct doctor_rule *rule)
{
    char *consequences = ids_of(diagnosis, DOCTOR_CONSEQUENCE, rule);
    char *gaps = ids_of(diagnosis, DOCTOR_UNKNOWN, rule);
    if (*consequences)
        execution_print(execution, "  follows from %s: %s", rule->id, consequences);
    if (*gaps)
        execution_print(execution, "  not checked because of %s: %s", rule->id, gaps);
    free(consequences);
    free(gaps);
}

static void print_diagnosis(struct execution *execution, const struct doctor_diagnosis *diagnosis)
{
    static const enum doctor_state states[] = {DOCTOR_FAIL, DOCTOR_WARN, DOCTOR_INFO, DOCTOR_OK};
    print_root(execution, diagnosis);
    if (diagnosis->root)
        print_explained(execution, diagnosis, diagnosis->root->rule);
    for (size_t k = 0; k < sizeof states / sizeof *states; k++) {
        for (size_t i = 0; i < diagnosis->count; i++) {
            const struct doctor_result *result = &diagnosis->results[i];
            if (result == diagnosis->root || result->finding->state != states[k])
                continue;
            print_result(execution, result);
            print_explained(execution, diagnosis, result->rule);
        }
    }
    char *gaps = ids_of(diagnosis, DOCTOR_UNKNOWN, NULL);
    if (*gaps)
        execution_print(execution, "  could not be checked: %s", gaps);
    free(gaps);
}

/* ---- what programs read ---- */

static json_t *describe_result(const struct doctor_result *result)
{
    json_t *check =
        json_pack("{s:s, s:s, s:s, s:s, s:f}", "id", result->rule->id, "title", result->rule->title,
                  "state", doctor_state_name(result->finding->state), "what", result->finding->what,
                  "confidence", result->rule->confidence);
    json_object_set_new(check, "hint",
                        *result->finding->hint ? json_string(result->finding->hint) : json_null());
    json_object_set_new(check, "because", result->of ? json_string(result->of->id) : json_null());
    return check;
}

static void describe(json_t *data, const struct probes *probes,
                     const struct doctor_diagnosis *diagnosis)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < diagnosis->count; i++)
        json_array_append_new(checks, describe_result(&diagnosis->results[i]));
    json_object_set_new(data, "root_cause",
                        diagnosis->root ? json_string(diagnosis->root->rule->id) : json_null());
    json_object_set_new(data, "checks", checks);
    json_object_set_new(data, "probes", probes_to_json(probes));
}

/* ---- the command ---- */

static void look_at_terminal(struct probe_terminal *terminal)
{
    struct winsize size;
    const char *type = getenv("TERM");
    /* with a screen, standard output is the log's */
    int fd = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    terminal->present = fd >= 0 ? ANSWER_YES : ANSWER_NO;
    text_clean(terminal->type, sizeof terminal->type, type ? type : "");
    terminal->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? ANSWER_YES : ANSWER_NO;
    if (fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0) {
        terminal->rows = size.ws_row;
        terminal->columns = size.ws_col;
    }
    if (fd >= 0)
        close(fd);
}

static bool write_report(struct execution *execution, const char *path, const struct probes *probes,
                         const struct doctor_diagnosis *diagnosis, struct error *error)
{
    const char *hello = execution->workbench->hello;
    char *text = doctor_report_text(probes, diagnosis, *hello ? hello : "(its worker is gone)");
    bool good = output_file_write(path, text, error);
    free(text);
    if (good) {
        json_object_set_new(execution->data, "report", json_string(path));
        execution_print(execution, "wrote %s: read it before you publish it", path);
    }
    return good;
}

/* A failure is an error of the command, so that a script stops; a warning is not. */
static void finish(struct execution *execution, const struct doctor_diagnosis *diagnosis)
{
    const struct doctor_result *root = diagnosis->root;
    struct error error = {0};
    if (!root || root->finding->state != DOCTOR_FAIL) {
        execution_done(execution);
        return;
    }
    error_set(&error, ERROR_GPU, "doctor", "%s %s: %s", root->rule->id, root->rule->title,
              root->finding->what);
    if (*root->finding->hint)
        error_hint(&error, "%s", root->finding->hint);
    execution_fail(execution, &error);
}

static void probed(struct execution *execution, const json_t *data, const struct error *error)
{
    const struct order *order = execution->state;
    struct error cause = {0};
    if (!data) {
        execution_fail(execution, error);
        return;
    }
    struct probes *probes = probes_from_json(json_object_get(data, "probes"), &cause);
    if (!probes) {
        execution_fail(execution, &cause);
        return;
    }
    struct doctor_diagnosis *diagnosis = xcalloc(1, sizeof *diagnosis);
    if (order->here)
        look_at_terminal(&probes->terminal);
    doctor_examine(probes, diagnosis);
    describe(execution->data, probes, diagnosis);
    print_diagnosis(execution, diagnosis);
    if (order->report && !write_report(execution, order->report, probes, diagnosis, &cause))
        execution_fail(execution, &cause);
    else
        finish(execution, diagnosis);
    free(diagnosis);
    free(probes);
}

static bool wrong(struct error *error, const char *why, const char *word)
{
    error_set(error, ERROR_SYNTAX, "doctor", why, word);
    return error_hint(error, "help doctor");
}

/* Fill the request's arguments and the order out of the words. */
static bool read_words(int argc, char *const *argv, json_t *arguments, struct order *order,
                       struct error *error)
{
    bool quick = false;
    order->here = true;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool takes = strcmp(word, "--python") == 0 || strcmp(word, "--pid") == 0 ||
                     strcmp(word, "--from") == 0 || strcmp(word, "--report") == 0;
        if (strcmp(word, "--quick") == 0) {
            quick = true;
            continue;
        }
        if (!takes)
            return wrong(error, "'%s' is none of --quick, --python, --pid, --from, --report", word);
        if (!value || !*value)
            return wrong(error, "%s needs a value", word);
        i++;
        if (strcmp(word, "--report") == 0) {
            free(order->report);
            order->report = xstrdup(value);
            continue;
        }
        if (json_object_size(arguments) > 0)
            return wrong(error, "%s", "one of --python, --pid and --from at a time");
        if (strcmp(word, "--pid") == 0) {
            int64_t pid;
            if (!parse_integer(value, 1, INT32_MAX, "doctor --pid", &pid, error))
                return false;
            json_object_set_new(arguments, "pid", json_integer((json_int_t)pid));
        } else {
            json_object_set_new(arguments, word + 2, json_string(value));
        }
        order->here = false;
    }
    if (order->here)
        json_object_set_new(arguments, "smoke", json_boolean(!quick));
    return true;
}

static void run_doctor(struct execution *execution, int argc, char *const *argv)
{
    struct order *order = xcalloc(1, sizeof *order);
    json_t *arguments = json_object();
    struct error error = {0};
    execution->state = order;
    execution->free_state = free_order;
    if (!read_words(argc, argv, arguments, order, &error)) {
        json_decref(arguments);
        execution_fail(execution, &error);
        return;
    }
    execution_request(execution, "probe", arguments, probed);
}

static void complete_doctor(struct command_completion *completion, int argc, char *const *argv)
{
    static const char *const options[] = {"--quick", "--python", "--pid", "--from", "--report"};
    const char *last = argc > 1 ? argv[argc - 1] : "";
    if (strcmp(last, "--python") == 0 || strcmp(last, "--from") == 0 ||
        strcmp(last, "--report") == 0) {
        completion_add_files(completion);
        return;
    }
    for (size_t i = 0; strcmp(last, "--pid") != 0 && i < sizeof options / sizeof *options; i++)
        completion_add(completion, options[i]);
}

const struct command command_doctor = {
    .name = "doctor",
    .usage = "doctor [--quick] [--python PATH | --pid N | --from FILE] [--report FILE]",
    .summary = "why is the GPU not used, here or by Python? the root cause and what mends it",
    .help =
        "Goes from the kernel module over device nodes, libcuda, cuInit, versions, libraries, "
        "visible\n"
        "devices, MIG and memory to a kernel, a matmul and a convolution that each device "
        "computes\n"
        "and the CPU checks, and to clocks under load. The root cause comes first, then what else\n"
        "was found; what only follows from it, and what could not be checked, is said as such. It\n"
        "prints commands and runs none. A failure ends with code 4.\n"
        "--quick leaves out what computes. --python PATH reads a Python environment (its folder "
        "or\n"
        "its interpreter) without running it: which TensorFlow, PyTorch, JAX and Keras, built for\n"
        "which CUDA and cuDNN, found or not. --pid N looks at a running process: its CUDA "
        "libraries\n"
        "and whether it holds a GPU. Both paths are the worker's.\n"
        "--report FILE writes what was found as Markdown to paste into an issue, without names "
        "and\n"
        "secrets. --from FILE applies the rules to facts of another machine, as --json prints "
        "them.\n"
        "JSON: root_cause (an id or null), checks[] {id, title, state, what, hint, confidence,\n"
        "because}, state one of ok, info, warn, fail, consequence, unknown; probes: the facts.",
    .json = "root_cause checks[]{id title state what confidence hint because} probes{}",
    .see = WORDS("devices", "proof", "advise"),
    .examples = WORDS("doctor", "doctor --quick", "doctor --quick --report report.md",
                      "doctor --python venv", "doctor --pid 1", "doctor --from probes.json"),
    .arguments_max = -1,
    .run = run_doctor,
    .complete = complete_doctor,
};
