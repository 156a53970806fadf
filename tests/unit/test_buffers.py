"""Copies that run at once share memory, and each can still work."""

from __future__ import annotations

import pytest

from ntxengine.dataplane.buffers import TOTAL_BUFFER_BYTES, split_buffers
from ntxengine.dataplane.copy import CopyOptions
from ntxengine.units import BLOCK_SIZE, MIB


@pytest.mark.parametrize("copies", [0, 1, 4, 8])
def test_a_few_copies_keep_their_options(copies: int) -> None:
    assert split_buffers(CopyOptions(), copies) == CopyOptions()


@pytest.mark.parametrize("copies", [9, 64, 1000, 4096])
@pytest.mark.parametrize("request_size", [BLOCK_SIZE, MIB, 32 * MIB])
def test_many_copies_stay_within_the_total(copies: int, request_size: int) -> None:
    one = split_buffers(CopyOptions(request_size=request_size), copies)

    assert copies * max(one.max_buffer_bytes, one.begin.request_size) <= TOTAL_BUFFER_BYTES


def test_the_smallest_request_is_a_block() -> None:
    assert split_buffers(CopyOptions(), 10**6).request_size == BLOCK_SIZE


def test_less_than_a_share_stays_less() -> None:
    assert split_buffers(CopyOptions(max_buffer_bytes=MIB), 64).max_buffer_bytes == MIB
