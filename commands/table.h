/* Every command there is, in the order of `help`. A new command is a file cmd_NAME.c that defines
 * `const struct command command_NAME`, and one word here. */
#ifndef LAYERTOP_COMMANDS_TABLE_H
#define LAYERTOP_COMMANDS_TABLE_H

#include "commands/command.h"

#define COMMANDS(X)                                                                                \
    X(help)                                                                                        \
    X(load)                                                                                        \
    X(unload)                                                                                      \
    X(model)                                                                                       \
    X(run)                                                                                         \
    X(sweep)                                                                                       \
    X(fit)                                                                                         \
    X(ab)                                                                                          \
    X(compare)                                                                                     \
    X(cold)                                                                                        \
    X(bench)                                                                                       \
    X(roof)                                                                                        \
    X(advise)                                                                                      \
    X(apply)                                                                                       \
    X(whatif)                                                                                      \
    X(gap)                                                                                         \
    X(serve)                                                                                       \
    X(start)                                                                                       \
    X(stop)                                                                                        \
    X(layers)                                                                                      \
    X(kernels)                                                                                     \
    X(predict)                                                                                     \
    X(calibrate)                                                                                   \
    X(evaluate)                                                                                    \
    X(prune)                                                                                       \
    X(devices)                                                                                     \
    X(proof)                                                                                       \
    X(doctor)                                                                                      \
    X(batch)                                                                                       \
    X(set)                                                                                         \
    X(show)                                                                                        \
    X(unset)                                                                                       \
    X(mem)                                                                                         \
    X(plan)                                                                                        \
    X(oom)                                                                                         \
    X(record)                                                                                      \
    X(export)                                                                                      \
    X(replay)                                                                                      \
    X(save_display)                                                                                \
    X(source)                                                                                      \
    X(watch)                                                                                       \
    X(config)                                                                                      \
    X(history)                                                                                     \
    X(lesson)                                                                                      \
    X(myths)                                                                                       \
    X(assert)                                                                                      \
    X(echo)                                                                                        \
    X(sleep)                                                                                       \
    X(clear)                                                                                       \
    X(version)                                                                                     \
    X(quit)

#define COMMAND_DECLARE(name) extern const struct command command_##name;
COMMANDS(COMMAND_DECLARE)
#undef COMMAND_DECLARE

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
