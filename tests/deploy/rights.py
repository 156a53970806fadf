"""What a service may do and may not, tried from inside of it: run by a unit; says on stdout what was not as wanted."""

import ctypes
import fcntl
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
FICLONERANGE = 0x4020940D
IO_URING_SETUP, IO_URING_ENTER = 425, 426
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
PTRACE_ATTACH, PR_SET_DUMPABLE = 16, 4
AF_ALG, AF_VSOCK = 38, 40
BLOCK = 4096


def call(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def ring() -> None:
    params = ctypes.create_string_buffer(120)
    fd = call(LIBC.syscall(IO_URING_SETUP, 8, params))
    call(LIBC.syscall(IO_URING_ENTER, fd, 0, 0, 0, None, 0))
    os.close(fd)


def direct(folder: Path) -> None:
    path = folder / "direct"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    page = mmap.mmap(-1, BLOCK)
    page[:4] = b"data"
    assert os.pwritev(fd, [page], 0) == BLOCK
    assert os.preadv(fd, [page], 0) == BLOCK
    os.close(fd)


def clone_range(folder: Path) -> None:
    source, target = folder / "direct", folder / "shared"
    with open(source, "rb") as from_file, open(target, "wb") as to_file:
        wanted = from_file.fileno().to_bytes(8, "little") + bytes(8) + BLOCK.to_bytes(8, "little") + bytes(8)
        fcntl.ioctl(to_file, FICLONERANGE, wanted)
    assert target.read_bytes() == source.read_bytes()


def holes(folder: Path) -> None:
    with open(folder / "holes", "w+b") as file:
        call(LIBC.fallocate(file.fileno(), 0, ctypes.c_long(0), ctypes.c_long(8 * BLOCK)))
        call(LIBC.fallocate(file.fileno(), 3, ctypes.c_long(0), ctypes.c_long(BLOCK)))
        fcntl.flock(file, fcntl.LOCK_EX)
        os.fsync(file.fileno())


def locked_memory() -> None:
    page = mmap.mmap(-1, 64 * BLOCK)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    call(LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(64 * BLOCK)))


def more_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard, (soft, hard)  # a container may have fewer to give than the unit asks for


def name_and_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    socket.getaddrinfo("localhost", 443, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def child() -> None:
    assert os.spawnvp(os.P_WAIT, "setpriv", ["setpriv", "--pdeathsig", "KILL", "qemu-img", "--version"]) == 0


def executable_memory() -> None:
    mmap.mmap(-1, BLOCK, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)


def make_set_user_id(folder: Path) -> None:
    path = folder / "program"
    path.touch()
    path.chmod(0o4755)
    assert not path.stat().st_mode & 0o4000


def main(folder: Path) -> int:
    may: dict[str, Callable[[], object]] = {
        "io_uring": ring,
        "O_DIRECT": lambda: direct(folder),
        "FICLONERANGE": lambda: clone_range(folder),
        "holes and locks of files": lambda: holes(folder),
        "mlock": locked_memory,
        "many files": more_files,
        "a file in memory": lambda: os.close(os.memfd_create("secret")),
        "a connection by name": name_and_connection,
        "programs of qemu": child,
        "temporary files": lambda: Path("/tmp/mine").write_text(""),
        "to write its state": lambda: Path("/var/lib/ntx/mine").write_text(""),
        "to write its sockets": lambda: Path("/run/ntx/mine").write_text(""),
    }
    may_not: dict[str, Callable[[], object]] = {
        "write /etc": lambda: Path("/etc/mine").write_text(""),
        "write /var/tmp of others": lambda: Path("/var/tmp/of-another").read_text(),
        "read homes": lambda: os.listdir("/root"),
        "write its own program": lambda: Path("/opt/mine").write_text(""),
        "make namespaces": lambda: call(LIBC.unshare(CLONE_NEWUSER)),
        "mount": lambda: call(LIBC.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)),
        "trace": lambda: call(LIBC.ptrace(PTRACE_ATTACH, 1, 0, 0)),
        "be root": lambda: os.setuid(0),
        "execute what it wrote in memory": executable_memory,
        "make programs that run as another": lambda: make_set_user_id(folder),
        "speak to the kernel (netlink)": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "send raw packets": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
        "other families of sockets": lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM),
        "see processes of others": lambda: os.stat("/proc/1"),
        "change the kernel": lambda: Path("/proc/sys/kernel/domainname").write_text("mine"),
        "set the clock": lambda: call(LIBC.settimeofday(bytes(16), None)),
    }
    wrong = [f"may not {name}, but should: {error}" for name, action in may.items() if (error := _tried(action))]
    wrong += [f"may {name}" for name, action in may_not.items() if not _tried(action)]
    sys.stdout.write("\n".join(wrong) + "\n" if wrong else "as wanted\n")
    return len(wrong)


def _tried(action: Callable[[], object]) -> str:
    try:
        action()
    except (OSError, AssertionError) as error:
        return repr(error)
    return ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
