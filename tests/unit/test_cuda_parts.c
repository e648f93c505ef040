/* The parts of the CUDA backend that are plain computation: CUDA_VISIBLE_DEVICES, the arena's
 * bookkeeping on a mapper that only counts, what is left to the system, and elementwise chains.
 * Without CUDA headers every test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LAYERTOP_CUDA_HEADERS
#include "engine/cuda/arena.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/regions.h"
#include "engine/visible.h"

/* -- CUDA_VISIBLE_DEVICES ------------------------------------------------------------------- */

static void test_visible(void **state)
{
    static const char *const uuids[] = {"GPU-aaaa1111-0", "GPU-aaaa2222-0", "GPU-bbbb3333-0"};
    static const struct {
        const char *text;
        size_t known;
        int count, indices[4];
        size_t bad, tokens;
        const char *says; /* part of the sentence; "" for none */
    } rows[] = {
        {NULL, 3, 3, {0, 1, 2}, 0, 0, ""},
        {"0,1,2", 3, 3, {0, 1, 2}, 0, 3, ""},
        {"2,0", 3, 2, {2, 0}, 0, 2, ""},
        {" 1 , 2", 3, 2, {1, 2}, 0, 2, ""},
        {"", 3, 0, {0}, 1, 1, "set and empty"},
        {"-1", 3, 0, {0}, 1, 1, "token 1 of 1 (-1)"},
        {"0,2,-1,1", 3, 2, {0, 2}, 3, 4, "token 3 of 4 (-1) is invalid"},
        {"0,7,1", 3, 1, {0}, 2, 3, "there are 3 GPUs"},
        {"3", 3, 0, {0}, 1, 1, "there are 3 GPUs"},
        {"1", 1, 0, {0}, 1, 1, "there is 1 GPU"},
        {"0,0", 3, 0, {0}, 2, 2, "named twice"},
        {"1,GPU-aaaa2", 3, 0, {0}, 2, 2, "named twice"},
        {"GPU-bbbb", 3, 1, {2}, 0, 1, ""},
        {"gpu-bbbb,0", 3, 2, {2, 0}, 0, 2, ""},
        {"GPU-aaaa", 3, 0, {0}, 1, 1, "several GPUs begin so"},
        {"GPU-cccc,0", 3, 0, {0}, 1, 2, "no GPU has this UUID"},
        {"all", 3, 0, {0}, 1, 1, "neither an index nor a UUID"},
        {"0,", 3, 1, {0}, 2, 2, "token 2 of 2 (nothing)"},
        {"1x", 3, 0, {0}, 1, 1, "neither"},
        {"MIG-1234", 3, 1, {VISIBLE_UNKNOWN}, 0, 1, ""},
        {"5,6", 0, 2, {5, 6}, 0, 2, ""},
        {"GPU-aaaa", 0, 1, {VISIBLE_UNKNOWN}, 0, 1, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct visible visible;
        char text[512];
        visible_parse(&visible, rows[i].text, uuids, rows[i].known);
        assert_int_equal(visible.count, rows[i].count);
        for (int j = 0; j < rows[i].count; j++) {
            assert_int_equal(visible.indices[j], rows[i].indices[j]);
        }
        assert_int_equal(visible.bad_token, rows[i].bad);
        assert_int_equal(visible.token_count, rows[i].tokens);
        assert_true(visible.restricted == (rows[i].text != NULL));
        visible_describe(text, sizeof text, &visible, rows[i].text);
        if (rows[i].says[0] == '\0') {
            assert_string_equal(text, "");
        } else if (strstr(text, rows[i].says) == NULL) {
            fail_msg("\"%s\": %s", rows[i].text, text);
        }
    }
}

/* -- the arena on a mapper that only counts ---------------------------------------------------- */

struct fake {
    uint64_t budget, taken, handles;
    int64_t mapped;     /* bytes mapped now */
    int fail_map_after; /* the n-th map from now fails; negative: none */
};

static bool fake_take(void *context, uint64_t bytes, uint64_t *handle, struct error *error)
{
    struct fake *fake = context;
    if (fake->taken + bytes > fake->budget) {
        return error_set(error, ERROR_MEMORY, "fake", "no memory");
    }
    fake->taken += bytes;
    *handle = ++fake->handles;
    return true;
}

static void fake_give(void *context, uint64_t bytes, uint64_t handle)
{
    struct fake *fake = context;
    assert_true(handle > 0 && handle <= fake->handles);
    assert_true(fake->taken >= bytes);
    fake->taken -= bytes;
}

static bool fake_map(void *context, uint64_t address, uint64_t bytes, uint64_t handle,
                     struct error *error)
{
    struct fake *fake = context;
    (void)handle;
    assert_true(address >= 0x1000);
    if (fake->fail_map_after == 0) {
        fake->fail_map_after = -1;
        return error_set(error, ERROR_CUDA, "fake", "no mapping");
    }
    fake->fail_map_after -= fake->fail_map_after > 0;
    fake->mapped += (int64_t)bytes;
    return true;
}

static void fake_unmap(void *context, uint64_t address, uint64_t bytes)
{
    struct fake *fake = context;
    (void)address;
    fake->mapped -= (int64_t)bytes;
}

static void check_arena(const struct arena *arena, const struct fake *fake, uint64_t bytes)
{
    uint64_t at = 0;
    assert_int_equal(arena->mapped_bytes, bytes);
    assert_int_equal(fake->mapped, bytes);
    assert_int_equal(fake->taken, bytes);
    for (size_t i = 0; i < arena->chunk_count; i++) {
        assert_int_equal(arena->chunks[i].offset, at);
        at += arena->chunks[i].bytes;
    }
    assert_int_equal(at, bytes);
}

static void test_arena(void **state)
{
    struct fake fake = {.budget = 100, .fail_map_after = -1};
    struct arena_mapper mapper = {&fake, fake_take, fake_give, fake_map, fake_unmap};
    struct arena arena;
    struct error error = {0};
    (void)state;

    arena_init(&arena, &mapper, 0x1000, 120, 2, 16, false);
    assert_true(arena_grow(&arena, 35, &error)); /* 16 + 16 + 4 */
    check_arena(&arena, &fake, 36);
    assert_int_equal(arena.chunk_count, 3);
    assert_true(arena_grow(&arena, 20, &error)); /* nothing to do */
    check_arena(&arena, &fake, 36);

    /* past the budget: as before, and the mapper's error */
    assert_false(arena_grow(&arena, 110, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    check_arena(&arena, &fake, 36);
    /* past the addresses */
    assert_false(arena_grow(&arena, 121, &error));
    assert_int_equal(error.code, ERROR_MEMORY);
    assert_false(arena_grow(&arena, UINT64_MAX, &error));
    check_arena(&arena, &fake, 36);
    /* a mapping fails half-way: what was taken for it is given back */
    fake.fail_map_after = 2;
    assert_false(arena_grow(&arena, 90, &error));
    check_arena(&arena, &fake, 36);
    /* and it still grows afterwards, to the last byte */
    assert_true(arena_grow(&arena, 100, &error));
    check_arena(&arena, &fake, 100);

    /* shrink: contents kept means whole chunks only */
    arena_shrink(&arena, 41, true);
    check_arena(&arena, &fake, 52);
    /* 42 needs a smaller piece, but the budget has none to take first: it stays */
    fake.budget = 52;
    arena_shrink(&arena, 41, false);
    check_arena(&arena, &fake, 52);
    fake.budget = 100;
    arena_shrink(&arena, 41, false);
    check_arena(&arena, &fake, 42);
    arena_shrink(&arena, 0, false);
    check_arena(&arena, &fake, 0);
    arena_clear(&arena);
}

static void test_arena_pool(void **state)
{
    struct fake fake = {.budget = 48, .fail_map_after = -1};
    struct arena_mapper mapper = {&fake, fake_take, fake_give, fake_map, fake_unmap};
    struct arena arena;
    struct error error = {0};
    (void)state;

    arena_init(&arena, &mapper, 0x1000, 160, 2, 16, true);
    assert_true(arena_grow(&arena, 17, &error));
    check_arena(&arena, &fake, 32);
    assert_false(arena_grow(&arena, 49, &error));
    check_arena(&arena, &fake, 32);
    arena_shrink(&arena, 3, false);
    check_arena(&arena, &fake, 16);
    arena_clear(&arena);
    assert_int_equal(fake.taken, 0);
}

static void test_system_bytes(void **state)
{
    uint64_t gib = 1ull << 30, mib = 1ull << 20;
    (void)state;
    assert_int_equal(regions_system_bytes(140 * gib, 9), 1800 * mib);
    assert_int_equal(regions_system_bytes(140 * gib, 10), 1800 * mib);
    assert_int_equal(regions_system_bytes(40 * gib, 8), 1536 * mib);
    assert_int_equal(regions_system_bytes(16 * gib, 7), 1050 * mib);
    assert_int_equal(regions_system_bytes(2 * gib - 1, 9), 225 * mib);
}

/* -- chains: merged axes and modes read the same elements ------------------------------------- */

/* Where the kernel reads an operand for element i (chain.cuh, read_operand). */
static int64_t offset_by_mode(const struct chain *chain, const struct operand *operand, int64_t i)
{
    int64_t offset = 0;
    switch (operand->mode) {
    case OPERAND_SCALAR:
        return 0;
    case OPERAND_LINEAR:
        return i;
    case OPERAND_LAST:
        return i % chain->dims[chain->rank - 1];
    default:
        for (int axis = chain->rank - 1; axis >= 0; axis--) {
            offset += i % chain->dims[axis] * operand->strides[axis];
            i /= chain->dims[axis];
        }
        return offset;
    }
}

static int64_t offset_by_broadcast(const struct shape *shape, const struct shape *operand,
                                   int64_t i)
{
    int64_t offset = 0, stride = 1;
    for (int axis = shape->rank - 1, at = operand->rank - 1; axis >= 0; axis--, at--) {
        int64_t index = i % shape->dims[axis];
        i /= shape->dims[axis];
        if (at >= 0) {
            offset += operand->dims[at] == 1 ? 0 : index * stride;
            stride *= operand->dims[at];
        }
    }
    return offset;
}

static void test_chain(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct shape shape = {.rank = 1 + round % 5}, operands[3];
        struct chain chain;
        for (int i = 0; i < shape.rank; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            shape.dims[i] = 1 + (int64_t)(seed >> 33) % 5;
        }
        if (round % 4 == 0) {
            shape.dims[shape.rank - 1] = 8;
        }
        chain_begin(&chain, &shape);
        chain.dtype = round % 2 ? DTYPE_F16 : DTYPE_F32; /* eight at a time, or four */
        for (int o = 0; o < 3; o++) {
            operands[o] = shape;
            for (int i = 0; i < shape.rank; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                operands[o].dims[i] = (seed >> 40) % 2 ? 1 : shape.dims[i];
            }
            if (o == 2) { /* as a bias comes */
                operands[o] = (struct shape){.rank = 1, .dims = {shape.dims[shape.rank - 1]}};
            }
        }
        chain.x = chain_operand(&chain, &operands[0]);
        chain.count = 2;
        for (int o = 0; o < 2; o++) {
            chain.stages[o].kind = STAGE_BINARY;
            chain.stages[o].operand = chain_operand(&chain, &operands[o + 1]);
        }
        chain.select = round % 3 == 0;
        chain.chosen[0] = chain_operand(&chain, &operands[1]);
        chain.chosen[1] = chain_operand(&chain, &operands[0]);
        chain_finish(&chain);
        const struct operand *made[] = {&chain.x, &chain.stages[0].operand,
                                        &chain.stages[1].operand, &chain.chosen[0],
                                        &chain.chosen[1]};
        const struct shape *read[] = {&operands[0], &operands[1], &operands[2], &operands[1],
                                      &operands[0]};
        int count = chain.select ? 5 : 3;
        for (int64_t i = 0; i < chain.elements; i++) {
            for (int o = 0; o < count; o++) {
                int64_t wanted = offset_by_broadcast(&shape, read[o], i);
                assert_int_equal(offset_by_mode(&chain, made[o], i), wanted);
                if (chain.vector > 1 && made[o]->mode != OPERAND_SCALAR && i % chain.vector == 0) {
                    /* neighbours: one aligned load, or one value */
                    int64_t more = chain.vector - 1,
                            last = offset_by_mode(&chain, made[o], i + more);
                    bool one = last == wanted;
                    bool many = last == wanted + more && wanted % chain.vector == 0;
                    assert_true(one || many);
                }
            }
        }
    }
}

static void test_chain_modes(void **state)
{
    struct shape shape = {.rank = 4, .dims = {2, 3, 3, 8}};
    struct shape channel = {.rank = 1, .dims = {8}}, one = {.rank = 1, .dims = {1}};
    struct shape gate = {.rank = 4, .dims = {2, 1, 1, 8}};
    struct chain chain;
    (void)state;
    chain_begin(&chain, &shape);
    chain.count = 3;
    const struct shape *operands[] = {&channel, &one, &shape};
    for (int i = 0; i < 3; i++) {
        chain.stages[i].kind = STAGE_BINARY;
        chain.stages[i].operand = chain_operand(&chain, operands[i]);
    }
    chain_finish(&chain);
    assert_int_equal(chain.rank, 2);
    assert_int_equal(chain.dims[0], 18);
    assert_int_equal(chain.vector, 4);
    assert_int_equal(chain.x.mode, OPERAND_LINEAR);
    assert_int_equal(chain.stages[0].operand.mode, OPERAND_LAST);
    assert_int_equal(chain.stages[1].operand.mode, OPERAND_SCALAR);
    assert_int_equal(chain.stages[2].operand.mode, OPERAND_LINEAR);
    /* a squeeze-and-excite gate */
    chain_begin(&chain, &shape);
    chain.count = 1;
    chain.stages[0].kind = STAGE_BINARY;
    chain.stages[0].operand = chain_operand(&chain, &gate);
    chain_finish(&chain);
    assert_int_equal(chain.rank, 3);
    assert_int_equal(chain.stages[0].operand.mode, OPERAND_STRIDED);
    assert_int_equal(chain.vector, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_visible),    cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_pool), cmocka_unit_test(test_system_bytes),
        cmocka_unit_test(test_chain),      cmocka_unit_test(test_chain_modes),
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
