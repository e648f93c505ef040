#include "commands/settings.h"

#include "commands/format.h"
#include "commands/parse.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct setting settings[] = {
    {.name = "devices",
     .aliases = WORDS("visible_devices", "set_visible_devices"),
     .type = SETTING_DEVICES,
     .choices = WORDS("auto"),
     .value = "auto",
     .engine = true,
     .summary = "where the model runs: auto, cpu, GPU indices or UUIDs",
     .help =
         "Indices are those of nvidia-smi (PCI order). Accepted: 0, gpu:0, GPU:0, /GPU:0, a\n"
         "UUID, cpu, and lists of them. auto takes GPU 0 if it is proven usable, else the CPU.\n"
         "Several GPUs split the batches; cpu in a list compares CPU and GPU in turns.\n"
         "After `devices 1` index 0 still means nvidia-smi's 0. A change of the visible devices\n"
         "needs a fresh context, hence a fresh worker; what that cost is said.",
     .example = "set devices 0,1"},
    {.name = "batch",
     .aliases = WORDS("batch_size"),
     .type = SETTING_INTEGER,
     .minimum = 1,
     .maximum = 65536,
     .value = "32",
     .engine = true,
     .summary = "samples in one step",
     .help = "A batch that does not fit into memory is refused and the old one stays; `plan 512`\n"
             "says beforehand what a batch would need.",
     .example = "batch 64"},
    {.name = "precision",
     .aliases = WORDS("mixed_precision", "set_global_policy", "dtype_policy", "mixed_float16",
                      "mixed_bfloat16"),
     .type = SETTING_CHOICE,
     .choices = WORDS("fp32", "tf32", "fp16", "bf16", "int8"),
     .value = "fp32",
     .engine = true,
     .summary = "number format of the arithmetic",
     .help =
         "fp32 is strict: no TF32 inside. On a GPU fp16 and bf16 store weights and activations\n"
         "in two bytes and sum in float32; tf32 is for GPUs only. In int8 convolutions and\n"
         "products multiply bytes, with a step for each output channel of the weights and one for\n"
         "each value, which `calibrate` finds on your data; the rest stays fp32 (on a GPU grouped\n"
         "and depthwise convolutions too), and `layers` says which; what it costs is evaluated at\n"
         "once where there are data. Keras's names work: float32, mixed_float16, mixed_bfloat16.",
     .example = "set precision bf16"},
    {.name = "growth",
     .aliases = WORDS("memory_growth", "set_memory_growth", "allow_growth"),
     .type = SETTING_BOOL,
     .value = "on",
     .engine = true,
     .for_gpus = true,
     .summary = "take GPU memory as needed (on) or all at once (off)",
     .help =
         "off reserves at the start what TensorFlow would. Growth changes when memory is taken,\n"
         "not how much is needed; nothing is given back until `mem trim`.",
     .example = "growth off"},
    {.name = "limit",
     .aliases = WORDS("memory_limit"),
     .type = SETTING_SIZE,
     .value = "none",
     .engine = true,
     .summary = "fence around weights, arena and workspace",
     .help = "A size (4GiB), a percentage of the device's total memory (40%) or none. The context\n"
             "and the libraries live outside the fence.",
     .example = "limit 4GiB"},
    {.name = "logical",
     .aliases = WORDS("set_logical_device_configuration", "virtual_devices"),
     .type = SETTING_PARTS,
     .value = "none",
     .engine = true,
     .summary = "make each device several, each with a fence of its own",
     .help = "2x4GiB makes two devices of one, each with weights, arena and workspace within\n"
             "4 GiB; they share the batches as several GPUs do. A fence of memory only: nothing\n"
             "isolates their computing. They are called gpu:0.0, gpu:0.1; the CPU can be cut too.",
     .example = "set logical 2x4GiB"},
    {.name = "compare",
     .type = SETTING_CHOICE,
     .choices = WORDS("turns", "concurrent"),
     .value = "turns",
     .engine = true,
     .summary = "how `devices cpu,0` measures: in turns, or also both at once",
     .help =
         "In turns of at least 0.5 s neither disturbs the other. concurrent measures in turns\n"
         "first, then both at once: `run` shows how much slower each is beside the other. With\n"
         "a pipeline both take their batches from it, one after the other.",
     .example = "set compare concurrent"},
    {.name = "fusion",
     .type = SETTING_BOOL,
     .value = "on",
     .engine = true,
     .summary = "fold batch norm and fuse activations into their layer",
     .help = "off runs and times every Keras layer alone.",
     .example = "fusion off"},
    {.name = "graph",
     .type = SETTING_BOOL,
     .value = "on",
     .engine = true,
     .for_gpus = true,
     .summary = "replay a step as one CUDA graph",
     .help = "Saves the launch of every kernel. Has no effect on the CPU.",
     .example = "set graph off"},
    {.name = "autotune",
     .aliases = WORDS("cudnn_benchmark", "xla_gpu_autotune_level"),
     .type = SETTING_BOOL,
     .value = "on",
     .engine = true,
     .for_gpus = true,
     .summary = "measure other GPU kernels between steps and keep the faster ones",
     .help =
         "The first steps run on what cuDNN's and cuBLASLt's heuristics choose; then other "
         "kernels\n"
         "are timed on the same buffers, a few in a pause, within the memory that is there, and a\n"
         "note says what was replaced. What was measured is kept in "
         "$XDG_CACHE_HOME/layertop/plans\n"
         "for the next start. off: the heuristics' choice, always. Has no effect on the CPU.",
     .example = "set autotune off"},
    {.name = "layout",
     .aliases = WORDS("data_format", "image_data_format"),
     .type = SETTING_CHOICE,
     .choices = WORDS("nhwc", "nchw"),
     .value = "nhwc",
     .engine = true,
     .for_gpus = true,
     .summary = "memory layout of GPU convolutions",
     .help =
         "nchw turns each convolution's input to channels first and its output back, so that the\n"
         "difference can be measured: the turning counts as the layer's own kernels. Keras's\n"
         "names work: channels_last, channels_first. Has no effect on the CPU.",
     .example = "set layout nchw"},
    {.name = "host_memory",
     .aliases = WORDS("pin_memory"),
     .type = SETTING_CHOICE,
     .choices = WORDS("pinned", "pageable"),
     .value = "pinned",
     .engine = true,
     .for_gpus = true,
     .summary = "the host's side of inputs and outputs: pinned or pageable memory",
     .help =
         "Pinned memory cannot be moved by the system, so that a GPU copies it by itself, at the\n"
         "bus's speed and behind the host's back. pageable is what malloc() and NumPy give: the\n"
         "driver copies it a second time, and the call waits. `run` tells which copies were "
         "which.\n"
         "PyTorch's pin_memory works: true, false. Has no effect on the CPU.",
     .example = "set host_memory pageable"},
    {.name = "profile",
     .type = SETTING_CHOICE,
     .choices = WORDS("auto", "cupti", "events", "clock", "off"),
     .value = "auto",
     .engine = true,
     .summary = "where the time of layers comes from",
     .help =
         "cupti: the GPU's own records; events: CUDA events around each layer; clock: the host's\n"
         "clock; auto: the best of these that works; off: nothing is measured but whole steps.",
     .example = "profile off"},
    {.name = "threads",
     .aliases = WORDS("intra_op_parallelism_threads", "num_threads"),
     .type = SETTING_INTEGER,
     .choices = WORDS("auto"),
     .minimum = 0,
     .maximum = 1024,
     .value = "0",
     .engine = true,
     .summary = "CPU threads, 0 = all allowed physical cores",
     .help = "",
     .example = "threads 4"},
    {.name = "slice",
     .aliases = WORDS("micro_batch"),
     .type = SETTING_INTEGER,
     .choices = WORDS("auto", "off"),
     .minimum = 0,
     .maximum = 65536,
     .value = "auto",
     .engine = true,
     .summary = "CPU: samples that run through the whole network together",
     .help =
         "A big batch may run as several slices, so that a layer finds in the cache what the one\n"
         "before it wrote; the arena is then that of a slice. A layer's time is the sum over the\n"
         "slices. auto slices where that is faster, off never. Models that mix the samples of a\n"
         "batch are not sliced.",
     .example = "slice off"},
    {.name = "prune",
     .type = SETTING_TEXT,
     .value = "off",
     .engine = true,
     .summary = "share of the weights that are set to zero, or 2:4",
     .help = "off; a fraction of each convolution's and dense layer's weights (0.5, 50%), the\n"
             "smallest first; 2:4: two of every four along the inputs. `help prune` says more.",
     .example = "set prune 0.5"},
    {.name = "seed",
     .aliases = WORDS("random_seed"),
     .type = SETTING_INTEGER,
     .minimum = 0,
     .maximum = UINT32_MAX,
     .value = "0",
     .engine = true,
     .summary = "seed of the random input",
     .help = "",
     .example = "seed 42"},
    {.name = "fallback",
     .aliases = WORDS("soft_device_placement"),
     .type = SETTING_CHOICE,
     .choices = WORDS("error", "cpu"),
     .value = "error",
     .engine = true,
     .summary = "what to do with a layer that the GPU part lacks",
     .help = "error names the layer; cpu runs its op on the CPU, with copies there and back, and\n"
             "marks it: `layers` shows cpu for what runs it. Such a step is no CUDA graph.",
     .example = "set fallback cpu"},
    {.name = "input",
     .type = SETTING_TEXT,
     .value = "random",
     .engine = true,
     .summary = "what the steps compute on: random or a file of the worker's",
     .help =
         "random, or a .npy, .npz, HDF5 dataset (FILE.h5:NAME), PNG or JPEG. Never zeros: zeros\n"
         "are faster than data on some hardware.",
     .example = "set input random"},
    {.name = "preprocess",
     .aliases = WORDS("preprocess_input"),
     .type = SETTING_CHOICE,
     .choices = WORDS("auto", "none", "tf", "caffe", "torch", "unit", "per_image"),
     .value = "auto",
     .engine = true,
     .summary = "how pictures are scaled before the model gets them",
     .help =
         "Keras's preprocess_input on values 0..255: tf: x/127.5-1; caffe: BGR minus the ImageNet\n"
         "means; torch: x/255, then ImageNet's mean and deviation; none: as they are. "
         "TensorFlow's:\n"
         "unit: x/255, convert_image_dtype of bytes (it leaves floats alone: after a resize it "
         "does\n"
         "nothing); per_image: per_image_standardization of the resized picture. auto: the\n"
         "demo model's own, none if the model scales by itself, else by the name that Keras gives\n"
         "its applications (vgg16, resnet50, mobilenetv2_1.00_224 ...), else none.",
     .example = "set preprocess tf"},
    {.name = "interpolation",
     .type = SETTING_CHOICE,
     .choices = WORDS("antialias", "bilinear", "nearest"),
     .value = "antialias",
     .engine = true,
     .summary = "how pictures are resized",
     .help =
         "antialias: every pixel counts, tf.image.resize(antialias=True) and Pillow's BILINEAR;\n"
         "bilinear: of four neighbours, as tf.image.resize is called mostly; nearest: as\n"
         "keras.utils.load_img is. Models want what they were trained with.",
     .example = "set interpolation bilinear"},
    {.name = "pipeline",
     .type = SETTING_CHOICE,
     .choices = WORDS("off", "serial", "overlap"),
     .value = "off",
     .engine = true,
     .summary = "does a step decode, resize and scale its pictures: off, serial or overlap",
     .help =
         "off: the input is ready before the steps, and their wall begins after it. serial: each\n"
         "step makes its batch first, out of JPEGs in memory: those of `input`, or made-up ones\n"
         "(`picture`). overlap: threads prepare the next batch meanwhile. The ledger's\n"
         "preprocess is what a step waited for it, hidden_preprocess what passed behind it.",
     .example = "set pipeline serial"},
    {.name = "preprocess_on",
     .type = SETTING_CHOICE,
     .choices = WORDS("cpu", "gpu"),
     .value = "cpu",
     .engine = true,
     .summary = "who resizes and scales the pipeline's pictures: cpu or gpu",
     .help =
         "gpu: the pipeline only decodes; the bytes are copied as they are, and kernels of ours\n"
         "resize and scale them, by the same rules. With `pipeline overlap` the next batch is\n"
         "copied while a step runs, on a stream of its own. Fewer bytes are copied as long as\n"
         "pictures have less than four times the input's pixels. For one GPU, and float32 inputs.",
     .example = "set preprocess_on gpu"},
    {.name = "mapping",
     .type = SETTING_CHOICE,
     .choices = WORDS("picture", "batch"),
     .value = "picture",
     .engine = true,
     .summary = "does the pipeline go picture by picture or stage by stage",
     .help =
         "picture: each picture through all stages, as tf.map_fn and Dataset.map before batch;\n"
         "batch: all pictures through a stage, then through the next.",
     .example = "set mapping batch"},
    {.name = "parallel_calls",
     .aliases = WORDS("num_parallel_calls"),
     .type = SETTING_INTEGER,
     .minimum = 1,
     .maximum = 64,
     .value = "1",
     .engine = true,
     .summary = "threads of the pipeline",
     .help = "Dataset.map's num_parallel_calls. They share the processors with the model's.",
     .example = "set parallel_calls 4"},
    {.name = "picture",
     .type = SETTING_TEXT,
     .value = "500x375",
     .engine = true,
     .summary = "size of the pipeline's made-up pictures: width and height",
     .help = "With `input random` the pipeline decodes made-up JPEGs (quality 90) of this size.",
     .example = "set picture 1280x720"},
    {.name = "labels",
     .type = SETTING_TEXT,
     .value = "none",
     .engine = true,
     .summary = "names of the classes: a text file of the worker's, one a line",
     .help = "none: `predict` says the numbers of classes; demo:digits has names of its own.",
     .example = "labels none"},
    {.name = "warmup",
     .type = SETTING_INTEGER,
     .choices = WORDS("auto"),
     .minimum = 0,
     .maximum = 1000000,
     .value = "auto",
     .unit = "steps",
     .summary = "steps of `run` before the measured ones",
     .help = "auto warms up until the engine sees fit.",
     .example = "warmup 20"},
    {.name = "refresh",
     .type = SETTING_TIME,
     .minimum = 33,
     .maximum = 10000,
     .value = "100ms",
     .unit = "ms",
     .summary = "time between two frames of the screen",
     .help = "33ms to 10s.",
     .example = "refresh 250ms"},
    {.name = "symbols",
     .type = SETTING_CHOICE,
     .choices = WORDS("auto", "utf8", "block", "ascii"),
     .value = "auto",
     .summary = "braille (utf8), blocks or ASCII in plots and bars",
     .help = "auto goes by the locale and the terminal; block suits fonts without braille.",
     .example = "symbols ascii"},
    {.name = "theme",
     .type = SETTING_CHOICE,
     .choices = WORDS("default", "mono", "colourblind"),
     .value = "default",
     .summary = "colours of the screen",
     .help = "",
     .example = "theme colourblind"},
    {.name = "mouse",
     .type = SETTING_BOOL,
     .value = "on",
     .summary = "does the screen take the mouse",
     .help = "off leaves selecting text to the terminal.",
     .example = "mouse off"},
    {.name = "color",
     .aliases = WORDS("colour"),
     .type = SETTING_CHOICE,
     .choices = WORDS("auto", "off"),
     .value = "auto",
     .summary = "colour on the screen; NO_COLOR turns it off too",
     .help = "",
     .example = "color off"},
    {.name = "sort",
     .type = SETTING_CHOICE,
     .choices = WORDS("time", "order", "name", "flops", "bytes"),
     .value = "time",
     .summary = "order of the layer table on the screen",
     .help = "order is the model's own.",
     .example = "sort order"},
    {.name = "span",
     .type = SETTING_TIME,
     .minimum = 5000,
     .maximum = 86400000,
     .value = "60s",
     .unit = "ms",
     .summary = "time that the plots on the screen show",
     .help = "5s to a day; the keys [ and ] halve and double it.",
     .example = "span 5min"},
};

/* Words of other programs for our values. */
static const struct {
    const char *setting, *theirs, *ours;
} value_aliases[] = {
    {"preprocess", "convert_image_dtype", "unit"},
    {"preprocess", "per_image_standardization", "per_image"},
    {"precision", "float32", "fp32"},
    {"precision", "f32", "fp32"},
    {"precision", "tensorfloat32", "tf32"},
    {"precision", "float16", "fp16"},
    {"precision", "mixed_float16", "fp16"},
    {"precision", "half", "fp16"},
    {"precision", "f16", "fp16"},
    {"precision", "bfloat16", "bf16"},
    {"precision", "mixed_bfloat16", "bf16"},
    {"layout", "channels_last", "nhwc"},
    {"layout", "channels_first", "nchw"},
    {"host_memory", "true", "pinned"},
    {"host_memory", "on", "pinned"},
    {"host_memory", "false", "pageable"},
    {"host_memory", "off", "pageable"},
    {"profile", "event", "events"},
    {"symbols", "utf-8", "utf8"},
    {"symbols", "unicode", "utf8"},
    {"theme", "colorblind", "colourblind"},
    {"fallback", "true", "cpu"},
    {"fallback", "on", "cpu"},
    {"fallback", "false", "error"},
    {"fallback", "off", "error"},
    {"color", "on", "auto"},
};

size_t setting_count(void)
{
    return sizeof settings / sizeof *settings;
}

const struct setting *setting_at(size_t index)
{
    return &settings[index];
}

static bool is_alias(const struct setting *setting, const char *word)
{
    for (const char *const *alias = setting->aliases; alias && *alias; alias++)
        if (strcmp(*alias, word) == 0)
            return true;
    return false;
}

/* The nearest of all names and aliases, as our own name; NULL: none is near. */
static const char *nearest_name(const char *word)
{
    const char *names[8 * (sizeof settings / sizeof *settings)], *near;
    const struct setting *owners[sizeof names / sizeof *names];
    size_t count = 0;
    for (size_t i = 0; i < setting_count(); i++) {
        owners[count] = &settings[i];
        names[count++] = settings[i].name;
        for (const char *const *alias = settings[i].aliases; alias && *alias; alias++) {
            owners[count] = &settings[i];
            names[count++] = *alias;
        }
    }
    near = nearest_word(word, names, count);
    for (size_t i = 0; near && i < count; i++)
        if (names[i] == near)
            return owners[i]->name;
    return NULL;
}

const struct setting *setting_find(const char *word, struct error *error)
{
    const struct setting *found = NULL;
    char list[256] = "";
    int matches = 0;
    for (size_t i = 0; i < setting_count(); i++) {
        if (strcmp(settings[i].name, word) == 0 || is_alias(&settings[i], word))
            return &settings[i];
        if (*word && strncmp(settings[i].name, word, strlen(word)) == 0) {
            size_t used = strlen(list);
            snprintf(list + used, sizeof list - used, "%s%s", matches ? ", " : "",
                     settings[i].name);
            found = &settings[i];
            matches++;
        }
    }
    if (matches == 1)
        return found;
    if (matches > 1) {
        error_set(error, ERROR_UNKNOWN_COMMAND, word, "ambiguous setting, could be: %s", list);
        return NULL;
    }
    const char *near = nearest_name(word);
    error_set(error, ERROR_UNKNOWN_COMMAND, word,
              near ? "unknown setting; did you mean '%s'?" : "unknown setting", near);
    error_hint(error, near ? "show %s" : "show", near);
    return NULL;
}

static const char *our_word(const struct setting *setting, const char *text)
{
    for (size_t i = 0; i < sizeof value_aliases / sizeof *value_aliases; i++)
        if (strcmp(value_aliases[i].setting, setting->name) == 0 &&
            strcasecmp(value_aliases[i].theirs, text) == 0)
            return value_aliases[i].ours;
    return text;
}

static void join(const char *const *words, const char *separator, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (; *words && used < size; words++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", used ? separator : "", *words);
}

static json_t *parse_choice(const struct setting *setting, const char *text, const char *what,
                            struct error *error)
{
    char list[128];
    const char *found = NULL;
    int matches = 0;
    for (const char *const *choice = setting->choices; *choice; choice++) {
        if (strcasecmp(*choice, text) == 0)
            return json_string(*choice);
        if (*text && strncasecmp(*choice, text, strlen(text)) == 0) {
            found = *choice;
            matches++;
        }
    }
    if (matches == 1)
        return json_string(found);
    join(setting->choices, ", ", list, sizeof list);
    size_t count = 0;
    while (setting->choices[count])
        count++;
    const char *near = nearest_word(text, setting->choices, count);
    error_set(error, ERROR_VALUE, what, "'%s' is none of %s", text, list);
    error_hint(error, near ? "set %s %s" : "help %s", setting->name, near);
    return NULL;
}

static json_t *parse_bool(const struct setting *setting, const char *text, const char *what,
                          struct error *error)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};
    for (size_t i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return json_true();
        if (strcasecmp(text, no[i]) == 0)
            return json_false();
    }
    error_set(error, ERROR_VALUE, what, "'%s' is neither on nor off", text);
    error_hint(error, "set %s %s", setting->name, strcmp(setting->value, "on") == 0 ? "off" : "on");
    return NULL;
}

static json_t *parse_limit(const char *text, const char *what, struct error *error)
{
    char *end;
    if (strcasecmp(text, "none") == 0)
        return json_null();
    size_t length = strlen(text);
    if (length > 1 && text[length - 1] == '%') {
        double percent = strtod(text, &end);
        if (end == text + length - 1 && percent > 0 && percent <= 100) {
            char number[32];
            snprintf(number, sizeof number, "%g%%", percent);
            return json_string(number);
        }
        error_set(error, ERROR_VALUE, what, "'%s' is not a percentage above 0%% and up to 100%%",
                  text);
        return NULL;
    }
    uint64_t bytes;
    if (!parse_size(text, what, &bytes, error)) {
        error_hint(error, "limit 4GiB");
        return NULL;
    }
    if (bytes == 0) {
        error_set(error, ERROR_VALUE, what, "a limit of 0 leaves no memory at all");
        error_hint(error, "limit none");
        return NULL;
    }
    return json_integer((json_int_t)bytes);
}

static json_t *parse_parts(const char *text, const char *what, struct error *error)
{
    char *end;
    uint64_t bytes = 0;
    if (strcasecmp(text, "none") == 0)
        return json_null();
    long count = strtol(text, &end, 10);
    if (count >= 1 && count <= 16 && *end == 'x' && parse_size(end + 1, what, &bytes, NULL) &&
        bytes > 0)
        return json_pack("{s:i, s:I}", "count", (int)count, "bytes", (json_int_t)bytes);
    error_set(error, ERROR_VALUE, what, "'%s' is neither none nor COUNTxSIZE with 1 to 16 devices",
              text);
    error_hint(error, "set logical 2x4GiB");
    return NULL;
}

static json_t *parse_devices(const char *text, struct error *error)
{
    if (strcasecmp(text, "auto") == 0)
        return json_string("auto");
    json_t *list = json_array();
    char *copy = xstrdup(text), *rest = copy, *item;
    bool ok = true;
    while (ok && (item = strsep(&rest, ",")) != NULL) {
        char device[80];
        while (*item == ' ')
            item++;
        ok = parse_device(item, device, sizeof device, error);
        size_t index;
        json_t *other;
        json_array_foreach(list, index,
                           other) if (ok && strcmp(json_string_value(other), device) == 0) ok =
            error_set(error, ERROR_VALUE, "devices", "%s stands twice in '%s'", device, text);
        if (ok)
            json_array_append_new(list, json_string(device));
    }
    free(copy);
    if (!ok) {
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *setting_parse(const struct setting *setting, const char *text, struct error *error)
{
    char what[64];
    int64_t integer;
    double milliseconds;
    snprintf(what, sizeof what, "set %s", setting->name);
    text = our_word(setting, text);
    switch (setting->type) {
    case SETTING_CHOICE:
        return parse_choice(setting, text, what, error);
    case SETTING_BOOL:
        return parse_bool(setting, text, what, error);
    case SETTING_INTEGER:
        if (setting->choices && strcasecmp(text, "auto") == 0)
            return strcmp(setting->value, "auto") == 0 ? json_string("auto")
                                                       : json_integer(atoll(setting->value));
        for (const char *const *word = setting->choices; word && *word; word++) {
            if (strcasecmp(*word, text) == 0)
                return json_string(*word);
        }
        if (!parse_integer(text, setting->minimum, setting->maximum, what, &integer, error)) {
            error_hint(error, "%s", setting->example);
            return NULL;
        }
        return json_integer(integer);
    case SETTING_SIZE:
        return parse_limit(text, what, error);
    case SETTING_PARTS:
        return parse_parts(text, what, error);
    case SETTING_TIME:
        if (!parse_time(text, what, &milliseconds, error)) {
            error_hint(error, "%s", setting->example);
            return NULL;
        }
        if (milliseconds < (double)setting->minimum || milliseconds > (double)setting->maximum) {
            char least[32], most[32];
            error_set(error, ERROR_VALUE, what, "'%s' is not a time from %s to %s", text,
                      setting_format_time((double)setting->minimum, least, sizeof least),
                      setting_format_time((double)setting->maximum, most, sizeof most));
            error_hint(error, "%s", setting->example);
            return NULL;
        }
        return json_real(milliseconds);
    case SETTING_DEVICES:
        return parse_devices(text, error);
    case SETTING_TEXT:
        if (!*text) {
            error_set(error, ERROR_VALUE, what, "an empty value means nothing");
            error_hint(error, "%s", setting->example);
            return NULL;
        }
        return json_string(text);
    }
    return NULL;
}

static char *format_list(const json_t *list, char *out, size_t size)
{
    size_t used = 0, index;
    json_t *item;
    *out = '\0';
    json_array_foreach((json_t *)(uintptr_t)list, index,
                       item) if (used < size && json_is_string(item)) used +=
        (size_t)snprintf(out + used, size - used, "%s%s", index ? "," : "",
                         json_string_value(item));
    return out;
}

char *setting_format_time(double milliseconds, char *out, size_t size)
{
    const struct {
        const char *name;
        double one, least, step; /* so that 60s, 90s and 1.5s stay as they were typed */
    } units[] = {{"h", 3600e3, 7200e3, 3600e3}, {"min", 60e3, 120e3, 60e3}, {"s", 1e3, 1e3, 100}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (milliseconds >= units[i].least && fmod(milliseconds, units[i].step) == 0) {
            snprintf(out, size, "%g%s", milliseconds / units[i].one, units[i].name);
            return out;
        }
    }
    snprintf(out, size, "%gms", milliseconds);
    return out;
}

/* In the largest unit that is exact, so that what is shown can be typed. */
static char *format_size(json_int_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; unit < 4 && bytes > 0 && bytes % 1024 == 0; unit++)
        bytes /= 1024;
    snprintf(out, size, "%lld%s", (long long)bytes, units[unit]);
    return out;
}

char *setting_format(const struct setting *setting, const json_t *value, char *out, size_t size)
{
    if (json_is_string(value)) {
        snprintf(out, size, "%s", json_string_value(value));
    } else if (json_is_boolean(value)) {
        snprintf(out, size, "%s", json_is_true(value) ? "on" : "off");
    } else if (json_is_array(value)) {
        format_list(value, out, size);
    } else if (json_is_object(value)) {
        char part[32];
        snprintf(
            out, size, "%lldx%s", (long long)json_integer_value(json_object_get(value, "count")),
            format_size(json_integer_value(json_object_get(value, "bytes")), part, sizeof part));
    } else if (!json_is_number(value)) {
        snprintf(out, size, "none");
    } else if (setting->type == SETTING_SIZE) {
        format_size(json_integer_value(value), out, size);
    } else if (setting->type == SETTING_TIME) {
        setting_format_time(json_number_value(value), out, size);
    } else {
        snprintf(out, size, "%lld", (long long)json_integer_value(value));
    }
    return out;
}
