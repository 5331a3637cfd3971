//! The effect of an apply on users: `pgbench` on one database, and its own log of latencies.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use super::bed::Bed;
use super::cases::databases;
use super::common::process::pause;

const DATABASES: usize = 200;
const CLIENTS: &str = "4";
/// As in a spec of a machine with few cores.
const CONCURRENCY: usize = 8;
/// The duration of the load before the apply, and in all.
const BEFORE: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(45);

/// A transaction: when it ended, since 1970, and how long it took.
struct Transaction {
    end: Duration,
    took: Duration,
}

/// `pgbench` during an apply of 200 databases. One round: it is the errors that count.
pub fn users(bed: &Bed, _runs: usize) -> anyhow::Result<()> {
    let mut spec = bed.spec();
    spec.role("ann", None).database("shop", "ann");
    let compute = bed.start(&spec)?;
    let shop = bed.connstr_of("ann", "shop");
    let mut prepare = Command::new(bed.clients.program("pgbench"));
    let output = prepare.args(["-i", "-q", "-s", "5"]).arg(&shop).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let logs = bed.dir().join("latencies");
    fs::create_dir(&logs)?;
    let mut load = Command::new(bed.clients.program("pgbench"));
    load.args(["-n", "-c", CLIENTS, "-T", &ALL.as_secs().to_string(), "-l", "--log-prefix"]);
    load.arg(logs.join("log")).arg(&shop);
    load.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = since_1970()?;
    #[expect(clippy::disallowed_methods, reason = "a benchmark has no reaper")]
    let load = load.spawn()?;
    pause(BEFORE);

    spec.member("reconfigure_concurrency", CONCURRENCY.into());
    for name in databases(DATABASES) {
        spec.database(&name, "ann");
    }
    let from = since_1970()?;
    let apply = compute.apply(&spec)?;
    let to = from + apply;
    let unchanged = compute.apply(&spec)?;
    let output = load.wait_with_output()?;
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "a user has met an error: {errors}");
    ensure!(
        !told.contains("failed transactions") || told.contains("failed transactions: 0 "),
        "{told}"
    );
    ensure!(to < began + ALL, "the apply took longer than the load");
    compute.stop_and_delete()?;

    let transactions = read(&logs)?;
    println!(
        "\nUsers during an apply of {DATABASES} databases, {CONCURRENCY} at a time: {:.1} s, and \
         unchanged {:.2} s\n  {:<46}{:>9}{:>9}{:>9}",
        apply.as_secs_f64(),
        unchanged.as_secs_f64(),
        format!("pgbench, {CLIENTS} clients, latency in ms"),
        "p50",
        "p99",
        "max"
    );
    print("before", &transactions, began + BEFORE / 5, from);
    print("during the apply", &transactions, from, to);
    println!("  {} transactions, no error", transactions.len());
    Ok(())
}

fn since_1970() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// Those that ended between two moments.
fn print(what: &str, all: &[Transaction], from: Duration, to: Duration) {
    let of_them = all.iter().filter(|transaction| (from..to).contains(&transaction.end));
    let mut times: Vec<f64> = of_them.map(|one| one.took.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied()
    };
    let [p50, p99, max] = [50, 99, 100].map(|percent| at(percent).unwrap_or(f64::NAN));
    let rate = times.len() as f64 / (to - from).as_secs_f64();
    println!("  {what:<46}{p50:>9.2}{p99:>9.2}{max:>9.2}  {rate:.0} per second");
}

/// Lines of `client number µs script s µs`.
fn read(logs: &Path) -> anyhow::Result<Vec<Transaction>> {
    let mut transactions = Vec::new();
    for entry in fs::read_dir(logs)? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>();
            let numbers = numbers.with_context(|| line.to_owned())?;
            let &[_, _, took, _, seconds, micros, ..] = numbers.as_slice() else { continue };
            let end = Duration::from_secs(seconds) + Duration::from_micros(micros);
            transactions.push(Transaction { end, took: Duration::from_micros(took) });
        }
    }
    Ok(transactions)
}
