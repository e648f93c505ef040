/* Smaller models: what bytes instead of floats bring, what zeros do not, and what either costs in
 * answers. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <string.h>

/* A28: of a classifier, rows with another class, and points of accuracy [S] MLPerf Inference: a
 * quantised entry keeps 99 % of what fp32 gets */
#define AGREEMENT_LEAST 0.99
#define ACCURACY_LOST   0.01
/* Of another model, the largest error over the largest output: [S] the facts' A28; twice five
 * thousandths, bfloat16's own step is four, and a byte has 127 to a side */
#define ERROR_FP16      0.01
#define ERROR_OTHERS    0.05
/* A46, A47: [S] the facts */
#define ZEROS_SHARE     0.5
#define PATTERN_SHARE   0.99
#define PATTERN_ZEROS   0.6 /* with more of them most groups have two by chance */

/* A63 [M]: what int8 makes of the time of convolutions and products, on two cores of a Xeon with AMX:
 * from fp32 3.6 to 9 times as fast (ResNet50, batch 4) and 4.5 to 7 (MobileNetV2, batch 8), more with
 * more FLOPs a byte; from bf16 1.4 times, and 1.9 from 40 FLOPs a byte on; below 4 it depends. [S] VNNI
 * alone multiplies four times as many bytes as floats: at most that. */
#define INT8_INTENSITY   4
#define INT8_FACTOR      1.7
#define INT8_EXPONENT    0.25
#define INT8_MOST        8.0
#define INT8_VNNI_MOST   3.0
#define INT8_BF16_FEW    1.4
#define INT8_BF16_MANY   1.9
#define INT8_MANY        40
/* Layers that stay fp32 and take more of the step than this turn bytes into floats and back:
 * EfficientNetB0, with a fifth in them, gained nothing */
#define INT8_FLOATS_MOST 0.1

void advise_check_answers(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_accuracy *seen = &facts->accuracy;
    const char *now = facts->settings.precision;
    bool fp16 = strcmp(now, "fp16") == 0 || strcmp(now, "tf32") == 0;
    double lost = seen->reference_accuracy - seen->accuracy;
    double error = seen->error_max / seen->error_largest;
    bool int8 = strcmp(now, "int8") == 0;
    bool pruned = *facts->weights.prune && strcmp(facts->weights.prune, "off") != 0;
    if (strcmp(now, "fp32") == 0 && !pruned)
        return;
    if (isfinite(lost) && lost > ACCURACY_LOST)
        advise_tell(finding, ADVISE_RISK,
                    "%s%s gets %.1f %% of %.0f rows right, fp32 %.1f %%: %.1f points are lost",
                    pruned ? "pruned, " : "", now, seen->accuracy * 100, seen->rows,
                    seen->reference_accuracy * 100, lost * 100);
    else if (!isfinite(lost) && seen->agreement < AGREEMENT_LEAST)
        advise_tell(finding, ADVISE_RISK,
                    "%s gives %.1f %% of %.0f rows another class than fp32 does, and no labels say "
                    "which is right",
                    now, (1 - seen->agreement) * 100, seen->rows);
    else if (!isfinite(seen->agreement) && error > (fp16 ? ERROR_FP16 : ERROR_OTHERS))
        advise_tell(finding, ADVISE_RISK,
                    "an output in %s is off by %.3g where the largest is %.3g (%.1f %%)", now,
                    seen->error_max, seen->error_largest, error * 100);
    else
        return;
    if (pruned)
        advise_change(finding, "prune", "off");
    else
        advise_change(finding, "precision", "%s", int8 ? "bf16" : "fp32");
    advise_act(finding, "%s",
               pruned ? "or prune less, and train on afterwards: evaluate says what it costs"
               : int8 ? "or calibrate on more rows, or with --method entropy, and evaluate again"
                      : "keep the softmax, normalisations and the last layer in float32");
    advise_keras(finding, "keras.layers.Dense(classes, activation=\"softmax\", dtype=\"float32\")");
}

/* ---- zeros ---- */

static bool follows_pattern(const struct advise_weights *weights)
{
    return weights->two_of_four_share > PATTERN_SHARE && weights->zero_share < PATTERN_ZEROS;
}

void advise_check_zeros(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_weights *weights = &facts->weights;
    if (!(weights->zero_share >= ZEROS_SHARE) || follows_pattern(weights))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "%.0f %% of the weights are zero, scattered: kernels for dense weights multiply "
                "zeros like any other number, so nothing is gained in time",
                weights->zero_share * 100);
    advise_act(finding, "`prune 0.5` measures it; fewer channels (a smaller model) do save time");
}

void advise_check_pattern(const struct advise_facts *facts, struct advise_finding *finding)
{
    const struct advise_weights *weights = &facts->weights;
    if (!follows_pattern(weights))
        return;
    advise_tell(finding, ADVISE_NOTE,
                "%.0f %% of the groups of four weights hold two zeros: sparse tensor cores "
                "(compute capability 8.0 on) take that pattern, and nothing here uses them; %s",
                weights->two_of_four_share * 100,
                advise_on_gpu(facts) && facts->device.capability >= 80
                    ? "TensorRT or cuSPARSELt may gain a little on this GPU"
                    : "this device has none");
}

/* ---- int8 ---- */

static bool multiplies_bytes(const struct advise_layer *layer)
{
    return advise_ops_any(layer, "conv matmul");
}

/* How many times as fast one layer is in int8. */
static double with_bytes(const struct advise_facts *facts, const struct advise_layer *layer)
{
    double intensity = layer->flops / layer->bytes;
    bool amx = strstr(facts->device.isa, "AMX") != NULL;
    if (!(intensity >= INT8_INTENSITY))
        return 1;
    if (strcmp(facts->settings.precision, "bf16") == 0)
        return intensity >= INT8_MANY ? INT8_BF16_MANY : INT8_BF16_FEW;
    return fmin(INT8_FACTOR * pow(intensity, INT8_EXPONENT), amx ? INT8_MOST : INT8_VNNI_MOST);
}

static void int8_keras(struct advise_finding *finding)
{
    advise_keras(
        finding,
        "# for CPUs: post-training int8, calibrated on your data, run by LiteRT\n"
        "converter = tf.lite.TFLiteConverter.from_keras_model(model)\n"
        "converter.optimizations = [tf.lite.Optimize.DEFAULT]\n"
        "converter.representative_dataset = lambda: ([row[None]] for row in x_calibration)\n"
        "converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]\n"
        "open(\"model.tflite\", \"wb\").write(converter.convert())  # then evaluate it");
}

void advise_check_int8(const struct advise_facts *facts, struct advise_finding *finding)
{
    const char *now = facts->settings.precision, *isa = facts->device.isa;
    bool amx = strstr(isa, "AMX") != NULL, bf16 = strcmp(now, "bf16") == 0;
    double all = 0, bytes = 0, saved = 0;
    if (!advise_on_cpu(facts) || !(amx || (strstr(isa, "VNNI") && !bf16)) ||
        !(bf16 || strcmp(now, "fp32") == 0))
        return;
    for (size_t i = 0; i < facts->layers_count; i++) {
        double ms = advise_layer_ms(facts, &facts->layers[i]);
        all += ms;
        if (!(ms > 0) || !multiplies_bytes(&facts->layers[i]))
            continue;
        bytes += ms;
        saved += ms * (1 - 1 / with_bytes(facts, &facts->layers[i]));
        advise_layer_add(facts, finding, i);
    }
    if (!(saved >= ADVISE_GAIN_LEAST * advise_step_ms(facts)))
        return;
    if (facts->accuracy.calibrated != FLAG_YES) {
        advise_ask(finding,
                   "bytes may multiply faster than this, and how far the values reach was not "
                   "seen",
                   "calibrate");
        return;
    }
    if (1 - bytes / all > INT8_FLOATS_MOST)
        finding->state = ADVISE_TRY;
    else if (!advise_saves(facts, finding, 0, saved, saved * 1.25))
        return;
    advise_say(finding,
               "convolutions and dense layers take %.0f %% of the layers' time in %s, and this "
               "processor (%s) multiplies bytes%s",
               bytes / all * 100, now, isa,
               finding->state == ADVISE_TRY
                   ? "; the rest stays fp32, and turning bytes into floats there and back costs"
                   : "");
    if (bf16)
        advise_formula(
            finding,
            "over layers: t x (1 - 1/r), r = %.1f from %d FLOPs a byte on, %.1f from %d on",
            INT8_BF16_FEW, INT8_INTENSITY, INT8_BF16_MANY, INT8_MANY);
    else
        advise_formula(
            finding,
            "over layers above %d FLOPs a byte: t x (1 - 1/r), r = %.1f x (FLOPs per byte)^%.2f",
            INT8_INTENSITY, INT8_FACTOR, INT8_EXPONENT);
    advise_act(finding, facts->accuracy.random == FLAG_YES
                            ? "calibrate on your data, then evaluate: answers change"
                            : "then evaluate: answers change, and only labels say whether for the "
                              "worse");
    advise_change(finding, "precision", "int8");
    int8_keras(finding);
}
