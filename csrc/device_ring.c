/* device_ring.c: see device_ring.h. */
#include "device_ring.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct ntx_ring {
    struct io_uring uring;
    unsigned in_flight;
};

static bool can_read_and_write(struct io_uring *uring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
    bool can = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_READ) &&
               io_uring_opcode_supported(probe, IORING_OP_WRITE);

    io_uring_free_probe(probe);
    return can;
}

/* Whether requests may be handed over: a sandbox may permit to make a ring, and then refuse io_uring_enter(). */
static bool can_submit(struct io_uring *uring)
{
    struct io_uring_cqe *cqe;

    io_uring_prep_nop(io_uring_get_sqe(uring)); /* the queue is empty: there is an entry */
    if (io_uring_submit_and_wait(uring, 1) != 1 || io_uring_peek_cqe(uring, &cqe) != 0)
        return false;
    io_uring_cqe_seen(uring, cqe);
    return true;
}

struct ntx_ring *ntx_ring_new(void)
{
    struct ntx_ring *ring = calloc(1, sizeof *ring);

    if (ring == NULL)
        return NULL;
    if (io_uring_queue_init(NTX_MAX_IN_FLIGHT, &ring->uring, 0) < 0) {
        free(ring);
        return NULL;
    }
    if (!can_read_and_write(&ring->uring) || !can_submit(&ring->uring)) {
        ntx_ring_free(ring);
        return NULL;
    }
    return ring;
}

void ntx_ring_free(struct ntx_ring *ring)
{
    if (ring == NULL)
        return;
    io_uring_queue_exit(&ring->uring);
    free(ring);
}

int ntx_ring_fd(const struct ntx_ring *ring)
{
    return ring->uring.ring_fd;
}

/* Hand over all that is queued, in as many calls as it takes: the kernel may take fewer entries than there are. */
static int submit_all(struct io_uring *uring)
{
    while (io_uring_sq_ready(uring) > 0) {
        int taken = io_uring_submit(uring);

        if (taken == 0)
            return -EAGAIN;
        if (taken < 0 && taken != -EINTR)
            return taken;
    }
    return 0;
}

/* Hand over the last entry of the queue. */
static int begin(struct ntx_ring *ring, struct io_uring_sqe *sqe, void *token)
{
    io_uring_sqe_set_data(sqe, token);
    int result = submit_all(&ring->uring);
    ring->in_flight += result == 0;
    if (result == 0)
        return 0;
    /* Being the last, it is still in the queue, and goes with the next one: as nothing, because the caller makes a
     * blocking call by then. */
    io_uring_prep_nop(sqe);
    io_uring_sqe_set_data(sqe, NULL);
    return result;
}

int ntx_ring_read(struct ntx_ring *ring, int fd, void *data, uint64_t length, uint64_t offset, void *token)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL)
        return -EBUSY;
    io_uring_prep_read(sqe, fd, data, (unsigned)length, offset);
    return begin(ring, sqe, token);
}

int ntx_ring_write(struct ntx_ring *ring, int fd, const void *data, uint64_t length, uint64_t offset, void *token)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

    if (sqe == NULL)
        return -EBUSY;
    io_uring_prep_write(sqe, fd, data, (unsigned)length, offset);
    return begin(ring, sqe, token);
}

void *ntx_ring_next(struct ntx_ring *ring, int64_t *result)
{
    struct io_uring_cqe *cqe;
    void *token = NULL;

    while (token == NULL && io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
        token = io_uring_cqe_get_data(cqe);
        *result = cqe->res;
        io_uring_cqe_seen(&ring->uring, cqe);
        ring->in_flight -= token != NULL;
    }
    return token;
}

void ntx_ring_drain(struct ntx_ring *ring)
{
    struct io_uring_cqe *cqe;
    int64_t result;

    while (ring->in_flight > 0) {
        if (ntx_ring_next(ring, &result) == NULL && io_uring_wait_cqe(&ring->uring, &cqe) < 0 && errno != EINTR)
            return;
    }
}
