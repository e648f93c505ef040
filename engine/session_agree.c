/* agree: how far the outputs of two models lie apart on the same inputs. The first one's answers are
 * kept while the second is loaded in its place. */
#include "engine/session_private.h"

#include "engine/demo.h"
#include "engine/input.h"
#include "engine/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_RANDOM       64    /* of random inputs, in whole batches: more of them tell no more */
#define ROWS_MAX          10000 /* of a file */
#define PROBABILITY_LEAST 1e-12

struct answer {
    char name[128];
    struct shape row; /* of one sample */
    enum dtype dtype; /* as the plan gives it */
    size_t row_bytes, elements;
    char *data;
};

struct answers {
    char model[128];
    char *data, *labels; /* files; NULL: random inputs, no labels */
    bool chosen;         /* by nobody: what was held out for the demo model */
    size_t rows;
    bool *seen;           /* of each row: by int8's calibration, where figures would flatter */
    uint64_t inputs_hash; /* of what the model was given */
    bool random;          /* inputs: nothing but the same bytes are the same */
    size_t count;
    struct answer *list;
};

void session_free_answers(struct answers *answers)
{
    if (answers == NULL)
        return;
    for (size_t i = 0; i < answers->count; i++)
        free(answers->list[i].data);
    free(answers->list);
    free(answers->seen);
    free(answers->data);
    free(answers->labels);
    free(answers);
}

/* FNV-1a. */
static uint64_t hash_more(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static bool make_room(struct session *session, struct answers *answers, struct error *error)
{
    const struct graph *graph = session->graph;
    answers->count = graph->output_count;
    answers->list = xcalloc(answers->count + 1, sizeof *answers->list);
    for (size_t i = 0; i < answers->count; i++) {
        const struct graph_value *value = &graph->values[graph->outputs[i]];
        struct answer *answer = &answers->list[i];
        if (value->shape.rank < 1 || value->shape.dims[0] != graph->batch)
            return error_set(error, ERROR_UNSUPPORTED, "agree",
                             "output %s has no row for each sample",
                             session->model->outputs[i].name);
        text_clean(answer->name, sizeof answer->name, session->model->outputs[i].name);
        answer->row = shape_of(value->shape.rank - 1, value->shape.dims + 1);
        answer->dtype = session_host_dtype(value->dtype);
        answer->elements = (size_t)(shape_elements(&value->shape) / graph->batch);
        answer->row_bytes = answer->elements * dtype_bytes(answer->dtype);
        answer->data = malloc(answers->rows * answer->row_bytes + 1);
        if (answer->data == NULL)
            return error_set(error, ERROR_MEMORY, "agree", "no memory for %zu rows of output",
                             answers->rows);
    }
    return true;
}

/* What the devices of the first group put out for the first `count` samples of a batch. */
static void take(struct session *session, struct answers *answers, size_t first, size_t count)
{
    size_t start, members;
    session_group(session->slots, session->slot_count, 0, &start, &members);
    for (size_t m = start; m < start + members; m++) {
        const struct slot *slot = &session->slots[m];
        size_t from = (size_t)slot->first, rows = (size_t)slot->samples;
        rows = count <= from ? 0 : count - from < rows ? count - from : rows;
        for (size_t i = 0; i < answers->count; i++) {
            const struct answer *answer = &answers->list[i];
            memcpy(answer->data + (first + from) * answer->row_bytes,
                   slot->backend->plan_output(slot->plan, i), rows * answer->row_bytes);
        }
    }
}

/* Of the rows of a batch that a device holds whole, as `calibrate` knows them. */
static void mark_seen(struct session *session, struct answers *answers, size_t first, size_t count)
{
    const struct graph *graph = session->graph;
    const struct slot *slot = &session->slots[0];
    if (session->settings.precision != PRECISION_INT8 || slot->part != NULL)
        return;
    for (size_t j = 0; j < count; j++) {
        uint64_t hash = 0;
        for (size_t i = 0; i < graph->input_count; i++) {
            size_t row = session_value_bytes(graph, graph->inputs[i]) / (size_t)graph->batch;
            const char *in = slot->backend->plan_input(slot->plan, i);
            hash = session_row_hash(hash, in + j * row, row);
        }
        answers->seen[first + j] = session_calibrated_on(session, hash);
    }
}

/* All rows, a batch after another; the inputs of the timed steps are put back by the caller. */
static bool answer_all(struct session *session, struct answers *answers, struct error *error)
{
    const struct graph *graph = session->graph;
    size_t batch = (size_t)graph->batch;
    session_observe(session, &session->slots[0]);
    for (size_t first = 0; first < answers->rows; first += batch) {
        size_t count = answers->rows - first < batch ? answers->rows - first : batch;
        struct settings settings = session->settings;
        settings.seed += first; /* other numbers in each batch */
        snprintf(settings.input, sizeof settings.input, "%s", answers->data ? answers->data : "");
        session_breathe(session, (double)first / (double)answers->rows, "comparing outputs");
        if (!session_fill_inputs_from(session, &settings, graph, session->slots,
                                      session->slot_count, first, error))
            return false;
        for (size_t i = 0; answers->random && i < graph->input_count; i++)
            answers->inputs_hash = hash_more(
                answers->inputs_hash,
                session->slots[0].backend->plan_input(session->slots[0].plan, i),
                session_value_bytes(session_slot_graph(session, &session->slots[0]),
                                    session_slot_graph(session, &session->slots[0])->inputs[i]));
        mark_seen(session, answers, first, count);
        if (!session_one_step(session, &session->slots[0], NULL, error))
            return false;
        take(session, answers, first, count);
    }
    return true;
}

/* How many rows: those of the file, else as many random ones as tell enough. */
static bool count_rows(struct session *session, struct answers *answers, struct error *error)
{
    size_t batch = (size_t)session->graph->batch;
    answers->random = answers->data == NULL;
    if (answers->random) {
        answers->rows = (ROWS_RANDOM + batch - 1) / batch * batch;
        return true;
    }
    struct input *input =
        session_open_input(session, &session->settings, session->graph, answers->data, error);
    if (input == NULL)
        return false;
    size_t rows = input_rows(input);
    input_free(input);
    answers->rows = rows < ROWS_MAX ? rows : ROWS_MAX;
    if (session->graph->mixes_samples) /* a row's answer depends on the others of its batch */
        answers->rows = rows < batch ? batch : answers->rows / batch * batch;
    return true;
}

/* What both are asked: the second as the first; that the data of `input`, else what was held out for
 * the demo model, with its labels. */
static void choose_data(const struct session *session, const json_t *arguments,
                        const struct answers *before, struct answers *answers)
{
    const char *labels = json_string_value(json_object_get(arguments, "labels"));
    if (before != NULL) {
        answers->data = before->data ? xstrdup(before->data) : NULL;
        answers->labels = before->labels ? xstrdup(before->labels) : NULL;
        answers->chosen = before->chosen;
        return;
    }
    answers->labels = labels != NULL ? xstrdup(labels) : NULL;
    if (session->settings.input[0] != '\0') {
        answers->data = xstrdup(session->settings.input);
    } else if (labels == NULL) {
        answers->data = demo_heldout_path(session->model_path, false);
        answers->labels = demo_heldout_path(session->model_path, true);
        answers->chosen = answers->data != NULL;
    }
}

static struct answers *answer(struct session *session, const json_t *arguments,
                              const struct answers *before, struct error *error)
{
    struct answers *answers = xcalloc(1, sizeof *answers);
    struct error refill;
    choose_data(session, arguments, before, answers);
    text_clean(answers->model, sizeof answers->model, session->model->name);
    answers->inputs_hash = UINT64_C(0xcbf29ce484222325);
    bool good = count_rows(session, answers, error);
    answers->seen = xcalloc(answers->rows + (size_t)session->graph->batch, sizeof *answers->seen);
    good = good && make_room(session, answers, error) && answer_all(session, answers, error);
    if (!session_fill_inputs(session, &session->settings, session->graph, session->slots,
                             session->slot_count, &refill))
        session_note(session, "the timing input could not be read again: %s", refill.why);
    if (good)
        return answers;
    session_free_answers(answers);
    return NULL;
}

/* ---- two answers ---- */

static size_t largest(const float *row, size_t count)
{
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        best = row[i] > row[best] ? i : best;
    return best;
}

static bool is_distribution(const float *row, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(row[i] >= 0))
            return false;
        sum += (double)row[i];
    }
    return fabs(sum - 1) < 0.02; /* half precision and 1000 classes stay within it */
}

/* Kullback and Leibler's sum p log(p / q), in nats. */
static double divergence(const float *p, const float *q, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (p[i] > 0)
            sum += (double)p[i] * log(fmax((double)p[i], PROBABILITY_LEAST) /
                                      fmax((double)q[i], PROBABILITY_LEAST));
    }
    return sum;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* Two outputs of one shape. A vector of several numbers a sample has a largest one, its class; one
 * number within 0..1 is the chance of one of two classes. */
static json_t *apart(const struct answer *a, const struct answer *b, size_t rows)
{
    size_t n = a->elements, same = 0;
    bool vector = a->row.rank == 1 && n > 1, chances = vector, binary = n == 1;
    double sum = 0, square = 0, scale = 0, most = 0, kl = 0;
    for (size_t r = 0; r < rows; r++) {
        const float *x = (const float *)(const void *)a->data + r * n;
        const float *y = (const float *)(const void *)b->data + r * n;
        for (size_t i = 0; i < n; i++) {
            double difference = fabs((double)x[i] - (double)y[i]);
            sum += difference;
            square += difference * difference;
            scale += (double)x[i] * (double)x[i];
            most = difference > most || isnan(difference) ? difference : most;
            binary = binary && x[i] >= 0 && x[i] <= 1 && y[i] >= 0 && y[i] <= 1;
        }
        same += vector ? largest(x, n) == largest(y, n) : (x[0] > 0.5F) == (y[0] > 0.5F);
        chances = chances && is_distribution(x, n) && is_distribution(y, n);
        kl += chances ? divergence(x, y, n) : 0;
    }
    double values = (double)rows * (double)n;
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", a->name, "same_class_share",
                     vector || binary ? number((double)same / (double)rows) : json_null(),
                     "divergence", chances ? number(kl / (double)rows) : json_null(),
                     "difference_max", number(most), "difference_mean", number(sum / values),
                     "difference_rms", number(sqrt(square / values)), "rms",
                     number(sqrt(scale / values)));
}

/* Whole numbers are the same or not. */
static json_t *apart_whole(const struct answer *a, const struct answer *b, size_t rows)
{
    size_t same = 0;
    for (size_t r = 0; r < rows; r++)
        same += memcmp(a->data + r * a->row_bytes, b->data + r * b->row_bytes, a->row_bytes) == 0;
    return json_pack("{s:s, s:f}", "name", a->name, "same_row_share", (double)same / (double)rows);
}

/* Rows that neither calibration saw, moved together. Returns how many were left out. */
static size_t leave_out_seen(struct answers *a, struct answers *b, size_t *kept_rows)
{
    size_t kept = 0;
    for (size_t r = 0; r < a->rows; r++) {
        if (a->seen[r] || b->seen[r])
            continue;
        for (size_t i = 0; kept < r && i < a->count; i++)
            memcpy(a->list[i].data + kept * a->list[i].row_bytes,
                   a->list[i].data + r * a->list[i].row_bytes, a->list[i].row_bytes);
        for (size_t i = 0; kept < r && i < b->count; i++)
            memcpy(b->list[i].data + kept * b->list[i].row_bytes,
                   b->list[i].data + r * b->list[i].row_bytes, b->list[i].row_bytes);
        kept_rows[kept++] = r;
    }
    size_t left_out = a->rows - kept;
    a->rows = b->rows = kept;
    return left_out;
}

/* Rows that a model gets right by the labels; null where it has no classes. */
static json_t *accuracy(const struct answers *answers, const struct npy_array *labels,
                        const size_t *kept_rows)
{
    const struct answer *first = &answers->list[0];
    size_t right = 0;
    if (first->row.rank != 1 || first->dtype != DTYPE_F32 || answers->rows == 0)
        return json_null();
    for (size_t r = 0; r < answers->rows; r++) {
        const float *row = (const float *)(const void *)first->data + r * first->elements;
        right += session_class_of(row, first->elements) ==
                 session_true_class(labels, kept_rows[r], first->elements);
    }
    return json_real((double)right / (double)answers->rows);
}

static bool fits(const struct answer *a, const struct answer *b)
{
    return a->dtype == b->dtype && shape_equal(&a->row, &b->row) && a->elements > 0;
}

/* Against the labels, of which there are as many as rows of the file. NULL on failure. */
static json_t *judge(const struct answers *a, const struct answers *b, size_t rows,
                     const size_t *kept_rows, struct error *error)
{
    const struct npy_array *labels;
    if (a->labels == NULL)
        return json_null();
    struct npy_file *file =
        session_open_truth(a->labels, rows, a->list[0].elements, &labels, error);
    if (file == NULL)
        return NULL;
    json_t *both = json_pack("{s:o, s:o}", "a", accuracy(a, labels, kept_rows), "b",
                             accuracy(b, labels, kept_rows));
    npy_close(file);
    return both;
}

static json_t *held_against(struct answers *a, struct answers *b, struct error *error)
{
    json_t *outputs = json_array(), *reply, *right = json_null();
    const char *why = NULL;
    size_t rows = a->rows, left_out = 0;
    if (a->random != b->random || (a->random && a->inputs_hash != b->inputs_hash))
        why = "the two models take different inputs";
    else if (a->rows != b->rows)
        why = "the two models take different numbers of rows";
    if (why == NULL) {
        size_t *kept_rows = xcalloc(rows + 1, sizeof *kept_rows);
        left_out = leave_out_seen(a, b, kept_rows);
        right = judge(a, b, rows, kept_rows, error);
        free(kept_rows);
        if (right == NULL) {
            json_decref(outputs);
            return NULL;
        }
        if (a->rows == 0)
            why = "the calibration saw all rows, and figures on them would flatter";
    }
    for (size_t i = 0; why == NULL && i < a->count && i < b->count; i++) {
        const struct answer *x = &a->list[i], *y = &b->list[i];
        if (fits(x, y))
            json_array_append_new(outputs, x->dtype == DTYPE_F32 ? apart(x, y, a->rows)
                                                                 : apart_whole(x, y, a->rows));
    }
    if (why == NULL && json_array_size(outputs) == 0)
        why = "their outputs have different shapes";
    reply = json_pack("{s:I, s:b, s:s, s:o, s:o, s:I, s:s?, s:s?}", "rows", (json_int_t)a->rows,
                      "random", (int)a->random, "model", a->model, "outputs", outputs, "accuracy",
                      right, "rows_of_calibration", (json_int_t)left_out, "source", a->data,
                      "labels", a->labels);
    json_object_set_new(reply, "why", why != NULL ? json_string(why) : json_null());
    return reply;
}

/* Data that nobody asked for is no reason to fail. */
static json_t *other_inputs(const struct answers *before)
{
    return json_pack("{s:I, s:b, s:s, s:[], s:n, s:I, s:s}", "rows", (json_int_t)before->rows,
                     "random", 0, "model", before->model, "outputs", "accuracy",
                     "rows_of_calibration", (json_int_t)0, "why",
                     "the two models take different inputs");
}

json_t *session_do_agree(struct session *session, const json_t *arguments, struct error *error)
{
    bool keep = json_is_true(json_object_get(arguments, "keep"));
    if (session->plan_json == NULL) {
        error_set(error, ERROR_NO_MODEL, "agree", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (!keep && session->answers == NULL) {
        error_set(error, ERROR_COMMAND, "agree", "no answers are kept to be held against");
        return NULL;
    }
    const struct answers *before = keep ? NULL : session->answers;
    struct answers *now = answer(session, arguments, before, error);
    if (now == NULL && before != NULL && before->chosen && error->code == ERROR_INPUT)
        return other_inputs(before);
    if (now == NULL)
        return NULL;
    json_t *reply = keep ? json_pack("{s:I}", "rows", (json_int_t)now->rows)
                         : held_against(session->answers, now, error);
    session_free_answers(session->answers);
    session->answers = keep ? now : NULL;
    if (!keep)
        session_free_answers(now);
    return reply;
}
