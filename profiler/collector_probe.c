/* What the profiler knows for `doctor`: whether there is a CUPTI, and whether it traces. */
#include "profiler/collector_private.h"

#ifdef LAYERTOP_CUDA_HEADERS
#include "profiler/cupti_api.h"
#endif
#include "profiler/cupti.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LAYERTOP_CUDA_HEADERS
/* The library by the same search as for tracing; it stays closed to everything but its version. */
static void add_library(json_t *record)
{
    static const int majors[] = {13, 12};
    struct cupti_api api;
    char tried[1024] = "", text[32];
    json_t *libraries = json_object_get(record, "libraries");
    json_t *library = json_pack("{s:s, s:b}", "name", "CUPTI", "found", 0);
    for (size_t i = 0; i < sizeof majors / sizeof *majors; i++) {
        uint32_t version = 0;
        if (!cupti_library_open(&api, majors[i], tried, sizeof tried))
            continue;
        if (api.get_version(&version) == CUPTI_SUCCESS) {
            snprintf(text, sizeof text, "%u.%u", version / 10000, version % 10000 / 100);
            json_object_set_new(library, "version", json_string(text));
            json_object_set_new(library, "major", json_integer(majors[i]));
        }
        json_object_set_new(library, "found", json_true());
        json_object_set_new(library, "path", json_string(api.path));
        cupti_library_close(&api);
        break;
    }
    if (!json_is_true(json_object_get(library, "found"))) {
        char *why = xasprintf("tried %.600s", tried);
        json_object_set_new(library, "why", json_string(why));
        free(why);
    }
    json_array_append_new(libraries, library);
}
#endif

void collector_probe(void *context, json_t *record)
{
    const struct collector *c = context;
    json_t *tracing = json_object();
#ifdef LAYERTOP_CUDA_HEADERS
    add_library(record);
#endif
    /* without a driver nothing was tried, and a refusal would say nothing */
    bool tried = c->trace || (c->trace_failed && cupti_driver_present());
    json_object_set_new(tracing, "tried", json_boolean(tried));
    if (c->trace) {
        json_object_set_new(tracing, "code", json_integer(0));
    } else if (tried) {
        /* "... (cuptiSubscribe: 39)" */
        const char *colon = strrchr(c->trace_why, ':');
        int code = colon ? atoi(colon + 1) : 0;
        json_object_set_new(tracing, "why", json_string(c->trace_why));
        json_object_set_new(tracing, "code", json_integer(code > 0 ? code : -1));
    }
    json_object_set_new(record, "tracing", tracing);
}
