//! One method for each operation of the API.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::api::{Answer, Api, Request};
use super::documents::{
    Catalog, Extension, Grant, Insights, Offload, Prewarm, Promotion, StartupMetrics, Status,
    Terminated,
};
use super::error::Error;
use super::options::{Options, SetupError, Timeouts};
use crate::state::{ComputeStatus, TerminateMode};

/// A client of one server of a compute. A clone shares its connections.
///
/// Each method sends one request and returns when the answer is complete or its
/// [time limit](Timeouts) has expired. An answer that is not a success is
/// [`Error::Refused`]. Methods of the *internal server* need a client with the address of that
/// server, which usually has port 3081 and is served on loopback only.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) api: Api,
    pub(super) timeouts: Timeouts,
}

/// Setting up.
impl Client {
    /// Sets a client up; sends nothing.
    ///
    /// # Errors
    /// The address or the token cannot be used.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        Ok(Self { api: Api::new(&options)?, timeouts: options.timeouts })
    }

    /// Whether it sends a token.
    pub const fn has_token(&self) -> bool {
        self.api.has_token()
    }
}

/// The life of the compute (external server).
impl Client {
    /// `GET /status`: where in its life the compute is, at once.
    ///
    /// # Errors
    /// See [`Error`]; also if the answer is not a status document.
    pub async fn status(&self) -> Result<Status, Error> {
        status_of(self.get("/status").await?)
    }

    /// `GET /details`, on both servers: the status and what explains it, for people. Members may be
    /// added; `status` is the document of `/status`.
    ///
    /// # Errors
    /// See [`Error`]. Status code 404: an older compute does not have it.
    pub async fn details(&self) -> Result<Value, Error> {
        self.get("/details").await?.document("a document of details")
    }

    /// `GET /status?wait=…`: answers at the latest after `wait`, which the compute counts.
    pub(super) async fn status_within(
        &self,
        wanted: ComputeStatus,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Status, Error> {
        let timeout = format!("{}ms", wait.as_millis());
        let query = [("wait", wanted.name()), ("timeout", &timeout)];
        let request = Request { query: &query, ..get("/status") };
        status_of(self.api.send(request, deadline).await?.success()?)
    }

    /// `POST /configure`: applies a configuration and waits until the compute runs with it or has
    /// failed. The document is `{"spec": {…}, "compute_ctl_config": {…}}` as for `--config`; with the
    /// member `"force_catalog_check": true` every database is looked into.
    ///
    /// # Errors
    /// See [`Error`]. Status code 400 and 422: the document cannot be used; 412: the compute is not
    /// empty or running; 500: it was not applied.
    pub async fn configure(&self, document: &Value) -> Result<Status, Error> {
        let answer = self.change(post("/configure", document)?).await?;
        status_of(answer)
    }

    /// `POST /terminate`: ends the compute and waits until it is terminated. Also succeeds if it was
    /// terminated before.
    ///
    /// # Errors
    /// See [`Error`]. Status code 412: not possible in the compute's present status.
    pub async fn terminate(&self, mode: TerminateMode) -> Result<Terminated, Error> {
        let mode = match mode {
            TerminateMode::Fast => "fast",
            TerminateMode::Immediate => "immediate",
        };
        let request = Request { query: &[("mode", mode)], ..command(Method::POST, "/terminate") };
        let deadline = Instant::now() + self.timeouts.terminate;
        let answer = self.api.send(request, deadline).await?.success()?;
        answer.document("the answer of /terminate")
    }

    /// `POST /promote`: makes a replica the primary, and waits until it is one. The document is
    /// `{"spec": {…}, "wal_flush_lsn": "0/…"}`.
    ///
    /// # Errors
    /// See [`Error`]. A promotion that failed is [`Promotion::Failed`].
    pub async fn promote(&self, document: &Value) -> Result<Promotion, Error> {
        let deadline = Instant::now() + self.timeouts.change;
        let answer = self.api.send(post("/promote", document)?, deadline).await?;
        // The outcome is a document with 500, too.
        match answer.document("the outcome of a promotion") {
            Ok(outcome) => Ok(outcome),
            Err(unexpected) => answer.success().and(Err(unexpected)),
        }
    }

    /// `GET /metrics.json`: how long the parts of the start took.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn startup_metrics(&self) -> Result<StartupMetrics, Error> {
        self.get("/metrics.json").await?.document("the durations of a start")
    }
}

/// Without a token (external server).
impl Client {
    /// `GET /metrics`: metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<String, Error> {
        self.get("/metrics").await?.text("text")
    }

    /// `GET /autoscaling_metrics`: metrics of the file cache, as text.
    ///
    /// # Errors
    /// See [`Error`]. Status code 500: Postgres does not have them.
    pub async fn autoscaling_metrics(&self) -> Result<String, Error> {
        self.get("/autoscaling_metrics").await?.text("text")
    }

    /// `GET /live`: the process is not stuck.
    ///
    /// # Errors
    /// See [`Error`]. Status code 503: it is.
    pub async fn live(&self) -> Result<(), Error> {
        self.get("/live").await.map(|_| ())
    }

    /// `GET /ready`: Postgres serves, so that clients can be sent here.
    ///
    /// # Errors
    /// See [`Error`]. Status code 503: it does not, and the text says why.
    pub async fn ready(&self) -> Result<(), Error> {
        self.get("/ready").await.map(|_| ())
    }

    pub(super) async fn readiness(&self, deadline: Instant) -> Result<Answer, Error> {
        self.api.send(get("/ready"), deadline).await
    }

    /// `GET /startup`: the first start is over.
    ///
    /// # Errors
    /// See [`Error`]. Status code 503: it is not, and the text says why.
    pub async fn startup(&self) -> Result<(), Error> {
        self.get("/startup").await.map(|_| ())
    }

    /// `GET /openapi.json`: the description of the API, on both servers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn description(&self) -> Result<Value, Error> {
        self.get("/openapi.json").await?.document("a description of the API")
    }
}

/// A look into Postgres (external server).
impl Client {
    /// `GET /insights`: the statements that take longest.
    ///
    /// # Errors
    /// See [`Error`]. Status code 412: the compute is not running.
    pub async fn insights(&self) -> Result<Insights, Error> {
        const NAME: &str = "a document with statements";
        // JSON in a JSON string.
        let text: String = self.get("/insights").await?.document(NAME)?;
        serde_json::from_str(&text).map_err(|_| Error::Unexpected(NAME))
    }

    /// `GET /dbs_and_roles`: all databases and roles. Password verifiers are part of it.
    ///
    /// # Errors
    /// See [`Error`]. Status code 500: Postgres does not answer.
    pub async fn databases_and_roles(&self) -> Result<Catalog, Error> {
        self.get("/dbs_and_roles").await?.document("a list of databases and roles")
    }

    /// `GET /database_schema`: the schema of a database as SQL text, as `pg_dump` writes it.
    ///
    /// # Errors
    /// See [`Error`]. Status code 404: there is no such database.
    pub async fn database_schema(&self, database: &str) -> Result<String, Error> {
        let query = [("database", database)];
        self.change(Request { query: &query, ..get("/database_schema") }).await?.text("text")
    }

    /// `POST /check_writability`: writes one row.
    ///
    /// # Errors
    /// See [`Error`]. Status code 412: the compute is not running; 500: it could not be written.
    pub async fn check_writability(&self) -> Result<(), Error> {
        self.answer(command(Method::POST, "/check_writability")).await.map(|_| ())
    }

    /// `GET /hadron_liveness_probe`: Postgres answers.
    ///
    /// # Errors
    /// See [`Error`]. Status code 500: it does not.
    pub async fn postgres_answers(&self) -> Result<(), Error> {
        self.get("/hadron_liveness_probe").await.map(|_| ())
    }
}

/// The local file cache (external server).
impl Client {
    /// `POST /lfc/prewarm`: begins a prewarm, from the state of this endpoint or of another one.
    ///
    /// # Errors
    /// See [`Error`]. Status code 412: there is no spec yet; 429: one is running.
    pub async fn prewarm(&self, from_endpoint: Option<&str>) -> Result<(), Error> {
        let query: Vec<_> = from_endpoint.map(|id| ("from_endpoint", id)).into_iter().collect();
        let request = Request { query: &query, ..command(Method::POST, "/lfc/prewarm") };
        self.answer(request).await.map(|_| ())
    }

    /// `GET /lfc/prewarm`: state of the last prewarm.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prewarm_state(&self) -> Result<Prewarm, Error> {
        self.get("/lfc/prewarm").await?.document("the state of a prewarm")
    }

    /// `DELETE /lfc/prewarm`: cancels the prewarm, if one is running.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_prewarm(&self) -> Result<(), Error> {
        self.answer(command(Method::DELETE, "/lfc/prewarm")).await.map(|_| ())
    }

    /// `POST /lfc/offload`: begins an offload.
    ///
    /// # Errors
    /// See [`Error`]. Status code 412: there is no spec yet; 429: one is running.
    pub async fn offload(&self) -> Result<(), Error> {
        self.answer(command(Method::POST, "/lfc/offload")).await.map(|_| ())
    }

    /// `GET /lfc/offload`: state of the last offload.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn offload_state(&self) -> Result<Offload, Error> {
        self.get("/lfc/offload").await?.document("the state of an offload")
    }
}

/// Operations of the *internal server*.
impl Client {
    /// `POST /refresh_configuration`: fetches the configuration again, without waiting for it.
    ///
    /// # Errors
    /// See [`Error`]. Status code 500: not possible in the compute's present status.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.answer(command(Method::POST, "/refresh_configuration")).await.map(|_| ())
    }

    /// `POST /extensions`: creates or updates an extension.
    ///
    /// # Errors
    /// See [`Error`]. Status code 403: the compute manages it itself; 412: it is not running.
    pub async fn install_extension(&self, extension: &Extension) -> Result<(), Error> {
        self.change(post("/extensions", extension)?).await.map(|_| ())
    }

    /// `POST /grants`: grants a role the privileges that it lacks on a schema.
    ///
    /// # Errors
    /// See [`Error`]. Status code 403: not for this schema or role; 412: the compute is not running.
    pub async fn grant(&self, grant: &Grant) -> Result<(), Error> {
        self.change(post("/grants", grant)?).await.map(|_| ())
    }

    /// `POST /extension_server/{filename}`: fetches and installs the files of an extension, or of
    /// the one that a library belongs to.
    ///
    /// # Errors
    /// See [`Error`]. Status code 404: there is no such extension; 409 and 412: the compute has no
    /// index or no server of extensions.
    pub async fn download_extension(&self, name: &str, is_library: bool) -> Result<(), Error> {
        let path = format!("/extension_server/{name}");
        let query: &[_] = if is_library { &[("is_library", "true")] } else { &[] };
        self.change(Request { query, ..command(Method::POST, &path) }).await.map(|_| ())
    }
}

impl Client {
    async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.answer(get(path)).await
    }

    async fn answer(&self, request: Request<'_>) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.timeouts.answer;
        self.api.send(request, deadline).await?.success()
    }

    async fn change(&self, request: Request<'_>) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.timeouts.change;
        self.api.send(request, deadline).await?.success()
    }
}

pub(super) fn get(path: &str) -> Request<'_> {
    command(Method::GET, path)
}

pub(super) const fn command(method: Method, path: &str) -> Request<'_> {
    Request { method, path, query: &[], body: None }
}

pub(super) fn post<'a>(path: &'a str, document: &impl Serialize) -> Result<Request<'a>, Error> {
    // A document of ours, or a value of JSON: this cannot fail.
    let body = serde_json::to_string(document).map_err(|_| Error::Unexpected("JSON"))?;
    Ok(Request { body: Some(body), ..command(Method::POST, path) })
}

fn status_of(answer: Answer) -> Result<Status, Error> {
    Status::of(answer.document("a status document")?)
}
