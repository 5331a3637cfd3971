//! Addresses and the programs behind them: none, a stub, a control plane, a slow line.

#[cfg(feature = "testing")]
mod bad_line;
pub mod collector;
mod control_plane;
mod free_port;
mod http_stub;
mod ports;
mod relay;

#[cfg(feature = "testing")]
pub use bad_line::{BadLine, Weather};
pub use control_plane::{ControlPlane, answer};
pub use free_port::free_port;
pub use http_stub::{Asked, HttpStub, Reply};
pub use ports::{ClosedPort, SilentPort};
pub use relay::Network;
