/* What is said to HDF5 before it is used. */
#ifndef LAYERTOP_ENGINE_HDF5_H
#define LAYERTOP_ENGINE_HDF5_H

/* Before any other call of HDF5, as often as one likes: its errors are ours to tell, and it does
 * nothing when the process ends. There it would try once more to write what a full disk did not
 * take, and crash; every file is closed by us. Any thread, one at a time. */
void hdf5_prepare(void);

#endif
