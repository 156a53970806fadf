/*
 * worker_digester.c: see worker_digester.h.
 *
 * Digests go to the manifest by pwrite and not through a mapping: on a full disk a mapping ends in SIGBUS, pwrite in
 * an error.  16 bytes per 64 KiB are little: those of neighbours wait for each other and are one write.
 */
#include "worker_digester.h"

#include "bytes.h"
#include "error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ntx_digester_init(struct ntx_digester *d, const struct ntx_job_options *options)
{
    *d = (struct ntx_digester){.options = options};
    d->digests = calloc(NTX_SPAN_BLOCKS, NTX_DIGEST_SIZE);
    d->reference = calloc(NTX_SPAN_BLOCKS, NTX_DIGEST_SIZE);
    return d->digests != NULL && d->reference != NULL ? 0 : -ENOMEM;
}

void ntx_digester_destroy(struct ntx_digester *d)
{
    free(d->reference);
    free(d->digests);
}

static int write_digests(struct ntx_digester *d, uint64_t block, const uint8_t *digests, size_t count,
                         struct ntx_error *err)
{
    const struct ntx_job_options *options = d->options;
    const uint8_t *from = digests;
    size_t left = count * NTX_DIGEST_SIZE;
    off_t at = (off_t)(options->digest_offset + block * NTX_DIGEST_SIZE);
    while (left > 0) {
        ssize_t n = pwrite(options->digest_fd, from, left, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ntx_error_errno(err, NTX_E_SYSTEM, n < 0 ? -errno : -EIO, "writing digests to the manifest failed");
        from += n;
        left -= (size_t)n;
        at += n;
    }
    return 0;
}

int ntx_digester_flush(struct ntx_digester *d, struct ntx_error *err)
{
    size_t count = d->count;
    int rc = count > 0 ? write_digests(d, d->block, d->digests, count, err) : 0;
    d->count = 0;
    d->has_lost = d->has_lost || rc < 0;
    return rc;
}

/* Digests of count blocks go behind those that wait, if the blocks lie so too; else those that wait are written. */
static int make_room(struct ntx_digester *d, uint64_t block, size_t count, struct ntx_error *err)
{
    if (block == d->block + d->count && d->count + count <= NTX_SPAN_BLOCKS)
        return 0;
    int rc = ntx_digester_flush(d, err);
    d->block = block;
    return rc;
}

/* Fill d->reference for count blocks; returns how many of them have a reference, or a negative errno. */
static int64_t read_reference(struct ntx_digester *d, uint64_t block, size_t count, struct ntx_error *err)
{
    const struct ntx_job_options *options = d->options;
    if (block >= options->reference_blocks)
        return 0;
    count = (size_t)ntx_min64(count, options->reference_blocks - block);
    size_t left = count * NTX_DIGEST_SIZE;
    uint8_t *to = d->reference;
    off_t at = (off_t)(options->reference_offset + block * NTX_DIGEST_SIZE);
    while (left > 0) {
        ssize_t n = pread(options->reference_fd, to, left, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ntx_error_errno(err, NTX_E_SYSTEM, n < 0 ? -errno : -EIO,
                                   "reading digests of the reference manifest failed");
        to += n;
        left -= (size_t)n;
        at += n;
    }
    return (int64_t)count;
}

/* Compare the digests of a span with the reference; NULL stands for all zero. */
static int mark_same(struct ntx_digester *d, struct ntx_span *span, const uint8_t *digests, struct ntx_error *err)
{
    static const uint8_t zero[NTX_DIGEST_SIZE];
    uint64_t first = span->start / NTX_BLOCK_SIZE;
    size_t count = (size_t)((span->end - span->start + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE);
    int64_t known = read_reference(d, first, count, err);
    if (known < 0)
        return (int)known;
    for (size_t i = 0; i < (size_t)known; i++) {
        const uint8_t *digest = digests == NULL ? zero : digests + i * NTX_DIGEST_SIZE;
        if (memcmp(digest, d->reference + i * NTX_DIGEST_SIZE, NTX_DIGEST_SIZE) == 0)
            ntx_set_bit(span->same, i);
    }
    return 0;
}

/* A block that is only partly in a zero extent was read: what of it is in there is zero, whatever the source holds.
 * Before the digest is made, so that it is of what the target will hold, and what is sent beside the extents, to fill
 * up the target's min_block, stays the source's. */
static void put_zeros(const struct ntx_span *span, void *data)
{
    const struct ntx_work_range *range = span->range;

    for (size_t i = span->extent; i < range->count && range->extents[i].offset < span->end; i++) {
        const struct ntx_extent *extent = &range->extents[i];
        uint64_t start = ntx_max64(extent->offset, span->start);
        uint64_t end = ntx_min64(extent->offset + extent->length, span->end);
        if ((extent->flags & NTX_EXTENT_ZERO) != 0 && start < end)
            memset((uint8_t *)data + (start - span->start), 0, (size_t)(end - start));
    }
}

int ntx_digester_take_data(struct ntx_digester *d, struct ntx_span *span, void *read, struct ntx_error *err)
{
    const struct ntx_job_options *options = d->options;
    bool wants_digest = options->digest_fd >= 0 || options->reference_fd >= 0;
    const uint8_t *data = read;
    size_t length = (size_t)(span->end - span->start);
    size_t count = 0, zeros = 0;
    int rc = make_room(d, span->start / NTX_BLOCK_SIZE, (length + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE, err);
    uint8_t *digests = d->digests + d->count * NTX_DIGEST_SIZE;

    if (rc < 0)
        return rc;
    put_zeros(span, read);
    for (size_t at = 0; at < length; at += NTX_BLOCK_SIZE, count++) {
        size_t block = length - at < NTX_BLOCK_SIZE ? length - at : NTX_BLOCK_SIZE;
        uint8_t *digest = digests + count * NTX_DIGEST_SIZE;
        if (ntx_is_zero(data + at, block)) {
            ntx_set_bit(span->zero, count);
            zeros++;
            memset(digest, 0, NTX_DIGEST_SIZE);
        } else if (wants_digest) {
            ntx_digest(data + at, block, digest);
        }
    }
    if (options->digest_fd >= 0 && !(options->digests_are_zero && zeros == count))
        d->count += count;
    return options->reference_fd >= 0 ? mark_same(d, span, digests, err) : 0;
}

int ntx_digester_take_zeros(struct ntx_digester *d, struct ntx_span *span, struct ntx_error *err)
{
    const struct ntx_job_options *options = d->options;
    uint64_t block = span->start / NTX_BLOCK_SIZE;
    uint64_t end = (span->end + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE;
    if (options->digest_fd >= 0 && !options->digests_are_zero) {
        int rc = ntx_digester_flush(d, err);
        if (rc < 0)
            return rc;
        memset(d->digests, 0, NTX_SPAN_BLOCKS * NTX_DIGEST_SIZE);
        while (block < end) {
            size_t count = (size_t)ntx_min64(end - block, NTX_SPAN_BLOCKS);
            rc = write_digests(d, block, d->digests, count, err);
            if (rc < 0)
                return rc;
            block += count;
        }
    }
    return options->reference_fd >= 0 ? mark_same(d, span, NULL, err) : 0;
}
