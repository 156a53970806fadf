/* file_io.h: system calls on a file, repeated until all is done.  Offsets and lengths are bytes; all of them block. */
#ifndef NTX_FILE_IO_H
#define NTX_FILE_IO_H

#include "stop.h"

#include <stdint.h>

/* Read, or write, all of it at *offset, which is left behind what was done.
 * Errors: 0, or -errno; -ENODATA: the file ended at *offset. */
int ntx_read_at(int fd, void *data, uint64_t length, uint64_t *offset);
int ntx_write_at(int fd, const void *data, uint64_t length, uint64_t *offset);

/*
 * Make safe what was written to a file of size bytes, through whichever descriptor.
 * Units:   stop is looked at between short calls; NULL: it cannot be given up.
 * Errors:  0, -ECANCELED (stop), or -errno.
 */
int ntx_sync_file(int fd, uint64_t size, const struct ntx_stop *stop);

/* Whether a call that allocates, zeroes or writes back failed because there is no such call here: the system, the file
 * system or a sandbox (-EPERM and -EACCES) has none.  A file that may not be changed at all fails later, too. */
bool ntx_is_unsupported(int code);

#endif
