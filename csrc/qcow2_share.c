/* qcow2_share.c: see qcow2_share.h. */
#include "qcow2_share.h"

#include "bytes.h"

#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct ntx_qcow2_sharer {
    const struct ntx_qcow2_chain *chain;
    struct ntx_qcow2_windows *windows;
    bool has_failed;
};

struct ntx_qcow2_sharer *ntx_qcow2_sharer_new(const struct ntx_qcow2_chain *chain)
{
    struct ntx_qcow2_sharer *sharer = calloc(1, sizeof *sharer);

    if (sharer == NULL)
        return NULL;
    sharer->chain = chain;
    sharer->windows = ntx_qcow2_windows_new(chain);
    if (sharer->windows != NULL)
        return sharer;
    free(sharer);
    return NULL;
}

void ntx_qcow2_sharer_free(struct ntx_qcow2_sharer *sharer)
{
    if (sharer != NULL)
        ntx_qcow2_windows_free(sharer->windows);
    free(sharer);
}

bool ntx_qcow2_can_share(const struct ntx_qcow2_sharer *sharer)
{
    return !sharer->has_failed;
}

/* Whatever the reason is: the bytes are written then, which tells of it if it is one. */
static bool give_up(struct ntx_qcow2_sharer *sharer)
{
    sharer->has_failed = true;
    return false;
}

bool ntx_qcow2_share(struct ntx_qcow2_sharer *sharer, int fd, uint64_t offset, uint64_t host, uint64_t *length)
{
    struct ntx_qcow2_fault fault;
    struct ntx_qcow2_run run;

    if (sharer->has_failed || offset + *length > sharer->chain->size ||
        ntx_qcow2_find(sharer->windows, offset, offset + *length, &run, &fault) != 0)
        return give_up(sharer);
    uint64_t whole = ntx_round_down(run.length, NTX_QCOW2_CLUSTER);
    if (run.kind != NTX_QCOW2_IS_DATA || run.place % NTX_QCOW2_CLUSTER != 0 || whole == 0) {
        *length = ntx_round_up(run.length, NTX_QCOW2_CLUSTER);
        return false;
    }
    struct file_clone_range range = {.src_fd = sharer->chain->images[run.image].fd,
                                     .src_offset = run.place,
                                     .src_length = whole,
                                     .dest_offset = host};
    if (ioctl(fd, FICLONERANGE, &range) != 0)
        return give_up(sharer);
    *length = whole;
    return true;
}
