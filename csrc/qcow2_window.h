/*
 * qcow2_window.h: where the bytes of a disk are in the files of a chain, looked up once for each window of 512 MiB.
 *
 *   L2 tables   image 0  | a . z . |         . not there: look below      z zero: whatever is below
 *               image 1  | b c d . |
 *   window               | a c z . |         with the image of each; what is in none is zero
 *
 * A window is made when something in it is asked for, by reading the L2 table of each image that has one; where none
 * has, there is nothing to read.  Kept are a few, the latest for each place: 384 KiB, however large the disk and long
 * the chain is.  For one thread.
 */
#ifndef NTX_QCOW2_WINDOW_H
#define NTX_QCOW2_WINDOW_H

#include "qcow2_chain.h"

struct ntx_qcow2_windows;

/* Bytes of the disk that are in one place. */
struct ntx_qcow2_run {
    enum ntx_qcow2_kind kind;
    bool is_absent;         /* zero because no image says anything of it */
    uint32_t image;         /* but for zeros */
    uint32_t packed_length; /* bytes of a compressed cluster, or a few more */
    uint64_t length;        /* bytes of the disk, at least 1.  IS_PACKED: within one cluster */
    uint64_t place;         /* IS_DATA: of the first byte.  IS_PACKED: of the whole cluster */
};

/* Bytes of memory that all that is kept of a chain takes. */
size_t ntx_qcow2_windows_bytes(void);

/* NULL: no memory.  The chain is borrowed. */
struct ntx_qcow2_windows *ntx_qcow2_windows_new(const struct ntx_qcow2_chain *chain);

/* NULL is allowed. */
void ntx_qcow2_windows_free(struct ntx_qcow2_windows *windows);

/*
 * Find the longest run that begins at offset and does not go on behind limit, which is behind it and not behind the
 * end of the disk.  It ends at the end of a window where it is not zero.
 * Errors: 0, or the code of *fault: an image's table that cannot be read is an error of what it hides, not of what is
 *         shown above it.
 */
int ntx_qcow2_find(struct ntx_qcow2_windows *windows, uint64_t offset, uint64_t limit, struct ntx_qcow2_run *run,
                   struct ntx_qcow2_fault *fault);

/* Where compressed clusters end that follow in their file on that of run, which is at offset, and are asked for next,
 * up to limit; at most this many bytes behind its place. */
uint64_t ntx_qcow2_packed_end(struct ntx_qcow2_windows *windows, const struct ntx_qcow2_run *run, uint64_t offset,
                              uint64_t limit, uint64_t most);

/* How many windows were made so far: what a caller has to wait for. */
uint64_t ntx_qcow2_windows_made(const struct ntx_qcow2_windows *windows);

#endif
