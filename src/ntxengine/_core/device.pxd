cimport ntxengine._core.ntx as ntx

from libc.stdint cimport uint32_t


cdef int raise_error(const ntx.ntx_error *err) except -1


cdef class Device:
    cdef ntx.ntx_device *device
    cdef int borrowed  # jobs and calls in other threads that use it now
    cdef readonly bytes path  # of a file or block device, as it was opened; `name` is for messages and may be cut

    cdef const ntx.ntx_device_info *info(self) except NULL
    cdef bint has(self, uint32_t flag) except -1
