/* test_zero.c: every kernel says what the scalar one says. */
#include "check.h"
#include "zero.h"

#define MAX_LENGTH 300u

static void test_scalar_sees_a_byte_anywhere(void)
{
    uint8_t data[MAX_LENGTH] = {0};

    CHECK(ntx_is_zero_scalar(data, sizeof data));
    for (size_t at = 0; at < sizeof data; at++) {
        data[at] = 1;
        CHECK(!ntx_is_zero_scalar(data, sizeof data));
        data[at] = 0;
    }
}

/* Every length and alignment, with one byte set at each place inside, or just outside of either end. */
static void check_kernel(const struct ntx_zero_kernel *kernel)
{
    uint8_t *data = calloc(1, MAX_LENGTH + 64);

    for (size_t start = 1; start < 17; start++) {
        for (size_t length = 0; length < MAX_LENGTH; length += length < 140 ? 1 : 13) {
            for (size_t at = start - 1; at <= start + length; at += 3) {
                data[at] = 0x80;
                if (kernel->is_zero(data + start, length) != ntx_is_zero_scalar(data + start, length))
                    CHECK_FAIL("%s: start %zu length %zu byte %zu", kernel->name, start, length, at);
                data[at] = 0;
            }
            CHECK(kernel->is_zero(data + start, length));
        }
    }
    free(data);
}

static void test_all_kernels_agree_with_scalar(void)
{
    size_t count, ran = 0;
    const struct ntx_zero_kernel *kernels = ntx_zero_kernels(&count);

    for (size_t i = 0; i < count; i++) {
        if (kernels[i].is_supported == NULL || kernels[i].is_supported()) {
            check_kernel(&kernels[i]);
            ran++;
        }
    }

    CHECK(ran >= 2);
}

static void test_the_last_kernel_is_the_scalar_one_and_runs_everywhere(void)
{
    size_t count;
    const struct ntx_zero_kernel *kernels = ntx_zero_kernels(&count);

    CHECK_EQ_STR(kernels[count - 1].name, "scalar");
    CHECK(kernels[count - 1].is_supported == NULL);
    CHECK(kernels[count - 1].is_zero == ntx_is_zero_scalar);
}

static void test_nothing_is_zero(void)
{
    CHECK(ntx_is_zero("x", 0));
}

static void test_last_byte_of_a_block_counts(void)
{
    uint8_t *data = calloc(1, NTX_BLOCK_SIZE);

    CHECK(ntx_is_zero(data, NTX_BLOCK_SIZE));
    data[NTX_BLOCK_SIZE - 1] = 1;
    CHECK(!ntx_is_zero(data, NTX_BLOCK_SIZE));
    CHECK(ntx_is_zero(data, NTX_BLOCK_SIZE - 1));
    free(data);
}

/* 64 times the same pattern makes each part equal the one before: only the head tells it from zero. */
static void test_repeating_data_is_not_zero(void)
{
    uint8_t *data = malloc(NTX_BLOCK_SIZE);

    for (unsigned period = 1; period <= 128; period *= 2) {
        for (size_t i = 0; i < NTX_BLOCK_SIZE; i++)
            data[i] = i % period == period - 1;
        CHECK(!ntx_is_zero(data, NTX_BLOCK_SIZE));
    }
    free(data);
}

static void test_shared_zeros_are_zero_and_page_aligned(void)
{
    CHECK(ntx_is_zero_scalar(ntx_zeros, sizeof ntx_zeros));
    CHECK_EQ_U64((uintptr_t)ntx_zeros % 4096, 0);
}

int main(void)
{
    RUN(test_scalar_sees_a_byte_anywhere);
    RUN(test_all_kernels_agree_with_scalar);
    RUN(test_the_last_kernel_is_the_scalar_one_and_runs_everywhere);
    RUN(test_nothing_is_zero);
    RUN(test_last_byte_of_a_block_counts);
    RUN(test_repeating_data_is_not_zero);
    RUN(test_shared_zeros_are_zero_and_page_aligned);
    return 0;
}
