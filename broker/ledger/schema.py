"""The tables of the embedded ledger, version by version; PRAGMA user_version says how far a file is.

A message's state changes often and its body never: they have a table each, or every change would rewrite kilobytes.

Trust: who can write this file can withhold service, and is found by the log's leaves; it holds no content in the clear.
"""

from collections.abc import Sequence

from broker.message import KEPT_MS

MIGRATIONS = (
    """
    CREATE TABLE log (
        log INTEGER NOT NULL, idx INTEGER NOT NULL, leaf BLOB NOT NULL, entry BLOB NOT NULL,
        PRIMARY KEY (log, idx)
    ) WITHOUT ROWID;
    CREATE TRIGGER log_keeps BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
    CREATE TRIGGER log_stays BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

    CREATE TABLE decisions (
        row INTEGER PRIMARY KEY, leaf BLOB NOT NULL UNIQUE, time_ms INTEGER NOT NULL, action TEXT NOT NULL,
        permit INTEGER NOT NULL, family TEXT NOT NULL, kind TEXT NOT NULL, origin TEXT NOT NULL,
        recipient TEXT NOT NULL, purpose INTEGER NOT NULL, rules TEXT NOT NULL, withheld TEXT NOT NULL,
        obligations TEXT NOT NULL, pack_digest BLOB NOT NULL, law_ms INTEGER NOT NULL, context BLOB NOT NULL,
        key_id BLOB NOT NULL
    );

    CREATE TABLE batches (row INTEGER PRIMARY KEY, statement BLOB NOT NULL UNIQUE, signature BLOB NOT NULL);

    CREATE TABLE outbound (
        row INTEGER PRIMARY KEY, message_id BLOB NOT NULL, origin TEXT NOT NULL, statement_hash BLOB NOT NULL,
        release BLOB UNIQUE, recipient TEXT NOT NULL, family TEXT NOT NULL, kind TEXT NOT NULL,
        purpose INTEGER NOT NULL, conversation BLOB NOT NULL, topic TEXT, partition INTEGER, seq INTEGER,
        state INTEGER NOT NULL, reason INTEGER NOT NULL, steps BLOB NOT NULL, decision BLOB NOT NULL,
        batch INTEGER, key_id BLOB NOT NULL, expires_ms INTEGER NOT NULL, destroy_by_ms INTEGER NOT NULL,
        destroyed INTEGER NOT NULL DEFAULT 0,
        UNIQUE (origin, message_id)
    );
    CREATE TABLE outbound_bodies (row INTEGER PRIMARY KEY, entry BLOB NOT NULL, core BLOB NOT NULL, content BLOB);
    CREATE INDEX outbound_open ON outbound (topic, partition, seq) WHERE state = 2;
    CREATE INDEX outbound_purge ON outbound (destroy_by_ms) WHERE destroyed = 0 AND destroy_by_ms > 0;

    CREATE TABLE inbound (
        row INTEGER PRIMARY KEY, release BLOB NOT NULL UNIQUE, message_id BLOB NOT NULL, origin TEXT NOT NULL,
        recipient TEXT NOT NULL, family TEXT NOT NULL, kind TEXT NOT NULL, purpose INTEGER NOT NULL,
        conversation BLOB NOT NULL, state INTEGER NOT NULL, reason INTEGER NOT NULL, steps BLOB NOT NULL,
        decision BLOB NOT NULL, batch INTEGER, key_id BLOB, caveats TEXT NOT NULL,
        withheld TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, recall INTEGER NOT NULL DEFAULT 0,
        receipt BLOB, expires_ms INTEGER NOT NULL, destroy_by_ms INTEGER NOT NULL,
        destroyed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE inbound_bodies (row INTEGER PRIMARY KEY, entry BLOB NOT NULL, core BLOB NOT NULL, content BLOB);
    CREATE INDEX inbound_seen ON inbound (message_id, origin);
    CREATE INDEX inbound_waiting ON inbound (recipient, row) WHERE state IN (4, 5);
    CREATE INDEX inbound_recalled ON inbound (recipient, row) WHERE recall = 1;
    CREATE INDEX inbound_expiry ON inbound (expires_ms) WHERE state IN (4, 5);
    CREATE INDEX inbound_purge ON inbound (destroy_by_ms) WHERE destroyed = 0 AND destroy_by_ms > 0;
    CREATE TABLE leases (
        recipient TEXT NOT NULL, conversation BLOB NOT NULL, holder TEXT NOT NULL, until_ms INTEGER NOT NULL,
        PRIMARY KEY (recipient, conversation)
    ) WITHOUT ROWID;

    CREATE TABLE recalls (
        release BLOB PRIMARY KEY, origin TEXT NOT NULL, reason INTEGER NOT NULL, until_ms INTEGER NOT NULL,
        answer_by_ms INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE streams_out (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, fence INTEGER NOT NULL DEFAULT 0,
        last_seq INTEGER NOT NULL DEFAULT 0, chain INTEGER NOT NULL DEFAULT 0, durable INTEGER NOT NULL DEFAULT 0,
        taken INTEGER NOT NULL DEFAULT 0, repairs INTEGER NOT NULL DEFAULT 0, repaired_at INTEGER NOT NULL DEFAULT -1,
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
    CREATE TABLE envelopes (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, seq INTEGER NOT NULL, after INTEGER NOT NULL,
        count INTEGER NOT NULL, time_ms INTEGER NOT NULL, envelope BLOB NOT NULL,
        PRIMARY KEY (topic, partition, seq)
    );
    CREATE TABLE sent (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (topic, partition, seq)
    ) WITHOUT ROWID;

    CREATE TABLE streams_in (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0,
        why INTEGER NOT NULL DEFAULT 1, position INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (topic, partition)
    ) WITHOUT ROWID;
    CREATE TABLE headers (
        topic TEXT NOT NULL, partition INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
        header BLOB, signature BLOB, enc_ct_hash BLOB,
        PRIMARY KEY (topic, partition, seq)
    );

    CREATE TABLE control_out (row INTEGER PRIMARY KEY, kind INTEGER NOT NULL, salt BLOB NOT NULL, body BLOB NOT NULL);
    CREATE TABLE control_sealed (seq INTEGER PRIMARY KEY, last_row INTEGER NOT NULL);
    CREATE TABLE control_in (
        row INTEGER PRIMARY KEY, header BLOB NOT NULL, signature BLOB NOT NULL, enc_ct_hash BLOB NOT NULL,
        leaves BLOB NOT NULL, items BLOB NOT NULL
    );

    CREATE TABLE accounting (
        row INTEGER PRIMARY KEY, release BLOB NOT NULL, subject BLOB NOT NULL, recipient TEXT NOT NULL,
        purpose INTEGER NOT NULL, time_ms INTEGER NOT NULL, keep_until_ms INTEGER NOT NULL
    );
    CREATE INDEX accounting_subject ON accounting (subject);

    CREATE TABLE quarantine (
        hash BLOB PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
        why TEXT NOT NULL, time_ms INTEGER NOT NULL, times INTEGER NOT NULL DEFAULT 1
    ) WITHOUT ROWID;
    CREATE TABLE alarms (what TEXT PRIMARY KEY, time_ms INTEGER NOT NULL, evidence BLOB) WITHOUT ROWID;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE packs (
        row INTEGER PRIMARY KEY, digest BLOB NOT NULL, pack TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL,
        UNIQUE (digest, pack, name)
    );
    CREATE TRIGGER packs_keep BEFORE UPDATE ON packs BEGIN SELECT RAISE(ABORT, 'packs are kept as they were'); END;
    CREATE TRIGGER packs_stay BEFORE DELETE ON packs BEGIN SELECT RAISE(ABORT, 'packs are kept as they were'); END;
    """,
    # Content of messages that have ended gets an end where no rule set one, and what never had content needs none.
    f"""
    UPDATE outbound SET destroy_by_ms = expires_ms + {KEPT_MS}
        WHERE state IN (1, 6, 7, 8, 9) AND release IS NOT NULL AND destroy_by_ms = 0 AND destroyed = 0;
    UPDATE inbound SET destroy_by_ms = expires_ms + {KEPT_MS}
        WHERE state IN (6, 7, 8, 9) AND batch IS NOT NULL AND destroy_by_ms = 0 AND destroyed = 0;
    UPDATE inbound SET destroy_by_ms = 0 WHERE batch IS NULL;
    """,
    # A message enters these when its content goes, or when it has none: never on its way through.
    """
    CREATE INDEX accounting_end ON accounting (keep_until_ms);
    CREATE INDEX outbound_over ON outbound (expires_ms) WHERE (destroyed = 1 OR release IS NULL);
    CREATE INDEX inbound_over ON inbound (expires_ms) WHERE (destroyed = 1 OR batch IS NULL);
    """,
    # An envelope held it that may have left, and it waits to be sealed again: the other party may know it.
    """
    ALTER TABLE outbound ADD COLUMN left_once INTEGER NOT NULL DEFAULT 0;
    UPDATE outbound SET left_once = 1 WHERE state = 2 AND seq IS NULL AND length(steps) > 16;
    """,
    """
    CREATE TABLE suspensions (
        row INTEGER PRIMARY KEY, what TEXT NOT NULL, proof BLOB NOT NULL UNIQUE, time_ms INTEGER NOT NULL,
        ended_ms INTEGER
    );
    CREATE INDEX suspensions_standing ON suspensions (row) WHERE ended_ms IS NULL;
    INSERT INTO suspensions (what, proof, time_ms)
        SELECT what, evidence, time_ms FROM alarms WHERE what GLOB 'EVIDENCE_*';
    CREATE TABLE asked (
        what TEXT PRIMARY KEY, person TEXT NOT NULL, time_ms INTEGER NOT NULL, about INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE acts (
        leaf BLOB PRIMARY KEY, time_ms INTEGER NOT NULL, act TEXT NOT NULL, person TEXT NOT NULL, why TEXT NOT NULL,
        salt BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE key_items (
        kid BLOB NOT NULL, version INTEGER NOT NULL, act INTEGER NOT NULL, body BLOB NOT NULL, time_ms INTEGER NOT NULL,
        PRIMARY KEY (kid, version)
    ) WITHOUT ROWID;
    CREATE INDEX control_keys ON control_out (row) WHERE kind = 3;
    """,
)


def marks(values: Sequence[object]) -> str:
    """A question mark for each value, for `IN (...)`: no value ever stands in a statement's text."""
    return ",".join("?" * len(values))
