//! Properties of what is read from pageservers, for [`crate::fuzzing`].

mod archive;
mod streams;

pub(crate) use archive::{gzip, pax, tar};
pub(crate) use streams::{grpc_frames, libpq_messages};
