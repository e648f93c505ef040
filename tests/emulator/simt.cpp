/* The coroutines of a block, and when they wait for one another. */
#include "tests/emulator/simt.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#define STACK_BYTES ((size_t)128 << 10)
#define THREADS_MAX 1024

namespace {
enum state { RUNS, AT_BARRIER, AT_WARP_BARRIER, ENDED };

struct coroutine {
    ucontext_t context; /* for the first time; then jumps, which need no system call */
    jmp_buf place;
    bool begun;
    simt_index index;
    state now;
    unsigned exchanges; /* shuffles so far: two sets of slots take turns */
};

coroutine threads[THREADS_MAX];
jmp_buf scheduler;
uint32_t slots[2][THREADS_MAX][8];
unsigned running, count;
const std::function<void()> *body;
char *stacks;

/* From a coroutine to the scheduler, and the other way. */
void leave()
{
    if (_setjmp(threads[running].place) == 0) {
        _longjmp(scheduler, 1);
    }
}

void enter()
{
    coroutine *c = &threads[running];
    if (_setjmp(scheduler) == 0) {
        if (c->begun) {
            _longjmp(c->place, 1);
        }
        c->begun = true;
        setcontext(&c->context);
    }
}

/* A coroutine serves one thread after another. */
void entry()
{
    for (;;) {
        (*body)();
        threads[running].now = ENDED;
        leave();
    }
}

void start(unsigned thread)
{
    coroutine *c = &threads[thread];
    if (!c->begun) {
        getcontext(&c->context);
        c->context.uc_stack.ss_sp = stacks + thread * STACK_BYTES;
        c->context.uc_stack.ss_size = STACK_BYTES;
        c->context.uc_link = nullptr;
        makecontext(&c->context, entry, 0);
    }
    c->now = RUNS;
    c->exchanges = 0;
    c->index = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                thread / blockDim.x / blockDim.y};
}

void wait(state until)
{
    threads[running].now = until;
    leave();
}

/* Let threads first..end go on if all that live wait there. */
bool release(unsigned first, unsigned end, state from)
{
    bool any = false;
    for (unsigned i = first; i < end; i++) {
        if (threads[i].now != from && threads[i].now != ENDED) {
            return false;
        }
        any = any || threads[i].now == from;
    }
    for (unsigned i = first; i < end; i++) {
        threads[i].now = threads[i].now == from ? RUNS : threads[i].now;
    }
    return any;
}

/* Run every thread as far as it goes; false if none could. */
bool advance()
{
    bool moved = false;
    for (unsigned first = 0; first < count; first += 32) {
        unsigned end = first + 32 < count ? first + 32 : count;
        do {
            for (running = first; running < end; running++) {
                if (threads[running].now == RUNS) {
                    simt_thread = threads[running].index;
                    enter();
                    moved = true;
                }
            }
        } while (release(first, end, AT_WARP_BARRIER));
    }
    return release(0, count, AT_BARRIER) || moved;
}

bool all_ended()
{
    for (unsigned i = 0; i < count; i++) {
        if (threads[i].now != ENDED) {
            return false;
        }
    }
    return true;
}
} // namespace

simt_index simt_thread, simt_block;
dim3 simt_block_dim, simt_grid_dim;

unsigned simt_lane()
{
    return running % 32;
}

void simt_barrier()
{
    wait(AT_BARRIER);
}

void simt_warp_barrier()
{
    wait(AT_WARP_BARRIER);
}

const uint32_t (*simt_exchange(const uint32_t *mine, unsigned words))[8]
{
    unsigned set = threads[running].exchanges++ % 2, me = running;
    memcpy(slots[set][me], mine, words * sizeof *mine);
    wait(AT_WARP_BARRIER);
    return &slots[set][me / 32 * 32];
}

uint32_t simt_shuffle(uint32_t value, unsigned lane)
{
    return simt_exchange(&value, 1)[lane % 32][0];
}

void simt_run(dim3 grid, dim3 block, const std::function<void()> &thread)
{
    if (stacks == nullptr) {
        stacks = (char *)mmap(nullptr, THREADS_MAX * STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    count = block.x * block.y * block.z;
    if (count > THREADS_MAX || count == 0 || grid.y > 65535 || grid.z > 65535) {
        fprintf(stderr, "emulator: a block of %u threads, grid %u x %u\n", count, grid.y, grid.z);
        abort();
    }
    body = &thread;
    simt_block_dim = block;
    simt_grid_dim = grid;
    for (simt_block.z = 0; simt_block.z < grid.z; simt_block.z++) {
        for (simt_block.y = 0; simt_block.y < grid.y; simt_block.y++) {
            for (simt_block.x = 0; simt_block.x < grid.x; simt_block.x++) {
                for (unsigned i = 0; i < count; i++) {
                    start(i);
                }
                while (!all_ended()) {
                    if (!advance()) {
                        fprintf(stderr, "emulator: not all threads reach a barrier\n");
                        abort();
                    }
                }
            }
        }
    }
}
