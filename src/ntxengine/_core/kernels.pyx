# cython: boundscheck=False, wraparound=False
"""Functions of bytes and of this machine, without a device."""

from libc.stdint cimport uint8_t
from libc.string cimport memset

cimport ntxengine._core.ntx as ntx
from ntxengine._core.ntx cimport extent_row

import numpy as np

EXTENT = np.dtype([("offset", "<u8"), ("length", "<u8"), ("flags", "<u8")])
MAPPED_EXTENT = np.dtype([("offset", "<u8"), ("length", "<u8"), ("place", "<u8"), ("file", "<u4"), ("flags", "<u4")])
EXTENT_ZERO = ntx.NTX_EXTENT_ZERO
EXTENT_ABSENT = ntx.NTX_EXTENT_ABSENT


def is_zero(const uint8_t[::1] data not None):
    """Tell whether every byte of `data` is zero."""
    cdef size_t length = data.shape[0]
    cdef bint result = True
    if length > 0:
        with nogil:
            result = ntx.ntx_is_zero(&data[0], length)
    return result


def digest(const uint8_t[::1] data not None):
    """Return the block digest of `data`: 16 bytes, all zero if the data is."""
    cdef uint8_t out[16]
    cdef size_t length = data.shape[0]
    memset(out, 0, 16)
    if length > 0:
        with nogil:
            if not ntx.ntx_is_zero(&data[0], length):
                ntx.ntx_digest(&data[0], length, out)
    return bytes(out[:16])


def digest_kernel():
    """Return the name of the digest kernel that fits this CPU."""
    return ntx.ntx_digest_kernel().decode()


def extents_from_json(const uint8_t[::1] json not None, *, bytes kind_key not None, bytes zero_kind not None,
                      size_t capacity):
    """Return (extents, where they end) of the array that `json` begins with; None if it is not plain enough for that."""
    extents = np.empty(capacity, dtype=EXTENT)
    if json.shape[0] == 0 or capacity == 0:
        return None
    cdef extent_row[::1] rows = extents
    cdef const char *text = <const char *>&json[0]
    cdef const char *key = kind_key
    cdef const char *zero = zero_kind
    cdef size_t size = json.shape[0], count = 0, end = 0
    cdef bint is_plain
    with nogil:
        is_plain = ntx.ntx_extents_from_json(text, size, key, zero, <ntx.ntx_extent *>&rows[0], capacity, &count,
                                             &end)
    return (extents[:count], end) if is_plain else None


def about():
    """Return what the core found on this machine and chose, as a dict of struct ntx_about."""
    cdef ntx.ntx_about about
    with nogil:
        ntx.ntx_get_about(&about)
    return {
        "zero_kernel": about.zero_kernel.decode(),
        "zero_reason": about.zero_reason.decode(),
        "digest_kernel": about.digest_kernel.decode(),
        "digest_reason": about.digest_reason.decode(),
        "xxhash_version": about.xxhash_version,
        "has_sse2": bool(about.has_sse2),
        "has_avx2": bool(about.has_avx2),
        "has_avx512f": bool(about.has_avx512f),
        "can_send_by_reference": bool(about.can_send_by_reference),
        "can_read_in_flight": bool(about.can_read_in_flight),
    }
