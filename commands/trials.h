/* Two ways of running the present model, in turn: what `ab` is made of, and whatever else compares.
 *
 * A side is the present settings with some changed. The two take turns of a few steps each, in the
 * order A B, B A, A B, ...: what drifts (clocks, other programs) meets both alike, and each pair
 * of neighbouring turns gives one ratio (pairs.h). At the end, or when something fails or Ctrl-C
 * comes, the old values are back. Threads: the front's. */
#ifndef LAYERTOP_COMMANDS_TRIALS_H
#define LAYERTOP_COMMANDS_TRIALS_H

#include "commands/command.h"
#include "commands/pairs.h"

#define TRIAL_CHANGES_MAX 8

struct trial_side {
    struct {
        const struct setting *setting;
        json_t *value; /* owned */
    } changes[TRIAL_CHANGES_MAX];
    size_t count;
    /* Measured: */
    json_t *reply;               /* the last turn's, as `run` gives it; NULL before */
    int64_t batch;               /* samples in a step */
    double wall_ms[PAIRS_MAX];   /* median step of each turn */
    double sample_ms[PAIRS_MAX]; /* time of all its steps, over its samples */
    size_t layer_count;
    double *layer_ms; /* sums over the turns of each layer's mean step; NaN: none */
};

struct trials {
    struct trial_side side[2];
    int64_t rounds, steps; /* steps 0: as many as take about 0.2 s, from a first look */
    int64_t warmup;        /* of a side's first turn; -1: the worker's own */
    size_t done;           /* pairs that are complete */
    /* Called once, when the settings are as before; `error` NULL if all rounds are done. */
    void (*end)(struct execution *execution, struct trials *trials, const struct error *error);
    /* Of trials.c */
    struct {
        const struct setting *setting;
        json_t *old;
    } keys[2 * TRIAL_CHANGES_MAX];
    size_t key_count, at_key, turn;
    bool restoring, steps_given;
    struct error error;
};

/* A side's words, "precision=bf16", "fusion=off"; ERROR_VALUE, ERROR_SYNTAX with a hint. Only
 * engine settings, each once. */
bool trial_side_parse(struct trial_side *side, const char *word, const char *what,
                      struct error *error);
/* "precision bf16, fusion off"; "as it is" without changes. Returns out. */
char *trial_side_text(const struct trial_side *side, char *out, size_t size);

/* Begin; `trials` is the execution's state or part of it and lives as long. */
void trials_start(struct execution *execution, struct trials *trials);
/* What it holds, not itself. */
void trials_clear(struct trials *trials);
/* The time of a sample on side 1 over that on side 0. */
void trials_ratio(const struct trials *trials, struct pairs_ratio *out);

#endif
