/* CUDA_VISIBLE_DEVICES, read as the driver reads it: a pure function.
 *
 * The driver takes indices and unique prefixes of UUIDs ("GPU-1f2e"), separated by commas; the
 * first invalid token hides every GPU after it ("0,2,-1,1" shows 0 and 2); a GPU named twice hides
 * all. MIG tokens are taken as they are: which GPU they live on is known only to the driver.
 * Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
 */
#ifndef LAYERTOP_ENGINE_VISIBLE_H
#define LAYERTOP_ENGINE_VISIBLE_H

#include <stdbool.h>
#include <stddef.h>

#define VISIBLE_MAX     64
#define VISIBLE_UNKNOWN (-1) /* a MIG token: which index it is on is not known here */

struct visible {
    bool restricted;          /* the variable is set */
    int indices[VISIBLE_MAX]; /* CUDA ordinal -> nvidia-smi index */
    size_t count;
    size_t token_count;
    size_t bad_token; /* 1-based position of the token that ended the list; 0 if none */
    char token[64];   /* its text */
    char why[128];    /* why it is invalid, as the end of a sentence: "there are 2 GPUs" */
};

/* Read `text` (NULL: the variable is not set) for a machine whose GPUs have `uuids` ("GPU-..."),
 * in nvidia-smi's order. `count` 0 means that the machine's GPUs are not known: indices then pass
 * unchecked and UUIDs become VISIBLE_UNKNOWN. */
void visible_parse(struct visible *out, const char *text, const char *const *uuids, size_t count);

/* Is this nvidia-smi index among the visible ones? */
bool visible_has(const struct visible *visible, int index);

/* A sentence about what the variable does, into out[size]: "CUDA_VISIBLE_DEVICES=0,7: token 2 of 2
 * (7) is invalid (there are 2 GPUs): it and those after it are hidden". Empty if all is well. */
char *visible_describe(char *out, size_t size, const struct visible *visible, const char *text);

#endif
