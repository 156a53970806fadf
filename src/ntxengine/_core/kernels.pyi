from typing import TypedDict, type_check_only

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

EXTENT_ZERO: int
EXTENT_ABSENT: int
EXTENT: np.dtype[np.void]
MAPPED_EXTENT: np.dtype[np.void]

@type_check_only
class _About(TypedDict):
    zero_kernel: str
    zero_reason: str
    digest_kernel: str
    digest_reason: str
    xxhash_version: int
    has_sse2: bool
    has_avx2: bool
    has_avx512f: bool
    can_send_by_reference: bool
    can_read_in_flight: bool

def about() -> _About: ...
def is_zero(data: Buffer) -> bool: ...
def digest(data: Buffer) -> bytes: ...
def digest_kernel() -> str: ...
def extents_from_json(
    json: Buffer, *, kind_key: bytes, zero_kind: bytes, capacity: int
) -> tuple[NDArray[np.void], int] | None: ...
