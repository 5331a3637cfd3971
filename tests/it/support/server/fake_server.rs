//! Replaces the server that the daemon starts.

use std::fs;
use std::process::Command;

use crate::support::bed::Bed;

/// A "server" that says it is ready and runs until SIGKILL. It works in PGDATA, so that
/// [`crate::support::assertions::assert_nothing_left`] would find it.
pub const IMMORTAL: &str = "trap '' INT QUIT TERM; cd \"$2\"; \
     echo ready > pid.tmp; mv pid.tmp postmaster.pid; exec sleep 86400";

impl Bed {
    /// Lines of shell that run before the server is started, or in its place if they `exec`. `$2`
    /// is PGDATA. Other calls of the program are unchanged.
    pub fn before_server(&self, script: &str) {
        let program = self.wrapper.postgres();
        let wrapped = program.with_file_name("postgres.wrapped");
        fs::rename(&program, &wrapped).unwrap();
        let text = format!(
            "#!/bin/sh\n# Knows --sync-safekeepers.\nreal='{}'\n\
             [ \"$1\" = -D ] || exec \"$real\" \"$@\"\n{script}\nexec \"$real\" \"$@\"\n",
            wrapped.display()
        );
        // A shell writes the program: a file that this process wrote could still be open in a child
        // that another test is starting, and then it cannot be executed.
        let write = "printf '%s' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let status = Command::new("/bin/sh").args(["-c", write]).arg(&program).arg(text).status();
        assert!(status.unwrap().success());
    }
}
