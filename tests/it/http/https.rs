//! TLS on the external server: who gets in, what a renewal changes, and what stalled clients hold.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use reqwest::{Certificate, Identity, StatusCode};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::json;
use tokio::process::Command;

use crate::support::assertions::{PATIENCE, assert_nothing_left, eventually};
use crate::support::bed::{Authority, Bed, Pair, TlsFiles};
use crate::support::process::{Compute, Marked, Ran, client, try_start};
use crate::support::server::on_one_server;

/// An authority, and the files of a server that it has signed.
struct Door {
    authority: Authority,
    files: TlsFiles,
    ca: String,
}

impl Door {
    fn new(bed: &Bed) -> Self {
        let (authority, files) = (Authority::new("ours"), TlsFiles::new(bed));
        files.put_pair(&authority.issue());
        files.put("ca.crt", &authority.pem());
        let ca = files.dir.join("ca.crt").display().to_string();
        Self { authority, files, ca }
    }

    fn path(&self, name: &str) -> String {
        self.files.dir.join(name).display().to_string()
    }

    fn flags(&self) -> Vec<String> {
        let (key, cert) = (self.path("tls.key"), self.path("tls.crt"));
        vec!["--external-http-tls-key".into(), key, "--external-http-tls-cert".into(), cert]
    }

    fn with_clients(&self) -> Vec<String> {
        let ca = ["--external-http-tls-client-ca".to_owned(), self.ca.clone()];
        [self.flags(), ca.into()].concat()
    }

    /// The library of the tests talks to it through TLS from now on.
    fn lead(&self, bed: &Bed, compute: &mut Compute, pair: Option<&Pair>) {
        compute.external = format!("https://127.0.0.1:{}", bed.external_port);
        compute.http = self.library(pair);
    }

    /// Each request has its own connection.
    fn library(&self, pair: Option<&Pair>) -> reqwest::Client {
        let trusted = Certificate::from_pem(self.authority.pem().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .timeout(2 * PATIENCE)
            .pool_max_idle_per_host(0)
            .tls_certs_only([trusted]);
        if let Some(pair) = pair {
            let text = format!("{}{}", pair.cert, pair.key);
            builder = builder.identity(Identity::from_pem(text.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

/// An empty compute, which needs no Postgres.
fn spawn(bed: &Bed, flags: Vec<String>) -> Compute {
    let config = bed.write("config.json", &json!({"compute_ctl_config": {"jwks": {"keys": []}}}));
    let id = ["--compute-id", "c1", "--config", &config.display().to_string()].map(str::to_owned);
    let line = [bed.base_args(), id.into(), flags].concat();
    Compute::spawn(bed, &line, &[("RUST_LOG", "debug")])
}

async fn start(bed: &Bed, flags: Vec<String>) -> Compute {
    let compute = spawn(bed, flags);
    compute.wait_for_log("HTTP servers are listening: external on port").await;
    compute
}

/// A connection after the handshake.
struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn open(door: &Door, port: u16, version: &'static SupportedProtocolVersion) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        let authority = door.authority.pem();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket).unwrap();
        }
        Self(StreamOwned::new(session, socket))
    }

    fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends the last request.
    fn answers(mut self) {
        self.0.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[track_caller]
fn assert_ran(ran: &Ran, code: i32, text: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.stdout.contains(text) || ran.stderr.contains(text), "{text:?} in {ran:?}");
}

#[tokio::test]
async fn probes_and_commands_through_tls() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let line = [bed.base_args(), bed.config_args(), door.flags()].concat();
        let mut compute = Compute::spawn(&bed, &line, &[("RUST_LOG", "info,compute_ctl=debug")]);
        door.lead(&bed, &mut compute, None);
        compute.wait_for("running").await;
        for path in ["/live", "/ready", "/metrics"] {
            assert_eq!(compute.get(path).await.0, StatusCode::OK, "{path}");
        }
        let metrics = compute.get("/metrics").await.1.to_string();
        assert!(metrics.contains("compute_ctl_http_tls_certificate_expiry_timestamp_seconds "));
        assert!(metrics.contains("compute_ctl_http_tls_renewal_failures_total 0"));
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let connection = Connection::open(&door, bed.external_port, version);
            assert_eq!(connection.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            connection.answers();
        }

        let url = compute.external.as_str();
        let with_ca = ["--url", url, "--ca-file", &door.ca];
        for (command, text) in [
            (&["status"][..], "running"),
            (&["wait", "--for", "ready"], ""),
            (&["metrics"], "compute_ctl_up"),
        ] {
            assert_ran(&client(&[command, &with_ca].concat()).await, 0, text);
        }
        let other = door.path("other.crt");
        door.files.put("other.crt", &Authority::new("theirs").pem());
        for wrong in [&["status", "--url", url][..], &["status", "--url", url, "--ca-file", &other]]
        {
            assert_ran(&client(wrong).await, 3, "name the file of its authority with --ca-file");
        }
        let plain = url.replace("https://", "http://");
        let ran = client(&["status", "--url", &plain]).await;
        assert_ran(&ran, 1, "its URL may begin with https://");
        compute.wait_for_log("the client speaks no TLS, such as plain HTTP").await;
        let internal = compute.internal.replace("http://", "https://");
        let ran = client(&["status", "--url", &internal]).await;
        assert_ran(&ran, 3, "the server does not speak TLS: its URL begins with http://");
        let ended = client(&[&["terminate", "--mode", "immediate"][..], &with_ca].concat()).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        compute.wait_exit().await;
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_refused() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let mut compute = start(&bed, door.with_clients()).await;
        let url = format!("https://127.0.0.1:{}", bed.external_port);
        let (ours, theirs) = (door.authority.issue(), Authority::new("theirs").issue());
        for pair in [None, Some(&theirs)] {
            let refused = door.library(pair).get(format!("{url}/live")).send().await;
            assert!(refused.is_err(), "{pair:?}: {refused:?}");
        }
        compute.wait_for_log("the client presents no certificate").await;
        door.lead(&bed, &mut compute, Some(&ours));
        assert_eq!(compute.get("/live").await.0, StatusCode::OK);

        for (name, pair) in [("ours", &ours), ("theirs", &theirs)] {
            door.files.put(&format!("{name}.crt"), &pair.cert);
            door.files.put(&format!("{name}.key"), &pair.key);
        }
        let (key, cert) = (door.path("ours.key"), door.path("ours.crt"));
        let (other_key, other_cert) = (door.path("theirs.key"), door.path("theirs.crt"));
        let command = ["status", "--url", &url, "--ca-file", &door.ca];
        let with =
            |cert, key| [&command[..], &["--client-cert", cert, "--client-key", key]].concat();
        assert_ran(&client(&with(&cert, &key)).await, 0, "empty");
        assert_ran(&client(&command).await, 1, "--client-cert and --client-key");
        let ran = client(&with(&other_cert, &other_key)).await;
        assert_ran(&ran, 1, "the server does not trust the certificate of the client");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A certificate opens the connection; the token is for the request.
#[tokio::test]
async fn a_certificate_is_not_a_token() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let mut flags = door.with_clients();
        let config =
            bed.write("config.json", &json!({"compute_ctl_config": {"jwks": {"keys": []}}}));
        flags.extend(["--compute-id", "c1", "--config"].map(str::to_owned));
        flags.push(config.display().to_string());
        let mut line = bed.base_args();
        line.retain(|argument| argument != "--dev");
        let mut compute = Compute::spawn(&bed, &[line, flags].concat(), &[]);
        compute.wait_for_log("HTTP servers are listening").await;
        door.lead(&bed, &mut compute, Some(&door.authority.issue()));
        assert_eq!(compute.get("/status").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(compute.get("/live").await.0, StatusCode::OK);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_seen_and_a_broken_one_keeps_the_old() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let [first, second, third] = [(); 3].map(|()| door.authority.issue());
        door.files.put_pair(&first);
        let mut compute = start(&bed, door.flags()).await;
        let port = bed.external_port;
        let open = || Connection::open(&door, port, &rustls::version::TLS13);
        let shows = |pair: &Pair| open().certificate() == pair.leaf();
        assert!(shows(&first));
        let kept = open();

        door.files.put_pair(&second);
        eventually("a new connection gets the new certificate", || shows(&second)).await;

        let stays = "the certificate of the external HTTP server stays as it is";
        for broken in ["", &third.key] {
            compute.forget_log();
            door.files.put("tls.key", broken);
            compute.wait_for_log(stays).await;
            assert!(shows(&second));
        }
        door.files.put("tls.crt", &third.cert);
        eventually("the complete renewal is used", || shows(&third)).await;
        compute.wait_for_log("can be used now").await;
        kept.answers();
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Clients that say nothing, begin a handshake, or send something else.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_handshakes_keep_out_neither_clients_nor_the_end() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let mut compute = start(&bed, door.flags()).await;
        door.lead(&bed, &mut compute, None);
        // The head of a record with a handshake of 512 bytes, of which nothing follows.
        let beginnings: [&[u8]; 2] = [b"", b"\x16\x03\x01\x02\x00"];
        let mut stalled: Vec<_> = (0..50)
            .map(|number| {
                let mut stream = TcpStream::connect(("127.0.0.1", bed.external_port)).unwrap();
                stream.write_all(beginnings[number % 2]).unwrap();
                stream
            })
            .collect();
        for garbage in [&b"\x00\x00\x00"[..], b"\x16\x03\x01\xff\xff", &[b'x'; 70_000]] {
            let mut stream = TcpStream::connect(("127.0.0.1", bed.external_port)).unwrap();
            let _ = stream.write_all(garbage);
            stalled.push(stream);
        }
        assert_eq!(compute.get("/live").await.0, StatusCode::OK);
        assert_eq!(compute.get("/status").await.0, StatusCode::OK);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        // The shutdown says so if it has waited for its whole grace.
        let log = compute.log();
        assert!(!log.contains("did not end in time"), "{log}");
        for mut stream in stalled {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn on_a_socket_of_the_service_manager() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let door = Door::new(&bed);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let script =
            format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", listener.as_raw_fd());
        let spawn = |more: &[&str]| {
            let more = more.iter().map(ToString::to_string).collect();
            let line = [bed.base_args(), bed.config_args(), door.flags(), more].concat();
            let mut shell = Command::new("bash");
            shell.args(["-c", &script, "bash"]);
            Compute::spawn_through(&bed, shell, &line)
        };
        // Two places would say where it listens.
        let mut compute = spawn(&["--external-http-bind", "127.0.0.1"]);
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        let log = compute.log();
        assert!(log.contains("(LISTEN_FDS), and --external-http-bind names addresses"), "{log}");
        assert!(!bed.pgdata().join("PG_VERSION").exists());

        let mut compute = spawn(&[]);
        drop(listener);
        compute.external = format!("https://127.0.0.1:{port}");
        compute.http = door.library(None);
        compute.wait_for("running").await;
        assert_eq!(compute.get("/live").await.0, StatusCode::OK);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let marked = Marked::put(&bed);
        let door = Door::new(&bed);
        let line = [bed.base_args(), bed.config_args(), door.with_clients()].concat();
        let refused = async |text: String| {
            let refusal = try_start(&bed, &line, &[]).await;
            assert!(refusal.error().contains(&text), "{text} in {}", refusal.stderr);
            marked.assert_untouched();
        };
        let key = door.path("tls.key");
        door.files.put("tls.key", &door.authority.issue().key);
        refused(format!("the private key {key} does not belong to the certificate")).await;
        fs::remove_file(&key).unwrap();
        refused(format!("the TLS private key file {key} does not exist")).await;
        door.files.put_pair(&door.authority.issue());
        door.files.put("ca.crt", "none");
        refused(format!("the file {} holds no TLS certificate authority", door.ca)).await;
        door.files.put("ca.crt", &door.authority.pem());
        if geteuid().is_root() {
            // Root could read it now, but not the user of the compute at the first renewal.
            chown(&key, Some(0), Some(0)).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
            refused(format!("{key} belongs to user `root` and has mode 0600")).await;
        }
        assert_nothing_left(&bed);
    })
    .await;
}
