/* test_about.c: what is said of the core is what it does. */
#include "check.h"
#include "digest.h"
#include "zero.h"

#include <dirent.h>

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");

    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void test_kernels_are_those_in_use(void)
{
    struct ntx_about about;

    ntx_about(&about);

    CHECK_EQ_STR(about.zero_kernel, ntx_zero_kernel()->name);
    CHECK_EQ_STR(about.digest_kernel, ntx_digest_kernel());
    CHECK(about.zero_reason[0] != '\0' && about.digest_reason[0] != '\0');
    CHECK(about.xxhash_version >= 800);
}

static void test_kernels_fit_the_processor(void)
{
    struct ntx_about about;

    ntx_about(&about);

    CHECK(about.has_avx2 || strcmp(about.zero_kernel, "avx2") != 0);
    CHECK(about.has_avx2 || strcmp(about.digest_kernel, "avx2") != 0);
    CHECK(about.has_avx512f || strcmp(about.digest_kernel, "avx512") != 0);
}

static void test_nothing_is_left_open(void)
{
    struct ntx_about about;
    unsigned before = open_descriptors();

    for (int i = 0; i < 10; i++)
        ntx_about(&about);

    CHECK_EQ_U64(open_descriptors(), before);
}

int main(void)
{
    RUN(test_kernels_are_those_in_use);
    RUN(test_kernels_fit_the_processor);
    RUN(test_nothing_is_left_open);
    return 0;
}
