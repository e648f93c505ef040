/* Writing a loaded model so that real Keras can run the very same weights.
 *
 *   FILE.h5, FILE.hdf5   the legacy whole-model HDF5: model_config as an attribute, weights by layer
 *   FILE.keras           Keras 3's archive: metadata.json, config.json, model.weights.h5
 *
 * The architecture is the one that the model was read with, as its writer put it, without what only
 * training needs. Engine thread. */
#ifndef LAYERTOP_ENGINE_KERAS_EXPORT_H
#define LAYERTOP_ENGINE_KERAS_EXPORT_H

#include "engine/model.h"

/* Told the fraction of the weights that are written; false ends the export. May be NULL. */
typedef bool keras_export_progress(void *context, double fraction);

/* The format goes by the ending of `path`. What is there already is replaced once all is written; on
 * failure it stays. ERROR_VALUE for an unknown ending, ERROR_UNSUPPORTED for a model that the format
 * cannot hold, ERROR_FILE, ERROR_INTERRUPTED. */
bool keras_export(const struct model *model, const char *path, keras_export_progress *progress,
                  void *context, struct error *error);

#endif
