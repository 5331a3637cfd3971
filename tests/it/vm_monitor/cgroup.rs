//! A cgroup that appears later, vanishes, or is none (08 §6, W7, case 20, case 24).

use std::fs;

use serde_json::json;

use super::machine::{CGROUP, Machine, metric, shown, until_shown};
use crate::support::bed::{may_mount, private_mount};
use crate::support::process::{Compute, check_with_env};
use crate::support::server::on_one_server;

const UNWATCHED: &str = "the memory of the cgroup is not watched: ";

#[tokio::test]
async fn it_may_appear_later_and_vanish() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let folder = machine.stat().parent().unwrap().to_owned();
        fs::remove_dir_all(&folder).unwrap();
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        // The rest works without it, but there is no telling whether the machine may shrink.
        agent.grow(4096, 4).await;
        compute.assert_logged(UNWATCHED, 1).await;
        assert_eq!(metric(&compute, "cgroup_readable").await, Some(0.0));
        assert_eq!(metric(&compute, "cgroup_memory_bytes").await, None);
        assert!(shown(&compute).await["cgroup"]["error"].as_str().unwrap().contains("cgroup"));

        machine.uses(700);
        until_shown(&compute, "/cgroup/memory_bytes", &json!(700 << 20)).await;
        compute.wait_for_log("can be read now").await;
        assert!(agent.shrink_with_samples(2048, 6).await.0);
        machine.uses(1700);
        assert_eq!(agent.hear().await["type"], "UpscaleRequest");

        fs::remove_dir_all(&folder).unwrap();
        compute.assert_logged(UNWATCHED, 2).await;
        machine.uses(300);
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        assert!(agent.shrink_with_samples(2048, 2006).await.0);
        machine.end(compute).await;
    })
    .await;
}

/// No samples for 5 s: the machine must not shrink, and the reason is said.
#[tokio::test]
async fn without_samples_nothing_is_given_back() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        fs::write(machine.stat(), "nothing of use\n").unwrap();
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        let mut id = 2;
        let error = loop {
            agent.ask(4096, id).await;
            let answer = agent.answer(id).await;
            if answer["type"] == "InternalError" {
                break answer["error"].as_str().unwrap().to_owned();
            }
            assert_eq!(answer["Ok"], false, "{answer}");
            id += 2;
        };
        let reason = "failed to downscale: haven't gotten cgroup memory stats recently enough";
        assert!(error.starts_with(reason), "{error}");
        assert!(compute.log().contains("memory.stat has no number for active_anon"));
        assert!(metric(&compute, "downscales_total").await.unwrap() >= 2.0);
        machine.end(compute).await;
    })
    .await;
}

/// `compute_ctl check` names the cgroup and says whether it can be read.
#[tokio::test]
async fn check_names_it() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let config = machine.bed.write("config.json", &machine.bed.spec.config());
        let config = config.display().to_string();
        let env = machine.env();
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let told =
            || async { check_with_env(&["--config", &config], &env).await.good().to_owned() };
        let folder = machine.stat().parent().unwrap().display().to_string();
        let text = told().await;
        let expected = format!("the memory of the cgroup {folder} can be read: 300 MiB in use");
        assert!(text.contains(&expected), "{text}");
        fs::remove_file(machine.stat()).unwrap();
        let text = told().await;
        let expected =
            format!("the VM monitor could not watch the memory of the cgroup {folder}: ");
        assert!(text.contains(&expected), "{text}");
    })
    .await;
}

/// The real place, in a mount namespace: a cgroup v2 file system with a made-up child.
#[tokio::test]
async fn a_cgroup_v2_file_system() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let (root, given) = ("/sys/fs/cgroup", machine.stat());
        let controllers = machine.bed.write_text("controllers", "cpu memory\n");
        let script = format!(
            "mount -t cgroup2 cgroup2 {root}; mkdir -p {root}/{CGROUP}; \
             mount -t tmpfs tmpfs {root}/{CGROUP}; cp {} {root}/{CGROUP}/memory.stat; \
             mount --bind {} {root}/cgroup.controllers",
            given.display(),
            controllers.display()
        );
        if !may_mount(&script).await {
            return;
        }
        let mut through = private_mount(&script);
        for (name, value) in machine.env() {
            if name != "COMPUTE_CTL_CGROUP_ROOT" {
                through.env(name, value);
            }
        }
        let mut compute = Compute::spawn_through(&machine.bed, through, &machine.args());
        compute.wait_for("running").await;
        compute.wait_for_log("the VM monitor is listening").await;
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        until_shown(&compute, "/cgroup/memory_bytes", &json!(300 << 20)).await;
        assert_eq!(shown(&compute).await["cgroup"]["path"], format!("{root}/{CGROUP}"));
        machine.end(compute).await;
        // The kernel keeps the child beyond the namespace.
        let clean = format!("mount -t cgroup2 cgroup2 {root}; rmdir {root}/{CGROUP}");
        let cleaned = private_mount(&clean).arg("true").output().await.unwrap();
        assert!(cleaned.status.success(), "{cleaned:?}");
    })
    .await;
}
