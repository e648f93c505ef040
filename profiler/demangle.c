/* See demangle.h. */
#include "profiler/demangle.h"

#include "engine/error.h"

#include <dlfcn.h>
#include <string.h>

typedef char *demangler(const char *name, char *out, size_t *bytes, int *status);

static demangler *library_demangler(void)
{
    static demangler *found;
    static bool searched;
    if (!searched) {
        searched = true;
        void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
        void *address = library ? dlsym(library, "__cxa_demangle") : NULL;
        memcpy(&found, &address, sizeof address);
    }
    return found;
}

char *demangle(const char *name)
{
    demangler *undo = strncmp(name, "_Z", 2) == 0 ? library_demangler() : NULL;
    int status = 0;
    char *text = undo ? undo(name, NULL, NULL, &status) : NULL;
    return text && status == 0 ? text : xstrdup(name);
}
