#include "engine/visible.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void reject(struct visible *out, const char *token, const char *why)
{
    out->bad_token = out->token_count;
    snprintf(out->token, sizeof out->token, "%s", token);
    snprintf(out->why, sizeof out->why, "%s", why);
}

/* The index that a UUID prefix names, or VISIBLE_UNKNOWN with `why` filled. */
static int find_uuid(const char *token, const char *const *uuids, size_t count, const char **why)
{
    int found = VISIBLE_UNKNOWN;
    for (size_t i = 0; i < count; i++) {
        if (strncasecmp(uuids[i], token, strlen(token)) == 0) {
            if (found != VISIBLE_UNKNOWN) {
                *why = "several GPUs begin so";
                return VISIBLE_UNKNOWN;
            }
            found = (int)i;
        }
    }
    if (found == VISIBLE_UNKNOWN) {
        *why = "no GPU has this UUID";
    }
    return found;
}

/* Take one token; false ends the list. */
static bool take(struct visible *out, const char *token, const char *const *uuids, size_t count)
{
    char text[128];
    const char *why = NULL;
    int index;

    if (strncasecmp(token, "MIG-", 4) == 0) {
        index = VISIBLE_UNKNOWN;
    } else if (strncasecmp(token, "GPU-", 4) == 0) {
        index = count == 0 ? VISIBLE_UNKNOWN : find_uuid(token, uuids, count, &why);
    } else {
        char *end;
        long number = strtol(token, &end, 10);
        if (token[0] == '\0') {
            why = "it is empty";
        } else if (*end != '\0') {
            why = "it is neither an index nor a UUID";
        } else if (number < 0) {
            why = "a negative index ends the list";
        } else if (count > 0 ? number >= (long)count : number >= VISIBLE_MAX) {
            snprintf(text, sizeof text, count == 1 ? "there is %zu GPU" : "there are %zu GPUs",
                     count);
            why = text;
        }
        index = (int)number;
    }
    if (why != NULL) {
        reject(out, token, why);
        return false;
    }
    for (size_t i = 0; i < out->count && index != VISIBLE_UNKNOWN; i++) {
        if (out->indices[i] == index) {
            reject(out, token, "this GPU is named twice, which hides every GPU");
            out->count = 0;
            return false;
        }
    }
    if (out->count < VISIBLE_MAX) {
        out->indices[out->count++] = index;
    }
    return true;
}

void visible_parse(struct visible *out, const char *text, const char *const *uuids, size_t count)
{
    memset(out, 0, sizeof *out);
    if (text == NULL) {
        for (size_t i = 0; i < count && i < VISIBLE_MAX; i++) {
            out->indices[out->count++] = (int)i;
        }
        return;
    }
    out->restricted = true;
    bool open = true;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        char token[64];
        snprintf(token, sizeof token, "%.*s", (int)(length < 63 ? length : 63), at);
        /* blanks around a token are not part of it */
        char *start = token;
        while (isspace((unsigned char)*start)) {
            start++;
        }
        for (char *end = start + strlen(start); end > start && isspace((unsigned char)end[-1]);) {
            *--end = '\0';
        }
        out->token_count++;
        open = open && take(out, start, uuids, count);
        at += length;
        if (*at == '\0') {
            break;
        }
    }
}

bool visible_has(const struct visible *visible, int index)
{
    for (size_t i = 0; i < visible->count; i++) {
        if (visible->indices[i] == index) {
            return true;
        }
    }
    return false;
}

char *visible_describe(char *out, size_t size, const struct visible *visible, const char *text)
{
    out[0] = '\0';
    if (!visible->restricted) {
        return out;
    }
    if (text[0] == '\0') {
        snprintf(out, size, "CUDA_VISIBLE_DEVICES is set and empty, which hides every GPU");
    } else if (visible->bad_token > 0) {
        snprintf(out, size,
                 "CUDA_VISIBLE_DEVICES=%s: token %zu of %zu (%s) is invalid (%s): it and those "
                 "after it are hidden",
                 text, visible->bad_token, visible->token_count,
                 visible->token[0] != '\0' ? visible->token : "nothing", visible->why);
    }
    return out;
}
