/* Recurrent layers: one op is one parallel region over the whole sequence. The product of the inputs
 * with the kernel is done for many steps at once, into a buffer that stays in the cache; then comes
 * step after step, with a barrier behind each. Every thread owns some panels (recurrent.h) and
 * perhaps a share of the samples. */
#include "engine/cpu/recurrent.h"
#include "engine/cpu/build.h"
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* The buffer of inputs times kernel: a few steps, and no more than the cores' second-level caches
 * hold together. */
#define CHUNK_BYTES ((int64_t)2 << 20)
/* Multiplications a step below which a second thread costs more than it brings. */
#define STEP_ALONE  65536

/* One product a step and the cells behind it. All cells have one; GRU that resets before its product
 * has two: update and reset, then the candidate. */
struct stage {
    int first_gate, gates, vectors;
    int64_t panels, units;          /* of one panel */
    const void *kernel, *recurrent; /* panels of float32, or of bfloat16 if the plan is narrow */
    const float *bias, *recurrent_bias;
    int64_t z_offset; /* in floats, within the chunk buffer */
    void (*cells)(const struct recurrent_functions *f, const struct recurrent_cells *cells);
};

struct recurrent_plan {
    const struct op_recurrent *op;
    const struct recurrent_kernels *kernels;
    int64_t samples, steps, features, units;
    int64_t row; /* floats of a sample's state: the units, filled up to whole panels */
    int64_t chunk;
    struct stage stages[2];
    int stage_count;
    bool narrow;              /* values and weights are bfloat16; sums and states float32 */
    bool tiles;               /* and blocks of rows are multiplied with AMX */
    bool gathers;             /* narrow: a chunk of inputs is copied side by side */
    int64_t depth_x, depth_h; /* of the two products; narrow: filled up to RECURRENT_DEPTH */
    int64_t row16;            /* narrow: values of a sample's state in bfloat16 */
    int64_t row_x;            /* narrow: and of its inputs, with zeros behind */
    int64_t h16_at[2], x_at;  /* narrow: the states, and a chunk of inputs per thread */
    /* in floats, within the scratchpad */
    int64_t h_at[2], c_at, update_at, reset_at, z_at, first_at;
    size_t scratch_bytes;
    int threads, sample_groups;
};

static const struct recurrent_kernels *kernels_of_machine(void)
{
#ifdef RECURRENT_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return &recurrent_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &recurrent_kernels_avx2;
#endif
    return &recurrent_kernels_plain;
}

/* ---- weights in panels ---- */

struct packing {
    const struct stage *stage;
    int64_t first_row, depth, units, columns; /* rows of (.., columns) */
    int64_t filled;                           /* narrow: the depth with zeros behind */
};

/* The weight of row k of one unit of a panel. */
static float weight_at(const struct packing *p, const float *data, int64_t k, int gate,
                       int64_t unit)
{
    if (k >= p->depth || unit >= p->units)
        return 0;
    return data[(p->first_row + k) * p->columns + (p->stage->first_gate + gate) * p->units + unit];
}

/* Two rows side by side: k and k + 1 of each unit. */
static void pack_narrow(void *to, const float *data, const void *context)
{
    const struct packing *p = context;
    const struct stage *stage = p->stage;
    int64_t width = 2 * stage->units * stage->gates, panel_size = p->filled / 2 * width;
#pragma omp parallel for
    for (int64_t panel = 0; panel < stage->panels; panel++) {
        uint16_t *out = (uint16_t *)to + panel * panel_size;
        for (int64_t k = 0; k < p->filled; k += 2, out += width) {
            float pairs[2 * RECURRENT_VECTORS_MAX * RECURRENT_LANES];
            for (int64_t i = 0; i < width; i++) {
                int64_t unit = panel * stage->units + i / 2 % stage->units;
                pairs[i] = weight_at(p, data, k + i % 2, (int)(i / 2 / stage->units), unit);
            }
            own_narrow_row(pairs, out, width);
        }
    }
}

static void pack(void *to, const float *data, const void *context)
{
    const struct packing *p = context;
    const struct stage *stage = p->stage;
    float *out = to;
    for (int64_t panel = 0; panel < stage->panels; panel++) {
        for (int64_t k = 0; k < p->depth; k++) {
            for (int gate = 0; gate < stage->gates; gate++) {
                const float *row =
                    data + (p->first_row + k) * p->columns + (stage->first_gate + gate) * p->units;
                for (int64_t i = 0; i < stage->units; i++, out++) {
                    int64_t unit = panel * stage->units + i;
                    *out = unit < p->units ? row[unit] : 0;
                }
            }
        }
    }
}

/* Rows from..from+depth of a constant as panels; `tag` tells apart what is made of one constant. */
static const void *panels_of(struct builder *b, const struct recurrent_plan *plan,
                             const struct stage *stage, const struct constant *constant,
                             int64_t first_row, int64_t depth, int64_t filled)
{
    bool narrow = filled > 0;
    struct packing packing = {.stage = stage,
                              .first_row = first_row,
                              .depth = depth,
                              .filled = filled,
                              .units = plan->units,
                              .columns = plan->units * recurrent_gates(plan->op->cell)};
    uint64_t tag = 1 + ((uint64_t)narrow << 62 | (uint64_t)first_row << 8 |
                        (uint64_t)stage->first_gate << 4 | (uint64_t)stage->gates);
    size_t elements =
        (size_t)(stage->panels * (narrow ? filled : depth) * stage->vectors * RECURRENT_LANES);
    size_t bytes = elements * (narrow ? sizeof(uint16_t) : sizeof(float));
    if (b->plan->dry) {
        weights_want_panels(b->plan, constant, tag, bytes);
        return NULL;
    }
    const void *panels = weights_panels(b->device, constant, tag, bytes,
                                        narrow ? pack_narrow : pack, &packing, b->error);
    b->failed |= panels == NULL;
    b->step->panels[b->step->panel_count++] = panels;
    return panels;
}

static void add_stage(struct builder *b, struct recurrent_plan *plan, int first_gate, int gates,
                      void (*cells)(const struct recurrent_functions *,
                                    const struct recurrent_cells *))
{
    const struct op_recurrent *op = plan->op;
    struct stage *stage = &plan->stages[plan->stage_count++];
    *stage = (struct stage){.first_gate = first_gate, .gates = gates, .cells = cells};
    stage->vectors = gates == 1 ? RECURRENT_VECTORS_MAX : gates;
    stage->units = (int64_t)stage->vectors * RECURRENT_LANES / gates;
    stage->panels = (plan->units + stage->units - 1) / stage->units;
    int64_t filled_x = plan->narrow ? plan->depth_x : 0,
            filled_h = plan->narrow ? plan->depth_h : 0;
    stage->kernel = panels_of(b, plan, stage, op->kernel, 0, plan->features, filled_x);
    stage->recurrent = panels_of(b, plan, stage, op->recurrent, 0, plan->units, filled_h);
    if (op->bias)
        stage->bias = panels_of(b, plan, stage, op->bias, 0, 1, 0);
    if (op->bias && op->reset_after)
        stage->recurrent_bias = panels_of(b, plan, stage, op->bias, 1, 1, 0);
    if (stage->panels * stage->units > plan->row)
        plan->row = stage->panels * stage->units;
}

/* ---- the scratchpad ---- */

static int64_t take(struct recurrent_plan *plan, int64_t floats)
{
    int64_t at = (int64_t)(plan->scratch_bytes / sizeof(float));
    plan->scratch_bytes += (size_t)((floats + 15) & ~(int64_t)15) * sizeof(float);
    return at;
}

/* The distance of rows of a block, which should not share a few sets of the cache. */
static int64_t apart(int64_t width)
{
    return width % 256 == 0 ? width + RECURRENT_DEPTH : width;
}

static void lay_out(struct recurrent_plan *plan)
{
    int64_t state = plan->samples * plan->row, step = 0;
    plan->h_at[0] = take(plan, state);
    plan->h_at[1] = take(plan, state);
    plan->c_at = take(plan, state);
    if (plan->narrow) { /* between c and update: begin() clears up to `reset` */
        plan->row16 = plan->row > plan->depth_h ? plan->row : plan->depth_h;
        plan->row16 = (plan->row16 + RECURRENT_DEPTH - 1) / RECURRENT_DEPTH * RECURRENT_DEPTH;
        plan->row16 = apart(plan->row16);
        plan->row_x = apart(plan->depth_x);
        plan->h16_at[0] = take(plan, plan->samples * plan->row16 / 2);
        plan->h16_at[1] = take(plan, plan->samples * plan->row16 / 2);
    }
    plan->update_at = take(plan, state);
    plan->reset_at = take(plan, state);
    plan->first_at = take(plan, plan->samples * 2); /* int64_t */
    for (int i = 0; i < plan->stage_count; i++) {
        const struct stage *stage = &plan->stages[i];
        step += plan->samples * stage->panels * stage->vectors * RECURRENT_LANES;
    }
    plan->chunk = CHUNK_BYTES / (int64_t)sizeof(float) / step;
    plan->chunk = plan->chunk < 1 ? 1 : plan->chunk > plan->steps ? plan->steps : plan->chunk;
    plan->z_at = take(plan, step * plan->chunk);
    if (plan->gathers)
        plan->x_at = take(plan, plan->threads * plan->chunk * plan->samples * plan->row_x / 2);
    int64_t at = 0;
    for (int i = 0; i < plan->stage_count; i++) {
        struct stage *stage = &plan->stages[i];
        stage->z_offset = at;
        at += plan->samples * plan->chunk * stage->panels * stage->vectors * RECURRENT_LANES;
    }
}

/* ---- a step ---- */

/* What one thread works on. */
struct share {
    const struct recurrent_plan *plan;
    const struct own_call *call;
    float *scratch;
    int64_t first_sample, end_sample; /* of every panel it owns */
    int64_t first_panel[2], end_panel[2];
    const void *x, *mask; /* bfloat16 if the plan is narrow */
    uint16_t *rows;       /* narrow: a chunk of x */
};

static int64_t time_of(const struct recurrent_plan *plan, int64_t step)
{
    return plan->op->backwards ? plan->steps - 1 - step : step;
}

/* A share's z of one panel: row (step in chunk, sample) of vectors * RECURRENT_LANES. */
static float *z_of(const struct share *share, const struct stage *stage, int64_t panel,
                   int64_t step_in_chunk, int64_t sample)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t width = stage->vectors * RECURRENT_LANES;
    int64_t row = (panel * plan->samples + 0) * plan->chunk; /* rows of earlier panels */
    int64_t mine = share->end_sample - share->first_sample;
    row += share->first_sample * plan->chunk + step_in_chunk * mine + sample - share->first_sample;
    return share->scratch + plan->z_at + stage->z_offset + row * width;
}

static size_t element_bytes(const struct recurrent_plan *plan)
{
    return plan->narrow ? sizeof(uint16_t) : sizeof(float);
}

/* The inputs of one sample at a step. */
static const void *row_of_x(const struct share *share, int64_t step, int64_t sample)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t at = (sample * plan->steps + time_of(plan, step)) * plan->features;
    return (const char *)share->x + (size_t)at * element_bytes(plan);
}

/* The inputs of a chunk side by side, with zeros up to the depth: then a few samples make blocks of
 * many steps. Many samples make blocks of their own, and a copy would cost more than it brings. */
static void gather(const struct share *share, int64_t first_step, int64_t steps)
{
    const struct recurrent_plan *plan = share->plan;
    uint16_t *to = share->rows;
    for (int64_t step = first_step; step < first_step + steps; step++) {
        for (int64_t n = share->first_sample; n < share->end_sample; n++, to += plan->row_x) {
            memcpy(to, row_of_x(share, step, n), (size_t)plan->features * sizeof *to);
            memset(to + plan->features, 0, (size_t)(plan->depth_x - plan->features) * sizeof *to);
        }
    }
}

/* Row `row` of a chunk: the inputs of one sample at a step. */
static const uint16_t *row_of_chunk(const struct share *share, int64_t first_step, int64_t row)
{
    int64_t mine = share->end_sample - share->first_sample;
    if (share->plan->gathers)
        return share->rows + row * share->plan->row_x;
    return row_of_x(share, first_step + row / mine, share->first_sample + row % mine);
}

/* z += x kernel for `count` rows from `row` of the chunk on, in bfloat16. */
static void project_narrow(const struct share *share, const struct stage *stage, int64_t panel,
                           int64_t first_step, int64_t row, int count, float *z)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t width = stage->vectors * RECURRENT_LANES;
    const uint16_t *weights = (const uint16_t *)stage->kernel + panel * plan->depth_x * width;
    const uint16_t *list[2 * RECURRENT_BLOCK];
    for (int i = 0; i < count; i++)
        list[i] = row_of_chunk(share, first_step, row + i);
    if (count >= RECURRENT_BLOCK)
        recurrent_bf16_block(list[0], list[1] - list[0], count, weights, plan->depth_x,
                             stage->vectors, z);
    else
        recurrent_bf16_rows(list, count, weights, plan->depth_x, stage->vectors, z);
}

/* How many of the samples from `sample` on are multiplied at a time: as many as a block of tiles has
 * rows, or fewer. */
static int rows_at_once(const struct recurrent_plan *plan, int64_t left)
{
    if (plan->tiles && left >= RECURRENT_BLOCK)
        return left >= 2 * RECURRENT_BLOCK ? 2 * RECURRENT_BLOCK : RECURRENT_BLOCK;
    return (int)(left < RECURRENT_ROWS ? left : RECURRENT_ROWS);
}

/* z = x kernel + bias for the steps of a chunk. */
static void project(const struct share *share, const struct stage *stage, int64_t panel,
                    int64_t first_step, int64_t steps)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t width = stage->vectors * RECURRENT_LANES,
            mine = share->end_sample - share->first_sample;
    int64_t rows = steps * mine;
    float *z = z_of(share, stage, panel, 0, share->first_sample);
    const float *weights = (const float *)stage->kernel + panel * plan->features * width;
    const float *bias = stage->bias ? stage->bias + panel * width : NULL;
    for (int64_t row = 0, count; row < rows; row += count, z += count * width) {
        /* the rows of a block lie evenly: in place, they are of one step */
        count = rows_at_once(plan, plan->gathers || !plan->tiles ? rows - row : mine - row % mine);
        for (int64_t i = 0; i < count; i++) {
            if (bias)
                memcpy(z + i * width, bias, (size_t)width * sizeof *z);
            else
                memset(z + i * width, 0, (size_t)width * sizeof *z);
        }
        if (plan->narrow) {
            project_narrow(share, stage, panel, first_step, row, (int)count, z);
            continue;
        }
        const float *list[RECURRENT_ROWS];
        for (int64_t i = 0; i < count; i++)
            list[i] = row_of_x(share, first_step + (row + i) / mine,
                               share->first_sample + (row + i) % mine);
        plan->kernels->tile(list, (int)count, weights, plan->features, stage->vectors, z);
    }
}

static const int64_t *first_steps(const struct share *share)
{
    return (const int64_t *)(const void *)(share->scratch + share->plan->first_at);
}

/* Some units of one sample: put out what the step gave. */
static void put_out(const struct share *share, int64_t sample, int64_t step, int64_t unit,
                    int64_t units, bool real, const float *h)
{
    const struct recurrent_plan *plan = share->plan;
    const struct op_recurrent *op = plan->op;
    int64_t steps = op->sequences ? plan->steps : 1;
    int64_t place = !op->sequences ? 0 : op->flipped ? plan->steps - 1 - step : step;
    if (!op->sequences && step != plan->steps - 1)
        return;
    bool zero = !real && (op->masked == MASKED_ZERO ||
                          (op->masked == MASKED_PREVIOUS && step < first_steps(share)[sample]));
    int64_t count = plan->units - unit < units ? plan->units - unit : units;
    int64_t at = (sample * steps + place) * plan->units + unit;
    char *y = (char *)share->call->output + (size_t)at * element_bytes(plan);
    if (zero)
        memset(y, 0, (size_t)count * element_bytes(plan));
    else if (plan->narrow)
        own_narrow_row(h, (uint16_t *)(void *)y, count);
    else
        memcpy(y, h, (size_t)count * sizeof *h);
}

static bool is_real(const struct share *share, int64_t sample, int64_t step)
{
    int64_t at = sample * share->plan->steps + time_of(share->plan, step);
    if (!share->mask)
        return true;
    if (share->plan->narrow)
        return (((const uint16_t *)share->mask)[at] & 0x7fff) != 0;
    return ((const float *)share->mask)[at] != 0;
}

static uint16_t *narrow_state(const struct share *share, int64_t step, int64_t sample)
{
    const struct recurrent_plan *plan = share->plan;
    return (uint16_t *)(void *)(share->scratch + plan->h16_at[step % 2]) + sample * plan->row16;
}

/* One panel's units of one sample. */
static void run_cells(const struct share *share, const struct stage *stage, int64_t step,
                      int64_t sample, int64_t panel, const float *z, const float *u)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t unit = panel * stage->units, at = sample * plan->row + unit;
    float *scratch = share->scratch;
    struct recurrent_cells cells = {.z = z,
                                    .u = u,
                                    .before = scratch + plan->h_at[step % 2] + at,
                                    .h = scratch + plan->h_at[(step + 1) % 2] + at,
                                    .c = scratch + plan->c_at + at,
                                    .update = scratch + plan->update_at + at,
                                    .reset = scratch + plan->reset_at + at};
    bool last = stage == &plan->stages[plan->stage_count - 1];
    bool real = is_real(share, sample, step);
    const struct recurrent_functions functions = {plan->op->activation, plan->op->gate};
    if (real)
        stage->cells(&functions, &cells);
    else if (last)
        memcpy(cells.h, cells.before, (size_t)stage->units * sizeof *cells.h);
    if (plan->narrow)
        own_narrow_row(cells.h, narrow_state(share, step + 1, sample) + unit, stage->units);
    if (last)
        put_out(share, sample, step, unit, stage->units, real, cells.h);
}

/* One step of one panel over the share's samples. */
static void run_panel(const struct share *share, const struct stage *stage, int64_t panel,
                      int64_t step, int64_t step_in_chunk)
{
    const struct recurrent_plan *plan = share->plan;
    int64_t width = stage->vectors * RECURRENT_LANES;
    int64_t weights = panel * plan->depth_h * width;
    /* the candidate of a GRU that resets first multiplies the reset state */
    int64_t from = stage == &plan->stages[1] ? plan->reset_at : plan->h_at[step % 2];
    int count;
    for (int64_t sample = share->first_sample; sample < share->end_sample; sample += count) {
        const float *rows[2 * RECURRENT_BLOCK];
        const uint16_t *narrow_rows[2 * RECURRENT_BLOCK];
        float u[2 * RECURRENT_BLOCK * RECURRENT_VECTORS_MAX * RECURRENT_LANES];
        count = rows_at_once(plan, share->end_sample - sample);
        float *z = z_of(share, stage, panel, step_in_chunk, sample);
        for (int i = 0; i < count; i++) {
            rows[i] = share->scratch + from + (sample + i) * plan->row;
            narrow_rows[i] = plan->narrow ? narrow_state(share, step, sample + i) : NULL;
            if (!plan->op->reset_after)
                continue;
            if (stage->recurrent_bias)
                memcpy(u + i * width, stage->recurrent_bias + panel * width,
                       (size_t)width * sizeof *u);
            else
                memset(u + i * width, 0, (size_t)width * sizeof *u);
        }
        float *sums = plan->op->reset_after ? u : z;
        if (count >= RECURRENT_BLOCK)
            recurrent_bf16_block(narrow_rows[0], plan->row16, count,
                                 (const uint16_t *)stage->recurrent + weights, plan->depth_h,
                                 stage->vectors, sums);
        else if (plan->narrow)
            recurrent_bf16_rows(narrow_rows, count, (const uint16_t *)stage->recurrent + weights,
                                plan->depth_h, stage->vectors, sums);
        else
            plan->kernels->tile(rows, count, (const float *)stage->recurrent + weights, plan->units,
                                stage->vectors, sums);
        for (int i = 0; i < count; i++)
            run_cells(share, stage, step, sample + i, panel, z + i * width, u + i * width);
    }
}

static void run_share(const struct share *share)
{
    const struct recurrent_plan *plan = share->plan;
    for (int64_t first = 0; first < plan->steps; first += plan->chunk) {
        int64_t steps = plan->steps - first < plan->chunk ? plan->steps - first : plan->chunk;
        if (plan->gathers)
            gather(share, first, steps);
        for (int s = 0; s < plan->stage_count; s++) {
            for (int64_t p = share->first_panel[s]; p < share->end_panel[s]; p++)
                project(share, &plan->stages[s], p, first, steps);
        }
        for (int64_t step = 0; step < steps; step++) {
            for (int s = 0; s < plan->stage_count; s++) {
                for (int64_t p = share->first_panel[s]; p < share->end_panel[s]; p++)
                    run_panel(share, &plan->stages[s], p, first + step, step);
#pragma omp barrier
            }
        }
    }
}

/* ---- the op ---- */

/* A sample's initial state; NULL: zeros are there already. */
static void read_state(const struct recurrent_plan *plan, const void *from, int64_t sample,
                       float *to)
{
    if (from && plan->narrow)
        own_widen_row((const uint16_t *)from + sample * plan->units, to, plan->units);
    else if (from)
        memcpy(to, (const float *)from + sample * plan->units, (size_t)plan->units * sizeof *to);
}

/* Initial states, padded; and of each sample the first step that is real. */
static void begin(const struct share *share)
{
    const struct recurrent_plan *plan = share->plan;
    const struct op_recurrent *op = plan->op;
    size_t next = op->has_mask ? 2 : 1;
    const void *h = op->has_state ? share->call->inputs[next] : NULL;
    const void *c = op->has_state && op->cell == CELL_LSTM ? share->call->inputs[next + 1] : NULL;
    int64_t *first = (int64_t *)(void *)(share->scratch + plan->first_at);
    memset(share->scratch + plan->h_at[0], 0,
           (size_t)(plan->reset_at - plan->h_at[0]) * sizeof(float));
    for (int64_t n = 0; n < plan->samples; n++) {
        read_state(plan, h, n, share->scratch + plan->h_at[0] + n * plan->row);
        read_state(plan, c, n, share->scratch + plan->c_at + n * plan->row);
        if (plan->narrow)
            own_narrow_row(share->scratch + plan->h_at[0] + n * plan->row,
                           narrow_state(share, 0, n), plan->row);
        first[n] = 0;
        while (share->mask && first[n] < plan->steps && !is_real(share, n, first[n]))
            first[n]++;
    }
}

static void finish(const struct share *share)
{
    const struct recurrent_plan *plan = share->plan;
    const float *states[2] = {share->scratch + plan->h_at[plan->steps % 2],
                              share->scratch + plan->c_at};
    for (int i = 0; i < 2 && plan->op->states; i++) {
        char *to = share->call->more_outputs[i];
        size_t bytes = (size_t)plan->units * element_bytes(plan);
        for (int64_t n = 0; to && n < plan->samples; n++, to += bytes) {
            if (plan->narrow)
                own_narrow_row(states[i] + n * plan->row, (uint16_t *)(void *)to, plan->units);
            else
                memcpy(to, states[i] + n * plan->row, bytes);
        }
    }
}

static int64_t part_of(int64_t count, int64_t index, int64_t parts)
{
    return count * index / parts;
}

void own_recurrent(const struct own_call *call)
{
    const struct recurrent_plan *plan = call->private;
    struct share all = {.plan = plan,
                        .call = call,
                        .scratch = call->scratch,
                        .x = call->inputs[0],
                        .mask = plan->op->has_mask ? call->inputs[1] : NULL};
    begin(&all);
#pragma omp parallel num_threads(plan->threads)
    {
        struct share share = all;
        struct recurrent_tiles before;
        if (plan->tiles)
            recurrent_bf16_begin(&before);
        share.rows = (uint16_t *)(void *)(all.scratch + plan->x_at) +
                     omp_get_thread_num() * plan->chunk * plan->samples * plan->row_x;
        /* should OpenMP give fewer threads than were asked for, one does it all */
        bool full = omp_get_num_threads() == plan->threads;
        int64_t groups = full ? plan->sample_groups : 1, thread = omp_get_thread_num();
        int64_t columns = full ? plan->threads / groups : 1, column = full ? thread / groups : 0;
        share.first_sample = part_of(plan->samples, thread % groups, groups);
        share.end_sample = part_of(plan->samples, thread % groups + 1, groups);
        for (int s = 0; s < plan->stage_count && (full || thread == 0); s++) {
            share.first_panel[s] = part_of(plan->stages[s].panels, column, columns);
            share.end_panel[s] = part_of(plan->stages[s].panels, column + 1, columns);
        }
        run_share(&share);
        if (plan->tiles)
            recurrent_bf16_end(&before);
    }
    finish(&all);
}

/* Panels first: then a thread reads only its own weights. What is left of the threads shares out
 * the samples. */
static void share_out(struct recurrent_plan *plan, int threads)
{
    int64_t work = plan->samples * plan->units * plan->units * recurrent_gates(plan->op->cell);
    int64_t panels = plan->stages[0].panels;
    if (work < STEP_ALONE)
        threads = 1;
    int64_t columns = panels < threads ? panels : threads, groups = threads / columns;
    int64_t most = (plan->samples + RECURRENT_ROWS - 1) / RECURRENT_ROWS;
    groups = groups > most ? most : groups;
    plan->sample_groups = (int)groups;
    plan->threads = (int)(columns * groups);
}

bool build_recurrent(struct builder *b)
{
    const struct op_recurrent *op = &b->op->recurrent;
    const struct shape *x = shape_of_value(b, b->op->inputs[0]);
    struct recurrent_plan *plan = xcalloc(1, sizeof *plan);
    *plan = (struct recurrent_plan){.op = op,
                                    .kernels = kernels_of_machine(),
                                    .samples = x->dims[0],
                                    .steps = x->dims[1],
                                    .features = x->dims[2],
                                    .units = op->units};
    b->step->call.private = plan; /* step_free() frees it */
    /* these keep a state in float32; of the others the rounding of one step would feed the next */
    plan->narrow = b->plan->type == dnnl_bf16 && own_has_avx512_bf16() &&
                   (op->cell == CELL_LSTM || (op->cell == CELL_GRU && op->reset_after));
    plan->tiles = plan->narrow && own_has_amx_bf16();
    plan->gathers = plan->narrow &&
                    (plan->samples < 2 * RECURRENT_BLOCK || plan->features % RECURRENT_DEPTH != 0);
    int64_t fill = plan->narrow ? RECURRENT_DEPTH : 1;
    plan->depth_x = (plan->features + fill - 1) / fill * fill;
    plan->depth_h = (plan->units + fill - 1) / fill * fill;
    if (op->cell == CELL_GRU && !op->reset_after) {
        add_stage(b, plan, 0, 2, plan->kernels->gru_gates);
        add_stage(b, plan, 2, 1, plan->kernels->gru_candidate);
    } else {
        add_stage(b, plan, 0, recurrent_gates(op->cell),
                  op->cell == CELL_LSTM  ? plan->kernels->lstm
                  : op->cell == CELL_GRU ? plan->kernels->gru
                                         : plan->kernels->simple);
    }
    share_out(plan, b->device->threads);
    lay_out(plan);
    builder_use_own(b, own_recurrent);
    if (plan->narrow)
        b->step->widened = false;
    b->step->scratch_bytes = b->step->own_scratch_bytes = plan->scratch_bytes;
    builder_reserve_copies(b);
    return true;
}
