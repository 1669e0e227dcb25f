"""Records and locks: a living owner is never robbed, a dead one is found out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netns import ownership
from netns.errors import NameInUse
from netns.ownership import acquire, is_owned, orphans, read_record


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(tmp_path / "run")


def abandon(name: str, run: str, facts: dict[str, object]) -> None:
    """What a killed owner leaves: the record without the lock."""
    owner = acquire(name, run)
    owner.record(facts)
    owner.release(keep=True)


def test_acquire_name_of_a_living_owner_is_refused(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_PATIENCE_S", 0.0)
    first = acquire("a", run)
    first.record({})
    with pytest.raises(NameInUse) as caught:
        acquire("a", run)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert "\n" not in str(caught.value)
    acquire("b", run).release()
    first.release()
    acquire("a", run).release()


def test_release_leaves_neither_file_nor_directory(run: str) -> None:
    owner = acquire("a", run)
    owner.release()
    owner.release()
    assert not os.path.exists(run)


def test_release_keeping_leaves_the_record_for_the_next(run: str) -> None:
    abandon("a", run, {"namespace": "a", "inode": 7, "kept": True})
    assert not is_owned("a", run)
    again = acquire("a", run)
    assert (again.found["inode"], again.found["pid"]) == (7, os.getpid())
    assert is_owned("a", run)
    again.release()


def test_record_shorter_than_the_last_leaves_no_tail(run: str) -> None:
    owner = acquire("a", run)
    owner.record({"paths": ["x" * 500]})
    owner.record({"kept": False})
    assert read_record("a", run) == {"pid": os.getpid(), "kept": False}
    owner.release()


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_acquire_record_that_is_no_record_counts_as_none(run: str, text: bytes) -> None:
    os.makedirs(run)
    Path(run, "a.lock").write_bytes(text)
    owner = acquire("a", run)
    assert owner.found == {}
    owner.release()


def test_orphans_passes_over_the_living_and_finds_the_dead(run: str) -> None:
    living = acquire("living", run)
    abandon("dead", run, {"namespace": "dead"})
    found = list(orphans(run))
    assert [(orphan.name, orphan.found["namespace"]) for orphan in found] == [("dead", "dead")]
    for orphan in found:
        orphan.release()
    living.release()
    assert list(orphans(run)) == []


def test_lock_file_unlinked_while_waiting_is_not_taken_for_the_name(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and flock the owner may unlink the file: the lock must be on the one under the name."""
    path = os.path.join(run, "a.lock")
    os.makedirs(run)
    Path(path).touch()
    real, raced = os.open, []

    def open_then_lose_it(target: str, *arguments: int) -> int:
        descriptor = real(target, *arguments)
        if target == path and not raced:
            raced.append(os.fstat(descriptor).st_ino)
            # The old inode stays open here, so the new file has another one.
            os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose_it)
    owner = acquire("a", run)
    monkeypatch.undo()
    assert raced
    assert os.path.exists(path)
    assert is_owned("a", run)
    owner.release()


def test_names_that_are_symbolic_links_are_not_followed(run: str, tmp_path: Path) -> None:
    os.makedirs(run)
    os.symlink(tmp_path / "elsewhere", os.path.join(run, "a.lock"))
    with pytest.raises(OSError):
        acquire("a", run)
    assert list(orphans(run)) == []
    assert not (tmp_path / "elsewhere").exists()
