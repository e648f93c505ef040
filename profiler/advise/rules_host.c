/* What the host does beside the model: copies, the observer, the user's own program; and whether the numbers can be believed at all. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A first step that takes so many times the quickest one was cold. [S] trace_first_step of the
 * frameworks shows 5 to 1000; [M] a warm plan stays below 2 */
#define COLD_RATIO       3
#define COLD_STEPS_LEAST 3

/* A48: [H] of the facts */
#define JITTER_RATIO       2
#define JITTER_STEPS_LEAST 20

/* A49: [S] trtexec and Nsight stay below it */
#define OBSERVER_SHARE 0.03

/* A51 [H]: more than half of the call lies outside the model */
#define OUTSIDE_SHARE 0.5

/* A16: [S] XProf calls 5 % moderate and 20 % high, TensorBoard warned from 10 % on */
#define COPY_SHARE    0.1
/* A picture of bytes has a quarter of the bytes of its floats. */
#define BYTES_RATIO   0.25
/* A17 [S] NVIDIA's best practices: pinned copies run at about twice the speed of pageable ones; up
 * to four times on fast links */
#define PINNED_RATIO  2
#define PINNED_MOST   4
/* A18 [H]: with resident inputs so much faster */
#define OVERLAP_LEAST 1.1
/* A20 [H]: more comes back than goes in, and it takes so much of the step */
#define OUTPUT_SHARE  0.05

void advise_check_cold(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    if (run->live == FLAG_YES || !(run->warmup == 0))
        return;
    if (run->steps < COLD_STEPS_LEAST) {
        advise_ask(finding,
                   "too few steps, none of them warmed up, to tell a first step from others",
                   "run 50");
        return;
    }
    if (!(run->first_ms > COLD_RATIO * run->min_ms))
        return;
    double extra = (run->first_ms - run->wall_ms) / run->steps;
    if (!advise_saves(facts, finding, extra, extra, extra))
        return;
    finding->base_ms = run->mean_ms;
    advise_say(
        finding,
        "the first of %.0f measured steps took %.3g ms, %.1f times the median of %.3g ms: no "
        "step went before it",
        run->steps, run->first_ms, run->first_ms / run->wall_ms, run->wall_ms);
    advise_formula(finding, "(first - median) / steps = %.3g ms of a mean step of %.3g ms", extra,
                   run->mean_ms);
    advise_act(finding, "warm up before measuring, and keep one process for many calls");
    advise_change(finding, "warmup", "auto");
    advise_keras(finding,
                 "model.predict(x[:batch_size], verbose=0)  # once, before the clock starts");
}

void advise_check_steady(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (facts->run.steady != FLAG_NO)
        return;
    advise_tell(finding, ADVISE_NOTE,
                "the last steps took another time than those before: the numbers drift or scatter");
    advise_act(finding, "run 500 --warmup 100");
}

void advise_check_jitter(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    if (run->live == FLAG_YES || !(run->steps >= JITTER_STEPS_LEAST) ||
        !(run->p99_ms > JITTER_RATIO * run->wall_ms))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "one step in a hundred takes %.3g ms and more, %.1f times the median of %.3g ms",
                run->p99_ms, run->p99_ms / run->wall_ms, run->wall_ms);
}

void advise_check_observer(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    double step_ms = advise_step_ms(facts);
    if (!(run->cost_share > OBSERVER_SHARE) || !(run->cost_low > 0))
        return;
    double saved = step_ms * run->cost_share / (1 + run->cost_share);
    if (!advise_saves(facts, finding, step_ms * run->cost_low / (1 + run->cost_low), saved,
                      step_ms * run->cost_high / (1 + run->cost_high)))
        return;
    advise_say(finding, "timing the layers makes a step %.1f %% longer (%.1f to %.1f %%)",
               run->cost_share * 100, run->cost_low * 100, run->cost_high * 100);
    advise_formula(finding, "step x cost / (1 + cost)");
    advise_act(finding, "believe the shares of layers, not the wall; or measure whole steps only");
    advise_change(finding, "profile", "off");
}

void advise_check_gap(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), observed = facts->run.observed_ms;
    double outside = observed - step_ms;
    if (!(outside / observed > OUTSIDE_SHARE) ||
        !advise_saves(facts, finding, outside / 2, outside, outside))
        return;
    finding->base_ms = observed;
    finding->saved_ms = outside;
    finding->saved_low_ms = outside / 2;
    finding->saved_high_ms = outside;
    advise_say(finding,
               "a call takes %.3g ms in your program and the model %.3g ms here: %.0f %% is the "
               "framework, the data and the copies",
               observed, step_ms, outside / observed * 100);
    advise_formula(finding, "observed - step = %.3g ms at most", outside);
    advise_act(finding, "call the model directly, or predict() once for many samples");
    advise_keras(finding,
                 "# one call for all samples instead of a loop:\n"
                 "y = model.predict(x_all, batch_size=%.0f, verbose=0)\n"
                 "# or, sample by sample, without what predict() prepares each time:\n"
                 "y = model(x, training=False)",
                 isfinite(facts->settings.batch) ? facts->settings.batch : 32);
}

/* Time of copies of one kind ("host to device" ...) in a step; *bytes likewise. */
static double copies_ms(const struct advise_facts *facts, const char *kind, bool pageable,
                        double *bytes)
{
    double ms = 0;
    *bytes = 0;
    for (size_t i = 0; i < facts->copies_count; i++) {
        const struct advise_copy *copy = &facts->copies[i];
        if (!strstr(copy->kind, kind) || (pageable && copy->pageable != FLAG_YES))
            continue;
        ms += advise_scaled(facts, copy->time_ms);
        *bytes += copy->bytes > 0 ? copy->bytes : 0;
    }
    return ms;
}

void advise_check_copies(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), bytes, out_bytes;
    double share = advise_share(facts, facts->ledger.copy_ms);
    if (share < COPY_SHARE || !advise_on_gpu(facts))
        return;
    double in = copies_ms(facts, "host to device", false, &bytes);
    double out = copies_ms(facts, "device to host", false, &out_bytes);
    double part = in + out > 0 ? in / (in + out) : 1; /* what bytes instead of floats make less */
    bool bytes_already = strcmp(facts->plan.input_type, "uint8") == 0;
    double saved = step_ms * share * part * (bytes_already ? 0.5 : 1 - BYTES_RATIO);
    if (!advise_saves(facts, finding, saved / 2, saved, step_ms * share))
        return;
    advise_say(finding,
               "copies that nothing hides take %.1f %% of a step (%.3g MB in, %.3g MB out)",
               share * 100, bytes / 1e6, out_bytes / 1e6);
    advise_formula(finding, "step x copy share %.3f x share in %.2f x (1 - new bytes / old = %.2f)",
                   share, part, bytes_already ? 0.5 : BYTES_RATIO);
    advise_act(finding, bytes_already ? "copy the next batch while this one computes"
                                      : "send bytes (uint8) and convert them on the GPU, or copy "
                                        "the next batch while this one computes");
    advise_keras(finding,
                 "inputs = keras.Input(shape, dtype=\"uint8\")  # a quarter of float32's bytes\n"
                 "outputs = model(keras.layers.Rescaling(1 / 255.)(inputs))  # on the device\n"
                 "model = keras.Model(inputs, outputs)");
}

void advise_check_pageable(const struct advise_facts *facts, struct advise_finding *finding)
{
    double bytes, ms = copies_ms(facts, "", true, &bytes);
    if (!(ms > 0) || !advise_saves(facts, finding, ms * (1 - 1. / PINNED_RATIO) / 2,
                                   ms * (1 - 1. / PINNED_RATIO), ms * (1 - 1. / PINNED_MOST)))
        return;
    advise_say(finding,
               "%.3g MB a step are copied from or to pageable memory, in %.3g ms (%.2g GB/s)",
               bytes / 1e6, ms, bytes / ms / 1e6);
    advise_formula(finding, "time of pageable copies x (1 - 1/%d)", PINNED_RATIO);
    advise_act(finding, "copy from pinned memory");
    advise_keras(finding, "ds = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)\n"
                          "ds = ds.prefetch(tf.data.AUTOTUNE)  # TensorFlow then stages it pinned\n"
                          "model.predict(ds)");
}

void advise_check_overlap(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    double ratio = run->resident_per_s / run->throughput_per_s;
    if (!advise_on_gpu(facts) || !(ratio > OVERLAP_LEAST))
        return;
    double saved = advise_step_ms(facts) * (1 - 1 / ratio);
    if (!advise_saves(facts, finding, saved / 2, saved, saved))
        return;
    advise_say(finding,
               "with inputs that stay on the device %.4g samples/s pass, step by step with copies "
               "%.4g",
               run->resident_per_s, run->throughput_per_s);
    advise_formula(finding, "step x (1 - throughput / resident throughput)");
    advise_act(finding, "copy the next batch and fetch the last one while this one computes");
    advise_keras(finding, "ds = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)\n"
                          "model.predict(ds.prefetch(tf.data.AUTOTUNE))");
}

void advise_check_outputs(const struct advise_facts *facts, struct advise_finding *finding)
{
    double bytes, in_bytes, ms = copies_ms(facts, "device to host", false, &bytes);
    copies_ms(facts, "host to device", false, &in_bytes);
    double share = ms / advise_step_ms(facts);
    if (!(bytes > in_bytes) || share < OUTPUT_SHARE || share > 1)
        return;
    if (!advise_saves(facts, finding, ms / 2, ms * 0.9, ms))
        return;
    advise_say(finding, "%.3g MB a step come back and %.3g MB go in: %.1f %% of the step",
               bytes / 1e6, in_bytes / 1e6, share * 100);
    advise_formula(finding, "time of the copies to the host x 0.9");
    advise_act(finding, "reduce on the device: the largest class or the best five instead of all");
    advise_keras(finding, "x = keras.ops.argmax(model.output, axis=-1)\n"
                          "model = keras.Model(model.input, x)");
}

void advise_check_lost(const struct advise_facts *facts, struct advise_finding *finding)
{
    if (!(facts->run.lost > 0))
        return;
    advise_tell(finding, ADVISE_NOTE, "%.0f records were lost: times of layers are partial",
                facts->run.lost);
}
