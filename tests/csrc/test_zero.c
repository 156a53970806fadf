/* test_zero.c: every kernel says what the scalar one says. */
#include "check.h"
#include "zero.h"

#define MAX_LENGTH 600u
#define ALIGNMENTS 64u
#define NEAR_EDGE 300u /* more than any kernel looks at in one turn */

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

/* One byte set at a place inside, or just outside of either end. */
static void check_byte(const struct ntx_zero_kernel *kernel, uint8_t *data, size_t start, size_t length, size_t at)
{
    bool is_inside = at >= start && at < start + length;

    data[at] = 0x80;
    if (kernel->is_zero(data + start, length) != !is_inside)
        CHECK_FAIL("%s: start %zu length %zu byte %zu", kernel->name, start, length, at);
    data[at] = 0;
}

/* Every alignment, every length up to where the widest loop has turned, one byte at places all over. */
static void check_short(const struct ntx_zero_kernel *kernel)
{
    uint8_t *data = calloc(1, MAX_LENGTH + ALIGNMENTS + 1);

    for (size_t start = 1; start <= ALIGNMENTS; start++) {
        for (size_t length = 0; length < MAX_LENGTH; length += length < 140 ? 1 : 13) {
            for (size_t at = start - 1; at <= start + length; at += 1 + length / 16)
                check_byte(kernel, data, start, length, at);
            check_byte(kernel, data, start, length, start + length);
            CHECK(kernel->is_zero(data + start, length));
        }
    }
    free(data);
}

/* A block, and a byte less or more, with one byte set at every place near its edges. */
static void check_block(const struct ntx_zero_kernel *kernel)
{
    static const size_t starts[] = {1, 2, 31, 32, 64};
    uint8_t *data = calloc(1, NTX_BLOCK_SIZE + ALIGNMENTS + 2);

    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        for (size_t length = NTX_BLOCK_SIZE - 1; length <= NTX_BLOCK_SIZE + 1; length++) {
            size_t end = starts[i] + length;
            for (size_t near = 0; near < NEAR_EDGE; near++)
                check_byte(kernel, data, starts[i], length, starts[i] - 1 + near);
            /* The end costs a whole block each time, and the scalar kernel, slow, has no edges of its own. */
            size_t step = kernel->is_zero == ntx_is_zero_scalar ? 29 : 1;
            for (size_t near = 0; near < NEAR_EDGE; near += step)
                check_byte(kernel, data, starts[i], length, end - near);
        }
    }
    free(data);
}

/* Memory that ends where the data ends: the address sanitizer sees a kernel that reads on. */
static void check_bounds(const struct ntx_zero_kernel *kernel)
{
    for (size_t length = 1; length < MAX_LENGTH; length++) {
        uint8_t *data = calloc(1, length);

        CHECK(kernel->is_zero(data, length));
        data[length - 1] = 1;
        CHECK(!kernel->is_zero(data, length));
        free(data);
    }
}

static void test_all_kernels_agree_with_scalar(void)
{
    size_t count, ran = 0;
    const struct ntx_zero_kernel *kernels = ntx_zero_kernels(&count);

    for (size_t i = 0; i < count; i++) {
        if (kernels[i].is_supported == NULL || kernels[i].is_supported()) {
            check_short(&kernels[i]);
            check_block(&kernels[i]);
            check_bounds(&kernels[i]);
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

static void test_the_chosen_kernel_is_the_first_that_is_supported(void)
{
    size_t count;
    const struct ntx_zero_kernel *kernel = ntx_zero_kernels(&count);

    while (kernel->is_supported != NULL && !kernel->is_supported())
        kernel++;

    CHECK_EQ_STR(ntx_zero_kernel()->name, kernel->name);
    CHECK(kernel->reason[0] != '\0');
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
    RUN(test_the_chosen_kernel_is_the_first_that_is_supported);
    RUN(test_nothing_is_zero);
    RUN(test_last_byte_of_a_block_counts);
    RUN(test_repeating_data_is_not_zero);
    RUN(test_shared_zeros_are_zero_and_page_aligned);
    return 0;
}
