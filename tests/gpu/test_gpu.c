/* make test-gpu: what only a machine with an NVIDIA GPU can show.
 *
 *   test_gpu --list                      the names of all tests
 *   test_gpu --unverified DIR CONTENT    the text of UNVERIFIED.md: tests of the list that no
 *                                        DIR/gpu-*.json shows as passed at this content
 *   test_gpu --layertop BIN --data DIR --out DIR --content HASH --commit NAME [TEST...]
 *
 * Runs the tests, prints TAP, and writes OUT/gpu-DATE.json: date, device (name, UUID, driver),
 * versions, commit, the content hash of engine/cuda and profiler, and one row a test with its
 * figures. Nothing else writes these files. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <hdf5.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support/gpu_tests.h"

struct gpu_test {
    const char *name;
    void (*run)(const struct context *context, struct outcome *outcome);
};

/* All tests together; a run on a borrowed machine is ended after ten minutes. */
#define SECONDS_TOTAL 520

/* the plain path first, riskiest facts next, what takes longest last: time may run out */
static const struct gpu_test tests[] = {
    {"device_usable", gpu_test_device_usable},
    {"cudnn_deviceprop", gpu_test_deviceprop},
    {"answers_keras_fp32", gpu_test_answers_keras},
    {"answers_h5_fp32", gpu_test_answers_h5},
    {"graph_on_equals_off", gpu_test_graph_answers},
    {"answers_unfused_fp32", gpu_test_answers_unfused},
    {"answers_tf32", gpu_test_answers_tf32},
    {"answers_fp16", gpu_test_answers_fp16},
    {"answers_bf16", gpu_test_answers_bf16},
    {"answers_nchw", gpu_test_answers_nchw},
    {"autotune_on_off_cached", gpu_test_autotune},
    {"layers_have_kernels_cupti", gpu_test_layers_cupti},
    {"layers_have_kernels_cupti_graph", gpu_test_layers_cupti_graph},
    {"layers_have_kernels_cupti_unfused", gpu_test_layers_cupti_unfused},
    {"layers_have_times_events", gpu_test_layers_events},
    {"throughput_of_resident_inputs", gpu_test_resident},
    {"switches_lose_no_records", gpu_test_switch},
    {"bursts_refresh_layers", gpu_test_bursts},
    {"kernel_counts_are_the_engines", gpu_test_kernel_counts},
    {"ledger_explains_steps", gpu_test_ledger},
    {"spin_kernels_take_their_clocks", gpu_test_spin},
    {"repeats_agree_with_events", gpu_test_repeat},
    {"graph_launches_agree_with_events", gpu_test_launch},
    {"cuda_ops", gpu_test_ops},
    {"cuda_ops_fp16", gpu_test_ops_fp16},
    {"cuda_ops_bf16", gpu_test_ops_bf16},
    {"cuda_ops_int8", gpu_test_ops_int8},
    {"pictures_layouts_tuning", gpu_test_precision},
    {"networks_all_precisions", gpu_test_networks},
    {"memory_plan_against_outside", gpu_test_memory_plan},
    {"growth_off_reserves", gpu_test_growth_off},
    {"trim_gives_back", gpu_test_trim},
    {"limit_keeps_old_plan", gpu_test_limit},
    {"out_of_memory_a_thousand_times", gpu_test_oom_thousand},
    {"out_of_memory_forced", gpu_test_oom_forced},
    {"logical_devices_share_batches", gpu_test_logical},
    {"batch_max_is_exact", gpu_test_batch_max},
    {"batch_max_beside_a_ballast", gpu_test_batch_max_ballast},
    {"compare_concurrent", gpu_test_compare},
    {"proof_against_cpu", gpu_test_proof},
    {"roof_has_its_ceilings", gpu_test_roof},
    {"cold_names_its_parts", gpu_test_cold},
    {"nosync_is_a_trap", gpu_test_nosync},
    {"memory_of_others_stands_apart", gpu_test_memory_parts},
    {"pipeline_in_front_and_behind", gpu_test_pipeline},
    {"pictures_resized_on_the_gpu", gpu_test_pictures},
    {"host_memory_pinned_and_pageable", gpu_test_host_memory},
    {"int8_answers_and_runs", gpu_test_int8},
    {"advice_is_tried", gpu_test_advise},
    {"raw_recording", gpu_test_raw_recording},
    {"live_screen", gpu_test_screen},
    {"screens_of_a_session", gpu_test_screens},
    {"a_million_replayed_kernels", gpu_test_million},
    {"worker_killed_on_gpu", gpu_test_worker_killed},
    {"cupti_probe", gpu_test_probe},
    {"lessons_run", gpu_test_lessons},
    {"profiler_cost", gpu_test_profiler_cost},
    {"all_applications_all_precisions", gpu_test_all_applications},
};
#define TEST_COUNT (sizeof tests / sizeof *tests)

/* what no single GPU can show */
static const char *const out_of_reach[] = {
    "several GPUs split the batches",
    "architectures other than the one tested",
    "a GPU in MIG mode, behind vGPU, or in confidential computing",
};

/* Has `test` passed in one of the results at `content`? */
static bool verified(const char *folder, const char *content, const char *test)
{
    DIR *directory = opendir(folder);
    struct dirent *entry;
    bool found = false;
    while (directory && !found && (entry = readdir(directory))) {
        if (strncmp(entry->d_name, "gpu-", 4) != 0 || !strstr(entry->d_name, ".json"))
            continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        json_t *result = json_load_file(path, 0, NULL);
        const char *of = json_string_value(json_object_get(result, "content"));
        size_t index;
        json_t *row;
        if (of && strcmp(of, content) == 0)
            json_array_foreach(json_object_get(result, "tests"), index, row)
            {
                const char *name = json_string_value(json_object_get(row, "name"));
                if (name && strcmp(name, test) == 0 && json_is_true(json_object_get(row, "passed")))
                    found = true;
            }
        json_decref(result);
    }
    if (directory)
        closedir(directory);
    return found;
}

static int print_unverified(const char *folder, const char *content)
{
    printf("# Not yet seen on a GPU\n\n");
    printf("Written by `make unverified`: the tests of `make test-gpu` that have not passed at "
           "the "
           "present content\nof `engine/cuda` and `profiler`. Whatever stands here is not "
           "known to "
           "work.\n\n");
    for (size_t i = 0; i < TEST_COUNT; i++)
        if (!verified(folder, content, tests[i].name))
            printf("- %s\n", tests[i].name);
    printf("\n## Out of reach\n\nWhat no single GPU can show.\n\n");
    for (size_t i = 0; i < sizeof out_of_reach / sizeof *out_of_reach; i++)
        printf("~ %s\n", out_of_reach[i]);
    return 0;
}

static bool chosen(const char *name, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 0;
}

int main(int argc, char **argv)
{
    struct context context = {.content = "", .commit = "", .out = ".", .data = "."};
    char here[512];
    ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
    here[length > 0 ? length : 0] = 0;
    char *slash = strrchr(here, '/');
    if (slash)
        *slash = 0;
    context.program_dir = here;
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < TEST_COUNT; i++)
            puts(tests[i].name);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "--unverified") == 0)
        return print_unverified(argv[2], argv[3]);
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        const char **slot = strcmp(argv[at], "--layertop") == 0  ? &context.layertop
                            : strcmp(argv[at], "--data") == 0    ? &context.data
                            : strcmp(argv[at], "--out") == 0     ? &context.out
                            : strcmp(argv[at], "--content") == 0 ? &context.content
                            : strcmp(argv[at], "--commit") == 0  ? &context.commit
                                                                 : NULL;
        if (!slot)
            break;
        *slot = argv[at + 1];
    }
    if (!context.layertop) {
        fprintf(stderr, "usage: test_gpu --list | --unverified DIR CONTENT | --layertop BIN ...\n");
        return 2;
    }
    snprintf(context.work, sizeof context.work, "%s/work-XXXXXX", context.out);
    if (!mkdtemp(context.work)) {
        fprintf(stderr, "test_gpu: %s: %s\n", context.work, strerror(errno));
        return 2;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);

    context.deadline = gpu_now() + SECONDS_TOTAL;
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    char date[32], path[700];
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_t *result =
        json_pack("{s:s, s:s, s:s, s:s, s:[]}", "date", date, "command", "make test-gpu", "commit",
                  context.commit, "content", context.content, "tests");
    int code;
    struct outcome listing = {.passed = true, .figures = json_object()};
    gpu_begin(&context, "devices");
    json_t *objects = gpu_layertop(&context, &code, "-c devices -c version");
    context.devices = json_deep_copy(gpu_data(objects, "devices", &listing));
    json_object_set(result, "devices", json_object_get(context.devices, "devices"));
    const json_t *version = gpu_data(objects, "version", &listing);
    gpu_explain(&context, &listing);
    if (!listing.passed)
        printf("# devices: %s\n", listing.why);
    if (version)
        json_object_set_new(result, "versions", json_deep_copy(version));

    int failed = 0, number_of = 0;
    for (size_t i = 0; i < TEST_COUNT; i++) {
        if (!chosen(tests[i].name, argc - at, argv + at))
            continue;
        struct outcome outcome = {.passed = true, .figures = json_object()};
        double begin = gpu_now();
        gpu_begin(&context, tests[i].name);
        if (begin + 5 < context.deadline)
            tests[i].run(&context, &outcome);
        else
            outcome_fail(&outcome, "not run: the %d s for all tests are over", SECONDS_TOTAL);
        gpu_explain(&context, &outcome);
        double seconds = gpu_now() - begin;
        char *figures = json_dumps(outcome.figures, JSON_COMPACT);
        printf("%sok %d - %s # %.1f s %s%s%s\n", outcome.passed ? "" : "not ", ++number_of,
               tests[i].name, seconds, outcome.why, outcome.why[0] ? " " : "", figures);
        fflush(stdout);
        free(figures);
        failed += !outcome.passed;
        json_t *row = json_pack("{s:s, s:b, s:f, s:o}", "name", tests[i].name, "passed",
                                outcome.passed, "seconds", seconds, "figures", outcome.figures);
        if (!outcome.passed)
            json_object_set_new(row, "why", json_string(outcome.why));
        json_array_append_new(json_object_get(result, "tests"), row);
        /* written after every test: a machine may be taken away in the middle */
        strftime(date, sizeof date, "%Y%m%dT%H%M%SZ", &utc);
        snprintf(path, sizeof path, "%s/gpu-%s.json", context.out, date);
        json_dump_file(result, path, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    }
    printf("1..%d\n", number_of);
    printf("%d passed, %d failed\n", number_of - failed, failed);
    json_decref(objects);
    json_decref(result);
    json_decref(context.devices);
    json_decref(listing.figures);
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", context.work);
    if (system(command) != 0)
        return 2;
    return failed != 0;
}
