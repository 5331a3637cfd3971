//! Options that have no effect in the given surroundings. They are accepted, because launchers give
//! them everywhere, and named in the log.

use super::run::{CGROUP, FILECACHE_CONNSTR, PG_INIT_TIMEOUT, RunArgs, VM_MONITOR_ADDR};

impl RunArgs {
    /// A sentence for each option that was given and has no effect. `autoscaling`: `AUTOSCALING` is
    /// in the environment.
    pub fn without_effect(&self, autoscaling: bool) -> Vec<String> {
        let mut sentences = Vec::new();
        if !self.lakebase_mode {
            let (external, internal) = self.http_ports();
            if self.http_port.is_some() {
                sentences.push(format!(
                    "--http-port has no effect outside Lakebase mode: the ports are {external} and \
                     {internal}; use --external-http-port and --internal-http-port"
                ));
            }
            if self.pg_init_timeout != PG_INIT_TIMEOUT {
                sentences.push("--pg-init-timeout has no effect outside Lakebase mode".to_owned());
            }
        }
        if !autoscaling {
            let vm_monitor = [
                ("--cgroup", self.cgroup != CGROUP),
                (
                    "--filecache-connstr",
                    self.filecache_connstr_file.is_none()
                        && self.filecache_connstr.expose() != FILECACHE_CONNSTR,
                ),
                ("--filecache-connstr-file", self.filecache_connstr_file.is_some()),
                ("--vm-monitor-addr", self.vm_monitor_addr.to_string() != VM_MONITOR_ADDR),
            ];
            for (option, _) in vm_monitor.into_iter().filter(|(_, given)| *given) {
                sentences.push(format!(
                    "{option} has no effect: AUTOSCALING is not set, so there is no VM monitor"
                ));
            }
        }
        if autoscaling && self.cgroup != CGROUP {
            sentences.push(format!(
                "--cgroup has no effect on Postgres, which runs in the cgroup {CGROUP}: only the VM \
                 monitor uses {}",
                self.cgroup
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn what_was_given_in_vain_is_named() {
        let given = |args: &str, autoscaling| {
            let line = format!("compute_ctl -D /d -C postgresql://h -S /s {args}");
            let run = Cli::try_parse_from(line.split(' ').filter(|word| !word.is_empty()));
            run.unwrap().run.without_effect(autoscaling)
        };
        assert_eq!(given("", false), Vec::<String>::new());
        let all = "--http-port 7 --cgroup c --filecache-connstr f --vm-monitor-addr 1.1.1.1:1";
        let named = given(all, false);
        assert_eq!(named.len(), 4);
        assert!(named[0].contains("the ports are 3080 and 3081"), "{named:?}");
        for option in ["--http-port", "--cgroup", "--filecache-connstr", "--vm-monitor-addr"] {
            assert!(named.iter().any(|it| it.starts_with(&format!("{option} has no"))), "{option}");
        }
        let named = given("--filecache-connstr-file /f", false);
        assert_eq!(named.len(), 1);
        assert!(named[0].starts_with("--filecache-connstr-file has no effect"), "{named:?}");
        let named = given(all, true);
        assert_eq!(named.len(), 2);
        assert!(named[1].ends_with("only the VM monitor uses c"), "{named:?}");
        assert_eq!(given("--pg-init-timeout 7", true).len(), 1);
        let lakebase = "--lakebase-mode true --http-port 7 --pg-init-timeout 7";
        assert_eq!(given(lakebase, false), Vec::<String>::new());
    }
}
