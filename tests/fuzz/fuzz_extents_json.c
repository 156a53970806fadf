/* fuzz_extents_json.c: what a file of extents may hold.  The first byte is how many extents there is room for. */
#include "fuzz_stream.h"
#include "ntx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ntx_extent *extents;
    size_t capacity, count, end;

    if (size == 0)
        return 0;
    capacity = data[0];
    extents = malloc(capacity * sizeof *extents + 1);
    char *json = malloc(size); /* of its own, so that a read past its end is found */
    memcpy(json, data + 1, size - 1);
    bool is_plain = ntx_extents_from_json(json, size - 1, "type", "zero", extents, capacity, &count, &end);
    MUST(count <= capacity);
    if (is_plain) {
        MUST(end <= size - 1 && end > 1 && json[end - 1] == ']');
        for (size_t i = 0; i < count; i++)
            MUST(extents[i].flags == 0 || extents[i].flags == NTX_EXTENT_ZERO);
    }
    free(json);
    free(extents);
    return 0;
}
