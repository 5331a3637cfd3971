//! `compute_ctl status`, `wait`, `configure`, `refresh`, `metrics` and `terminate`.
//!
//! Exit codes are an interface ([`ExitCode`]); data goes to stdout, errors to stderr, each with the
//! URL that was asked. The token comes from a file, never from the command line, and is never
//! printed.

use std::path::Path;

use serde_json::Value;

use super::args::{
    ConfigureArgs, MetricsArgs, RefreshArgs, StatusArgs, Target, TerminateArgs, WaitArgs, Wanted,
};
use super::calls::Client;
use super::error::{Error, Refusal};
use super::exit_code::ExitCode;
use super::options::{Options, SetupError, Timeouts, token_from_file};
use super::{report, watch};
use crate::os::denied::explained;
use crate::os::named_file;
use crate::spec::document;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: ExitCode,
    text: String,
}

impl Failure {
    pub(super) fn new(code: ExitCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// Prints it. Returns the exit code of the process.
    fn reported(&self, as_json: bool) -> u8 {
        report::failure(&self.text, self.code, as_json);
        self.code as u8
    }
}

/// `compute_ctl status`. Returns the exit code of the process.
pub fn status(args: &StatusArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { answer: args.timeout, ..Timeouts::default() };
    let json = args.target.json;
    run(&args.target, timeouts, async |client| {
        if let Some(interval) = args.watch {
            let look = async |width| match details(&client).await {
                Ok(details) => report::details(&details, json, width),
                Err(failure) => {
                    let text = format!("{}: {}", args.target.address(), failure.text);
                    report::failure_text(&text, failure.code, json)
                }
            };
            let watched = watch::watch(interval, look).await;
            return watched.map_err(|error| {
                Failure::new(ExitCode::Failed, format!("could not wait for Ctrl-C: {error}"))
            });
        }
        let details = details(&client).await?;
        let width = watch::Screen::of_stdout().width();
        report::print(&report::details(&details, json, width));
        match status_of(&details) {
            Some("failed") => Err(Failure::new(ExitCode::Failed, "the compute has failed")),
            _ => Ok(()),
        }
    })
}

/// The document of `/details`. An older compute does not have it, only its status.
async fn details(client: &Client) -> Result<Value, Failure> {
    let failed = |error: Error| failed(&error, client);
    match client.details().await {
        Ok(details) if status_of(&details).is_some() => Ok(details),
        Ok(_) => Err(failed(Error::Unexpected("a document of details"))),
        Err(Error::Refused(answer)) if answer.status == 404 => {
            let status = client.status().await.map_err(failed)?;
            Ok(serde_json::json!({"status": status.document()}))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The status in the document of `/details`.
fn status_of(details: &Value) -> Option<&str> {
    details.pointer("/status/status")?.as_str()
}

/// `compute_ctl wait`. Returns the exit code of the process.
pub fn wait(args: &WaitArgs) -> anyhow::Result<u8> {
    run(&args.target, Timeouts::default(), async |client| {
        match args.wanted {
            Wanted::Status(wanted) => {
                let status = client.wait_for(wanted, args.timeout).await;
                let status = status.map_err(|error| failed(&error, &client))?;
                report::status(status.document(), args.target.json);
            }
            Wanted::Ready => {
                let ready = client.wait_until_ready(args.timeout).await;
                ready.map_err(|error| failed(&error, &client))?;
                report::ready(args.target.json);
            }
        }
        Ok(())
    })
}

/// `compute_ctl configure`. Returns the exit code of the process.
pub fn configure(args: &ConfigureArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { change: args.timeout, ..Timeouts::default() };
    // Before a connection: an error about the file does not name the URL.
    let mut document = match read(&args.file) {
        Ok(document) => document,
        Err(failure) => return Ok(failure.reported(args.target.json)),
    };
    if args.full {
        document.insert("force_catalog_check".to_owned(), true.into());
    }
    run(&args.target, timeouts, async |client| {
        let status = client.configure(&document.into()).await.map_err(|error| match &error {
            // Here it is about the document, or the missing token; the text says which.
            Error::Refused(answer) if answer.status == 400 => refused(answer, ExitCode::Failed),
            _ => failed(&error, &client),
        })?;
        report::status(status.document(), args.target.json);
        Ok(())
    })
}

/// Reads a document without looking at its members: the compute does that.
fn read(file: &Path) -> Result<serde_json::Map<String, Value>, Failure> {
    let failed = |done: &str, why: &dyn std::fmt::Display| {
        Failure::new(ExitCode::Failed, format!("could not {done} {}: {why}", file.display()))
    };
    let text = named_file::read(file, named_file::DOCUMENT)
        .map_err(|error| failed("read", &explained(error, file)))?;
    let parsed = document::parse(&text).map_err(|error| failed("parse", &error))?;
    Ok(parsed.value)
}

/// `compute_ctl refresh`. Returns the exit code of the process.
pub fn refresh(args: &RefreshArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { answer: args.timeout, ..Timeouts::default() };
    run(&args.target(), timeouts, async |client| {
        client.refresh().await.map_err(|error| match &error {
            Error::Refused(answer) if answer.status == 404 => Failure::new(
                ExitCode::Failed,
                format!(
                    "the compute answered {answer}; --url needs the internal server of a compute, \
                     whose port is 3081 unless --internal-http-port says otherwise"
                ),
            ),
            // The server says only in its text that the status is the reason (03 §6.4).
            Error::Refused(answer) if answer.status == 500 => {
                refused(answer, ExitCode::WrongStatus)
            }
            _ => failed(&error, &client),
        })
    })
}

/// `compute_ctl metrics`. Returns the exit code of the process.
pub fn metrics(args: &MetricsArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { answer: args.timeout, ..Timeouts::default() };
    run(&args.target(), timeouts, async |client| {
        let text = if args.json {
            client.startup_metrics().await.map(|metrics| report::durations(&metrics))
        } else {
            client.metrics().await
        };
        report::metrics(&text.map_err(|error| failed(&error, &client))?);
        Ok(())
    })
}

/// `compute_ctl terminate`. Returns the exit code of the process.
pub fn terminate(args: &TerminateArgs) -> anyhow::Result<u8> {
    let timeouts = Timeouts { terminate: args.timeout, ..Timeouts::default() };
    run(&args.target, timeouts, async |client| {
        let terminated = client.terminate(args.mode.0).await;
        let terminated = terminated.map_err(|error| failed(&error, &client))?;
        report::terminated(&terminated, args.target.json);
        Ok(())
    })
}

pub(super) fn run(
    target: &Target,
    timeouts: Timeouts,
    work: impl AsyncFnOnce(Client) -> Result<(), Failure>,
) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match client(target, timeouts) {
        Ok(client) => runtime.block_on(work(client)).map_err(|failure| {
            let text = format!("{}: {}", target.address(), failure.text);
            Failure { text, ..failure }
        }),
        Err(error) => Err(Failure::new(ExitCode::Failed, error.to_string())),
    };
    let code = match result {
        Ok(()) => ExitCode::Ok,
        Err(failure) => return Ok(failure.reported(target.json)),
    };
    Ok(code as u8)
}

fn client(target: &Target, timeouts: Timeouts) -> Result<Client, SetupError> {
    let token = target.token_file.as_deref().map(token_from_file).transpose()?;
    let certificates = target.tls.certificates().map_err(SetupError::Certificates)?;
    Client::new(Options { url: target.url.to_string(), token, certificates, timeouts })
}

pub(super) fn failed(error: &Error, client: &Client) -> Failure {
    match error {
        Error::Refused(answer) => refused(answer, code_of_answer(answer, client)),
        Error::NotReached(_) => Failure::new(
            code(error),
            format!("{error}; is a compute running there? --url gives another address"),
        ),
        _ => Failure::new(code(error), error.to_string()),
    }
}

fn code(error: &Error) -> ExitCode {
    match error {
        Error::Deadline | Error::NotInTime { .. } | Error::NotReady { .. } => ExitCode::Timeout,
        Error::NotReached(_) => ExitCode::NotReached,
        Error::Lost { error, .. } => code(error),
        Error::Refused(_)
        | Error::Broken(_)
        | Error::TooLarge
        | Error::Unexpected(_)
        | Error::Never { .. } => ExitCode::Failed,
    }
}

fn code_of_answer(answer: &Refusal, client: &Client) -> ExitCode {
    match answer.status {
        401 | 403 => ExitCode::Refused,
        // The answer of a compute when a token is missing (03 §4.2).
        400 if !client.has_token() => ExitCode::Refused,
        412 => ExitCode::WrongStatus,
        _ => ExitCode::Failed,
    }
}

fn refused(answer: &Refusal, code: ExitCode) -> Failure {
    let advice = match answer.status {
        404 => {
            "; --url needs the external server of a compute, whose port is 3080 unless \
             --external-http-port says otherwise"
        }
        _ => "",
    };
    Failure::new(code, format!("the compute answered {answer}{advice}"))
}
