/* Run a Keras model on the CPU against the outputs that Keras itself computed.
 *
 * NAME.io.h5 holds the inputs x0, x1, ... and the outputs y64_0, y64_1, ... of NAME.h5 and
 * NAME.keras; the y64 are a float64 run. */
#ifndef LAYERTOP_TESTS_SUPPORT_MODELCHECK_H
#define LAYERTOP_TESTS_SUPPORT_MODELCHECK_H

#include "engine/error.h"

/* Load `model_path`, run the batch of `io_path` with or without fusion. *worst is the largest
 * max|y - y64| / max(max|y64|, 1e-6) over the outputs. false with an error if it does not run. */
bool model_check(const char *model_path, const char *io_path, bool fusion, double *worst,
                 struct error *error);

#endif
