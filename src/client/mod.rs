//! A client of a compute: a library for programs that drive computes, and the commands
//! `compute_ctl status`, `wait`, `configure`, `refresh`, `metrics` and `terminate`, which use it.
//!
//! ```text
//! options ─► api: one request, one deadline ─► calls: one method per operation ─► documents, error
//!                                          └─► wait: asks repeatedly
//! args ─────► commands: the command line ───► report, overview, watch
//! ```
//!
//! [`Client`] has a method for every operation of both servers, as `openapi.json` describes them;
//! its answers are typed ([`documents`]) and so are its [errors](Error). Every call has a
//! deadline ([`Timeouts`]). A token is never printed and is sent to the address in
//! [`Options::url`] only: redirects are not followed, and the proxies of the environment are not
//! used.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use compute_ctl::client::{Client, ComputeStatus, Error, Options, Secret};
//!
//! # async fn example(token: String) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Options {
//!     url: "http://10.0.0.7:3080".to_owned(),
//!     token: Some(Secret::new(token)),
//!     ..Options::default()
//! })?;
//! client.wait_for(ComputeStatus::Running, Duration::from_secs(60)).await?;
//! println!("{} ms to running", client.startup_metrics().await?.total_startup_ms);
//! match client.terminate(Default::default()).await {
//!     Ok(terminated) => println!("ended at {:?}", terminated.lsn),
//!     Err(Error::Refused(answer)) if answer.status == 412 => println!("not now: {answer}"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/client.rs` is a complete program. The calls need a Tokio runtime.

mod api;
pub(crate) mod args;
mod calls;
mod certificates;
mod commands;
pub mod documents;
mod error;
mod exit_code;
mod log;
mod log_commands;
mod options;
mod overview;
pub(crate) mod report;
mod wait;
mod watch;

pub use calls::Client;
pub use certificates::{Certificates, CertificatesError};
pub use commands::{configure, metrics, refresh, status, terminate, wait};
pub use error::{Error, Refusal};
pub use exit_code::ExitCode;
pub use log::{LogLevel, LogLine};
pub use log_commands::{log_level, logs};
pub use options::{Options, SetupError, Timeouts, token_from_file};

pub use crate::secret::Secret;
pub use crate::state::{ComputeStatus, TerminateMode};
