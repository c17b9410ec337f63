"""Files and folders that appear whole or not at all, however their writer ends, and their checksums.

Small files are written by :func:`write_bytes_atomic` and its like. What takes long, a store or a converted file, grows
in a :class:`Partial`, which a writer that was killed resumes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, get_args, get_origin, get_type_hints
from weakref import WeakValueDictionary

from flowsr.errors import Busy, FlowsrError

log = logging.getLogger(__name__)

READ_BLOCK = 1 << 20
#: Name of the file, within a store, that holds the checksums of its others; it is not part of the store's content.
CHECKSUMS = ".flowsr_checksums.json"
#: Files of up to so many bytes are read whole even by a check that otherwise goes by names and sizes: metadata, mostly.
SMALL = 1 << 14
#: Metadata and settings of more bytes than this are no such thing.
LARGEST_TEXT = 1 << 26
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
#: Who last held a folder, by process and inode: a file's lock is a process's, and does not tell its threads apart.
_holders: WeakValueDictionary[tuple[int, int, int], Partial] = WeakValueDictionary()
_holding = threading.Lock()


def write_bytes_atomic(path: str | os.PathLike, data: bytes) -> Path:
    """Write ``data`` to ``path`` so that a reader, or a machine that loses power, sees the old file or the new one.

    The bytes go to a hidden neighbour, are flushed to the disk, and take the name in one step. Folders that are missing
    on the way are made.
    """
    path = replace_bytes(path, data)
    fsync_folder(path.parent)
    return path


def replace_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """:func:`write_bytes_atomic` but for the last step: after a loss of power the *old* file may be back, still whole.

    Half the cost, for files that can be made again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(f".{path.name}.tmp")
    with naming(path), open_new(neighbour) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(neighbour, path)
    return path


def open_new(path: str | os.PathLike) -> BinaryIO:
    """A new file to write to, in the place of whatever has the name; a link there goes, and not what it points to."""
    Path(path).unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A file to read from; what is none, such as a pipe or a device, is not waited for.

    Raises:
        FlowsrError: something else than a file.
        OSError: nothing there, or nothing that may be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise FlowsrError("not a file", file=path, expected="a file", found=_KINDS.get(kind, "something else"))
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike, most: int = LARGEST_TEXT) -> bytes:
    """The bytes of a file of text, such as metadata or settings.

    Raises:
        FlowsrError: something else than a file, or one larger than ``most``.
        OSError: nothing there, or nothing that may be read.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FlowsrError("too large to be true", file=path, expected=f"{most} bytes or less")
    return content


def open_lock(path: str | os.PathLike) -> int:
    """Descriptor of a file to be locked, made where it is missing, and nothing in it changed.

    Raises:
        FlowsrError: a link has the name.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise _not_ours(path, "a link") from None


def is_at(descriptor: int, path: str | os.PathLike) -> bool:
    """Whether an open file still has a name, which its last holder may have removed."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def check_ours(path: str | os.PathLike) -> None:
    """Refuse to continue what somebody else may have put at a name that can be foreseen.

    Raises:
        FlowsrError: a link, a file of several names, something else than a file or folder, or one of another user.
    """
    state = os.lstat(path)
    kind = stat.S_IFMT(state.st_mode)
    if kind not in (stat.S_IFDIR, stat.S_IFREG):
        raise _not_ours(path, "a link" if kind == stat.S_IFLNK else "neither a file nor a folder")
    if kind == stat.S_IFREG and state.st_nlink > 1:
        raise _not_ours(path, "a file of several names")
    if state.st_uid != os.geteuid():
        raise _not_ours(path, f"one of user {state.st_uid}")


def remove(path: str | os.PathLike) -> None:
    """Remove a file or a folder with all in it, if there is one; of a link itself, never what it points to."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _not_ours(path: str | os.PathLike, found: str) -> FlowsrError:
    message, expected = "something else is where unfinished work is kept", "a file or folder that flowsr began"
    return FlowsrError(message, file=path, expected=expected, found=found, hint="see what it is, then remove it")


def write_text_atomic(path: str | os.PathLike, text: str) -> Path:
    """:func:`write_bytes_atomic` for text, in UTF-8."""
    return write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: str | os.PathLike, value) -> Path:
    """:func:`write_bytes_atomic` for JSON, indented, keys in the order given, NaN refused.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
    """
    return write_text_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def plain(value: Any, change: Callable[[Any], Any] = lambda value: value) -> Any:
    """What JSON can hold: dataclasses and frames as mappings, arrays and tuples as lists, None for NaN and infinities.

    Args:
        change: applied first to the value and to everything in it.
    """
    value = change(value)
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name), change) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each, change) for key, each in value.items()}
    if hasattr(value, "to_dict"):  # a frame of pandas, as its columns
        return plain(value.to_dict("list"), change)
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's arrays and numbers
    if isinstance(value, list | tuple):
        return [plain(each, change) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def typed(kind: Any, value: Any) -> Any:
    """The inverse of :func:`plain`: a value of a known type, such as a dataclass or ``Mapping[str, Row]``.

    Raises:
        TypeError: fields that are missing or unknown.
    """
    inner = get_args(kind)
    if value is None:
        return None
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{name: typed(kinds.get(name), one) for name, one in value.items()})
    if get_origin(kind) is UnionType:
        return typed(inner[0], value)
    if get_origin(kind) is Mapping:
        return {name: typed(inner[1], one) for name, one in value.items()}
    if get_origin(kind) in (tuple, Sequence):
        return tuple(typed(inner[0], one) for one in value)
    return value


def read_json(path: str | os.PathLike) -> Any:
    """What a JSON file holds, or None where there is none that can be read."""
    try:
        return json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError, FlowsrError):
        return None


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """What the system refuses in here, a full disk say, names this path where it names none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def reserve(path: str | os.PathLike, size: int) -> None:
    """See that a file may have so many bytes, and take them: HDF5 crashes where a disk is full half-way.

    Raises:
        OSError: there is no room for it.
    """
    take = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    with open(path, "ab") as file:
        missing = size - os.fstat(file.fileno()).st_blocks * 512
        if take is not None and take(file.fileno(), 0, ctypes.c_int64(0), ctypes.c_int64(size)) == 0:
            return
        code = ctypes.get_errno() if take is not None else errno.EOPNOTSUPP
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):  # a file system that cannot say; what it has free is a guess
        code = errno.ENOSPC if shutil.disk_usage(Path(path).parent).free < missing else 0
    if code:
        raise OSError(code, os.strerror(code))


def fsync_file(path: str | os.PathLike) -> None:
    """Wait until the file's bytes are on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def fsync_folder(path: str | os.PathLike) -> None:
    """Wait until the folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_checksum(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file, which is read block by block."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_checksum(path: str | os.PathLike, told: Callable[[int], None] | None = None) -> str:
    """Hexadecimal sha256 of a file, or of a folder's relative names and bytes in sorted order.

    Two folders have the same checksum exactly when they hold the same files with the same bytes; empty folders and
    files of checksums do not count.

    Args:
        told: called with the number of bytes after each part that was read.
    """
    path = Path(path)
    if path.is_file() and told is None:
        return file_checksum(path)
    digest = hashlib.sha256()
    for path_in in [path] if path.is_file() else files_in(path):
        if path_in != path:
            digest.update(f"{path_in.relative_to(path).as_posix()}\0{path_in.stat().st_size}\0".encode())
        with open(path_in, "rb") as file:
            while block := file.read(READ_BLOCK):
                digest.update(block)
                if told is not None:
                    told(len(block))
    return digest.hexdigest()


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and the folders in it, sorted; without files of checksums."""
    return sorted(path for path in folder.rglob("*") if path.name != CHECKSUMS and path.is_file())


def tree_sizes(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of the names and sizes of the files that :func:`tree_checksum` reads; it reads none."""
    path = Path(path)
    files = [path] if path.is_file() else files_in(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Sum:
    """What a file holds, in short.

    Args:
        bytes: its size.
        sha256: hexadecimal.
    """

    bytes: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Sum:
        """The sum of a file, read whole."""
        return cls(file.stat().st_size, file_checksum(file))


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written."""

    file: Path
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}; found {self.found}"


def damage_of(file: Path, written: Sum, deep: bool = True) -> Damage | None:
    """How a file differs from what was written.

    Args:
        deep: compare the checksum too, which reads the file; otherwise that of a small one only.
    """
    try:
        size = file.stat().st_size
        if size != written.bytes:
            return Damage(file, f"{written.bytes} bytes", f"{size} bytes")
        found = file_checksum(file) if deep or size <= SMALL else written.sha256
    except FileNotFoundError:
        return Damage(file, f"{written.bytes} bytes", "no such file")
    except OSError as error:
        return Damage(file, f"{written.bytes} bytes", error.strerror or str(error))
    return None if found == written.sha256 else Damage(file, f"sha256 {written.sha256}", found)


def write_sums(file: Path, sums: Mapping[str, Sum]) -> None:
    """A file of checksums, by relative name, with one of its own."""
    files = {name: list(asdict(one).values()) for name, one in sums.items()}
    own = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    write_bytes_atomic(file, json.dumps({"sha256": own, "files": files}, indent=0).encode())


def read_sums(file: Path) -> dict[str, Sum] | Damage:
    """What :func:`write_sums` wrote, or how it is damaged."""
    content, expected = read_json(file), "the checksums of this store's files"
    if content is None:
        return Damage(file, expected, "not readable" if file.exists() else "no such file")
    try:
        own = hashlib.sha256(json.dumps(content["files"]).encode()).hexdigest()
        sums = {name: Sum(*one) for name, one in content["files"].items()}
    except (TypeError, KeyError, AttributeError):
        return Damage(file, expected, "something else")
    return sums if own == content.get("sha256") else Damage(file, f"sha256 {content.get('sha256')}", own)


@cache
def _user_key() -> bytes:
    """A number that others cannot foresee, drawn once a user; empty where no folder of the user's can be written to."""
    file = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "flowsr" / "key"
    try:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            drawn = file.with_name(f".key.{secrets.token_hex(8)}")
            with os.fdopen(os.open(drawn, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was quicker
                os.link(drawn, file)
            drawn.unlink()
        return file.read_bytes()
    except (OSError, RuntimeError):
        return b""


def partial_path(target: str | os.PathLike) -> Path:
    """The hidden folder beside ``target`` in which it grows."""
    target = Path(target)
    return target.with_name(f".{target.name}.partial")


@dataclass(frozen=True)
class _Plan:
    """What a :class:`Partial` was begun as.

    Args:
        fingerprint: of what decides the result.
        laid_down: digest of what was laid down and stays as it is.
        token: in every marker.
        seal: of the others, which nobody else can make.
    """

    fingerprint: str
    laid_down: str
    token: str
    seal: str = ""

    @property
    def sealed(self) -> _Plan:
        """The plan with the seal of this user."""
        content = json.dumps([self.fingerprint, self.laid_down, self.token]).encode()
        seal = hmac.new(_user_key(), content, "sha256").hexdigest()
        return _Plan(self.fingerprint, self.laid_down, self.token, seal)

    @classmethod
    def read(cls, file: Path) -> _Plan | None:
        content = read_json(file)
        names = {each.name for each in fields(cls)}
        if not isinstance(content, dict) or content.keys() != names:
            return None
        return cls(**content) if all(isinstance(value, str) for value in content.values()) else None


class Partial:
    """A file or folder that grows piece by piece in a hidden folder, and takes its name in one step::

        .name.partial/
            lock          held by the one writer that fills it
            plan.json     what it will hold, and a seal; there once it has been laid down
            done/         one small marker a finished piece
            ...           what is being filled, and whatever else its writer keeps there

    A writer that starts again after a kill, with the same fingerprint, finds the pieces that are done. Other processes
    may mark pieces too; one of them holds the lock. What is damaged, or was begun by somebody else, is started over:
    the seal is made with a number that is kept in the user's home, and markers count with the token in the plan only.

    Args:
        target: the name to take.
    """

    def __init__(self, target: str | os.PathLike):
        self.target = Path(target)
        self.folder = partial_path(self.target)
        self._lock: int | None = None
        self._token: str | None = None

    def __getstate__(self):
        return {**self.__dict__, "_lock": None}  # the lock is this process's

    @property
    def begun(self) -> bool:
        """Whether what is to be filled has been laid down."""
        return (self.folder / "plan.json").exists()

    def begin(
        self,
        fingerprint: str,
        lay_down: Callable[[], None],
        digest: Callable[[], str] = str,
        *,
        fresh: bool = False,
        discard_other: bool = False,
    ) -> None:
        """Lock the folder; lay down what is to be filled, unless that was done before with the same fingerprint.

        Args:
            fingerprint: of everything but the values that decides the result.
            lay_down: called in an empty folder.
            digest: of what was laid down and stays as it is until the end.
            fresh: start over.
            discard_other: start over where there is something of another fingerprint.

        Raises:
            FlowsrError: another process or thread holds the folder, it was begun with another fingerprint, or it is
                a link, holds one, or belongs to another user.
        """
        self._make_folder()
        self._hold()
        try:
            plan = None if fresh or not self.begun else self._resumable()
            if plan is not None and plan.fingerprint != fingerprint:
                if not discard_other:
                    message = "an unfinished one was begun with other data or settings"
                    raise FlowsrError(message, file=self.target, hint="use --fresh to start it again")
                plan = None
            if plan is not None:
                self._refuse_links()
                plan = plan if self.intact(digest) else self._started_over("damaged")
            if plan is None:
                self._clear()
                lay_down()
                plan = _Plan(fingerprint, digest(), secrets.token_hex(16)).sealed
                write_json_atomic(self.folder / "plan.json", asdict(plan))
        except BaseException:
            self.release()
            raise
        self._token = plan.token

    def intact(self, digest: Callable[[], str]) -> bool:
        """Whether what was laid down is still as it was; ``digest`` as in :meth:`begin`."""
        plan = _Plan.read(self.folder / "plan.json")
        try:
            return plan is not None and digest() == plan.laid_down
        except Exception:  # a damaged file may trip its library over anything
            return False

    def marker(self, *key: str) -> Sum | None:
        """What :meth:`mark` wrote of a piece, or None where it is not done."""
        content = read_json(self.folder.joinpath("done", *key))
        match content:
            case {"bytes": int(size), "sha256": str(checksum), "token": str(token)} if token == self._known_token():
                return Sum(size, checksum)
        return None

    def mark(self, *key: str, done: Sum) -> None:
        """Note that a piece, whose bytes are on the disk, is done."""
        content = {**asdict(done), "token": self._known_token()}
        replace_bytes(self.folder.joinpath("done", *key), json.dumps(content).encode())

    def unmark(self, *key: str) -> None:
        """A piece is not done after all."""
        self.folder.joinpath("done", *key).unlink(missing_ok=True)

    def publish(self, content: Path) -> Path:
        """Give ``content``, a file or folder in here, the target's name, and remove the rest.

        A folder that has the name goes once the new one is in place.
        """
        old = self.target.with_name(f".{self.target.name}.old")
        remove(old)
        if self.target.is_dir():
            os.rename(self.target, old)
        os.replace(content, self.target)
        fsync_folder(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)
        self.discard()
        return self.target

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def discard_unless_held(self) -> None:
        """:meth:`discard`, but for what another process is writing at this moment."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            try:
                self._hold()
            except FlowsrError:
                return
            self.discard()

    def release(self) -> None:
        """Let go of the lock; what was written stays, to be resumed."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _known_token(self) -> str | None:
        if self._token is None:
            plan = _Plan.read(self.folder / "plan.json")
            self._token = plan and plan.token
        return self._token

    def _resumable(self) -> _Plan | None:
        """The plan of what was begun here before, if this user did it and nobody else could write to it."""
        plan = _Plan.read(self.folder / "plan.json")
        if plan is None:
            return self._started_over("damaged")
        if plan.sealed != plan or self.folder.stat().st_mode & 0o022:
            return self._started_over("not known to be yours")
        return plan

    def _started_over(self, why: str) -> None:
        log.warning("%s: what was begun here is %s and is started over", self.target, why)

    def _make_folder(self) -> None:
        """Make the folder, for this user alone, unless there is one already, which must be the user's own."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            check_ours(self.folder)
            raise _not_ours(self.folder, "a file") from None
        check_ours(self.folder)

    def _refuse_links(self) -> None:
        """Nothing in the folder that is resumed leads out of it."""
        for place, folders, files in os.walk(self.folder):
            for path in (Path(place, name) for name in (*folders, *files)):
                if path.is_symlink():
                    raise _not_ours(path, "a link")

    def _clear(self) -> None:
        """Empty the folder, its plan first, so that a kill half-way leaves nothing that looks begun."""
        with suppress(OSError):  # a file system without modes
            os.chmod(self.folder, 0o700)
        remove(self.folder / "plan.json")
        for path in self.folder.iterdir():
            if path.name != "lock":
                remove(path)

    def _hold(self) -> None:
        """Lock the folder until this object lets go or its process dies; forked children do not inherit the lock.

        Another thread is refused before it opens the file: closing it, anywhere in a process, lets go of the lock.
        """
        path = self.folder / "lock"
        busy = Busy("another process is writing this", file=self.target, hint="wait for it to end")
        with _holding:
            while True:
                place = os.stat(self.folder)
                key = (os.getpid(), place.st_dev, place.st_ino)
                if (holder := _holders.get(key)) is not None and holder._lock is not None:
                    raise busy
                descriptor = open_lock(path)
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(descriptor)
                    raise busy from None
                if is_at(descriptor, path):
                    self._lock, _holders[key] = descriptor, self
                    return
                os.close(descriptor)  # another writer published and removed the folder in between
                self._make_folder()
