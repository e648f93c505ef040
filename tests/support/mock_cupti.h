/* A CUPTI that records nothing by itself: the function table that profiler/cupti.c is opened with in
 * tests. What it answers, which records a flush delivers and what it was asked stand in one struct. */
#ifndef LAYERTOP_TESTS_SUPPORT_MOCK_CUPTI_H
#define LAYERTOP_TESTS_SUPPORT_MOCK_CUPTI_H

#include "tests/support/activity.h"

#ifdef LAYERTOP_CUDA_HEADERS
#include <pthread.h>
#include <stdatomic.h>

#define MOCK_CUPTI_KINDS 64

extern struct mock_cupti {
    /* what is answered */
    CUptiResult subscribe_result, enable_result, call_result;
    atomic_int flush_result;
    CUpti_ActivityKind refused_kind;
    const char *other; /* the tool that has subscribed before */
    bool unpinned;     /* its buffers cannot lie in the host's memory */
    bool withhold;     /* records come only when they are forced out */
    size_t dropped;    /* under the lock */
    /* what CUPTI would call */
    CUpti_CallbackFunc callback;
    void *callback_context;
    CUpti_BuffersCallbackRequestFunc request;
    CUpti_BuffersCallbackCompleteFunc complete;
    /* what was asked */
    int enabled, disabled, flushes, unsubscribed;
    bool on[MOCK_CUPTI_KINDS]; /* kinds that are recorded now */
    uint64_t stack[8];         /* external correlations */
    int depth, surplus;        /* surplus: pops of an empty stack */
    int calls;                 /* API calls that are recorded, each by itself */
    /* what the next flush delivers, under the lock */
    pthread_mutex_t lock;
    struct activity *pending;
    size_t pending_count, capacity;
    uint32_t next_correlation;
} mock_cupti;

extern const struct cupti_api mock_cupti_api;

/* A cmocka setup: all is well, and nothing was asked or waits. */
int mock_cupti_reset(void **state);
/* A record for the next flush. */
void mock_cupti_add(struct activity activity);
/* What a launch leaves behind: its correlation with the top of the stack, and the kernel. */
void mock_cupti_launch(int64_t start, int64_t end);
/* The same for any record that has been given the correlation mock_cupti_correlation() returns. */
uint32_t mock_cupti_correlation(void);

#endif
#endif
