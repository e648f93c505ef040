/* The screen of a terminal as a picture, for people who have not started the program yet. */
#ifndef LAYERTOP_TESTS_VT_PICTURE_H
#define LAYERTOP_TESTS_VT_PICTURE_H

#include "support/vt.h"

#include <stdio.h>

/* Write what the terminal shows as SVG. Words keep their columns in any font; dots, blocks and lines
 * are drawn. */
void vt_picture(struct vt *vt, FILE *out);

#endif
