/* What the reader asks about classes: the table itself speaks of graphs, which it does not know. */
#ifndef LAYERTOP_ENGINE_KERAS_LAYERS_CLASSES_H
#define LAYERTOP_ENGINE_KERAS_LAYERS_CLASSES_H

#include <stdbool.h>

/* Is this the class of a layer (no op node) that can run here? In Keras 3's spelling. */
bool layer_class_runs(const char *class_name);

#endif
