/* Layers that a model holds in several places, as a nested model that is also inside another one.
 *
 * Keras writes the config of such an object in full wherever it occurs, and its weights where its
 * walk comes by first. From the second place on the object carries a "shared_object_id"; the first
 * has it too unless it was nested by then (its config was copied before Keras knew). So an object is
 * that of an earlier place if the ids are equal, or else if it is the only one without an id that
 * has its class, its name and as many variables. */
#include "engine/keras/bind.h"

#include <stdlib.h>

struct shared {
    json_t *order;       /* all weights, as they were bound */
    json_t *ids, *names; /* id, or class, name and count → [first, count] in `order` */
};

void shared_open(struct reader *reader)
{
    reader->shared = xcalloc(1, sizeof *reader->shared);
    *reader->shared = (struct shared){json_array(), json_object(), json_object()};
}

void shared_close(struct reader *reader)
{
    json_decref(reader->shared->order);
    json_decref(reader->shared->ids);
    json_decref(reader->shared->names);
    free(reader->shared);
    reader->shared = NULL;
}

size_t shared_next(const struct reader *reader)
{
    return json_array_size(reader->shared->order);
}

struct object_mark shared_mark(struct reader *reader, json_t *object, size_t first, size_t count)
{
    const char *name = json_text(json_object_get(object, "config"), "name", "");
    return (struct object_mark){json_integer_value(json_object_get(object, "shared_object_id")),
                                json_text(object, "class_name", ""),
                                reader_print(reader, "%s", json_text(object, "name", name)), first,
                                count};
}

static const char *id_key(struct reader *reader, const struct object_mark *mark)
{
    return reader_print(reader, "%lld", (long long)mark->id);
}

static const char *name_key(struct reader *reader, const struct object_mark *mark)
{
    return reader_print(reader, "%s/%s/%zu", mark->class_name, mark->name, mark->count);
}

bool shared_find(struct reader *reader, const struct object_mark *mark, size_t *first)
{
    if (mark->id == 0 || mark->count == 0)
        return false;
    json_t *range = json_object_get(reader->shared->ids, id_key(reader, mark));
    if (range == NULL)
        range = json_object_get(reader->shared->names, name_key(reader, mark));
    *first = (size_t)json_integer_value(json_array_get(range, 0));
    return json_is_array(range) &&
           (size_t)json_integer_value(json_array_get(range, 1)) == mark->count;
}

void shared_note(struct reader *reader, const struct object_mark *mark, size_t base)
{
    struct shared *shared = reader->shared;
    if (mark->count == 0)
        return;
    json_t *range = json_pack("[I, I]", (json_int_t)(base + mark->first), (json_int_t)mark->count);
    if (mark->id != 0) {
        const char *key = id_key(reader, mark);
        if (json_object_get(shared->ids, key) == NULL)
            json_object_set(shared->ids, key, range);
    } else {
        const char *key = name_key(reader, mark);
        bool known = json_object_get(shared->names, key) != NULL; /* then neither is meant */
        json_object_set(shared->names, key, known ? json_null() : range);
    }
    json_decref(range);
}

void shared_keep(struct reader *reader, int layer)
{
    json_array_append(reader->shared->order, bind_last(reader, layer));
}

bool shared_append(struct reader *reader, int layer, size_t at)
{
    json_t *weight = json_array_get(reader->shared->order, at);
    if (!bind_again(reader, layer, weight))
        return false;
    json_array_append(reader->shared->order, weight);
    return true;
}
