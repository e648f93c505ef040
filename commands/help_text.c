#include "commands/help_text.h"

static const struct help_text topics[] = {
    {"grammar", "how a line is read",
     "A line holds commands separated by ';'; '#' begins a comment. Words are separated by blanks\n"
     "and quoted as in sh: 'as it is', \"with \\\" inside\", or a\\ blank. There is no expansion.\n"
     "Any unique beginning of a command will do (`dev`), then of a setting (`fus off`).\n"
     "`batch 32` is `set batch 32`; `batch` alone shows it.\n"
     "  sizes   512MiB  4GiB  40%      KiB, MiB, GiB are powers of 1024; kB, MB, GB of 1000\n"
     "  times   25ms  1.5s  300us\n"
     "  lists   0,1\n"
     "  ranges  1..256x2 (1 2 4 ... 256)   8..64+8 (8 16 ... 64)"},
    {"exit", "exit codes of scripts",
     "  0    every command was done\n"
     "  1    a command failed, unknown words included\n"
     "  2    the program's own options are wrong\n"
     "  3    the model cannot be loaded\n"
     "  4    a GPU, its driver or a named device is unusable\n"
     "  5    out of memory\n"
     "  6    an assertion was false\n"
     "  7    --require gpu or cupti was not met\n"
     "  8    --require steady was not met\n"
     "  130  interrupted\n"
     "`exit N` ends with N. Scripts stop at the first error; with -k they go on and end with the\n"
     "code of the first."},
    {"json", "the objects of --json",
     "Standard output holds one object a line for each command and nothing else:\n"
     "  {\"v\":1,\"cmd\":\"run\",\"ok\":true,\"data\":{...},\"warn\":[...]}\n"
     "and on failure \"ok\":false with "
     "\"error\":{\"code\":\"E040\",\"message\":...,\"hint\":...}.\n"
     "Units stand in the names of keys. What is not known is null, never 0."},
    {"ledger", "where the wall time of a step goes",
     "The ledger splits a step's wall time; each nanosecond is in one class, the first that fits:\n"
     "  kernel      the device computes (on the CPU: a primitive runs)\n"
     "  copy        data move between host and device\n"
     "  profiler    layertop's own measuring\n"
     "  launch      the host hands work to the device\n"
     "  preprocess  the input is made ready\n"
     "  gap         none of these: the device waits for the host\n"
     "unexplained is the wall time measured apart, minus the sum: it may be negative."},
    {"memory", "what the memory numbers mean",
     "  weights      constants, uploaded or reordered, shared by all batches\n"
     "  activations  the one arena of the present plan: inputs, outputs and what lies between\n"
     "  workspace    scratch space of the libraries' kernels\n"
     "  idle         reserved by us and not in use; `mem trim` gives it back\n"
     "  context      what the driver and the libraries take for themselves\n"
     "planned is weights + activations + workspace, computed before anything runs; measured comes\n"
     "from outside our allocator. `plan 256` asks what a batch would need."},
    {"tflite", "what TFLite (LiteRT) is for, and what it is not",
     "TFLite, now LiteRT, runs models on phones, boards and browsers: small files, a small\n"
     "interpreter, int8 on CPUs (XNNPACK), mobile GPUs and edge accelerators. Its GPU delegates\n"
     "are OpenGL, OpenCL, Metal and WebGPU: it does not run on CUDA. Converting a model to TFLite\n"
     "makes nothing faster on an NVIDIA GPU; there it is fp16 or bf16 (`ab precision=fp16`), or\n"
     "an engine of TensorRT's.\n"
     "On a server's CPU int8 needs no other format: `calibrate FILE; precision int8`, then\n"
     "`evaluate` says what it costs and `ab precision=fp32 precision=int8` what it brings. The\n"
     "converter's Optimize.DEFAULT without representative data quantises the weights alone.\n"
     "layertop reads Keras files, not .tflite ones: load the model that was converted."},
    {"tensorflow", "TensorFlow's names for things",
     "  batch_size               batch 64\n"
     "  set_visible_devices      devices 0   (indices stay nvidia-smi's)\n"
     "  set_memory_growth        growth on\n"
     "  memory_limit             limit 4GiB\n"
     "  mixed_float16            precision fp16\n"
     "  soft_device_placement    fallback cpu\n"
     "  list_physical_devices    devices"},
};

static const struct help_text errors[] = {
    {"E001", "a command failed for a reason of its own", "The line says which."},
    {"E002", "no such command or setting", "`help` lists the commands, `show` the settings."},
    {"E003", "the line cannot be read",
     "A quote is open, or arguments are missing or too many.\n"
     "`help grammar` says how a line is read."},
    {"E011", "a value is out of its range", "`help set KEY` says what is allowed."},
    {"E012", "the command needs a model", "Load one: `load FILE`, or `load demo:digits`."},
    {"E013", "a file cannot be read or written", ""},
    {"E014", "the input data do not fit the model",
     "`model summary` shows the inputs' names, shapes and types."},
    {"E015", "this build or this machine cannot do that",
     "`version` and `devices` say what is here."},
    {"E016", "the program's own options are wrong", "`layertop --help`."},
    {"E020", "the model file cannot be opened or is no Keras model", ""},
    {"E021", "the model file is truncated, corrupt or contradicts itself", ""},
    {"E022", "the model has layers that cannot run here",
     "All of them are named at once. Lambda layers hold Python code, which is not run."},
    {"E023", "the weights do not fit the architecture", "Their number, shape or name differs."},
    {"E024", "the file asks for something no model file may ask for", "It is refused unread."},
    {"E025", "the shapes do not work out",
     "An open dimension can be bound: `load FILE --shape 224,224,3`."},
    {"E030", "no GPU, driver or library",
     "The line says which is missing and where it was looked for."},
    {"E031", "no such device, or it is hidden or busy",
     "`devices` lists what there is. CUDA_VISIBLE_DEVICES limits what may be named."},
    {"E032", "a CUDA, cuDNN or cuBLAS call failed", "The line has the call, its code and meaning."},
    {"E033", "the device cannot run an operation of this model",
     "The layer is named. `devices cpu` runs the whole model on the CPU."},
    {"E034", "the GPU's context is lost",
     "A kernel failed, or the GPU fell off the bus. The worker ends with it; the next command\n"
     "starts another one with the same settings and model."},
    {"E040", "out of memory", "`plan N` says what batch N needs, `mem` who holds what."},
    {"E041", "past the limit",
     "Refused before running. `limit none` takes the fence away; a smaller\n"
     "batch needs less."},
    {"E050", "CUPTI refused", "Layer times come from the next best source. `help profile`."},
    {"E060", "an assertion was false, or the answer to a lesson was", ""},
    {"E070", "a --require was not met", ""},
    {"E071", "--require steady was not met",
     "Warm up longer, run more steps, and stop what else runs."},
    {"E080", "the worker ended",
     "The process that held the model is gone; the numbers stay. The next command starts another\n"
     "one with the same settings and model."},
    {"E081", "the stream from the worker is broken or of another version",
     "With --worker-command: is the same layertop installed there?"},
    {"E090", "interrupted", ""},
};

size_t help_topic_count(void)
{
    return sizeof topics / sizeof *topics;
}

const struct help_text *help_topic_at(size_t index)
{
    return &topics[index];
}

size_t help_error_count(void)
{
    return sizeof errors / sizeof *errors;
}

const struct help_text *help_error_at(size_t index)
{
    return &errors[index];
}
