use super::*;
use crate::dev::pageserver::{LeaseAnswer, PageserverOptions, StandInPageserver};

const PROTOCOLS: [PageserverProtocol; 2] = [PageserverProtocol::Libpq, PageserverProtocol::Grpc];
const LIMIT: Duration = Duration::from_secs(5);

fn pin() -> LeasedLsn {
    LeasedLsn {
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn: Lsn(0x2A3_B4C8),
    }
}

async fn server() -> StandInPageserver {
    let password = Some("planted-token".to_owned());
    let options = PageserverOptions { password, ..Default::default() };
    StandInPageserver::start(options).await.unwrap()
}

fn lessor(
    server: &StandInPageserver,
    protocol: PageserverProtocol,
    shard: &str,
) -> LeasePageserver {
    let pageserver = Pageserver {
        id: None,
        libpq_url: Some(Secret::new(server.connstring())),
        grpc_url: Some(Secret::new(server.grpc_url())),
    };
    LeasePageserver { shard: shard.parse().unwrap(), pageserver, protocol }
}

async fn ask(lessor: &LeasePageserver) -> Result<Lease, String> {
    let token = Secret::new("planted-token".to_owned());
    let answer = lessor.ask(pin(), Some(&token), LIMIT).await;
    assert!(!format!("{answer:?} {lessor:?}").contains("planted"));
    answer.map_err(|error| error.to_string())
}

#[tokio::test]
async fn asks_as_documented() {
    let server = server().await;
    for (shard, tenant) in [("0000", ""), ("0102", "-0102")] {
        ask(&lessor(&server, PageserverProtocol::Libpq, shard)).await.unwrap();
        let ids =
            format!("51b0c7e2a94d4c06b3f7d1e8a2640f9c{tenant} e7d25a1c90b84f3fa6120c4b8d93f57e");
        assert_eq!(
            server.journal().commands().last().unwrap(),
            &format!("lease lsn {ids} 0/2A3B4C8")
        );
        let startup = format!("{:?}", server.journal().startups().last().unwrap());
        assert!(startup.contains("no_user"), "{startup}");
        for absent in ["options", "application_name"] {
            assert!(!startup.contains(absent), "{startup}");
        }

        ask(&lessor(&server, PageserverProtocol::Grpc, shard)).await.unwrap();
        let journal = server.grpc_journal();
        assert_eq!(journal.commands().last().unwrap(), "LeaseLsn 0/2A3B4C8");
        let metadata = journal.startups().last().unwrap().clone();
        assert!(metadata.contains(&("neon-shard-id".to_owned(), shard.to_owned())));
        assert!(metadata.contains(&(
            "neon-tenant-id".to_owned(),
            "51b0c7e2a94d4c06b3f7d1e8a2640f9c".to_owned()
        )));
        assert_eq!(journal.passwords().last().unwrap(), "planted-token");
    }
}

#[tokio::test]
async fn every_answer() {
    let server = server().await;
    for protocol in PROTOCOLS {
        let lessor = lessor(&server, protocol, "0000");
        let answer = async |answer: LeaseAnswer| {
            server.behave(|it| it.lease = answer);
            ask(&lessor).await
        };
        let granted = answer(LeaseAnswer::For(Duration::from_secs(600))).await.unwrap();
        let Lease::Until(until) = granted else { panic!("{protocol:?}") };
        let left = until.duration_since(SystemTime::now()).unwrap();
        assert!((590..=600).contains(&left.as_secs()), "{left:?}");
        let past = answer(LeaseAnswer::Text(Some("1000".to_owned()))).await;
        let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(past, Ok(Lease::Until(second)), "{protocol:?}");

        assert_eq!(answer(LeaseAnswer::Text(None)).await, Ok(Lease::Refused), "{protocol:?}");
        let error = answer(LeaseAnswer::Error("tenant is moving".to_owned())).await.unwrap_err();
        assert!(error.contains("tenant is moving"), "{protocol:?}: {error}");
        for answer in [
            answer(LeaseAnswer::NoRow).await,
            answer(LeaseAnswer::Text(Some("soon".to_owned()))).await,
        ] {
            let error = answer.unwrap_err();
            let text = match protocol {
                PageserverProtocol::Libpq => "error parsing lsn lease response",
                PageserverProtocol::Grpc => "the end of the lease is missing",
            };
            assert!(error.contains(text), "{protocol:?}: {error}");
        }
    }
}

#[tokio::test]
async fn an_unusable_address_is_an_error_like_others() {
    let server = server().await;
    for (protocol, url, text) in [
        (PageserverProtocol::Libpq, None, "no libpq_url for shard 0000"),
        (PageserverProtocol::Grpc, None, "no grpc_url for shard 0000"),
        (PageserverProtocol::Libpq, Some("host=a sslmode=require password=planted"), "TLS"),
        (PageserverProtocol::Libpq, Some("port=planted"), "cannot be used"),
        (PageserverProtocol::Grpc, Some("https://u:planted@a"), "TLS"),
    ] {
        let mut lessor = lessor(&server, protocol, "0000");
        let url = url.map(|url| Secret::new(url.to_owned()));
        lessor.pageserver = Pageserver { id: None, libpq_url: url.clone(), grpc_url: url };
        let error = ask(&lessor).await.unwrap_err();
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("planted"), "{error}");
        assert!(!lessor.name().contains("planted"));
    }
}

#[tokio::test]
async fn a_pageserver_that_says_nothing_has_its_limit() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let server = server().await;
    for protocol in PROTOCOLS {
        let mut lessor = lessor(&server, protocol, "0000");
        lessor.pageserver.libpq_url = Some(Secret::new(format!("postgresql://u@{address}")));
        lessor.pageserver.grpc_url = Some(Secret::new(format!("grpc://{address}")));
        assert_eq!(lessor.name(), address.to_string());
        let moment = Duration::from_millis(100);
        let error = lessor.ask(pin(), None, moment).await.unwrap_err();
        assert!(matches!(error, LeaseError::Timeout(_)), "{protocol:?}: {error}");
    }
}
