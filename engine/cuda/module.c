/* The one door of layertop-cuda.so. */
#include "engine/cuda/check.h"
#include "engine/cuda/device.h"
#include "engine/cuda/feed.h"
#include "engine/cuda/plan.h"
#include "engine/cuda_module.h"

static const struct backend backend = {
    .abi = BACKEND_ABI,
    .name = "cuda",
    .devices = devices_list,
    .device_open = device_open,
    .device_close = device_close,
    .device_memory = device_memory,
    .device_trim = device_trim,
    .device_forget = device_forget,
    .plan_new = plan_new,
    .plan_free = plan_free,
    .plan_input = plan_input,
    .plan_output = plan_output,
    .plan_run = plan_run,
    .plan_launch = plan_launch,
    .plan_wait = plan_wait,
    .plan_tune = plan_tune,
    .plan_repeat = plan_repeat,
    .plan_feed = plan_feed,
    .plan_feed_room = plan_feed_room,
    .plan_feed_send = plan_feed_send,
    .plan_feed_times = plan_feed_times,
    .plan_impls = plan_impls,
    .plan_precisions = plan_precisions,
    .plan_memory = plan_memory,
    .plan_forecast = plan_forecast,
    .device_processes = device_processes,
};

__attribute__((visibility("default"))) cuda_module_entry layertop_backend_cuda;

const struct backend *layertop_backend_cuda(struct error *error)
{
    /* the driver first: without one, a missing cuDNN is not what the user has to hear about */
    if (!cuda_probe(error) || libraries_open(error) == NULL || !cuda_probe_runtime(error)) {
        return NULL;
    }
    return &backend;
}
