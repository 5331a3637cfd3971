//! `GET /log`: the last lines of the log, which are kept in memory ([`crate::telemetry::recent`]).
//!
//! Clients follow the log with the number of the last line that they have: `after` with `timeout`
//! waits for the next line. These requests are among those that the log mentions only at debug
//! ([`super::observe`]); otherwise each answer would be the reason for the next one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::answers::{INTERNAL, INTERNAL_URL};
use super::api::{Api, Routes, route};
use super::error::{ApiError, ErrorDocument};
use super::wait;
use crate::telemetry::recent::Line;

/// Lines of an answer without `lines`.
const DEFAULT: usize = 100;

/// Routes of the internal server.
pub(super) fn internal() -> Routes {
    vec![route!(log)]
}

/// A line of the log.
#[derive(Debug, Serialize, ToSchema)]
struct LogLine {
    /// Number of the line since the start of the process, from 1 on.
    sequence: u64,
    /// When it was written: RFC 3339, UTC, with microseconds.
    #[serde(serialize_with = "micros")]
    #[schema(value_type = String, format = DateTime)]
    timestamp: DateTime<Utc>,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`; that of a line of Postgres follows its severity.
    level: &'static str,
    /// `compute_ctl` or `postgres`.
    source: &'static str,
    /// The text; of a long one the beginning and the number of bytes. Lines of a message of
    /// Postgres are separated by line feeds.
    #[schema(value_type = String)]
    message: Arc<str>,
}

fn micros<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

impl From<Line> for LogLine {
    fn from(line: Line) -> Self {
        Self {
            sequence: line.sequence,
            timestamp: line.at,
            level: line.level.as_str(),
            source: line.source.name(),
            message: line.message,
        }
    }
}

#[derive(Debug, Deserialize)]
struct LogQuery {
    lines: Option<u64>,
    after: Option<u64>,
    timeout: Option<String>,
}

impl LogQuery {
    /// The time to wait for a line, if the query asks for that.
    fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let bad = |text: String| ApiError::new(StatusCode::BAD_REQUEST, text);
        // The description says int64, which generated clients use.
        for (name, number) in [("lines", self.lines), ("after", self.after)] {
            if number.is_some_and(|number| i64::try_from(number).is_err()) {
                return Err(bad(format!("{name}: {} at most", i64::MAX)));
            }
        }
        self.timeout.as_deref().map(wait::limit).transpose()
    }
}

#[utoipa::path(
    get,
    path = "/log",
    operation_id = "getLog",
    tag = INTERNAL,
    servers((url = INTERNAL_URL)),
    summary = "The last lines of the log, oldest first",
    description = "The last 500 lines are kept, 256 KiB at most",
    params(
        ("lines" = Option<u64>, Query, maximum = 9223372036854775807_i64, description = "How many of the last lines; 100 unless \
         given, or with `after` all that are kept"),
        ("after" = Option<u64>, Query, maximum = 9223372036854775807_i64, description = "Only lines after the one with this number. A \
         number that is not reached yet is from an earlier process and counts as 0"),
        ("timeout" = Option<String>, Query, description = "With `after` and without such a line, \
         wait for one: `500ms`, `30s`, `2m`; 5 minutes at most. Without `after` it has no effect",
         pattern = "^0*((300000|[12]?[0-9]{1,5})ms|(300|[12]?[0-9]{1,2})s?|[0-5]m)$")
    ),
    responses(
        (status = 200, description = "At any time", body = Vec<LogLine>),
        (status = 400, description = "The query cannot be used", body = ErrorDocument),
        (status = 503, description = "Only with `timeout`: half of the connections wait already", body = ErrorDocument)
    )
)]
async fn log(State(api): State<Api>, uri: Uri) -> Result<Json<Vec<LogLine>>, ApiError> {
    let Query(query) = Query::<LogQuery>::try_from_uri(&uri)?;
    let recent = api.node.log.recent();
    let wait = query.wait()?;
    let lines = query.lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let lines = match query.after {
        None => recent.last(lines.unwrap_or(DEFAULT)),
        Some(after) => {
            let after = if after > recent.newest() { 0 } else { after };
            if let Some(limit) = wait.filter(|_| after == recent.newest()) {
                let _place = api.polls.take()?;
                // Without a new line the answer is empty.
                let _ = timeout(limit, recent.wait_after(after)).await;
            }
            recent.after(after, lines.unwrap_or(usize::MAX))
        }
    };
    Ok(Json(lines.into_iter().map(LogLine::from).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::api;
    use crate::telemetry::recent::Source;

    async fn get(api: &Api, query: &str) -> Result<Value, (u16, String)> {
        let uri = format!("/log{query}").parse().unwrap();
        let answer = log(State(api.clone()), uri).await.map_err(ApiError::parts)?;
        Ok(serde_json::to_value(answer.0).unwrap())
    }

    fn add(api: &Api, text: &str) {
        let at = DateTime::parse_from_rfc3339("2026-01-02T03:04:05.6Z").unwrap().to_utc();
        let recent = api.node.log.recent();
        recent.add(at, tracing::Level::WARN, Source::Postgres, text);
    }

    #[tokio::test]
    async fn the_lines_that_the_query_asks_for() {
        let api = api();
        assert_eq!(get(&api, "").await, Ok(json!([])));
        for number in 1..=DEFAULT + 1 {
            add(&api, &number.to_string());
        }
        let line = json!({
            "sequence": 101, "timestamp": "2026-01-02T03:04:05.600000Z", "level": "WARN",
            "source": "postgres", "message": "101"
        });
        assert_eq!(get(&api, "?lines=1").await, Ok(json!([line])));
        assert_eq!(get(&api, "?after=100").await, Ok(json!([line])));
        let count = async |query| get(&api, query).await.unwrap().as_array().unwrap().len();
        assert_eq!(count("").await, DEFAULT);
        assert_eq!(count("?lines=0").await, 0);
        assert_eq!(count("?timeout=5m").await, DEFAULT, "nothing to wait after");
        assert_eq!(count("?lines=1000000").await, DEFAULT + 1);
        assert_eq!(count("?after=0").await, DEFAULT + 1);
        assert_eq!(count("?after=0&timeout=5m").await, DEFAULT + 1, "without a wait");
        assert_eq!(count("?after=999999&timeout=5m").await, DEFAULT + 1, "an earlier process");
        assert_eq!(count("?after=101").await, 0);
        for (query, error) in [
            ("?after=9223372036854775808", "after: 9223372036854775807 at most"),
            ("?lines=9223372036854775808", "lines: 9223372036854775807 at most"),
            ("?after=1&timeout=301", "timeout: 300 s at most"),
            ("?after=1&timeout=soon", "timeout: a duration such as"),
            ("?lines=-1", ""),
            ("?after=x", ""),
        ] {
            let (code, text) = get(&api, query).await.unwrap_err();
            assert_eq!(code, 400, "{query}");
            assert!(text.contains(error), "{query}: {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_a_line_or_with_its_time() {
        let api = api();
        add(&api, "1");
        assert_eq!(get(&api, "?after=1&timeout=5m").await, Ok(json!([])));
        let waiting = tokio::spawn({
            let api = api.clone();
            async move { get(&api, "?after=1&timeout=5m").await }
        });
        tokio::task::yield_now().await;
        add(&api, "2");
        let lines = waiting.await.unwrap().unwrap();
        assert_eq!((&lines[0]["message"], &lines[1]), (&json!("2"), &Value::Null));
    }
}
