//! Integration tests: the real binary against a real Postgres and stand-in storage.
