#define _GNU_SOURCE /* getline */
#include "engine/labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LABEL_BYTES 256
#define LABELS_MAX  1000000

void labels_free(struct labels *labels)
{
    for (size_t i = 0; i < labels->count; i++)
        free(labels->names[i]);
    free(labels->names);
    *labels = (struct labels){0};
}

static void append(struct labels *labels, const char *line)
{
    char name[LABEL_BYTES];
    if ((labels->count & (labels->count - 1)) == 0) /* full at each power of two */
        labels->names =
            xrealloc(labels->names, (labels->count ? 2 * labels->count : 1) * sizeof(char *));
    labels->names[labels->count++] = xstrdup(text_clean(name, sizeof name, line));
}

bool labels_read(const char *path, struct labels *out, struct error *error)
{
    *out = (struct labels){0};
    FILE *file = fopen(path, "re");
    struct stat status;
    if (file == NULL)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    if (fstat(fileno(file), &status) != 0 || !S_ISREG(status.st_mode)) {
        fclose(file);
        return error_set(error, ERROR_FILE, path, "it is no text file with a class name a line");
    }
    char *line = NULL;
    size_t room = 0, named = 0;
    ssize_t length;
    bool text = true;
    while (text && out->count < LABELS_MAX && (length = getline(&line, &room, file)) >= 0) {
        text = strlen(line) == (size_t)length; /* no NUL inside */
        line[strcspn(line, "\r\n")] = '\0';
        append(out, line);
        if (line[0] != '\0')
            named = out->count;
    }
    free(line);
    fclose(file);
    while (out->count > named)
        free(out->names[--out->count]);
    if (text && named > 0)
        return true;
    labels_free(out);
    return error_set(error, ERROR_FILE, path, "it is no text file with a class name a line");
}
