//! `--internal-http-bind`: the addresses on which the server without tokens listens.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::{Compute, try_start};
use crate::support::server::on_one_server;

const WARNING: &str = "the internal HTTP server asks for no token and is reachable from outside";

async fn start(bed: &Bed, bind: Option<&str>) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(bind.into_iter().flat_map(|it| ["--internal-http-bind".to_owned(), it.to_owned()]));
    let mut compute = Compute::spawn(bed, &line, &[]);
    compute.wait_for("running").await;
    compute
}

#[tokio::test]
async fn only_loopback_unless_told_otherwise() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        // The second address distinguishes a server on all addresses from one on the default
        // address.
        let reaches =
            |last| TcpStream::connect((Ipv4Addr::new(127, 0, 0, last), bed.internal_port)).is_ok();
        let ipv6 = TcpListener::bind("[::]:0").is_ok().then_some((Some("::"), true, true));
        for (bind, second, outside) in [
            (None, false, false),
            (Some("127.0.0.1"), false, false),
            (Some("127.0.0.2"), true, false),
            (Some("0.0.0.0"), true, true),
        ]
        .into_iter()
        .chain(ipv6)
        {
            let mut compute = start(&bed, bind).await;
            assert!(reaches(1), "{bind:?}: Postgres finds it on localhost");
            assert_eq!(reaches(2), second, "{bind:?}");
            let log = compute.settled_log().await;
            assert_eq!(log.contains(WARNING), outside, "{bind:?}\n{log}");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// Programs of other machines use names, such as that of a Service of Kubernetes. A page in a
/// browser may not: on loopback its site could have any name, and an open server can have names too.
#[tokio::test]
async fn names_in_host() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let (service, rebound) = ("compute-1.default.svc:3081", "rebound.example:3081");
        let (open, name) = (["--internal-http-bind", "0.0.0.0"], ["--internal-http-host", service]);
        let name = [name[0], name[1].trim_end_matches(":3081")];
        for (flags, of_service, of_rebound) in [
            (vec![], 421, 421),
            (name.to_vec(), 200, 421),
            (open.to_vec(), 200, 200),
            ([open, name].concat(), 200, 421),
        ] {
            let mut line = bed.base_args();
            line.extend(bed.config_args());
            line.extend(flags.iter().map(|it| (*it).to_owned()));
            let mut compute = Compute::spawn(&bed, &line, &[]);
            compute.wait_for("running").await;
            for path in ["/", "/details", "/log"] {
                let ask = async |host: &str, header: (&'static str, &'static str)| {
                    let request = compute.http.get(format!("{}{path}", compute.internal));
                    let request = request.header("host", host).header(header.0, header.1);
                    request.send().await.unwrap().status().as_u16()
                };
                // What a browser says of a page that was loaded from the same name.
                let same = ("sec-fetch-site", "same-origin");
                for (host, expected) in
                    [(own.as_str(), 200), (service, of_service), (rebound, of_rebound)]
                {
                    let plain = ask(host, ("accept", "*/*")).await;
                    assert_eq!(plain, expected, "{flags:?} {path} {host}");
                    assert_eq!(ask(host, same).await, expected, "{flags:?} {path} {host}");
                    for foreign in
                        [("sec-fetch-site", "cross-site"), ("origin", "http://a.example")]
                    {
                        assert_eq!(ask(host, foreign).await, 421, "{flags:?} {path} {host}");
                    }
                }
            }
            let request = compute.http.post(format!("{}/refresh_configuration", compute.internal));
            let request = request.header("host", service).header("origin", "http://a.example");
            assert_eq!(request.send().await.unwrap().status(), 421, "{flags:?}");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// An address that this machine does not have ends the process before anything is changed.
#[tokio::test]
async fn an_address_of_another_machine() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut line = bed.base_args();
        line.extend(bed.config_args());
        line.extend(["--internal-http-bind", "192.0.2.1"].map(str::to_owned));
        let refusal = try_start(&bed, &line, &[]).await;
        assert!(refusal.error().contains("the internal HTTP server cannot use port"));
        assert_nothing_left(&bed);
    })
    .await;
}
