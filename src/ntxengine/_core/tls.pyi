from typing import final

MIN_PSK: int

@final
class Tls:
    @staticmethod
    def with_certificates(
        host_name: bytes,
        ca: tuple[bytes, bytes],
        certificate: tuple[bytes, bytes] | None = None,
        key: tuple[bytes, bytes] | None = None,
    ) -> Tls: ...
    @staticmethod
    def with_psk(user: bytes, psk: bytes) -> Tls: ...
