"""The key store: what is destroyed is in no byte of its files, and what is kept outlives the process."""

import os

import apsw
import pytest

from broker.errors import StoreError, VaultError
from broker.ledger.keystore import KeyChanges, KeyStore
from broker.message import SealedKeys

NAME, OTHER = b"n" * 16, b"o" * 16


@pytest.fixture
def store(tmp_path):
    made = KeyStore(tmp_path / "keys.db")
    yield made
    made.close()


def keys(name=NAME):
    return SealedKeys(name, os.urandom(60), os.urandom(156))


def on_disk(folder, value):
    """Whether any file of the store has these bytes, its write-ahead log included."""
    return any(value in file.read_bytes() for file in folder.iterdir())


def test_keys_are_read_as_they_were_kept_by_this_process_and_the_next(store, tmp_path):
    kept = keys()
    store.flush([kept], [])
    assert store.both(NAME) == (kept.content, kept.opening)
    again = KeyStore(tmp_path / "keys.db")
    assert again.both(NAME) == (kept.content, kept.opening)
    again.close()


def test_a_shredded_content_key_is_in_no_file_and_its_opening_key_still_opens(store, tmp_path):
    kept, other = keys(), keys(OTHER)
    store.flush([kept, other], [])
    store.flush([], [NAME])
    assert not on_disk(tmp_path, kept.content)
    with pytest.raises(VaultError):
        store.both(NAME)
    assert store.opening(NAME) == kept.opening
    assert store.both(OTHER) == (other.content, other.opening)


def test_of_forgotten_keys_no_byte_is_left_not_even_their_name(store, tmp_path):
    kept, other = keys(), keys(OTHER)
    store.flush([kept, other], [])
    assert on_disk(tmp_path, kept.opening)
    store.flush([], [], [NAME])
    assert not any(on_disk(tmp_path, value) for value in (kept.content, kept.opening, NAME))
    with pytest.raises(VaultError):
        store.opening(NAME)
    assert store.both(OTHER) == (other.content, other.opening)


def test_among_thousands_each_is_destroyed_for_itself(store, tmp_path):
    many = [keys(n.to_bytes(16, "big")) for n in range(2000)]
    store.flush(many, [])
    store.flush([], [k.key_id for k in many[::2]])
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(k.content in data for k in many[::2])
    assert all(store.both(k.key_id) == (k.content, k.opening) for k in many[1:200:2])


def test_keys_without_content_open_the_question_alone(store):
    """A refused submission has no content."""
    store.flush([SealedKeys(NAME, b"", b"opening")], [])
    assert store.opening(NAME) == b"opening"
    with pytest.raises(VaultError):
        store.both(NAME)


def test_keys_that_were_never_there_look_destroyed(store):
    for ask in (store.both, store.opening):
        with pytest.raises(VaultError) as refused:
            ask(NAME)
        assert NAME.decode() not in str(refused.value)


def test_destroying_twice_or_what_is_not_there_changes_nothing(store):
    other = keys(OTHER)
    store.flush([other], [])
    for _ in range(2):
        store.flush([], [NAME], [NAME])
    assert store.both(OTHER) == (other.content, other.opening)


def test_nothing_to_do_writes_nothing(store, tmp_path):
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    store.flush([], [], [])
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_settings_are_those_that_destruction_and_durability_need(store):
    names = ("journal_mode", "synchronous", "secure_delete")
    assert [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in names] == ["wal", 2, 1]


def test_a_file_that_still_has_copies_of_destroyed_keys_is_written_anew(tmp_path):
    """As the first version left them: it destroyed without overwriting."""
    old = apsw.Connection(str(tmp_path / "keys.db"))
    old.execute("PRAGMA journal_mode = WAL").fetchall()
    old.execute("CREATE TABLE keys (key_id BLOB PRIMARY KEY, content BLOB, opening BLOB) WITHOUT ROWID")
    many = [keys(os.urandom(16)) for _ in range(500)]
    old.executemany("INSERT INTO keys VALUES (?, ?, ?)", ((k.key_id, k.content, k.opening) for k in many))
    old.executemany("UPDATE keys SET content = NULL WHERE key_id = ?", ((k.key_id,) for k in many[::2]))
    old.execute("PRAGMA user_version = 1")
    old.close()
    left = [k.content for k in many[::2] if on_disk(tmp_path, k.content)]
    assert left
    store = KeyStore(tmp_path / "keys.db")
    assert not any(on_disk(tmp_path, content) for content in left)
    assert all(store.both(k.key_id) == (k.content, k.opening) for k in many[1::2])
    store.close()
    KeyStore(tmp_path / "keys.db").close()


def test_what_could_be_left_in_the_log_is_not_reported_as_destroyed(store, tmp_path):
    """Somebody reads the file: the write-ahead log cannot be cleared."""
    kept = keys()
    store.flush([kept], [])
    store._db.set_busy_timeout(1)
    reader = apsw.Connection(str(tmp_path / "keys.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM keys").fetchall()
    with pytest.raises(StoreError):
        store.flush([], [NAME])
    reader.close()
    store.flush([], [NAME])
    assert not on_disk(tmp_path, kept.content)


def test_what_a_rolled_back_change_wanted_is_neither_kept_nor_destroyed():
    changes = KeyChanges()
    changes.add([keys()])
    changes.shred(b"1")
    changes.forget(b"2")
    mark = changes.mark()
    changes.add([keys(OTHER)])
    changes.shred(b"3")
    changes.forget(b"4")
    changes.back_to(mark)
    assert [k.key_id for k in changes.added] == [NAME]
    assert (changes.shredded, changes.forgotten) == ([b"1"], [b"2"])
    changes.clear()
    assert (changes.added, changes.shredded, changes.forgotten) == ([], [], [])
