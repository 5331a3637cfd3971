//! Waits until a compute runs, and prints what it is and what its start took. With a configuration
//! as the third argument, applies that, too.
//!
//! ```text
//! cargo run --example client -- http://127.0.0.1:3080
//! cargo run --example client -- http://10.0.0.7:3080 TOKEN_FILE CONFIG.json
//! ```

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use compute_ctl::client::{Client, ComputeStatus, Error, Options, token_from_file};
use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

/// How long the compute may take to start.
const START: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| Options::default().url);
    let (token_file, configuration) = (arguments.next(), arguments.next());
    let result = (|| {
        let token = token_file.map(|path| token_from_file(Path::new(&path))).transpose()?;
        let configuration = configuration.map(std::fs::read).transpose()?;
        let configuration = configuration.map(|text| serde_json::from_slice(&text)).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let options = Options { url, token, ..Options::default() };
        runtime.block_on(watch(options, configuration, &mut io::stdout()))
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line for each thing that it finds out.
pub async fn watch(
    options: Options,
    configuration: Option<Value>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let client = Client::new(options)?;

    // Also waits for a compute that has not opened its port yet.
    let status = client.wait_for(ComputeStatus::Running, START).await?;
    writeln!(out, "tenant {} is {}", status.tenant().unwrap_or("-"), status.status().name())?;
    let metrics = client.startup_metrics().await?;
    writeln!(
        out,
        "the start took {} ms, {} ms of it for a base backup of {} bytes",
        metrics.total_startup_ms, metrics.basebackup_ms, metrics.basebackup_bytes
    )?;
    for database in client.databases_and_roles().await?.databases {
        writeln!(out, "database {} of {}", database.name, database.owner)?;
    }

    if let Some(configuration) = configuration {
        match client.configure(&configuration).await {
            Ok(status) => {
                let report = status.extra()?.apply_report;
                let done = report.map_or(0, |report| report.counts.done);
                writeln!(out, "applied the configuration: {done} changes to the catalog")?;
            }
            // The compute refused it or could not apply it, and says why.
            Err(Error::Refused(answer)) => writeln!(out, "not applied: {answer}")?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
