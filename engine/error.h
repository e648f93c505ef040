/* Errors that carry their cause out.
 *
 * An error is filled once, where it happened, and handed up unchanged: nobody below main.c prints
 * or exits. Functions that can fail return bool (or a pointer) and take a `struct error *` that may
 * be NULL when the caller does not care. Any thread may use these functions on its own struct.
 *
 * Text that comes from a file or another process may hold terminal escapes: error_set() and
 * error_hint() replace control characters and malformed UTF-8 by `\xNN`.
 */
#ifndef LAYERTOP_ENGINE_ERROR_H
#define LAYERTOP_ENGINE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

/* code, number shown as E%03d, exit code of a script that stops on it */
#define ERROR_CODES(X)                                                                             \
    X(ERROR_NONE, 0, 0)                                                                            \
    X(ERROR_COMMAND, 1, 1)         /* a command failed for a reason of its own */                  \
    X(ERROR_UNKNOWN_COMMAND, 2, 1) /* no such command or setting, or an ambiguous prefix */        \
    X(ERROR_SYNTAX, 3, 1)          /* quoting, missing or surplus arguments */                     \
    X(ERROR_VALUE, 11, 1)          /* a setting or argument is out of its range */                 \
    X(ERROR_NO_MODEL, 12, 1)       /* the command needs a loaded model */                          \
    X(ERROR_FILE, 13, 1)           /* a file other than the model cannot be read or written */     \
    X(ERROR_INPUT, 14, 1)          /* the input data do not fit the model */                       \
    X(ERROR_UNSUPPORTED, 15, 1)    /* a feature this build or this machine does not have */        \
    X(ERROR_OPTION, 16, 2)         /* the program's own options */                                 \
    X(ERROR_MODEL_FILE, 20, 3)     /* the model file cannot be opened or is no Keras model */      \
    X(ERROR_MODEL_BROKEN, 21, 3)   /* truncated, corrupt or contradictory file */                  \
    X(ERROR_MODEL_LAYERS, 22, 3)   /* layers that cannot run here, all of them named at once */    \
    X(ERROR_MODEL_WEIGHTS, 23, 3)  /* count, shape or name of weights differ from the config */    \
    X(ERROR_MODEL_REFUSED, 24, 3)  /* the file asks for something no model file may ask for */     \
    X(ERROR_MODEL_SHAPE, 25, 3)    /* shapes that do not work out */                               \
    X(ERROR_GPU, 30, 4)            /* no GPU, driver or library: says which and where it looked */ \
    X(ERROR_DEVICE, 31, 4)         /* no such device, or it is hidden or busy */                   \
    X(ERROR_CUDA, 32, 4)           /* a CUDA, cuDNN or cuBLAS call failed */                       \
    X(ERROR_BACKEND_OP, 33, 4)     /* the backend lacks an op: names the layer */                  \
    X(ERROR_LOST, 34, 4)           /* the GPU's context is gone: only a new worker can use it */   \
    X(ERROR_MEMORY, 40, 5)         /* out of memory (host or device) */                            \
    X(ERROR_MEMORY_LIMIT, 41, 5)   /* past the limit the user set, or past the forecast */         \
    X(ERROR_CUPTI, 50, 1)          /* CUPTI refused: says why and what is used instead */          \
    X(ERROR_ASSERT, 60, 6)                                                                         \
    X(ERROR_REQUIRE, 70, 7)                                                                        \
    X(ERROR_UNSTEADY, 71, 8)                                                                       \
    X(ERROR_WORKER, 80, 1) /* the worker ended; its last words */                                  \
    X(ERROR_STREAM, 81, 1) /* the stream is broken or of another version */                        \
    X(ERROR_INTERRUPTED, 90, 130)

enum error_code {
#define ERROR_ENUM(name, number, exit_code) name = number,
    ERROR_CODES(ERROR_ENUM)
#undef ERROR_ENUM
};

struct error {
    enum error_code code; /* ERROR_NONE: no error */
    char what[192];       /* what was tried: "resnet.h5", "set batch" */
    char why[1024];       /* the cause, a sentence without a full stop */
    char hint[256];       /* the exact command to type; "" if none */
};

/* Fill *error (unless NULL) with a code, what was tried and a printf-like reason. Clears the hint.
 * Always returns false, so that a caller can `return error_set(...)`. */
bool error_set(struct error *error, enum error_code code, const char *what, const char *why, ...)
    __attribute__((format(printf, 4, 5)));

/* Add a printf-like hint to an error. Always returns false. */
bool error_hint(struct error *error, const char *hint, ...) __attribute__((format(printf, 2, 3)));

/* The exit code of the design's contract for an error code. */
int error_exit_code(enum error_code code);

/* Is this number one of ERROR_CODES? (errors also arrive over the stream) */
bool error_code_known(int number);

/* Copy `text` into out[size] with control characters, DEL, C1 controls and malformed UTF-8 written
 * as \xNN, cut at a character boundary; out is always terminated. Returns out. */
char *text_clean(char *out, size_t size, const char *text);

/* Allocate or end the process through one function: for small things only. Never return NULL. */
void *xmalloc(size_t bytes);
void *xcalloc(size_t count, size_t bytes);
void *xrealloc(void *pointer, size_t bytes);
char *xstrdup(const char *text);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
