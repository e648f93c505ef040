/* Number formats: which of them the hardware is fast in, and for which layers. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A29, A61: [S] the facts: matmuls and convolutions make half of the kernels' time */
#define MATHS_SHARE   0.5
/* What of a peak ratio arrives [S]: published ResNet-50 figures reach two thirds of it */
#define PEAK_REACHED  0.66
/* A26: [S] NVIDIA's guide: multiples of 8 halves, 4 TF32; a layer that small does not matter */
#define ALIGNED_SHARE 0.05
#define ALIGNED_GAIN  1.5 /* [S] the guide shows 1.5 to 4 */
#define ALIGNED_MOST  4
/* A27: [S] 1660 Ti: two to four times as slow */
#define NO_CORES_GAIN 2
#define NO_CORES_MOST 4
/* A56: [M] ResNet-50 fp32 28 ms, bf16 38 ms by avx512_bf16 */
#define NO_TILES_GAIN 1.36

/* A55 [M]: what bfloat16 with AMX makes of a layer's time in fp32, over some 450 layers of ResNet50,
 * MobileNetV2, EfficientNetB0 and small networks at batches 1 to 32, two cores of a Xeon: 2.0 times
 * as fast below 2 FLOPs a byte, 2.5 at 4, 3.9 at 30, 4.6 at 60, 5.2 at 120, 8.3 above 160. */
#define TILES_FACTOR   1.7
#define TILES_EXPONENT 0.25
#define TILES_MOST     8.0
#define TILES_OTHERS   2.0    /* layers that only move data: half the bytes */
#define TILES_FLOOR_MS 0.0007 /* of an op, whatever its type: 60 tiny ones take as long in either */

static bool is_maths(const struct advise_layer *layer)
{
    return advise_ops_any(layer, "conv matmul attention recurrent");
}

/* Time of layers that compute, of all that take time. */
static double maths_ms(const struct advise_facts *facts, double *all)
{
    double ms = 0;
    *all = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        *all += advise_layer_ms(facts, &facts->layers[i]);
        if (is_maths(&facts->layers[i]))
            ms += advise_layer_ms(facts, &facts->layers[i]);
    }
    return ms;
}

/* What lower precision leaves of a layer that computes: by the nearer of two roofs. */
static double with_roof(const struct advise_facts *facts, const struct advise_layer *layer,
                        double flops_ratio, double bytes_ratio)
{
    double ms = advise_layer_ms(facts, layer);
    double moves = layer->bytes / facts->device.roof_bytes * 1e3;
    double share = isfinite(moves) ? fmin(moves / ms, 1) : 0.3;
    return ms * ((1 - share) / flops_ratio + share / bytes_ratio);
}

static double roofs_saved(const struct advise_facts *facts, double flops_ratio, double bytes_ratio)
{
    double saved = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        double ms = advise_layer_ms(facts, layer);
        if (ms > 0)
            saved += ms - (is_maths(layer) ? with_roof(facts, layer, flops_ratio, bytes_ratio)
                                           : ms / bytes_ratio);
    }
    return saved;
}

static void keras_policy(struct advise_finding *finding, const char *policy)
{
    advise_keras(finding,
                 "# a loaded model keeps its dtypes: make its layers anew\n"
                 "def narrow(layer):\n"
                 "    config = layer.get_config()\n"
                 "    if not isinstance(layer, keras.layers.InputLayer):\n"
                 "        config[\"dtype\"] = \"%s\"\n"
                 "    return layer.__class__.from_config(config)\n"
                 "half = keras.models.clone_model(model, clone_function=narrow)\n"
                 "half.set_weights(model.get_weights())",
                 policy);
}

static void advise_roof(const struct advise_facts *facts, struct advise_finding *finding,
                        const char *precision, double peak_ratio, double bytes_ratio)
{
    double all, maths = maths_ms(facts, &all);
    double reached = fmax(1.1, peak_ratio * PEAK_REACHED);
    if (!(peak_ratio > 1) || !(maths / all >= MATHS_SHARE))
        return;
    if (!advise_saves(facts, finding, roofs_saved(facts, fmin(2, reached), bytes_ratio) / 2,
                      roofs_saved(facts, reached, bytes_ratio),
                      roofs_saved(facts, peak_ratio, bytes_ratio)))
        return;
    advise_say(finding,
               "layers that multiply take %.0f %% of the layers' time in fp32; this GPU multiplies "
               "%.1f times as fast in %s",
               maths / all * 100, peak_ratio, precision);
    advise_formula(
        finding,
        "over layers: t - t x (1 - m) / %.1f - t x m / %.0f, m the share that moving its "
        "bytes takes",
        reached, bytes_ratio);
    advise_act(finding, "answers change in the third or fourth digit");
    advise_change(finding, "precision", "%s", precision);
}

void advise_check_tf32(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_device *device = &facts->device;
    if (!advise_on_gpu(facts) || strcmp(facts->settings.precision, "fp32") != 0 ||
        !(device->capability >= 80))
        return;
    advise_roof(facts, finding, "tf32", device->roof_tf32 / device->roof_fp32, 1);
    if (finding->state == ADVISE_GAIN)
        advise_keras(finding, "tf.config.experimental.enable_tensor_float_32_execution(True)");
}

/* From what TF32 does not give: sixteen bits halve the bytes too. */
void advise_check_half(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_device *device = &facts->device;
    const char *now = facts->settings.precision;
    bool fp32 = strcmp(now, "fp32") == 0, tf32 = strcmp(now, "tf32") == 0;
    if (!advise_on_gpu(facts) || !(fp32 || tf32) || !(device->capability >= 70) ||
        strstr(device->name, "GTX 16"))
        return;
    bool bf16 = device->capability >= 80;
    double roof = bf16 ? device->roof_bf16 : device->roof_fp16;
    advise_roof(facts, finding, bf16 ? "bf16" : "fp16",
                roof / (fp32 ? device->roof_fp32 : device->roof_tf32), 2);
    if (finding->state == ADVISE_GAIN)
        keras_policy(finding, bf16 ? "mixed_bfloat16" : "mixed_float16");
}

void advise_check_no_tensor_cores(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts);
    const char *now = facts->settings.precision;
    bool half = strcmp(now, "fp16") == 0 || strcmp(now, "bf16") == 0;
    bool cores = facts->device.capability >= 70 && !strstr(facts->device.name, "GTX 16");
    if (!advise_on_gpu(facts) || !half || cores || !(facts->device.capability > 0))
        return;
    double saved = step_ms * (1 - 1. / NO_CORES_GAIN);
    if (!advise_saves(facts, finding, saved / 2, saved, step_ms * (1 - 1. / NO_CORES_MOST)))
        return;
    advise_say(finding, "%.60s (compute capability %.1f) has no tensor cores, and it runs in %s",
               facts->device.name, facts->device.capability / 10, now);
    advise_formula(finding, "step x (1 - 1/%d): fp32 was seen two to four times as fast there",
                   NO_CORES_GAIN);
    advise_change(finding, "precision", "fp32");
    advise_keras(finding, "keras.config.set_dtype_policy(\"float32\")  # before the model is made");
}

void advise_check_alignment(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), ms = 0;
    const char *now = facts->settings.precision;
    int unit = strcmp(now, "tf32") == 0                               ? 4
               : strcmp(now, "fp16") == 0 || strcmp(now, "bf16") == 0 ? 8
               : strcmp(now, "int8") == 0                             ? 16
                                                                      : 0;
    size_t count = 0;
    if (!advise_on_gpu(facts) || unit == 0 || !(facts->device.capability >= 70))
        return;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        bool odd = fmod(layer->channels, unit) > 0 || fmod(layer->before, unit) > 0;
        bool picture = layer->before <= 4; /* the first layer: its input is padded anyway */
        if (!advise_ops_any(layer, "conv matmul") || !odd || picture ||
            advise_layer_ms(facts, layer) < ALIGNED_SHARE * step_ms)
            continue;
        ms += advise_layer_ms(facts, layer);
        count++;
        advise_layer_add(facts, finding, i);
    }
    double saved = ms * (1 - 1 / ALIGNED_GAIN);
    if (!advise_saves(facts, finding, saved / 2, saved, ms * (1 - 1. / ALIGNED_MOST)))
        return;
    char names[256];
    const struct advise_layer *first = &facts->layers[finding->layers[0]];
    advise_say(
        finding,
        "%s take %.0f %% of a step with channels that are no multiple of %d (%.80s: %.0f in, "
        "%.0f out)",
        advise_layer_names(facts, finding, count, names, sizeof names), ms / step_ms * 100, unit,
        first->name, first->before, first->channels);
    advise_formula(finding, "their time x (1 - 1/%.1f), up to (1 - 1/%d)", ALIGNED_GAIN,
                   ALIGNED_MOST);
    advise_act(finding, "make the channels a multiple of %d: more of them cost nothing until then",
               unit);
    advise_keras(finding, "# in the model's definition: filters or units %.0f instead of %.0f",
                 ceil(first->channels / unit) * unit, first->channels);
}

/* ---- the CPU ---- */

/* What of a layer's time tiles leave. */
static double with_tiles(const struct advise_facts *facts, const struct advise_layer *layer)
{
    double ms = advise_layer_ms(facts, layer), ratio = TILES_OTHERS;
    double floor_ms = fmin(ms, TILES_FLOOR_MS * fmax(layer->op_count, 1));
    if (advise_ops_any(layer, "conv matmul"))
        ratio = TILES_FACTOR * pow(fmax(layer->flops / layer->bytes, 1), TILES_EXPONENT);
    return floor_ms + (ms - floor_ms) / fmin(ratio, TILES_MOST);
}

void advise_check_tiles(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), saved = 0, all, maths = maths_ms(facts, &all);
    if (!advise_on_cpu(facts) || strcmp(facts->settings.precision, "fp32") != 0 ||
        !strstr(facts->device.isa, "AMX") || !(maths > ADVISE_GAIN_LEAST * all))
        return;
    for (size_t i = 0; i < facts->layers_count; i++) {
        double ms = advise_layer_ms(facts, &facts->layers[i]);
        saved += ms > 0 ? ms - with_tiles(facts, &facts->layers[i]) : 0;
    }
    if (!advise_saves(facts, finding, saved * 0.8, saved, saved + (step_ms - saved) / 3))
        return;
    advise_say(finding,
               "layers that multiply take %.0f %% of the layers' time in fp32, and this processor "
               "(%s) has tiles that multiply bfloat16",
               maths / all * 100, facts->device.isa);
    advise_formula(
        finding,
        "over layers: t x (1 - 1/r), r = %.1f x (FLOPs per byte)^%.2f up to %.0f, and %.1f "
        "for those that only move",
        TILES_FACTOR, TILES_EXPONENT, TILES_MOST, TILES_OTHERS);
    advise_act(finding, "answers change in the third digit");
    advise_change(finding, "precision", "bf16");
    keras_policy(finding, "mixed_bfloat16");
}

void advise_check_no_tiles(const struct advise_facts *facts, struct advise_finding *finding)
{
    double saved = advise_step_ms(facts) * (1 - 1 / NO_TILES_GAIN);
    if (!advise_on_cpu(facts) || strcmp(facts->settings.precision, "bf16") != 0 ||
        !*facts->device.isa || strstr(facts->device.isa, "AMX"))
        return;
    if (!advise_saves(facts, finding, saved / 2, saved, saved * 1.5))
        return;
    advise_say(finding, "this processor (%s) has no tiles: it multiplies bfloat16 slower than fp32",
               facts->device.isa);
    advise_formula(finding, "step x (1 - 1/%.2f): ResNet-50 in fp32 and bf16 by avx512_bf16",
                   NO_TILES_GAIN);
    advise_change(finding, "precision", "fp32");
    advise_keras(finding, "keras.config.set_dtype_policy(\"float32\")  # before the model is made");
}
