/* `advise --try`: what a change really brings, against the present, in pairs of turns. */
#ifndef LAYERTOP_COMMANDS_ADVISE_TRY_H
#define LAYERTOP_COMMANDS_ADVISE_TRY_H

#include "commands/trials.h"
#include "profiler/advise/rules.h"

/* The state of an `advise`; begins with the trials, which find it there. */
struct advise_order {
    struct trials trials;
    char *from;                          /* file of facts; NULL: of this session */
    bool measure;                        /* --try */
    bool code;                           /* --code keras */
    int64_t rounds;                      /* of --try */
    double slo_ms;                       /* of --slo, NaN: none */
    json_t *devices, *memory, *sparsity; /* replies, or NULL */
    struct advise_facts *facts;
    struct advise_report *report;
    /* Of advise_try.c */
    size_t at;     /* result that is tried */
    size_t way;    /* of its ways */
    json_t *tried; /* array of what came out */
    void (*end)(struct execution *execution, const struct error *error);
};

/* Try one after the other what the report advises and settings can change, then call order->end with
 * the facts' trials added and the report made anew; `error` if that was ended. */
void advise_try_start(struct execution *execution);
/* "predicted 2.1 times, measured 1.9" of each, and "tried" in the data. */
void advise_try_print(struct execution *execution);

#endif
