//! A server that costs nothing, for tests of the daemon alone.

use crate::support::bed::{Bed, put_program};

/// Ready at once; on SIGHUP reads what a postmaster reads, in the same order; a stop signal ends it
/// with 0, a full disk with 1. It works in PGDATA, where
/// [`crate::support::assertions::assert_nothing_left`] would find it. `wait` ends at a signal; one that
/// comes just before it is served a second later. The `sleep` outlives the fake for as long, outside
/// of PGDATA and of the log.
const SCRIPT: &str = r#"cd "$2"
trap 'cat postgresql.conf pg_hba.conf > /dev/null' HUP
trap 'exit 0' INT QUIT TERM
printf '%s\nready\n' $$ > pid.tmp || exit 1
mv pid.tmp postmaster.pid
while :; do (cd / && exec sleep 1) > /dev/null 2>&1 & wait $!; done"#;

impl Bed {
    /// Puts a fake in place of the server, and of the `initdb` of the warm-up. Other calls of the
    /// program are real: the sync, and the check of a new configuration.
    pub fn fake_postgres(&self) {
        self.before_server(SCRIPT);
        put_program(&self.pgbin.with_file_name("initdb"), "mkdir -m 700 \"$2\"");
    }
}
