//! The JSON documents that configure the program (02).
//!
//! [`document`] parses a text into the [`wire`] types, [`parsed`] turns a spec into the validated
//! values that everything else uses, [`source`] reads the first document. This module depends on no
//! other part of the program.

mod bare;
pub(crate) mod control_plane;
mod discreet;
pub mod document;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod grpc_url;
pub(crate) mod host_port;
pub(crate) mod ids;
mod jwk;
mod libpq_options;
pub(crate) mod libpq_url;
mod not_json;
pub mod pageserver;
pub(crate) mod parsed;
pub(crate) mod refetch;
pub(crate) mod similar;
pub(crate) mod source;
pub mod wire;

pub use error::SpecError;
pub use ids::{Lsn, ShardIndex, TenantId, TimelineId};
pub use parsed::ParsedSpec;
pub use wire::{ComputeMode, ComputeSpec};
