"""Native formats of the agencies: `decode(bytes)` → records of `broker.v1`, `encode(records)` → bytes; no I/O."""
