//! Random lives: sequences of all events that a compute can meet, against the real binary, compared
//! with a model.
//!
//! ```text
//!  steps ──► life ──────────► compute_ctl, stand-in storage, control plane, Postgres
//!              │ does, sees         (a stub that costs nothing)
//!              ▼
//!            belief ──► world: driver, requests, ending      (pure)
//! ```
//!
//! `steps` draws a sequence from a seed. `life` carries it out, tells the model what it does, and shows
//! it every status, every answer, the file of Postgres and the exit code. The model says whether a
//! compute that keeps to the documents can show this. `batch` runs many lives at once, and shrinks one
//! that has failed.
//!
//! | variable | |
//! |---|---|
//! | `CCTL_MODEL_CASES` | number of lives with the stub |
//! | `CCTL_MODEL_REAL` | number of lives on a real server, whose catalog is compared, too |
//! | `CCTL_MODEL_SEED` | seed of the first one; a failed life names its own |
//! | `CCTL_MODEL_JOBS` | lives at a time |

mod batch;
mod belief;
mod catalog;
mod documents;
mod driver;
mod ending;
mod found;
mod legal;
mod life;
mod model_tests;
mod requests;
mod steps;
mod world;

use crate::support::bed::template;
use crate::support::server::on_one_server;

/// A life takes about three seconds, most of which it waits.
const CASES: u64 = 12;
const REAL_CASES: u64 = 4;

#[tokio::test]
async fn whatever_comes_in_whatever_order() {
    on_one_server(|server| async move {
        // Made once, before many lives want it at once.
        template(&server).await;
        let cases = batch::number("CCTL_MODEL_CASES").unwrap_or(CASES);
        batch::run(&server, world::Server::Stub, cases);
    })
    .await;
}

#[tokio::test]
async fn whatever_comes_to_a_real_server() {
    on_one_server(|server| async move {
        template(&server).await;
        let cases = batch::number("CCTL_MODEL_REAL").unwrap_or(REAL_CASES);
        batch::run(&server, world::Server::Real, cases);
    })
    .await;
}
