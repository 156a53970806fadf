/*
 * test_device_file_flush.c: the flush of a file, in steps that are short enough to give up between them.  The system
 * calls below take the place of libc's in this program.
 */
#define _GNU_SOURCE
#include "bytes.h"
#include "check_device.h"
#include "device_file.h"

#include <errno.h>
#include <sys/syscall.h>

#define PATH "disk"
#define STEP (32ull * NTX_MIB)
#define SIZE (10 * STEP + 12345)

static struct {
    int error; /* of sync_file_range(), from the call after .calls_before_error on */
    unsigned calls_before_error;
    int store_error;       /* of a call that writes back, or waits for it */
    struct ntx_stop *stop; /* set by call .calls_before_stop */
    unsigned calls_before_stop;
    bool is_interrupted; /* the next call */

    uint64_t written_to, waited_to;     /* all before it, without a gap */
    uint64_t most_written, most_waited; /* by one call */
    unsigned calls, synced;
} plan;

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    uint64_t start = (uint64_t)offset, end = start + (uint64_t)length;

    (void)fd;
    plan.calls++;
    if (plan.stop != NULL && plan.calls > plan.calls_before_stop)
        ntx_stop_set(plan.stop);
    if (plan.is_interrupted || (plan.error != 0 && plan.calls > plan.calls_before_error)) {
        errno = plan.is_interrupted ? EINTR : plan.error;
        plan.is_interrupted = false;
        return -1;
    }
    if (plan.store_error != 0 && flags != 0) {
        errno = plan.store_error;
        return -1;
    }
    if ((flags & SYNC_FILE_RANGE_WRITE) != 0) {
        CHECK(start <= plan.written_to);
        plan.most_written = ntx_max64(plan.most_written, end - ntx_max64(start, plan.written_to));
        plan.written_to = ntx_max64(end, plan.written_to);
    }
    if ((flags & (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER)) != 0) {
        CHECK(start <= plan.waited_to && end <= plan.written_to);
        plan.most_waited = ntx_max64(plan.most_waited, end - plan.waited_to);
        plan.waited_to = end;
    }
    return 0;
}

int fdatasync(int fd)
{
    plan.synced++;
    return (int)syscall(SYS_fdatasync, fd);
}

static struct ntx_device *open_sparse(uint64_t size)
{
    memset(&plan, 0, sizeof plan);
    put_file(PATH, NULL, 0);
    CHECK_EQ_INT(truncate(PATH, (off_t)size), 0);
    return open_file(PATH, NTX_OPEN_WRITE, false);
}

static int flush(struct ntx_device *device, const struct ntx_stop *stop, struct ntx_error *err)
{
    struct ntx_io io = {.op = NTX_OP_FLUSH, .stop = stop};

    return ntx_device_do(device, &io, CHECK_TIMEOUT_MS, err);
}

static void test_a_flush_is_many_short_calls_and_the_last_one(void)
{
    struct ntx_device *device = open_sparse(SIZE);
    struct ntx_stop stop;
    struct ntx_error err;
    CHECK_EQ_INT(ntx_stop_init(&stop), 0);
    plan.is_interrupted = true;

    CHECK_OK(flush(device, &stop, &err), err);

    CHECK(plan.written_to >= SIZE && plan.waited_to >= SIZE);
    CHECK_EQ_U64(plan.most_waited, STEP);
    CHECK(plan.most_written <= 2 * STEP);
    CHECK_EQ_INT(plan.synced, 1);
    ntx_stop_destroy(&stop);
    ntx_close(device);
}

static void test_a_flush_is_given_up_between_two_calls(void)
{
    for (unsigned calls = 0; calls < 4; calls++) {
        struct ntx_device *device = open_sparse(SIZE);
        struct ntx_stop stop;
        struct ntx_error err;
        CHECK_EQ_INT(ntx_stop_init(&stop), 0);
        plan.stop = &stop;
        plan.calls_before_stop = calls;
        if (calls == 0)
            ntx_stop_set(&stop);

        CHECK_EQ_INT(flush(device, &stop, &err), -ECANCELED);

        CHECK(plan.calls <= calls + 2);
        CHECK_EQ_INT(plan.synced, 0);
        ntx_stop_destroy(&stop);
        ntx_close(device);
    }
}

/* fdatasync() does not tell again what these calls have told. */
static void test_what_cannot_be_written_back_fails_the_flush(void)
{
    for (unsigned calls = 0; calls < 4; calls++) {
        struct ntx_device *device = open_sparse(SIZE);
        struct ntx_stop stop;
        struct ntx_error err;
        CHECK_EQ_INT(ntx_stop_init(&stop), 0);
        plan.error = EIO;
        plan.calls_before_error = calls;

        CHECK_EQ_INT(flush(device, &stop, &err), -EIO);

        CHECK_CONTAINS(err.text, "disk: flush failed: Input/output error");
        ntx_stop_destroy(&stop);
        ntx_close(device);
    }
}

/* A server of files may refuse to store with the very errors that mean there is no such call. */
static void test_a_refusal_to_store_is_not_taken_for_a_missing_call(void)
{
    static const int errors[] = {EACCES, EPERM, EOPNOTSUPP, EINVAL, ENODEV};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct ntx_device *device = open_sparse(SIZE);
        struct ntx_stop stop;
        struct ntx_error err;
        CHECK_EQ_INT(ntx_stop_init(&stop), 0);
        plan.store_error = errors[i];

        CHECK_EQ_INT(flush(device, &stop, &err), -errors[i]);

        CHECK_CONTAINS(err.text, "disk: flush failed: ");
        ntx_stop_destroy(&stop);
        ntx_close(device);
    }
}

static void test_where_there_are_no_steps_the_last_call_does_it_all(void)
{
    static const int errors[] = {ENOSYS, EPERM, EINVAL, EOPNOTSUPP};

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct ntx_device *device = open_sparse(SIZE);
        struct ntx_stop stop;
        struct ntx_error err;
        CHECK_EQ_INT(ntx_stop_init(&stop), 0);
        plan.error = errors[i];

        CHECK_OK(flush(device, &stop, &err), err);

        CHECK_EQ_INT(plan.calls, 1);
        CHECK_EQ_INT(plan.synced, 1);
        ntx_stop_destroy(&stop);
        ntx_close(device);
    }
}

static void test_a_huge_file_takes_no_more_calls_than_a_large_one(void)
{
    struct ntx_device *device = open_sparse(8 * 1024 * NTX_GIB);
    struct ntx_stop stop;
    struct ntx_error err;
    CHECK_EQ_INT(ntx_stop_init(&stop), 0);

    CHECK_OK(flush(device, &stop, &err), err);

    CHECK(plan.waited_to >= 8 * 1024 * NTX_GIB);
    CHECK(plan.calls < 200000);
    ntx_stop_destroy(&stop);
    ntx_close(device);
}

int main(void)
{
    RUN(test_a_flush_is_many_short_calls_and_the_last_one);
    RUN(test_a_flush_is_given_up_between_two_calls);
    RUN(test_what_cannot_be_written_back_fails_the_flush);
    RUN(test_a_refusal_to_store_is_not_taken_for_a_missing_call);
    RUN(test_where_there_are_no_steps_the_last_call_does_it_all);
    RUN(test_a_huge_file_takes_no_more_calls_than_a_large_one);
    return 0;
}
