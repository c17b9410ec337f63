import json
import os

import pytest

from flowsr.errors import FlowsrError
from flowsr.files import Partial, Sum, file_checksum, remove, tree_checksum, write_json_atomic, write_text_atomic


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_text_atomic(tmp_path / "deep" / "a.txt", "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"


def test_json_keeps_order_and_refuses_nan(tmp_path):
    path = write_json_atomic(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert list(json.loads(path.read_text())) == ["b", "a"]
    with pytest.raises(ValueError):
        write_json_atomic(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"b": 1, "a": [1.5, None]}


def test_checksum_of_a_known_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_checksum(tmp_path / "a") == tree_checksum(tmp_path / "a") == known


@pytest.mark.parametrize("change", ["byte", "name", "moved boundary", "new file"])
def test_tree_checksum_sees_names_and_bytes(tmp_path, change):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"12")
    (tmp_path / "sub" / "b").write_bytes(b"34")
    before = tree_checksum(tmp_path)
    assert before == tree_checksum(tmp_path)
    if change == "byte":
        (tmp_path / "sub" / "a").write_bytes(b"13")
    elif change == "name":
        (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "c")
    elif change == "moved boundary":
        (tmp_path / "sub" / "a").write_bytes(b"1")
        (tmp_path / "sub" / "b").write_bytes(b"234")
    else:
        (tmp_path / "c").write_bytes(b"")
    assert tree_checksum(tmp_path) != before


def test_what_grows_piece_by_piece_takes_its_name_in_one_step(tmp_path):
    target, laid_down = tmp_path / "a.txt", []

    def begin(fingerprint="one", **options):
        partial = Partial(target)
        partial.begin(fingerprint, lambda: laid_down.append((partial.folder / "a.txt").write_text("")), **options)
        return partial

    partial = begin()
    partial.mark("piece", "0", done=Sum(2, "ab"))
    partial.release()
    with pytest.raises(FlowsrError, match=r"unfinished one was begun with other data or settings.*--fresh"):
        begin("two")
    again = begin()
    assert again.marker("piece", "0") == Sum(2, "ab") and again.marker("piece", "1") is None
    assert len(laid_down) == 1 and not target.exists()
    again.release()
    other = begin("two", discard_other=True)
    assert other.marker("piece", "0") is None and len(laid_down) == 2
    other.publish(other.folder / "a.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.fixture
def victim(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    yield tmp_path / "victim"
    assert [p.name for p in (tmp_path / "victim").iterdir()] == ["file"]
    assert (tmp_path / "victim" / "file").read_text() == "mine"


def test_a_link_where_a_small_file_is_written_goes_and_its_target_stays(tmp_path, victim):
    (tmp_path / ".a.json.tmp").symlink_to(victim / "file")
    write_json_atomic(tmp_path / "a.json", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "victim"]
    os.link(victim / "file", tmp_path / ".a.json.tmp")
    write_json_atomic(tmp_path / "a.json", 2)
    assert json.loads((tmp_path / "a.json").read_text()) == 2


def fill(partial):
    (partial.folder / "store").mkdir()
    (partial.folder / "store" / "file").write_text("new")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_link_where_a_store_grows_is_refused(tmp_path, victim, fresh):
    partial = Partial(tmp_path / "a.zarr")
    partial.folder.symlink_to(victim)
    with pytest.raises(FlowsrError, match="something else is where") as caught:
        partial.begin("one", lambda: fill(partial), fresh=fresh)
    assert caught.value.found == "a link" and "\n" not in str(caught.value)
    partial.discard()


@pytest.mark.parametrize("name", ["lock", "done", "store", "store/file"])
def test_a_partial_store_that_leads_out_of_itself_is_not_resumed(tmp_path, victim, name):
    partial = Partial(tmp_path / "a.zarr")
    partial.begin("one", lambda: fill(partial))
    partial.release()
    remove(partial.folder / name)
    (partial.folder / name).symlink_to(victim / "file" if "/" in name or name == "lock" else victim)
    with pytest.raises(FlowsrError) as caught:
        partial.begin("one", lambda: fill(partial))
    assert caught.value.found == "a link"
    if name != "lock":
        partial.begin("two", lambda: fill(partial), discard_other=True)
        assert partial.publish(partial.folder / "store").is_dir()


def test_a_partial_store_of_another_user_is_not_resumed(tmp_path, monkeypatch):
    partial = Partial(tmp_path / "a.zarr")
    partial.begin("one", lambda: fill(partial))
    partial.release()
    assert partial.folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: partial.folder.stat().st_uid + 1)
    with pytest.raises(FlowsrError) as caught:
        partial.begin("one", lambda: fill(partial))
    assert str(caught.value.found).startswith("one of user")


def test_a_link_where_the_old_store_goes_is_removed_alone(tmp_path, victim):
    for content in ("one", "two"):
        partial = Partial(tmp_path / "a.zarr")
        partial.begin(content, lambda partial=partial: fill(partial))
        (tmp_path / ".a.zarr.old").symlink_to(victim)
        partial.publish(partial.folder / "store")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "victim"]
