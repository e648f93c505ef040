/* The index of a recording: its frames, and its scenes.
 *
 * A scene is a stretch with one model and one set of values: a `set` that succeeded begins the
 * next. The index holds where frames are, not what they hold: 32 bytes each.
 * Threads: one.
 */
#ifndef LAYERTOP_PROFILER_SCENES_H
#define LAYERTOP_PROFILER_SCENES_H

#include "profiler/recording.h"

struct scene_frame {
    uint64_t offset; /* of the payload in the stream */
    uint32_t bytes;
    uint16_t type, scene; /* enum stream_type; index into scenes[] */
    uint64_t id;
    int64_t time_ns; /* of the newest record so far, on the recorded worker's clock */
};

struct scene {
    size_t first;     /* frame */
    size_t records;   /* record frames in it */
    json_t *settings; /* object; empty if nothing is known */
    json_t *model;    /* a load reply, or NULL */
    json_t *plan;     /* in force at its beginning, or NULL */
    double cost_ms;   /* what the change took, NAN for the first scene */
};

struct scenes {
    struct scene_frame *frames;
    size_t frame_count;
    struct scene *scenes;
    size_t scene_count;
    json_t *hello, *devices, *memory; /* the last replies of that kind, or NULL */
    int64_t unix_ns;                  /* when it began, 0 if not known */
    bool whole;                       /* the file was not cut */
};

/* Walk the recording once. false with ERROR_FILE if it cannot be read or holds nothing. Free with
 * scenes_free() in both cases. */
bool scenes_read(struct scenes *scenes, struct recording *recording, struct error *error);
void scenes_free(struct scenes *scenes);

/* The scene that differs from `now` in nothing but `key`, which is `value` there; -1 if there is
 * none, and *error says which values or which other settings there are. */
long scenes_find(const struct scenes *scenes, size_t now, const char *key, const json_t *value,
                 struct error *error);

/* A setting's value as it is typed: `on`, `0,cpu`, `fp32`. Caller frees. */
char *scenes_value_text(const json_t *value);

#endif
