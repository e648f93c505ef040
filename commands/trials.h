/* Two ways of running a model, or two models, in turn: what `ab` and `compare` are made of, and
 * whatever else compares.
 *
 * A side is the present model with some settings changed, or a model of its own. The two take turns
 * of a few steps each, in the order A B, B A, A B, ...: what drifts (clocks, other programs) meets
 * both alike, and each pair of neighbouring turns gives one ratio (pairs.h). At the end, or when
 * something fails or Ctrl-C comes, the old model and values are back. Threads: the front's. */
#ifndef LAYERTOP_COMMANDS_TRIALS_H
#define LAYERTOP_COMMANDS_TRIALS_H

#include "commands/command.h"
#include "commands/pairs.h"

#define TRIAL_CHANGES_MAX 8

/* A layer of a side, with its place in the plan. */
struct trial_layer {
    char *name, *class_name, *shape; /* shape: of its output, "" if not known */
    char *label;                     /* "conv1+bn1+relu1" for the head of a fusion */
    uint64_t flops;                  /* of a step */
};

struct trial_side {
    json_t *load; /* the model, as the request `load` takes it; NULL: the present one. Owned */
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
    json_t *model;               /* the reply of `load`; NULL without a model of its own */
    size_t layer_count;
    struct trial_layer *layers;
    double *layer_ms; /* [turn * layer_count + layer]: mean of a step; NaN: none */
};

struct trials {
    struct trial_side side[2];
    int64_t rounds, steps; /* steps 0: as many as take about 0.2 s, from a first look */
    int64_t warmup;        /* of a side's first turn; -1: the worker's own */
    size_t done;           /* pairs that are complete */
    /* Called after the first turn of each side, with it in force; NULL: nothing to be done. It asks
     * what it has to, and goes on by trials_continue() or trials_stop(). */
    void (*looked)(struct execution *execution, struct trials *trials, int side);
    /* Called once, when the settings are as before; `error` NULL if all rounds are done. */
    void (*end)(struct execution *execution, struct trials *trials, const struct error *error);
    /* Of trials.c */
    struct {
        const struct setting *setting;
        json_t *old;
    } keys[2 * TRIAL_CHANGES_MAX];
    json_t *old_load; /* the model before, where a side has its own */
    size_t key_count, at_key, turn;
    bool restoring, steps_given, models;
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
/* After looked(): the next turn; or the end, with everything as before and this error. */
void trials_continue(struct execution *execution);
void trials_stop(struct execution *execution, const struct error *error);
/* What it holds, not itself. */
void trials_clear(struct trials *trials);
/* The time of a sample on side 1 over that on side 0. */
void trials_ratio(const struct trials *trials, struct pairs_ratio *out);
/* Mean step of a layer over all turns of a side; NaN: it was not timed by itself. */
double trial_layer_mean(const struct trials *trials, int side, size_t layer);
/* Median over the turns of the same. */
double trial_layer_median(const struct trials *trials, int side, size_t layer);
/* Median step of a side. */
double trial_wall_median(const struct trials *trials, int side);
double trial_sample_median(const struct trials *trials, int side);

#endif
