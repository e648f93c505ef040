/* Steps whose inputs stay on the device, on a device that is an array: engine/cuda/repeat.c is
 * compiled here with a GPU of a few functions. A step writes over the inputs it is told to, and notes
 * what it found in them. Without CUDA headers every test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/cuda/repeat.c"

/* -- a GPU that is an array ---------------------------------------------------------------------- */

#define INPUTS 2
#define BYTES  16

static struct {
    char arena[4 * BYTES]; /* the two inputs, what the first op writes, the output */
    bool over[INPUTS];     /* the op's output lies on this input */
    uint64_t free_bytes;
    int blocks, copies_in, copies_within, launches, waits;
    int wrong;     /* steps that found other inputs than the host's */
    int fail_at;   /* this launch fails; 0: none */
    int cancel_at; /* after this launch somebody interrupts */
    bool full;     /* cudaMalloc fails */
    atomic_bool cancel;
} gpu;

static const char inputs[INPUTS][BYTES] = {"the first input", "and the second"};

cudaError_t cudaMalloc(void **address, size_t bytes)
{
    if (gpu.full)
        return cudaErrorMemoryAllocation;
    gpu.blocks++;
    *address = malloc(bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void *address)
{
    gpu.blocks -= address != NULL;
    free(address);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)stream;
    assert_int_equal(kind, cudaMemcpyDeviceToDevice);
    memcpy(to, from, bytes);
    gpu.copies_within++;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    gpu.waits++;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}
bool cuda_check(int status, const char *call, const char *what, struct error *error)
{
    (void)call;
    return status == 0 || error_set(error, ERROR_MEMORY, what, "the device is full");
}
bool device_use(const struct device *device, struct error *error)
{
    (void)device, (void)error;
    return true;
}
uint64_t device_free_bytes(void)
{
    return gpu.free_bytes;
}
uint64_t plan_value_bytes(const struct plan *plan, int value)
{
    (void)plan, (void)value;
    return BYTES;
}
void *plan_address(const struct plan *plan, int value)
{
    (void)plan;
    return gpu.arena + value * BYTES;
}
bool plan_overlap(const struct plan *plan, int a, int b)
{
    (void)plan, (void)b;
    return a < INPUTS && gpu.over[a];
}
bool run_copy_in(struct plan *plan, struct port *port, struct error *error)
{
    (void)plan, (void)error;
    memcpy(gpu.arena + port->value * BYTES, inputs[port->value], BYTES);
    gpu.copies_in++;
    return true;
}
bool run_launch(struct plan *plan, const struct step_context *context, struct error *error)
{
    (void)plan;
    assert_null(context->observer); /* nobody listens */
    gpu.launches++;
    if (gpu.launches == gpu.fail_at)
        return error_set(error, ERROR_CUDA, "step", "it failed");
    for (int i = 0; i < INPUTS; i++) {
        gpu.wrong += memcmp(gpu.arena + i * BYTES, inputs[i], BYTES) != 0;
        if (gpu.over[i])
            memset(gpu.arena + i * BYTES, '#', BYTES);
    }
    if (gpu.launches == gpu.cancel_at)
        atomic_store(&gpu.cancel, true);
    return true;
}

/* -- tests --------------------------------------------------------------------------------------- */

struct rig {
    struct device device;
    struct graph graph;
    struct plan plan;
    struct op ops[2];
    struct step steps[2];
    struct port ports[INPUTS];
};

static void rig_init(struct rig *rig)
{
    memset(&gpu, 0, sizeof gpu);
    memset(rig, 0, sizeof *rig);
    gpu.free_bytes = UINT64_C(1) << 30;
    for (int i = 0; i < 2; i++) {
        rig->ops[i].outputs[0] = INPUTS + i;
        rig->ops[i].output_count = 1;
        rig->steps[i].op = &rig->ops[i];
        rig->steps[i].impl = i == 0 ? "own" : NULL; /* the second is an alias */
        rig->ports[i].value = i;
    }
    rig->graph.op_count = 2;
    rig->graph.input_count = INPUTS;
    rig->plan.device = &rig->device;
    rig->plan.graph = &rig->graph;
    rig->plan.steps = rig->steps;
    rig->plan.inputs = rig->ports;
}

static bool repeat(struct rig *rig, size_t steps, struct error *error)
{
    int64_t total_ns = -1;
    *error = (struct error){0};
    bool good = plan_repeat(&rig->plan, steps, &gpu.cancel, &total_ns, error);
    assert_true(!good || total_ns >= 0);
    assert_int_equal(gpu.blocks, 0); /* nothing is kept for longer */
    return good;
}

static void inputs_are_copied_once_and_waited_for_once(void **state)
{
    struct rig rig;
    struct error error;
    (void)state;
    rig_init(&rig);
    assert_true(repeat(&rig, 50, &error));
    assert_int_equal(gpu.copies_in, INPUTS);
    assert_int_equal(gpu.copies_within, 0);
    assert_int_equal(gpu.launches, 51); /* the first by itself */
    assert_int_equal(gpu.waits, 2);
    assert_int_equal(gpu.wrong, 0);
}

static void what_is_written_over_is_put_back(void **state)
{
    struct rig rig;
    struct error error;
    (void)state;
    rig_init(&rig);
    gpu.over[1] = true;
    assert_true(repeat(&rig, 20, &error));
    assert_int_equal(gpu.wrong, 0);
    assert_int_equal(gpu.copies_in, INPUTS);
    assert_int_equal(gpu.copies_within, 1 + 21);
    assert_int_equal(gpu.waits, 2);
}

/* Neither a fence nor the last of what others may want is touched. */
static void without_room_nothing_is_taken(void **state)
{
    struct rig rig;
    struct error error;
    (void)state;
    rig_init(&rig);
    gpu.over[0] = true;
    gpu.free_bytes = SPARE_BYTES + BYTES - 1;
    assert_false(repeat(&rig, 3, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    assert_int_equal(gpu.launches, 0);
    gpu.free_bytes++;
    assert_true(repeat(&rig, 3, &error));
    rig.device.regions.limit_bytes = 1000;
    rig.device.regions.region[REGION_ARENA].needed_bytes = 1000 - BYTES;
    assert_true(repeat(&rig, 3, &error));
    rig.device.regions.region[REGION_WEIGHTS].needed_bytes = 1;
    assert_false(repeat(&rig, 3, &error));
    assert_int_equal(error.code, ERROR_MEMORY_LIMIT);
    /* what needs no copies needs no room */
    gpu.over[0] = false;
    rig.device.regions.region[REGION_WEIGHTS].needed_bytes = 0;
    gpu.free_bytes = 0;
    assert_true(repeat(&rig, 3, &error));
    /* and the driver may refuse all the same */
    gpu.over[0] = true;
    gpu.free_bytes = UINT64_C(1) << 30;
    gpu.full = true;
    assert_false(repeat(&rig, 3, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
}

static void failures_and_interrupts_are_waited_for(void **state)
{
    struct rig rig;
    struct error error;
    (void)state;
    rig_init(&rig);
    gpu.over[0] = true;
    gpu.fail_at = 7;
    assert_false(repeat(&rig, 20, &error));
    assert_int_equal(error.code, ERROR_CUDA);
    assert_int_equal(gpu.launches, 7);
    assert_int_equal(gpu.waits, 2);
    rig_init(&rig);
    gpu.cancel_at = 9;
    assert_false(repeat(&rig, 20, &error));
    assert_int_equal(error.code, ERROR_INTERRUPTED);
    assert_int_equal(gpu.launches, 9);
    assert_int_equal(gpu.waits, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_are_copied_once_and_waited_for_once),
        cmocka_unit_test(what_is_written_over_is_put_back),
        cmocka_unit_test(without_room_nothing_is_taken),
        cmocka_unit_test(failures_and_interrupts_are_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else /* built with CUDA=0 */
#include "support/no_cuda.h"

int main(void)
{
    return no_cuda_main();
}
#endif
