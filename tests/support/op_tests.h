/* The tests of a backend's ops, a file for each kind: random graphs of one op against plain loops
 * (bench.h). Each runs on `op_tests_device`, which somebody opens before; in a half type with fewer
 * cases. */
#ifndef LAYERTOP_TESTS_SUPPORT_OP_TESTS_H
#define LAYERTOP_TESTS_SUPPORT_OP_TESTS_H

#include "support/bench.h"

extern struct device *op_tests_device; /* constants differ, so it forgets them between cases */
extern enum precision op_tests_precision;
extern double op_tests_tolerance;

bool op_tests_in_half(void);
/* So many cases; a third of them in a half type, since the geometry is the same. */
int op_tests_cases(int count);
/* Run it, compare it, and free it; after a failure only the last. */
void op_tests_check(struct bench *b, const char *name);
/* Functions behind an op, some of them with a second operand: the value `extra`, -1: none. */
void op_tests_posts(struct op *op, int extra);

/* op_tests_int8.c: the same in bytes, for op_tests_check(), on graphs of one op with weights, which reads
 * the first input; and a product of its own. */
void op_tests_check_int8(struct bench *b, const char *name);
void op_test_parts(void);

/* op_tests_conv.c */
void op_test_conv(void);
void op_test_conv_depthwise(void);
void op_test_conv_grouped(void);
void op_test_conv_transposed(void);
void op_test_conv_1d_3d(void);
void op_test_conv_real(void);

/* op_tests_element.c */
void op_test_unary(void);
void op_test_binary(void);
void op_test_affine(void);
void op_test_softmax(void);
void op_test_normalise(void);
void op_test_reduce(void);
void op_test_select(void);

/* op_tests_move.c */
void op_test_moves(void);
void op_test_constant(void);
void op_test_concat(void);
void op_test_resize(void);
void op_test_gather(void);
void op_test_gather_outside(void);
void op_test_cumulate(void);
void op_test_top(void);
void op_test_reshape_alias(void);

/* op_tests_pictures.c */
void op_test_pictures(void);

#endif
