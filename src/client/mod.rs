//! `compute_ctl status`, `wait`, `configure` and `terminate`: a small client of the external server.
//!
//! ```text
//! args ─► api: one request, one deadline ─► this file: what to ask, for how long ─► report
//! ```
//!
//! Exit codes are an interface ([`ExitCode`]); data goes to stdout, errors to stderr, each with the
//! URL that was asked. The token
//! comes from a file, never from the command line, and is never printed.

pub(crate) mod api;
pub(crate) mod args;
mod exit_code;
pub(crate) mod report;

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep_until, timeout_at};

pub use exit_code::ExitCode;

use crate::state::{ComputeStatus, TerminateMode};
use api::{Answer, Api, RequestError};
use args::{ConfigureArgs, StatusArgs, Target, TerminateArgs, WaitArgs, Wanted};

/// Pause between two requests to a compute that does not answer, or that does not support `wait`.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest wait that one request asks for; less than the compute allows.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Time that the answer to a wait may take to arrive.
const SLACK: Duration = Duration::from_millis(500);

/// Why a command failed.
#[derive(Debug)]
struct Failure {
    code: ExitCode,
    text: String,
}

impl Failure {
    fn new(code: ExitCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// `compute_ctl status`. Returns the exit code of the process.
pub fn status(args: &StatusArgs) -> anyhow::Result<u8> {
    run(&args.target, async |api| {
        let answer = ask_status(&api, "/status", Instant::now() + args.timeout).await?;
        report::status(&answer.document, args.target.json);
        match answer.status() {
            Some("failed") => Err(Failure::new(ExitCode::Failed, "the compute has failed")),
            _ => Ok(()),
        }
    })
}

/// `compute_ctl wait`. Returns the exit code of the process.
pub fn wait(args: &WaitArgs) -> anyhow::Result<u8> {
    run(&args.target, async |api| {
        let deadline = Instant::now() + args.timeout;
        match args.wanted {
            Wanted::Status(wanted) => {
                let document = wait_for(&api, wanted, deadline, args.timeout).await?;
                report::status(&document, args.target.json);
            }
            Wanted::Ready => {
                wait_for_ready(&api, deadline, args.timeout).await?;
                report::ready(args.target.json);
            }
        }
        Ok(())
    })
}

/// `compute_ctl configure`. Returns the exit code of the process.
pub fn configure(args: &ConfigureArgs) -> anyhow::Result<u8> {
    run(&args.target, async |api| {
        let mut document = read(&args.file)?;
        if args.full {
            document.insert("force_catalog_check".to_owned(), true.into());
        }
        let answer =
            api.post("/configure", &document.into(), Instant::now() + args.timeout).await?;
        let answer = match answer.code {
            // Here it is about the document, or the missing token; the text says which.
            StatusCode::BAD_REQUEST => return Err(refused(&answer, ExitCode::Failed)),
            _ => expect(answer, &[StatusCode::OK], &api)?,
        };
        report::status(&answer.document, args.target.json);
        Ok(())
    })
}

/// Reads a document without looking at its members: the compute does that.
fn read(file: &Path) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(ExitCode::Failed, format!("could not read {}: {why}", file.display()))
    };
    let text = std::fs::read(file).map_err(|error| failed(&error))?;
    match serde_json::from_slice(&text).map_err(|error| failed(&error))? {
        serde_json::Value::Object(document) => Ok(document),
        _ => Err(failed(&"it is not a JSON object")),
    }
}

/// `compute_ctl terminate`. Returns the exit code of the process.
pub fn terminate(args: &TerminateArgs) -> anyhow::Result<u8> {
    run(&args.target, async |api| {
        let mode = match args.mode.0 {
            TerminateMode::Fast => "fast",
            TerminateMode::Immediate => "immediate",
        };
        let deadline = Instant::now() + args.timeout;
        let answer = api.request(Method::POST, &format!("/terminate?mode={mode}"), deadline).await;
        let answer = expect(answer?, &[StatusCode::OK, StatusCode::CREATED], &api)?;
        report::terminated(&answer.document, args.target.json);
        Ok(())
    })
}

fn run(target: &Target, work: impl AsyncFnOnce(Api) -> Result<(), Failure>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match Api::new(target) {
        Ok(api) => runtime.block_on(work(api)).map_err(|failure| {
            let text = format!("{}: {}", target.address(), failure.text);
            Failure { text, ..failure }
        }),
        Err(error) => Err(Failure::new(ExitCode::Failed, error.to_string())),
    };
    let code = match result {
        Ok(()) => ExitCode::Ok,
        Err(failure) => {
            report::failure(&failure.text, failure.code, target.json);
            failure.code
        }
    };
    Ok(code as u8)
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let code = match error {
            RequestError::Deadline => ExitCode::Timeout,
            RequestError::NotReached(_) => ExitCode::NotReached,
            RequestError::Broken(_) | RequestError::TooLarge => ExitCode::Failed,
        };
        Self::new(code, error.to_string())
    }
}

/// Turns unexpected answers into failures.
fn expect(answer: Answer, expected: &[StatusCode], api: &Api) -> Result<Answer, Failure> {
    if expected.contains(&answer.code) {
        return Ok(answer);
    }
    let code = match answer.code {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ExitCode::Refused,
        // The answer of a compute when a token is missing (03 §4.2).
        StatusCode::BAD_REQUEST if !api.has_token() => ExitCode::Refused,
        StatusCode::PRECONDITION_FAILED => ExitCode::WrongStatus,
        _ => ExitCode::Failed,
    };
    Err(refused(&answer, code))
}

fn refused(answer: &Answer, code: ExitCode) -> Failure {
    let text = answer.error().unwrap_or("without a reason");
    let advice = match answer.code {
        StatusCode::NOT_FOUND => {
            "; --url needs the external server of a compute, whose port is 3080 unless \
             --external-http-port says otherwise"
        }
        _ => "",
    };
    Failure::new(code, format!("the compute answered {}: {text}{advice}", answer.code))
}

async fn ask_status(api: &Api, path: &str, deadline: Instant) -> Result<Answer, Failure> {
    status_document(api.request(Method::GET, path, deadline).await?, api)
}

fn status_document(answer: Answer, api: &Api) -> Result<Answer, Failure> {
    let answer = expect(answer, &[StatusCode::OK], api)?;
    if answer.status().is_none() {
        return Err(Failure::new(ExitCode::Failed, "the answer is not a status document"));
    }
    Ok(answer)
}

/// Waits until the compute shows a status. A compute that does not answer is also waited for: it
/// may not have opened its port yet. One that does not support `wait` is polled.
async fn wait_for(
    api: &Api,
    wanted: ComputeStatus,
    deadline: Instant,
    timeout: Duration,
) -> Result<serde_json::Value, Failure> {
    let name = wanted.name();
    let mut seen: Option<Answer> = None;
    loop {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now).min(LONGEST_WAIT);
        // The compute must answer before the timeout expires.
        let its_wait = left.saturating_sub(SLACK).as_millis();
        let path = format!("/status?wait={name}&timeout={its_wait}ms");
        match api.request(Method::GET, &path, now + left).await {
            Ok(answer) => {
                let answer = status_document(answer, api)?;
                let status = answer.status().unwrap_or_default();
                if status == name {
                    return Ok(answer.document);
                }
                if let Some(text) = never(status, wanted) {
                    let why = answer.error().map(|why| format!(": {why}")).unwrap_or_default();
                    return Err(Failure::new(ExitCode::Failed, format!("{text}{why}")));
                }
                seen = Some(answer);
            }
            Err(error @ RequestError::TooLarge) => return Err(error.into()),
            // No answer or a broken connection: the compute may be starting, stopping or busy.
            Err(error) => {
                let gone = matches!(error, RequestError::NotReached(_));
                // The process ends soon after it has shown this status.
                if let Some(last) = seen.as_ref()
                    && gone
                    && wanted == ComputeStatus::Terminated
                    && last.status().is_some_and(|status| status.starts_with("termination_"))
                {
                    return Ok(serde_json::json!({"status": name}));
                }
                if Instant::now() >= deadline && (gone || seen.is_none()) {
                    let mut failure = Failure::from(error);
                    if let Some(last) = seen.as_ref().and_then(Answer::status) {
                        failure.text += &format!("; the last status it showed is {last}");
                    }
                    return Err(failure);
                }
            }
        }
        if Instant::now() >= deadline {
            let last = seen.as_ref().and_then(Answer::status).unwrap_or("unknown");
            let text = format!(
                "the compute did not become {name} within {timeout:?}, its status is {last}"
            );
            return Err(Failure::new(ExitCode::Timeout, text));
        }
        // Returns early at the deadline.
        let _ = timeout_at(deadline, sleep_until(Instant::now() + PAUSE)).await;
    }
}

/// Waits until Postgres serves; needs no token. A compute that does not answer is also waited for.
async fn wait_for_ready(api: &Api, deadline: Instant, limit: Duration) -> Result<(), Failure> {
    let mut last: Option<Failure> = None;
    loop {
        match api.request(Method::GET, "/ready", deadline).await {
            Ok(answer) if answer.code == StatusCode::SERVICE_UNAVAILABLE => {
                let why = answer.error().unwrap_or("not ready, without a reason");
                let text =
                    format!("the compute did not become ready within {limit:?}, it is {why}");
                last = Some(Failure::new(ExitCode::Timeout, text));
            }
            Ok(answer) => return expect(answer, &[StatusCode::OK], api).map(|_| ()),
            Err(error @ RequestError::TooLarge) => return Err(error.into()),
            // The deadline cuts the last request off; what the compute said before says more.
            Err(error) => {
                let gone = matches!(error, RequestError::NotReached(_));
                last = last.filter(|_| !gone).or_else(|| Some(error.into()));
            }
        }
        // Returns early at the deadline.
        let _ = timeout_at(deadline, sleep_until(Instant::now() + PAUSE)).await;
        if Instant::now() >= deadline
            && let Some(last) = last.take()
        {
            return Err(last);
        }
    }
}

/// Why a compute in this status cannot reach the wanted one by itself.
fn never(status: &str, wanted: ComputeStatus) -> Option<&'static str> {
    match status {
        "failed" => Some("the compute has failed"),
        "terminated" => Some("the compute has ended"),
        _ if status.starts_with("termination_") && !wanted.is_ending() => {
            Some("the compute is ending")
        }
        _ => None,
    }
}
