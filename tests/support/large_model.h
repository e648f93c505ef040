/* Model files of any size, for what is measured about loading: a chain of square Dense layers. */
#ifndef LAYERTOP_TESTS_LARGE_MODEL_H
#define LAYERTOP_TESTS_LARGE_MODEL_H

#include <stdbool.h>
#include <stddef.h>

struct large_model {
    size_t layers;
    size_t width; /* each layer has width x width + width float32 */
    bool archive; /* a .keras of Keras 3, its members stored; else a legacy .h5 */
    /* .keras: the weights begin at a byte whose number divided by 8 leaves this */
    unsigned phase;
};

/* Write the file. Fails the running test, and outside of one ends the process, if it cannot. */
void large_model_write(const char *path, const struct large_model *model);
/* The value of element `i` of every kernel. */
float large_model_value(size_t i);

#endif
