"""The walls of the sandbox: this text is started by sandbox.py as a process of its own and starts sandbox_worker.py.

launcher   in new namespaces, under a new root; watches limits and tells sandbox.py how it ended
  init       process 1 of the new process namespace: when it dies, the kernel kills all that is in there
    worker     limits, no rights, a filter of system calls; then a fresh interpreter with the code

The kernel's interfaces are those of namespaces(7), user_namespaces(7), pivot_root(2), mount_setattr(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

START = 25.0  # seconds until the worker must have reached the code
FILES = 16 << 20  # bytes of /tmp, and of one file
DESCRIPTORS, THREADS = 64, 32
NOBODY, INSIDE = 65534, 1  # whom root becomes, out here; the only user in there
READY, SECRET, LONGEST_REPORT = b"R", 32, 16384

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 24, 38, 22
CLONE_NEW = 0x10000000 | 0x20000 | 0x20000000 | 0x40000000 | 0x8000000 | 0x4000000 | 0x2000000
# user, mount, pid, net, ipc, uts, cgroup
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 2, 4, 8, 4096, 16384, 1 << 18, 2
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, AT_RECURSIVE, AT_FDCWD = 1, 2, 4, 8, 0x8000, -100
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR = 442

# Refused: what makes processes, changes the walls, looks into others, or keeps memory that no limit counts.
# Name: number on x86_64, on aarch64 (-1: not there).
REFUSED = {
    "fork": (57, -1), "vfork": (58, -1), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "kcmp": (312, 272), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "personality": (135, 92),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "memfd_create": (319, 279), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
}  # fmt: skip
CLONE, SOCKET, SOCKETPAIR = (56, 220), (41, 198), (53, 199)
NEWER = 424  # from here on numbers are alike everywhere, and all are refused: new doors (io_uring, clone3, fsopen, ...)
CLONE_THREAD = 0x10000
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    worker, seconds, memory, output, hidden, filtered = sys.argv[1:]
    code = sys.stdin.buffer.read()
    try:
        machine = os.uname().machine
        if machine not in ARCHITECTURES:
            raise OSError(f"no list of system calls for {machine}")
        _enter_namespaces()
        _build_root(code, tuple(filter(None, hidden.split(","))), PIVOT_ROOT[machine])
        program = _filter(*ARCHITECTURES[machine]) if int(filtered) else b""
        finished, reason, printed = _supervise(worker, float(seconds), int(memory), int(output), program)
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    sys.stdout.buffer.write(b"%d\n%s\n%s" % (finished, reason.encode(), printed))


def _check(what: str, result: int) -> None:
    if result < 0:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _enter_namespaces() -> None:
    """A user namespace gives an ordinary user the right to the others. Its users are named from outside, by a helper:
    root gives its code to nobody, as whom limits hold that don't for root."""
    me, user, group = os.getpid(), os.geteuid(), os.getegid()
    ready, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        try:
            os.close(go)
            if os.read(ready, 1):
                maps = {"uid_map": f"{INSIDE} {user} 1", "gid_map": f"{INSIDE} {group} 1"}
                if user == 0:
                    maps = {name: f"0 {i} 1\n{INSIDE} {NOBODY} 1" for name, i in (("uid_map", 0), ("gid_map", group))}
                else:
                    _write(f"/proc/{me}/setgroups", b"deny")
                for name, text in maps.items():
                    _write(f"/proc/{me}/{name}", text.encode())
            os._exit(0)
        except OSError:
            os._exit(1)
    os.close(ready)
    try:
        _check("new namespaces", libc.unshare(CLONE_NEW))
        os.write(go, b".")
    finally:
        os.close(go)
        status = os.waitpid(helper, 0)[1]
    if status:
        raise OSError("the users of a new namespace can't be set")
    socket.sethostname("sandbox")


def _write(path: str, data: bytes, create: int = 0) -> None:
    fd = os.open(path, os.O_WRONLY | create, 0o444)
    try:
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if x is None else os.fsencode(x) for x in (source, target, kind)]
    result = libc.mount(*texts, ctypes.c_ulong(flags), None if options is None else options.encode())
    _check(f"mount {target}", result)


def _read_only(path: str, flags: int, recursive: int = AT_RECURSIVE) -> None:
    attributes = struct.pack("=QQQQ", ATTR_RDONLY | ATTR_NOSUID | flags, 0, 0, 0)
    result = libc.syscall(MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), recursive, attributes, len(attributes))
    _check(f"read-only {path}", result)


def _build_root(code: bytes, hidden: tuple[str, ...], pivot_root: int) -> None:
    """A new root in memory that has the interpreter as /python, the system's libraries, four devices, /code.py and an
    empty /tmp; the old root is let go. It grows on /proc, which is everywhere and where nothing lies that it needs."""
    home = sys.base_prefix
    os.umask(0o022)  # whatever the user's is, nobody must be able to read this
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=8m,nr_inodes=500")
    for name in ("/old", "/empty", "/tmp"):
        os.mkdir(f"/proc{name}")
    _bind(os.path.realpath(sys.executable), "/proc/python/bin/python", ATTR_NODEV)
    for name in ("lib", "lib64"):
        _bind(f"{home}/{name}", f"/proc/python/{name}", ATTR_NODEV)
    for name in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/usr/share/zoneinfo"):
        if os.path.islink(name) and os.path.realpath(name) == f"/usr{name}":
            os.symlink(f"/usr{name}", f"/proc{name}")
        else:
            _bind(name, f"/proc{name}", ATTR_NODEV)
    for name in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        _bind(name, f"/proc{name}", ATTR_NOEXEC)
    os.symlink("/tmp", "/proc/dev/shm")
    _write("/proc/code.py", code, os.O_CREAT)
    _check("pivot_root", libc.syscall(pivot_root, b"/proc", b"/proc/old"))
    os.chdir("/")
    _check("umount", libc.umount2(b"/old", MNT_DETACH))
    os.rmdir("/old")
    _hide([p.replace(home, "/python", 1) for p in sys.path], hidden)
    _mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=1777,size={FILES},nr_inodes=1000")
    _read_only("/", ATTR_NODEV, recursive=0)


def _bind(source: str, target: str, flags: int) -> None:
    """Shows a file or folder of the old root at another place, read only; what isn't there is left out."""
    if not os.path.exists(source):
        return
    os.makedirs(target if os.path.isdir(source) else os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target):
        _write(target, b"", os.O_CREAT)
    _mount(source, target, None, MS_BIND | MS_REC)
    _read_only(target, flags)


def _hide(needed: list[str], hidden: tuple[str, ...]) -> None:
    """Empties the folders of other Pythons and of installed packages, whose names and paths tell of the user and whose
    extension modules nobody has looked at; takes away the hidden modules."""
    for folder in ("/python/lib", "/python/lib64", "/usr/lib", "/usr/lib64", "/lib", "/lib64", *needed):
        for name in os.listdir(folder) if os.path.isdir(folder) and not os.path.islink(folder) else ():
            path = f"{folder}/{name}"
            if name.endswith(".so") and name.startswith(hidden):
                _bind("/dev/null", path, ATTR_NOEXEC)  # an import passes over what is no regular file
            elif name.startswith(("python", "pypy", "site-packages", "dist-packages")) and os.path.isdir(path):
                if not any(x.startswith(path) for x in needed):
                    _bind("/empty", path, ATTR_NOEXEC)


def _supervise(worker: str, seconds: float, memory: int, output: int, program: bytes) -> tuple[bool, str, bytes]:
    """Starts init and the worker, and watches them until both are dead."""
    (printed, out), (reported, report), (secret, tell), (status, state), (alive, life) = (os.pipe() for _ in range(5))
    init = os.fork()
    if init == 0:
        for fd in (printed, reported, tell, status, life):
            os.close(fd)
        try:
            _init(worker, (out, report, secret), state, alive, _limits(seconds, memory), program)
        finally:
            os._exit(1)
    for fd in (out, report, secret, state, alive):
        os.close(fd)
    token = os.urandom(SECRET)  # made only now, so that it is in no memory but this process's
    os.write(tell, token)
    os.close(tell)

    texts, reason, ready, deadline = {printed: b"", reported: b"", status: b""}, "", False, time.monotonic() + START
    poll = select.poll()
    for fd in texts:
        poll.register(fd, select.POLLIN)
    poll.register(1, 0)  # an error there: sandbox.py is gone or wants no answer any more
    left = set(texts)
    while left:
        wait = None if reason else max(0, math.ceil(1000 * (deadline - time.monotonic())))
        for fd, _ in poll.poll(wait):
            data = b"" if fd == 1 else os.read(fd, 65536)
            if not data:
                poll.unregister(fd)
                left.discard(fd)
            if fd == 1:
                reason = reason or "interrupted"
            else:
                texts[fd] = (texts[fd] + data)[: max(output, LONGEST_REPORT) + 1]
        if not ready and texts[reported]:
            ready, deadline = True, time.monotonic() + seconds
        if len(texts[printed]) > output:
            reason = reason or f"wrote more than {output} bytes"
        elif len(texts[reported]) > LONGEST_REPORT:
            reason = reason or "wrote to the sandbox's own channel"
        elif left and time.monotonic() >= deadline:
            reason = reason or f"ran longer than {seconds:g} s"
        if reason:
            os.kill(init, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
    os.waitpid(init, 0)
    if not ready:
        lines = (texts[printed] or texts[status]).decode("utf-8", "replace").splitlines()
        raise OSError(f"the interpreter did not start: {lines[0] if lines else reason}")
    if reason:
        return False, reason, texts[printed][:output]
    if texts[reported] == READY + token and texts[status] == b"0":
        return True, "", texts[printed]
    reason, trace = _why(texts[reported][1:], texts[status], seconds, memory)
    return False, reason, (texts[printed][: max(0, output - len(trace))] + trace)[-output:] if output else b""


def _why(report: bytes, status: bytes, seconds: float, memory: int) -> tuple[str, bytes]:
    """The reason in words, and what Python says about it."""
    kinds = {
        b"X": "left by sys.exit before its end", b"E": "ended with an exception",
        b"M": f"used more than {memory >> 20} MB",
    }  # fmt: skip
    if report[:1] in kinds and status == b"1":
        return kinds[report[:1]], report[1:]
    code = int(status or b"-9")
    if code == -signal.SIGXCPU:
        return f"computed for more than {math.ceil(seconds)} s", b""
    return (f"killed by signal {-code}" if code < 0 else f"left with status {code} before its end"), b""


def _limits(seconds: float, memory: int) -> dict[int, tuple[int, int]]:
    cpu = math.ceil(seconds)
    return {
        resource.RLIMIT_CPU: (cpu, cpu + 1), resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_FSIZE: (FILES, FILES), resource.RLIMIT_NOFILE: (DESCRIPTORS, DESCRIPTORS),
        resource.RLIMIT_NPROC: (THREADS, THREADS), resource.RLIMIT_CORE: (0, 0), resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }  # fmt: skip


def _init(
    worker: str, ends: tuple[int, int, int], state: int, alive: int, limits: dict[int, tuple[int, int]], program: bytes
) -> None:
    """Process 1: starts the worker, buries whoever dies in here, and says how the worker ended."""
    _check("PR_SET_PDEATHSIG", libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if select.select([alive], [], [], 0)[0]:  # the launcher died before it could be the signal's cause
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the kernel keeps signals without a handler from process 1
    child = os.fork()
    if child == 0:
        try:
            _become_worker(worker, *ends, limits, program)
        except BaseException as error:
            os.write(state, str(error).encode())
        finally:
            os._exit(1)
    for fd in (0, 1, 2, *ends):
        os.close(fd)
    while True:
        dead, status = os.waitpid(-1, 0)
        if dead == child:
            os.write(state, b"%d" % os.waitstatus_to_exitcode(status))
            return


def _become_worker(
    worker: str, out: int, report: int, secret: int, limits: dict[int, tuple[int, int]], program: bytes
) -> None:
    """Gives up every right and starts the interpreter anew, so that nothing of this one's memory is left."""
    os.setsid()  # signals to a process group pass the walls of namespaces: ours has the launcher in it
    nothing = os.open("/dev/null", os.O_RDONLY)
    for fd, standard in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(fd, standard)
    for fd in (report, secret):
        os.set_inheritable(fd, True)
    os.chdir("/tmp")
    for number, limit in limits.items():
        resource.setrlimit(number, limit)
    if os.getuid() != INSIDE:
        os.setgroups([])
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    os.setresgid(INSIDE, INSIDE, INSIDE)
    os.setresuid(INSIDE, INSIDE, INSIDE)
    _check("capset", libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)))
    _check("PR_SET_NO_NEW_PRIVS", libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if program:
        steps = ctypes.create_string_buffer(program, len(program))
        filter_ = struct.pack("HP", len(program) // 8, ctypes.addressof(steps))
        _check("seccomp", libc.prctl(PR_SET_SECCOMP, 2, filter_, 0, 0))
    arguments = ["/python/bin/python", "-I", "-S", "-u", "-X", "utf8", "-c", worker, str(report), str(secret)]
    # An arena of memory for each thread would take its address space.
    os.execve("/python/bin/python", arguments, {"LD_LIBRARY_PATH": "/python/lib", "MALLOC_ARENA_MAX": "1"})


def _filter(column: int, architecture: int) -> bytes:
    """The filter in the kernel's little language: (code, jump if true, jump if false, value), 8 bytes a step."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, refuse, unknown = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38  # EPERM, ENOSYS
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill)]
    steps += [(load, 0, 0, 0), (at_least, 0, 1, NEWER), (give, 0, 0, unknown)]
    for numbers in REFUSED.values():
        if numbers[column] >= 0:
            steps += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse)]
    steps += [(equal, 0, 4, CLONE[column]), (load, 0, 0, 16), (any_bit, 0, 1, CLONE_THREAD)]
    steps += [(give, 0, 0, allow), (give, 0, 0, refuse)]
    steps += [(equal, 1, 0, SOCKET[column]), (equal, 0, 3, SOCKETPAIR[column])]
    steps += [(load, 0, 0, 16), (equal, 1, 0, int(socket.AF_UNIX)), (give, 0, 0, refuse), (give, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


if __name__ == "__main__":
    main()
