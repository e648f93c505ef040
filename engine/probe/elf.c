#include "engine/probe/elf.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADERS_MAX  256
#define DYNAMIC_MAX  4096
#define STRING_BYTES 4096

struct reader {
    int fd;
    uint64_t size;
    Elf64_Phdr headers[HEADERS_MAX];
    size_t header_count;
    uint64_t strings, strings_size; /* offset in the file */
};

static bool read_at(const struct reader *reader, uint64_t offset, void *out, size_t bytes)
{
    if (offset > reader->size || bytes > reader->size - offset)
        return false;
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(reader->fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/* Where an address of the loaded library lies in the file. */
static bool offset_of(const struct reader *reader, uint64_t address, uint64_t *offset)
{
    for (size_t i = 0; i < reader->header_count; i++) {
        const Elf64_Phdr *header = &reader->headers[i];
        if (header->p_type == PT_LOAD && address >= header->p_vaddr &&
            address - header->p_vaddr < header->p_filesz &&
            header->p_offset <= UINT64_MAX - (address - header->p_vaddr)) {
            *offset = header->p_offset + (address - header->p_vaddr);
            return true;
        }
    }
    return false;
}

/* A string of the dynamic string table; NULL if it lies outside or does not end. */
static char *read_string(const struct reader *reader, uint64_t index)
{
    char text[STRING_BYTES];
    if (index >= reader->strings_size || reader->strings > reader->size ||
        index >= reader->size - reader->strings)
        return NULL;
    uint64_t start = reader->strings + index;
    uint64_t left = reader->strings_size - index;
    if (left > reader->size - start)
        left = reader->size - start;
    size_t bytes = left < sizeof text ? (size_t)left : sizeof text;
    if (!read_at(reader, start, text, bytes) || memchr(text, '\0', bytes) == NULL)
        return NULL;
    return xstrdup(text);
}

static const Elf64_Phdr *find_dynamic(const struct reader *reader)
{
    for (size_t i = 0; i < reader->header_count; i++)
        if (reader->headers[i].p_type == PT_DYNAMIC)
            return &reader->headers[i];
    return NULL;
}

static bool read_header(struct reader *reader, const char **why)
{
    Elf64_Ehdr header;
    if (!read_at(reader, 0, &header, sizeof header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
        *why = "it is no ELF file";
        return false;
    }
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_phentsize != sizeof(Elf64_Phdr)) {
        *why = "it is no 64-bit little-endian ELF file";
        return false;
    }
    reader->header_count = header.e_phnum < HEADERS_MAX ? header.e_phnum : HEADERS_MAX;
    if (!read_at(reader, header.e_phoff, reader->headers,
                 reader->header_count * sizeof *reader->headers)) {
        *why = "its program headers lie outside the file";
        return false;
    }
    return true;
}

/* Keep a string in *slot, which is its first or is replaced. */
static void keep(char **slot, char *text)
{
    free(*slot);
    *slot = text;
}

static bool read_dynamic(struct reader *reader, struct elf_needs *out, const char **why)
{
    const Elf64_Phdr *dynamic = find_dynamic(reader);
    if (dynamic == NULL) {
        *why = "it has no dynamic section: it is no shared library";
        return false;
    }
    size_t count = (size_t)(dynamic->p_filesz / sizeof(Elf64_Dyn));
    count = count < DYNAMIC_MAX ? count : DYNAMIC_MAX;
    Elf64_Dyn *entries = xcalloc(count + 1, sizeof *entries);
    bool good = read_at(reader, dynamic->p_offset, entries, count * sizeof *entries);
    uint64_t strings = 0;
    for (size_t i = 0; good && i < count && entries[i].d_tag != DT_NULL; i++) {
        if (entries[i].d_tag == DT_STRTAB)
            strings = entries[i].d_un.d_ptr;
        else if (entries[i].d_tag == DT_STRSZ)
            reader->strings_size = entries[i].d_un.d_val;
    }
    good = good && offset_of(reader, strings, &reader->strings);
    for (size_t i = 0; good && i < count && entries[i].d_tag != DT_NULL; i++) {
        int64_t tag = entries[i].d_tag;
        if (tag != DT_NEEDED && tag != DT_SONAME && tag != DT_RPATH && tag != DT_RUNPATH)
            continue;
        char *text = read_string(reader, entries[i].d_un.d_val);
        good = text != NULL;
        if (!good)
            break;
        if (tag == DT_SONAME)
            keep(&out->soname, text);
        else if (tag == DT_RPATH)
            keep(&out->rpath, text);
        else if (tag == DT_RUNPATH)
            keep(&out->runpath, text);
        else if (out->needed_count < ELF_NEEDED_MAX)
            out->needed[out->needed_count++] = text;
        else
            free(text);
    }
    free(entries);
    if (!good)
        *why = "its dynamic section points outside the file";
    return good;
}

bool elf_read(const char *path, struct elf_needs *out, struct error *error)
{
    struct stat status;
    const char *why = "";
    memset(out, 0, sizeof *out);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_set(error, ERROR_FILE, path, "cannot be read: %s", strerror(errno));
    struct reader *reader = xcalloc(1, sizeof *reader);
    reader->fd = fd;
    bool good = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
    if (!good)
        why = "it is no file with content";
    else
        reader->size = (uint64_t)status.st_size;
    good = good && read_header(reader, &why) && read_dynamic(reader, out, &why);
    close(fd);
    free(reader);
    if (!good) {
        elf_needs_free(out);
        error_set(error, ERROR_INPUT, path, "%s", why);
    }
    return good;
}

void elf_needs_free(struct elf_needs *needs)
{
    for (size_t i = 0; i < needs->needed_count; i++)
        free(needs->needed[i]);
    free(needs->soname);
    free(needs->rpath);
    free(needs->runpath);
    memset(needs, 0, sizeof *needs);
}
