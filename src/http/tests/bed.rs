//! Both servers on free ports, over a node with a fake driver, and a client.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::http::testing::{ED_KEY, node, sign};
use crate::http::{AuthMode, Authenticator, HttpLimits, Servers, reserve};
use crate::node::ComputeNode;
use crate::node::requests::{ConfigureError, Request, Terminated};
use crate::server::ServerLimits;
use crate::spec::wire::Jwks;
use crate::state::Event;

/// A fake driver that answers at once. The spec's `operation_uuid` decides how a configuration
/// ends; on `stop` the driver ends without an answer.
async fn drive(node: Arc<ComputeNode>, mut requests: UnboundedReceiver<Request>) {
    let mut started = false;
    while let Some(request) = requests.recv().await {
        match request {
            Request::Configure { spec, reply, .. } => {
                if started {
                    node.apply(Event::BeginConfiguration).unwrap();
                } else {
                    node.begin_start().unwrap();
                }
                started = true;
                let outcome = match spec.spec().spec.operation_uuid.as_deref() {
                    Some("stop") => return,
                    Some("fail") => {
                        node.fail("no \"luck\"".to_owned()).unwrap();
                        Err(ConfigureError::Failed("no \"luck\"".to_owned()))
                    }
                    _ => {
                        node.apply(Event::Succeeded).unwrap();
                        Ok(())
                    }
                };
                let _ = reply.send(outcome);
            }
            Request::Terminate { reply, .. } => {
                let terminated = Terminated { lsn: Some("0/1F30EC8".parse().unwrap()) };
                node.end(terminated, None).unwrap();
                let _ = reply.send(terminated);
            }
        }
    }
}

/// Both servers on free ports over an empty compute, and a client.
pub(super) struct Api {
    pub(super) node: Arc<ComputeNode>,
    pub(super) servers: Servers,
    pub(super) external_port: u16,
    pub(super) internal_port: u16,
    pub(super) client: reqwest::Client,
    pub(super) token: String,
}

impl Api {
    /// Servers with the usual key.
    pub(super) fn start() -> Self {
        Self::start_with(HttpLimits::default())
    }

    /// Servers with limits of their own for connections.
    pub(super) fn start_within(server: ServerLimits) -> Self {
        Self::start_with(HttpLimits { server, ..HttpLimits::default() })
    }

    pub(super) fn start_with(limits: HttpLimits) -> Self {
        let jwks: Jwks = serde_json::from_value(json!({"keys": [ED_KEY.jwk()]})).unwrap();
        let id = Some("c1".to_owned());
        Self::start_as(limits, Authenticator::new(&jwks, id, false, AuthMode::Verify))
    }

    pub(super) fn start_as(limits: HttpLimits, authenticator: Authenticator) -> Self {
        // Another test may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (node, requests) = node();
        tokio::spawn(drive(Arc::clone(&node), requests));
        let reserved = reserve((0, &[]), (0, None)).unwrap();
        let (external_port, internal_port) = (reserved.external_port(), reserved.internal_port());
        let servers =
            Servers::start(reserved, None, Arc::clone(&node), authenticator, limits).unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let token = sign(&ED_KEY, &json!({"compute_id": "c1"}));
        Self { node, servers, external_port, internal_port, client, token }
    }

    pub(super) fn external(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.external_port)
    }

    pub(super) fn internal(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.internal_port)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(self.external(path)).bearer_auth(&self.token);
        Answer::of(request).await
    }

    pub(super) async fn post(&self, path: &str) -> Answer {
        let request = self.client.post(self.external(path)).bearer_auth(&self.token);
        Answer::of(request).await
    }

    /// `POST /configure` with any text.
    pub(super) async fn configure_text(&self, content_type: &str, text: String) -> Answer {
        let request = self
            .client
            .post(self.external("/configure"))
            .bearer_auth(&self.token)
            .header("content-type", content_type)
            .body(text);
        Answer::of(request).await
    }

    pub(super) async fn configure(&self, body: &Value) -> Answer {
        self.configure_text("application/json", body.to_string()).await
    }

    /// Bytes as they are, to the external server; for requests that a client library mends.
    pub(super) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.external_port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub(super) async fn refresh(&self) -> Answer {
        Answer::of(self.client.post(self.internal("/refresh_configuration"))).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) headers: reqwest::header::HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        let headers = response.headers().clone();
        Self { code, headers, text: response.text().await.unwrap() }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.text).unwrap()
    }

    pub(super) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

/// A good body for `/configure`.
pub(super) fn good_body(operation: &str) -> Value {
    json!({
        "spec": {
            "format_version": 1, "suspend_timeout_seconds": 0, "operation_uuid": operation,
            "tenant_id": "88dfefdb53d20e1b4bb1feae80e8020e",
            "timeline_id": "a451a43e3c4f981f67181c3e278d7363",
            "pageserver_connstring": "postgresql://no_user@127.0.0.1:6400",
            "safekeeper_connstrings": ["127.0.0.1:6500"],
            "cluster": {"roles": [], "databases": []}
        },
        "compute_ctl_config": {"jwks": {"keys": []}}
    })
}
