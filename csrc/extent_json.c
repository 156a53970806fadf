/*
 * extent_json.c: extents from the plain kind of JSON, which is what millions of them come as.
 *
 *   [ {"offset": 0, "length": 512, "type": "zero", "any other": "value"}, ... ]
 *
 * Nothing is judged here.  A text that is not plain is refused as a whole, and then a real parser says what it means
 * or what is wrong with it; so whatever is accepted here must mean the same there.
 */
#include "ntx.h"

#include <endian.h>
#include <string.h>

#define MAX_DIGITS 19 /* always fits into 64 bits */

/* What is left to read. */
struct text {
    const char *at, *end;
};

/* A string between its quotes, in text. */
struct string {
    const char *at;
    size_t length;
};

/* The words that mean something; made once, because their lengths are asked for at every object. */
struct words {
    struct string offset, length, kind, zero;
};

static struct string word(const char *text)
{
    return (struct string){.at = text, .length = strlen(text)};
}

static bool is_equal(const struct string *a, const struct string *b)
{
    return a->length == b->length && memcmp(a->at, b->at, a->length) == 0;
}

/* The next byte that is no white space, 0 at the end. */
static char peek(struct text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
    return text->at < text->end ? *text->at : 0;
}

static bool take(struct text *text, char wanted)
{
    if (peek(text) != wanted)
        return false;
    text->at++;
    return true;
}

static bool take_literal(struct text *text, const char *literal)
{
    size_t length = strlen(literal);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, literal, length) != 0)
        return false;
    text->at += length;
    return true;
}

/* For each byte of eight: its top bit is set if the byte is 0.  Behind the first one (from the low end) it may lie. */
static uint64_t zero_bytes(uint64_t eight)
{
    return (eight - 0x0101010101010101u) & ~eight;
}

/* How many bytes belong to a string for sure: up to its end, or to what a plain string does not have. */
static size_t count_plain(const char *at, const char *end)
{
    const char *from = at;
    for (; end - at >= 8; at += 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        eight = le64toh(eight);
        uint64_t special = zero_bytes(eight ^ 0x2222222222222222u)   /* " */
                           | zero_bytes(eight ^ 0x5c5c5c5c5c5c5c5cu) /* \ */
                           | (eight - 0x2020202020202020u)           /* below a space, or not ASCII; or neither */
                           | eight;
        special &= 0x8080808080808080u;
        if (special != 0)
            return (size_t)(at - from) + (size_t)__builtin_ctzll(special) / 8;
    }
    while (at < end && *at >= ' ' && *at <= '~' && *at != '"' && *at != '\\')
        at++;
    return (size_t)(at - from);
}

/* ASCII without escapes. */
static bool take_string(struct text *text, struct string *string)
{
    if (!take(text, '"'))
        return false;
    string->at = text->at;
    string->length = count_plain(text->at, text->end);
    text->at += string->length;
    if (text->at == text->end || *text->at != '"')
        return false;
    text->at++;
    return true;
}

/* A whole number, not negative.  What follows it is the next one's business, so a fraction fails there. */
static bool take_number(struct text *text, uint64_t *value)
{
    char first = peek(text);
    unsigned digits = 0;
    *value = 0;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9') {
        if (++digits > MAX_DIGITS)
            return false;
        *value = *value * 10 + (uint64_t)(*text->at++ - '0');
    }
    return digits == 1 || (digits > 1 && first != '0');
}

static bool skip_value(struct text *text)
{
    struct string string;
    uint64_t number;
    switch (peek(text)) {
    case '"':
        return take_string(text, &string);
    case 'n':
        return take_literal(text, "null");
    case 't':
        return take_literal(text, "true");
    case 'f':
        return take_literal(text, "false");
    default:
        return take_number(text, &number);
    }
}

/* A key that comes twice counts the second time, as in every parser. */
static bool take_object(struct text *text, const struct words *words, struct ntx_extent *extent)
{
    bool has_offset = false, has_length = false;
    struct string key, kind;
    extent->flags = 0;
    if (!take(text, '{'))
        return false;
    do {
        if (!take_string(text, &key) || !take(text, ':'))
            return false;
        bool fits;
        if (is_equal(&key, &words->offset)) {
            fits = has_offset = take_number(text, &extent->offset);
        } else if (is_equal(&key, &words->length)) {
            fits = has_length = take_number(text, &extent->length);
        } else if (is_equal(&key, &words->kind) && peek(text) != 'n') {
            fits = take_string(text, &kind);
            extent->flags = fits && is_equal(&kind, &words->zero) ? NTX_EXTENT_ZERO : 0;
        } else if (is_equal(&key, &words->kind)) {
            fits = take_literal(text, "null");
            extent->flags = 0;
        } else {
            fits = skip_value(text);
        }
        if (!fits)
            return false;
    } while (take(text, ','));
    return take(text, '}') && has_offset && has_length;
}

bool ntx_extents_from_json(const char *json, size_t size, const char *kind_key, const char *zero_kind,
                           struct ntx_extent *extents, size_t capacity, size_t *count, size_t *end)
{
    struct text text = {.at = json, .end = json + size};
    const struct words words = {word("offset"), word("length"), word(kind_key), word(zero_kind)};
    *count = 0;
    if (!take(&text, '['))
        return false;
    if (!take(&text, ']')) {
        do {
            if (*count == capacity || !take_object(&text, &words, &extents[*count]))
                return false;
            ++*count;
        } while (take(&text, ','));
        if (!take(&text, ']'))
            return false;
    }
    *end = (size_t)(text.at - json);
    return true;
}
