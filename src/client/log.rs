//! The log of a compute: its last lines, and its level (internal server).

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::api::{Answer, Request};
use super::calls::{Client, command, get, post};
use super::error::Error;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LogLine {
    /// Number of the line since the start of the process, from 1 on.
    pub sequence: u64,
    /// When it was written: RFC 3339, UTC, with microseconds.
    pub timestamp: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub level: String,
    /// `compute_ctl` or `postgres`.
    pub source: String,
    /// The text; of a long one the beginning and the number of bytes.
    pub message: String,
}

/// The level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LogLevel {
    /// The filter in force, in the form of `RUST_LOG`.
    pub level: String,
    /// The filter of `RUST_LOG`.
    pub configured: String,
    /// When the configured filter is in force again; none if it is now.
    pub until: Option<String>,
}

/// The log (internal server).
impl Client {
    /// `GET /log?lines=…`: the last lines, oldest first; at most 500 are kept.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log(&self, lines: usize) -> Result<Vec<LogLine>, Error> {
        let request = Request { query: &[("lines", &lines.to_string())], ..get("/log") };
        lines_of(&self.within_answer(request, Duration::ZERO).await?)
    }

    /// `GET /log?after=…`: the lines after the one with this number; without any, waits for one, at
    /// most for `wait`, and then returns none.
    ///
    /// # Errors
    /// See [`Error`]. Status code 503: too many requests wait already.
    pub async fn log_after(&self, sequence: u64, wait: Duration) -> Result<Vec<LogLine>, Error> {
        let (sequence, timeout) = (sequence.to_string(), format!("{}ms", wait.as_millis()));
        let query = [("after", sequence.as_str()), ("timeout", &timeout)];
        lines_of(&self.within_answer(Request { query: &query, ..get("/log") }, wait).await?)
    }

    /// `GET /log_level`: the level of the log.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_level(&self) -> Result<LogLevel, Error> {
        let answer = self.within_answer(command(Method::GET, "/log_level"), Duration::ZERO).await?;
        answer.document("the level of the log")
    }

    /// `POST /log_level`: another level, or a filter in the form of `RUST_LOG`, for this time.
    ///
    /// # Errors
    /// See [`Error`]. Status code 400: the filter or the time cannot be used.
    pub async fn set_log_level(&self, level: &str, limit: Duration) -> Result<LogLevel, Error> {
        let body = json!({"level": level, "for": format!("{}ms", limit.as_millis())});
        let answer = self.within_answer(post("/log_level", &body)?, Duration::ZERO).await?;
        answer.document("the level of the log")
    }

    /// An answer within the time limit for answers, after a wait of the compute.
    async fn within_answer(&self, request: Request<'_>, wait: Duration) -> Result<Answer, Error> {
        let deadline = Instant::now() + wait + self.timeouts.answer;
        self.api.send(request, deadline).await?.success()
    }
}

fn lines_of(answer: &Answer) -> Result<Vec<LogLine>, Error> {
    answer.document("the lines of the log")
}
