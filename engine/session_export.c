/* export: the loaded model as a file that Keras reads. */
#include "engine/session_private.h"

#include "engine/clock.h"
#include "engine/keras/export.h"

#include <string.h>
#include <sys/stat.h>

static bool tell(void *context, double fraction)
{
    struct session *session = context;
    session_breathe(session, fraction, "writing the model");
    return !session_cancelled(session);
}

/* HDF5 files of Keras 3 hold operations (keras.ops) without their modules: Keras cannot find what it
 * wrote there, and does no better with our copy. */
static bool has_lost_operations(const struct model *model)
{
    bool lost = json_object_get(model->architecture, "module") == NULL &&
                strncmp(model->keras_version, "3", 1) == 0;
    for (size_t i = 0; lost && i < model->layer_count; i++) {
        if (model->layers[i].is_op)
            return true;
    }
    return false;
}

json_t *session_do_export(struct session *session, const json_t *arguments, struct error *error)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    int64_t start_ns = clock_now_ns();
    struct stat status;
    if (session->model == NULL) {
        error_set(error, ERROR_NO_MODEL, "export keras", "no model is loaded");
        error_hint(error, "load demo:digits");
        return NULL;
    }
    if (path == NULL || path[0] == '\0') {
        error_set(error, ERROR_VALUE, "export keras", "needs a file to write");
        error_hint(error, "export keras model.keras");
        return NULL;
    }
    if (!keras_export(session->model, path, tell, session, error))
        return NULL;
    if (has_lost_operations(session->model))
        session_note(session,
                     "Keras cannot read operations (keras.ops) out of an .h5 file, and this "
                     "model came from one; export it from its .keras file");
    bool known = stat(path, &status) == 0;
    return json_pack("{s:s, s:I, s:o, s:f}", "path", path, "parameters",
                     (json_int_t)session->model->parameters, "bytes",
                     known ? json_integer((json_int_t)status.st_size) : json_null(), "export_ms",
                     (double)(clock_now_ns() - start_ns) / 1e6);
}
