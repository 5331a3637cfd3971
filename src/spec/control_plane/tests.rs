use super::*;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::IntoResponse;
use parking_lot::Mutex;

const EMPTY: &str = r#"{"status":"empty","spec":null,"compute_ctl_config":{"jwks":{"keys":[]}}}"#;
const ATTACHED: &str = r#"{"status":"attached","compute_ctl_config":{"jwks":{"keys":[]}},
    "spec":{"format_version":1,"suspend_timeout_seconds":0,"cluster":{"roles":[],"databases":[]}}}"#;
const NO_SPEC: &str = r#"{"status":"attached","compute_ctl_config":{"jwks":{"keys":[]}}}"#;

const PATIENCE: Patience = Patience {
    file: Duration::from_secs(60),
    connect: Duration::from_secs(5),
    request: Duration::from_secs(5),
    longest_request: Duration::from_secs(5),
    total: Duration::from_secs(60),
};
/// Enough for a few pauses.
const SOON_OVER: Patience = Patience { total: Duration::from_secs(1), ..PATIENCE };

/// A control plane that gives the answers in turn (the last one again and again).
struct Fake {
    cp: ControlPlane,
    asked: Arc<Mutex<Vec<String>>>,
    heard: Mutex<Vec<Option<StatusCode>>>,
    patience: Patience,
}

impl Fake {
    async fn new<B>(answers: Vec<(u16, B)>) -> Self
    where
        B: IntoResponse + Clone + Send + Sync + 'static,
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let handler = async move |request: Request| {
            let header = request.headers().get("authorization").map(|h| h.to_str().unwrap());
            let mut noted = noted.lock();
            noted.push(format!("{} {}", request.uri().path(), header.unwrap_or("-")));
            let (status, body) = answers[(noted.len() - 1).min(answers.len() - 1)].clone();
            (StatusCode::from_u16(status).unwrap(), body)
        };
        let app = axum::Router::new().fallback(handler);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cp", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let token = Secret::new("tok".to_owned());
        let cp = ControlPlane { base, compute_id: "c1".to_owned(), token };
        Self { cp, asked, heard: Mutex::default(), patience: PATIENCE }
    }

    async fn fetch(&self) -> Result<ConfigDocument, ControlPlaneError> {
        fetch(&self.cp, self.patience, &|status| self.heard.lock().push(status)).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }

    fn heard(&self) -> Vec<Option<StatusCode>> {
        self.heard.lock().clone()
    }
}

#[tokio::test]
async fn transient_failures_are_retried() {
    let fake = Fake::new(vec![(503, ""), (200, "{"), (200, NO_SPEC), (200, ATTACHED)]).await;
    assert!(fake.fetch().await.unwrap().spec.is_some());
    assert_eq!(fake.asked(), vec!["/cp/compute/api/v2/computes/c1/spec Bearer tok"; 4]);
    let (unavailable, ok) = (Some(StatusCode::SERVICE_UNAVAILABLE), Some(StatusCode::OK));
    // 09 §1.2: an undecodable body is 200 OK, too.
    assert_eq!(fake.heard(), [unavailable, ok, ok, ok]);
}

/// More than the three tries of the original, but not without a limit.
#[tokio::test]
async fn a_restart_of_the_control_plane_is_outlasted() {
    for (answer, text) in [
        ((502, ""), "the control plane answered 502"),
        ((200, NO_SPEC), "compute is attached, but spec is empty"),
    ] {
        let mut fake = Fake::new(vec![answer]).await;
        fake.patience = SOON_OVER;
        let error = fake.fetch().await.unwrap_err();
        assert!(matches!(error, ControlPlaneError::Exhausted { .. }), "{error}");
        let error = error.to_string();
        assert!(error.starts_with("Exhausted all attempts") && error.contains(text), "{error}");
        // 100, 200, 400 and 800 ms, each half as long or half as long again; the next pause would
        // end too late.
        assert!((2..=5).contains(&fake.asked().len()), "{:?}", fake.asked());
    }
}

#[tokio::test]
async fn permanent_failures_are_returned_at_once() {
    for status in [401, 404, 500] {
        let fake = Fake::new(vec![(status, EMPTY)]).await;
        assert!(matches!(fake.fetch().await, Err(ControlPlaneError::Permanent { .. })));
        assert_eq!(fake.asked().len(), 1);
    }
    let fake = Fake::new(vec![(200, "{")]).await;
    assert!(matches!(fake.fetch().await, Err(ControlPlaneError::Exhausted { tries: 3, .. })));
    for base in ["cp.example:3000", "not a url", "mailto:cp"] {
        let base = base.to_owned();
        let cp = ControlPlane { base, compute_id: "c1".to_owned(), token: Secret::default() };
        let error = fetch(&cp, PATIENCE, &|_| ()).await.unwrap_err().to_string();
        assert!(error.contains("--control-plane-uri"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_compute_gets_no_spec_or_the_one_that_is_there() {
    let fake = Fake::new(vec![(200, EMPTY)]).await;
    assert!(fake.fetch().await.unwrap().spec.is_none());
    let odd = ATTACHED.replace("attached", "empty");
    let fake = Fake::new(vec![(200, odd)]).await;
    assert!(fake.fetch().await.unwrap().spec.is_some());
}

/// 09 §10 nos. 3 and 4, §12.
#[tokio::test]
async fn prefix_id_and_token() {
    for (suffix, id, token, asked) in [
        ("/", "c1", "tok", "/cp/compute/api/v2/computes/c1/spec Bearer tok"),
        ("", "c1", "", "/cp/compute/api/v2/computes/c1/spec -"),
        ("", "uuid/0", "t", "/cp/compute/api/v2/computes/uuid/0/spec Bearer t"),
        ("", "a b?c#d%", "t", "/cp/compute/api/v2/computes/a%20b%3Fc%23d%25/spec Bearer t"),
    ] {
        let mut fake = Fake::new(vec![(200, EMPTY)]).await;
        fake.cp.base.push_str(suffix);
        fake.cp.compute_id = id.to_owned();
        fake.cp.token = Secret::new(token.to_owned());
        fake.fetch().await.unwrap();
        assert_eq!(fake.asked(), [asked]);
    }
}

#[tokio::test]
async fn no_server_and_a_server_that_does_not_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let base = format!("http://user:hunter2@{address}");
    let cp = ControlPlane { base, compute_id: "c1".to_owned(), token: Secret::default() };
    let heard = Mutex::new(Vec::new());
    let short = Duration::from_millis(200);
    let patience = Patience {
        connect: short,
        request: short,
        longest_request: short,
        total: short,
        ..PATIENCE
    };
    let ask = async || {
        fetch(&cp, patience, &|status| heard.lock().push(status)).await.unwrap_err().to_string()
    };
    // The system accepts, but no server answers.
    let error = ask().await;
    assert!(error.contains("timed out") && !error.contains("hunter2"), "{error}");
    drop(listener);
    let error = ask().await;
    assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
    let whom = format!("(http://{address} about compute c1)");
    assert!(error.contains(&whom), "{error}");
    let heard = heard.into_inner();
    assert!(heard.len() >= 2 && heard.iter().all(Option::is_none), "{heard:?}");
}

/// It must not use up the time of those after it.
#[tokio::test]
async fn a_stalled_request_is_given_up_and_sent_again() {
    let asked = Arc::new(Mutex::new(0));
    let noted = Arc::clone(&asked);
    let handler = async move || {
        let turn = {
            let mut asked = noted.lock();
            *asked += 1;
            *asked
        };
        if turn <= 2 {
            std::future::pending::<()>().await;
        }
        ATTACHED
    };
    let app = axum::Router::new().fallback(handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/cp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let cp = ControlPlane { base, compute_id: "c1".to_owned(), token: Secret::default() };
    let request = Duration::from_millis(300);
    let patience = Patience { request, longest_request: PATIENCE.total, ..PATIENCE };
    assert!(fetch(&cp, patience, &|_| ()).await.unwrap().spec.is_some());
    // On a busy machine more of them take too long; each gives the next one twice the time.
    assert!(*asked.lock() >= 3);
}

/// A control plane that stalls for good is asked more than once at a start, and no answer is waited
/// for without an end.
#[test]
fn a_start_has_time_for_several_stalled_requests() {
    let Patience { request, longest_request, total, .. } = ControlPlaneLimits::default().start;
    assert!(request + request * 2 < total, "the third one begins in time");
    assert!(longest_request < total);
}

/// Computes that wait for the same control plane do not come back to it together.
#[test]
fn a_fleet_comes_back_spread_out() {
    const FLEET: usize = 2000;
    for outage in [3.0, 5.0, 8.0, 10.0, 20.0] {
        let mut quarters = std::collections::BTreeMap::<usize, usize>::new();
        for _ in 0..FLEET {
            let (mut now, mut pause) = (0.0, FIRST_PAUSE);
            while now < outage {
                now += varied(pause).as_secs_f64();
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            *quarters.entry(((now - outage) * 4.0) as usize).or_default() += 1;
        }
        // Evenly over the longest pause would be a twelfth in each; with pauses that vary by a
        // quarter of them, half of the fleet comes in one quarter of a second.
        let most = quarters.values().max().unwrap();
        assert!(*most < FLEET / 4, "after an outage of {outage} s: {quarters:?}");
    }
}

/// A server that answers everything with this redirect, and what it was asked.
async fn redirecting(to: impl Fn(usize) -> String + Send + Sync + Clone + 'static) -> Fake {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let handler = async move |request: Request| {
        let header = request.headers().get("authorization").map(|h| h.to_str().unwrap());
        let mut noted = noted.lock();
        noted.push(format!("{} {}", request.uri().path(), header.unwrap_or("-")));
        let to = to(noted.len());
        let status = if to.is_empty() { StatusCode::OK } else { StatusCode::FOUND };
        (status, [("location", to)], EMPTY)
    };
    let app = axum::Router::new().fallback(handler);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/cp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let token = Secret::new("tok".to_owned());
    let cp = ControlPlane { base, compute_id: "c1".to_owned(), token };
    Fake { cp, asked, heard: Mutex::default(), patience: PATIENCE }
}

#[tokio::test]
async fn a_redirect_within_the_origin_is_followed_with_the_token() {
    let fake = redirecting(|n| if n <= 10 { format!("/hop{n}") } else { String::new() }).await;
    fake.fetch().await.unwrap();
    let asked = fake.asked();
    assert_eq!((asked.len(), asked[10].as_str()), (11, "/hop10 Bearer tok"));

    let fake = redirecting(|n| format!("/hop{n}")).await;
    let error = fake.fetch().await.unwrap_err();
    assert!(matches!(error, ControlPlaneError::Permanent { .. }), "{error}");
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
    assert_eq!(fake.asked().len(), 11);
}

/// Neither the first request there nor a later one: it is not asked at all.
#[tokio::test]
async fn a_redirect_to_another_origin_is_refused_at_once() {
    let other = redirecting(|_| "/again".to_owned()).await;
    let to = other.cp.base.replace("http://", "http://u:planted@");
    let fake = redirecting(move |_| format!("{to}/planted?planted")).await;
    let error = fake.fetch().await.unwrap_err();
    assert!(matches!(error, ControlPlaneError::Permanent { .. }), "{error}");
    let error = error.to_string();
    let origin = |fake: &Fake| fake.cp.base.trim_end_matches("/cp").to_owned();
    let text = format!("{} redirects to {}: ", origin(&fake), origin(&other));
    assert!(error.contains(&text), "{error}");
    assert!(!error.contains("planted") && !error.contains("tok"), "{error}");
    assert_eq!((fake.asked().len(), other.asked().len()), (1, 0));
}
