/* test_extent_json.c: what is plain is read, what is not is refused, and no byte behind the text is looked at. */
#include "check.h"
#include "ntx.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY 4

/* Read a copy that has nothing behind it, so that the sanitizers see a byte too far. */
static bool read_text(const char *text, size_t size, struct ntx_extent *extents, size_t *count)
{
    char *copy = malloc(size > 0 ? size : 1);
    CHECK(copy != NULL);
    memcpy(copy, text, size);
    size_t end = 0;
    bool is_plain = ntx_extents_from_json(copy, size, "type", "zero", extents, CAPACITY, count, &end);
    CHECK(end <= size && (is_plain ? copy[end - 1] == ']' : end == 0));
    free(copy);
    return is_plain;
}

static void check_refused(const char *text)
{
    struct ntx_extent extents[CAPACITY];
    size_t count;
    CHECK(!read_text(text, strlen(text), extents, &count));
}

static const char plain[] = " [ {\"offset\":0,\"length\":512,\"type\":\"zero\"},\n"
                            "{\"length\" : 9223372036854775807, \"offset\":10, \"kind of\": \"a long name, "
                            "here\"},{\"type\":null,\"a\":true,\"b\":false,\"c\":null,\"d\":7,\"offset\":1,"
                            "\"length\":2,\"length\":3},{\"offset\":4,\"length\":5,\"type\":\"zeros\"}]";

static void test_plain_objects_are_read(void)
{
    struct ntx_extent extents[CAPACITY];
    size_t count;
    CHECK(read_text(plain, strlen(plain), extents, &count));

    const struct ntx_extent expected[] = {{0, 512, NTX_EXTENT_ZERO}, {10, INT64_MAX, 0}, {1, 3, 0}, {4, 5, 0}};
    CHECK_EQ_U64(count, 4);
    CHECK(memcmp(extents, expected, sizeof expected) == 0);

    CHECK(read_text("[]", 2, extents, &count));
    CHECK_EQ_U64(count, 0);
}

static void test_no_part_of_a_text_is_taken_for_all_of_it(void)
{
    struct ntx_extent extents[CAPACITY];
    size_t count;
    for (size_t size = 0; size < strlen(plain); size++)
        CHECK(!read_text(plain, size, extents, &count));
}

static void test_what_is_not_plain_is_refused(void)
{
    static const char *const texts[] = {
        "",
        "null",
        "{}",
        "[{}]",
        "[1]",
        "[,]",
        "[{\"offset\":1,\"length\":2},]",
        "[{\"offset\":1,\"length\":2,}]",
        "[{\"offset\":1}]",
        "[{\"length\":1}]",
        "[{\"offset\":-1,\"length\":2}]",
        "[{\"offset\":1.5,\"length\":2}]",
        "[{\"offset\":1e5,\"length\":2}]",
        "[{\"offset\":01,\"length\":2}]",
        "[{\"offset\":\"1\",\"length\":2}]",
        "[{\"offset\":null,\"length\":2}]",
        "[{\"offset\":10000000000000000000,\"length\":2}]",
        "[{\"offset\":1,\"length\":2,\"type\":1}]",
        "[{\"offset\":1,\"length\":2,\"a\":[]}]",
        "[{\"offset\":1,\"length\":2,\"a\":{}}]",
        "[{\"offset\":1,\"length\":2,\"a\":nul}]",
        "[{\"offset\":1,\"length\":2,\"a\":\"\\u0041\"}]",
        "[{\"offset\":1,\"length\":2,\"a long name\\\" of a key\":1}]",
        "[{\"offset\":1,\"length\":2,\"a\":\"caf\xc3\xa9\"}]",
        "[{\"offset\":1,\"length\":2,\"a\":\"\x01 and more text\"}]",
        "[{\"offset\":1,\"length\":2,\"a\":\"no end}]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        check_refused(texts[i]);
}

static void test_more_than_there_is_room_for_is_refused(void)
{
    check_refused("[{\"offset\":1,\"length\":1},{\"offset\":1,\"length\":1},{\"offset\":1,\"length\":1},"
                  "{\"offset\":1,\"length\":1},{\"offset\":1,\"length\":1}]");
}

int main(void)
{
    RUN(test_plain_objects_are_read);
    RUN(test_no_part_of_a_text_is_taken_for_all_of_it);
    RUN(test_what_is_not_plain_is_refused);
    RUN(test_more_than_there_is_room_for_is_refused);
    return 0;
}
