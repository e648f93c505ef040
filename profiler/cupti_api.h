/* The functions of CUPTI that are used, as a table: filled from the library, or by a mock. Only
 * for builds with the CUDA headers. */
#ifndef LAYERTOP_PROFILER_CUPTI_API_H
#define LAYERTOP_PROFILER_CUPTI_API_H

#include "engine/error.h"

#pragma GCC diagnostic push
#ifndef __cplusplus
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#endif
#pragma GCC diagnostic ignored "-Wundef"
#include <cupti.h>
#pragma GCC diagnostic pop

/* name of the member, name in the library, optional */
#define CUPTI_FUNCTIONS(X)                                                                         \
    X(get_version, cuptiGetVersion, false)                                                         \
    X(subscribe, cuptiSubscribe_v2, true) /* since 12.x */                                         \
    X(subscribe_old, cuptiSubscribe, false)                                                        \
    X(unsubscribe, cuptiUnsubscribe, false)                                                        \
    X(enable_callback, cuptiEnableCallback, false)                                                 \
    X(set_thread_id_type, cuptiSetThreadIdType, false)                                             \
    X(set_attribute, cuptiActivitySetAttribute, false)                                             \
    X(get_attribute, cuptiActivityGetAttribute, true)                                              \
    X(register_timestamp, cuptiActivityRegisterTimestampCallback, true) /* since 11.8 */           \
    X(register_callbacks, cuptiActivityRegisterCallbacks, false)                                   \
    X(enable, cuptiActivityEnable, false)                                                          \
    X(disable, cuptiActivityDisable, false)                                                        \
    X(enable_runtime, cuptiActivityEnableRuntimeApi, true) /* since 12.4 */                        \
    X(enable_driver, cuptiActivityEnableDriverApi, true)                                           \
    X(flush_all, cuptiActivityFlushAll, false)                                                     \
    X(next_record, cuptiActivityGetNextRecord, false)                                              \
    X(dropped, cuptiActivityGetNumDroppedRecords, false)                                           \
    X(push, cuptiActivityPushExternalCorrelationId, false)                                         \
    X(pop, cuptiActivityPopExternalCorrelationId, false)                                           \
    X(graph_node_id, cuptiGetGraphNodeId, true)                                                    \
    X(result_string, cuptiGetResultString, false)

struct cupti_api {
#define CUPTI_MEMBER(member, name, optional) __typeof__(name) *member;
    CUPTI_FUNCTIONS(CUPTI_MEMBER)
#undef CUPTI_MEMBER
    void *library; /* dlopen handle; NULL for a mock */
    char path[256];
};

/* Open libcupti.so.MAJOR from the places of cupti.h and fill the table. Appends the paths it tried
 * to tried[size]. false if there is none that has all that is needed. */
bool cupti_library_open(struct cupti_api *api, int major, char *tried, size_t size);
void cupti_library_close(struct cupti_api *api);

/* A sentence for a CUPTI result: what it means here and what to do. `other` is the name of the tool
 * in the way, "" if it is not known. Fills *error with ERROR_CUPTI; returns false. */
bool cupti_error(struct error *error, const struct cupti_api *api, const char *call,
                 CUptiResult result, const char *other);

#endif
