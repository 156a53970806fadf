/*
 * qcow2_header.h: what an image in QCOW2 format says of itself and of its clusters, checked: a stranger or a failing
 * disk may have written it.
 *
 * Read here is what qcow2_format.h describes, whoever wrote it.  Another version, clusters of another size, encryption,
 * a data file, extended L2 entries or whatever else is no damage, but for others to read.  What reference counts say,
 * and internal snapshots, is not needed to read the disk, and not looked at.
 *
 * The functions are pure: any thread.
 */
#ifndef NTX_QCOW2_HEADER_H
#define NTX_QCOW2_HEADER_H

#include "qcow2_format.h"

#define NTX_QCOW2_HEADER_BYTES 105u /* that are looked at: up to the compression type */

/* What is wrong with an image.  Without what, reading the file failed. */
struct ntx_qcow2_fault {
    size_t image;   /* its number in a chain */
    uint64_t place; /* in its file */
    int code;       /* -EUCLEAN: it is damaged; -ENOTSUP: it is for others to read; else of ntx_read_at() */
    const char *what;
};

/*
 * Read what begins a file of file_size bytes; length bytes of it are there, all if it is that short.
 * Errors: 0 with *header set, but for .backing_name; or the code of *fault, whose .image is not set.
 */
int ntx_qcow2_get_header(const uint8_t *first, size_t length, uint64_t file_size, struct ntx_qcow2_header *header,
                         struct ntx_qcow2_fault *fault);

/* What is wrong with an L1 entry that is not 0, or NULL: its L2 table is a whole cluster of the file. */
const char *ntx_qcow2_l1_fault(uint64_t entry, uint64_t file_size);

enum ntx_qcow2_kind {
    NTX_QCOW2_IS_ZERO,
    NTX_QCOW2_IS_DATA,   /* at .offset */
    NTX_QCOW2_IS_PACKED, /* compressed, in no more than .length bytes at .offset */
};

struct ntx_qcow2_place {
    enum ntx_qcow2_kind kind;
    uint32_t length;
    uint64_t offset;
};

/* Tell what an L2 entry that is not 0 says.  What it points to begins in the file, and data is behind the header; the
 * last cluster may be cut off, as qemu leaves it.  Returns what is wrong with it, or NULL. */
const char *ntx_qcow2_get_place(uint64_t entry, uint64_t file_size, struct ntx_qcow2_place *place);

#endif
