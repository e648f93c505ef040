/* Reading files for `doctor`, which nobody vouches for: bounded, and never waiting. */
#include "engine/probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_BYTES  (4u << 20)
#define ENVIRON_BYTES (4u << 20)

char *probe_read(const char *path, size_t most)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0)
        return NULL;
    /* a pipe or a device named like a file would hang or never end */
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return NULL;
    }
    size_t size = 0, room = 4096;
    char *text = xmalloc(room + 1);
    for (;;) {
        ssize_t got = read(fd, text + size, room - size < most - size ? room - size : most - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        size += (size_t)got;
        if (size == most)
            break;
        if (size == room) {
            room *= 2;
            text = xrealloc(text, room + 1);
        }
    }
    close(fd);
    text[size] = '\0';
    return text;
}

const char *probe_errno(int code)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {{ENOENT, "ENOENT"}, {EACCES, "EACCES"}, {EPERM, "EPERM"},
                 {EIO, "EIO"},       {ENXIO, "ENXIO"},   {ENODEV, "ENODEV"},
                 {EBUSY, "EBUSY"},   {ENOLCK, "ENOLCK"}, {EINVAL, "EINVAL"},
                 {ENOSYS, "ENOSYS"}, {EMFILE, "EMFILE"}, {EOPNOTSUPP, "EOPNOTSUPP"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code)
            return names[i].name;
    return strerror(code);
}

void probe_set_text(json_t *object, const char *key, const char *text)
{
    if (text == NULL)
        return;
    size_t size = 4 * strlen(text) + 1; /* cleaning makes four bytes of one at most */
    char *clean = xmalloc(size);
    json_object_set_new(object, key, json_string(text_clean(clean, size, text)));
    free(clean);
}

char *probe_environment(const char *name)
{
    /* the block that the kernel gave the process: setenv() leaves it alone */
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    size_t size = 0, length = strlen(name);
    char *block = xmalloc(ENVIRON_BYTES + 1), *found = NULL;
    ssize_t got;
    while (fd >= 0 && size < ENVIRON_BYTES &&
           (got = read(fd, block + size, ENVIRON_BYTES - size)) > 0)
        size += (size_t)got;
    if (fd >= 0)
        close(fd);
    block[size] = '\0';
    for (size_t at = 0; at < size && found == NULL; at += strlen(block + at) + 1)
        if (strncmp(block + at, name, length) == 0 && block[at + length] == '=')
            found = xstrdup(block + at + length + 1);
    free(block);
    return found;
}

json_t *probe_file(const char *path, struct error *error)
{
    json_error_t cause;
    struct stat status;
    if (stat(path, &status) != 0) {
        error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
        return NULL;
    }
    char *text = S_ISREG(status.st_mode) ? probe_read(path, RECORD_BYTES + 1) : NULL;
    if (text == NULL) {
        error_set(error, ERROR_FILE, path,
                  S_ISREG(status.st_mode) ? "cannot be read: %s" : "is no regular file",
                  strerror(errno));
        return NULL;
    }
    json_t *json = NULL;
    if (strlen(text) > RECORD_BYTES) {
        error_set(error, ERROR_INPUT, path, "it is larger than %u MiB: no probe record is",
                  RECORD_BYTES >> 20);
    } else if ((json = json_loads(text, 0, &cause)) == NULL) {
        error_set(error, ERROR_INPUT, path, "it is no JSON: %s (line %d)", cause.text, cause.line);
        error_hint(error, "doctor --json prints a record that can be read back");
    }
    free(text);
    return json;
}
