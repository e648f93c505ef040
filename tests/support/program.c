#include "support/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

json_t *program_objects(const char *arguments, int *code)
{
    const char *program = getenv("LAYERTOP_BIN");
    char command[4096];
    char *line = NULL;
    size_t size = 0;
    json_t *objects = json_array();
    snprintf(command, sizeof command, "timeout -k 2 100 %s %s --json </dev/null 2>/dev/null",
             program ? program : "build/layertop", arguments);
    FILE *pipe = popen(command, "r");
    while (pipe && getline(&line, &size, pipe) > 0) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        json_array_append_new(objects, object ? object : json_null());
    }
    free(line);
    int status = pipe ? pclose(pipe) : -1;
    if (code)
        *code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return objects;
}

json_t *program_at(const json_t *objects, size_t index, const char *path)
{
    char *copy = strdup(path), *rest = copy, *key;
    json_t *json = json_array_get(objects, index);
    while ((key = strsep(&rest, ".")) != NULL)
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(key))
                                   : json_object_get(json, key);
    free(copy);
    return json;
}

double program_number(const json_t *objects, size_t index, const char *path)
{
    const json_t *json = program_at(objects, index, path);
    return json_is_number(json) ? json_number_value(json) : (double)NAN;
}
