#include "commands/state_file.h"

#include "engine/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *state_file_path(const char *name)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state == '/')
        return xasprintf("%s/layertop/%s", state, name);
    if (home && *home == '/')
        return xasprintf("%s/.local/state/layertop/%s", home, name);
    return NULL;
}

void state_file_make_folders(const char *path)
{
    char *copy = xstrdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0700);
        *slash = '/';
    }
    free(copy);
}
