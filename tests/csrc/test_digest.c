/* test_digest.c: XXH3-128 in canonical form, the same from every kernel.  Known values are those of xxhsum -H2. */
#include "check.h"
#include "digest.h"

static void check_hex(const void *data, size_t length, const char *expected)
{
    uint8_t digest[NTX_DIGEST_SIZE];
    char hex[2 * NTX_DIGEST_SIZE + 1];

    ntx_digest(data, length, digest);
    for (size_t i = 0; i < NTX_DIGEST_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    CHECK_EQ_STR(hex, expected);
}

static void test_known_values(void)
{
    uint8_t *block = malloc(NTX_BLOCK_SIZE);
    for (size_t i = 0; i < NTX_BLOCK_SIZE; i++)
        block[i] = (uint8_t)(i % 251);

    check_hex("", 0, "99aa06d3014798d86001c324468d497f");
    check_hex("abc", 3, "06b05ab6733a618578af5f94892f3950");
    check_hex(block, NTX_BLOCK_SIZE, "f5e7bc5d3d8675bfaaae63800707a868");
    free(block);
}

static void test_zero_data_is_digested_like_any_other(void)
{
    uint8_t *block = calloc(1, NTX_BLOCK_SIZE);

    check_hex(block, NTX_BLOCK_SIZE, "fd5ee061c8433a0f33b202d302b65caa");
    free(block);
}

static void test_chosen_kernel_agrees_with_the_reference(void)
{
    uint8_t data[2048], digest[NTX_DIGEST_SIZE], expected[NTX_DIGEST_SIZE];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 131 + i / 256);

    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; length <= sizeof data - start; length += length < 260 ? 1 : 37) {
            ntx_digest(data + start, length, digest);
            ntx_digest_reference(data + start, length, expected);
            CHECK_EQ_MEM(digest, expected, NTX_DIGEST_SIZE);
        }
    }
}

static void test_kernel_has_a_name_of_the_contract(void)
{
    static const char *const names[] = {"scalar", "sse2", "avx2", "avx512", "build default"};
    const char *kernel = ntx_digest_kernel();
    unsigned known = 0;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        known += strcmp(kernel, names[i]) == 0;

    CHECK_EQ_U64(known, 1);
}

int main(void)
{
    RUN(test_known_values);
    RUN(test_zero_data_is_digested_like_any_other);
    RUN(test_chosen_kernel_agrees_with_the_reference);
    RUN(test_kernel_has_a_name_of_the_contract);
    return 0;
}
