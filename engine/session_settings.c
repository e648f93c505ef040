#include "engine/pipeline.h"
#include "engine/session_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PICTURE_MAX 8192

void settings_init(struct settings *settings)
{
    *settings = (struct settings){.batch = 32,
                                  .precision = PRECISION_FP32,
                                  .fusion = true,
                                  .graph = true,
                                  .growth = true,
                                  .parallel_calls = 1,
                                  .picture_width = 500,
                                  .picture_height = 375,
                                  .autotune = true};
}

bool settings_device(const char *text, char out[DEVICE_ID_BYTES])
{
    if (strncasecmp(text, "GPU-", 4) == 0 || strncasecmp(text, "MIG-", 4) == 0) {
        snprintf(out, DEVICE_ID_BYTES, "%s", text);
        return strlen(text) < DEVICE_ID_BYTES;
    }
    if (text[0] == '/')
        text++;
    if (strncasecmp(text, "physical_device:", 16) == 0 || strncasecmp(text, "device:", 7) == 0)
        text = strchr(text, ':') + 1;
    if (strcasecmp(text, "cpu") == 0 || strcasecmp(text, "cpu:0") == 0) {
        snprintf(out, DEVICE_ID_BYTES, "cpu");
        return true;
    }
    if (strcasecmp(text, "gpu") == 0)
        text = "0";
    else if (strncasecmp(text, "gpu:", 4) == 0)
        text += 4;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 4 || text[digits] != '\0')
        return false;
    snprintf(out, DEVICE_ID_BYTES, "gpu:%d", atoi(text));
    return true;
}

static bool refuse(struct error *error, const char *key, const char *why)
{
    char what[64];
    snprintf(what, sizeof what, "set %.40s", key);
    return error_set(error, ERROR_VALUE, what, "%s", why);
}

static bool set_devices(struct settings *settings, const json_t *value, struct error *error)
{
    struct settings next = *settings;
    next.device_count = 0;
    memset(next.devices, 0, sizeof next.devices);
    if (json_is_string(value) && strcasecmp(json_string_value(value), "auto") == 0) {
        *settings = next;
        return true;
    }
    json_t *list = json_is_array(value) ? json_copy((json_t *)(uintptr_t)value)
                                        : json_pack("[O]", (json_t *)(uintptr_t)value);
    bool good = json_array_size(list) > 0;
    for (size_t i = 0; good && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        char id[DEVICE_ID_BYTES], number[32];
        const char *text = json_string_value(item);
        if (json_is_integer(item)) {
            snprintf(number, sizeof number, "%lld", (long long)json_integer_value(item));
            text = number;
        }
        good = text != NULL && settings_device(text, id);
        if (!good) {
            refuse(error, "devices", "a device is auto, cpu, gpu:N, N or a UUID");
            error_hint(error, "devices");
            break;
        }
        for (size_t j = 0; good && j < next.device_count; j++)
            good = strcmp(next.devices[j], id) != 0;
        if (!good) {
            refuse(error, "devices", "a device is named twice");
            break;
        }
        good = next.device_count < SESSION_SLOTS_MAX;
        if (good)
            snprintf(next.devices[next.device_count++], DEVICE_ID_BYTES, "%s", id);
        else
            error_set(error, ERROR_VALUE, "set devices", "more than %d devices at once",
                      SESSION_SLOTS_MAX);
    }
    if (json_array_size(list) == 0)
        refuse(error, "devices", "the list is empty");
    json_decref(list);
    if (good)
        *settings = next;
    return good;
}

/* true/false, "on"/"off", 1/0 */
static bool set_bool(bool *out, const char *key, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    if (json_is_boolean(value))
        *out = json_is_true(value);
    else if (text != NULL && (strcasecmp(text, "on") == 0 || strcasecmp(text, "true") == 0))
        *out = true;
    else if (text != NULL && (strcasecmp(text, "off") == 0 || strcasecmp(text, "false") == 0))
        *out = false;
    else
        return refuse(error, key, "it is on or off");
    return true;
}

static bool get_integer(int64_t *out, const char *key, const json_t *value, int64_t minimum,
                        int64_t maximum, struct error *error)
{
    if (!json_is_integer(value) || json_integer_value(value) < minimum ||
        json_integer_value(value) > maximum) {
        char why[96];
        snprintf(why, sizeof why, "it is an integer %lld..%lld", (long long)minimum,
                 (long long)maximum);
        return refuse(error, key, why);
    }
    *out = json_integer_value(value);
    return true;
}

/* null or "none", bytes, or "40%" */
static bool set_limit(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    if (json_is_null(value) || (text != NULL && strcasecmp(text, "none") == 0)) {
        settings->limit_bytes = 0;
        settings->limit_share = 0;
        return true;
    }
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        settings->limit_bytes = (uint64_t)json_integer_value(value);
        settings->limit_share = 0;
        return true;
    }
    char *end = NULL;
    double percent = text != NULL ? strtod(text, &end) : 0;
    if (percent > 0 && percent <= 100 && strcmp(end, "%") == 0) {
        settings->limit_bytes = 0;
        settings->limit_share = percent / 100;
        return true;
    }
    return refuse(error, "limit", "it is none, a size above 0, or 1%..100% of total memory");
}

/* null or "none", or {"count", "bytes"}: as many fenced devices of each named one. */
static bool set_logical(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    int64_t count = json_integer_value(json_object_get(value, "count"));
    int64_t bytes = json_integer_value(json_object_get(value, "bytes"));
    bool none = json_is_null(value) || (text != NULL && strcasecmp(text, "none") == 0);
    if (!none && (count < 1 || count > SESSION_SLOTS_MAX || bytes < 1))
        return refuse(error, "logical", "it is none, or COUNTxSIZE as 2x4GiB");
    settings->logical_count = none ? 0 : (int)count;
    settings->logical_bytes = none ? 0 : (uint64_t)bytes;
    return true;
}

static bool set_compare(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    if (text == NULL || (strcasecmp(text, "turns") != 0 && strcasecmp(text, "concurrent") != 0))
        return refuse(error, "compare", "it is turns or concurrent");
    settings->concurrent = strcasecmp(text, "concurrent") == 0;
    return true;
}

static bool set_precision(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    if (text != NULL && precision_parse(text, &settings->precision))
        return true;
    return refuse(error, "precision", "it is fp32, tf32, fp16, bf16 or int8");
}

static bool set_layout(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    bool first = text != NULL && strcasecmp(text, "nchw") == 0;
    if (!first && (text == NULL || strcasecmp(text, "nhwc") != 0))
        return refuse(error, "layout", "it is nhwc or nchw");
    settings->channels_first = first;
    return true;
}

static bool set_host_memory(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    bool pageable = text != NULL && strcasecmp(text, "pageable") == 0;
    if (!pageable && (text == NULL || strcasecmp(text, "pinned") != 0))
        return refuse(error, "host_memory", "it is pinned or pageable");
    settings->pageable = pageable;
    return true;
}

static bool set_fallback(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    bool off = text != NULL && (strcasecmp(text, "error") == 0 || strcasecmp(text, "off") == 0);
    if (!off && (text == NULL || strcasecmp(text, "cpu") != 0))
        return refuse(error, "fallback", "it is error or cpu");
    settings->fallback = !off;
    return true;
}

/* "off", "2:4", or a share as 0.5, "0.5" or "50%". */
static bool set_prune(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    bool structured = text != NULL && strcmp(text, "2:4") == 0;
    bool off = text != NULL && (strcasecmp(text, "off") == 0 || strcasecmp(text, "none") == 0);
    char *end = NULL;
    double share = text != NULL ? strtod(text, &end) : json_number_value(value);
    bool percent = text != NULL && end != text && strcmp(end, "%") == 0;
    bool number = text == NULL ? json_is_number(value) : end != text && (percent || *end == '\0');
    share = structured ? 0.5 : off ? 0 : percent ? share / 100 : share;
    if (!(structured || off || number) || !(share >= 0 && share < 1))
        return refuse(error, "prune", "it is off, 2:4, or a fraction below 1 as 0.5 or 50%");
    settings->prune = share;
    settings->prune_structured = structured;
    return true;
}

static bool set_preprocess(struct settings *settings, const json_t *value, struct error *error)
{
    static const char *const modes[] = {"none", "tf", "caffe", "torch", "unit", "per_image"};
    const char *text = json_string_value(value);
    bool known = text != NULL && strcasecmp(text, "auto") == 0;
    char chosen[sizeof settings->preprocess] = "";
    for (size_t i = 0; text != NULL && i < sizeof modes / sizeof *modes; i++) {
        if (strcasecmp(text, modes[i]) != 0)
            continue;
        known = true;
        memcpy(chosen, modes[i], strlen(modes[i]));
    }
    if (!known)
        return refuse(error, "preprocess", "it is auto, none, tf, caffe, torch, unit or per_image");
    memcpy(settings->preprocess, chosen, sizeof chosen);
    return true;
}

/* One of the words (NULL-terminated), by its place in the list. */
static bool set_word(int *out, const char *key, const char *const *words, const json_t *value,
                     struct error *error)
{
    const char *text = json_string_value(value);
    char why[96] = "it is ";
    for (size_t i = 0; words[i] != NULL; i++) {
        if (text != NULL && strcasecmp(text, words[i]) == 0) {
            *out = (int)i;
            return true;
        }
        size_t length = strlen(why);
        snprintf(why + length, sizeof why - length, "%s%s",
                 i == 0                 ? ""
                 : words[i + 1] == NULL ? " or "
                                        : ", ",
                 words[i]);
    }
    return refuse(error, key, why);
}

/* 500x375 */
static bool set_picture(struct settings *settings, const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    int width, height, length = 0;
    if (text == NULL || sscanf(text, "%4dx%4d%n", &width, &height, &length) != 2 ||
        text[length] != '\0' || width < 1 || height < 1 || width > PICTURE_MAX ||
        height > PICTURE_MAX)
        return refuse(error, "picture", "it is a width and a height of 1..8192, as 500x375");
    settings->picture_width = width;
    settings->picture_height = height;
    return true;
}

/* The settings of the input pipeline; false in *known if `key` is none. */
static bool set_pipeline(struct settings *settings, const char *key, const json_t *value,
                         bool *known, struct error *error)
{
    static const char *const modes[] = {"off", "serial", "overlap", NULL};
    static const char *const mappings[] = {"picture", "batch", NULL};
    static const char *const places[] = {"cpu", "gpu", NULL};
    static const char *const filters[] = {"antialias", "bilinear", "nearest", NULL};
    int word;
    int64_t number;
    *known = true;
    if (strcmp(key, "pipeline") == 0) {
        if (!set_word(&word, key, modes, value, error))
            return false;
        settings->pipeline = word;
    } else if (strcmp(key, "mapping") == 0) {
        if (!set_word(&word, key, mappings, value, error))
            return false;
        settings->batched = word == 1;
    } else if (strcmp(key, "preprocess_on") == 0) {
        if (!set_word(&word, key, places, value, error))
            return false;
        settings->preprocess_on_gpu = word == 1;
    } else if (strcmp(key, "interpolation") == 0) {
        if (!set_word(&word, key, filters, value, error))
            return false;
        settings->interpolation = (enum image_filter)word;
    } else if (strcmp(key, "parallel_calls") == 0) {
        if (!get_integer(&number, key, value, 1, PIPELINE_THREADS, error))
            return false;
        settings->parallel_calls = (int)number;
    } else if (strcmp(key, "picture") == 0) {
        return set_picture(settings, value, error);
    } else {
        *known = false;
    }
    return true;
}

/* A path, or the word that stands for no path. */
static bool set_path(char *out, size_t size, const char *key, const char *nothing,
                     const json_t *value, struct error *error)
{
    const char *text = json_string_value(value);
    char why[64];
    snprintf(why, sizeof why, "it is %s or a file", nothing);
    if (text == NULL || strlen(text) >= size)
        return refuse(error, key, why);
    /* settings are compared as bytes: nothing of an old value may stay behind the new one's end */
    memset(out, 0, size);
    if (strcasecmp(text, nothing) != 0)
        memcpy(out, text, strlen(text));
    return true;
}

/* A count where some words (NULL-terminated) stand for numbers below those that can be typed. */
static bool set_count(int *out, const char *key, const char *const *words, const int *meanings,
                      const json_t *value, int64_t minimum, int64_t maximum, struct error *error)
{
    const char *text = json_string_value(value);
    for (size_t i = 0; text != NULL && words[i] != NULL; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *out = meanings[i];
            return true;
        }
    }
    int64_t number;
    if (!get_integer(&number, key, value, minimum, maximum, error))
        return false;
    *out = (int)number;
    return true;
}

bool settings_set(struct settings *settings, const char *key, const json_t *value,
                  struct error *error)
{
    static const char *const automatic[] = {"auto", NULL}, *const slices[] = {"auto", "off", NULL};
    static const int meanings[] = {0, -1};
    int64_t number;
    if (value == NULL)
        return refuse(error, key, "needs a value");
    bool known, good = set_pipeline(settings, key, value, &known, error);
    if (known)
        return good;
    if (strcmp(key, "devices") == 0)
        return set_devices(settings, value, error);
    if (strcmp(key, "batch") == 0)
        return get_integer(&settings->batch, key, value, 1, BATCH_MAX, error);
    if (strcmp(key, "precision") == 0)
        return set_precision(settings, value, error);
    if (strcmp(key, "fusion") == 0)
        return set_bool(&settings->fusion, key, value, error);
    if (strcmp(key, "graph") == 0)
        return set_bool(&settings->graph, key, value, error);
    if (strcmp(key, "autotune") == 0)
        return set_bool(&settings->autotune, key, value, error);
    if (strcmp(key, "layout") == 0)
        return set_layout(settings, value, error);
    if (strcmp(key, "host_memory") == 0)
        return set_host_memory(settings, value, error);
    if (strcmp(key, "growth") == 0)
        return set_bool(&settings->growth, key, value, error);
    if (strcmp(key, "limit") == 0)
        return set_limit(settings, value, error);
    if (strcmp(key, "logical") == 0)
        return set_logical(settings, value, error);
    if (strcmp(key, "compare") == 0)
        return set_compare(settings, value, error);
    if (strcmp(key, "fallback") == 0)
        return set_fallback(settings, value, error);
    if (strcmp(key, "input") == 0)
        return set_path(settings->input, sizeof settings->input, key, "random", value, error);
    if (strcmp(key, "preprocess") == 0)
        return set_preprocess(settings, value, error);
    if (strcmp(key, "labels") == 0)
        return set_path(settings->labels, sizeof settings->labels, key, "none", value, error);
    if (strcmp(key, "prune") == 0)
        return set_prune(settings, value, error);
    if (strcmp(key, "threads") == 0)
        return set_count(&settings->threads, key, automatic, meanings, value, 0, 4096, error);
    if (strcmp(key, "slice") == 0)
        return set_count(&settings->slice, key, slices, meanings, value, 0, BATCH_MAX, error);
    if (strcmp(key, "seed") == 0) {
        if (!get_integer(&number, key, value, 0, INT64_MAX, error))
            return false;
        settings->seed = (uint64_t)number;
        return true;
    }
    return error_set(error, ERROR_UNKNOWN_COMMAND, key, "the engine has no such setting");
}
