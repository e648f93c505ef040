/* generate reference|manual: one page on standard output. */
#include "docs/generator/page.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "reference") == 0)
        write_reference(stdout);
    else if (argc == 2 && strcmp(argv[1], "manual") == 0)
        write_manual(stdout);
    else
        return 2;
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
