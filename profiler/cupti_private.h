/* CUPTI's state, shared by cupti.c (buffers, decoder thread) and cupti_start.c (opening, graph
 * nodes). */
#ifndef LAYERTOP_PROFILER_CUPTI_PRIVATE_H
#define LAYERTOP_PROFILER_CUPTI_PRIVATE_H

#include "profiler/cupti_decode.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

struct buffer {
    struct buffer *next;
    size_t valid;
    /* CUPTI wants 8-byte alignment; the data begins at its own page */
    uint8_t *data;
};

struct cupti {
    struct gpu_trace trace;
    struct cupti_api api;
    CUpti_SubscriberHandle subscriber;
    struct cupti_decoder *decoder;
    pthread_mutex_t raw_lock;
    FILE *raw;
    uint64_t own_bytes; /* of device memory in each context; UINT64_MAX: CUPTI does not say */

    pthread_mutex_t buffer_lock; /* pool and full */
    struct buffer *pool;
    size_t pool_count, buffer_count;
    struct buffer *full, **full_end;
    struct buffer *out; /* held by CUPTI */
    atomic_uint_fast64_t refused;

    pthread_mutex_t lock; /* everything below */
    pthread_cond_t wake, done;
    pthread_t thread;
    bool stop, hurry, asleep;
    uint64_t started, finished; /* flushes */
    struct gpu_event *events;
    size_t event_count, event_capacity, event_taken;
    struct gpu_losses losses;

    /* A kind is never switched while a flush runs: some versions deadlock. Held across calls into
     * CUPTI, and taken by none of its callbacks. */
    pthread_mutex_t switching;
    enum gpu_detail detail; /* engine thread */
    bool graph_kind;        /* whole graphs are being recorded; likewise */

    atomic_uint_fast64_t steps; /* pushed: tells the decoder that something runs */
    atomic_bool drowsy;         /* the decoder sleeps until a step comes */
    atomic_bool failed;
    _Atomic(const char *) reason; /* a literal; NULL: CUPTI said so itself */
    atomic_int current_op;        /* that the engine thread launches or captures */
    int flush_failures;           /* in a row; decoder only */
    bool widened;                 /* every API call is recorded; decoder, then close */
};

/* Subscribe, set attributes, register callbacks, enable kinds and calls. *refused is CUPTI's answer
 * where it said no. */
bool cupti_start(struct cupti *cupti, CUpti_BuffersCallbackRequestFunc request,
                 CUpti_BuffersCallbackCompleteFunc complete, CUptiResult *refused,
                 struct error *error);
/* Record every API call: for a CUPTI that hands out no external correlations for chosen ones. */
void cupti_widen(struct cupti *cupti);
/* Record replayed graphs by their nodes or as wholes. false: kernels are not recorded any more. The
 * caller holds `switching`. */
bool cupti_switch(struct cupti *cupti, enum gpu_detail detail);
/* Disable every kind that was enabled. */
void cupti_disable(struct cupti *cupti);
/* Append to a file of raw buffers:
 *   "LTCUPTI1" · u32 CUPTI's version · u32 n · n times (u32 kind · u32 bytes of its record)
 *   then for each buffer: u64 bytes · u64 time (clock_now_ns) · the bytes
 * Pointers inside the records are dead. */
bool cupti_raw_open(struct cupti *cupti, const char *path, uint32_t version, struct error *error);

#endif
