"""The layers of C, as one table: what each unit of csrc/ may include, and nothing else."""

NTX = {"ntx"}
C_LAYERS = {
    # headers that others stand on
    "ntx": set(),
    "bytes": set(),
    "error": NTX,
    "extent": NTX | {"bytes", "error"},
    # kernels and tools
    "zero": NTX,
    "digest": NTX,
    "buffer": NTX | {"bytes"},
    "clock": set(),
    "limiter": NTX | {"bytes", "clock", "error"},
    "event": NTX,
    "stop": {"event"},
    # what a connection speaks through
    "stream": {"clock"},
    "stream_pages": NTX,
    "stream_plain": {"stream", "stream_pages"},
    "stream_connect": NTX | {"clock", "error", "stream", "stream_plain"},
    "tls": NTX | {"error"},
    "tls_reason": {"nbd_text", "tls"},
    "tls_bio": {"stream"},
    "stream_tls_io": {"tls_bio", "tls_reason"},
    "stream_tls": {"error", "stream", "stream_tls_io", "tls"},
    "about": NTX | {"device_ring", "digest", "stream_plain", "zero"},
    # a device, and what a job asks of it
    "file_io": NTX | {"bytes", "stop"},
    "device": NTX | {"bytes", "clock", "error", "extent", "stop"},
    "device_ring": NTX,
    "device_file": NTX | {"bytes", "device", "device_ring", "error", "file_io", "zero"},
    "device_file_open": NTX | {"bytes", "device", "device_file", "error"},
    "device_null": NTX | {"bytes", "device", "error"},
    "device_pattern": NTX | {"bytes", "device", "error"},
    "file_bytes": NTX | {"bytes", "error"},
    "device_mapped": NTX | {"bytes", "device", "error", "file_bytes"},
    # images in QCOW2 format
    "qcow2_format": NTX | {"bytes"},
    "qcow2_header": {"bytes", "qcow2_format"},
    "qcow2_chain": {"bytes", "error", "file_bytes", "qcow2_header"},
    "qcow2_window": {"bytes", "file_bytes", "qcow2_chain"},
    "qcow2_unpack": {"file_bytes", "qcow2_format"},
    "device_chain": {"bytes", "device", "error", "file_bytes", "qcow2_unpack", "qcow2_window"},
    "qcow2_map": NTX | {"bytes", "file_io", "qcow2_format", "stop"},
    "qcow2_image": NTX | {"bytes", "error", "file_io", "qcow2_map"},
    "qcow2_readback": {"bytes", "file_io", "qcow2_image", "qcow2_unpack"},
    "qcow2_pack": {"bytes", "file_io", "qcow2_image"},
    "qcow2_finish": {"bytes", "error", "file_io", "qcow2_image"},
    "device_qcow2": {"bytes", "clock", "device", "device_ring", "error", "file_io", "qcow2_pack"},
    # NBD, by phase of the protocol
    "nbd_proto": NTX,
    "nbd_text": NTX | {"nbd_proto"},
    "nbd_coverage": NTX,
    "nbd_slot": NTX | {"device", "nbd_coverage", "nbd_proto"},
    "nbd_request": NTX | {"bytes", "nbd_proto", "nbd_slot", "stream"},
    "nbd_export": NTX | {"bytes", "error", "nbd_proto"},
    "nbd_haggle": NTX | {"bytes", "error", "nbd_export", "nbd_proto", "nbd_text", "stream"},
    "nbd_handshake": NTX
    | {"bytes", "error", "nbd_export", "nbd_haggle", "nbd_proto", "nbd_request", "stream", "stream_tls"},
    "nbd_rx": NTX | {"error", "nbd_export", "nbd_proto", "nbd_slot"},
    "nbd_chunk": NTX | {"bytes", "nbd_proto", "nbd_rx", "nbd_text"},
    "nbd_reply": NTX | {"bytes", "error", "nbd_chunk", "nbd_proto", "nbd_rx", "nbd_text", "stream"},
    "nbd_places": NTX | {"tls"},
    "nbd_conn": NTX | {"bytes", "error", "nbd_export", "nbd_places", "nbd_proto", "nbd_reply", "nbd_request", "stream"},
    "nbd_open": NTX
    | {"bytes", "clock", "error", "nbd_conn", "nbd_handshake", "nbd_proto", "nbd_text", "stream", "stream_connect"},
    # the job
    "plan": NTX | {"bytes", "error", "extent"},
    "pace": NTX | {"bytes", "clock"},
    "counters": {"clock"},
    "checkpoint": {"bytes"},
    "scheduler": NTX | {"bytes", "checkpoint", "clock", "error", "event", "limiter", "pace", "plan", "stop"},
    # a worker: its stages, none of which knows another, and what they share
    "worker_span": NTX | {"plan"},
    "worker_ranges": NTX | {"bytes", "counters", "plan"},
    "worker_slots": NTX | {"buffer", "device", "worker_span"},
    "worker_cursor": NTX | {"bytes", "device", "worker_span"},
    "worker_digester": NTX | {"bytes", "error", "worker_span"},
    "worker_zero_run": NTX | {"bytes", "device", "worker_span"},
    "worker_outbox": NTX | {"bytes", "device", "worker_ranges", "worker_slots", "worker_zero_run"},
    "worker_wait": NTX | {"bytes", "clock", "device", "error"},
    "worker": NTX
    | {"bytes", "clock", "error", "limiter", "scheduler"}
    | {"worker_cursor", "worker_digester", "worker_outbox", "worker_wait"},
    "job_check": NTX | {"device", "error"},
    "job": NTX | {"bytes", "clock", "device", "error", "event", "job_check", "scheduler", "worker"},
}  # fmt: skip
