/* Two recordings against each other: `compare A.ltr B.ltr`. */
#ifndef LAYERTOP_COMMANDS_COMPARE_RECORDINGS_H
#define LAYERTOP_COMMANDS_COMPARE_RECORDINGS_H

#include "commands/command.h"

/* Is this the name of a recording (FILE.ltr, or the .part of one that was cut)? */
bool compare_is_recording(const char *name);

/* Play both as fast as it goes, tell, and come back to the session before: the whole of the command.
 * `top` layers are shown. */
void compare_recordings(struct execution *execution, const char *a, const char *b, size_t top);

#endif
