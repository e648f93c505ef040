/* Which layer of one model is which of another. Pure functions.
 *
 * First those of the same name and class; then, of what is left, those of the same class and output
 * shape, in the order of both models (the longest common subsequence): Keras numbers the layers of a
 * second model on ("conv2d_5"), so that names alone would leave out its twins. */
#ifndef LAYERTOP_COMMANDS_LAYER_MATCH_H
#define LAYERTOP_COMMANDS_LAYER_MATCH_H

#include <stddef.h>

struct match_layer {
    const char *name, *class_name, *shape; /* shape "": not known, matches no other */
};

enum layer_match { MATCH_NONE, MATCH_NAME, MATCH_KIND };
/* "none", "name", "kind and shape". */
const char *layer_match_name(enum layer_match match);

/* partner[i]: the layer of `b` that a[i] is, or -1; how[i] says by what. Each layer of `b` is the
 * partner of one at most. Takes time and memory of what is left times what is left. */
void layer_match(const struct match_layer *a, size_t a_count, const struct match_layer *b,
                 size_t b_count, int *partner, enum layer_match *how);

#endif
