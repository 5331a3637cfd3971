//! The peers of a compute behind a bad line: the work waits, says for whom, and ends as usual once
//! the line is repaired; a signal ends it at once.

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;

use super::plan::{Peer, PeerFault};
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

pub async fn run(server: Server, peer: Peer, fault: PeerFault) {
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
            let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
            assert_eq!(code, 200, "{answer}\n{}", compute.log());
            assert_eq!(compute.wait_exit().await.code(), Some(0), "{}", compute.log());
        } else {
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.log());
        }
        assert_nothing_left(&bed);
    }
}
