/* Names of classes: a text file, one a line, the first for class 0. Thread-safe. */
#ifndef LAYERTOP_ENGINE_LABELS_H
#define LAYERTOP_ENGINE_LABELS_H

#include "engine/error.h"

#include <stddef.h>

struct labels {
    char **names; /* UTF-8 and free of control characters; may be "" */
    size_t count;
};

/* Read them; blank lines at the end do not count. ERROR_FILE. */
bool labels_read(const char *path, struct labels *out, struct error *error);
/* Free the names; an empty struct is allowed. */
void labels_free(struct labels *labels);

#endif
