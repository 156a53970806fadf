/*
 * check.h: assertions for the C tests.  A test is a main() that calls RUN() for each function named after the fact
 * it proves; the first check that does not hold prints its place and ends the process with 1.  77 means skipped.
 * Files are made in the current directory: the runner gives each test an empty one.
 */
#ifndef NTX_CHECK_H
#define NTX_CHECK_H

#include "ntx.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_SKIPPED 77

/*
 * For loops over whole disks that belong to the test alone: the thread sanitizer looks at every access otherwise, which
 * took most of the time of some tests.  memcpy() and memcmp() are looked at wherever they are called from.
 */
#define CHECK_UNWATCHED __attribute__((no_sanitize("thread")))

#define CHECK_FAIL(...)                                                                                                \
    do {                                                                                                               \
        fprintf(stderr, "%s:%d: in %s: ", __FILE__, __LINE__, __func__);                                               \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
        exit(1);                                                                                                       \
    } while (0)

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            CHECK_FAIL("does not hold: %s", #condition);                                                               \
    } while (0)

#define CHECK_EQ_U64(actual, expected)                                                                                 \
    do {                                                                                                               \
        uint64_t check_actual = (actual), check_expected = (expected);                                                 \
        if (check_actual != check_expected)                                                                            \
            CHECK_FAIL("%s is %" PRIu64 ", not %" PRIu64, #actual, check_actual, check_expected);                      \
    } while (0)

#define CHECK_EQ_INT(actual, expected)                                                                                 \
    do {                                                                                                               \
        int64_t check_actual = (actual), check_expected = (expected);                                                  \
        if (check_actual != check_expected)                                                                            \
            CHECK_FAIL("%s is %" PRId64 ", not %" PRId64, #actual, check_actual, check_expected);                      \
    } while (0)

#define CHECK_EQ_STR(actual, expected)                                                                                 \
    do {                                                                                                               \
        const char *check_actual = (actual), *check_expected = (expected);                                             \
        if (strcmp(check_actual, check_expected) != 0)                                                                 \
            CHECK_FAIL("%s is \"%s\", not \"%s\"", #actual, check_actual, check_expected);                             \
    } while (0)

#define CHECK_CONTAINS(text, part)                                                                                     \
    do {                                                                                                               \
        const char *check_text = (text), *check_part = (part);                                                         \
        if (strstr(check_text, check_part) == NULL)                                                                    \
            CHECK_FAIL("%s is \"%s\", without \"%s\"", #text, check_text, check_part);                                 \
    } while (0)

#define CHECK_EQ_MEM(actual, expected, length)                                                                         \
    do {                                                                                                               \
        const unsigned char *check_actual = (const void *)(actual), *check_expected = (const void *)(expected);        \
        size_t check_length = memcmp(check_actual, check_expected, length) == 0 ? 0 : (length);                        \
        for (size_t check_i = 0; check_i < check_length; check_i++)                                                    \
            if (check_actual[check_i] != check_expected[check_i])                                                      \
                CHECK_FAIL("%s differs from %s at byte %zu: %02x, not %02x", #actual, #expected, check_i,              \
                           check_actual[check_i], check_expected[check_i]);                                            \
    } while (0)

/* A call that takes &error, whose text explains a failure. */
#define CHECK_OK(call, error)                                                                                          \
    do {                                                                                                               \
        int check_result = (call);                                                                                     \
        if (check_result != 0)                                                                                         \
            CHECK_FAIL("%s gave %d: %s", #call, check_result, (error).text);                                           \
    } while (0)

/* The machine cannot run this test.  The reason becomes that of the skip. */
#define SKIP(...)                                                                                                      \
    do {                                                                                                               \
        printf("SKIPPED: ");                                                                                           \
        printf(__VA_ARGS__);                                                                                           \
        printf("\n");                                                                                                  \
        exit(CHECK_SKIPPED);                                                                                           \
    } while (0)

#define RUN(function)                                                                                                  \
    do {                                                                                                               \
        fprintf(stderr, "%s\n", #function);                                                                            \
        function();                                                                                                    \
    } while (0)

#endif
