/* A model: what a Keras file holds, after checking and before lowering.
 *
 * engine/keras makes models; engine/graph lowers them. A model never changes after model_load().
 * Nested models are inlined: their layers appear in `layers` with a path ("base/conv1"), and the
 * nested model itself is no layer. Names are Keras names; they come from a file and must be cleaned
 * (text_clean) before they reach a terminal.
 *
 * What the reader promises to the lowering, whatever wrote the file:
 * - config: Keras 3 keys. Initializers, regularizers and constraints are left out. Added:
 *   "_keras_major" (2 or 3; 2 includes tf.keras and tf-keras) and, in UpSampling2D of writers that
 *   did not sample at pixel centres, "_asymmetric": true, and in Bidirectional of those that did not zero
 *   what masked steps put out, "_keep_masked_output": true, and in layers that merge or concatenate,
 *   of those that did so without heeding masks, "_merge_masked": true. "dtype" is the policy's
 *   name; an activation is a name ("linear", never null; "silu", never "swish") or {"class_name", "config"}. Wrapped
 *   layers ("layer", "backward_layer", "cell", "cells") are {"class_name", "config"}, canonical too.
 *   Infinity arrives as 1.79e308 (infinite as a float) and NaN as the string "?".
 * - args, kwargs: lists, numbers, strings and null as in Python; a tensor is {"tensor": i}; the rest
 *   is {"class_name", "config"}: "__slice__" {start, stop, step}, "__ellipsis__" {}, "__numpy__"
 *   {value: nested lists, dtype: name or null}. kwargs "mask", "training" and "name" that are null
 *   (or "training": false) are left out.
 * - Keras 2's op layers (TFOpLambda, SlicingOpLambda, TensorFlowOpLayer) arrive as the "ops.*" nodes
 *   that Keras 3 would write, their fixed parameters in config. An op class that is not known keeps
 *   its symbol: "ops.tf.signal.stft".
 * - A layer that merges tensors gets one list: args [[{"tensor":0}, {"tensor":1}]]. RNN state is
 *   kwargs "initial_state".
 * - Input layers of nested models are inlined away; those of the model itself are nodes without
 *   inputs. A layer that nothing calls has no node.
 * - Wrappers (Bidirectional, TimeDistributed, RNN ...) are one layer with the weights of all they
 *   wrap, in order.
 * - Float weights are float32.
 *
 * Ownership: everything belongs to the model and dies with model_free(). Weight data are views into
 * a read-only mapping of the file where the file allows it, else into one memory file.
 * Threads: immutable, so any thread may read.
 */
#ifndef LAYERTOP_ENGINE_MODEL_H
#define LAYERTOP_ENGINE_MODEL_H

#include "engine/error.h"
#include "engine/tensor.h"
#include <jansson.h>
#include <stdatomic.h>

struct model_weight {
    char *name; /* last component without ":0": "kernel", "moving_mean" */
    enum dtype dtype;
    struct shape shape;
    const void *data; /* host, little endian, C order; at any byte of the file: copy what is read */
    uint64_t bytes;
};

struct model_layer {
    char *name;       /* Keras name, unique within its (nested) model */
    char *path;       /* unique in this model: nested names joined by '/' */
    char *class_name; /* canonical Keras 3 spelling: "Conv2D", "ReLU"; op nodes: "ops.Add" */
    json_t *config;   /* the layer's config, Keras 3 spelling, defaults not filled in */
    bool is_op;       /* an op node (keras.ops.*), not a layer */
    struct model_weight *weights; /* in the order of Keras's own layer.weights */
    size_t weight_count;
    uint64_t parameters; /* elements over all weights */
};

/* One tensor: output `output` of call `node`. */
struct model_ref {
    int node;
    int output;
};

/* One call of a layer. Nodes are topologically sorted: inputs come from lower indices. A shared
 * layer has several nodes. */
struct model_node {
    int layer;
    int call;                 /* 0 for the first call of this layer */
    struct model_ref *inputs; /* every tensor of args, then kwargs, in order of appearance */
    size_t input_count;
    json_t *args;   /* array; a tensor is {"tensor": index into inputs} */
    json_t *kwargs; /* object, same convention */
};

struct model_port {
    char *name; /* input layer's name; for outputs the producing layer's name or the dict key */
    struct model_ref tensor;
    struct shape shape; /* inputs: dims[0] and any open dim are DIM_UNKNOWN */
    enum dtype dtype;
};

struct model {
    char *name;
    char *file;          /* path as given, or "demo:digits" */
    char *format;        /* "h5", "keras", "folder", "json+weights", "demo" */
    char *writer;        /* "Keras 3.16.0", "tf.keras 2.15.0" or "unknown" */
    char *keras_version; /* "" if the file does not say */
    char *backend;       /* backend attribute, "" if none */
    char *dtype_policy;  /* "float32", "mixed_float16" ... */
    char *preprocess;    /* "caffe", "tf", "torch", "none": how the family treats RGB 0..255; "" if
                            not known */
    json_t *ignored;     /* array of strings: "optimizer state", "loss and metrics (compile() is not
                            needed to predict)" ... */
    json_t *architecture; /* as in the file: {"class_name", "config", ...}, to be written again;
                             NULL if it is larger than is kept, or the model is a part of it */
    struct model_layer *layers;
    size_t layer_count;
    struct model_node *nodes;
    size_t node_count;
    struct model_port *inputs;
    size_t input_count;
    struct model_port *outputs;
    size_t output_count;
    uint64_t parameters;
    uint64_t weight_bytes;
    struct model_storage
        *storage; /* what the weight data lie in; NULL if there is nothing to free */
};

/* Whoever makes a model puts this first in a struct of its own. */
struct model_storage {
    void (*release)(struct model_storage *storage); /* frees the storage itself too */
};

struct model_options {
    const char *weights;       /* separate weights file for a JSON architecture, or NULL */
    const struct shape *shape; /* binds open dims of the first input, or NULL */
    const json_t *map;         /* {"MyLayer": "Dense"}: classes by another name, or NULL */
    const json_t *outputs;     /* ["layer", ...]: end the model at these, or NULL */
    const atomic_bool *cancel; /* true while the file is read: ERROR_INTERRUPTED; or NULL */
    bool recipe;     /* accept an architecture with a recipe for its weights (demo:NAME) */
    bool unconfined; /* read in this process: for sanitizer and fuzz runs only */
};

/* Load a model file or folder: kind told by content, never by name. The reading of untrusted bytes
 * happens in a short-lived confined child process (resource limits, system-call filter) that gets
 * the open descriptor; this process only checks bounds and maps weights. Returns NULL and fills
 * *error: ERROR_MODEL_*, with a hint. */
struct model *model_load(const char *path, const struct model_options *options,
                         struct error *error);
/* What to do about a model `file` that cannot be loaded or lowered: a hint for an ERROR_MODEL_* that
 * has none of its own. Returns false. */
bool model_error_hint(struct error *error, const char *file);
/* Every pointer of the model is freed (strings and arrays were malloc'ed), its JSON released, then
 * its storage. NULL is allowed. */
void model_free(struct model *model);

/* Index of a layer by exact name or path, -1 if there is none or the name is ambiguous. */
int model_find_layer(const struct model *model, const char *name);

/* The model as the front sees it: {name, file, format, writer, keras_version, backend,
 * dtype_policy, ignored[], parameters, weight_bytes, inputs[]{name,shape,dtype}, outputs[],
 * layers[]{name, path, class, is_op, parameters, calls}}. New reference. */
json_t *model_describe(const struct model *model);

#endif
