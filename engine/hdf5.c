#include "engine/hdf5.h"

#include <hdf5.h>

void hdf5_prepare(void)
{
    H5dont_atexit(); /* refused once the library is awake, and then it has been heard already */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}
