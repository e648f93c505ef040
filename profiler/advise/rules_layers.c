/* Single layers: what turns, what does nothing, what stands alone, what is slower than its like. */
#include "profiler/advise/rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A32: [S] the facts' L6 */
#define SHUFFLE_SHARE  0.05
/* A33 [M]: of its time alone, fused an elementwise layer takes a fiftieth (registers, no memory), and
 * the layers that compute lose up to a third, which they spent on writing for such layers, by how many
 * there are; ResNet50, MobileNetV2 and EfficientNetB0 in bf16 were 7.7, 9.6 and 16.8 times as fast
 * fused */
#define FUSED_SAVES    0.98
#define FUSED_REST     0.3
/* A34 [H] more ops than this in one recurrent layer: a step of time is several ops */
#define STEPPING_OPS   24
/* [M] fused GRU and LSTM against the same unrolled, on the CPU; on a GPU more [S] */
#define STEPPING_GAIN  3
#define STEPPING_MOST  8
/* A25: a layer that takes so many times what its like would take for the same work, and so much of the
 * step [M]: in ResNet50, MobileNetV2, EfficientNetB0 and VGG16 no layer does */
#define OUTLIER_RATIO  6
#define OUTLIER_SHARE  0.1
#define OUTLIER_LIKE   4 /* so many others must there be */
/* A36 */
#define DOMINANT_SHARE 0.4

static double sum_layers(const struct advise_facts *facts, struct advise_finding *finding,
                         bool (*wanted)(const struct advise_layer *layer), size_t *count)
{
    double ms = 0;
    *count = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        if (!(advise_layer_ms(facts, layer) > 0) || !wanted(layer))
            continue;
        ms += advise_layer_ms(facts, layer);
        ++*count;
        advise_layer_add(facts, finding, i);
    }
    return ms;
}

/* ---- A32 ---- */

static bool only_turns(const struct advise_layer *layer)
{
    return advise_ops_only(layer, "transpose reshape");
}

/* Kernels that only turn: ours for `layout nchw`, and those of cuDNN. */
static double turning_kernels(const struct advise_facts *facts)
{
    static const char *const names[] = {"turn_kernel", "nchwToNhwc", "nhwcToNchw", "transpose"};
    double ms = 0;
    for (size_t i = 0; i < facts->kernels_count; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            if (strstr(facts->kernels[i].name, names[k])) {
                ms += advise_scaled(facts, facts->kernels[i].time_ms);
                break;
            }
    return ms;
}

void advise_check_shuffles(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), kernels = turning_kernels(facts);
    bool nchw = advise_on_gpu(facts) && strcmp(facts->settings.layout, "nchw") == 0;
    size_t count;
    double layers = sum_layers(facts, finding, only_turns, &count);
    double ms = fmax(kernels, layers);
    if (ms < SHUFFLE_SHARE * step_ms || !advise_saves(facts, finding, ms / 2, ms, ms))
        return;
    char names[256];
    if (nchw)
        advise_say(finding,
                   "kernels that only turn tensors take %.0f %% of a step: layout nchw turns each "
                   "convolution's input and output",
                   ms / step_ms * 100);
    else if (count > 0)
        advise_say(finding, "%s only turn%s tensors around and take%s %.0f %% of a step",
                   advise_layer_names(facts, finding, count, names, sizeof names),
                   count == 1 ? "s" : "", count == 1 ? "s" : "", ms / step_ms * 100);
    else
        advise_say(finding, "kernels that only turn tensors take %.0f %% of a step",
                   ms / step_ms * 100);
    advise_formula(finding, "their time");
    if (nchw)
        advise_change(finding, "layout", "nhwc");
    else
        advise_act(finding, "keep channels last from input to output: drop pairs of Permute, "
                            "Reshape and Transpose");
    advise_keras(finding, "keras.config.set_image_data_format(\"channels_last\")  # and no Permute "
                          "layers");
}

/* ---- A33 ---- */

static bool could_fuse(const struct advise_layer *layer)
{
    return advise_ops_only(layer, "affine unary binary pad");
}

/* Of layers that others could be fused into. */
static double computing_ms(const struct advise_facts *facts)
{
    double ms = 0;
    for (size_t i = 0; i < facts->layers_count; i++)
        if (advise_ops_any(&facts->layers[i], "conv matmul"))
            ms += advise_layer_ms(facts, &facts->layers[i]);
    return ms;
}

void advise_check_fusion(const struct advise_facts *facts, struct advise_finding *finding)
{
    size_t count;
    if (facts->settings.fusion != FLAG_NO)
        return;
    double ms = sum_layers(facts, finding, could_fuse, &count), step_ms = advise_step_ms(facts);
    double computing = computing_ms(facts), part = ms > 0 ? ms / (ms + computing) : 0;
    double saved = ms * FUSED_SAVES + FUSED_REST * computing * part;
    if (ms < ADVISE_GAIN_LEAST * step_ms || !advise_saves(facts, finding, ms / 2, saved, saved))
        return;
    char names[256];
    advise_say(
        finding,
        "%zu layers of normalising, activation, adding and padding run by themselves and take "
        "%.0f %% of a step: %s",
        count, ms / step_ms * 100, advise_layer_names(facts, finding, count, names, sizeof names));
    advise_formula(
        finding,
        "their time x %.2f, for inside the layer before they move no memory, and %.1f of "
        "what computes and had to write for them",
        FUSED_SAVES, FUSED_REST);
    advise_change(finding, "fusion", "on");
    advise_keras(finding, "model.compile(jit_compile=True)  # XLA fuses them\nmodel.predict(x)");
}

/* ---- A37 ---- */

static bool does_nothing(const struct advise_layer *layer)
{
    return advise_listed("Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout "
                         "GaussianDropout GaussianNoise ActivityRegularization Identity",
                         layer->class_name);
}

void advise_check_idle_layers(const struct advise_facts *facts, struct advise_finding *finding)
{
    size_t count;
    double ms = sum_layers(facts, finding, does_nothing, &count);
    if (!advise_saves(facts, finding, ms / 2, ms, ms))
        return;
    char names[256];
    advise_say(finding, "%s change%s nothing when predicting and take%s %.0f %% of a step",
               advise_layer_names(facts, finding, count, names, sizeof names),
               count == 1 ? "s" : "", count == 1 ? "s" : "", ms / advise_step_ms(facts) * 100);
    advise_formula(finding, "their time");
    advise_act(finding, "leave them out of the model that predicts");
    advise_keras(finding, "# build the model for prediction without these layers, then\n"
                          "# for_prediction.set_weights(model.get_weights())");
}

/* ---- A34 ---- */

static bool steps_through_time(const struct advise_layer *layer)
{
    static const char recurrent[] = "LSTM GRU SimpleRNN RNN Bidirectional ConvLSTM1D ConvLSTM2D "
                                    "ConvLSTM3D StackedRNNCells";
    return advise_listed(recurrent, layer->class_name) && layer->op_count > STEPPING_OPS;
}

void advise_check_unrolled(const struct advise_facts *facts, struct advise_finding *finding)
{
    size_t count;
    double ms = sum_layers(facts, finding, steps_through_time, &count), ops = 0;
    double saved = ms * (1 - 1. / STEPPING_GAIN);
    if (!advise_saves(facts, finding, saved / 2, saved, ms * (1 - 1. / STEPPING_MOST)))
        return;
    for (size_t i = 0; i < finding->layer_count; i++)
        ops += facts->layers[finding->layers[i]].op_count;
    char names[256];
    advise_say(finding,
               "%s run%s step by step as %.0f small ops and take%s %.0f %% of a step: an option of "
               "it keeps it from running as one",
               advise_layer_names(facts, finding, count, names, sizeof names),
               count == 1 ? "s" : "", ops, count == 1 ? "s" : "", ms / advise_step_ms(facts) * 100);
    advise_formula(finding, "their time x (1 - 1/%d), up to (1 - 1/%d)", STEPPING_GAIN,
                   STEPPING_MOST);
    advise_act(finding, "use the standard cell: tanh and sigmoid, GRU with reset_after=True, no "
                        "cell of your own");
    advise_keras(finding,
                 "keras.layers.GRU(units, reset_after=True)  # as cuDNN's\n"
                 "keras.layers.LSTM(units)  # activation tanh, recurrent_activation sigmoid");
}

/* ---- A25, A36 ---- */

/* Kinds of layers that are compared with one another. */
static int kind_of(const struct advise_layer *layer)
{
    return advise_ops_any(layer, "recurrent attention") ? 0
           : advise_ops_any(layer, "conv matmul")       ? 1
                                                        : 2;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median time per FLOP and per byte over the layers of `kind`, but `index`. */
static size_t typical(const struct advise_facts *facts, int kind, size_t index, double *per_flop,
                      double *per_byte)
{
    double *flops = xcalloc(facts->layers_count + 1, sizeof *flops);
    double *bytes = xcalloc(facts->layers_count + 1, sizeof *bytes);
    size_t count = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        double ms = advise_layer_ms(facts, layer);
        if (i == index || kind_of(layer) != kind || !(ms > 0) || !(layer->bytes > 0))
            continue;
        flops[count] = ms / fmax(layer->flops, 1);
        bytes[count++] = ms / layer->bytes;
    }
    qsort(flops, count, sizeof *flops, by_value);
    qsort(bytes, count, sizeof *bytes, by_value);
    *per_flop = count ? flops[count / 2] : (double)NAN;
    *per_byte = count ? bytes[count / 2] : (double)NAN;
    free(flops);
    free(bytes);
    return count;
}

void advise_check_outlier(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), ms = 0, saved = 0, like = 0;
    size_t worst = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        double own = advise_layer_ms(facts, layer), per_flop, per_byte;
        if (own < OUTLIER_SHARE * step_ms || !(layer->bytes > 0) || kind_of(layer) == 0 ||
            typical(facts, kind_of(layer), i, &per_flop, &per_byte) < OUTLIER_LIKE)
            continue;
        double expected = fmax(layer->flops * per_flop, layer->bytes * per_byte);
        if (own > OUTLIER_RATIO * expected && own - expected > saved) {
            saved = own - expected;
            worst = i;
            ms = own;
            like = expected;
        }
    }
    if (!advise_saves(facts, finding, saved / 2, saved, ms))
        return;
    advise_layer_add(facts, finding, worst);
    advise_say(
        finding,
        "%.100s takes %.3g ms, %.0f %% of a step; at the speed of the other layers of its kind "
        "its work would take %.3g ms",
        facts->layers[worst].label, ms, ms / step_ms * 100, like);
    advise_formula(finding, "its time - the larger of FLOPs and bytes at the others' median rate");
    advise_act(finding, "kernels %.100s; whatif %.100s=%.0fx", facts->layers[worst].name,
               facts->layers[worst].name, ms / like);
}

void advise_check_dominant(const struct advise_facts *facts, struct advise_finding *finding)
{
    double step_ms = advise_step_ms(facts), most = 0;
    size_t at = 0, timed = 0;
    for (size_t i = 0; i < facts->layers_count; i++) {
        double ms = advise_layer_ms(facts, &facts->layers[i]);
        timed += ms > 0;
        if (ms > most) {
            most = ms;
            at = i;
        }
    }
    if (timed < 3 || !(most > DOMINANT_SHARE * step_ms))
        return;
    advise_layer_add(facts, finding, at);
    advise_tell(finding, ADVISE_NOTE,
                "%.100s takes %.0f %% of a step: all others together gain at most %.2f times, it "
                "alone %.2f",
                facts->layers[at].label, most / step_ms * 100, step_ms / most,
                step_ms / fmax(step_ms - most, 1e-9));
}

/* ---- A62 ---- */

void advise_check_fallback(const struct advise_facts *facts, struct advise_finding *finding)
{
    double ms = 0;
    size_t count = 0;
    if (!advise_on_gpu(facts))
        return;
    for (size_t i = 0; i < facts->layers_count; i++) {
        const struct advise_layer *layer = &facts->layers[i];
        if (!strstr(layer->impl, "cpu"))
            continue;
        ms += advise_layer_ms(facts, layer);
        count++;
        advise_layer_add(facts, finding, i);
    }
    double saved = fmax(ms, advise_step_ms(facts) * advise_share(facts, facts->ledger.copy_ms) / 2);
    if (count == 0 || !advise_saves(facts, finding, saved / 2, saved * 0.9, saved))
        return;
    char names[256];
    advise_say(finding, "%s run%s on the CPU, with copies there and back: %.0f %% of a step",
               advise_layer_names(facts, finding, count, names, sizeof names),
               count == 1 ? "s" : "", saved / advise_step_ms(facts) * 100);
    advise_formula(finding, "their time, copies within it, x 0.9");
    advise_act(finding,
               "replace the layer by one that the GPU part has, or end the model before it");
}
