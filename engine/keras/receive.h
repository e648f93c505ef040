/* From the confined reader's reply to a model: nothing in the reply is believed. */
#ifndef LAYERTOP_ENGINE_KERAS_RECEIVE_H
#define LAYERTOP_ENGINE_KERAS_RECEIVE_H

#include "engine/keras/reader.h"
#include "engine/model.h"

/* Make a model of `reply` with weight data inside `places` (whose mappings the caller keeps). Every
 * index, shape and offset is checked. NULL and *error if the reply does not hold together. */
struct model *receive_model(json_t *reply, const char *file, const struct keras_places *places,
                            struct error *error);

#endif
