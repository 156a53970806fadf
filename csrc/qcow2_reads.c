/* qcow2_reads.c: see qcow2_reads.h. */
#include "qcow2_reads.h"

#include "device_ring.h"

#include <errno.h>
#include <stdlib.h>

#define UNIT 4096u /* at most: an address and a length that O_DIRECT takes everywhere */

struct ntx_qcow2_reads {
    struct ntx_ring *ring;
    struct ntx_qcow2_request requests[NTX_MAX_IN_FLIGHT], *free_request;
    struct ntx_qcow2_part parts[NTX_MAX_IN_FLIGHT], *free_part;
};

size_t ntx_qcow2_reads_bytes(void)
{
    return sizeof(struct ntx_qcow2_reads) + NTX_RING_BYTES;
}

struct ntx_qcow2_reads *ntx_qcow2_reads_new(void)
{
    struct ntx_qcow2_reads *reads = calloc(1, sizeof *reads);

    if (reads == NULL || (reads->ring = ntx_ring_new()) == NULL) {
        free(reads);
        return NULL;
    }
    for (unsigned i = 0; i < NTX_MAX_IN_FLIGHT; i++) {
        reads->requests[i].next = reads->free_request;
        reads->free_request = &reads->requests[i];
        reads->parts[i].next = reads->free_part;
        reads->free_part = &reads->parts[i];
    }
    return reads;
}

void ntx_qcow2_reads_free(struct ntx_qcow2_reads *reads)
{
    if (reads == NULL)
        return;
    ntx_ring_free(reads->ring);
    free(reads);
}

int ntx_qcow2_reads_fd(const struct ntx_qcow2_reads *reads)
{
    return ntx_ring_fd(reads->ring);
}

struct ntx_qcow2_request *ntx_qcow2_reads_begin(struct ntx_qcow2_reads *reads, struct ntx_io *io)
{
    struct ntx_qcow2_request *request = reads->free_request;

    reads->free_request = request->next;
    *request = (struct ntx_qcow2_request){.io = io, .parts = 1};
    return request;
}

int ntx_qcow2_reads_part(struct ntx_qcow2_reads *reads, const struct ntx_qcow2_part *part, int fd)
{
    struct ntx_qcow2_part *kept = reads->free_part;

    if ((((uintptr_t)part->data | part->length | part->place) & (UNIT - 1)) != 0)
        return -EINVAL;
    if (kept == NULL)
        return -EBUSY;
    struct ntx_qcow2_part *next = kept->next;
    *kept = *part;
    int code = ntx_ring_read(reads->ring, fd, part->data, part->length, part->place, kept);
    if (code == 0) {
        reads->free_part = next;
        part->request->parts++;
    } else {
        kept->next = next;
    }
    return code;
}

bool ntx_qcow2_reads_next(struct ntx_qcow2_reads *reads, struct ntx_qcow2_part *rest)
{
    int64_t result;
    struct ntx_qcow2_part *part = ntx_ring_next(reads->ring, &result);

    if (part == NULL)
        return false;
    *rest = *part;
    if (result == (int64_t)part->length)
        rest->length = 0;
    part->next = reads->free_part;
    reads->free_part = part;
    return true;
}

struct ntx_io *ntx_qcow2_reads_end_part(struct ntx_qcow2_reads *reads, struct ntx_qcow2_request *request,
                                        bool *has_failed, struct ntx_qcow2_fault *fault)
{
    if (--request->parts > 0)
        return NULL;
    *has_failed = request->has_failed;
    *fault = request->fault;
    request->next = reads->free_request;
    reads->free_request = request;
    return request->io;
}
