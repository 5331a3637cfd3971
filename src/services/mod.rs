//! Services of the compute for a running Postgres (07).
//!
//! | module | purpose |
//! |---|---|
//! | [`extensions`] | extensions that are fetched when they are needed |
//! | [`lfc`] | prewarm and offload of the local file cache |
//! | [`monitor`] | whether users are active, and whether Postgres answers |
//! | [`installed_extensions`] | statistics on extensions |

pub(crate) mod extensions;
pub mod installed_extensions;
pub(crate) mod lfc;
pub mod monitor;

#[cfg(test)]
mod testing;
