/* Expressions over the JSON result of a command: what `assert` decides. Pure functions.
 *
 *   expression = and { "or" and }          and = term { "and" term }
 *   term       = "not" term | "(" expression ")" | value [ ("<"|"<="|">"|">="|"=="|"!=") value ]
 *   value      = sum of products: + - * / and brackets
 *   atom       = number [unit] | 'text' | "text" | true | false | null | path | "-" atom | function
 *   function   = ("floor"|"ceil") "(" value ")"
 *              | ("count"|"sum"|"min"|"max"|"top") "(" path "," expression ")"
 *   path       = name { "." name | "[" number "]" | "[" name "]" }
 *
 * A name in brackets picks the element of a list whose "name" or "id" it is: layers[conv1].time_ms.
 * Units turn into what the keys hold: 25ms, 1.5s, 300us are milliseconds, 512MiB, 4GB bytes, 5%
 * 0.05. The functions of a list reckon with the names of each of its elements and leave out those for
 * which the expression is not known: count(layers, share > 5%), sum(layers, time_ms),
 * top(layers, time_ms), the name of the element where it is largest. Comparing with what is not known (null) is an error, not false: a typing mistake in a path
 * must not let a script pass. */
#ifndef LAYERTOP_COMMANDS_EXPRESSION_H
#define LAYERTOP_COMMANDS_EXPRESSION_H

#include "engine/error.h"
#include <jansson.h>

/* Is it true of `data`? ERROR_SYNTAX or ERROR_VALUE with a hint otherwise, and false. `seen` is
 * filled with the first comparison's values, "wall_ms.median is 41.2": for the message of an assertion
 * that does not hold; seen[size]. */
bool expression_holds(const char *text, const json_t *data, bool *holds, char *seen, size_t size,
                      struct error *error);

/* Its value: a JSON number, text or truth, a new reference. NULL with ERROR_SYNTAX, or ERROR_VALUE
 * where it is not known. */
json_t *expression_value(const char *text, const json_t *data, struct error *error);

#endif
