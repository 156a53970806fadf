/*
 * file_bytes.h: a regular file that is read and that somebody may cut off meanwhile: what is said when that fails.
 *
 * Descriptors are borrowed.  Any thread.
 */
#ifndef NTX_FILE_BYTES_H
#define NTX_FILE_BYTES_H

#include "ntx.h"

#define NTX_FILE_CAUSE 512 /* bytes of the longest cause, and more */

/* Read what of it the page cache has, up to the first byte that it has not, without waiting for a disk.
 * Errors: bytes that were read; -EAGAIN: none is there; another: this cannot be asked here. */
int64_t ntx_file_read_cached(int fd, void *data, uint64_t length, uint64_t at);

/* Have these bytes read into the page cache meanwhile. */
void ntx_file_read_ahead(int fd, uint64_t at, uint64_t length);

/* Say that the file failed at place, by a code of ntx_read_at() or, if what is not NULL, because of that; returns the
 * code for a request that fails so. */
int ntx_file_cause(int fd, uint64_t place, int code, const char *what, char cause[NTX_FILE_CAUSE]);

/* Open the same file once more for reading, whatever its name is by now, so that the kernel reads ahead for that one by
 * itself; -1: that cannot be done. */
int ntx_file_again(int fd);

/* The same, past the page cache; -1: the file system cannot. */
int ntx_file_again_direct(int fd);

#endif
