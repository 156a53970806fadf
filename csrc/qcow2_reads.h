/*
 * qcow2_reads.h: reads of a chain's files past the page cache, several in flight.
 *
 *   request   |-----data-----|--zero--|----data----|     of the disk
 *                 |                        |
 *   parts     one file                 another, or the same     --> ring --> ends in any order
 *
 * A request ends with the last of its parts.  Belongs to one thread.
 */
#ifndef NTX_QCOW2_READS_H
#define NTX_QCOW2_READS_H

#include "qcow2_window.h"

struct ntx_io;
struct ntx_qcow2_reads;

/* A request of which some parts are in flight.  The first failure is kept. */
struct ntx_qcow2_request {
    struct ntx_io *io;
    unsigned parts; /* that have not ended, and one for whoever begins them */
    bool has_failed;
    struct ntx_qcow2_fault fault;
    struct ntx_qcow2_request *next; /* free */
};

/* Bytes of a file that belong to a request. */
struct ntx_qcow2_part {
    struct ntx_qcow2_request *request;
    uint32_t image;
    uint8_t *data;
    uint64_t length, place;
    struct ntx_qcow2_part *next; /* free */
};

/* Bytes of memory that it takes. */
size_t ntx_qcow2_reads_bytes(void);

/* NULL: no memory, or the system permits no ring. */
struct ntx_qcow2_reads *ntx_qcow2_reads_new(void);

/* What is in flight is given up, as in device_ring.h.  NULL is allowed. */
void ntx_qcow2_reads_free(struct ntx_qcow2_reads *reads);

/* Polls readable while ntx_qcow2_reads_next() has something. */
int ntx_qcow2_reads_fd(const struct ntx_qcow2_reads *reads);

/* Begin a request, which has one part then: it is ended when all others were begun.  There are NTX_MAX_IN_FLIGHT. */
struct ntx_qcow2_request *ntx_qcow2_reads_begin(struct ntx_qcow2_reads *reads, struct ntx_io *io);

/*
 * Begin a part (which is copied) on fd, a descriptor for direct I/O.
 * Errors: 0; -EINVAL (not aligned), -EBUSY (as many as there may be are in flight), or -errno: it was not begun.
 */
int ntx_qcow2_reads_part(struct ntx_qcow2_reads *reads, const struct ntx_qcow2_part *part, int fd);

/* Take a part that has ended: of length 0 if all was read, else to be read from its beginning.  False: none has. */
bool ntx_qcow2_reads_next(struct ntx_qcow2_reads *reads, struct ntx_qcow2_part *rest);

/* One part less; the io if that was the last one, and then *fault is set where has_failed.  NULL: there are more. */
struct ntx_io *ntx_qcow2_reads_end_part(struct ntx_qcow2_reads *reads, struct ntx_qcow2_request *request,
                                        bool *has_failed, struct ntx_qcow2_fault *fault);

#endif
