#include "commands/layer_match.h"

#include "engine/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const char *layer_match_name(enum layer_match match)
{
    static const char *const names[] = {"none", "name", "kind and shape"};
    return names[match];
}

static bool same_kind(const struct match_layer *a, const struct match_layer *b)
{
    return *a->shape && strcmp(a->class_name, b->class_name) == 0 &&
           strcmp(a->shape, b->shape) == 0;
}

/* The numbers of layers without a partner; returns how many. */
static size_t left_over(const bool *taken, size_t count, size_t *out)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (!taken[i])
            out[left++] = i;
    return left;
}

/* length[i][j]: of the longest common subsequence of left[i..] and right[j..]. */
static void match_kinds(const struct match_layer *a, const size_t *left, size_t left_count,
                        const struct match_layer *b, const size_t *right, size_t right_count,
                        int *partner, enum layer_match *how)
{
    size_t width = right_count + 1;
    uint32_t *length = xcalloc((left_count + 1) * width, sizeof *length);
    for (size_t i = left_count; i-- > 0;) {
        for (size_t j = right_count; j-- > 0;) {
            uint32_t below = length[(i + 1) * width + j], beside = length[i * width + j + 1];
            length[i * width + j] = same_kind(&a[left[i]], &b[right[j]])
                                        ? length[(i + 1) * width + j + 1] + 1
                                    : below > beside ? below
                                                     : beside;
        }
    }
    for (size_t i = 0, j = 0; i < left_count && j < right_count;) {
        if (same_kind(&a[left[i]], &b[right[j]])) {
            how[left[i]] = MATCH_KIND;
            partner[left[i++]] = (int)right[j++];
        } else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) {
            i++;
        } else {
            j++;
        }
    }
    free(length);
}

void layer_match(const struct match_layer *a, size_t a_count, const struct match_layer *b,
                 size_t b_count, int *partner, enum layer_match *how)
{
    bool *a_taken = xcalloc(a_count + 1, sizeof *a_taken);
    bool *b_taken = xcalloc(b_count + 1, sizeof *b_taken);
    size_t *left = xcalloc(a_count + 1, sizeof *left), *right = xcalloc(b_count + 1, sizeof *right);
    for (size_t i = 0; i < a_count; i++) {
        partner[i] = -1;
        how[i] = MATCH_NONE;
        for (size_t j = 0; j < b_count && partner[i] < 0; j++) {
            if (b_taken[j] || strcmp(a[i].name, b[j].name) != 0 ||
                strcmp(a[i].class_name, b[j].class_name) != 0)
                continue;
            partner[i] = (int)j;
            how[i] = MATCH_NAME;
            a_taken[i] = b_taken[j] = true;
        }
    }
    size_t left_count = left_over(a_taken, a_count, left);
    size_t right_count = left_over(b_taken, b_count, right);
    match_kinds(a, left, left_count, b, right, right_count, partner, how);
    free(a_taken);
    free(b_taken);
    free(left);
    free(right);
}
