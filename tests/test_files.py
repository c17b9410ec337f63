import json
import os

import pytest

from flowsr.files import file_checksum, tree_checksum, write_json_atomic, write_text_atomic


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
