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

/* The weight that a layer was given last, and to give a weight to one more layer. */
json_t *bind_last(const struct reader *reader, int layer);
bool bind_again(struct reader *reader, int layer, json_t *weight);

/* bind_shared.c: objects whose weights the file holds at their first place only. Between
 * shared_open() and shared_close() the weights are numbered as they are bound. */
void shared_open(struct reader *reader);
void shared_close(struct reader *reader);
/* The number of the next weight. */
size_t shared_next(const struct reader *reader);
/* An object of the file with the `count` variables from `first`. */
struct object_mark shared_mark(struct reader *reader, json_t *object, size_t first, size_t count);
/* Were the object's variables bound at another place, and as which numbers (from *first)? */
bool shared_find(struct reader *reader, const struct object_mark *mark, size_t *first);
/* Remember that the object's variables are bound: number `base` is the one its mark counts as 0. */
void shared_note(struct reader *reader, const struct object_mark *mark, size_t base);
/* Number the last weight of a layer. */
void shared_keep(struct reader *reader, int layer);
/* Give a layer weight number `at` as its next one, too. */
bool shared_append(struct reader *reader, int layer, size_t at);

/* bind_legacy.c: one group per top-level layer with an ordered list of names. */
bool bind_legacy(struct reader *reader);
/* bind_v3.c: groups named by class and counter, variables by number. */
bool bind_v3(struct reader *reader);

#endif
