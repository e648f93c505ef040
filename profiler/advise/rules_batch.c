/* The batch: what a step costs whatever it holds, and what a sample adds. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A05 [H]: a larger batch that was measured gives so much more throughput; less is the noise and the
 * latency not worth it */
#define SMALL_LEAST   1.1
/* A06: doubling gives less than this */
#define KNEE_MOST     1.05
/* and a smaller batch that was measured gives so much more */
#define PAST_LEAST    1.05
/* A35: a layer that reads weights for so much of what it moves */
#define WEIGHTS_SHARE 0.7
#define WEIGHTS_TIME  0.1 /* of a step, in all such layers [H] */
#define WEIGHTS_BATCH 8   /* times the batch, while activations stay small against weights */
/* A30: [S] NVIDIA's Deep Learning Performance Guide: a grid below one wave leaves SMs empty */
#define FILL_LEAST    0.5
/* A31: the guide's wave quantization */
#define TAIL_WAVES    4
#define TAIL_PART     0.25

/* Time of a sample at the point with the largest throughput, where `larger` says on which side of
 * the present batch; NaN: none. */
static double best_point(const struct advise_facts *facts, bool larger, double *batch)
{
    double best = NAN;
    for (size_t i = 0; i < facts->points_count; i++) {
        const struct advise_point *point = &facts->points[i];
        double each = point->wall_ms / point->batch;
        if (larger ? point->batch <= facts->settings.batch : point->batch >= facts->settings.batch)
            continue;
        if (each > 0 && !(best <= each)) {
            best = each;
            *batch = point->batch;
        }
    }
    return best;
}

/* The smallest larger batch that comes within 3 % of the best one. */
static double enough(const struct advise_facts *facts, double best, double batch, double *each)
{
    *each = best;
    for (size_t i = 0; i < facts->points_count; i++) {
        const struct advise_point *point = &facts->points[i];
        double own = point->wall_ms / point->batch;
        if (point->batch > facts->settings.batch && point->batch < batch && own <= 1.03 * best) {
            batch = point->batch;
            *each = own;
        }
    }
    return batch;
}

static double swept_here(const struct advise_facts *facts)
{
    for (size_t i = 0; i < facts->points_count; i++)
        if (facts->points[i].batch == facts->settings.batch)
            return facts->points[i].wall_ms;
    return advise_step_ms(facts);
}

void advise_check_small_batch(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), here = facts->settings.batch, batch = 0, each;
    if (!(here >= 1))
        return;
    if (facts->points_count < 2) {
        advise_ask(finding, "what a larger batch would bring was not measured",
                   here < 16 ? "sweep batch 1..64x2" : "sweep batch 1..128x2");
        return;
    }
    double best = best_point(facts, true, &batch);
    if (!(best > 0))
        return;
    batch = enough(facts, best, batch, &each);
    /* the sweep's own step beside the sweep's own best: what drifted since then cancels */
    double ratio = swept_here(facts) / (here * each);
    if (!(ratio > SMALL_LEAST))
        return;
    double saved = step_ms * (1 - 1 / ratio);
    if (!advise_saves(facts, finding, saved * 0.8, saved,
                      step_ms * (1 - here * best / swept_here(facts))))
        return;
    advise_say(finding,
               "at batch %.0f a sample takes %.3g ms, at batch %.0f it took %.3g ms in the sweep%s",
               here, swept_here(facts) / here, batch, each,
               facts->fit.r2 >= 0.9 ? "" : " (the sweep is no straight line)");
    if (facts->fit.b_ms > 0)
        advise_formula(finding,
                       "t = a + b B with a = %.3g ms, b = %.3g ms; time of a sample at %.0f "
                       "against %.0f",
                       facts->fit.a_ms, facts->fit.b_ms, here, batch);
    else
        advise_formula(finding, "measured time of a sample at batch %.0f against %.0f", here,
                       batch);
    advise_act(finding,
               "a step will take %.3g ms instead of %.3g ms: whoever waits for one waits "
               "longer",
               each * batch, step_ms);
    advise_change(finding, "batch", "%.0f", batch);
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", batch);
}

void advise_check_knee(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), here = facts->settings.batch, batch = 0;
    double best = best_point(facts, false, &batch), own = swept_here(facts) / here;
    if (!(best > 0) || facts->points_count < 2)
        return;
    double ratio = own / best;
    if (ratio > PAST_LEAST) {
        double saved = step_ms * (1 - 1 / ratio);
        if (!advise_saves(facts, finding, saved / 2, saved, saved))
            return;
        advise_say(finding, "at batch %.0f a sample takes %.3g ms, at batch %.0f it took %.3g ms",
                   here, own, batch, best);
        advise_formula(finding, "measured time of a sample at batch %.0f against %.0f", here,
                       batch);
        advise_change(finding, "batch", "%.0f", batch);
        advise_keras(finding, "model.predict(x, batch_size=%.0f)", batch);
        return;
    }
    const struct advise_fit *fit = &facts->fit;
    double doubling = 2 * (fit->a_ms + fit->b_ms * here) / (fit->a_ms + 2 * fit->b_ms * here);
    if (!(doubling < KNEE_MOST) || !(fit->knee > 0) || here < 2 * fit->knee)
        return;
    advise_tell(finding, ADVISE_NOTE,
                "batch %.0f is past the knee at %.0f: twice as large gives %.3f times the "
                "throughput, and latency and memory grow",
                here, fit->knee, doubling);
}

void advise_check_weights(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), ms = 0, here = facts->settings.batch;
    size_t count = 0;
    if (facts->points_count >= 2)
        return; /* the sweep knows better */
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        if (!advise_ops_any(layer, "matmul") || !(advise_layer_ms(facts, layer) > 0) ||
            !(layer->parameters * 4 >= WEIGHTS_SHARE * layer->bytes) ||
            !(WEIGHTS_BATCH * (layer->bytes - 4 * layer->parameters) < 4 * layer->parameters))
            continue;
        ms += advise_layer_ms(facts, layer);
        count++;
        advise_layer_add(facts, finding, i);
    }
    double saved = ms * (1 - 1. / WEIGHTS_BATCH);
    if (ms < WEIGHTS_TIME * step_ms || !(here >= 1) ||
        !advise_saves(facts, finding, saved / 2, saved, saved))
        return;
    char names[256];
    advise_say(
        finding,
        "%s take %.0f %% of a step to read weights for %.0f sample%s: the same reading would "
        "serve more",
        advise_layer_names(facts, finding, count, names, sizeof names), ms / step_ms * 100, here,
        here == 1 ? "" : "s");
    advise_formula(finding, "their time x (1 - 1/%d): a batch %d times as large reads them once",
                   WEIGHTS_BATCH, WEIGHTS_BATCH);
    advise_change(finding, "batch", "%.0f", here * WEIGHTS_BATCH);
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", here * WEIGHTS_BATCH);
}

/* Over kernels whose grid is known: their time, and the time for which SMs have a block. */
static double filled(const struct advise_facts *facts, double *all)
{
    double busy = 0;
    *all = 0;
    for (size_t i = 0; i < facts->kernels_count; i++) {
        const struct advise_kernel *kernel = &facts->kernels[i];
        if (!(kernel->blocks > 0) || !(kernel->time_ms > 0))
            continue;
        double ms = advise_scaled(facts, kernel->time_ms);
        *all += ms;
        busy += ms * fmin(1, kernel->blocks / facts->device.multiprocessors);
    }
    return busy;
}

void advise_check_fill(const struct advise_facts *facts, struct advise_finding *finding)
{
    double all, busy = filled(facts, &all), here = facts->settings.batch;
    if (!(facts->device.multiprocessors > 0) || !(all > 0) || !(busy / all < FILL_LEAST))
        return;
    double scale = fmin(all / busy, 4), saved = all * (1 - 1 / scale);
    if (!advise_saves(facts, finding, saved / 2, saved, all * (1 - busy / all)))
        return;
    advise_say(finding,
               "over the time of its kernels, blocks reach %.0f %% of the %.0f multiprocessors",
               busy / all * 100, facts->device.multiprocessors);
    advise_formula(finding, "kernel time x (1 - filled share), for a batch of up to four times");
    advise_change(finding, "batch", "%.0f", here * fmax(2, floor(scale)));
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", here * fmax(2, floor(scale)));
}

void advise_check_tail(const struct advise_facts *facts, struct advise_finding *finding)
{
    double lost = 0;
    size_t count = 0;
    for (size_t i = 0; i < facts->kernels_count; i++) {
        const struct advise_kernel *kernel = &facts->kernels[i];
        double waves = kernel->blocks / facts->device.multiprocessors;
        double part = waves - floor(waves);
        if (!(waves > 1) || !(waves < TAIL_WAVES) || !(part > 0) || !(part < TAIL_PART))
            continue;
        lost += advise_scaled(facts, kernel->time_ms) * (1 - waves / ceil(waves));
        count++;
    }
    if (!advise_saves(facts, finding, lost / 4, lost / 2, lost))
        return;
    advise_say(finding,
               "%zu kernel%s end%s with a wave that fills less than a quarter of the %.0f "
               "multiprocessors",
               count, count == 1 ? "" : "s", count == 1 ? "s" : "", facts->device.multiprocessors);
    advise_formula(finding, "half of their time x (1 - waves / whole waves)");
    advise_act(finding, "a batch that makes whole waves: try neighbours of %.0f",
               facts->settings.batch);
}

/* Steps are slower at p99 than in the median by what the machine adds; it adds that to others too. */
void advise_check_slo(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_run *run = &facts->run;
    double here = facts->settings.batch, most = NAN;
    if (!(run->p99_ms > run->slo_ms))
        return;
    if (facts->fit.b_ms > 0)
        most =
            floor((run->slo_ms * run->wall_ms / run->p99_ms - facts->fit.a_ms) / facts->fit.b_ms);
    if (!(facts->fit.b_ms > 0) && here > 1) {
        advise_ask(finding, "one step in a hundred takes longer than it may",
                   "sweep batch 1..64x2");
        return;
    }
    advise_tell(finding, ADVISE_RISK,
                "one step in a hundred takes %.3g ms and more, %.3g ms are allowed%s", run->p99_ms,
                run->slo_ms, most >= 1 ? "" : ", and even a batch of one takes longer than that");
    if (!(most >= 1) || most >= here) {
        advise_act(finding, "a faster device, a narrower precision or a smaller model");
        return;
    }
    advise_formula(finding,
                   "(limit x median / p99 - a) / b, t = a + b B with a = %.3g, b = %.3g ms",
                   facts->fit.a_ms, facts->fit.b_ms);
    advise_change(finding, "batch", "%.0f", most);
    advise_keras(finding, "model.predict(x, batch_size=%.0f)", most);
}
