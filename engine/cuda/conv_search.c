/* Which of cuDNN's engines runs a convolution: heuristics, choices, and what a device has found. */
#include "engine/cuda/check.h"
#include "engine/cuda/conv_private.h"
#include "engine/cuda/device.h"
#include <stdlib.h>
#include <string.h>

#define CONFIGS_MAX 128

/* What a configuration's engine is, from its notes. */
struct traits {
    int64_t index;
    bool runtime_compiled, tensor_core;
    bool inexact; /* FFT, large Winograd tiles, sums in half */
};

static void read_notes(struct traits *out, const cudnnBackendNumericalNote_t *notes, int64_t count)
{
    for (int64_t i = 0; i < count && i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
            out->tensor_core = true;
            break;
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_FFT:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13:
            out->inexact = true;
            break;
        default:
            break;
        }
    }
}

static bool read_traits(struct conv_builder *b, cudnnBackendDescriptor_t config, struct traits *out)
{
    const struct libraries *l = b->libraries;
    cudnnBackendDescriptor_t engine = NULL;
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t count = 0, notes_count = 0, behaviour_count = 0;

    memset(out, 0, sizeof *out);
    if (l->cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) !=
        CUDNN_STATUS_SUCCESS) {
        return false;
    }
    bool good =
        l->cudnn.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                          &engine) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64,
                                          1, &count, &out->index) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(
            engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
            CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &notes_count, notes) == CUDNN_STATUS_SUCCESS &&
        l->cudnn.cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                          CUDNN_TYPE_BEHAVIOR_NOTE, CUDNN_BEHAVIOR_NOTE_TYPE_COUNT,
                                          &behaviour_count, behaviour) == CUDNN_STATUS_SUCCESS;
    if (good) {
        read_notes(out, notes, notes_count);
    }
    for (int64_t i = 0; good && i < behaviour_count && i < CUDNN_BEHAVIOR_NOTE_TYPE_COUNT; i++) {
        out->runtime_compiled |= behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    }
    l->cudnn.cudnnBackendDestroyDescriptor(engine);
    return good;
}

static bool precise_enough(const struct conv_problem *problem, const struct traits *traits)
{
    if (problem->dtype != DTYPE_F32) {
        return !traits->inexact;
    }
    return problem->tf32 || (!traits->tensor_core && !traits->inexact);
}

/* The settings of a configuration, so that it can be made again. */
static bool read_choice(struct conv_builder *b, cudnnBackendDescriptor_t config, int64_t engine,
                        struct conv_choice *out)
{
    const struct libraries *l = b->libraries;
    cudnnBackendDescriptor_t knobs[CONV_KNOBS_MAX];
    int64_t count = 0, made = 0, got = 0;

    memset(out, 0, sizeof *out);
    out->engine = engine;
    bool good = l->cudnn.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                                  CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                                  NULL) == CUDNN_STATUS_SUCCESS &&
                count <= CONV_KNOBS_MAX;
    while (good && made < count) {
        good = l->cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
                                                     &knobs[made]) == CUDNN_STATUS_SUCCESS;
        made += good;
    }
    good = good && (made == 0 ||
                    l->cudnn.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, made, &got,
                                                      knobs) == CUDNN_STATUS_SUCCESS);
    for (int64_t i = 0; good && i < got && i < made; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)0;
        int64_t value = 0, one = 0;
        good = l->cudnn.cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                                 CUDNN_TYPE_KNOB_TYPE, 1, &one,
                                                 &type) == CUDNN_STATUS_SUCCESS &&
               l->cudnn.cudnnBackendGetAttribute(knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE,
                                                 CUDNN_TYPE_INT64, 1, &one,
                                                 &value) == CUDNN_STATUS_SUCCESS;
        out->types[out->knob_count] = (int64_t)type;
        out->values[out->knob_count++] = value;
    }
    for (int64_t i = 0; i < made; i++) {
        l->cudnn.cudnnBackendDestroyDescriptor(knobs[i]);
    }
    return good;
}

/* Finalise a plan of this configuration; NULL if the engine does not take it after all. */
static struct conv_engine *try_config(struct conv_builder *b, const struct conv_target *target,
                                      cudnnBackendDescriptor_t config, int64_t index,
                                      uint64_t workspace_cap)
{
    struct conv_builder attempt = {.libraries = b->libraries, .error = b->error, .good = true};
    cudnnBackendDescriptor_t plan = conv_make(&attempt, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t workspace = 0, count = 0;

    conv_set_part(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (target->handle != NULL) {
        conv_set(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                 &target->handle);
    } else {
        conv_set_part(&attempt, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target->properties);
    }
    conv_finish(&attempt, plan);
    if (attempt.good) {
        conv_step(&attempt,
                  b->libraries->cudnn.cudnnBackendGetAttribute(
                      plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                      &workspace),
                  "cudnnBackendGetAttribute");
    }
    if (!attempt.good || workspace < 0 || (uint64_t)workspace > workspace_cap) {
        if (attempt.good) {
            error_set(b->error, ERROR_CUDA, "convolution",
                      "engine %lld wants %.0f MiB of workspace", (long long)index,
                      (double)workspace / 1048576);
        }
        conv_destroy(&attempt, 0);
        return NULL;
    }
    struct conv_engine *engine = xcalloc(1, sizeof *engine);
    engine->plan = plan;
    engine->workspace_bytes = (uint64_t)workspace;
    return engine;
}

/* Give the engine what it was built from, to be destroyed with it. */
static void own_parts(struct conv_engine *engine, struct conv_builder *b,
                      cudnnBackendDescriptor_t config)
{
    engine->parts = xcalloc(CONV_PARTS_MAX + 1, sizeof *engine->parts);
    memcpy(engine->parts, b->parts, b->count * sizeof b->parts[0]);
    engine->part_count = b->count;
    if (config != NULL) {
        engine->parts[engine->part_count++] = config;
    }
    b->count = 0;
}

/* The configurations that one heuristic mode offers; the caller destroys `*made` of them. Returns
 * how many are filled. */
static int64_t ask_mode(struct conv_builder *b, const struct conv_target *target,
                        cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                        cudnnBackendDescriptor_t configs[CONFIGS_MAX], int64_t *made)
{
    const struct libraries *l = b->libraries;
    struct conv_builder h = {.libraries = l, .error = b->error, .good = true};
    cudnnBackendDescriptor_t heuristic = conv_make(&h, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t offered = 0, count = 0;

    *made = 0;
    conv_set_part(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    conv_set(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (target->handle == NULL) {
        conv_set_part(&h, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target->properties);
    }
    conv_finish(&h, heuristic);
    if (h.good) {
        conv_step(&h,
                  l->cudnn.cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &offered,
                                                    NULL),
                  "cudnnBackendGetAttribute");
    }
    offered = offered < CONFIGS_MAX ? offered : CONFIGS_MAX;
    while (h.good && *made < offered &&
           conv_step(&h,
                     l->cudnn.cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                                           &configs[*made]),
                     "cudnnBackendCreateDescriptor")) {
        ++*made;
    }
    if (h.good && *made > 0) {
        conv_step(&h,
                  l->cudnn.cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, *made, &count,
                                                    configs),
                  "cudnnBackendGetAttribute");
    }
    bool good = h.good;
    conv_destroy(&h, 0);
    return !good ? 0 : count < *made ? count : *made;
}

/* Try the configurations of one heuristic mode in their order. */
static struct conv_engine *try_mode(struct conv_builder *b, const struct conv_target *target,
                                    const struct conv_problem *problem,
                                    cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                                    bool runtime_compiled, uint64_t workspace_cap)
{
    cudnnBackendDescriptor_t configs[CONFIGS_MAX];
    int64_t made, kept = -1, count = ask_mode(b, target, graph, mode, configs, &made);
    struct conv_engine *engine = NULL;

    for (int64_t i = 0; i < count && engine == NULL; i++) {
        struct traits traits;
        if (!read_traits(b, configs[i], &traits) || traits.runtime_compiled != runtime_compiled ||
            !precise_enough(problem, &traits)) {
            continue;
        }
        engine = try_config(b, target, configs[i], traits.index, workspace_cap);
        if (engine != NULL) {
            engine->runtime_compiled = runtime_compiled;
            read_choice(b, configs[i], traits.index, &engine->choice);
            own_parts(engine, b, configs[i]);
            kept = i;
        }
    }
    for (int64_t i = 0; i < made; i++) {
        if (i != kept) {
            b->libraries->cudnn.cudnnBackendDestroyDescriptor(configs[i]);
        }
    }
    return engine;
}

struct conv_engine *conv_engine_find(const struct libraries *libraries,
                                     const struct conv_target *target,
                                     const struct conv_problem *problem, struct error *error)
{
    static const struct {
        cudnnBackendHeurMode_t mode;
        bool runtime_compiled;
        uint64_t workspace_cap;
    } passes[] = {
        {CUDNN_HEUR_MODE_A, false, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_FALLBACK, false, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_A, true, CONV_WORKSPACE_BYTES},
        {CUDNN_HEUR_MODE_A, false, UINT64_MAX},
        {CUDNN_HEUR_MODE_FALLBACK, true, UINT64_MAX},
    };
    struct error unused;
    struct conv_builder b = {
        .libraries = libraries, .error = error != NULL ? error : &unused, .good = true};
    struct conv_engine *engine = NULL;

    error_set(b.error, ERROR_CUDA, "convolution", "cuDNN offers no engine for it");
    cudnnBackendDescriptor_t graph = conv_operations(&b, target, problem);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0] && b.good && engine == NULL; i++) {
        engine = try_mode(&b, target, problem, graph, passes[i].mode, passes[i].runtime_compiled,
                          passes[i].workspace_cap);
    }
    conv_destroy(&b, 0);
    return engine;
}

size_t conv_candidates(const struct libraries *libraries, const struct conv_target *target,
                       const struct conv_problem *problem, struct conv_choice *choices,
                       size_t capacity)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    cudnnBackendDescriptor_t configs[CONFIGS_MAX];
    struct error unused;
    struct conv_builder b = {.libraries = libraries, .error = &unused, .good = true};
    cudnnBackendDescriptor_t graph = conv_operations(&b, target, problem);
    size_t found = 0;

    for (size_t mode = 0; mode < 2 && b.good; mode++) {
        int64_t made, count = ask_mode(&b, target, graph, modes[mode], configs, &made);
        for (int64_t i = 0; i < made; i++) {
            struct traits traits;
            if (i < count && found < capacity && read_traits(&b, configs[i], &traits) &&
                !traits.runtime_compiled && precise_enough(problem, &traits)) {
                found += read_choice(&b, configs[i], traits.index, &choices[found]);
            }
            libraries->cudnn.cudnnBackendDestroyDescriptor(configs[i]);
        }
    }
    conv_destroy(&b, 0);
    return found;
}

struct conv_engine *conv_engine_make(const struct libraries *libraries,
                                     const struct conv_target *target,
                                     const struct conv_problem *problem,
                                     const struct conv_choice *choice, uint64_t workspace_bytes,
                                     struct error *error)
{
    struct error unused;
    struct conv_builder b = {
        .libraries = libraries, .error = error != NULL ? error : &unused, .good = true};
    cudnnBackendDescriptor_t graph = conv_operations(&b, target, problem);
    cudnnBackendDescriptor_t engine = conv_make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendDescriptor_t knobs[CONV_KNOBS_MAX];
    struct conv_engine *made = NULL;
    struct traits traits = {0};

    conv_set_part(&b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    conv_set(&b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &choice->engine);
    if (target->handle == NULL) {
        conv_set_part(&b, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, target->properties);
    }
    conv_finish(&b, engine);
    for (int i = 0; i < choice->knob_count && i < CONV_KNOBS_MAX; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)choice->types[i];
        knobs[i] = conv_make(&b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        conv_set(&b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        conv_set(&b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                 &choice->values[i]);
        conv_finish(&b, knobs[i]);
    }
    cudnnBackendDescriptor_t config = conv_make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    conv_set_part(&b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (choice->knob_count > 0) {
        conv_set(&b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                 choice->knob_count, knobs);
    }
    conv_finish(&b, config);
    /* a choice that was read from a file must not be less precise than what was asked for */
    if (b.good && (!read_traits(&b, config, &traits) || !precise_enough(problem, &traits))) {
        b.good = error_set(b.error, ERROR_CUDA, "convolution",
                           "engine %lld does not keep the precision", (long long)choice->engine);
    }
    if (b.good) {
        made = try_config(&b, target, config, choice->engine, workspace_bytes);
    }
    if (made != NULL) {
        made->choice = *choice;
        made->runtime_compiled = traits.runtime_compiled;
        own_parts(made, &b, NULL);
    }
    conv_destroy(&b, 0);
    return made;
}

void conv_engine_free(const struct libraries *libraries, struct conv_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    libraries->cudnn.cudnnBackendDestroyDescriptor(engine->plan);
    for (size_t i = engine->part_count; i-- > 0;) {
        libraries->cudnn.cudnnBackendDestroyDescriptor(engine->parts[i]);
    }
    free(engine->parts);
    free(engine);
}

struct conv_entry *conv_entry_find(struct device *device, const struct conv_problem *problem,
                                   const struct conv_choice *known)
{
    for (struct conv_entry *entry = device->conv_entries; entry != NULL; entry = entry->next) {
        if (memcmp(&entry->problem, problem, sizeof *problem) == 0) {
            return entry;
        }
    }
    struct conv_target target = {.handle = device->cudnn};
    struct conv_entry *entry = xcalloc(1, sizeof *entry);
    memcpy(&entry->problem, problem, sizeof *problem);
    if (known != NULL) {
        entry->engine = conv_engine_make(device->libraries, &target, problem, known,
                                         CONV_WORKSPACE_BYTES, NULL);
        entry->tuned = entry->engine != NULL;
    }
    if (entry->engine == NULL) {
        entry->engine = conv_engine_find(device->libraries, &target, problem, NULL);
    }
    entry->next = device->conv_entries;
    device->conv_entries = entry;
    return entry;
}

void conv_entries_free(struct device *device)
{
    while (device->conv_entries != NULL) {
        struct conv_entry *entry = device->conv_entries;
        device->conv_entries = entry->next;
        conv_engine_free(device->libraries, entry->engine);
        conv_engine_free(device->libraries, entry->before);
        free(entry);
    }
}
