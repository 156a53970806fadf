/*
 * device_chain.c: the disk in a chain of images in QCOW2 format, read without a qemu.
 *
 *   disk      |--data--|---zero---|-packed-|------data------|     qcow2_window: what is where
 *                 |                   |          |
 *   images    image 0              image 2     image 0            one read for what is side by side
 *                                     `--> qcow2_unpack
 *
 * What is in the page cache is only copied.  Once something is not, reads go past it, several at a time
 * (qcow2_reads.h); whether it has what follows is asked again from time to time.  Where the file system or the system
 * cannot do that, the rest of the request is asked for at once, and what comes next, if it is read in order: a disk
 * then has several reads at a time, too, as scattered as they may be.
 *
 * LIMIT: a blocking call into a file system that hangs cannot be interrupted or timed out, as in device_file.c.
 */
#include "bytes.h"
#include "device.h"
#include "error.h"
#include "file_bytes.h"
#include "file_io.h"
#include "ntx_image.h"
#include "qcow2_reads.h"
#include "qcow2_unpack.h"
#include "qcow2_window.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_OWN_FILES 8u     /* a long chain times many threads would use up the descriptors of the process */
#define AHEAD (4u * NTX_MIB) /* bytes of the disk that are asked for behind a request */
#define COLD (32u * NTX_MIB) /* of the disk that are read past the cache before it is asked again */
#define MAP_WINDOWS 64u      /* are made for one answer: some tens of milliseconds, of a long chain */

struct chain_device {
    struct ntx_device device;
    struct ntx_qcow2_chain *chain;
    struct ntx_qcow2_windows *windows;
    struct ntx_qcow2_unpacker *unpacker; /* NULL: nothing was compressed yet */
    struct ntx_io *io;                   /* that is begun */
    struct ntx_qcow2_request *request;   /* of it; NULL: none of its parts is in flight */
    bool asks_ahead;                     /* the system says what is in its cache */
    uint64_t read_to;                    /* the end of the last request */
    uint64_t asked_to;                   /* up to there it was asked for; 0: this was not needed */
    int own[MAX_OWN_FILES];              /* another descriptor for each of the first images; -1: the chain's */
    bool is_direct[MAX_OWN_FILES];       /* it is one for direct I/O */
    struct ntx_qcow2_reads *reads;       /* NULL: nothing was read past the cache yet, or that cannot be done */
    bool has_no_reads;                   /* it cannot */
    uint64_t cold_from, cold_to;         /* of the disk: there the cache is not asked */
};

static int fd_of(const struct chain_device *chain, uint32_t image)
{
    bool has_own = image < MAX_OWN_FILES && chain->own[image] >= 0 && !chain->is_direct[image];

    return has_own ? chain->own[image] : chain->chain->images[image].fd;
}

static void fail(struct chain_device *chain, struct ntx_io *io, const struct ntx_qcow2_fault *fault)
{
    char cause[NTX_FILE_CAUSE];
    int code = ntx_file_cause(chain->chain->images[fault->image].fd, fault->place, fault->code, fault->what, cause);

    ntx_device_complete_failed(&chain->device, io, code == -ENOMEM ? NTX_E_SYSTEM : NTX_E_DEVICE, code, cause);
}

/* ------------------------------------------------------------------------------------------------ reading */

static int read_packed(struct chain_device *chain, const struct ntx_qcow2_run *run, uint64_t offset, uint64_t limit,
                       void *data, struct ntx_qcow2_fault *fault)
{
    struct ntx_qcow2_packed packed = {
        .fd = fd_of(chain, run->image), .image = run->image, .length = run->packed_length, .place = run->place};

    *fault = (struct ntx_qcow2_fault){.image = run->image, .code = -ENOMEM};
    if (chain->unpacker == NULL)
        chain->unpacker = ntx_qcow2_unpacker_new();
    if (chain->unpacker == NULL)
        return fault->code;
    packed.end = ntx_qcow2_packed_end(chain->windows, run, offset, limit, NTX_QCOW2_PACKED_READ);
    fault->code = ntx_qcow2_unpack(chain->unpacker, &packed, (uint32_t)(offset % NTX_QCOW2_CLUSTER), data,
                                   (uint32_t)run->length, &fault->place, &fault->what);
    return fault->code;
}

/* Have the disk's bytes up to limit read, of which some were asked for. */
static void ask_ahead(struct chain_device *chain, uint64_t offset, uint64_t limit)
{
    struct ntx_qcow2_fault fault; /* is told when it is read */
    struct ntx_qcow2_run run;

    for (uint64_t at = ntx_max64(offset, chain->asked_to); at < limit; at += run.length) {
        if (ntx_qcow2_find(chain->windows, at, limit, &run, &fault) != 0)
            break;
        if (run.kind != NTX_QCOW2_IS_ZERO)
            ntx_file_read_ahead(fd_of(chain, run.image), run.place,
                                run.kind == NTX_QCOW2_IS_DATA ? run.length : run.packed_length);
    }
    chain->asked_to = ntx_max64(chain->asked_to, limit);
}

/* Where requests follow on each other, keep ahead of them, once it was needed. */
static void follow(struct chain_device *chain, const struct ntx_io *io)
{
    uint64_t end = io->offset + io->length;

    if (io->offset != chain->read_to)
        chain->asked_to = 0;
    else if (chain->asked_to != 0 && chain->asked_to < end + AHEAD / 2)
        ask_ahead(chain, io->offset, ntx_min64(end + AHEAD, chain->device.info.size));
    chain->read_to = end;
}

/* A descriptor of the image for direct I/O, in place of its own; or -1. */
static int direct_fd(struct chain_device *chain, uint32_t image)
{
    if (image >= MAX_OWN_FILES || chain->has_no_reads)
        return -1;
    if (chain->is_direct[image])
        return chain->own[image];
    int fd = ntx_file_again_direct(chain->chain->images[image].fd);
    if (fd >= 0 && chain->reads == NULL)
        chain->reads = ntx_qcow2_reads_new();
    if (fd < 0 || chain->reads == NULL) { /* for good: what one file system cannot, is not tried of the others */
        chain->has_no_reads = true;
        if (fd >= 0)
            close(fd);
        return -1;
    }
    chain->device.fd = ntx_qcow2_reads_fd(chain->reads);
    chain->device.events = POLLIN;
    if (chain->own[image] >= 0)
        close(chain->own[image]);
    chain->own[image] = fd;
    chain->is_direct[image] = true;
    return fd;
}

/* Begin to read past the cache what is not in it. */
static bool begin_direct(struct chain_device *chain, const struct ntx_qcow2_run *run, uint64_t offset, uint8_t *data)
{
    int fd = direct_fd(chain, run->image);
    struct ntx_qcow2_part part = {.image = run->image, .data = data, .length = run->length, .place = run->place};

    if (fd < 0)
        return false;
    if (offset < chain->cold_from || offset >= chain->cold_to) {
        chain->cold_from = offset;
        chain->cold_to = offset + COLD;
    }
    if (chain->request == NULL)
        chain->request = ntx_qcow2_reads_begin(chain->reads, chain->io);
    part.request = chain->request;
    return ntx_qcow2_reads_part(chain->reads, &part, fd) == 0;
}

/* Read data of the request that goes on up to limit. */
static int read_data(struct chain_device *chain, const struct ntx_qcow2_run *run, uint64_t offset, uint64_t limit,
                     uint8_t *data, struct ntx_qcow2_fault *fault)
{
    int fd = fd_of(chain, run->image);
    int64_t cached = 0;

    if (offset >= chain->cold_from && offset < chain->cold_to && begin_direct(chain, run, offset, data))
        return 0;
    if (chain->asks_ahead) {
        cached = ntx_file_read_cached(fd, data, run->length, run->place);
        if (cached == (int64_t)run->length)
            return 0;
        chain->asks_ahead = cached >= 0 || cached == -EAGAIN || cached == -EINTR;
        cached = cached > 0 ? cached : 0;
        if (chain->asks_ahead && begin_direct(chain, run, offset, data))
            return 0;
    }
    if (chain->asks_ahead)
        ask_ahead(chain, offset + (uint64_t)cached, limit);
    *fault = (struct ntx_qcow2_fault){.image = run->image, .place = run->place + (uint64_t)cached};
    fault->code = ntx_read_at(fd, data + cached, run->length - (uint64_t)cached, &fault->place);
    return fault->code;
}

static int read_run(struct chain_device *chain, const struct ntx_qcow2_run *run, uint64_t offset, uint64_t limit,
                    void *data, struct ntx_qcow2_fault *fault)
{
    switch (run->kind) {
    case NTX_QCOW2_IS_ZERO:
        memset(data, 0, run->length);
        return 0;
    case NTX_QCOW2_IS_PACKED:
        return read_packed(chain, run, offset, limit, data, fault);
    case NTX_QCOW2_IS_DATA:
        break;
    }
    return read_data(chain, run, offset, limit, data, fault);
}

static void end_read(struct chain_device *chain, struct ntx_io *io, bool has_failed,
                     const struct ntx_qcow2_fault *fault)
{
    if (has_failed)
        fail(chain, io, fault);
    else
        ntx_device_complete(&chain->device, io, 0);
}

/* A part of a request ended, with a code; the first that failed is told. */
static void end_part(struct chain_device *chain, struct ntx_qcow2_request *request, int code,
                     const struct ntx_qcow2_fault *why)
{
    struct ntx_qcow2_fault fault;
    bool has_failed;

    if (code != 0 && !request->has_failed) {
        request->has_failed = true;
        request->fault = *why;
    }
    struct ntx_io *io = ntx_qcow2_reads_end_part(chain->reads, request, &has_failed, &fault);
    if (io != NULL)
        end_read(chain, io, has_failed, &fault);
}

static void do_read(struct chain_device *chain, struct ntx_io *io)
{
    uint64_t offset = io->offset, end = io->offset + io->length;
    uint8_t *data = io->data;
    struct ntx_qcow2_fault fault;
    struct ntx_qcow2_run run;
    int code = 0;

    follow(chain, io);
    chain->io = io;
    chain->request = NULL;
    while (code == 0 && offset < end) {
        code = ntx_qcow2_find(chain->windows, offset, end, &run, &fault);
        if (code == 0)
            code = read_run(chain, &run, offset, end, data, &fault);
        if (code == 0) {
            data += run.length;
            offset += run.length;
        }
    }
    if (chain->request != NULL)
        end_part(chain, chain->request, code, &fault);
    else
        end_read(chain, io, code != 0, &fault);
}

/* What the ring did not read, or not whole, is read with blocking calls: they know the errors, and are seldom needed.
 */
static int advance(struct ntx_device *device, struct ntx_error *err)
{
    struct chain_device *chain = (struct chain_device *)device;
    struct ntx_qcow2_part rest;

    (void)err;
    while (chain->reads != NULL && ntx_qcow2_reads_next(chain->reads, &rest)) {
        struct ntx_qcow2_fault fault = {.image = rest.image, .place = rest.place};
        fault.code = ntx_read_at(fd_of(chain, rest.image), rest.data, rest.length, &fault.place);
        end_part(chain, rest.request, fault.code, &fault);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------ mapping */

/* Whether so much was looked up for one answer that the caller should have it. */
static bool is_much(const struct chain_device *chain, uint64_t made_before)
{
    return ntx_qcow2_windows_made(chain->windows) - made_before >= MAP_WINDOWS;
}

/* What cannot be looked up is called data, up to the end of its window: who reads it is told.  A list that is full ends
 * the map early, and so does much to look up; the caller asks again from there. */
static void do_map(struct chain_device *chain, struct ntx_io *io)
{
    struct ntx_extents *map = io->map;
    uint64_t made = ntx_qcow2_windows_made(chain->windows);
    struct ntx_qcow2_fault fault;
    struct ntx_qcow2_run run;
    int code = 0;

    while (code == 0 && !ntx_extents_is_complete(map) && !is_much(chain, made)) {
        if (ntx_qcow2_find(chain->windows, map->end, map->limit, &run, &fault) != 0)
            run = (struct ntx_qcow2_run){.kind = NTX_QCOW2_IS_DATA,
                                         .length = NTX_QCOW2_L2_BYTES - map->end % NTX_QCOW2_L2_BYTES};
        code = ntx_extents_append(map, run.length, run.kind == NTX_QCOW2_IS_ZERO ? NTX_EXTENT_ZERO : 0);
    }
    ntx_device_complete(&chain->device, io, 0);
}

static bool is_same_image(const struct ntx_mapped_extent *extent, const struct ntx_mapped_extent *next)
{
    return extent->flags == next->flags && extent->file == next->file;
}

static int map_images(struct chain_device *chain, uint64_t offset, uint64_t end, struct ntx_mapped_extent *extents,
                      size_t capacity, size_t *count, struct ntx_qcow2_fault *fault)
{
    uint64_t made = ntx_qcow2_windows_made(chain->windows);
    struct ntx_qcow2_run run;

    while (offset < end && !is_much(chain, made)) {
        int code = ntx_qcow2_find(chain->windows, offset, end, &run, fault);
        if (code != 0)
            return code;
        struct ntx_mapped_extent next = {.offset = offset, .length = run.length, .flags = NTX_EXTENT_ZERO};
        if (run.is_absent)
            next.flags |= NTX_EXTENT_ABSENT;
        if (run.kind != NTX_QCOW2_IS_ZERO)
            next = (struct ntx_mapped_extent){
                .offset = offset, .length = run.length, .place = run.place, .file = run.image};
        if (*count > 0 && is_same_image(&extents[*count - 1], &next)) {
            extents[*count - 1].length += next.length;
        } else {
            if (*count == capacity)
                return 0;
            extents[(*count)++] = next;
        }
        offset += run.length;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------- open, clone, close */

static int submit(struct ntx_device *device, struct ntx_io *io, struct ntx_error *err)
{
    struct chain_device *chain = (struct chain_device *)device;

    (void)err; /* no failure of one request makes it unusable */
    if (io->op == NTX_OP_READ)
        do_read(chain, io);
    else if (io->op == NTX_OP_MAP)
        do_map(chain, io);
    else
        ntx_device_complete(device, io, 0); /* a flush: writing was refused before */
    return 0;
}

static void close_chain(struct ntx_device *device)
{
    struct chain_device *chain = (struct chain_device *)device;

    for (unsigned i = 0; i < MAX_OWN_FILES; i++) {
        if (chain->own[i] >= 0)
            close(chain->own[i]);
    }
    ntx_qcow2_reads_free(chain->reads);
    ntx_qcow2_unpacker_free(chain->unpacker);
    ntx_qcow2_windows_free(chain->windows);
    ntx_qcow2_chain_release(chain->chain);
    free(chain);
}

static int clone_chain(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err);

static const struct ntx_device_ops CHAIN_OPS = {
    .submit = submit, .advance = advance, .clone = clone_chain, .close = close_chain};

/* A device without a chain; NULL: no memory. */
static struct chain_device *new_device(const struct ntx_device_info *info)
{
    struct chain_device *chain = calloc(1, sizeof *chain);

    if (chain == NULL)
        return NULL;
    for (unsigned i = 0; i < MAX_OWN_FILES; i++)
        chain->own[i] = -1;
    chain->device.ops = &CHAIN_OPS;
    chain->device.fd = -1;
    chain->device.info = *info;
    chain->asks_ahead = true;
    return chain;
}

/* Make the device one user more of the chain. */
static bool use(struct chain_device *device, struct ntx_qcow2_chain *chain)
{
    device->windows = ntx_qcow2_windows_new(chain);
    if (device->windows == NULL)
        return false;
    ntx_qcow2_chain_share(chain);
    device->chain = chain;
    return true;
}

static int clone_chain(struct ntx_device *device, int stop_fd, struct ntx_device **other, struct ntx_error *err)
{
    const struct chain_device *chain = (const struct chain_device *)device;
    struct chain_device *again = new_device(&device->info);

    (void)stop_fd; /* files are not waited for */
    *other = NULL;
    if (again == NULL || !use(again, chain->chain)) {
        if (again != NULL)
            close_chain(&again->device);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", device->info.name);
    }
    for (size_t i = 0; i < MAX_OWN_FILES && i < chain->chain->count; i++)
        again->own[i] = ntx_file_again(chain->chain->images[i].fd);
    *other = &again->device;
    return 0;
}

static struct ntx_device_info describe(const char *name)
{
    struct ntx_device_info info = {
        .min_block = 1,
        .preferred_block = NTX_BLOCK_SIZE,
        .max_payload = NTX_MAX_REQUEST_SIZE,
        .connection_bytes = (uint32_t)(sizeof(struct chain_device) + ntx_qcow2_windows_bytes() +
                                       ntx_qcow2_unpacker_bytes() + ntx_qcow2_reads_bytes()),
        .flags = NTX_DEVICE_READ_ONLY | NTX_DEVICE_CAN_MULTI_CONN | NTX_DEVICE_CAN_MAP,
        .kind = "chain",
    };

    snprintf(info.name, sizeof info.name, "%s", name);
    return info;
}

int ntx_open_qcow2_chain(const char *name, const int *fds, size_t count, struct ntx_device **device,
                         struct ntx_error *err)
{
    struct ntx_device_info info = describe(name);
    struct ntx_qcow2_chain *chain;
    int code = ntx_qcow2_chain_open(name, fds, count, &chain, err);

    *device = NULL;
    if (code != 0)
        return code;
    info.size = chain->size;
    info.shared_bytes = ntx_qcow2_chain_bytes(chain);
    struct chain_device *opened = new_device(&info);
    if (opened == NULL || !use(opened, chain))
        code = ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", name);
    ntx_qcow2_chain_release(chain); /* the device uses it */
    if (code == 0)
        *device = &opened->device;
    else if (opened != NULL)
        close_chain(&opened->device);
    return code;
}

struct ntx_qcow2_chain *ntx_qcow2_chain_of(struct ntx_device *device)
{
    return device->ops == &CHAIN_OPS ? ((struct chain_device *)device)->chain : NULL;
}

int ntx_map_images(struct ntx_device *device, uint64_t offset, uint64_t length, struct ntx_mapped_extent *extents,
                   size_t capacity, size_t *count, struct ntx_error *err)
{
    struct chain_device *chain = (struct chain_device *)device;
    const struct ntx_device_info *info = &device->info;
    struct ntx_qcow2_fault fault;
    char cause[NTX_FILE_CAUSE];

    *count = 0;
    if (device->ops != &CHAIN_OPS)
        return ntx_error_set(err, NTX_E_OPTIONS, -ENOTSUP, "%s: map failed: it is no chain of images", info->name);
    if (capacity == 0 || length == 0 || offset > info->size || length > info->size - offset)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: map failed: empty, or past the end", info->name);
    int code = map_images(chain, offset, offset + length, extents, capacity, count, &fault);
    if (code == 0 || *count > 0) /* the next call begins where this one failed */
        return 0;
    code = ntx_file_cause(chain->chain->images[fault.image].fd, fault.place, fault.code, fault.what, cause);
    ntx_error_set(err, NTX_E_DEVICE, code, "%s: map failed: offset %llu length %llu: %s", info->name,
                  (unsigned long long)offset, (unsigned long long)length, cause);
    return ntx_error_at(err, offset, length);
}
