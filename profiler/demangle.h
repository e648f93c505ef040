/* Names of kernels as their source wrote them. CUDA's kernels have C++'s mangled names; whoever
 * mangles them brings the function that undoes it: libstdc++, opened at run time. */
#ifndef LAYERTOP_PROFILER_DEMANGLE_H
#define LAYERTOP_PROFILER_DEMANGLE_H

/* "_Z6kernelPfi" -> "kernel(float*, int)"; a copy of the name where it is not mangled or libstdc++
 * is not there. The caller frees. One thread at a time. */
char *demangle(const char *name);

#endif
