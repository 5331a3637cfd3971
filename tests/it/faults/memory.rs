//! A cgroup of its own for a compute and its children, whose memory can run out.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use compute_ctl::os::procs;
use nix::sys::signal::Signal;

use super::run::POLL;
use super::stage::Stage;
use crate::support::assertions::PATIENCE;

const ROOT: &str = "/sys/fs/cgroup";

/// The files of one version of cgroups.
struct Files {
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    unlimited: &'static str,
}

const V1: Files = Files {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    unlimited: "-1",
};
const V2: Files =
    Files { root: ROOT, limit: "memory.max", used: "memory.current", unlimited: "max" };

/// Removed when dropped; its processes have ended by then.
pub struct MemoryGroup {
    at: PathBuf,
    files: &'static Files,
}

impl MemoryGroup {
    /// A group without processes; none if this user may not make one, as outside of root and in most
    /// containers.
    pub fn new() -> Option<Self> {
        [&V1, &V2].into_iter().find_map(|files| {
            let name = format!("compute_ctl-{}-{}", std::process::id(), fastrand::u32(..));
            let at = Path::new(files.root).join(name);
            fs::create_dir(&at).ok()?;
            let group = Self { at, files };
            group.limit(files.unlimited).then_some(group)
        })
    }

    /// Takes the process and its descendants in, with all that they start from now on.
    pub fn take(&self, process: i32) {
        let mut taken = vec![process];
        for process in procs::all().unwrap() {
            if taken.contains(&process.ppid) {
                taken.push(process.pid);
            }
        }
        for process in taken {
            // One that has ended need not be taken.
            let _ = fs::write(self.at.join("cgroup.procs"), process.to_string());
        }
    }

    /// No more memory than is used now.
    pub fn fill(&self) {
        let used = || fs::read_to_string(self.at.join(self.files.used)).unwrap();
        // What is used may grow in between; the limit is refused then.
        let set = (0..100).any(|_| self.limit(used().trim()));
        assert!(set, "no limit for {}", self.at.display());
    }

    /// Takes the limit away.
    pub fn free(&self) {
        assert!(self.limit(self.files.unlimited), "no end of the limit of {}", self.at.display());
    }

    fn limit(&self, bytes: &str) -> bool {
        fs::write(self.at.join(self.files.limit), bytes).is_ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel may still count a process that has been reaped, and tells no end of that.
        for _ in 0..100 {
            if fs::remove_dir(&self.at).is_ok() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a drop cannot await")]
            sleep(POLL);
        }
    }
}

impl Stage {
    /// Waits until the work has ended in any way, gives the memory back, and ends the compute.
    pub async fn survives(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let lasts = ["running", "failed", "refresh_configuration_pending"];
        while self.compute.is_alive() {
            let status = self.status().await;
            let is_over = match (&self.asked, &status) {
                (Some(asked), _) => asked.is_finished(),
                (None, Some(status)) => lasts.contains(&status.as_str()),
                (None, None) => false,
            };
            if is_over {
                break;
            }
            assert!(Instant::now() < deadline, "{status:?}: it hangs\n{}", self.compute.log());
            tokio::time::sleep(POLL).await;
        }
        self.memory.as_ref().unwrap().free();
        if self.compute.is_alive() {
            self.compute.signal(Signal::SIGTERM);
        }
        let end = self.compute.wait_exit().await;
        let killed = end.signal() == Some(Signal::SIGKILL as i32);
        assert!(killed || matches!(end.code(), Some(0 | 1)), "{end}\n{}", self.compute.log());
        self.killed = killed;
    }
}
