#include "support/no_cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_cuda_parts(void **state)
{
    (void)state;
    skip();
}

int no_cuda_main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuda_parts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
