//! A child other than the postmaster that is killed, or that is stopped and never continued: the
//! compute notices, does what the page says, and leaves nothing behind.

use std::path::PathBuf;

use compute_ctl::dev::servers::Server;
use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::beside::{Child, ChildFault};
use crate::support::assertions::{assert_nothing_left, eventually, until};
use crate::support::bed::{Bed, put_program};
use crate::support::process::Compute;

/// The stand-in of a child, which works in the bed's folder, where `assert_nothing_left` would find
/// it. It writes its number once, and stays until a signal ends it; later calls are the real program.
struct Stand {
    number: PathBuf,
}

impl Stand {
    /// Puts it in place of `program` for calls whose arguments contain `call`.
    fn put(bed: &Bed, program: &str, call: &str) -> Self {
        let number = bed.dir().join("pg/child");
        let program = bed.pgbin.with_file_name(program);
        let real = program.with_extension("real");
        let there = program.exists();
        if there {
            std::fs::rename(&program, &real).unwrap();
        }
        let then = match there {
            true => format!("exec '{}' \"$@\"", real.display()),
            false => "exit 1".to_owned(),
        };
        let (number_text, dir) = (number.display(), bed.dir().display());
        put_program(
            &program,
            &format!(
                "# Knows --sync-safekeepers.\n\
                 case \" $* \" in *'{call}'*) if mkdir '{number_text}.taken' 2> /dev/null; then\n\
                 cd '{dir}/pg'; echo $$ > '{number_text}.new'; mv '{number_text}.new' '{number_text}'\n\
                 while :; do sleep 0.01; done\nfi ;; esac\n{then}"
            ),
        );
        Self { number }
    }

    async fn process(&self) -> i32 {
        until("the child runs", || async { self.number.exists() }).await;
        std::fs::read_to_string(&self.number).unwrap().trim().parse().unwrap()
    }
}

pub async fn run(server: Server, child: Child, fault: ChildFault) {
    let mut bed = Bed::new(server).await;
    let signal = match fault {
        ChildFault::Killed => Signal::SIGKILL,
        ChildFault::Stopped => Signal::SIGSTOP,
    };
    let hit = async |number: i32| kill(Pid::from_raw(number), signal).unwrap();
    let mut compute = match child {
        Child::SafekeeperSync => {
            bed.fake_postgres();
            let stand = Stand::put(&bed, "postgres", "--sync-safekeepers");
            bed.safekeepers[0].behave(|safekeeper| safekeeper.flush_lsn += 8);
            let compute = bed.start();
            hit(stand.process().await).await;
            compute
        }
        Child::WarmupInitdb => {
            bed.fake_postgres();
            let stand = Stand::put(&bed, "initdb", "--pgdata");
            let compute = bed.start_empty();
            hit(stand.process().await).await;
            compute
        }
        Child::ConfigurationCheck => {
            bed.fake_postgres();
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let stand = Stand::put(&bed, "postgres", " -C ");
            bed.spec.set("work_mem", "8MB");
            let asked = compute.configure(&bed);
            let (answer, ()) = tokio::join!(asked, async { hit(stand.process().await).await });
            assert_eq!(answer.0, 200, "{}\n{}", answer.1, compute.log());
            assert!(bed.pgdata_text("postgresql.conf").contains("work_mem = '8MB'"));
            compute
        }
        Child::SchemaDump => {
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let stand = Stand::put(&bed, "pg_dump", "");
            let url = format!("{}/database_schema?database=postgres", compute.external);
            let asked = tokio::spawn(compute.http.get(url).send());
            hit(stand.process().await).await;
            if fault == ChildFault::Killed {
                let answer = asked.await.unwrap().unwrap();
                assert_eq!(answer.status(), 500, "{}", compute.log());
            }
            compute
        }
        Child::ServerProcess => {
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let postmaster = compute.postmaster();
            let all = procs::all().unwrap();
            let one = all.iter().find(|process| process.ppid == postmaster).unwrap();
            hit(one.pid).await;
            compute
        }
    };
    end(&bed, &mut compute, child, fault).await;
    assert_nothing_left(&bed);
    bed.take_other_http_ports();
    let mut next = bed.start();
    next.wait_for("running").await;
    let (code, answer) = next.post("/terminate?mode=immediate", None).await;
    assert_eq!(code, 200, "{answer}\n{}", next.log());
    assert_eq!(next.wait_exit().await.code(), Some(0), "{}", next.log());
    assert_nothing_left(&bed);
}

/// What the page promises, and the end of the compute.
async fn end(bed: &Bed, compute: &mut Compute, child: Child, fault: ChildFault) {
    match (child, fault) {
        // A crash of Postgres.
        (Child::ServerProcess, ChildFault::Killed) => {
            assert_eq!(compute.wait_exit().await.code(), Some(1), "{}", compute.log());
            return;
        }
        // Their limits are longer than a test.
        (
            Child::SafekeeperSync | Child::WarmupInitdb | Child::SchemaDump | Child::ServerProcess,
            ChildFault::Stopped,
        ) => {
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.log());
            return;
        }
        (Child::WarmupInitdb, ChildFault::Killed) => {
            compute.wait_for("empty").await;
            let (code, answer) = compute.configure(bed).await;
            assert_eq!(code, 200, "{answer}\n{}", compute.log());
        }
        _ => {}
    }
    compute.wait_for("running").await;
    eventually("no zombie is left", || compute.zombies().is_empty()).await;
    let (code, answer) = compute.post("/terminate?mode=immediate", None).await;
    assert_eq!(code, 200, "{answer}\n{}", compute.log());
    assert_eq!(compute.wait_exit().await.code(), Some(0), "{}", compute.log());
}
