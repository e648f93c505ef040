/* Who holds memory on this machine, by /proc: names and users of processes, and the largest ones.
 *
 * Only what this user may see, in this PID namespace: the rest has no name. Any thread.
 */
#ifndef LAYERTOP_ENGINE_PROCESSES_H
#define LAYERTOP_ENGINE_PROCESSES_H

#include "engine/backend.h"

/* The process's name and its user's, "" for one that cannot be seen. */
void process_describe(int pid, char *name, size_t name_size, char *user, size_t user_size);

/* The processes with the most anonymous resident memory, largest first; returns how many. */
size_t processes_largest(struct device_process *out, size_t capacity);

#endif
