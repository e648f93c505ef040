/* What the two ways of binding weights share; see bind.c. */
#ifndef LAYERTOP_ENGINE_KERAS_BIND_H
#define LAYERTOP_ENGINE_KERAS_BIND_H

#include "engine/keras/reader.h"

/* An expected variable and the reply's layer it belongs to. */
struct slot {
    struct variable variable;
    int layer;
};

struct slots {
    struct slot *items;
    size_t count, capacity;
    const struct child **unknown; /* layers whose variables are not known */
    size_t unknown_count, unknown_capacity;
};

/* Append the variables of a layer, or of all layers of a nested model, in Keras's order. */
void bind_collect(struct reader *reader, const struct child *child, bool trainable,
                  struct slots *slots);
void bind_slots_free(struct slots *slots);

/* The error of a layer whose file holds another number of weights than its config asks for. */
bool bind_count_error(struct reader *reader, const char *layer, const char *class_name, size_t held,
                      size_t wanted);
/* Read one dataset of a file as the next weight of a layer. */
bool bind_append(struct reader *reader, struct h5 *h5, int layer, hid_t group, const char *path,
                 const char *name);

/* bind_legacy.c: one group per top-level layer with an ordered list of names. */
bool bind_legacy(struct reader *reader);
/* bind_v3.c: groups named by class and counter, variables by number. */
bool bind_v3(struct reader *reader);

#endif
