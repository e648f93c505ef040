/* `doctor` as a script sees it: its objects, its report, its errors; with a driver, an NVML and a GPU
 * that are none. */
#include "support/cli.h"
#include "support/fake_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const json_t *check_of(const json_t *data, const char *id)
{
    size_t index;
    json_t *check;
    json_array_foreach(json_object_get(data, "checks"), index,
                       check) if (strcmp(json_string_value(json_object_get(check, "id")), id) ==
                                  0) return check;
    fail_msg("no check %s", id);
    return NULL;
}

static const char *text_of(const json_t *data, const char *id, const char *member)
{
    const char *text = json_string_value(json_object_get(check_of(data, id), member));
    return text ? text : "";
}

/* Run one command, keep its data. */
static json_t *doctor(const char *words, int *code)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "--json -c 'doctor %s'", words);
    struct cli_outcome outcome = cli_run(NULL, arguments);
    json_t *data = json_deep_copy(cli_at(cli_object_of(&outcome, "doctor"), "data"));
    if (!data)
        fail_msg("%s", outcome.errors);
    *code = outcome.code;
    cli_outcome_free(&outcome);
    return data;
}

static void save(const char *name, const json_t *json)
{
    char *text = json_dumps(json, 0);
    cli_write_file(name, text);
    free(text);
}

/* What this machine is like is not known here: only that it is told, whole, and can be read back. */
static void facts_make_the_same_diagnosis_again(void **state)
{
    (void)state;
    int code, again;
    char words[256];
    json_t *data = doctor("--quick", &code);
    const json_t *root = json_object_get(data, "root_cause");
    assert_true(json_is_string(root) || json_is_null(root));
    bool failed = json_is_string(root) &&
                  strcmp(text_of(data, json_string_value(root), "state"), "fail") == 0;
    assert_int_equal(code, failed ? 4 : 0);
    assert_true(json_array_size(json_object_get(data, "checks")) >= 28);
    assert_string_equal(text_of(data, "D14", "state"), "unknown"); /* --quick computes nothing */
    save("probes.json", json_object_get(data, "probes"));
    snprintf(words, sizeof words, "--from %s/probes.json", cli_folder);
    json_t *second = doctor(words, &again);
    assert_int_equal(again, code);
    assert_true(json_equal(json_object_get(second, "checks"), json_object_get(data, "checks")));
    assert_true(json_equal(json_object_get(second, "probes"), json_object_get(data, "probes")));
    json_decref(second);
    json_decref(data);
    /* on other facts the answer is another */
    json_t *healthy = doctor("--from tests/data/doctor/healthy.json", &code);
    assert_int_equal(code, 0);
    assert_true(json_is_null(json_object_get(healthy, "root_cause")));
    json_decref(healthy);
}

static void a_driver_that_refuses_is_told(void **state)
{
    (void)state;
    static const char *const codes[] = {"999", "803", "100"};
    int code;
    setenv("LD_LIBRARY_PATH", cli_folder, 1);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        setenv("FAKE_CUDA_INIT", codes[i], 1);
        json_t *data = doctor("--quick", &code);
        assert_int_equal(code, 4);
        assert_int_equal((int)cli_number_at(data, "probes.cuda.init_code"), atoi(codes[i]));
        assert_non_null(strstr(json_string_value(cli_at(data, "probes.cuda.path")), cli_folder));
        assert_non_null(strstr(text_of(data, "D04", "what"), codes[i]));
        assert_string_not_equal(text_of(data, "D04", "hint"), "");
        json_decref(data);
    }
    setenv("FAKE_CUDA_INIT", "0", 1);
    setenv("FAKE_CUDA_VERSION", "12040", 1);
    setenv("CUDA_VISIBLE_DEVICES", "-1", 1);
    setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST", 1);
    json_t *data = doctor("--quick", &code);
    assert_int_equal((int)cli_number_at(data, "probes.cuda.version"), 12040);
    assert_string_equal(text_of(data, "D07", "state"), "fail");
    /* as the user set it, though the worker counts otherwise */
    assert_string_equal(json_string_value(cli_at(data, "probes.environment.device_order")),
                        "FASTEST_FIRST");
    json_decref(data);
    unsetenv("CUDA_VISIBLE_DEVICES");
    unsetenv("CUDA_DEVICE_ORDER");
    unsetenv("FAKE_CUDA_INIT");
    unsetenv("FAKE_CUDA_VERSION");
    unsetenv("LD_LIBRARY_PATH");
}

static void what_nvml_says_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *id, *what;
    } rows[] = {
        {"D09", "EXCLUSIVE_PROCESS and process 1"},
        {"D10", "MIG is on at gpu:1"},
        {"D24", "7 uncorrected memory errors"},
        {"D15", "1.0 of 16.0 GiB"},
        {"D16", "1.0 GiB"},
        {"D19", "shut down"},
        {"D22", "gpu:0"},
        {"D25", "virtual"},
        {"D08", "Fake GPU 1"},
    };
    int code;
    setenv("LD_LIBRARY_PATH", cli_folder, 1);
    json_t *data = doctor("--quick", &code);
    const json_t *gpu = json_array_get(cli_at(data, "probes.gpus"), 0);
    assert_int_equal((int)cli_number_at(gpu, "architecture"), 86);
    assert_string_equal(json_string_value(cli_at(gpu, "pci")), "0000:18:00.0");
    assert_string_equal(json_string_value(cli_at(data, "probes.nvml.version")), "580.95.05");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strstr(text_of(data, rows[i].id, "what"), rows[i].what))
            fail_msg("%s: %s", rows[i].id, text_of(data, rows[i].id, "what"));
    json_decref(data);
    setenv("FAKE_NVML_INIT", "18", 1);
    data = doctor("--quick", &code);
    assert_non_null(strstr(text_of(data, "D06", "what"), "NVML answers 18"));
    json_decref(data);
    unsetenv("FAKE_NVML_INIT");
    unsetenv("LD_LIBRARY_PATH");
}

/* The fake GPU puts the number of its steps into every output: that is no matmul. The CPU's own are
 * right, and clocks are read while it computes. */
static void wrong_answers_are_found(void **state)
{
    (void)state;
    int code;
    size_t index, right = 0;
    json_t *smoke;
    if (fake_gpu_build(NULL) != 0)
        fail_msg("the fake GPU was not built");
    setenv("LD_LIBRARY_PATH", cli_folder, 1);
    json_t *data = doctor("", &code);
    assert_int_equal(code, 4);
    assert_string_equal(json_string_value(cli_at(data, "probes.gpu_part.architectures")), "90");
    const char *what = text_of(data, "D14", "what");
    assert_non_null(strstr(what, "gpu:0: the matmul is wrong"));
    assert_non_null(strstr(what, "gpu:2: the convolution is wrong"));
    assert_null(strstr(what, "cpu"));
    json_array_foreach(cli_at(data, "probes.smokes"), index, smoke) right +=
        strcmp(json_string_value(json_object_get(smoke, "device")), "cpu") == 0 &&
        json_is_true(json_object_get(smoke, "ran"));
    assert_int_equal(right, 3);
    const json_t *gpu = json_array_get(cli_at(data, "probes.gpus"), 0);
    assert_true(json_is_true(json_object_get(gpu, "loaded")));
    assert_int_equal((int)cli_number_at(gpu, "load_throttle"), 4);
    assert_int_equal((int)cli_number_at(gpu, "load_clock_mhz"), 1200);
    assert_non_null(strstr(text_of(data, "D20", "what"), "power cap; 1200 of 1800 MHz"));
    assert_non_null(strstr(text_of(data, "D21", "what"), "50 %"));
    json_decref(data);
    setenv("FAKE_GPU_BROKEN", "1", 1);
    data = doctor("", &code);
    assert_non_null(strstr(text_of(data, "D14", "what"), "gpu:0: the kernel failed"));
    json_decref(data);
    unsetenv("FAKE_GPU_BROKEN");
    unsetenv("LD_LIBRARY_PATH");
    assert_int_equal(fake_gpu_remove(NULL), 0);
    unsetenv("LAYERTOP_CUDA_MODULE");
}

static void a_report_names_nobody(void **state)
{
    (void)state;
    char words[512], host[256] = "", home[256];
    snprintf(home, sizeof home, "%s/home-of-somebody", cli_folder);
    setenv("HOME", home, 1);
    setenv("CUDA_VISIBLE_DEVICES", "GPU-8f3a1c2d-1111-2222-3333-444455556666", 1);
    snprintf(words, sizeof words, "-c 'doctor --quick --report %s/report.md' >%s/said", cli_folder,
             cli_folder);
    struct cli_outcome outcome = cli_run(NULL, words);
    char *report = cli_read_file("report.md");
    gethostname(host, sizeof host - 1);
    assert_non_null(strstr(report, "Root cause: **"));
    assert_non_null(strstr(report, "GPU-8f3a..."));
    assert_null(strstr(report, "444455556666"));
    assert_null(strstr(report, "home-of-somebody"));
    if (strlen(host) > 3)
        assert_null(strstr(report, host));
    /* its facts are a record */
    char *facts = strstr(report, "```json\n"), *end = facts ? strstr(facts + 8, "\n```") : NULL;
    assert_non_null(end);
    *end = '\0';
    cli_write_file("facts.json", facts + 8);
    free(report);
    cli_outcome_free(&outcome);
    int code;
    snprintf(words, sizeof words, "--from %s/facts.json", cli_folder);
    json_decref(doctor(words, &code));
    unsetenv("CUDA_VISIBLE_DEVICES");
    snprintf(words, sizeof words, "-c 'doctor --quick --report %s/none/report.md'", cli_folder);
    cli_expect_code(NULL, words, 1, "cannot be written");
}

static void wrong_words_and_files_are_errors(void **state)
{
    (void)state;
    static const struct {
        const char *words, *says;
        int code;
    } rows[] = {
        {"--bogus", "'--bogus' is none of", 1},
        {"--python", "--python needs a value", 1},
        {"--pid x", "doctor --pid", 1},
        {"--pid 0", "doctor --pid", 1},
        {"--pid 2147483647", "there is no such process", 1},
        {"--pid 1 --python /", "one of --python, --pid and --from", 1},
        {"--python /dev/null", "it is no Python environment", 1},
        {"--python /none", "No such file", 1},
        {"--from /none", "No such file", 1},
        {"--from /dev/zero", "is no regular file", 1},
        {"--from /", "is no regular file", 1},
        {"--from README.md", "it is no JSON", 1},
        {"--from tests/data/doctor/cases.json", "it has no \"version\"", 1},
    };
    char arguments[512];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(arguments, sizeof arguments, "-c 'doctor %s'", rows[i].words);
        cli_expect_code(NULL, arguments, rows[i].code, rows[i].says);
    }
    /* a record that never ends, and one nested beyond reason */
    char *deep = malloc(1000001);
    memset(deep, '[', 1000000);
    deep[1000000] = '\0';
    cli_write_file("deep.json", deep);
    free(deep);
    snprintf(arguments, sizeof arguments, "-c 'doctor --from %s/deep.json'", cli_folder);
    cli_expect_code(NULL, arguments, 1, "it is no JSON");
    snprintf(arguments, sizeof arguments, "-c 'doctor --from %s/big.json' -c quit", cli_folder);
    char path[256];
    snprintf(path, sizeof path, "%s/big.json", cli_folder);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 5 << 10; i++)
        fprintf(file, "%1024s", "");
    fclose(file);
    cli_expect_code(NULL, arguments, 1, "it is larger than 4 MiB");
}

/* A recording is no machine, but facts that were written down are judged anywhere. */
static void a_recording_has_no_machine(void **state)
{
    (void)state;
    static const char replay[] = "--replay tests/data/recordings/digits.ltr --speed max";
    char arguments[256];
    snprintf(arguments, sizeof arguments, "%s -c 'doctor --quick'", replay);
    cli_expect_code(NULL, arguments, 1, "it looks at no machine");
    snprintf(arguments, sizeof arguments, "%s -c 'doctor --from tests/data/doctor/healthy.json'",
             replay);
    cli_expect_code(NULL, arguments, 0, NULL);
}

static int make_fakes(void **state)
{
    static const char *const fakes[][2] = {{"fake_driver", "libcuda.so.1"},
                                           {"fake_nvml", "libnvidia-ml.so.1"}};
    char command[512];
    if (cli_make_folder(state) != 0)
        return -1;
    for (size_t i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "${CC:-cc} -shared -fPIC -o %s/%s tests/tools/%s.c",
                 cli_folder, fakes[i][1], fakes[i][0]);
        if (system(command) != 0)
            return -1;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_make_the_same_diagnosis_again),
        cmocka_unit_test(a_driver_that_refuses_is_told),
        cmocka_unit_test(what_nvml_says_is_told),
        cmocka_unit_test(wrong_answers_are_found),
        cmocka_unit_test(a_report_names_nobody),
        cmocka_unit_test(wrong_words_and_files_are_errors),
        cmocka_unit_test(a_recording_has_no_machine),
    };
    return cmocka_run_group_tests(tests, make_fakes, cli_remove_folder);
}
