/* Keras 3's archive: three members, stored as they are. */
#include "engine/keras/export_plan.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zip.h>

/* Add a member; the source is the archive's from here on. */
static bool add(zip_t *zip, const char *name, zip_source_t *source)
{
    if (source == NULL)
        return false;
    zip_int64_t index = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
        zip_source_free(source);
        return false;
    }
    return zip_set_file_compression(zip, (zip_uint64_t)index, ZIP_CM_STORE, 0) == 0;
}

static char *metadata(const struct export_plan *plan)
{
    char date[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        strftime(date, sizeof date, "%Y-%m-%d@%H:%M:%S", &utc);
    json_t *object =
        json_pack("{s:s, s:s}", "keras_version", export_version(plan), "date_saved", date);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

bool export_zip(struct export_plan *plan, const char *path, const char *weights,
                struct error *error)
{
    int code = 0;
    zip_t *zip = zip_open(path, ZIP_CREATE | ZIP_TRUNCATE, &code);
    if (zip == NULL) {
        zip_error_t cause;
        zip_error_init_with_code(&cause, code);
        error_set(error, ERROR_FILE, path, "cannot be written: %s", zip_error_strerror(&cause));
        zip_error_fini(&cause);
        return false;
    }
    char *about = metadata(plan), *config = export_architecture(plan, true);
    bool good = about != NULL && config != NULL &&
                add(zip, "metadata.json", zip_source_buffer(zip, about, strlen(about), 0)) &&
                add(zip, "config.json", zip_source_buffer(zip, config, strlen(config), 0)) &&
                add(zip, "model.weights.h5", zip_source_file(zip, weights, 0, -1));
    good = good && zip_close(zip) == 0;
    if (!good) {
        error_set(error, ERROR_FILE, path, "cannot be written: %s", zip_strerror(zip));
        zip_discard(zip);
    }
    free(about); /* the archive read them when it was closed */
    free(config);
    return good;
}
