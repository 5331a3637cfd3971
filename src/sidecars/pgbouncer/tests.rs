//! Tests of the tuning against a stand-in admin console that speaks the real protocol; the real
//! pgbouncer is in `tests/it`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

const INI: &str = "[databases]\n\n[pgbouncer]\n; kept\npool_mode=transaction\n";

fn settings(pairs: &[(&str, &str)]) -> IndexMap<String, Secret<String>> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::new((*v).to_owned()))).collect()
}

/// One message of the frontend behind its length: type byte and body.
async fn message(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let len = stream.read_u32().await.ok()? as usize;
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// Serves one session: asks for a clear-text password, answers queries. Sends each received message
/// to `told`, in the form `startup ...`, `password ...`, `query ...`.
async fn console(stream: TcpStream, told: mpsc::UnboundedSender<String>) {
    let _ = serve(stream, &told).await;
    let _ = told.send("end".to_owned());
}

async fn serve(mut stream: TcpStream, told: &mpsc::UnboundedSender<String>) -> Option<()> {
    let text = |body: &[u8]| String::from_utf8_lossy(body).replace('\0', " ").trim().to_owned();
    let len = stream.read_u32().await.ok()? as usize;
    let mut startup = vec![0; len - 4];
    stream.read_exact(&mut startup).await.ok()?;
    told.send(format!("startup {}", text(&startup[4..]))).unwrap();
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await.ok()?;
    let (_, password) = message(&mut stream).await?;
    told.send(format!("password {}", text(&password))).unwrap();
    stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.ok()?;
    loop {
        let (kind, body) = message(&mut stream).await?;
        if kind == b'X' {
            return None;
        }
        assert_eq!(kind, b'Q', "the console speaks the simple protocol only");
        told.send(format!("query {}", text(&body))).unwrap();
        stream.write_all(b"C\0\0\0\x0bRELOAD\0Z\0\0\0\x05I").await.ok()?;
    }
}

struct Bed {
    dir: tempfile::TempDir,
    listener: TcpListener,
}

impl Bed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pgbouncer.ini"), INI).unwrap();
        Self { dir, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn paths(&self) -> PgbouncerPaths {
        PgbouncerPaths {
            ini: self.dir.path().join("pgbouncer.ini"),
            host: "127.0.0.1".to_owned(),
            port: self.listener.local_addr().unwrap().port(),
            password: Some(Secret::new("pa ss'\\".to_owned())),
            ..PgbouncerPaths::default()
        }
    }

    fn limits() -> PgbouncerLimits {
        PgbouncerLimits { pause: Duration::from_millis(10), ..PgbouncerLimits::default() }
    }

    fn ini(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("pgbouncer.ini")).unwrap()
    }

    /// All messages of one session.
    async fn session(&self) -> Vec<String> {
        let (stream, _) = self.listener.accept().await.unwrap();
        let (told, mut heard) = mpsc::unbounded_channel();
        console(stream, told).await;
        let mut all = Vec::new();
        while let Ok(line) = heard.try_recv() {
            all.push(line);
        }
        all
    }
}

/// Case B1 of 04 §15.
#[tokio::test]
async fn file_first_then_one_reload() {
    let bed = Bed::new().await;
    let pgbouncer = Pgbouncer::new(bed.paths(), Bed::limits());
    let settings = settings(&[("pool_mode", "session"), ("zz", "1")]);
    pgbouncer.tune_in_background(Tuning { settings, tls: None });
    let (stream, _) = bed.listener.accept().await.unwrap();
    let expected = "[databases]\n\n[pgbouncer]\n; kept\npool_mode=session\nzz=1\n";
    assert_eq!(bed.ini(), expected, "before anything is said");
    let (told, mut heard) = mpsc::unbounded_channel();
    console(stream, told).await;
    let startup = heard.recv().await.unwrap();
    assert!(startup.contains("user postgres"), "{startup}");
    assert!(startup.contains("database pgbouncer"), "{startup}");
    assert_eq!(heard.recv().await.unwrap(), "password pa ss'\\");
    assert_eq!(heard.recv().await.unwrap(), "query RELOAD");
    assert_eq!(heard.recv().await.unwrap(), "end");
}

/// Case B2: the fourth try counts; without a console the file is written all the same.
#[tokio::test]
async fn a_console_that_comes_late_or_never() {
    let bed = Bed::new().await;
    let pgbouncer = Pgbouncer::new(bed.paths(), Bed::limits());
    pgbouncer.tune_in_background(Tuning { settings: settings(&[("a", "1")]), tls: None });
    for _ in 0..3 {
        drop(bed.listener.accept().await.unwrap());
    }
    assert!(bed.session().await.contains(&"query RELOAD".to_owned()));

    let shared =
        Shared { paths: bed.paths(), limits: Bed::limits(), serves_tls: AtomicBool::new(false) };
    drop(bed.listener);
    shared.edit(&Tuning { settings: settings(&[("a", "2")]), tls: None }).await.unwrap();
    let error = shared.reload().await.unwrap_err().to_string();
    assert!(error.contains("in 4 attempts") && error.contains("is up to date"), "{error}");
    assert!(!error.contains("pa ss"), "{error}");
    let ini = std::fs::read_to_string(bed.dir.path().join("pgbouncer.ini")).unwrap();
    assert!(ini.ends_with("a=2\n"), "{ini}");
}

#[tokio::test]
async fn a_console_that_hangs_is_left() {
    let bed = Bed::new().await;
    let limits = PgbouncerLimits {
        connect: Duration::from_millis(20),
        attempts: 2,
        pause: Duration::ZERO,
        ..PgbouncerLimits::default()
    };
    // The kernel accepts the connection, but nothing answers.
    let shared = Shared { paths: bed.paths(), limits, serves_tls: AtomicBool::new(false) };
    let error = shared.reload().await.unwrap_err();
    assert!(matches!(error, PgbouncerError::Connect { attempts: 2, .. }), "{error}");
}

#[tokio::test]
async fn the_newest_tuning_wins() {
    let bed = Bed::new().await;
    let pgbouncer = Pgbouncer::new(bed.paths(), Bed::limits());
    for n in 0..20 {
        let settings = settings(&[("pool_mode", &n.to_string())]);
        pgbouncer.tune_in_background(Tuning { settings, tls: None });
        if n == 3 {
            // The first tuning has written its file and waits for an answer that does not come.
            let _stuck = bed.listener.accept().await.unwrap();
        }
    }
    // Abandoned sessions send no RELOAD; the last one does.
    while !bed.session().await.contains(&"query RELOAD".to_owned()) {}
    while !bed.ini().contains("pool_mode=19\n") {
        bed.session().await;
    }
}

/// Case B4, and 04 W6.
#[tokio::test]
async fn tls_names_the_sources_and_a_renewal_reloads() {
    let bed = Bed::new().await;
    let pgbouncer = Pgbouncer::new(bed.paths(), Bed::limits());
    // No tuning has set TLS yet, so there is nothing to renew.
    pgbouncer.certificate_renewed();
    let key = bed.dir.path().join("tls.key");
    std::fs::write(&key, "").unwrap();
    let tls = TlsConfig {
        key_path: key.to_str().unwrap().to_owned(),
        cert_path: "/tls/tls.crt".to_owned(),
    };
    let settings = settings(&[("client_tls_sslmode", "require"), ("a", "1")]);
    pgbouncer.tune_in_background(Tuning { settings, tls: Some(tls.clone()) });
    bed.session().await;
    let expected = format!(
        "pool_mode=transaction\nclient_tls_sslmode=allow\na=1\nclient_tls_cert_file=/tls/tls.crt\n\
         client_tls_key_file={}\n",
        tls.key_path
    );
    assert!(bed.ini().ends_with(&expected), "{}", bed.ini());
    pgbouncer.certificate_renewed();
    assert!(bed.session().await.contains(&"query RELOAD".to_owned()));
}

#[tokio::test]
async fn a_missing_key_does_not_stop_the_other_settings() {
    let bed = Bed::new().await;
    let limits = PgbouncerLimits { key: Duration::from_millis(10), ..Bed::limits() };
    let shared = Shared { paths: bed.paths(), limits, serves_tls: AtomicBool::new(false) };
    let tls = TlsConfig { key_path: "/no/such.key".to_owned(), cert_path: "/c".to_owned() };
    shared.edit(&Tuning { settings: settings(&[("a", "1")]), tls: Some(tls) }).await.unwrap();
    assert!(bed.ini().ends_with("pool_mode=transaction\na=1\n"), "{}", bed.ini());
    assert!(!shared.serves_tls.load(Ordering::Relaxed));
}

#[test]
fn where_pgbouncer_is() {
    let vm = PgbouncerPaths::new(true, Some(Secret::new("x".to_owned())));
    assert_eq!(vm.ini, Path::new("/etc/pgbouncer.ini"));
    assert!(vm.password.is_none(), "the socket knows us");
    let config = vm.console(Duration::from_secs(1));
    assert_eq!(config.get_hosts(), [tokio_postgres::config::Host::Unix("/tmp".into())]);
    assert_eq!((config.get_user(), config.get_ports()), (Some("pgbouncer"), &[6432][..]));

    let pod = PgbouncerPaths::new(false, Some(Secret::new("hunter2".to_owned())));
    let config = pod.console(Duration::from_secs(1));
    assert_eq!(config.get_password(), Some(&b"hunter2"[..]));
    assert_eq!((config.get_user(), config.get_dbname()), (Some("postgres"), Some("pgbouncer")));
    assert!(!format!("{pod:?}").contains("hunter2"));
}

#[test]
fn nothing_is_written_for_settings_that_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.ini");
    std::fs::write(&path, INI).unwrap();
    for bad in [settings(&[("a", "1"), ("b", "hunter2\nc=d")]), settings(&[("a b", "hunter2")])] {
        let error = edit_file(&path, &bad).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("pgbouncer_settings"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), INI);
    }
    let error = edit_file(&dir.path().join("none.ini"), &settings(&[])).unwrap_err();
    assert!(error.to_string().contains("none.ini"), "{error}");
}
