/* Reading a Keras file: what the files of engine/keras share.
 *
 * load.c opens and maps the files, starts a confined child (confine.c) and checks its reply
 * (receive.c). Everything else runs inside that child, on bytes nobody has checked:
 *
 *   source.c     which container is it? the architecture as JSON, the weights as an HDF5 image
 *   shards.c     weights that lie in several HDF5 files
 *   unfold.c     weights whose paths Windows wrote
 *   network.c    the tree of layers and nested models, and their calls           (inbound.c)
 *   trace.c      nested models inlined, calls in topological order
 *   config.c     class names and config keys in Keras 3 spelling       (tfop.c, tfnode.c)
 *   cut.c        a model that ends at layers the user named
 *   variables.c  which variables a layer class has, in Keras's order
 *   bind.c       which dataset of the file is which variable       (bind_legacy.c, bind_v3.c,
 *                                                                   bind_shared.c)
 *   convert.c    weights that other writers stored otherwise                     (keras1.c)
 *   recipe.c     a demo model's weights are drawn, not read
 *
 * The child's answer is one JSON object, `reply`: either {"error": {...}} or the model, where a
 * weight is {"name", "dtype", "shape", "place", "offset", "bytes"}.
 */
#ifndef LAYERTOP_ENGINE_KERAS_READER_H
#define LAYERTOP_ENGINE_KERAS_READER_H

#include "engine/error.h"
#include "engine/tensor.h"

#include <hdf5.h>
#include <jansson.h>

/* Ceilings no honest model comes near; past them the file is refused. */
#define KERAS_CONFIG_BYTES_MAX (64u << 20)
#define KERAS_KEPT_BYTES_MAX   (16u << 20) /* of an architecture, to be written again */
#define KERAS_JSON_DEPTH_MAX   512
#define KERAS_OBJECTS_MAX      (16u << 16) /* of a configuration: 16 a layer */
#define KERAS_LAYERS_MAX       65536
#define KERAS_NODES_MAX        65536
#define KERAS_NESTING_MAX      32
#define KERAS_WEIGHTS_MAX      262144
#define KERAS_SHARDS_MAX       4096

struct keras_bytes {
    const unsigned char *data; /* a read-only mapping; NULL if there is no such file */
    size_t size;
};

/* Where the bytes of a weight lie: shard i of the weights is place PLACE_SHARDS + i. */
enum keras_place { PLACE_MAIN, PLACE_WEIGHTS, PLACE_MEMORY, PLACE_SHARDS };

/* The memory file for decoded data: mapped once over its whole limit so that it never moves, grown
 * by ftruncate. */
struct keras_memory {
    int fd;
    unsigned char *data;
    size_t used;
    size_t limit;
};

/* Room for `bytes` more, 64-byte aligned; returns its offset, or SIZE_MAX past the limit. */
size_t keras_memory_take(struct keras_memory *memory, size_t bytes);

/* One of the HDF5 files that hold the weights of a model in turns. */
struct keras_shard {
    char *name; /* "model_00003.weights.h5": as its map must call it */
    struct keras_bytes bytes;
};

/* Where weights may lie, by number of their place. */
struct keras_places {
    struct keras_bytes *items;
    size_t count;
};

struct keras_files {
    const char *name;            /* the path as given, for messages */
    struct keras_bytes main;     /* .h5, .keras, architecture JSON, or a folder's config.json */
    struct keras_bytes weights;  /* a separate weights file, or the map of the shards */
    struct keras_bytes metadata; /* a folder's metadata.json */
    struct keras_shard *shards;  /* those that lie beside the map, in order */
    size_t shard_count;
    bool folder;
    bool recipe;               /* an architecture with a recipe for its weights is welcome */
    const struct shape *shape; /* binds open dims of the first input; NULL if not given */
    json_t *map;               /* class in the file → class it is; NULL if not given */
    json_t *outputs;           /* layers to end at; NULL if not given */
    struct keras_memory *memory;
};

/* An HDF5 file in memory, opened so that it can name no other file. */
struct h5 {
    hid_t file;
    const char *name;
    struct keras_bytes image;
    int place; /* image.data[0] is byte `offset` of this place */
    size_t offset;
    struct keras_memory *memory;
};

/* lzf.c: make HDF5 decode what h5py compressed with "lzf". */
#define LZF_FILTER 32000
bool lzf_register(void);

bool h5_open(struct h5 *h5, struct error *error);
void h5_close(struct h5 *h5);
/* unfold.c: where Windows joined paths by backslashes, link the groups as the paths say. */
bool h5_unfold(struct h5 *h5, struct error *error);
/* Follow `path` from `parent` through hard links only. A negative id: absent, or refused with
 * error->code set. Close with H5Oclose. */
hid_t h5_find(hid_t parent, const char *path, struct error *error);
hid_t h5_find_group(hid_t parent, const char *path, struct error *error);
bool h5_has(hid_t parent, const char *path);
/* A string attribute as new text, NULL if absent or unreadable. Free with free(). */
char *h5_text(hid_t object, const char *name);
/* An attribute that lists strings (NAME, or NAME0, NAME1, ... if Keras split it), NULL if absent. */
json_t *h5_texts(hid_t object, const char *name);
/* Names of the links in a group, sorted, at most `most`. (Those that are no hard ones are refused
 * where they are followed.) */
json_t *h5_names(hid_t group, size_t most);
/* Is there a dataset under this group, at most `depth` levels down? */
bool h5_has_data(hid_t group, int depth);
/* Describe dataset `path` as a weight called `name`: a view where the bytes can be used as they
 * are, else decoded into the memory file (all floats become float32). NULL: *error is set. */
json_t *h5_weight(struct h5 *h5, hid_t parent, const char *path, const char *name,
                  struct error *error);

/* JSON as Python writes it: NaN becomes "?", Infinity 1.79e308 (which is infinite as a float).
 * `text` is copied. */
json_t *json_read(const void *text, size_t size, const char *what, struct error *error);
/* The string at `key`, or `fallback`. */
const char *json_text(const json_t *object, const char *key, const char *fallback);
/* Is the value at `key` present and neither null nor false? `missing` if the key is absent. */
bool json_truth(const json_t *object, const char *key, bool missing);

struct zip_member {
    bool found;
    bool stored;
    size_t offset; /* stored: in the archive; else in the memory file */
    size_t size;
};
struct zip_found {
    struct zip_member config, metadata, weights;
    bool npz, assets;
};
/* Find a .keras archive's members; a compressed one is inflated into the memory file. */
bool zip_read(const struct keras_files *files, struct zip_found *found, struct error *error);

enum weights_layout { WEIGHTS_NONE, WEIGHTS_LEGACY, WEIGHTS_V3, WEIGHTS_RECIPE };

struct scope;

struct reader {
    const struct keras_files *files;
    struct error *error;
    struct arena *arena;
    json_t *root;   /* the architecture: {"class_name", "config", ...} */
    json_t *mapped; /* classes of files->map that the model has */
    json_t *ignored;
    const char *format;
    char *version; /* "" if unknown */
    char *backend;
    char *preprocess; /* a recipe's, else NULL */
    json_t *recipe;   /* layer path → variables to draw; NULL without */
    int major;        /* 2 or 3 */
    bool keras1;      /* Keras 1: rewritten as Keras 2, its weights are still to be converted */
    bool tf;          /* tf.keras rather than keras.io */
    struct h5 h5;
    struct h5 *shards; /* instead of h5, if the weights are cut into shards */
    size_t shard_count;
    enum weights_layout layout;
    const char *weights_root; /* group that holds the weights: "/model_weights" or "/" */
    struct scope *top;
    json_t *layers; /* reply: array of layers, weights still empty until bound */
    json_t *nodes;
    size_t weight_count;
    uint64_t weight_bytes;
    uint64_t shared_bytes; /* of weights that were given to further layers */
    struct shared *shared; /* while the weights of Keras 3 are bound */
    size_t visits;         /* objects looked at below layers of unknown class */
};

/* Memory that dies with the reader. */
void *reader_alloc(struct reader *reader, size_t bytes);
/* Free all of it. */
void reader_release(struct reader *reader);
char *reader_print(struct reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* One tensor: output `output` of call `call` of child `child` of the same scope; child -1 is the
 * scope's only input (a Sequential without an InputLayer). */
struct tensor_ref {
    int child;
    int call;
    int output;
};

/* One call of a layer; refs in the order in which args and kwargs name them. */
struct call {
    json_t *args, *kwargs; /* owned; a tensor is {"tensor": index into refs} */
    struct tensor_ref *refs;
    size_t ref_count;
    size_t arg_count; /* how many of refs stand in args */
};

/* A layer or a nested model of one scope. */
struct child {
    const char *name;
    const char *class_name; /* canonical */
    json_t *object;         /* as in the file, borrowed */
    json_t *config;         /* canonical, owned */
    struct scope *scope;    /* a nested model, else NULL */
    int layer;              /* index in the reply's layers, -1: nested model or nested input */
    bool is_input, is_op;
    struct call *calls;
    size_t call_count;
};

/* A Functional or Sequential model. */
struct scope {
    const char *path; /* "" for the model itself, else "base/" */
    const char *name;
    bool sequential;
    bool trainable;
    struct child *children;
    size_t child_count;
    json_t *index; /* name → child */
    struct tensor_ref *inputs, *outputs;
    const char **output_names;
    size_t input_count, output_count;
    int *order; /* pairs (child, call), topologically sorted */
    size_t order_count;
};

/* network.c: fill reader->top and the reply's layers. */
bool network_declare(struct reader *reader);
/* trace.c: the reply's nodes, and the model's inputs and outputs. */
bool network_trace(struct reader *reader, json_t **inputs, json_t **outputs);
void network_free(struct scope *scope);

/* cut.c: end the model at the layers that files->outputs names, and leave out what they do not
 * need. Runs last: indices of layers and nodes change. */
bool network_cut(struct reader *reader, json_t *inputs, json_t *outputs);

/* inbound.c: fill child->calls of one layer object from "inbound_nodes". */
bool inbound_read(struct reader *reader, struct scope *scope, struct child *child);
/* A ref tree ([n,i,t], lists or dicts of them) flattened: dicts in the order of their keys. */
bool inbound_flatten(struct reader *reader, struct scope *scope, json_t *tree,
                     struct tensor_ref **refs, const char ***names, size_t *count);

/* config.c: canonical class (allocated in the reader's arena) and a new canonical config. */
json_t *config_normalise(struct reader *reader, const char *class_name, json_t *config,
                         const char **canonical);
/* Is this object an op node rather than a layer? */
bool config_is_op(const struct reader *reader, json_t *object);
bool config_is_model(json_t *object);
/* Does every class that the user mapped occur, and is it mapped to one that runs? To be asked when
 * the layers are declared. */
bool config_map_check(struct reader *reader);

/* tfop.c: rewrite the calls of a TFOpLambda, SlicingOpLambda or TensorFlowOpLayer as a Keras 3 op.
 * Leaves a child it does not know as it is. */
bool tfop_is(const char *class_name);
bool tfop_normalise(struct reader *reader, struct child *child);

/* tfnode.c: give the inputs and attributes of a raw TensorFlow node (TensorFlowOpLayer) the names that
 * they have in a call of TensorFlow's, whose symbol is returned; NULL: not known, nothing changed. */
const char *tfnode_name(struct reader *reader, struct child *child);

/* One variable of a layer. */
struct variable {
    const char *name;
    const char *owner; /* name of the innermost layer */
    const char *path;  /* below the layer's group in a Keras 3 weights file: "cell/vars/0" */
    bool trainable;
};
/* A layer object and which of a list of variables are its own. */
struct object_mark {
    json_int_t id; /* its "shared_object_id", 0 without */
    const char *class_name, *name;
    size_t first, count;
};
struct variables {
    struct variable *items;
    size_t count;
    struct object_mark *objects; /* wrapped ones */
    size_t object_count;
    bool unknown; /* a class whose variables we do not know is among them */
};
/* Append the variables of a layer in the order of Keras's layer.weights. */
void variables_append(struct reader *reader, struct variables *list, const char *class_name,
                      json_t *config, const char *path, bool trainable);
/* Does the layer's policy quantise its weights? *known: we know what they are then (of the classes
 * that have them, or a class without any). */
bool variables_quantised(const char *class_name, json_t *config, bool *known);
/* Keras's file name of a class: "p_re_lu". In the arena. */
const char *variables_snake(struct reader *reader, const char *class_name);

/* recipe.c: an architecture with drawn weights (demo:NAME). */
bool recipe_is(struct keras_bytes bytes);
bool recipe_open(struct reader *reader);
bool recipe_bind(struct reader *reader);

/* bind.c */
bool bind_weights(struct reader *reader);

/* keras1.c: rewrite an architecture of Keras 1 in place, in the spelling of Keras 2. `theano`: what
 * its default dim_ordering was. */
void keras1_rewrite(json_t *root, bool theano);
/* convert.c: put bound weights in the layout of Keras 3. */
bool weights_convert(struct reader *reader);

/* shards.c: is this the map of weights that are cut into shards? */
bool shards_is_map(struct keras_bytes bytes);
/* Open the shards that the map names, all of which must be there. */
bool shards_open(struct reader *reader, struct keras_bytes map);
void shards_close(struct reader *reader);

/* source.c: fill root, version, h5 or shards, and layout. */
bool source_open(struct reader *reader);

/* Read it all: the reply's model, or NULL and *error. */
json_t *keras_read(const struct keras_files *files, struct error *error);

#endif
