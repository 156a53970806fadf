/*
 * test_power_cut.c: whatever happens to a job, and whenever, what it says is stored would survive a cut of the target's
 * power, and a job that goes on from there makes the target whole.
 *
 * The target is a disk in memory of which a cut leaves what was flushed, and of the rest some sectors.
 * NTX_JOB_ROUNDS in the environment: how many random jobs.
 */
#include "job_bench.h"

#define ROUNDS 60
#define MOST_EXTENTS 64
#define SECTOR 512

enum fault { NO_FAULT, CANCEL, WRITE_FAILS, READ_FAILS, FLUSH_FAILS, SERVER_RESTARTS, FAULTS };

struct trial {
    struct fake_disk source, target;
    struct ntx_job_options options;
    struct ntx_job_progress progress;
    struct ntx_error err;
    struct ntx_extent extents[MOST_EXTENTS];
    size_t count;
    uint64_t size, blocks;
    uint8_t *wanted; /* what the target has to hold in the extents, and the source beside them */
    enum fault fault;
    int digests, reference;
};

static unsigned round_number;

static uint64_t random_size(void)
{
    static const uint64_t edges[] = {
        1, SECTOR - 1, SECTOR, NTX_BLOCK_SIZE - 1, NTX_BLOCK_SIZE, NTX_BLOCK_SIZE + 1, NTX_MIB, NTX_MIB + SECTOR};
    unsigned which = (unsigned)rnd(2 * sizeof edges / sizeof *edges);
    return which < sizeof edges / sizeof *edges ? edges[which] : 1 + rnd(3 * NTX_MIB / 2);
}

static void choose_extents(struct trial *t)
{
    uint64_t at = rnd(3) == 0 ? rnd(t->size) : 0;
    uint64_t longest = rnd(2) == 0 ? 2 * NTX_BLOCK_SIZE : t->size;
    while (t->count < MOST_EXTENTS && at < t->size) {
        uint64_t length = ntx_min64(1 + rnd(longest), t->size - at);
        t->extents[t->count++] = (struct ntx_extent){at, length, rnd(4) == 0 ? NTX_EXTENT_ZERO : 0};
        at += length + (rnd(2) == 0 ? rnd(longest) : 0);
    }
    for (size_t i = 0; i < t->count; i++)
        if (t->extents[i].flags & NTX_EXTENT_ZERO)
            memset(t->wanted + t->extents[i].offset, 0, t->extents[i].length);
}

static uint64_t block_length(const struct trial *t, uint64_t block)
{
    return ntx_min64(NTX_BLOCK_SIZE, t->size - block * NTX_BLOCK_SIZE);
}

static void digest_wanted(const struct trial *t, uint64_t block, uint8_t digest[NTX_DIGEST_SIZE])
{
    const uint8_t *data = t->wanted + block * NTX_BLOCK_SIZE;
    memset(digest, 0, NTX_DIGEST_SIZE);
    if (!ntx_is_zero(data, block_length(t, block)))
        ntx_digest(data, block_length(t, block), digest);
}

/* Half of the blocks are in the target already, and the reference says so. */
static void choose_reference(struct trial *t)
{
    t->options.reference_fd = t->reference = memfd_create("reference", MFD_CLOEXEC);
    t->options.reference_blocks = t->blocks;
    for (uint64_t block = 0; block < t->blocks; block++) {
        uint8_t digest[NTX_DIGEST_SIZE];
        digest_wanted(t, block, digest);
        if (rnd(2) == 0)
            memcpy(t->target.bytes + block * NTX_BLOCK_SIZE, t->wanted + block * NTX_BLOCK_SIZE,
                   block_length(t, block));
        else
            memset(digest, 0xdd, sizeof digest);
        CHECK(pwrite(t->reference, digest, sizeof digest, (off_t)(block * NTX_DIGEST_SIZE)) == sizeof digest);
    }
}

static void choose_fault(struct trial *t)
{
    t->fault = (enum fault)rnd(FAULTS);
    struct fake_disk *failing = t->fault == READ_FAILS ? &t->source : &t->target;
    if (t->fault == WRITE_FAILS || t->fault == READ_FAILS) {
        failing->fail_at = rnd(t->size);
        failing->fail_op = t->fault == READ_FAILS ? NTX_OP_READ : rnd(2) == 0 ? NTX_OP_WRITE : NTX_OP_ZERO;
        failing->fail_code = -EIO;
        t->target.fails_late = t->options.limits.connections == 1 && rnd(2) == 0;
    }
    t->target.failing_flush = t->fault == FLUSH_FAILS ? 1 + rnd(4) : 0;
    t->target.restarts_at = t->fault == SERVER_RESTARTS ? 1 + rnd(60) : 0;
}

static void begin(struct trial *t)
{
    static const uint32_t units[] = {1, SECTOR, 4096};
    *t = (struct trial){.size = random_size(), .reference = -1};
    t->blocks = (t->size + NTX_BLOCK_SIZE - 1) / NTX_BLOCK_SIZE;
    fake_init(&t->source, t->size, ALL_FLAGS);
    fake_init(&t->target, t->size,
              (rnd(4) == 0 ? ALL_FLAGS & ~NTX_DEVICE_CAN_ZERO : ALL_FLAGS) | NTX_DEVICE_SHORT_TAIL);
    t->target.min_block = units[rnd(3)];
    t->source.answers_at_once = (unsigned)rnd(4);
    t->target.answers_at_once = (unsigned)rnd(4);
    fill(t->source.bytes, t->size);
    t->wanted = malloc(t->size);
    memcpy(t->wanted, t->source.bytes, t->size);
    t->digests = memfd_create("digests", MFD_CLOEXEC);
    CHECK(ftruncate(t->digests, (off_t)(t->blocks * NTX_DIGEST_SIZE)) == 0);
    t->options = (struct ntx_job_options){
        .limits =
            {
                .connections = 1 + (unsigned)rnd(4),
                .in_flight = rnd(4) == 0 ? NTX_MAX_IN_FLIGHT : 1 + (unsigned)rnd(6),
                .first_connections = (unsigned)rnd(3),
                .first_requests = (unsigned)rnd(5),
                .request_size = NTX_BLOCK_SIZE << rnd(3),
                .max_buffer_bytes = 8 * NTX_MIB,
                .timeout_ms = 10000,
            },
        .bytes_expected = NTX_GIB, /* as many threads as may be, however small the disk */
        .makes_checkpoints = rnd(2) == 0,
        .target_is_zero = rnd(3) == 0,
        .digests_are_zero = true,
        .digest_fd = t->digests,
        .reference_fd = -1,
    };
    if (rnd(4) == 0)
        CHECK_OK(ntx_limiter_new((20 + rnd(200)) * NTX_MIB, &t->options.limiter, &t->err), t->err);
    choose_extents(t);
    if (!t->options.target_is_zero)
        memset(t->target.bytes, 0xee, t->size);
    if (!t->options.target_is_zero && rnd(3) == 0)
        choose_reference(t);
    t->target.flushed = malloc(t->size);
    memcpy(t->target.flushed, t->target.bytes, t->size);
    choose_fault(t);
}

static void end(struct trial *t)
{
    ntx_limiter_free(t->options.limiter);
    fake_destroy(&t->source);
    fake_destroy(&t->target);
    free(t->wanted);
    close(t->digests);
    if (t->reference >= 0)
        close(t->reference);
}

/* What lies below stored_to survives a cut at this moment, and its digests are written. */
static void check_stored(struct trial *t, uint64_t stored_to)
{
    CHECK(stored_to % NTX_BLOCK_SIZE == 0 || stored_to == t->size);
    uint64_t digested = 0;
    for (size_t i = 0; i < t->count && t->extents[i].offset < stored_to; i++) {
        uint64_t at = t->extents[i].offset, end = ntx_min64(at + t->extents[i].length, stored_to);
        pthread_mutex_lock(&t->target.lock);
        CHECK_EQ_MEM(t->target.flushed + at, t->wanted + at, end - at);
        pthread_mutex_unlock(&t->target.lock);
        for (uint64_t block = ntx_max64(at / NTX_BLOCK_SIZE, digested); block * NTX_BLOCK_SIZE < end; block++) {
            uint8_t expected[NTX_DIGEST_SIZE], written[NTX_DIGEST_SIZE];
            digest_wanted(t, block, expected);
            CHECK(pread(t->digests, written, sizeof written, (off_t)(block * NTX_DIGEST_SIZE)) == sizeof written);
            CHECK_EQ_MEM(written, expected, sizeof written);
            digested = block + 1;
        }
    }
}

static void look(struct trial *t, struct ntx_job *job)
{
    uint64_t before = t->progress.stored_to;
    ntx_job_progress(job, &t->progress);
    CHECK(t->progress.stored_to >= before);
    if (t->progress.stored_to > before)
        check_stored(t, t->progress.stored_to);
}

/* Run the extents from start on through a job, and look all the time; returns what join returned. */
static int run_from(struct trial *t, uint64_t start)
{
    struct ntx_device *from = fake_open(&t->source), *to = fake_open(&t->target);
    struct ntx_job *job;
    CHECK_OK(ntx_job_new(from, to, &t->options, &job, &t->err), t->err);
    CHECK_OK(ntx_job_start(job, &t->err), t->err);
    memset(&t->progress, 0, sizeof t->progress);
    unsigned looks = t->fault == CANCEL ? (unsigned)rnd(200) : UINT_MAX;
    bool hurries = rnd(2) == 0; /* all at once */
    size_t at = 0;
    do {
        struct ntx_extent extent = at < t->count ? t->extents[at] : (struct ntx_extent){0};
        uint64_t skipped = extent.offset < start ? ntx_min64(start - extent.offset, extent.length) : 0;
        extent.offset += skipped;
        extent.length -= skipped;
        size_t taken = 1;
        if (at < t->count && (hurries || rnd(3) == 0)) {
            if (extent.length > 0)
                CHECK_OK(ntx_job_feed(job, &extent, 1, &taken, &t->err), t->err);
            at += taken;
        }
        if (at == t->count || t->progress.finished)
            ntx_job_feed_end(job);
        if (rnd(3) == 0)
            ntx_job_checkpoint(job);
        if (looks-- == 0)
            ntx_job_cancel(job);
        look(t, job);
        struct pollfd fd = {.fd = ntx_job_fd(job), .events = POLLIN};
        if (poll(&fd, 1, rnd(4) == 0) > 0)
            ntx_event_drain(fd.fd);
    } while (!t->progress.finished);
    int rc = ntx_job_join(job, &t->err);
    look(t, job);
    ntx_job_free(job);
    ntx_close(from);
    ntx_close(to);
    return rc;
}

static void cut_power(struct trial *t)
{
    for (uint64_t at = 0; at < t->size; at += SECTOR)
        if (rnd(2) == 0)
            memcpy(t->target.bytes + at, t->target.flushed + at, ntx_min64(SECTOR, t->size - at));
    memcpy(t->target.flushed, t->target.bytes, t->size);
}

static void test_what_is_stored_survives(void)
{
    const char *rounds = getenv("NTX_JOB_ROUNDS");
    unsigned count = rounds != NULL ? (unsigned)atoi(rounds) : ROUNDS;
    unsigned resumed = 0;
    for (round_number = 0; round_number < count; round_number++) {
        struct trial t;
        seed = round_number;
        begin(&t);
        int rc = run_from(&t, 0);
        CHECK(rc == 0 || t.fault != NO_FAULT);
        if (rc != 0) {
            uint64_t stored_to = t.progress.stored_to;
            resumed += stored_to > 0;
            cut_power(&t);
            t.fault = NO_FAULT;
            t.source.fail_at = t.target.fail_at = UINT64_MAX;
            t.target.failing_flush = t.target.restarts_at = 0;
            t.options.target_is_zero = t.options.digests_are_zero = false;
            CHECK_OK(run_from(&t, stored_to), t.err);
        }
        CHECK_EQ_U64(t.progress.stored_to, t.size);
        check_stored(&t, t.size);
        end(&t);
    }
    CHECK(resumed > 0); /* also on a machine that is slow to checkpoint */
}

static void tell_round(void)
{
    fprintf(stderr, "round %u\n", round_number);
}

int main(void)
{
    atexit(tell_round);
    RUN(test_what_is_stored_survives);
    return 0;
}
