/* The rows of test_gpu's table, a file for each subject. Each failure says what it would mean. */
#ifndef LAYERTOP_TESTS_SUPPORT_GPU_TESTS_H
#define LAYERTOP_TESTS_SUPPORT_GPU_TESTS_H

#include "support/gpu.h"

/* gpu_answers.c: the digits, against float64 answers */
void gpu_test_device_usable(const struct context *context, struct outcome *outcome);
void gpu_test_answers_h5(const struct context *context, struct outcome *outcome);
void gpu_test_answers_keras(const struct context *context, struct outcome *outcome);
void gpu_test_answers_unfused(const struct context *context, struct outcome *outcome);
void gpu_test_answers_tf32(const struct context *context, struct outcome *outcome);
void gpu_test_answers_fp16(const struct context *context, struct outcome *outcome);
void gpu_test_answers_bf16(const struct context *context, struct outcome *outcome);
void gpu_test_answers_nchw(const struct context *context, struct outcome *outcome);
void gpu_test_autotune(const struct context *context, struct outcome *outcome);
void gpu_test_graph_answers(const struct context *context, struct outcome *outcome);

/* gpu_networks.c: whole networks, against our own CPU */
void gpu_test_networks(const struct context *context, struct outcome *outcome);
void gpu_test_all_applications(const struct context *context, struct outcome *outcome);

/* gpu_layers.c: kernels and times of layers */
void gpu_test_layers_cupti(const struct context *context, struct outcome *outcome);
void gpu_test_layers_cupti_graph(const struct context *context, struct outcome *outcome);
void gpu_test_layers_cupti_unfused(const struct context *context, struct outcome *outcome);
void gpu_test_layers_events(const struct context *context, struct outcome *outcome);
void gpu_test_profiler_cost(const struct context *context, struct outcome *outcome);
void gpu_test_resident(const struct context *context, struct outcome *outcome);

/* gpu_timing.c: what CUPTI says, against other clocks and the engine's own count */
void gpu_test_spin(const struct context *context, struct outcome *outcome);
void gpu_test_repeat(const struct context *context, struct outcome *outcome);
void gpu_test_launch(const struct context *context, struct outcome *outcome);
void gpu_test_switch(const struct context *context, struct outcome *outcome);
void gpu_test_bursts(const struct context *context, struct outcome *outcome);
void gpu_test_ledger(const struct context *context, struct outcome *outcome);
void gpu_test_kernel_counts(const struct context *context, struct outcome *outcome);
void gpu_test_million(const struct context *context, struct outcome *outcome);

/* gpu_memory.c: plan, growth, limit, giving back */
void gpu_test_memory_plan(const struct context *context, struct outcome *outcome);
void gpu_test_growth_off(const struct context *context, struct outcome *outcome);
void gpu_test_limit(const struct context *context, struct outcome *outcome);
void gpu_test_trim(const struct context *context, struct outcome *outcome);

/* gpu_wall.c: memory up to the wall and past it */
void gpu_test_oom_thousand(const struct context *context, struct outcome *outcome);
void gpu_test_oom_forced(const struct context *context, struct outcome *outcome);
void gpu_test_batch_max(const struct context *context, struct outcome *outcome);
void gpu_test_batch_max_ballast(const struct context *context, struct outcome *outcome);
void gpu_test_logical(const struct context *context, struct outcome *outcome);

/* gpu_devices.c: a device against the CPU, and both at once */
void gpu_test_compare(const struct context *context, struct outcome *outcome);
void gpu_test_proof(const struct context *context, struct outcome *outcome);

/* gpu_experiments.c: experiments, advice, the pipeline, lessons */
void gpu_test_roof(const struct context *context, struct outcome *outcome);
void gpu_test_cold(const struct context *context, struct outcome *outcome);
void gpu_test_nosync(const struct context *context, struct outcome *outcome);
void gpu_test_memory_parts(const struct context *context, struct outcome *outcome);
void gpu_test_pipeline(const struct context *context, struct outcome *outcome);
void gpu_test_pictures(const struct context *context, struct outcome *outcome);
void gpu_test_host_memory(const struct context *context, struct outcome *outcome);
void gpu_test_int8(const struct context *context, struct outcome *outcome);
void gpu_test_advise(const struct context *context, struct outcome *outcome);
void gpu_test_lessons(const struct context *context, struct outcome *outcome);

/* gpu_screen.c: the screen */
void gpu_test_screen(const struct context *context, struct outcome *outcome);
void gpu_test_screens(const struct context *context, struct outcome *outcome);
void gpu_test_worker_killed(const struct context *context, struct outcome *outcome);

/* gpu_programs.c: programs of their own */
void gpu_test_ops(const struct context *context, struct outcome *outcome);
void gpu_test_ops_fp16(const struct context *context, struct outcome *outcome);
void gpu_test_ops_bf16(const struct context *context, struct outcome *outcome);
void gpu_test_ops_int8(const struct context *context, struct outcome *outcome);
void gpu_test_precision(const struct context *context, struct outcome *outcome);
void gpu_test_probe(const struct context *context, struct outcome *outcome);
void gpu_test_deviceprop(const struct context *context, struct outcome *outcome);
void gpu_test_raw_recording(const struct context *context, struct outcome *outcome);

#endif
