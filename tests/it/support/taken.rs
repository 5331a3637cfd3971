//! Data that outlive a compute: what it wrote is served to the next one.

use compute_ctl::dev::archive::{self, ArchiveOptions};
use nix::sys::signal::Signal;

use super::{Bed, Compute};

impl Bed {
    /// Stops a compute and has the pageserver serve its data from now on.
    pub async fn take_data(&self, mut compute: Compute) {
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        let archive = self.dir().join("taken.tar.gz");
        archive::build(&self.pgdata(), &archive, &ArchiveOptions::default()).unwrap();
        self.pageserver.set_archive(&archive);
    }
}
