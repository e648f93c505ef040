/* The plan cache and the narrowing of weights: host code of the CUDA backend that needs no CUDA, and
 * so is compiled here, whether or not the backend is built. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cuda/narrow.c"
#include "engine/cuda/plan_cache.c"
#include "engine/cuda/plan_key.c"

#include "engine/convert.h"
#include "engine/random.h"
#include "support/bench.h"
#include <sys/wait.h>

static char folder[] = "/tmp/layertop-plans-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    char *command = xasprintf("rm -rf '%s'", folder);
    (void)state;
    int status = system(command);
    free(command);
    return status;
}

static struct plan_cache cache_of(const char *key)
{
    struct plan_cache cache = {0};
    snprintf(cache.key, sizeof cache.key, "%s", key);
    return cache;
}

static void path_of(char out[4096], const char *key)
{
    assert_true(file_name(out, 4096, folder, key));
}

static bool save(const char *key, int64_t time_ns)
{
    struct error error = {0};
    struct plan_cache cache = cache_of(key);
    plan_cache_put(&cache, "conv:0123456789abcdef", "41 2=3 13=-1", time_ns);
    plan_cache_put(&cache, "matmul:fedcba9876543210", "00ff", 7);
    bool good = plan_cache_save(&cache, folder, &error);
    if (!good) {
        print_error("%s\n", error.why);
    }
    plan_cache_clear(&cache);
    return good;
}

static void what_was_kept_comes_back(void **state)
{
    struct plan_cache cache = cache_of("a key");
    char note[512];
    (void)state;
    assert_false(plan_cache_load(&cache, folder, note, sizeof note));
    assert_string_equal(note, ""); /* none there: nothing to say */
    assert_true(save("a key", 12345));
    assert_true(plan_cache_load(&cache, folder, note, sizeof note));
    assert_int_equal(cache.count, 2);
    const struct plan_cache_row *row = plan_cache_find(&cache, "conv:0123456789abcdef");
    assert_non_null(row);
    assert_string_equal(row->choice, "41 2=3 13=-1");
    assert_int_equal(row->time_ns, 12345);
    assert_string_equal(plan_cache_find(&cache, "matmul:fedcba9876543210")->choice, "00ff");
    assert_null(plan_cache_find(&cache, "conv:0"));
    plan_cache_put(&cache, "conv:0123456789abcdef", "7", 3); /* replaced, not added */
    assert_int_equal(cache.count, 2);
    assert_string_equal(plan_cache_find(&cache, "conv:0123456789abcdef")->choice, "7");
    plan_cache_clear(&cache);
}

/* Every cut and every changed byte is noticed, told once, and never believed. */
static void a_damaged_file_is_ignored(void **state)
{
    char path[4096], note[512], *text = calloc(1, 4096);
    struct plan_cache cache = cache_of("damaged");
    (void)state;
    assert_true(save("damaged", 1));
    path_of(path, "damaged");
    FILE *file = fopen(path, "rb");
    size_t bytes = fread(text, 1, 4096, file);
    fclose(file);
    assert_true(bytes > 60);
    for (size_t at = 0; at < 2 * bytes; at++) {
        bool cut = at >= bytes;
        char *copy = malloc(bytes);
        memcpy(copy, text, bytes);
        if (!cut) {
            copy[at] = (char)(copy[at] ^ 1);
        }
        file = fopen(path, "wb");
        fwrite(copy, 1, cut ? at - bytes : bytes, file);
        fclose(file);
        free(copy);
        if (plan_cache_load(&cache, folder, note, sizeof note)) {
            fail_msg("%s at byte %zu went unnoticed", cut ? "a cut" : "a change", at % bytes);
        }
        assert_non_null(strstr(note, "is damaged"));
        assert_int_equal(cache.count, 0);
    }
    /* rubbish of every size, more than a file may have included */
    static const size_t sizes[] = {0, 1, 4096, FILE_BYTES + 100};
    for (size_t i = 0; i < 4; i++) {
        file = fopen(path, "wb");
        for (size_t j = 0; j < sizes[i]; j++) {
            fputc((int)(j * 37 % 256), file);
        }
        fclose(file);
        assert_false(plan_cache_load(&cache, folder, note, sizeof note));
        assert_non_null(strstr(note, "is damaged"));
    }
    /* and the next save puts it right */
    assert_true(save("damaged", 2));
    assert_true(plan_cache_load(&cache, folder, note, sizeof note));
    plan_cache_clear(&cache);
    free(text);
}

/* A file of another version, or of a key that happens to have the name, is somebody else's: it is
 * not damaged. */
static void another_version_is_not_read(void **state)
{
    char path[4096], other[4096], note[512];
    struct plan_cache cache = cache_of("version");
    (void)state;
    assert_true(save("not the key", 1));
    path_of(path, "version");
    path_of(other, "not the key");
    assert_int_equal(rename(other, path), 0);
    assert_false(plan_cache_load(&cache, folder, note, sizeof note));
    assert_string_equal(note, "");

    FILE *file = fopen(path, "wb");
    const char *body = "layertop plan 99\nkey version\nsomething new\n";
    fprintf(file, "%ssum %016" PRIx64 "\n", body, plan_hash(PLAN_HASH_START, body, strlen(body)));
    fclose(file);
    assert_false(plan_cache_load(&cache, folder, note, sizeof note));
    assert_string_equal(note, "");
    /* a row that makes no sense under a right checksum */
    file = fopen(path, "wb");
    body = "layertop plan 1\nkey version\nrow conv:1 -5 x\n";
    fprintf(file, "%ssum %016" PRIx64 "\n", body, plan_hash(PLAN_HASH_START, body, strlen(body)));
    fclose(file);
    assert_false(plan_cache_load(&cache, folder, note, sizeof note));
    assert_non_null(strstr(note, "makes no sense"));
}

/* Writers at once: a reader sees one of the whole files, always. */
static void several_writers_leave_a_whole_file(void **state)
{
    struct plan_cache cache = cache_of("writers");
    char note[512];
    pid_t writers[4];
    (void)state;
    assert_true(save("writers", 0));
    for (int i = 0; i < 4; i++) {
        writers[i] = fork();
        if (writers[i] == 0) {
            bool good = true;
            for (int round = 0; round < 40; round++) {
                good = save("writers", i * 1000 + round) && good;
            }
            _exit(good ? 0 : 1);
        }
    }
    for (int round = 0; round < 200; round++) {
        if (!plan_cache_load(&cache, folder, note, sizeof note) || cache.count != 2) {
            fail_msg("round %d: %s", round, note);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = -1;
        waitpid(writers[i], &status, 0);
        assert_int_equal(status, 0);
    }
    assert_true(plan_cache_load(&cache, folder, note, sizeof note));
    plan_cache_clear(&cache);
    /* nothing temporary is left behind */
    char *command = xasprintf("ls '%s' | grep -c 'plan[.]' >/dev/null", folder);
    assert_int_not_equal(system(command), 0);
    free(command);
}

static size_t count_files(void)
{
    DIR *directory = opendir(folder);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

static void the_folder_is_bounded(void **state)
{
    char key[32], path[4096], note[512];
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    (void)state;
    assert_true(save("oldest", 1));
    path_of(path, "oldest");
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    /* a writer died long ago */
    snprintf(path, sizeof path, "%s/0.plan.abcdef", folder);
    fclose(fopen(path, "w"));
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    for (int i = 0; i < PLAN_CACHE_FILES + 10; i++) {
        snprintf(key, sizeof key, "plan %d", i);
        assert_true(save(key, i));
    }
    assert_true(count_files() <= PLAN_CACHE_FILES);
    assert_int_not_equal(access(path, F_OK), 0);
    struct plan_cache cache = cache_of("oldest");
    assert_false(plan_cache_load(&cache, folder, note, sizeof note));
    snprintf(cache.key, sizeof cache.key, "plan %d", PLAN_CACHE_FILES + 9);
    assert_true(plan_cache_load(&cache, folder, note, sizeof note));
    plan_cache_clear(&cache);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state)
{
    struct plan_cache cache = cache_of("x");
    struct error error = {0};
    (void)state;
    plan_cache_put(&cache, "conv:1", "1", 0);
    assert_false(plan_cache_save(&cache, "/proc/nowhere/plans", &error));
    assert_int_equal(error.code, ERROR_FILE);
    plan_cache_clear(&cache);
}

static void the_folder_follows_the_environment(void **state)
{
    char out[256];
    (void)state;
    char *cache = getenv("XDG_CACHE_HOME") != NULL ? xstrdup(getenv("XDG_CACHE_HOME")) : NULL;
    char *home = getenv("HOME") != NULL ? xstrdup(getenv("HOME")) : NULL;
    setenv("XDG_CACHE_HOME", "/somewhere/cache", 1);
    assert_true(plan_cache_folder(out, sizeof out));
    assert_string_equal(out, "/somewhere/cache/layertop/plans");
    setenv("XDG_CACHE_HOME", "relative", 1); /* the standard says: ignore */
    setenv("HOME", "/home/somebody", 1);
    assert_true(plan_cache_folder(out, sizeof out));
    assert_string_equal(out, "/home/somebody/.cache/layertop/plans");
    unsetenv("HOME");
    assert_false(plan_cache_folder(out, sizeof out));
    cache != NULL ? setenv("XDG_CACHE_HOME", cache, 1) : unsetenv("XDG_CACHE_HOME");
    home != NULL ? setenv("HOME", home, 1) : 0;
    free(cache);
    free(home);
}

/* -- keys ------------------------------------------------------------------------------------- */

static void a_key_changes_with_everything_that_matters(void **state)
{
    struct plan_key keys[] = {
        {"fp16", "nhwc", 9, 0, 132, 91900, 130100}, {"bf16", "nhwc", 9, 0, 132, 91900, 130100},
        {"fp16", "nchw", 9, 0, 132, 91900, 130100}, {"fp16", "nhwc", 8, 0, 132, 91900, 130100},
        {"fp16", "nhwc", 9, 0, 114, 91900, 130100}, {"fp16", "nhwc", 9, 0, 132, 91901, 130100},
        {"fp16", "nhwc", 9, 0, 132, 91900, 130101}};
    enum { COUNT = sizeof keys / sizeof keys[0] };
    struct plan_cache caches[COUNT + 4];
    struct bench *b = bench_network(8), *again = bench_network(8), *batch = bench_network(4);
    size_t count = COUNT;
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        plan_cache_name(&caches[i], &b->graph, &keys[i]);
    }
    /* other weights are the same plan; another batch, geometry or function are not */
    plan_cache_name(&caches[count], &again->graph, &keys[0]);
    assert_string_equal(caches[count].key, caches[0].key);
    plan_cache_name(&caches[count++], &batch->graph, &keys[0]);
    again->ops[2].conv.pad_before[0] = 0;
    plan_cache_name(&caches[count++], &again->graph, &keys[0]);
    again->ops[2].conv.pad_before[0] = 1;
    again->ops[0].posts[0].unary.beta = 6.0f;
    plan_cache_name(&caches[count++], &again->graph, &keys[0]);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(caches[i].key, caches[j].key);
        }
    }
    bench_free(b);
    bench_free(again);
    bench_free(batch);
}

/* -- narrowing -------------------------------------------------------------------------------- */

/* The nearest half number, ties to the even one, by looking at all of them. */
static uint16_t nearest_half(double value)
{
    uint16_t best = 0;
    double least = INFINITY;
    for (unsigned bits = 0; bits < 0x7c00; bits++) {
        uint16_t half = (uint16_t)bits;
        double distance = fabs(convert_read(&half, DTYPE_F16) - fabs(value));
        if (distance < least || (distance == least && bits % 2 == 0)) {
            least = distance;
            best = half;
        }
    }
    return (uint16_t)(best | (signbit(value) ? 0x8000 : 0));
}

static void halves_are_rounded_to_nearest(void **state)
{
    static const float special[] = {0.0f,     -0.0f,      1.0f,       65504.0f,   65519.0f,
                                    6.1e-5f,  5.96e-8f,   2.98e-8f,   2.9803e-8f, 1e-10f,
                                    1.00049f, 1.0009766f, 1.0014648f, 2049.0f,    2051.0f};
    struct random dice;
    float in[64];
    uint16_t out[64];
    (void)state;
    random_seed(&dice, 3);
    for (int i = 0; i < 64; i++) {
        double unit = (double)(random_next(&dice) >> 11) / 9007199254740992.0 * 2 - 1;
        in[i] = i < 15 ? special[i] : (float)(unit * pow(2, i % 32 - 20));
    }
    for (size_t count = 1; count <= 64; count += 21) { /* with and without whole vectors */
        assert_int_equal(narrow_many(in, out, DTYPE_F16, count), 0);
        for (size_t i = 0; i < count; i++) {
            if (out[i] != nearest_half((double)in[i])) {
                fail_msg("%g became %04x, not %04x", (double)in[i], out[i],
                         nearest_half((double)in[i]));
            }
        }
    }
    for (int i = 0; i < 64; i++) { /* the portable way gives the same bits */
        narrow_many(in, out, DTYPE_F16, 64);
        assert_int_equal(out[i], to_half(in[i]));
    }
}

static void numbers_too_large_are_counted(void **state)
{
    float in[] = {1.0f, 65520.0f, -1e9f, INFINITY, NAN, 3e38f, 3.4e38f, 2.0f, 70000.0f};
    uint16_t out[9];
    (void)state;
    assert_int_equal(narrow_many(in, out, DTYPE_F16, 9), 5);
    assert_int_equal(out[1], 0x7c00);
    assert_int_equal(out[2], 0xfc00);
    assert_int_equal(out[3], 0x7c00);
    assert_true((out[4] & 0x7c00) == 0x7c00 && (out[4] & 0x3ff) != 0);
    assert_int_equal(narrow_many(in, out, DTYPE_BF16, 9), 1); /* 3.4e38 rounds up */
    assert_int_equal(out[0], 0x3f80);
    assert_true((out[4] & 0x7f80) == 0x7f80 && (out[4] & 0x7f) != 0);
    /* ties to even, both ways */
    uint32_t bits[] = {0x3f808000, 0x3f818000, 0x3f808001};
    float ties[3];
    memcpy(ties, bits, sizeof ties);
    assert_int_equal(narrow_many(ties, out, DTYPE_BF16, 3), 0);
    assert_int_equal(out[0], 0x3f80);
    assert_int_equal(out[1], 0x3f82);
    assert_int_equal(out[2], 0x3f81);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_kept_comes_back),
        cmocka_unit_test(a_damaged_file_is_ignored),
        cmocka_unit_test(another_version_is_not_read),
        cmocka_unit_test(several_writers_leave_a_whole_file),
        cmocka_unit_test(the_folder_is_bounded),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_an_error),
        cmocka_unit_test(the_folder_follows_the_environment),
        cmocka_unit_test(a_key_changes_with_everything_that_matters),
        cmocka_unit_test(halves_are_rounded_to_nearest),
        cmocka_unit_test(numbers_too_large_are_counted),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
