/* worker_zero_run.c: see worker_zero_run.h. */
#include "worker_zero_run.h"

#include "bytes.h"

#include <errno.h>
#include <sys/mman.h>

int ntx_zero_run_init(struct ntx_zero_run *run, uint32_t size)
{
    void *zeros = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    *run = (struct ntx_zero_run){.max_length = NTX_GIB, .size = size, .zeros = zeros == MAP_FAILED ? NULL : zeros};
    return run->zeros != NULL ? 0 : -ENOMEM;
}

void ntx_zero_run_destroy(struct ntx_zero_run *run)
{
    if (run->zeros != NULL)
        munmap(run->zeros, run->size);
}

bool ntx_zero_run_extend(struct ntx_zero_run *run, const struct ntx_work_range *range, uint64_t start, uint64_t end,
                         uint64_t counts)
{
    if (run->range != range || run->end != start)
        return false;
    run->end = end;
    run->counts += counts;
    return true;
}

void ntx_zero_run_begin(struct ntx_zero_run *run, struct ntx_work_range *range, uint64_t start, uint64_t end,
                        uint64_t counts)
{
    ntx_range_ref(range);
    run->range = range;
    run->start = start;
    run->end = end;
    run->counts = counts;
}

void ntx_zero_run_fill(const struct ntx_zero_run *run, struct ntx_io *io, uint64_t remaining, uint32_t max_payload)
{
    if (run->writes_zeros) {
        io->op = NTX_OP_WRITE;
        io->data = run->zeros;
        io->length = ntx_min64(remaining, ntx_min64(run->size, max_payload));
    } else {
        io->op = NTX_OP_ZERO;
        io->data = NULL;
        io->length = ntx_min64(remaining, run->max_length);
    }
}

bool ntx_zero_run_adapt(struct ntx_zero_run *run, const struct ntx_io *io)
{
    if (io->op != NTX_OP_ZERO)
        return false;
    if (io->result == -ENOTSUP || io->result == -EOPNOTSUPP) {
        run->writes_zeros = true;
        return true;
    }
    if ((io->result == -EOVERFLOW || io->result == -EINVAL) && io->length > NTX_BLOCK_SIZE) {
        run->max_length = ntx_round_up(io->length / 2, NTX_BLOCK_SIZE);
        return true;
    }
    return false;
}
