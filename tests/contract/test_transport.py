"""One contract, every transport: what a gateway relies on, and nothing more."""

import apsw
import pytest

from broker.errors import StoreError
from broker.message import Stream
from broker.transport import RETENTION_MS
from broker.transport.memory import MemoryTransport
from broker.transport.sqlite import MARK_MS, SqliteTransport

A = Stream("puente.us.mx.passenger", 0)
B = Stream("puente.us.mx.passenger", 1)
BACK = Stream("puente.mx.us.passenger", 0)
NOW = 1_800_000_000_000


class Pair:
    """The transport as each party sees it; `reopen` is a new process of both."""

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, folder
        self.us = self.mx = None
        self.open()

    def open(self):
        if self.kind == "memory":
            self.us = self.us or MemoryTransport()
            self.mx = self.us
        else:
            self.us, self.mx = SqliteTransport(self.folder, "us", "mx"), SqliteTransport(self.folder, "mx", "us")

    def reopen(self):
        self.close()
        self.open()

    def close(self):
        self.us.close()
        if self.mx is not self.us:
            self.mx.close()


@pytest.fixture(params=["memory", "sqlite"])
def pair(request, tmp_path):
    made = Pair(request.param, tmp_path / "transport")
    yield made
    made.close()


def read(transport, stream, position=0, limit=100):
    return [arrival.data for arrival in transport.get(stream, position, limit)]


def test_what_is_put_is_read_by_the_other_party_byte_for_byte_and_in_order(pair):
    pair.us.put(A, [b"one", b"\x00two\xff"])
    pair.us.put(A, [b"three"])
    assert read(pair.mx, A) == [b"one", b"\x00two\xff", b"three"]


def test_reading_goes_on_after_the_position_that_an_arrival_names(pair):
    pair.us.put(A, [b"1", b"2", b"3"])
    first = pair.mx.get(A, 0, 2)
    assert [a.data for a in first] == [b"1", b"2"]
    assert read(pair.mx, A, first[-1].next_position) == [b"3"]
    assert read(pair.mx, A, first[0].next_position) == [b"2", b"3"]


def test_positions_ascend_and_the_same_position_gives_the_same_arrivals(pair):
    pair.us.put(A, [b"1", b"2", b"3"])
    arrivals = pair.mx.get(A, 0, 10)
    assert [a.position for a in arrivals] == sorted({a.position for a in arrivals})
    assert all(a.next_position > 0 for a in arrivals)
    assert pair.mx.get(A, 0, 10) == arrivals


def test_reading_takes_nothing_away(pair):
    pair.us.put(A, [b"1"])
    assert read(pair.mx, A) == read(pair.mx, A) == [b"1"]


def test_the_end_of_a_stream_is_empty_and_what_comes_later_is_read_from_there(pair):
    pair.us.put(A, [b"1"])
    end = pair.mx.get(A, 0, 10)[-1].next_position
    assert pair.mx.get(A, end, 10) == []
    pair.us.put(A, [b"2"])
    assert read(pair.mx, A, end) == [b"2"]


def test_streams_do_not_mix(pair):
    pair.us.put(A, [b"a1"])
    pair.us.put(B, [b"b1"])
    pair.us.put(A, [b"a2"])
    assert read(pair.mx, A) == [b"a1", b"a2"]
    assert read(pair.mx, B) == [b"b1"]
    assert read(pair.mx, Stream("puente.us.mx.control", 0)) == []


def test_directions_do_not_mix(pair):
    pair.us.put(A, [b"there"])
    pair.mx.put(BACK, [b"back"])
    assert read(pair.mx, A) == [b"there"]
    assert read(pair.us, BACK) == [b"back"]
    assert read(pair.mx, BACK) == [] or pair.kind == "memory"


def test_a_limit_is_kept(pair):
    pair.us.put(A, [bytes([n]) for n in range(9)])
    assert len(pair.mx.get(A, 0, 4)) == 4


def test_the_same_bytes_twice_are_two_arrivals(pair):
    pair.us.put(A, [b"same", b"same"])
    assert read(pair.mx, A) == [b"same", b"same"]


def test_an_envelope_of_the_largest_size_passes(pair):
    data = bytes(1_000_000)
    pair.us.put(A, [data])
    assert read(pair.mx, A) == [data]


def test_what_was_put_is_there_after_both_sides_opened_again(pair):
    pair.us.put(A, [b"1"])
    position = pair.mx.get(A, 0, 1)[0].next_position
    pair.reopen()
    assert read(pair.mx, A) == [b"1"]
    pair.us.put(A, [b"2"])
    assert read(pair.mx, A, position) == [b"2"]


def test_changed_is_never_silent_about_something_new(pair):
    pair.mx.changed()
    pair.us.put(A, [b"1"])
    assert pair.mx.changed()


def test_an_idle_embedded_transport_says_that_nothing_changed(tmp_path):
    pair = Pair("sqlite", tmp_path)
    pair.us.put(A, [b"1"])
    assert pair.mx.changed()
    assert not pair.mx.changed()
    pair.close()


def test_a_new_reader_is_told_to_look_once(tmp_path):
    pair = Pair("sqlite", tmp_path)
    pair.us.put(A, [b"1"])
    pair.reopen()
    assert pair.mx.changed()
    pair.close()


def test_a_damaged_file_is_a_store_error_without_its_text(tmp_path):
    (tmp_path / "us-mx.db").write_bytes(b"this is no database, it holds canary" * 300)
    with pytest.raises(StoreError) as caught:
        SqliteTransport(tmp_path, "us", "mx")
    assert "canary" not in str(caught.value)


def test_a_put_that_fails_is_a_store_error_and_puts_nothing(tmp_path):
    pair = Pair("sqlite", tmp_path)
    pair.us._out.execute(
        "CREATE TRIGGER full BEFORE INSERT ON envelopes WHEN NEW.data = x'02' BEGIN SELECT RAISE(ABORT, 'canary'); END"
    )
    with pytest.raises(StoreError) as caught:
        pair.us.put(A, [b"\x01", b"\x02"])
    assert "canary" not in str(caught.value)
    assert read(pair.mx, A) == []
    pair.close()


def test_a_read_that_fails_is_a_store_error(tmp_path):
    pair = Pair("sqlite", tmp_path)
    pair.us._out.execute("DROP TABLE envelopes")
    with pytest.raises(StoreError):
        pair.mx.get(A, 0, 1)
    pair.close()


def test_what_a_topic_keeps_can_be_read_and_pruning_moves_nothing(pair):
    pair.us.put(A, [b"1", b"2"])
    pair.us.put(B, [b"3"])
    before = {stream: pair.mx.get(stream, 0, 10) for stream in (A, B)}
    assert pair.us.prune(NOW, 100) == 0
    assert pair.us.prune(NOW + RETENTION_MS - 1, 100) == 0
    assert {stream: pair.mx.get(stream, 0, 10) for stream in (A, B)} == before


@pytest.fixture
def embedded(tmp_path):
    made = Pair("sqlite", tmp_path / "transport")
    yield made
    made.close()


def test_what_a_topic_has_kept_long_enough_is_removed_and_what_came_later_is_not(embedded):
    embedded.us.put(A, [b"old", b"older"])
    embedded.us.prune(NOW, 100)
    embedded.us.put(A, [b"new"])
    kept = embedded.mx.get(A, 0, 10)[-1]
    assert embedded.us.prune(NOW + RETENTION_MS, 100) == 2
    assert embedded.mx.get(A, 0, 10) == [kept]
    assert embedded.us.prune(NOW + RETENTION_MS, 100) == 0


def test_it_is_removed_in_small_batches(embedded):
    embedded.us.put(A, [bytes([n]) for n in range(5)])
    embedded.us.prune(NOW, 100)
    assert [embedded.us.prune(NOW + RETENTION_MS, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert read(embedded.mx, A) == []


def test_a_position_is_never_given_twice(embedded):
    embedded.us.put(A, [b"1"])
    position = embedded.mx.get(A, 0, 1)[0].next_position
    embedded.us.prune(NOW, 100)
    embedded.us.prune(NOW + RETENTION_MS, 100)
    embedded.reopen()
    embedded.us.put(A, [b"2"])
    assert read(embedded.mx, A, position) == [b"2"]


def test_a_reader_that_was_away_too_long_goes_on_with_what_is_left(embedded):
    embedded.us.put(A, [b"1", b"2"])
    position = embedded.mx.get(A, 0, 1)[0].next_position
    embedded.us.prune(NOW, 100)
    embedded.us.prune(NOW + RETENTION_MS, 100)
    embedded.us.put(A, [b"3"])
    assert read(embedded.mx, A, position) == [b"3"]


def test_only_the_sender_removes(embedded):
    embedded.us.put(A, [b"1"])
    embedded.us.prune(NOW, 100)
    embedded.mx.prune(NOW + RETENTION_MS, 100)
    assert read(embedded.mx, A) == [b"1"]


def test_space_of_what_was_removed_is_used_again(embedded):
    file = embedded.folder / "us-mx.db"
    sizes = []
    for day in range(4):
        embedded.us.put(A, [bytes(100_000)] * 10)
        embedded.us.prune(NOW + day * RETENTION_MS, 100)
        embedded.us._out.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sizes.append(file.stat().st_size)
    assert sizes[3] <= sizes[1] < 2.2 * sizes[0]


def test_a_file_of_the_first_release_opens_keeps_its_envelopes_and_ages_from_now_on(tmp_path):
    old = apsw.Connection(str(tmp_path / "us-mx.db"))
    old.execute("PRAGMA journal_mode = WAL")
    old.execute(
        "CREATE TABLE envelopes (position INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,"
        " partition INTEGER NOT NULL, data BLOB NOT NULL);"
        "CREATE INDEX envelopes_stream ON envelopes (topic, partition, position);"
        "INSERT INTO envelopes (topic, partition, data) VALUES ('puente.us.mx.passenger', 0, x'31')"
    )
    old.close()
    pair = Pair("sqlite", tmp_path)
    assert read(pair.mx, A) == [b"1"]
    assert pair.us.prune(NOW, 100) == 0
    assert pair.us.prune(NOW + RETENTION_MS - MARK_MS, 100) == 0
    assert pair.us.prune(NOW + RETENTION_MS, 100) == 1
    pair.close()


def test_a_prune_that_fails_is_a_store_error(embedded):
    embedded.us._out.execute("DROP TABLE marks")
    with pytest.raises(StoreError):
        embedded.us.prune(NOW, 1)


def test_a_put_is_durable_when_it_returns(embedded):
    modes = [embedded.us._out.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert modes == ["wal", 2]
