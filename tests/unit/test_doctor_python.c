/* What `doctor` reads of Python environments, shared libraries and processes: made trees, a process
 * that is this one, and what somebody hostile would put there. */
#include "engine/probe/elf.h"
#include "engine/probe/probe.h"
#include "profiler/doctor/rules.h"
#include "support/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITE "venv/lib/python3.11/site-packages/"

/* ---- making trees ---- */

/* Remove the environment of the test before, make an empty one. */
static void make_venv(void)
{
    char command[1024];
    snprintf(command, sizeof command,
             "rm -rf %s/venv && mkdir -p %s/" SITE " %s/venv/bin && ln -s /usr/bin/env "
             "%s/venv/bin/python3",
             cli_folder, cli_folder, cli_folder, cli_folder);
    assert_int_equal(system(command), 0);
    cli_write_file("venv/pyvenv.cfg", "home = /nowhere/bin\ninclude-system-site-packages = false\n"
                                      "version = 3.11.2\n");
}

/* Write a file of the environment's packages, with its folders. */
static void add_file(const char *below, const char *text)
{
    char command[1024], path[512];
    snprintf(path, sizeof path, SITE "%s", below);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\"", cli_folder, path);
    assert_int_equal(system(command), 0);
    cli_write_file(path, text);
}

static void add_package(const char *name, const char *version, const char *more)
{
    char path[256], text[1024];
    snprintf(path, sizeof path, "%s-%s.dist-info/METADATA", name, version);
    snprintf(text, sizeof text, "Metadata-Version: 2.1\nName: %s\nVersion: %s\n%s\nText: none\n",
             name, version, more);
    add_file(path, text);
}

/* The bytes of a small library that needs others. Returns its size. */
static size_t make_elf(unsigned char *out, const char *const *needed, const char *runpath)
{
    struct {
        Elf64_Ehdr header;
        Elf64_Phdr load, dynamic;
        Elf64_Dyn entries[16];
        char strings[512];
    } file;
    size_t at = 1, entry = 0;
    memset(&file, 0, sizeof file);
    memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = ELFCLASS64;
    file.header.e_ident[EI_DATA] = ELFDATA2LSB;
    file.header.e_type = ET_DYN;
    file.header.e_phoff = offsetof(__typeof__(file), load);
    file.header.e_phentsize = sizeof(Elf64_Phdr);
    file.header.e_phnum = 2;
    file.load.p_type = PT_LOAD;
    file.load.p_filesz = file.load.p_memsz = sizeof file;
    file.load.p_vaddr = 0x10000; /* addresses are not offsets */
    file.dynamic.p_type = PT_DYNAMIC;
    file.dynamic.p_offset = offsetof(__typeof__(file), entries);
    file.dynamic.p_filesz = sizeof file.entries;
    for (; *needed; needed++) {
        file.entries[entry].d_tag = DT_NEEDED;
        file.entries[entry++].d_un.d_val = at;
        strcpy(file.strings + at, *needed);
        at += strlen(*needed) + 1;
    }
    if (runpath) {
        file.entries[entry].d_tag = DT_RUNPATH;
        file.entries[entry++].d_un.d_val = at;
        strcpy(file.strings + at, runpath);
        at += strlen(runpath) + 1;
    }
    file.entries[entry].d_tag = DT_STRTAB;
    file.entries[entry++].d_un.d_ptr = 0x10000 + offsetof(__typeof__(file), strings);
    file.entries[entry].d_tag = DT_STRSZ;
    file.entries[entry++].d_un.d_val = at;
    memcpy(out, &file, sizeof file);
    return sizeof file;
}

static void write_bytes(const char *name, const unsigned char *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", cli_folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void add_elf(const char *below, const char *const *needed, const char *runpath)
{
    unsigned char bytes[4096];
    char path[512];
    add_file(below, "");
    snprintf(path, sizeof path, SITE "%s", below);
    write_bytes(path, bytes, make_elf(bytes, needed, runpath));
}

/* ---- reading them ---- */

static struct probes *read_environment(const char *below)
{
    char path[512];
    struct error error = {0};
    json_t *record = json_pack("{s:i}", "version", PROBES_VERSION);
    snprintf(path, sizeof path, "%s/%s", cli_folder, below);
    if (!probe_python(record, path, &error))
        fail_msg("%s", error.why);
    struct probes *probes = probes_from_json(record, &error);
    if (!probes)
        fail_msg("%s", error.why);
    json_decref(record);
    return probes;
}

static const struct probe_framework *framework(const struct probes *probes, const char *name)
{
    for (size_t i = 0; i < probes->frameworks_count; i++)
        if (strcmp(probes->frameworks[i].name, name) == 0)
            return &probes->frameworks[i];
    fail_msg("there is no %s", name);
    return NULL;
}

static const struct probe_need *need(const struct probes *probes, const char *name,
                                     const char *soname)
{
    for (size_t i = 0; i < probes->needs_count; i++)
        if (strcmp(probes->needs[i].framework, name) == 0 &&
            strcmp(probes->needs[i].soname, soname) == 0)
            return &probes->needs[i];
    fail_msg("%s does not need %s", name, soname);
    return NULL;
}

static enum doctor_state state_of(const struct probes *probes, const char *id)
{
    static struct doctor_diagnosis diagnosis;
    doctor_examine(probes, &diagnosis);
    for (size_t i = 0; i < diagnosis.count; i++)
        if (strcmp(diagnosis.results[i].rule->id, id) == 0)
            return diagnosis.findings[i].state;
    fail_msg("no rule %s", id);
    return DOCTOR_UNKNOWN;
}

/* ---- tests ---- */

static void a_torch_for_cuda_is_told(void **state)
{
    (void)state;
    static const char *const needed[] = {"libcudnn.so.9", "libcublas.so.12", "libcuda.so.1",
                                         "libc.so.6", NULL};
    make_venv();
    add_package("torch", "2.6.0+cu124",
                "Requires-Dist: nvidia-cudnn-cu12==9.1.0.70; platform_system == \"Linux\"");
    add_file("torch/version.py", "from typing import Optional\n\n__version__ = '2.6.0+cu124'\n"
                                 "cuda: Optional[str] = '12.4'\nhip: Optional[str] = None\n");
    add_elf("torch/lib/libtorch_cuda.so", needed, "$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN");
    add_package("nvidia_cudnn_cu12", "9.1.0.70", "");
    add_file("nvidia/cudnn/lib/libcudnn.so.9", "");
    struct probes *probes = read_environment("venv");
    const struct probe_framework *torch = framework(probes, "torch");
    assert_string_equal(probes->python.version, "3.11.2");
    assert_string_equal(torch->version, "2.6.0+cu124");
    assert_string_equal(torch->cuda, "12.4");
    assert_string_equal(torch->cudnn, "9.1.0.70");
    assert_int_equal(torch->cuda_build, ANSWER_YES);
    assert_int_equal(probes->needs_count, 2); /* libcuda is the driver's, libc everybody's */
    const struct probe_need *cudnn = need(probes, "torch", "libcudnn.so.9");
    assert_int_equal(cudnn->found, ANSWER_YES);
    assert_string_equal(cudnn->how, "rpath");
    assert_string_equal(cudnn->package_version, "9.1.0.70");
    assert_int_equal(cudnn->shadows, ANSWER_NO);
    assert_int_equal(state_of(probes, "P02"), DOCTOR_OK);
    assert_int_equal(state_of(probes, "P05"), DOCTOR_OK);
    /* libcublas.so.12 may lie on this machine */
    free(probes);
    /* the same by its interpreter, by its packages' folder */
    probes = read_environment("venv/bin/python3");
    assert_string_equal(framework(probes, "torch")->cuda, "12.4");
    free(probes);
    probes = read_environment(SITE);
    assert_string_equal(framework(probes, "torch")->cuda, "12.4");
    free(probes);
}

static void builds_for_the_cpu_are_told(void **state)
{
    (void)state;
    make_venv();
    add_package("torch", "2.6.0+cpu", "");
    add_file("torch/version.py", "__version__ = '2.6.0+cpu'\ncuda: Optional[str] = None\n");
    add_package("tensorflow_cpu", "2.19.0", "");
    add_package("jax", "0.5.0", "");
    add_package("jaxlib", "0.5.0", "");
    struct probes *probes = read_environment("venv");
    static const char *const names[] = {"torch", "tensorflow", "jax"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(framework(probes, names[i])->cuda_build, ANSWER_NO);
        assert_string_not_equal(framework(probes, names[i])->evidence, "");
    }
    assert_string_equal(framework(probes, "tensorflow")->package, "tensorflow-cpu");
    assert_int_equal(probes->needs_count, 0);
    assert_int_equal(state_of(probes, "P02"), DOCTOR_FAIL);
    free(probes);
    /* one that can is enough for a warning only */
    add_package("jax_cuda12_plugin", "0.4.38", "");
    probes = read_environment("venv");
    assert_string_equal(framework(probes, "jax")->cuda, "12");
    assert_int_equal(state_of(probes, "P02"), DOCTOR_WARN);
    assert_int_equal(state_of(probes, "P11"), DOCTOR_FAIL);
    free(probes);
}

static void what_tensorflow_opens_is_looked_for(void **state)
{
    (void)state;
    make_venv();
    add_package("tensorflow", "2.99.0", "");
    add_file(
        "tensorflow/python/platform/build_info.py",
        "import collections\nbuild_info = collections.OrderedDict([('cpu_compiler', '/clang'), "
        "('cuda_compute_capabilities', ['sm_60', 'sm_89', 'compute_90']), ('cuda_version', "
        "'10.1'), ('cudnn_version', '7'), ('is_cuda_build', True)])\n");
    struct probes *probes = read_environment("venv");
    const struct probe_framework *tensorflow = framework(probes, "tensorflow");
    assert_string_equal(tensorflow->cuda, "10.1");
    assert_string_equal(tensorflow->cudnn, "7");
    assert_string_equal(tensorflow->architectures, "sm_60,sm_89,compute_90");
    assert_int_equal(need(probes, "tensorflow", "libcudnn.so.7")->found, ANSWER_NO);
    assert_int_equal(need(probes, "tensorflow", "libcudart.so.10.1")->found, ANSWER_NO);
    assert_int_equal(state_of(probes, "P04"), DOCTOR_FAIL);
    free(probes);
    /* a wheel beside it serves */
    add_file("nvidia/cudnn/lib/libcudnn.so.7", "");
    probes = read_environment("venv");
    assert_string_equal(need(probes, "tensorflow", "libcudnn.so.7")->how, "wheel");
    free(probes);
    add_file("tensorflow/python/platform/build_info.py", "build_info = {'is_cuda_build': False}\n");
    probes = read_environment("venv");
    assert_int_equal(framework(probes, "tensorflow")->cuda_build, ANSWER_NO);
    free(probes);
}

static void broken_installations_are_told(void **state)
{
    (void)state;
    make_venv();
    add_package("nvidia_cudnn_cu12", "9.1.0.70", "");
    add_file("nvidia_cudnn_cu12-9.1.0.70.dist-info/RECORD",
             "nvidia/cudnn/lib/libcudnn.so.9,sha256=x,12\nnvidia/cudnn/lib/libcudnn_ops.so.9,,\n"
             "nvidia/cudnn/include/cudnn.h,,\n../../../../../../gone.so,,\n/gone.so,,\n"
             "nvidia/../../gone.so,,\n\"quoted,name.so\",,\n");
    add_file("nvidia/cudnn/lib/libcudnn.so.9", "");
    struct probes *probes = read_environment("venv");
    assert_int_equal(probes->packages_count, 1);
    assert_string_equal(probes->packages[0].name, "nvidia-cudnn-cu12");
    assert_int_equal(probes->packages[0].missing_files, 1);
    assert_string_equal(probes->packages[0].missing, "nvidia/cudnn/lib/libcudnn_ops.so.9");
    free(probes);
    /* a METADATA that says nothing, is none, or never ends */
    static const char dist[] = "torch-2.6.0.dist-info/METADATA";
    char *endless = malloc(1 << 20);
    memset(endless, 'N', (1 << 20) - 1);
    endless[(1 << 20) - 1] = '\0';
    const char *const texts[] = {
        "",     "\xff\xfe\x01", "Name torch\n", "Name:\nVersion:\n", "\nName: torch\nVersion: 1\n",
        endless};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        add_file(dist, texts[i]);
        probes = read_environment("venv");
        assert_int_equal(probes->packages_count, 2);
        assert_string_equal(probes->packages[1].name, "torch");
        assert_string_equal(probes->packages[1].version, "2.6.0");
        assert_int_equal(probes->packages[1].missing_files, 1);
        assert_int_equal(state_of(probes, "P03"), DOCTOR_FAIL);
        free(probes);
    }
    free(endless);
    /* a folder and a pipe where files should be: nothing is waited for */
    char path[512];
    snprintf(path, sizeof path, "%s/" SITE "%s", cli_folder, dist);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    probes = read_environment("venv");
    assert_int_equal(probes->packages[1].missing_files, 1);
    free(probes);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    probes = read_environment("venv");
    assert_int_equal(probes->packages[1].missing_files, 1);
    free(probes);
}

static void odd_sources_are_borne(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "cuda: Optional[str] = '", "cuda = \"12",       "cuda",  "cuda =",
        "xcuda = '12'\n",          "cuda: str\n= '12'", "'cuda", ""};
    make_venv();
    add_package("torch", "2.6.0", "");
    add_package("tensorflow", "2.19.0", "");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char build[256];
        add_file("torch/version.py", texts[i]);
        snprintf(build, sizeof build, "'is_cuda_build', True, 'cuda_version', '%s", texts[i]);
        add_file("tensorflow/python/platform/build_info.py", build);
        free(read_environment("venv"));
    }
}

static void what_is_no_environment_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"none", "empty", "file", "loop"};
    char command[512], path[512];
    snprintf(command, sizeof command, "cd %s && mkdir -p empty && : >file && ln -sf loop loop",
             cli_folder);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct error error = {0};
        json_t *record = json_object();
        snprintf(path, sizeof path, "%s/%s", cli_folder, names[i]);
        assert_false(probe_python(record, path, &error));
        assert_int_equal(error.code, ERROR_FILE);
        assert_int_equal(json_object_size(record), 0);
        json_decref(record);
    }
}

static void the_needs_of_a_library_are_read(void **state)
{
    (void)state;
    static const char *const needed[] = {"liba.so.1", "libb.so", NULL};
    unsigned char bytes[4096], broken[4096];
    char path[512];
    struct elf_needs needs;
    struct error error = {0};
    size_t size = make_elf(bytes, needed, "$ORIGIN/lib");
    snprintf(path, sizeof path, "%s/some.so", cli_folder);
    write_bytes("some.so", bytes, size);
    assert_true(elf_read(path, &needs, &error));
    assert_int_equal(needs.needed_count, 2);
    assert_string_equal(needs.needed[1], "libb.so");
    assert_string_equal(needs.runpath, "$ORIGIN/lib");
    assert_null(needs.rpath);
    elf_needs_free(&needs);
    /* the one that fuzzing begins with; this program itself */
    assert_true(elf_read("tests/data/doctor/needs.so", &needs, &error));
    assert_int_equal(needs.needed_count, 3);
    assert_string_equal(needs.soname, "libtorch_cuda.so");
    assert_string_equal(needs.runpath, "$ORIGIN/../../nvidia/cudnn/lib");
    elf_needs_free(&needs);
    assert_true(elf_read("/proc/self/exe", &needs, &error));
    assert_true(needs.needed_count > 0);
    elf_needs_free(&needs);
    /* cut at every length, and every byte turned over: an error or less, never a crash */
    for (size_t cut = 0; cut < size; cut += 1 + cut / 64) {
        write_bytes("some.so", bytes, cut);
        if (elf_read(path, &needs, &error))
            elf_needs_free(&needs);
        else
            assert_string_not_equal(error.why, "");
    }
    size_t used = offsetof(Elf64_Ehdr, e_ident) + sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr) +
                  6 * sizeof(Elf64_Dyn) + 64;
    for (size_t i = 0; i < used; i++) {
        for (int k = 0; k < 2; k++) {
            memcpy(broken, bytes, size);
            broken[i] = k ? 0xff : (unsigned char)(broken[i] ^ 0x80);
            write_bytes("some.so", broken, size);
            if (elf_read(path, &needs, &error))
                elf_needs_free(&needs);
        }
    }
}

/* A process for probe_process(), as a record. NULL if it is refused. */
static struct probes *read_process(int pid, struct error *error)
{
    json_t *record = json_pack("{s:i}", "version", PROBES_VERSION);
    struct probes *probes =
        probe_process(record, pid, error) ? probes_from_json(record, error) : NULL;
    json_decref(record);
    return probes;
}

static void this_process_is_told(void **state)
{
    (void)state;
    struct error error = {0};
    struct probes *probes = read_process((int)getpid(), &error);
    assert_non_null(probes);
    assert_int_equal(probes->process.pid, getpid());
    assert_string_not_equal(probes->process.name, "");
    assert_int_equal(probes->process.maps_read, ANSWER_YES);
    assert_int_equal(probes->process.files_read, ANSWER_YES);
    assert_int_equal(probes->process.gpu_files, 0);
    size_t before = probes->mapped_count;
    free(probes);
    /* a library of a telling name, loaded and then replaced */
    char command[1024], path[512];
    snprintf(command, sizeof command, "${CC:-cc} -shared -fPIC -o %s/libcudnn.so.9 %s", cli_folder,
             "tests/tools/fake_driver.c");
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/libcudnn.so.9", cli_folder);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    probes = read_process((int)getpid(), &error);
    assert_int_equal(probes->mapped_count, before + 1);
    assert_string_equal(probes->mapped[before].library, "libcudnn");
    assert_string_equal(probes->mapped[before].version, "9");
    assert_string_equal(probes->mapped[before].path, path);
    assert_int_equal(probes->mapped[before].deleted, ANSWER_NO);
    assert_int_equal(state_of(probes, "Q04"), DOCTOR_WARN); /* loaded, and no GPU is open */
    free(probes);
    assert_int_equal(unlink(path), 0);
    probes = read_process((int)getpid(), &error);
    assert_int_equal(probes->mapped[before].deleted, ANSWER_YES);
    free(probes);
    dlclose(library);
}

static void processes_that_are_gone_or_foreign(void **state)
{
    (void)state;
    struct error error = {0};
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    siginfo_t ended;
    assert_int_equal(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT), 0);
    /* a zombie: it is there, and has nothing left */
    struct probes *probes = read_process((int)child, &error);
    if (probes) {
        assert_int_equal(probes->process.maps_read, ANSWER_NO);
        assert_int_equal(state_of(probes, "Q03"), DOCTOR_UNKNOWN);
        free(probes);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_null(read_process((int)child, &error));
    assert_int_equal(error.code, ERROR_VALUE);
    assert_null(read_process(0, &error));
    assert_null(read_process(-1, &error));
    assert_null(read_process(INT32_MAX, &error));
    /* somebody else's: what may not be read is not known, and that is said */
    child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534) != 0)
            _exit(1);
        probes = read_process(geteuid() == 65534 ? (int)getppid() : 1, &error);
        bool told = probes && probes->process.maps_read == ANSWER_NO &&
                    probes->process.files_read == ANSWER_NO && *probes->process.why &&
                    state_of(probes, "Q03") == DOCTOR_UNKNOWN;
        _exit(told ? 0 : 2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_torch_for_cuda_is_told),
        cmocka_unit_test(builds_for_the_cpu_are_told),
        cmocka_unit_test(what_tensorflow_opens_is_looked_for),
        cmocka_unit_test(broken_installations_are_told),
        cmocka_unit_test(odd_sources_are_borne),
        cmocka_unit_test(what_is_no_environment_is_refused),
        cmocka_unit_test(the_needs_of_a_library_are_read),
        cmocka_unit_test(this_process_is_told),
        cmocka_unit_test(processes_that_are_gone_or_foreign),
    };
    return cmocka_run_group_tests(tests, cli_make_folder, cli_remove_folder);
}
