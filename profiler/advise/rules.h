/* The rules of `advise`: pure functions on a record of facts, one table, ranked by the time they save.
 *
 * A rule is a row: what it looks at, how sure it is, and which other findings only follow from it. A
 * check fills one finding and touches nothing else: no file, no clock, no environment. A gain is
 * always a range with its formula, by Amdahl's law on what was measured; a rule that cannot know
 * names the command that would tell. Thresholds stand beside their rule with their source: [S] of
 * another tool or document, [M] measured with layertop, [H] a starting point that nothing has
 * confirmed yet. Ids are stable: people search for them. Any thread.
 */
#ifndef LAYERTOP_PROFILER_ADVISE_RULES_H
#define LAYERTOP_PROFILER_ADVISE_RULES_H

#include "profiler/advise/facts.h"
#include <stddef.h>

/* Less than this share of a step is nothing to gain. */
#define ADVISE_GAIN_LEAST 0.03

enum advise_state {
    ADVISE_NOTHING,     /* it does not apply, or there is nothing to gain */
    ADVISE_ASK,         /* cannot know before `ask` was run */
    ADVISE_NOTE,        /* worth knowing, nothing to change */
    ADVISE_CONSEQUENCE, /* advice that another one explains */
    ADVISE_TRY,         /* may save time; how much, only measuring tells */
    ADVISE_RISK,        /* saves no time, but the numbers or the next step cannot be relied on */
    ADVISE_GAIN,        /* saves time */
    ADVISE_STATES
};

/* "nothing", "ask", "note", "consequence", "try", "risk", "gain" */
const char *advise_state_name(enum advise_state state);

#define ADVISE_CHANGES_MAX 3
#define ADVISE_LAYERS_MAX  5
#define ADVISE_WAYS_MAX    5

struct advise_set {
    char key[24], value[64];
};

/* One of several ways to do what is advised: settings that change together, and what they save; NaN:
 * only measuring tells. */
struct advise_way {
    struct advise_set changes[ADVISE_CHANGES_MAX];
    size_t change_count;
    double saved_ms, saved_low_ms, saved_high_ms;
};

struct advise_finding {
    enum advise_state state;
    /* Of a GAIN: of `base_ms`, which is the step, or what the user's own program takes. */
    double base_ms, saved_ms, saved_low_ms, saved_high_ms;
    double sure;       /* that the cause is this one; the rule's own unless it says */
    char what[640];    /* the evidence, a sentence without a full stop */
    char formula[256]; /* of the saved time */
    char action[256];  /* what to do, "" if the changes say all */
    char ask[96];      /* what to run first */
    char keras[768];   /* lines for the user's own script, "" if there are none */
    size_t layers[ADVISE_LAYERS_MAX]; /* that it is about, most time first; indices of the facts' */
    size_t layer_count;
    struct advise_set changes[ADVISE_CHANGES_MAX]; /* settings that apply changes together */
    size_t change_count;
    /* What --try tries. The changes and the gain are those of the best: as measured, where it was,
     * else as predicted. 0: the changes are the only way. */
    struct advise_way ways[ADVISE_WAYS_MAX];
    size_t way_count;
};

struct advise_rule {
    const char *id;     /* "A05" */
    const char *title;  /* what is wrong: "batch too small" */
    double sure;        /* 1 is certain */
    const char *causes; /* ids of findings that this one explains: "A03 A04" */
    /* `finding` comes as ADVISE_NOTHING. */
    void (*check)(const struct advise_facts *facts, struct advise_finding *finding);
};

/* The table; ends with a row without id. */
extern const struct advise_rule advise_rules[];

#define ADVISE_RULES_MAX 80

struct advise_result {
    const struct advise_rule *rule;
    const struct advise_finding *finding;
    const struct advise_rule *of;     /* a consequence of this one; NULL: of none */
    const struct advise_trial *trial; /* what --try measured of it; NULL: nothing */
};

struct advise_report {
    struct advise_finding findings[ADVISE_RULES_MAX];
    /* Gains by the time they save, most first; then risks, tries, consequences, notes, questions;
     * what has nothing to say comes last. */
    struct advise_result results[ADVISE_RULES_MAX];
    size_t count;
    size_t advice;  /* so many of them are gains, risks and tries */
    double step_ms; /* NaN: nothing was measured, and no rule was asked */
};

/* Apply the rules to a record and rank what they find. What --try has measured counts more than a
 * prediction: a gain that it did not find is none. Fills *out. */
void advise_examine(const struct advise_facts *facts, struct advise_report *out);

/* base / (base - saved): how many times as fast. */
double advise_speedup(const struct advise_finding *finding, double saved_ms);

/* "precision bf16, batch 8"; "" without changes. Returns out. */
char *advise_changes_text(const struct advise_set *changes, size_t count, char *out, size_t size);

/* ---- ways.c, for advise.c ---- */

/* Of the ways of a finding that saves time, take the best: its changes and its gain. A finding without
 * ways and with changes gets one. */
void advise_take_way(const struct advise_facts *facts, const struct advise_rule *rule,
                     struct advise_finding *finding);
/* What --try measured of the finding's changes; NULL: nothing. */
const struct advise_trial *advise_trial_of(const struct advise_facts *facts,
                                           const struct advise_rule *rule,
                                           const struct advise_finding *finding);
/* What was measured takes the place of what was predicted. */
void advise_believe(struct advise_finding *finding, const struct advise_trial *trial);

/* ---- for the files rules_*.c ---- */

/* A step's time that shares are of: the median, or the mean of the traced steps. NaN: none. */
double advise_step_ms(const struct advise_facts *facts);
/* A class of the ledger as a share of its wall, 0 where it is not known. */
double advise_share(const struct advise_facts *facts, double class_ms);
bool advise_on_gpu(const struct advise_facts *facts);
bool advise_on_cpu(const struct advise_facts *facts);
/* Is the text one of the words in `list`, "conv matmul"? */
bool advise_listed(const char *list, const char *word);
/* Are all of a layer's ops in `list`, and is there one? Is one of them? */
bool advise_ops_only(const struct advise_layer *layer, const char *list);
bool advise_ops_any(const struct advise_layer *layer, const char *list);
/* A mean over the traced steps as a part of advise_step_ms(): a few held-up steps make means long and
 * leave the median as it is. 0 where it is not known. */
double advise_scaled(const struct advise_facts *facts, double mean_ms);
/* A layer's time in a step, scaled; 0 where it is not known or in another layer's. */
double advise_layer_ms(const struct advise_facts *facts, const struct advise_layer *layer);

/* A gain of `saved_ms` of a step, surely between the other two; below ADVISE_GAIN_LEAST it is
 * nothing. Returns whether it is a gain. */
bool advise_saves(const struct advise_facts *facts, struct advise_finding *finding, double low_ms,
                  double saved_ms, double high_ms);
/* The evidence, and at the same time a state that is no gain. */
void advise_say(struct advise_finding *finding, const char *what, ...)
    __attribute__((format(printf, 2, 3)));
void advise_tell(struct advise_finding *finding, enum advise_state state, const char *what, ...)
    __attribute__((format(printf, 3, 4)));
void advise_formula(struct advise_finding *finding, const char *formula, ...)
    __attribute__((format(printf, 2, 3)));
void advise_act(struct advise_finding *finding, const char *action, ...)
    __attribute__((format(printf, 2, 3)));
void advise_ask(struct advise_finding *finding, const char *what, const char *ask);
void advise_change(struct advise_finding *finding, const char *key, const char *value, ...)
    __attribute__((format(printf, 3, 4)));
/* One more way, of which nothing is changed yet; NULL: there are too many. */
struct advise_way *advise_way_add(struct advise_finding *finding, double low_ms, double saved_ms,
                                  double high_ms);
/* NULL is passed over. */
void advise_way_change(struct advise_way *way, const char *key, const char *value, ...)
    __attribute__((format(printf, 3, 4)));
void advise_keras(struct advise_finding *finding, const char *lines, ...)
    __attribute__((format(printf, 2, 3)));
/* Remember a layer; the longest are kept. */
void advise_layer_add(const struct advise_facts *facts, struct advise_finding *finding,
                      size_t layer);
/* "conv1, conv2 and 3 more" of those that were added, `count` in all; returns out. */
char *advise_layer_names(const struct advise_facts *facts, const struct advise_finding *finding,
                         size_t count, char *out, size_t size);

#define ADVISE_CHECK(name)                                                                         \
    void name(const struct advise_facts *facts, struct advise_finding *finding);

/* rules_host.c: what the host does beside the model, and whether the numbers can be believed */
ADVISE_CHECK(advise_check_cold)
ADVISE_CHECK(advise_check_steady)
ADVISE_CHECK(advise_check_jitter)
ADVISE_CHECK(advise_check_observer)
ADVISE_CHECK(advise_check_gap)
ADVISE_CHECK(advise_check_copies)
ADVISE_CHECK(advise_check_pageable)
ADVISE_CHECK(advise_check_overlap)
ADVISE_CHECK(advise_check_outputs)
ADVISE_CHECK(advise_check_lost)
/* rules_input.c: the input before the model gets it */
ADVISE_CHECK(advise_check_preprocess)
ADVISE_CHECK(advise_check_floats)
ADVISE_CHECK(advise_check_last_batch)
/* rules_roof.c: layers at the device's ceilings */
ADVISE_CHECK(advise_check_memory_roof)
ADVISE_CHECK(advise_check_compute_roof)
/* rules_accuracy.c: int8, zeros, and what narrower numbers cost */
ADVISE_CHECK(advise_check_answers)
ADVISE_CHECK(advise_check_zeros)
ADVISE_CHECK(advise_check_pattern)
ADVISE_CHECK(advise_check_int8)
/* rules_launch.c: launches of a GPU */
ADVISE_CHECK(advise_check_no_kernels)
ADVISE_CHECK(advise_check_launches)
ADVISE_CHECK(advise_check_idle)
ADVISE_CHECK(advise_check_tiny)
ADVISE_CHECK(advise_check_autotune)
ADVISE_CHECK(advise_check_hidden_layers)
/* rules_batch.c */
ADVISE_CHECK(advise_check_small_batch)
ADVISE_CHECK(advise_check_knee)
ADVISE_CHECK(advise_check_weights)
ADVISE_CHECK(advise_check_fill)
ADVISE_CHECK(advise_check_tail)
ADVISE_CHECK(advise_check_slo)
/* rules_precision.c */
ADVISE_CHECK(advise_check_tf32)
ADVISE_CHECK(advise_check_half)
ADVISE_CHECK(advise_check_no_tensor_cores)
ADVISE_CHECK(advise_check_alignment)
ADVISE_CHECK(advise_check_tiles)
ADVISE_CHECK(advise_check_no_tiles)
/* rules_layers.c */
ADVISE_CHECK(advise_check_shuffles)
ADVISE_CHECK(advise_check_fusion)
ADVISE_CHECK(advise_check_idle_layers)
ADVISE_CHECK(advise_check_unrolled)
ADVISE_CHECK(advise_check_outlier)
ADVISE_CHECK(advise_check_dominant)
ADVISE_CHECK(advise_check_fallback)
/* rules_memory.c */
ADVISE_CHECK(advise_check_wall)
ADVISE_CHECK(advise_check_prealloc)
ADVISE_CHECK(advise_check_unused)
ADVISE_CHECK(advise_check_limit)
ADVISE_CHECK(advise_check_swap)
ADVISE_CHECK(advise_check_index)
/* rules_device.c: other devices, clocks, tenants */
ADVISE_CHECK(advise_check_other_device)
ADVISE_CHECK(advise_check_throttle)
ADVISE_CHECK(advise_check_tenants)
ADVISE_CHECK(advise_check_idle_gpus)
ADVISE_CHECK(advise_check_fair_cpu)
/* rules_cpu.c: how the CPU engine is used */
ADVISE_CHECK(advise_check_load)
ADVISE_CHECK(advise_check_threads)
ADVISE_CHECK(advise_check_slices)

#endif
