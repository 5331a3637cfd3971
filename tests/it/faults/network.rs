//! The peers of a compute behind a bad line: the work waits, says for whom, and ends as usual once
//! the line is repaired; a signal ends it at once.

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;

use super::beside::{Peer, PeerFault};
use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::Bed;
use crate::support::network::{BadLine, ControlPlane, Weather, answer};
use crate::support::process::Compute;

impl PeerFault {
    fn weather(self) -> Weather {
        match self {
            Self::Stalls => Weather::Stalls,
            Self::Resets => Weather::Resets,
            Self::Trickles => Weather::Trickles,
            Self::Late => Weather::Late(std::time::Duration::from_secs(2)),
        }
    }
}

pub async fn start(server: Server, peer: Peer, fault: PeerFault) {
    for repaired in [true, false] {
        let mut bed = Bed::new(server.clone()).await;
        bed.fake_postgres();
        let control_plane = ControlPlane::start(vec![(500, String::new())]).await;
        let port = match peer {
            Peer::Safekeeper => bed.safekeepers[0].port(),
            Peer::Pageserver => bed.pageserver.port(),
            Peer::ControlPlane => {
                control_plane.address().rsplit_once(':').unwrap().1.parse().unwrap()
            }
        };
        let line = BadLine::to(port, fault.weather()).await;
        let address = format!("127.0.0.1:{}", line.port);
        match peer {
            Peer::Safekeeper => bed.spec.safekeeper_connstrings = vec![address.clone()],
            Peer::Pageserver => {
                bed.spec.pageserver_connstring = format!("postgresql://no_user@{address}");
            }
            Peer::ControlPlane => {}
        }
        control_plane.answer(vec![(200, answer(&bed, "attached", bed.spec.spec()))]);
        let mut compute = match peer {
            Peer::ControlPlane => {
                let args = bed.args_for(&format!("http://{address}/cp"));
                Compute::spawn(&bed, &args, &ControlPlane::ENV)
            }
            _ => bed.start(),
        };
        eventually("the compute meets the bad line", || line.met() > 0).await;
        if repaired {
            line.repair();
        }
        if repaired {
            compute.wait_for("running").await;
            terminate(&mut compute).await;
        } else {
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.log());
        }
        assert_nothing_left(&bed);
    }
}

/// A refresh asks the control plane; a `/configure` names storage, which only Postgres asks.
pub async fn change(server: Server, peer: Peer, fault: PeerFault) {
    if peer == Peer::ControlPlane {
        for repaired in [true, false] {
            refresh(server.clone(), fault, repaired).await;
        }
    } else {
        configure(server, peer, fault).await;
    }
}

async fn refresh(server: Server, fault: PeerFault, repaired: bool) {
    let mut bed = Bed::new(server).await;
    bed.fake_postgres();
    let first = vec![(200, answer(&bed, "attached", bed.spec.spec()))];
    let control_plane = ControlPlane::start(first).await;
    let port = control_plane.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let line = BadLine::to(port, fault.weather()).await;
    line.repair();
    let args = bed.args_for(&format!("http://127.0.0.1:{}/cp", line.port));
    let mut compute = Compute::spawn(&bed, &args, &ControlPlane::ENV);
    compute.wait_for("running").await;
    bed.spec.set("work_mem", "8MB");
    control_plane.answer(vec![(200, answer(&bed, "attached", bed.spec.spec()))]);
    line.spoil(fault.weather());
    compute.refresh().await;
    eventually("the refresh meets the bad line", || line.met() > 0).await;
    if repaired {
        line.repair();
        eventually("the new configuration is in force", || {
            bed.pgdata_text("postgresql.conf").contains("8MB")
        })
        .await;
        compute.until_status("running").await;
        terminate(&mut compute).await;
    } else {
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.log());
    }
    assert_nothing_left(&bed);
}

async fn configure(server: Server, peer: Peer, fault: PeerFault) {
    let mut bed = Bed::new(server).await;
    bed.fake_postgres();
    let mut compute = bed.start();
    compute.wait_for("running").await;
    let port = match peer {
        Peer::Safekeeper => bed.safekeepers[0].port(),
        _ => bed.pageserver.port(),
    };
    let line = BadLine::to(port, fault.weather()).await;
    let address = format!("127.0.0.1:{}", line.port);
    match peer {
        Peer::Safekeeper => bed.spec.safekeeper_connstrings = vec![address.clone()],
        _ => bed.spec.pageserver_connstring = format!("postgresql://no_user@{address}"),
    }
    let (code, answer) = compute.configure(&bed).await;
    assert_eq!(code, 200, "{answer}\n{}", compute.log());
    assert!(bed.pgdata_text("postgresql.conf").contains(&address));
    assert_eq!(line.met(), 0, "{}", compute.log());
    terminate(&mut compute).await;
    assert_nothing_left(&bed);
}

async fn terminate(compute: &mut Compute) {
    let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
    assert_eq!(code, 200, "{answer}\n{}", compute.log());
    assert_eq!(compute.wait_exit().await.code(), Some(0), "{}", compute.log());
}
