/* Models that ship: `demo:NAME` becomes a file of the data folder.
 *
 * The data folder is LAYERTOP_DATA, else ../share/layertop beside the executable, else
 * share/layertop of the source tree a few folders above it (a program in build/). Thread-safe. */
#ifndef LAYERTOP_ENGINE_DEMO_H
#define LAYERTOP_ENGINE_DEMO_H

#include "engine/error.h"
#include <jansson.h>

bool demo_is_name(const char *path);

/* Every name there is ("demo:digits" ...), sorted but for the digits, which come first. New reference,
 * or NULL with ERROR_MODEL_FILE if the data folder is not found. */
json_t *demo_list(struct error *error);

/* The file behind `demo:NAME` (any case), or a copy of a path that is no demo name. NULL with
 * ERROR_MODEL_FILE that says which names there are. Caller frees. */
char *demo_resolve(const char *path, struct error *error);

/* Path of a file below the data folder, NULL if it is not there. Caller frees. */
char *demo_data_path(const char *relative);

/* The file with the class names of a demo model (labels.h), NULL if it has none. Caller frees. */
char *demo_labels_path(const char *path);

/* Inputs that a demo model was trained on, NULL if none came with it. Caller frees. */
char *demo_calibration_path(const char *path);

/* Inputs that a demo model was not trained on, or the classes that they should get, a number a row.
 * NULL if none came with it. Caller frees. */
char *demo_heldout_path(const char *path, bool labels);

#endif
