/* A worker that acts: it speaks the stream as a real one does, but its models are made of thin air
 * and its times of a formula, so that a screen in front of it looks the same on every machine.
 *
 * Models: demo:digits (23 layers, some fused), demo:deep (160 layers and a long name), demo:names
 * (layers whose names are wide, endless or full of escape sequences). Everything else cannot be
 * opened. Batches above 4096 do not fit into memory. A step takes as long as its layers, which pulse
 * by a tenth; `devices gpu:0` is a GPU, twenty times as fast. */
#ifndef LAYERTOP_TESTS_ACTOR_H
#define LAYERTOP_TESTS_ACTOR_H

#include "engine/clock.h"

#include <stdbool.h>

#define ACTOR_LAYERS 160

struct actor_layer {
    char name[160];
    const char *class_name;
    char shape[40];                    /* of one sample: "28, 28, 12" */
    int fused_into;                    /* index of its head, -1: runs itself */
    double parameters;                 /* in all */
    double flops, bytes, microseconds; /* a sample; 0: costs nothing */
};

struct actor_model {
    const char *name;
    struct actor_layer layers[ACTOR_LAYERS];
    int count;
};

/* actor_models.c: false if there is no such model. */
bool actor_model_make(const char *path, struct actor_model *model);

/* Serve on these descriptors until the stream ends; returns the exit code of the process. */
int actor_main(int input_fd, int output_fd, const struct clock *clock);

#endif
