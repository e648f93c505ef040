/* The input before the model gets it: what makes it, and where its time goes.
 *
 * Of the facts' rules some are no row of the table: A22 (pictures one by one) is a way of A21; A12 (ever
 * new shapes) is of a program that traces anew, and here a shape changes by command only; A14 (clocks
 * down after idling) and A44 (a slow or distant bus) need samples between runs and of the link under
 * load, which a run does not have: `doctor` looks at the link. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A21: [S] XProf: input-bound from 5 % on */
#define PREPROCESS_SHARE 0.05
/* A19 [H]: of the pipeline's work; below it decoding and resizing are what to look at */
#define SCALING_SHARE    0.25
/* A picture of bytes has a quarter of the bytes of its floats */
#define BYTES_RATIO      0.25

/* A step with a pipeline, in its parts. Of a batch's preparation each picture is a piece of work of
 * its own, so that threads divide it (engine/pipeline.c). */
struct feeding {
    double step_ms;
    double waited_ms;   /* of the step, for the pipeline */
    double work_ms;     /* to prepare a batch, summed over the threads */
    double rest_ms;     /* of the step: the model, its copies, gaps */
    double calls, most; /* threads now, and as many as there are processors and pictures for */
    bool overlap;       /* the next batch is prepared meanwhile */
};

static bool read_feeding(const struct advise_facts *facts, struct feeding *out)
{
    const struct advise_pipeline *pipeline = &facts->pipeline;
    double step_ms = advise_step_ms(facts);
    double stages = pipeline->decode_ms + pipeline->resize_ms + pipeline->scale_ms;
    *out = (struct feeding){.step_ms = step_ms,
                            .waited_ms =
                                step_ms * fmin(advise_share(facts, facts->ledger.preprocess_ms), 1),
                            .calls = pipeline->parallel_calls,
                            .overlap = strcmp(pipeline->mode, "overlap") == 0};
    out->rest_ms = step_ms - out->waited_ms;
    out->most = fmax(fmin(pipeline->processors, facts->settings.batch), 1);
    /* the stages are means over all steps, the ledger's share is one of the median step */
    double scale = out->overlap ? 1 : out->waited_ms / pipeline->prepare_ms;
    out->work_ms = stages * scale;
    return *pipeline->mode && out->calls >= 1 && out->work_ms > 0 && isfinite(out->work_ms);
}

/* A step with `calls` threads, its batch prepared before it or meanwhile. On the CPU what runs
 * meanwhile takes the model's processors: their time is what both need together. An overlapped step
 * already holds that. */
static double step_with(const struct advise_facts *facts, const struct feeding *now, double calls,
                        bool overlap)
{
    double own = now->work_ms / fmin(calls, now->most), rest = now->rest_ms;
    if (!overlap)
        return rest + own;
    if (advise_on_cpu(facts) && !now->overlap)
        rest += now->work_ms / fmax(facts->pipeline.processors, 1);
    return fmax(own, rest);
}

static void add_way(const struct advise_facts *facts, const struct feeding *now,
                    struct advise_finding *finding, double calls, bool overlap, double *most_ms)
{
    double saved = now->step_ms - step_with(facts, now, calls, overlap);
    struct advise_way *way = advise_way_add(finding, saved / 2, saved, fmax(saved, now->waited_ms));
    if (overlap && !now->overlap)
        advise_way_change(way, "pipeline", "overlap");
    if (calls > now->calls)
        advise_way_change(way, "parallel_calls", "%.0f", calls);
    *most_ms = fmax(*most_ms, saved);
}

/* Each stage over the whole batch, or all of them picture by picture: the work is the same, and the
 * caches decide. [S] the facts' A22 gives no factor either: only measuring tells. */
static void add_mapping(const struct advise_facts *facts, struct advise_finding *finding)
{
    struct advise_way *way = advise_way_add(finding, NAN, NAN, NAN);
    advise_way_change(way, "mapping",
                      strcmp(facts->pipeline.mapping, "batch") == 0 ? "picture" : "batch");
}

/* One GPU can resize and scale what the host only decodes: what that takes there, and what the copy of
 * the bytes takes, is not known before it was tried. */
static void add_gpu(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_pipeline *pipeline = &facts->pipeline;
    bool one_gpu = advise_on_gpu(facts) && strchr(facts->settings.devices, ',') == NULL;
    if (!one_gpu || !(pipeline->scale_ms > 0) || strcmp(facts->plan.input_type, "float32") != 0)
        return;
    struct advise_way *way = advise_way_add(finding, NAN, NAN, NAN);
    advise_way_change(way, "preprocess_on", "gpu");
}

/* What the pipeline is, and what would make it quicker. Returns the most that a setting saves. */
static double add_ways(const struct advise_facts *facts, const struct feeding *now,
                       struct advise_finding *finding)
{
    double most_ms = 0;
    if (now->calls < now->most)
        add_way(facts, now, finding, now->most, now->overlap, &most_ms);
    if (!now->overlap)
        add_way(facts, now, finding, now->calls, true, &most_ms);
    if (!now->overlap && now->calls < now->most)
        add_way(facts, now, finding, now->most, true, &most_ms);
    if (facts->settings.batch > 1)
        add_mapping(facts, finding);
    add_gpu(facts, finding);
    return most_ms;
}

static void keras_pipeline(struct advise_finding *finding, double calls)
{
    advise_keras(
        finding,
        "ds = tf.data.Dataset.from_tensor_slices(files)\n"
        "ds = ds.map(decode, num_parallel_calls=%.0f)  # parallel_calls; tf.data.AUTOTUNE picks\n"
        "ds = ds.batch(batch_size)                     # mapping batch: the next map gets batches\n"
        "ds = ds.map(resize_and_scale, num_parallel_calls=%.0f)\n"
        "ds = ds.prefetch(tf.data.AUTOTUNE)            # pipeline overlap\n"
        "model.predict(ds)",
        calls, calls);
}

void advise_check_preprocess(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_pipeline *pipeline = &facts->pipeline;
    double share = advise_share(facts, facts->ledger.preprocess_ms);
    double all_ms = advise_step_ms(facts) * fmin(share, 1), most_ms = NAN;
    struct feeding now;
    bool known = read_feeding(facts, &now);
    if (share < PREPROCESS_SHARE)
        return;
    if (known)
        most_ms = add_ways(facts, &now, finding);
    double saved = known ? most_ms : all_ms;
    if (!advise_saves(facts, finding, saved / 2, saved, all_ms))
        finding->state = ADVISE_TRY; /* no setting is known to help */
    keras_pipeline(finding, known ? now.most : 4);
    advise_act(finding, "smaller pictures, or arrays decoded beforehand, cost less to prepare");
    if (!known) {
        advise_say(finding, "preparing the input takes %.1f %% of a step, before the model gets it",
                   share * 100);
        advise_formula(finding, "step x preprocess share: no more than %.2f times as fast (Amdahl)",
                       1 / (1 - fmin(share, 0.999)));
        advise_act(finding,
                   "prepare the next batch while this one computes, and whole batches at once");
        return;
    }
    double stages = pipeline->decode_ms + pipeline->resize_ms + pipeline->scale_ms;
    advise_say(finding,
               "a step waits %.3g ms for its input (%.0f %% of it): %.0f thread%s, %s, decoding "
               "%.0f %%, resizing %.0f %%, scaling %.0f %%",
               now.waited_ms, share * 100, now.calls, now.calls == 1 ? "" : "s",
               now.overlap ? "while the step before computes" : "before the model starts",
               pipeline->decode_ms / stages * 100, pipeline->resize_ms / stages * 100,
               pipeline->scale_ms / stages * 100);
    advise_formula(finding,
                   "rest of the step %.3g ms, work %.3g ms: rest + work / threads, overlapped the "
                   "larger of the two%s; at most %.2f times (Amdahl)",
                   now.rest_ms, now.work_ms,
                   advise_on_cpu(facts) ? ", and the processors are the model's too" : "",
                   1 / (1 - fmin(share, 0.999)));
}

/* ---- A19 ---- */

void advise_check_floats(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_pipeline *pipeline = &facts->pipeline;
    double share = advise_share(facts, facts->ledger.preprocess_ms), copied = 0;
    struct feeding now;
    if (!read_feeding(facts, &now) || strcmp(facts->plan.input_type, "float32") != 0)
        return;
    double stages = pipeline->decode_ms + pipeline->resize_ms + pipeline->scale_ms;
    double scaled = now.waited_ms * pipeline->scale_ms / stages;
    for (size_t i = 0; i < facts->copies_count && advise_on_gpu(facts); i++)
        if (strstr(facts->copies[i].kind, "host to device"))
            copied += advise_scaled(facts, facts->copies[i].time_ms) * (1 - BYTES_RATIO);
    double saved = scaled + copied;
    if (share < PREPROCESS_SHARE || !(pipeline->scale_ms >= SCALING_SHARE * stages) ||
        !advise_saves(facts, finding, scaled / 2, saved, scaled + copied / (1 - BYTES_RATIO)))
        return;
    advise_say(finding,
               "pictures are bytes, and the host makes floats of them: %.3g ms of a step%s", scaled,
               copied > 0 ? ", and four times the bytes to copy" : "");
    advise_formula(finding, "share of scaling in the wait for the input%s",
                   copied > 0 ? " + copies to the device x 3/4" : "");
    advise_act(finding, "let the model take bytes (uint8) and begin with a Rescaling layer");
    advise_keras(finding, "inputs = keras.Input(shape, dtype=\"uint8\")\n"
                          "outputs = model(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))\n"
                          "model = keras.Model(inputs, outputs)");
}

/* ---- A13 ---- */

/* Keras runs the last rows as a batch of their own shape, which is traced once more; here they are
 * filled up. */
void advise_check_last_batch(const struct advise_facts *facts, struct advise_finding *finding)
{
    double rows = facts->run.predicted_rows, batch = facts->settings.batch;
    double steps = ceil(rows / batch), even = ceil(rows / steps);
    double whole = steps * advise_step_ms(facts), saved = whole * (1 - even / batch);
    if (!(rows >= 1) || !(batch >= 2) || !isfinite(whole) ||
        !(saved >= ADVISE_GAIN_LEAST * whole) || !(saved > 0))
        return;
    finding->state = ADVISE_GAIN;
    finding->base_ms = whole;
    finding->saved_ms = saved;
    finding->saved_low_ms = saved / 2;
    finding->saved_high_ms = saved;
    advise_say(finding,
               "the last predict ran %.0f rows as %.0f batches of %.0f: the last one was filled up "
               "with %.0f rows that nobody asked for",
               rows, steps, batch, steps * batch - rows);
    advise_formula(finding, "%.0f steps x (1 - %.0f/%.0f), a sample taking as long in either",
                   steps, even, batch);
    advise_act(finding, "batch %.0f: as many steps, none of them empty", even);
    advise_keras(finding, "model.predict(x, batch_size=%.0f)  # one shape, so one trace", even);
}
