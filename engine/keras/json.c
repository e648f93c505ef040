/* JSON as Python's json module writes it. */
#include "engine/keras/reader.h"

#include <stdlib.h>
#include <string.h>

/* Replace the bare words NaN and Infinity, which Python writes and JSON does not know, in place by
 * JSON of the same length; refuse nesting that a recursive reader could not survive, and more objects
 * than would be read in time and in memory. */
static bool tolerate(char *text, size_t size, const char *what, struct error *error)
{
    bool string = false;
    int depth = 0;
    unsigned objects = 0;
    for (size_t i = 0; i < size; i++) {
        if (string) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                string = false;
            continue;
        }
        switch (text[i]) {
        case '"':
            string = true;
            break;
        case '{':
            if (++objects > KERAS_OBJECTS_MAX)
                return error_set(error, ERROR_MODEL_REFUSED, what,
                                 "the configuration has more than %u objects, which is more than "
                                 "%d layers need",
                                 KERAS_OBJECTS_MAX, KERAS_LAYERS_MAX);
            /* fall through */
        case '[':
            if (++depth > KERAS_JSON_DEPTH_MAX)
                return error_set(error, ERROR_MODEL_BROKEN, what,
                                 "the configuration is nested more than %d levels deep",
                                 KERAS_JSON_DEPTH_MAX);
            break;
        case '}':
        case ']':
            depth--;
            break;
        case 'N':
            if (size - i >= 3 && memcmp(text + i, "NaN", 3) == 0)
                memcpy(text + i, "\"?\"", 3);
            i += 2;
            break;
        case 'I':
            if (size - i >= 8 && memcmp(text + i, "Infinity", 8) == 0)
                memcpy(text + i, "1.79e308", 8);
            break;
        default:
            break;
        }
    }
    return true;
}

json_t *json_read(const void *text, size_t size, const char *what, struct error *error)
{
    if (size > KERAS_CONFIG_BYTES_MAX) {
        error_set(error, ERROR_MODEL_REFUSED, what,
                  "the configuration has %zu MiB, more than the %u MiB read at most", size >> 20,
                  KERAS_CONFIG_BYTES_MAX >> 20);
        return NULL;
    }
    char *copy = malloc(size + 1);
    if (copy == NULL) {
        error_set(error, ERROR_MEMORY, what, "no memory to read the configuration");
        return NULL;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    json_t *json = NULL;
    if (tolerate(copy, size, what, error)) {
        json_error_t cause;
        json = json_loadb(copy, size, 0, &cause);
        if (json == NULL)
            error_set(error, ERROR_MODEL_BROKEN, what,
                      "the configuration is no JSON: %s (line %d, column %d)", cause.text,
                      cause.line, cause.column);
    }
    free(copy);
    return json;
}

const char *json_text(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : fallback;
}

bool json_truth(const json_t *object, const char *key, bool missing)
{
    const json_t *value = json_object_get(object, key);
    if (value == NULL)
        return missing;
    if (json_is_integer(value))
        return json_integer_value(value) != 0;
    return !json_is_null(value) && !json_is_false(value);
}
