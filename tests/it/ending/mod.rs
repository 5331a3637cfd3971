//! How a compute ends: on request, on a signal, because Postgres died, and what remains.

mod core_dump;
mod detached_and_terminated;
mod final_sync_fails;
mod orphans;
mod other_signals;
mod postgres_dies;
mod signal_in_each_phase;
mod signals;
mod takes_along;
mod terminate;
