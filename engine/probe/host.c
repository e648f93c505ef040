/* The machine below the GPUs: kernel, container, CPUs, clock, device nodes, kernel modules, libcuda. */
#define _GNU_SOURCE /* dlinfo, strcasestr */
#include "engine/cpu/cpu.h"
#include "engine/probe/probe.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <link.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define SMALL_FILE     65536
#define CLOCK_READINGS 200

/* The value of a line `NAME=VALUE` or `NAME: VALUE`, unquoted, into out; false if there is none. */
static bool find_line(const char *text, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *at = text; at != NULL && *at != '\0';) {
        if (strncmp(at, name, length) == 0 && (at[length] == '=' || at[length] == ':')) {
            at += length + 1;
            at += strspn(at, " \t\"");
            snprintf(out, size, "%.*s", (int)strcspn(at, "\"\n"), at);
            return true;
        }
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    return false;
}

/* ---- host ---- */

static const char *container_kind(void)
{
    char *first = probe_read("/proc/1/cgroup", SMALL_FILE);
    const char *kind = "none";
    char *variable = probe_environment("container");
    if (getenv("KUBERNETES_SERVICE_HOST") != NULL)
        kind = "kubernetes";
    else if (access("/.dockerenv", F_OK) == 0)
        kind = "docker";
    else if (access("/run/.containerenv", F_OK) == 0)
        kind = "podman";
    else if (first != NULL && strstr(first, "kubepods") != NULL)
        kind = "kubernetes";
    else if (first != NULL && strstr(first, "docker") != NULL)
        kind = "docker";
    else if (first != NULL && strstr(first, "lxc") != NULL)
        kind = "lxc";
    else if (variable != NULL && *variable != '\0')
        kind = "container";
    free(variable);
    free(first);
    return kind;
}

/* CPUs that the cgroup grants at a time, by version 2's cpu.max or version 1's quota; 0: no limit. */
static double cpu_quota(void)
{
    char *groups = probe_read("/proc/self/cgroup", SMALL_FILE), path[PATH_MAX], folder[1024] = "";
    const char *unified = groups != NULL ? strstr(groups, "0::") : NULL;
    double least = 0;
    if (unified != NULL)
        snprintf(folder, sizeof folder, "%.*s", (int)strcspn(unified + 3, "\n"), unified + 3);
    free(groups);
    for (;;) { /* every level above may limit as well */
        double quota, period;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", folder);
        char *text = probe_read(path, 256);
        if (text != NULL && sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 &&
            (least == 0 || quota / period < least))
            least = quota / period;
        free(text);
        char *slash = strrchr(folder, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
    char *quota = probe_read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", 64);
    char *period = probe_read("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 64);
    if (least == 0 && quota != NULL && period != NULL && atof(quota) > 0 && atof(period) > 0)
        least = atof(quota) / atof(period);
    free(quota);
    free(period);
    return least;
}

/* The smallest step that the clock is seen to make. */
static int64_t clock_step_ns(void)
{
    int64_t least = INT64_MAX;
    struct timespec before, after;
    for (int i = 0; i < CLOCK_READINGS; i++) {
        clock_gettime(CLOCK_MONOTONIC, &before);
        do
            clock_gettime(CLOCK_MONOTONIC, &after);
        while (after.tv_nsec == before.tv_nsec && after.tv_sec == before.tv_sec);
        int64_t step =
            (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
        least = step < least ? step : least;
    }
    return least;
}

static const char *system_name(long type)
{
    static const struct {
        long type;
        const char *name;
    } names[] = {{0x6969, "nfs"},         {0x0bd00bd0, "lustre"}, {0x47504653, "gpfs"},
                 {0xff534d42, "cifs"},    {0xfe534d42, "smb"},    {0x65735546, "fuse"},
                 {0x794c7630, "overlay"}, {0x01021994, "tmpfs"},  {0xef53, "ext"},
                 {0x58465342, "xfs"},     {0x9123683e, "btrfs"},  {0x19830326, "fhgfs"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].type == type)
            return names[i].name;
    return NULL;
}

/* Does the working folder take file locks? Tried on a file that is there: nothing is written. */
static void probe_folder(json_t *host)
{
    struct statfs system;
    struct dirent *entry;
    DIR *folder = opendir(".");
    int fd = -1;
    if (statfs(".", &system) == 0)
        probe_set_text(host, "folder_system", system_name((long)system.f_type));
    while (folder != NULL && fd < 0 && (entry = readdir(folder)) != NULL) {
        struct stat status;
        if (fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode))
            fd = openat(dirfd(folder), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    }
    if (folder != NULL)
        closedir(folder);
    if (fd < 0)
        return;
    bool taken = flock(fd, LOCK_SH | LOCK_NB) == 0;
    int code = errno;
    bool locks = taken || code == EWOULDBLOCK; /* somebody holds one: so there are some */
    json_object_set_new(host, "folder_locks", json_boolean(locks));
    if (!locks)
        probe_set_text(host, "lock_error", probe_errno(code));
    if (taken)
        flock(fd, LOCK_UN);
    close(fd);
}

static void probe_host(json_t *record)
{
    json_t *host = json_object();
    struct utsname name;
    char text[256];
    struct passwd *user = getpwuid(getuid());
    char *release = probe_read("/etc/os-release", SMALL_FILE);
    if (uname(&name) == 0) {
        probe_set_text(host, "host", name.nodename);
        probe_set_text(host, "kernel", name.release);
        json_object_set_new(host, "wsl",
                            json_boolean(strcasestr(name.release, "microsoft") != NULL));
    }
    if (release != NULL && find_line(release, "PRETTY_NAME", text, sizeof text))
        probe_set_text(host, "system", text);
    free(release);
    probe_set_text(host, "user", user != NULL ? user->pw_name : getenv("USER"));
    probe_set_text(host, "home", getenv("HOME"));
    probe_set_text(host, "container", container_kind());
    int allowed = machine_allowed_processors(NULL, 0);
    json_object_set_new(host, "cpus_online", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    if (allowed > 0)
        json_object_set_new(host, "cpus_allowed", json_integer(allowed));
    json_object_set_new(host, "cpus_quota", json_real(cpu_quota()));
    char *source =
        probe_read("/sys/devices/system/clocksource/clocksource0/current_clocksource", 64);
    if (source != NULL)
        source[strcspn(source, "\n")] = '\0';
    probe_set_text(host, "clock_source", source);
    free(source);
    json_object_set_new(host, "clock_step_ns", json_integer(clock_step_ns()));
    probe_folder(host);
    probe_set_text(host, "hdf5_locking", getenv("HDF5_USE_FILE_LOCKING"));
    json_object_set_new(record, "host", host);
}

/* ---- the driver's kernel side ---- */

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ..." -> "580.95.05" */
static bool find_version(const char *text, char *out, size_t size)
{
    for (const char *at = text; *at != '\0' && *at != '\n';) {
        size_t length = strcspn(at, " \t\n"), digits = strspn(at, "0123456789.");
        if (length > 0 && digits == length && memchr(at, '.', length) != NULL) {
            snprintf(out, size, "%.*s", (int)length, at);
            return true;
        }
        at += length;
        at += strspn(at, " \t");
    }
    return false;
}

/* Display controllers (class 03) of NVIDIA's vendor number; -1 without a PCI bus to ask. */
static int count_pci_gpus(void)
{
    DIR *folder = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    int count = 0;
    if (folder == NULL)
        return -1;
    while ((entry = readdir(folder)) != NULL) {
        char path[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vendor", entry->d_name);
        char *vendor = probe_read(path, 16);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/class", entry->d_name);
        char *class = probe_read(path, 16);
        count += vendor != NULL && class != NULL && strncmp(vendor, "0x10de", 6) == 0 &&
                 strncmp(class, "0x03", 4) == 0;
        free(vendor);
        free(class);
    }
    closedir(folder);
    return count;
}

static void probe_driver(json_t *record)
{
    json_t *driver = json_object();
    char version[64], value[64];
    char *module = probe_read("/proc/driver/nvidia/version", SMALL_FILE);
    char *parameters = probe_read("/proc/driver/nvidia/params", SMALL_FILE);
    int gpus = count_pci_gpus();
    if (gpus >= 0)
        json_object_set_new(driver, "pci_gpus", json_integer(gpus));
    json_object_set_new(driver, "module_loaded", json_boolean(module != NULL));
    if (module != NULL && find_version(module, version, sizeof version))
        probe_set_text(driver, "module_version", version);
    json_object_set_new(driver, "uvm_loaded",
                        json_boolean(access("/sys/module/nvidia_uvm", F_OK) == 0));
    json_object_set_new(driver, "nouveau_loaded",
                        json_boolean(access("/sys/module/nouveau", F_OK) == 0));
    if (parameters != NULL && find_line(parameters, "RmProfilingAdminOnly", value, sizeof value))
        json_object_set_new(driver, "admin_only_profiling", json_boolean(atoi(value) != 0));
    free(module);
    free(parameters);
    json_object_set_new(record, "driver", driver);
}

static void add_node(json_t *nodes, const char *path)
{
    struct stat status;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    json_t *node =
        json_pack("{s:s, s:s}", "path", path, "state", fd >= 0 ? "ok" : probe_errno(errno));
    if (fd >= 0)
        close(fd);
    if (stat(path, &status) == 0) {
        struct group *group = getgrgid(status.st_gid);
        json_object_set_new(node, "mode", json_integer(status.st_mode & 07777));
        probe_set_text(node, "group", group != NULL ? group->gr_name : NULL);
    }
    json_array_append_new(nodes, node);
}

static void probe_nodes(json_t *record)
{
    json_t *nodes = json_array();
    glob_t found;
    if (json_is_true(json_object_get(json_object_get(record, "host"), "wsl"))) {
        add_node(nodes, "/dev/dxg"); /* the only one there is */
    } else {
        add_node(nodes, "/dev/nvidiactl");
        add_node(nodes, "/dev/nvidia-uvm");
        if (glob("/dev/nvidia[0-9]*", 0, NULL, &found) != 0)
            found.gl_pathc = 0;
        for (size_t i = 0; i < found.gl_pathc && i < 32; i++)
            add_node(nodes, found.gl_pathv[i]);
        if (found.gl_pathc == 0)
            add_node(nodes, "/dev/nvidia0");
        else
            globfree(&found);
    }
    json_object_set_new(record, "nodes", nodes);
}

/* ---- libcuda ---- */

static void probe_cuda(json_t *record)
{
    json_t *cuda = json_object();
    /* never unmapped: a driver that refused half-way may have left threads behind */
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    struct link_map *map;
    char resolved[PATH_MAX];
    json_object_set_new(cuda, "found", json_boolean(library != NULL));
    if (library == NULL) {
        const char *why = dlerror();
        probe_set_text(cuda, "why", why);
    } else {
        int (*init)(unsigned) = NULL, (*version)(int *) = NULL, (*count)(int *) = NULL, value = 0;
        void *address = dlsym(library, "cuInit");
        memcpy(&init, &address, sizeof address);
        address = dlsym(library, "cuDriverGetVersion");
        memcpy(&version, &address, sizeof address);
        address = dlsym(library, "cuDeviceGetCount");
        memcpy(&count, &address, sizeof address);
        if (dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map->l_name != NULL)
            probe_set_text(cuda, "path",
                           realpath(map->l_name, resolved) != NULL ? resolved : map->l_name);
        int code = init != NULL ? init(0) : 999;
        json_object_set_new(cuda, "init_code", json_integer(code));
        if (version != NULL && version(&value) == 0)
            json_object_set_new(cuda, "version", json_integer(value));
        if (code == 0 && count != NULL && count(&value) == 0)
            json_object_set_new(cuda, "devices", json_integer(value));
    }
    json_object_set_new(record, "cuda", cuda);
}

static void probe_variables(json_t *record)
{
    json_t *environment = json_object();
    static const char *const names[][2] = {{"visible", "CUDA_VISIBLE_DEVICES"},
                                           {"device_order", "CUDA_DEVICE_ORDER"},
                                           {"library_path", "LD_LIBRARY_PATH"},
                                           {"container_devices", "NVIDIA_VISIBLE_DEVICES"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *value = probe_environment(names[i][1]);
        if (i == 0)
            json_object_set_new(environment, "visible_set", json_boolean(value != NULL));
        probe_set_text(environment, names[i][0], value);
        free(value);
    }
    json_object_set_new(record, "environment", environment);
}

void probe_machine(json_t *record)
{
    probe_host(record);
    probe_driver(record);
    probe_nodes(record);
    probe_cuda(record);
    probe_variables(record);
    probe_gpus(record);
}
