/*
 * zero.c: is a vector kernel of our own worth a row in csrc/zero.c?  Has the kernels of the core, and two that are
 * not in it: "or", what a compiler makes of the plain loop, and "avx512".
 *
 *   gcc -std=gnu11 -O3 -pthread bench/reference/zero.c csrc/zero.c -o zero
 *   zero [rounds]   -> one line of JSON: GB/s of each kernel on all-zero blocks, and its ratio to memcmp
 *
 * Only all-zero blocks are timed: another one is left within its first bytes by every kernel.  "hot" is one block
 * looked at again and again, "read" is a block that pread() has just filled, as the engine looks at it, "cold" is
 * memory that no cache holds.  The kernels take turns within each round; a ratio is the median of those of a round.
 */
#define _GNU_SOURCE
#include "../../csrc/zero.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_X86 1
#endif

#define COLD_SIZE (256u << 20)
#define MAX_ROUNDS 999u

typedef bool (*is_zero_fn)(const void *data, size_t length);

/* No instructions beyond the base of the architecture; the compiler may use its vectors. */
static bool is_zero_or(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    size_t at = 0;

    for (; at + 256 <= length; at += 256) {
        uint64_t words[32], any = 0;

        memcpy(words, bytes + at, sizeof words);
        for (int i = 0; i < 32; i++)
            any |= words[i];
        if (any != 0)
            return false;
    }
    return ntx_is_zero_scalar(bytes + at, length - at);
}

#ifdef HAS_X86

__attribute__((target("avx512f"))) static bool is_zero_avx512(const void *data, size_t length)
{
    const uint8_t *bytes = data;
    size_t at = 0;

    for (; at + 256 <= length; at += 256) {
        __m512i a = _mm512_loadu_si512(bytes + at) | _mm512_loadu_si512(bytes + at + 64);
        __m512i b = _mm512_loadu_si512(bytes + at + 128) | _mm512_loadu_si512(bytes + at + 192);
        __m512i any = a | b;

        if (_mm512_test_epi64_mask(any, any) != 0)
            return false;
    }
    return ntx_is_zero_scalar(bytes + at, length - at);
}

#endif

struct kernel {
    const char *name;
    is_zero_fn is_zero;
    double seconds[MAX_ROUNDS], ratio[MAX_ROUNDS];
};

#define MAX_KERNELS 8u

static struct kernel kernels[MAX_KERNELS]; /* memcmp is the first */
static unsigned kernel_count;

static void add(const char *name, is_zero_fn is_zero)
{
    if (kernel_count == MAX_KERNELS)
        return;
    kernels[kernel_count].name = name;
    kernels[kernel_count++].is_zero = is_zero;
}

/* Those of the core that run here: memcmp, then the others, but for the scalar one, which nobody would take. */
static void add_kernels(void)
{
    size_t count;
    const struct ntx_zero_kernel *table = ntx_zero_kernels(&count);

    for (int others = 0; others < 2; others++)
        for (size_t i = 0; i < count - 1; i++)
            if ((strcmp(table[i].name, "memcmp") != 0) == others &&
                (table[i].is_supported == NULL || table[i].is_supported()))
                add(table[i].name, table[i].is_zero);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

static void check(bool is_zero)
{
    if (!is_zero) {
        fputs("zero: a kernel is wrong\n", stderr);
        exit(1);
    }
}

/* How a stretch of zeros is looked at: seconds for `bytes` of it. */
struct place {
    const char *name;
    size_t block, bytes, stride; /* stride 0: the same block each time */
    int file;                    /* >= 0: read into the block first, and that is timed too */
};

static double look(const struct place *place, is_zero_fn is_zero, uint8_t *memory)
{
    double began = now_s();

    for (size_t done = 0, at = 0; done < place->bytes; done += place->block, at += place->stride) {
        if (place->file >= 0 && pread(place->file, memory, place->block, (off_t)done) != (ssize_t)place->block)
            die("pread");
        check(is_zero(memory + at, place->block));
    }
    return now_s() - began;
}

static void report(const struct place *place, unsigned rounds, uint8_t *memory)
{
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned k = 0; k < kernel_count; k++) {
            struct kernel *kernel = &kernels[(k + round) % kernel_count];
            kernel->seconds[round] = look(place, kernel->is_zero, memory);
        }
        for (unsigned k = 0; k < kernel_count; k++)
            kernels[k].ratio[round] = kernels[0].seconds[round] / kernels[k].seconds[round];
    }
    printf("\"%s\": {", place->name);
    for (unsigned k = 0; k < kernel_count; k++)
        printf("%s\"%s\": {\"gb_per_s\": %.2f, \"times_memcmp\": %.3f}", k > 0 ? ", " : "", kernels[k].name,
               (double)place->bytes / median(kernels[k].seconds, rounds) / 1e9, median(kernels[k].ratio, rounds));
    printf("}");
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 31;
    int file = memfd_create("zeros", 0);
    uint8_t *memory = mmap(NULL, COLD_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct place places[] = {
        {"hot 4 KiB", 4 << 10, 64 << 20, 0, -1},
        {"hot 16 KiB", 16 << 10, 64 << 20, 0, -1},
        {"hot 64 KiB", 64 << 10, 64 << 20, 0, -1},
        {"read 64 KiB", 64 << 10, 64 << 20, 0, file},
        {"cold 64 KiB", 64 << 10, COLD_SIZE, 64 << 10, -1},
    };

    if (rounds == 0 || rounds > MAX_ROUNDS || file < 0 || memory == MAP_FAILED)
        die("zero");
    memset(memory, 1, COLD_SIZE); /* or every page would be the one shared page of zeros */
    memset(memory, 0, COLD_SIZE);
    for (size_t at = 0; at < 64 << 20; at += 1 << 20)
        if (write(file, memory, 1 << 20) != 1 << 20)
            die("write");
    add_kernels();
    add("or", is_zero_or);
#ifdef HAS_X86
    if (__builtin_cpu_supports("avx512f"))
        add("avx512", is_zero_avx512);
#endif
    printf("{\"rounds\": %u", rounds);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        printf(", ");
        report(&places[i], rounds, memory);
    }
    printf("}\n");
    return 0;
}
