/* qcow2_window.c: see qcow2_window.h. */
#include "qcow2_window.h"

#include "bytes.h"
#include "file_io.h"

#include <errno.h>
#include <stdlib.h>

#define KEPT 4u /* windows: a job reads one after another, and asks for the map before */

_Static_assert(NTX_QCOW2_MAX_IMAGES <= UINT16_MAX, "the number of an image has 16 bits");

struct window {
    uint64_t number;              /* of the 512 MiB; NONE: nothing is known */
    unsigned lost;                /* nobody knows what its first clusters without an entry are, so many */
    struct ntx_qcow2_fault fault; /* why: a table could not be read */
    uint64_t entries[NTX_QCOW2_ENTRIES];
    uint16_t images[NTX_QCOW2_ENTRIES];
};

#define NONE UINT64_MAX

struct ntx_qcow2_windows {
    const struct ntx_qcow2_chain *chain;
    struct window *kept[KEPT]; /* by number % KEPT; NULL: not needed yet */
    uint64_t made;
    uint8_t table[NTX_QCOW2_CLUSTER];
};

size_t ntx_qcow2_windows_bytes(void)
{
    return sizeof(struct ntx_qcow2_windows) + KEPT * sizeof(struct window);
}

struct ntx_qcow2_windows *ntx_qcow2_windows_new(const struct ntx_qcow2_chain *chain)
{
    struct ntx_qcow2_windows *windows = calloc(1, sizeof *windows);

    if (windows != NULL)
        windows->chain = chain;
    return windows;
}

void ntx_qcow2_windows_free(struct ntx_qcow2_windows *windows)
{
    for (unsigned i = 0; windows != NULL && i < KEPT; i++)
        free(windows->kept[i]);
    free(windows);
}

uint64_t ntx_qcow2_windows_made(const struct ntx_qcow2_windows *windows)
{
    return windows->made;
}

/* ------------------------------------------------------------------------------------------ making windows */

static int fail(struct ntx_qcow2_fault *fault, size_t image, uint64_t place, int code, const char *what)
{
    *fault = (struct ntx_qcow2_fault){.image = image, .place = place, .code = code, .what = what};
    return code;
}

/* Whether no image has an L2 table for the window: then all of it is zero. */
static bool is_absent(const struct ntx_qcow2_chain *chain, uint64_t number)
{
    for (size_t i = 0; i < chain->count; i++) {
        const struct ntx_qcow2_layer *image = &chain->images[i];

        if (number >= image->entries) /* and so it is for all below */
            return true;
        if (image->l1[number] != 0)
            return false;
    }
    return true;
}

/* Read the L2 table of an image that has one. */
static int read_table(struct ntx_qcow2_windows *windows, size_t image, uint64_t number, struct ntx_qcow2_fault *fault)
{
    const struct ntx_qcow2_layer *layer = &windows->chain->images[image];
    const char *what = ntx_qcow2_l1_fault(layer->l1[number], layer->file_size);
    uint64_t place = layer->l1[number] & NTX_QCOW2_OFFSET;

    if (what != NULL)
        return fail(fault, image, place, -EUCLEAN, what);
    int code = ntx_read_at(layer->fd, windows->table, NTX_QCOW2_CLUSTER, &place);
    return code == 0 ? 0 : fail(fault, image, place, code, NULL);
}

/* Add what the table of an image says of the first clusters of the window where nothing is known yet; returns how many
 * it were. */
static unsigned add_table(struct window *window, const uint8_t *table, size_t image, unsigned clusters)
{
    unsigned added = 0;

    for (unsigned i = 0; i < clusters; i++) {
        uint64_t entry;

        if (window->entries[i] != 0)
            continue;
        memcpy(&entry, table + i * sizeof entry, sizeof entry);
        if (entry == 0)
            continue;
        window->entries[i] = be64toh(entry);
        window->images[i] = (uint16_t)image;
        added++;
    }
    return added;
}

/* What a table that cannot be read hides is lost: also what images below hold, but not what those above show. */
static void fill(struct ntx_qcow2_windows *windows, struct window *window, uint64_t number)
{
    const struct ntx_qcow2_chain *chain = windows->chain;
    unsigned unknown = NTX_QCOW2_ENTRIES;

    windows->made++;
    window->number = number;
    window->lost = 0;
    memset(window->entries, 0, sizeof window->entries);
    for (size_t i = 0; i < chain->count && unknown > 0 && window->lost == 0; i++) {
        const struct ntx_qcow2_layer *image = &chain->images[i];
        uint64_t clusters = ntx_qcow2_clusters(image->shown);
        unsigned shown =
            (unsigned)ntx_min64(clusters - ntx_min64(clusters, number * NTX_QCOW2_ENTRIES), NTX_QCOW2_ENTRIES);

        if (number >= image->entries)
            break;
        if (image->l1[number] == 0)
            continue;
        if (read_table(windows, i, number, &window->fault) == 0)
            unknown -= add_table(window, windows->table, i, shown);
        else
            window->lost = shown;
    }
}

static struct window *kept_window(const struct ntx_qcow2_windows *windows, uint64_t number)
{
    struct window *window = windows->kept[number % KEPT];

    return window != NULL && window->number == number ? window : NULL;
}

static int make_window(struct ntx_qcow2_windows *windows, uint64_t number, struct window **made,
                       struct ntx_qcow2_fault *fault)
{
    struct window **kept = &windows->kept[number % KEPT];

    if (*kept == NULL)
        *kept = malloc(sizeof **kept);
    if (*kept == NULL)
        return fail(fault, 0, 0, -ENOMEM, NULL);
    fill(windows, *kept, number);
    *made = *kept;
    return 0;
}

/* -------------------------------------------------------------------------------------------------- runs */

static bool is_lost(const struct window *window, unsigned cluster)
{
    return window->entries[cluster] == 0 && cluster < window->lost;
}

/* What is at offset, up to the end of its cluster. */
static int find_in_cluster(const struct ntx_qcow2_chain *chain, const struct window *window, uint64_t offset,
                           struct ntx_qcow2_run *run, struct ntx_qcow2_fault *fault)
{
    unsigned i = (unsigned)(offset / NTX_QCOW2_CLUSTER % NTX_QCOW2_ENTRIES);
    uint64_t within = offset % NTX_QCOW2_CLUSTER;
    const struct ntx_qcow2_layer *image;
    struct ntx_qcow2_place place;

    *run = (struct ntx_qcow2_run){.kind = NTX_QCOW2_IS_ZERO, .length = NTX_QCOW2_CLUSTER - within};
    if (is_lost(window, i)) {
        *fault = window->fault;
        return fault->code;
    }
    run->is_absent = window->entries[i] == 0;
    if (run->is_absent)
        return 0;
    image = &chain->images[window->images[i]];
    const char *what = ntx_qcow2_get_place(window->entries[i], image->file_size, &place);
    if (what != NULL)
        return fail(fault, window->images[i], place.offset, -EUCLEAN, what);
    if (place.kind == NTX_QCOW2_IS_ZERO || offset >= image->shown)
        return 0;
    run->image = window->images[i];
    run->length = ntx_min64(run->length, image->shown - offset);
    run->place = place.offset;
    if (place.kind == NTX_QCOW2_IS_PACKED) {
        run->packed_length = place.length;
    } else {
        run->place += within;
        if (run->place >= image->file_size) /* the file ends within the cluster */
            return 0;
        run->length = ntx_min64(run->length, image->file_size - run->place);
    }
    run->kind = place.kind;
    return 0;
}

static bool continues(const struct ntx_qcow2_run *run, const struct ntx_qcow2_run *next)
{
    if (run->kind != next->kind || run->is_absent != next->is_absent || run->kind == NTX_QCOW2_IS_PACKED)
        return false;
    return run->kind == NTX_QCOW2_IS_ZERO || (run->image == next->image && run->place + run->length == next->place);
}

/* The end of the windows from this one on that no image has a table for. */
static uint64_t absent_end(const struct ntx_qcow2_chain *chain, uint64_t number, uint64_t limit)
{
    do {
        number++;
    } while (number * NTX_QCOW2_L2_BYTES < limit && is_absent(chain, number));
    return number * NTX_QCOW2_L2_BYTES;
}

int ntx_qcow2_find(struct ntx_qcow2_windows *windows, uint64_t offset, uint64_t limit, struct ntx_qcow2_run *run,
                   struct ntx_qcow2_fault *fault)
{
    const struct ntx_qcow2_chain *chain = windows->chain;
    uint64_t number = offset / NTX_QCOW2_L2_BYTES, end = (number + 1) * NTX_QCOW2_L2_BYTES;
    struct window *window = kept_window(windows, number);
    struct ntx_qcow2_run next;
    struct ntx_qcow2_fault later;
    int code = 0;

    if (window == NULL && is_absent(chain, number)) {
        *run = (struct ntx_qcow2_run){.kind = NTX_QCOW2_IS_ZERO,
                                      .is_absent = true,
                                      .length = ntx_min64(absent_end(chain, number, limit), limit) - offset};
        return 0;
    }
    if (window == NULL)
        code = make_window(windows, number, &window, fault);
    if (code == 0)
        code = find_in_cluster(chain, window, offset, run, fault);
    if (code != 0) {
        if (window != NULL && is_lost(window, (unsigned)(offset / NTX_QCOW2_CLUSTER % NTX_QCOW2_ENTRIES)))
            window->number = NONE; /* the next one tries to read the table again */
        return code;
    }
    end = ntx_min64(end, limit);
    while (offset + run->length < end && find_in_cluster(chain, window, offset + run->length, &next, &later) == 0 &&
           continues(run, &next))
        run->length += next.length;
    run->length = ntx_min64(run->length, end - offset);
    return 0;
}

uint64_t ntx_qcow2_packed_end(struct ntx_qcow2_windows *windows, const struct ntx_qcow2_run *run, uint64_t offset,
                              uint64_t limit, uint64_t most)
{
    struct window *window = kept_window(windows, offset / NTX_QCOW2_L2_BYTES);
    uint64_t end = run->place + run->packed_length;
    uint64_t last = ntx_min64(limit, (offset / NTX_QCOW2_L2_BYTES + 1) * NTX_QCOW2_L2_BYTES);
    struct ntx_qcow2_run next;
    struct ntx_qcow2_fault fault;

    if (window == NULL)
        return end;
    for (uint64_t at = offset + run->length; at < last; at += next.length) {
        if (find_in_cluster(windows->chain, window, at, &next, &fault) != 0 || next.kind != NTX_QCOW2_IS_PACKED ||
            next.image != run->image || next.place < run->place || next.place > end)
            break;
        uint64_t further = ntx_max64(end, next.place + next.packed_length);
        if (further - run->place > most)
            break;
        end = further;
    }
    return end;
}
