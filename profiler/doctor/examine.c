/* The table of rules, and how the root cause is told from its consequences. */
#include "profiler/doctor/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What needs a working driver: without one nothing of it can be known. */
#define GPU_STATE "D08 D09 D10 D24 D25 D15 D16 D19 D20 D21 D22"
#define OUR_WORK  "D05 D12 D11 D14 D17 D20 D21"
#define PYTHON    "P06 P07"
#define PROCESS   "Q04"

const struct doctor_rule doctor_rules[] = {
    {"D01", "kernel module", SCOPE_MACHINE, 1.0,
     "D02 D03 D04 D06 D18 " GPU_STATE " " OUR_WORK " " PYTHON " " PROCESS, doctor_check_module},
    {"D06", "driver and library of one version", SCOPE_MACHINE, .95,
     "D04 D07 " GPU_STATE " " OUR_WORK " " PYTHON " " PROCESS, doctor_check_mismatch},
    {"D02", "device nodes", SCOPE_MACHINE, .95,
     "D03 D04 D07 " GPU_STATE " " OUR_WORK " " PYTHON " " PROCESS, doctor_check_nodes},
    {"D03", "driver library libcuda.so.1", SCOPE_MACHINE, 1.0, "D04 " OUR_WORK " " PYTHON,
     doctor_check_libcuda},
    {"D07", "CUDA_VISIBLE_DEVICES", SCOPE_MACHINE, 1.0, "D04 " OUR_WORK, doctor_check_visible},
    {"D10", "MIG", SCOPE_MACHINE, 1.0, "D04 " OUR_WORK, doctor_check_mig},
    {"D24", "hardware health", SCOPE_MACHINE, .95, "D04 D14", doctor_check_health},
    {"D04", "cuInit", SCOPE_MACHINE, 1.0, OUR_WORK " " PYTHON, doctor_check_init},
    {"D09", "compute mode", SCOPE_MACHINE, 1.0, "D14 D17 D20 D21", doctor_check_compute_mode},
    {"D08", "order of the GPUs", SCOPE_MACHINE, .8, "", doctor_check_order},
    {"D29", "layertop's GPU part", SCOPE_OURS, 1.0, "D05 D11 D12 D13 D14 D17 D20 D21",
     doctor_check_gpu_part},
    {"D05", "driver new enough for this build", SCOPE_OURS, 1.0, "D13 D14 D17 D20 D21",
     doctor_check_versions},
    {"D12", "GPU new enough for this CUDA", SCOPE_OURS, 1.0, "D11 D14 D17 D20 D21",
     doctor_check_toolkit_age},
    {"D11", "code for this GPU in the build", SCOPE_OURS, 1.0, "D14 D20 D21",
     doctor_check_architectures},
    {"D13", "cuBLASLt, cuDNN and CUPTI", SCOPE_OURS, 1.0, "D14 D17 D20 D21",
     doctor_check_libraries},
    {"D15", "free GPU memory", SCOPE_MACHINE, .9, "", doctor_check_memory},
    {"D16", "memory of processes not seen here", SCOPE_MACHINE, .7, "",
     doctor_check_hidden_holders},
    {"D14", "kernel, matmul and convolution against the CPU", SCOPE_OURS, 1.0, "D20 D21",
     doctor_check_smoke},
    {"D17", "kernel times by CUPTI", SCOPE_OURS, 1.0, "", doctor_check_tracing},
    {"D18", "hardware counters", SCOPE_OURS, .9, "", doctor_check_counters},
    {"D20", "clocks under load", SCOPE_OURS, .9, "", doctor_check_throttle},
    {"D21", "PCIe under load", SCOPE_OURS, .9, "", doctor_check_pcie},
    {"D22", "CPUs near the GPU", SCOPE_OURS, .8, "", doctor_check_numa},
    {"D19", "persistence mode", SCOPE_MACHINE, .8, "", doctor_check_persistence},
    {"D25", "virtual or confidential GPU", SCOPE_MACHINE, 1.0, "", doctor_check_virtual},
    {"D23", "CPUs that may be used", SCOPE_OURS, 1.0, "", doctor_check_cpus},
    {"D28", "clock of the host", SCOPE_OURS, .9, "", doctor_check_clock},
    {"D27", "file locks for HDF5", SCOPE_OURS, 1.0, "", doctor_check_locking},
    {"D26", "terminal", SCOPE_OURS, 1.0, "", doctor_check_terminal},

    {"P01", "frameworks installed", SCOPE_PYTHON, 1.0, "P02 P03 P04 P05 P06 P07 P10 P11",
     doctor_check_frameworks},
    {"P02", "built for the GPU", SCOPE_PYTHON, 1.0, "P04 P05 P06 P07", doctor_check_cpu_build},
    {"P03", "packages whole", SCOPE_PYTHON, .95, "P04 P05", doctor_check_install},
    {"P04", "CUDA libraries found", SCOPE_PYTHON, .9, "P05", doctor_check_needs},
    {"P05", "cuDNN that the framework was built for", SCOPE_PYTHON, .9, "",
     doctor_check_cudnn_version},
    {"P06", "driver new enough for the framework", SCOPE_PYTHON, 1.0, "P07",
     doctor_check_python_driver},
    {"P07", "code for this GPU in the framework", SCOPE_PYTHON, .9, "",
     doctor_check_python_architectures},
    {"P11", "JAX and its CUDA plugin of one version", SCOPE_PYTHON, .95, "",
     doctor_check_jax_plugin},
    {"P10", "backend of Keras", SCOPE_PYTHON, .95, "", doctor_check_keras_backend},
    {"P08", "one CUDA, one build of each", SCOPE_PYTHON, .8, "", doctor_check_mixed},
    {"P09", "libraries not shadowed", SCOPE_PYTHON, .8, "", doctor_check_shadowed},

    {"Q01", "driver library of the process", SCOPE_PROCESS, 1.0, "Q04", doctor_check_process_stub},
    {"Q02", "CUDA_VISIBLE_DEVICES of the process", SCOPE_PROCESS, .95, "Q04",
     doctor_check_process_visible},
    {"Q03", "CUDA libraries in the process", SCOPE_PROCESS, 1.0, "Q04 Q05",
     doctor_check_process_libraries},
    {"Q04", "GPU held by the process", SCOPE_PROCESS, .95, "", doctor_check_process_gpu},
    {"Q05", "one version of each library", SCOPE_PROCESS, .9, "", doctor_check_process_versions},
    {NULL, NULL, 0, 0, NULL, NULL},
};

const char *doctor_state_name(enum doctor_state state)
{
    static const char *const names[DOCTOR_STATES] = {"ok",   "info",        "warn",
                                                     "fail", "consequence", "unknown"};
    return names[state];
}

static int rank(enum doctor_state state)
{
    return state == DOCTOR_UNKNOWN ? -1 : (int)state;
}

void doctor_raise(struct doctor_finding *finding, enum doctor_state state)
{
    if (rank(state) > rank(finding->state))
        finding->state = state;
}

/* Format into the rest of a text, cut where a character ends: JSON takes no half ones. */
static void write_text(char *out, size_t size, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));
static void write_text(char *out, size_t size, const char *format, va_list arguments)
{
    char text[4096];
    vsnprintf(text, sizeof text, format, arguments);
    text_clean(out, size, text);
}

void doctor_say(struct doctor_finding *finding, enum doctor_state state, const char *what, ...)
{
    va_list arguments;
    va_start(arguments, what);
    write_text(finding->what, sizeof finding->what, what, arguments);
    va_end(arguments);
    finding->state = state;
}

void doctor_add(struct doctor_finding *finding, const char *what, ...)
{
    size_t used = strlen(finding->what);
    va_list arguments;
    if (used + 3 >= sizeof finding->what)
        return;
    if (used > 0)
        used += (size_t)snprintf(finding->what + used, sizeof finding->what - used, "; ");
    va_start(arguments, what);
    write_text(finding->what + used, sizeof finding->what - used, what, arguments);
    va_end(arguments);
}

void doctor_hint(struct doctor_finding *finding, const char *hint, ...)
{
    va_list arguments;
    va_start(arguments, hint);
    if (!*finding->hint) /* the first is the first thing to do */
        write_text(finding->hint, sizeof finding->hint, hint, arguments);
    va_end(arguments);
}

/* Is `id` a word of `list`? */
static bool listed(const char *list, const char *id)
{
    size_t length = strlen(id);
    for (const char *at = list; (at = strstr(at, id)) != NULL; at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

/* The failure that explains result `index`: the first of the table that does and is not explained
 * itself. */
static const struct doctor_rule *cause_of(const struct doctor_diagnosis *diagnosis, size_t index)
{
    const char *id = diagnosis->results[index].rule->id;
    for (size_t i = 0; i < diagnosis->count; i++) {
        const struct doctor_result *other = &diagnosis->results[i];
        if (i != index && other->finding->state == DOCTOR_FAIL && listed(other->rule->causes, id))
            return other->rule;
    }
    return NULL;
}

static void tell_consequences(struct doctor_diagnosis *diagnosis)
{
    /* in the order of causes, so that what explains is settled before what it explains */
    for (size_t i = 0; i < diagnosis->count; i++) {
        struct doctor_finding *finding = &diagnosis->findings[i];
        if (finding->state != DOCTOR_FAIL && finding->state != DOCTOR_WARN &&
            finding->state != DOCTOR_UNKNOWN)
            continue;
        diagnosis->results[i].of = cause_of(diagnosis, i);
        if (diagnosis->results[i].of && finding->state != DOCTOR_UNKNOWN)
            finding->state = DOCTOR_CONSEQUENCE;
    }
}

void doctor_examine(const struct probes *probes, struct doctor_diagnosis *out)
{
    unsigned scope = SCOPE_MACHINE;
    memset(out, 0, sizeof *out);
    if (*probes->python.prefix)
        scope |= SCOPE_PYTHON;
    if (probes->process.pid != PROBE_NO_INT)
        scope |= SCOPE_PROCESS;
    if (scope == SCOPE_MACHINE)
        scope |= SCOPE_OURS;
    for (const struct doctor_rule *rule = doctor_rules; rule->id; rule++) {
        if (!(rule->scope & scope) || out->count == DOCTOR_RULES_MAX)
            continue;
        struct doctor_finding *finding = &out->findings[out->count];
        finding->state = DOCTOR_UNKNOWN;
        rule->check(probes, finding);
        if (finding->state == DOCTOR_UNKNOWN && !*finding->what)
            snprintf(finding->what, sizeof finding->what, "could not be checked");
        out->results[out->count++] = (struct doctor_result){.rule = rule, .finding = finding};
    }
    tell_consequences(out);
    for (int state = DOCTOR_FAIL; state >= DOCTOR_WARN && !out->root; state--)
        for (size_t i = 0; i < out->count && !out->root; i++)
            if ((int)out->findings[i].state == state)
                out->root = &out->results[i];
}
