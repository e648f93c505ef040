#include "tests/support/modelcheck.h"
#include "engine/backend.h"
#include "engine/convert.h"
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A dataset as doubles; NULL if it is missing. */
static double *read_dataset(hid_t file, const char *name, size_t *count)
{
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
        return NULL;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = H5Dget_space(set);
    *count = (size_t)H5Sget_simple_extent_npoints(space);
    double *data = xmalloc((*count + 1) * sizeof *data);
    if (H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        free(data);
        data = NULL;
    }
    H5Sclose(space);
    H5Dclose(set);
    return data;
}

/* Does the file say of what type this output is, and is it of another? */
static bool type_differs(hid_t file, const char *name, enum dtype dtype, char *said, size_t size)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    bool differs = false;
    if (H5Aexists(set, "dtype") > 0) {
        hid_t attribute = H5Aopen(set, "dtype", H5P_DEFAULT), type = H5Aget_type(attribute);
        char *text = NULL;
        H5Aread(attribute, type, &text);
        snprintf(said, size, "%s", text);
        differs = strcmp(text, dtype_name(dtype)) != 0;
        H5free_memory(text);
        H5Tclose(type);
        H5Aclose(attribute);
    }
    H5Dclose(set);
    return differs;
}

static int64_t batch_of(hid_t file)
{
    hsize_t dims[8] = {1};
    hid_t set = H5Dopen2(file, "x0", H5P_DEFAULT);
    hid_t space = H5Dget_space(set);
    H5Sget_simple_extent_dims(space, dims, NULL);
    H5Sclose(space);
    H5Dclose(set);
    return (int64_t)dims[0];
}

static bool give_inputs(hid_t file, struct plan *plan, const struct graph *graph,
                        struct error *error)
{
    for (size_t i = 0; i < graph->input_count; i++) {
        char name[32];
        size_t count = 0;
        snprintf(name, sizeof name, "x%zu", i);
        double *x = read_dataset(file, name, &count);
        int64_t wanted = shape_elements(&graph->values[graph->inputs[i]].shape);
        if (!x || (int64_t)count != wanted) {
            free(x);
            return error_set(error, ERROR_INPUT, name, "%zu elements for %lld", count,
                             (long long)wanted);
        }
        char *to = backend_cpu.plan_input(plan, i);
        enum dtype dtype = graph->values[graph->inputs[i]].dtype;
        for (size_t j = 0; j < count; j++)
            convert_write(to + j * dtype_bytes(dtype), dtype, x[j]);
        free(x);
        if (graph->model->inputs[i].dtype == DTYPE_U8 && dtype != DTYPE_U8)
            return error_set(error, ERROR_INPUT, name, "pictures are %s on the host",
                             dtype_name(dtype));
    }
    return true;
}

static bool compare(hid_t file, struct plan *plan, const struct graph *graph, double *worst,
                    struct error *error)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        char name[32], said[32];
        size_t count = 0;
        snprintf(name, sizeof name, "y64_%zu", i);
        if (type_differs(file, name, graph->model->outputs[i].dtype, said, sizeof said))
            return error_set(error, ERROR_MODEL_BROKEN, name, "Keras gives %s and not %s", said,
                             dtype_name(graph->model->outputs[i].dtype));
        double *y = read_dataset(file, name, &count), most = 1e-6, apart = 0;
        int64_t have = shape_elements(&graph->values[graph->outputs[i]].shape);
        if (!y || (int64_t)count != have) {
            free(y);
            return error_set(error, ERROR_MODEL_SHAPE, name, "%zu elements, but %lld came out",
                             count, (long long)have);
        }
        const float *got = backend_cpu.plan_output(plan, i);
        for (size_t j = 0; j < count; j++) {
            double difference = fabs((double)got[j] - y[j]);
            most = fmax(most, fabs(y[j]));
            apart = isnan((double)got[j]) ? (double)INFINITY : fmax(apart, difference);
        }
        *worst = fmax(*worst, apart / most);
        free(y);
    }
    return true;
}

bool model_check(const char *model_path, const char *io_path, bool fusion, double *worst,
                 struct error *error)
{
    const struct model_options model_options = {.unconfined = true};
    *worst = 0;
    hid_t file = H5Fopen(io_path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return error_set(error, ERROR_FILE, io_path, "cannot be opened");
    struct model *model = model_load(model_path, &model_options, error);
    struct constant_pool *pool = constant_pool_new();
    const struct graph_options graph_options = {.batch = batch_of(file), .fusion = fusion};
    struct graph *graph = model ? graph_lower(model, &graph_options, pool, error) : NULL;
    const struct device_options device_options = {.threads = 2};
    struct device *device = graph ? backend_cpu.device_open(&device_options, NULL, error) : NULL;
    const struct plan_options plan_options = {.precision = PRECISION_FP32};
    struct plan *plan = device ? backend_cpu.plan_new(device, graph, &plan_options, error) : NULL;
    const struct step_context step = {.step = 1};
    bool ok = plan && give_inputs(file, plan, graph, error) &&
              backend_cpu.plan_run(plan, &step, error) &&
              backend_cpu.plan_run(plan, &step, error) && /* inputs survive a step */
              compare(file, plan, graph, worst, error);
    if (plan)
        backend_cpu.plan_free(plan);
    if (device)
        backend_cpu.device_close(device);
    graph_free(graph);
    constant_pool_free(pool);
    model_free(model);
    H5Fclose(file);
    return ok;
}
