/* What goes where in an exported file; see export.c. */
#ifndef LAYERTOP_ENGINE_KERAS_EXPORT_PLAN_H
#define LAYERTOP_ENGINE_KERAS_EXPORT_PLAN_H

#include "engine/keras/export.h"
#include "engine/keras/reader.h"

struct export_weight {
    const struct model_weight *weight;
    const char *legacy;   /* name below the top-level layer's group: "conv1/kernel" */
    const char *numbered; /* path in a Keras 3 weights file: "layers/conv2d_1/vars/0" */
    const char *label;    /* the layer's name if the path is one of its own variables, else NULL */
    bool trainable;
};

/* A layer of model.layers, nested models being one, with the weights of all it holds. */
struct export_group {
    const char *name;
    size_t first, count; /* in weights */
};

struct export_plan {
    const struct model *model;
    int major;            /* of the Keras that the architecture is written for */
    struct reader reader; /* memory for the names; no file is open in it */
    struct export_weight *weights;
    size_t weight_count, weight_capacity;
    struct export_group *groups;
    size_t group_count;
    keras_export_progress *progress;
    void *context;
    uint64_t written_bytes;
};

/* The architecture as text, for `format`; caller frees. */
char *export_architecture(const struct export_plan *plan, bool archive);
const char *export_version(const struct export_plan *plan);

/* export_h5.c: create `path` (or replace it). archive: numbered variables, without architecture. */
bool export_h5(struct export_plan *plan, const char *path, bool archive, struct error *error);
/* export_zip.c: put `weights` (a file) and the architecture into a new archive at `path`. */
bool export_zip(struct export_plan *plan, const char *path, const char *weights,
                struct error *error);

#endif
