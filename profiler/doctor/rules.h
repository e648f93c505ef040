/* The rules of `doctor`: pure functions on a probe record, one table in causal order.
 *
 * A rule is a row: what it looks at, and which other findings are only its consequences. A check
 * fills one finding and touches nothing else: no file, no clock, no environment. The first failure
 * that is no other's consequence is the root cause. Ids are stable: people search for them. Any
 * thread.
 */
#ifndef LAYERTOP_PROFILER_DOCTOR_RULES_H
#define LAYERTOP_PROFILER_DOCTOR_RULES_H

#include "profiler/doctor/probes.h"

enum doctor_state {
    DOCTOR_OK,
    DOCTOR_INFO,        /* worth knowing, nothing to mend */
    DOCTOR_WARN,        /* works, but slower or less sure than it could */
    DOCTOR_FAIL,        /* does not work */
    DOCTOR_CONSEQUENCE, /* a failure or warning that another finding explains */
    DOCTOR_UNKNOWN,     /* could not be checked */
    DOCTOR_STATES
};

/* "ok", "info", "warn", "fail", "consequence", "unknown" */
const char *doctor_state_name(enum doctor_state state);

/* What was asked decides which rules speak. */
enum doctor_scope {
    SCOPE_MACHINE = 1, /* whether a GPU can be used at all */
    SCOPE_OURS = 2,    /* layertop itself: its GPU part, libraries, measurements, terminal */
    SCOPE_PYTHON = 4,  /* a Python environment */
    SCOPE_PROCESS = 8, /* a running process */
};

struct doctor_finding {
    enum doctor_state state;
    char what[768]; /* the evidence, a sentence without a full stop */
    char hint[256]; /* the command that mends it, "" if there is none */
};

struct doctor_rule {
    const char *id;    /* "D03" */
    const char *title; /* what is checked: "driver library" */
    unsigned scope;
    double confidence;  /* that a failure is what it says: 1 is certain */
    const char *causes; /* ids whose failures and gaps this one's failure explains: "D04 D14" */
    /* `finding` comes as DOCTOR_UNKNOWN with an empty `what`; a check that knows nothing leaves it */
    void (*check)(const struct probes *probes, struct doctor_finding *finding);
};

/* The table, in the order of causes; ends with a row without id. */
extern const struct doctor_rule doctor_rules[];

#define DOCTOR_RULES_MAX 64

struct doctor_result {
    const struct doctor_rule *rule;
    const struct doctor_finding *finding;
    const struct doctor_rule *of; /* a consequence, or a gap, of this one; NULL: of none */
};

struct doctor_diagnosis {
    struct doctor_finding findings[DOCTOR_RULES_MAX];
    struct doctor_result results[DOCTOR_RULES_MAX]; /* rules that apply, in the table's order */
    size_t count;
    const struct doctor_result
        *root; /* the root cause: a failure, or with none a warning; or NULL */
};

/* Apply the rules to a record: those of a Python environment or a process if it holds one, else ours.
 * Fills *out. */
void doctor_examine(const struct probes *probes, struct doctor_diagnosis *out);

/* ---- for the files rules_*.c ---- */

void doctor_say(struct doctor_finding *finding, enum doctor_state state, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_hint(struct doctor_finding *finding, const char *hint, ...)
    __attribute__((format(printf, 2, 3)));
/* Append to finding->what, separated by "; ". */
void doctor_add(struct doctor_finding *finding, const char *what, ...)
    __attribute__((format(printf, 2, 3)));
/* Raise the state, never lower it: UNKNOWN < OK < INFO < WARN < FAIL. */
void doctor_raise(struct doctor_finding *finding, enum doctor_state state);

#define DOCTOR_CHECK(name) void name(const struct probes *probes, struct doctor_finding *finding);

/* rules_driver.c: from the hardware to cuInit() */
DOCTOR_CHECK(doctor_check_module)
DOCTOR_CHECK(doctor_check_mismatch)
DOCTOR_CHECK(doctor_check_nodes)
DOCTOR_CHECK(doctor_check_libcuda)
DOCTOR_CHECK(doctor_check_visible)
DOCTOR_CHECK(doctor_check_init)
DOCTOR_CHECK(doctor_check_order)
/* rules_gpu.c: the state of each GPU */
DOCTOR_CHECK(doctor_check_compute_mode)
DOCTOR_CHECK(doctor_check_mig)
DOCTOR_CHECK(doctor_check_health)
DOCTOR_CHECK(doctor_check_virtual)
DOCTOR_CHECK(doctor_check_memory)
DOCTOR_CHECK(doctor_check_hidden_holders)
DOCTOR_CHECK(doctor_check_persistence)
DOCTOR_CHECK(doctor_check_throttle)
DOCTOR_CHECK(doctor_check_pcie)
DOCTOR_CHECK(doctor_check_numa)
/* rules_ours.c: layertop itself */
DOCTOR_CHECK(doctor_check_gpu_part)
DOCTOR_CHECK(doctor_check_versions)
DOCTOR_CHECK(doctor_check_toolkit_age)
DOCTOR_CHECK(doctor_check_architectures)
DOCTOR_CHECK(doctor_check_libraries)
DOCTOR_CHECK(doctor_check_smoke)
DOCTOR_CHECK(doctor_check_tracing)
DOCTOR_CHECK(doctor_check_counters)
DOCTOR_CHECK(doctor_check_cpus)
DOCTOR_CHECK(doctor_check_terminal)
DOCTOR_CHECK(doctor_check_locking)
DOCTOR_CHECK(doctor_check_clock)
/* rules_python.c: a Python environment */
DOCTOR_CHECK(doctor_check_frameworks)
DOCTOR_CHECK(doctor_check_cpu_build)
DOCTOR_CHECK(doctor_check_install)
DOCTOR_CHECK(doctor_check_needs)
DOCTOR_CHECK(doctor_check_cudnn_version)
DOCTOR_CHECK(doctor_check_python_driver)
DOCTOR_CHECK(doctor_check_python_architectures)
DOCTOR_CHECK(doctor_check_mixed)
DOCTOR_CHECK(doctor_check_shadowed)
DOCTOR_CHECK(doctor_check_jax_plugin)
DOCTOR_CHECK(doctor_check_keras_backend)
/* rules_process.c: a running process */
DOCTOR_CHECK(doctor_check_process_stub)
DOCTOR_CHECK(doctor_check_process_visible)
DOCTOR_CHECK(doctor_check_process_libraries)
DOCTOR_CHECK(doctor_check_process_gpu)
DOCTOR_CHECK(doctor_check_process_versions)

#endif
