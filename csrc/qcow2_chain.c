/* qcow2_chain.c: see qcow2_chain.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#endif
#include "qcow2_chain.h"

#include "bytes.h"
#include "error.h"
#include "file_bytes.h"
#include "file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------- one image */

static int read_at(int fd, void *data, uint64_t length, uint64_t place, struct ntx_qcow2_fault *fault)
{
    uint64_t at = place;

    fault->code = ntx_read_at(fd, data, length, &at);
    fault->place = at;
    fault->what = NULL;
    return fault->code;
}

/* Read the part of the L1 table that describes what is shown. */
static int read_l1(struct ntx_qcow2_layer *image, uint64_t offset, struct ntx_qcow2_fault *fault)
{
    image->l1 = calloc(image->entries, sizeof *image->l1);
    if (image->l1 == NULL) {
        *fault = (struct ntx_qcow2_fault){.place = offset, .code = -ENOMEM};
        return fault->code;
    }
    int code = read_at(image->fd, image->l1, image->entries * sizeof *image->l1, offset, fault);
    for (uint64_t i = 0; code == 0 && i < image->entries; i++)
        image->l1[i] = ntx_get64(&image->l1[i]);
    return code;
}

static bool has_compressed(const uint8_t *table)
{
    for (size_t i = 0; i < NTX_QCOW2_ENTRIES; i++) {
        if ((ntx_get64(table + i * sizeof(uint64_t)) & NTX_QCOW2_COMPRESSED) != 0)
            return true;
    }
    return false;
}

/* Look for clusters that are compressed.  Where a table is damaged, who reads there is told. */
static int check_not_compressed(const struct ntx_qcow2_layer *image, struct ntx_qcow2_fault *fault)
{
    uint8_t *table = malloc(NTX_QCOW2_CLUSTER);
    int code = 0;

    if (table == NULL) {
        *fault = (struct ntx_qcow2_fault){.code = -ENOMEM};
        return fault->code;
    }
    for (uint64_t i = 0; code == 0 && i < image->entries; i++) {
        uint64_t entry = image->l1[i];

        if (entry == 0 || ntx_qcow2_l1_fault(entry, image->file_size) != NULL)
            continue;
        code = read_at(image->fd, table, NTX_QCOW2_CLUSTER, entry & NTX_QCOW2_OFFSET, fault);
        if (code == 0 && has_compressed(table)) {
            *fault = (struct ntx_qcow2_fault){
                .place = entry & NTX_QCOW2_OFFSET, .code = -ENOTSUP, .what = "clusters compressed by deflate"};
            code = fault->code;
        }
    }
    free(table);
    return code;
}

/* Read what the file says; *left is how much memory there may still be for L1 tables. */
static int examine(struct ntx_qcow2_layer *image, uint64_t hidden_from, uint64_t *size, uint64_t *left,
                   struct ntx_qcow2_fault *fault)
{
    uint8_t first[NTX_QCOW2_HEADER_BYTES];
    struct ntx_qcow2_header header;
    size_t length = ntx_min64(sizeof first, image->file_size);

    int code = read_at(image->fd, first, length, 0, fault);
    if (code == 0)
        code = ntx_qcow2_get_header(first, length, image->file_size, &header, fault);
    if (code != 0)
        return code;
    *size = header.size;
    image->is_zstd = header.is_zstd;
    image->shown = ntx_min64(header.size, hidden_from);
    image->entries = image->shown / NTX_QCOW2_L2_BYTES + (image->shown % NTX_QCOW2_L2_BYTES != 0);
    if (image->entries * sizeof *image->l1 > *left) {
        *fault = (struct ntx_qcow2_fault){
            .place = header.l1_offset, .code = -ENOTSUP, .what = "the L1 tables of all images are too large"};
        return fault->code;
    }
    *left -= image->entries * sizeof *image->l1;
    code = read_l1(image, header.l1_offset, fault);
    if (code == 0 && !image->is_zstd)
        code = check_not_compressed(image, fault);
    return code;
}

/* --------------------------------------------------------------------------------------------- the chain */

void ntx_qcow2_chain_share(struct ntx_qcow2_chain *chain)
{
    /* Whoever shares it uses it: it cannot go meanwhile. */
    atomic_fetch_add_explicit(&chain->users, 1, memory_order_relaxed);
}

uint64_t ntx_qcow2_chain_bytes(const struct ntx_qcow2_chain *chain)
{
    uint64_t bytes = sizeof *chain + chain->count * sizeof *chain->images;

    for (size_t i = 0; i < chain->count; i++)
        bytes += chain->images[i].entries * sizeof *chain->images[i].l1;
    return bytes;
}

void ntx_qcow2_chain_release(struct ntx_qcow2_chain *chain)
{
    if (chain == NULL || atomic_fetch_sub_explicit(&chain->users, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < chain->count; i++) {
        close(chain->images[i].fd);
        free(chain->images[i].l1);
    }
    free(chain->images);
    free(chain);
}

/* Keep another descriptor of a file, as the next image. */
static int take_file(struct ntx_qcow2_chain *chain, const char *name, int fd, struct ntx_error *err)
{
    struct ntx_qcow2_layer *image = &chain->images[chain->count];
    struct stat status;

    image->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (image->fd < 0)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: open failed: duplicating a descriptor", name);
    chain->count++;
    if (fstat(image->fd, &status) < 0)
        return ntx_error_errno(err, NTX_E_SYSTEM, -errno, "%s: open failed", name);
    if (!S_ISREG(status.st_mode))
        return ntx_error_set(err, NTX_E_DEVICE, -EINVAL, "%s: open failed: an image is not a regular file", name);
    image->file_size = (uint64_t)status.st_size;
    return 0;
}

static int open_all(struct ntx_qcow2_chain *chain, const char *name, const int *fds, size_t count,
                    struct ntx_error *err)
{
    uint64_t hidden_from = UINT64_MAX, left = NTX_QCOW2_MAX_TABLES, size = 0;
    int code = 0;

    for (size_t i = 0; code == 0 && i < count; i++) {
        struct ntx_qcow2_layer *image = &chain->images[i];
        struct ntx_qcow2_fault fault;
        char cause[NTX_FILE_CAUSE];

        code = take_file(chain, name, fds[i], err);
        if (code != 0)
            return code;
        code = examine(image, hidden_from, &size, &left, &fault);
        if (code != 0) {
            code = ntx_file_cause(image->fd, fault.place, fault.code, fault.what, cause);
            return ntx_error_set(err, code == -ENOMEM ? NTX_E_SYSTEM : NTX_E_DEVICE, code, "%s: open failed: %s", name,
                                 cause);
        }
        if (i == 0)
            chain->size = size;
        hidden_from = image->shown;
    }
    return code;
}

int ntx_qcow2_chain_open(const char *name, const int *fds, size_t count, struct ntx_qcow2_chain **chain,
                         struct ntx_error *err)
{
    struct ntx_qcow2_chain *opened;

    *chain = NULL;
    if (count == 0 || count > NTX_QCOW2_MAX_IMAGES)
        return ntx_error_set(err, NTX_E_OPTIONS, -EINVAL, "%s: open failed: %zu images, not 1 to %u", name, count,
                             NTX_QCOW2_MAX_IMAGES);
    opened = calloc(1, sizeof *opened);
    if (opened != NULL)
        opened->images = calloc(count, sizeof *opened->images);
    if (opened == NULL || opened->images == NULL) {
        free(opened);
        return ntx_error_set(err, NTX_E_SYSTEM, -ENOMEM, "%s: open failed: no memory", name);
    }
    atomic_init(&opened->users, 1);
    int code = open_all(opened, name, fds, count, err);
    if (code != 0) {
        ntx_qcow2_chain_release(opened);
        return code;
    }
    *chain = opened;
    return 0;
}
