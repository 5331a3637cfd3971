//! Servers: which PostgreSQL a test runs on, plain ones, changed copies, and programs in their
//! place.

mod choice;
mod fake_postgres;
mod fake_server;
mod neon_stub;
mod relocated;
mod vanilla;
mod walsender;

pub use choice::{
    on_every_server, on_one_server, on_one_server_with, on_servers_with, pg_version, servers,
};
pub use fake_server::IMMORTAL;
pub use neon_stub::NeonStub;
pub use relocated::Relocated;
pub use vanilla::Vanilla;
pub use walsender::WalReceiver;
