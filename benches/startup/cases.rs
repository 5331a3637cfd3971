//! The figures of the README, each with its comparison.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::archives;
use super::bed::Bed;
use super::common::process::pause;
use super::common::samples::{Samples, heading, milliseconds, verdict};
use super::parts::{self, Configuration, Parts};

/// Files of the old data directory in [`restart`].
const OLD_FILES: usize = 20_000;
/// The pause before memory is measured: the code of the start is given back ten seconds after it.
const SETTLE: Duration = Duration::from_secs(12);

/// Exec to `running` against the sum of the unavoidable work.
pub fn first_start(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let (archive, postgres) = (&bed.archives.initdb, &bed.server.postgres);
    let mut parts = Parts::new(archive)?;
    // Not counted: warms the caches, and makes the configuration.
    bed.time_daemon(archive, postgres)?;
    let configuration = Configuration::of(&bed.pgdata())?;

    let [mut inflate, mut write, mut server, mut sum, mut running, mut ratio] =
        std::array::from_fn(|_| Samples::default());
    for _ in 0..runs {
        bed.next_round();
        let pgdata = bed.other_pgdata();
        let inflated = parts.inflate()?;
        let written = parts.write(&pgdata)?;
        configuration.put(&pgdata, bed.owner)?;
        let ready = parts::bare_server(bed, postgres, &pgdata)?;
        let daemon = bed.time_daemon(archive, postgres)?;

        let avoidable = inflated + written + ready;
        for (samples, time) in [
            (&mut inflate, inflated),
            (&mut write, written),
            (&mut server, ready),
            (&mut sum, avoidable),
            (&mut running, daemon),
        ] {
            samples.push_time(time);
        }
        ratio.push(milliseconds(daemon) / milliseconds(avoidable));
    }
    let (packed, unpacked) = archives::sizes(archive)?;
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    let (packed, unpacked) = (megabytes(packed), megabytes(unpacked));
    heading(&format!("First start, basebackup of {unpacked:.0} MB ({packed:.1} MB as gzip)"));
    inflate.print("inflating it, in memory", "ms");
    write.print("writing its files", "ms");
    server.print("postgres alone, exec to ready", "ms");
    sum.print("sum of these", "ms");
    running.print("compute_ctl, exec to running", "ms");
    ratio.print("compute_ctl / sum, round by round", "");
    println!("  fastest round of compute_ctl / fastest sum: {:.2}", running.min() / sum.min());
    verdict("ratio", ratio.median(), 1.0, "");
    Ok(())
}

/// An archive of one file and a server that is ready at once: the rest is the daemon.
pub fn own_share(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let [mut fake, mut pg_config, mut running, mut own] =
        std::array::from_fn(|_| Samples::default());
    for _ in 0..runs {
        bed.next_round();
        let pgdata = bed.other_pgdata();
        fs::create_dir(&pgdata)?;
        bed.owner.hand_over(&pgdata)?;
        let ready = parts::bare_server(bed, &bed.fake, &pgdata)?;
        let daemon = bed.time_daemon(&bed.archives.one_file, &bed.fake)?;
        fake.push_time(ready);
        pg_config.push_time(parts::pg_config(bed)?);
        running.push_time(daemon);
        own.push(milliseconds(daemon) - milliseconds(ready));
    }
    heading("Own share: an archive of one file, a server that is ready at once");
    fake.print("that server alone, exec to ready", "ms");
    running.print("compute_ctl, exec to running", "ms");
    own.print("difference, round by round", "ms");
    pg_config.print("of which pg_config, run alone", "ms");
    verdict("own share", own.median(), 15.0, "ms");
    Ok(())
}

/// A start that finds an old data directory, against one that finds none.
pub fn restart(bed: &Bed, runs: usize) -> anyhow::Result<()> {
    let archive = &bed.archives.one_file;
    let files = bed.dir().join("files");
    fs::create_dir(&files)?;
    for number in 0..OLD_FILES {
        fs::write(files.join(number.to_string()), "x")?;
    }
    let [mut first, mut again, mut more] = std::array::from_fn(|_| Samples::default());
    for _ in 0..runs {
        bed.next_round();
        let without = bed.time_daemon(archive, &bed.fake)?;
        bed.next_round();
        old_directory(&bed.pgdata(), &files)?;
        bed.owner.hand_over(&bed.pgdata())?;
        let with = bed.time_daemon(archive, &bed.fake)?;
        first.push_time(without);
        again.push_time(with);
        more.push(milliseconds(with) - milliseconds(without));
    }
    heading(&format!("Restart over a data directory of {OLD_FILES} files"));
    first.print("no old data directory, exec to running", "ms");
    again.print("with it, exec to running", "ms");
    more.print("difference, round by round", "ms");
    verdict("difference", more.median(), 10.0, "ms");
    Ok(())
}

/// The usual top level, and all files in `base`; links, so that making the directory anew in each
/// round costs little.
fn old_directory(pgdata: &Path, files: &Path) -> anyhow::Result<()> {
    for name in ["base", "global", "pg_wal", "pg_xact", "pg_multixact", "pg_dynshmem"] {
        fs::create_dir_all(pgdata.join(name))?;
    }
    fs::write(pgdata.join("PG_VERSION"), "15\n")?;
    for number in 0..OLD_FILES {
        let database = pgdata.join("base").join((number / 1000).to_string());
        if number % 1000 == 0 {
            fs::create_dir(&database)?;
        }
        let name = number.to_string();
        fs::hard_link(files.join(&name), database.join(&name))?;
    }
    Ok(())
}

/// Resident memory of the supervisor, while it supervises.
pub fn memory(bed: &Bed, _runs: usize) -> anyhow::Result<()> {
    let archives = &bed.archives;
    println!("\nMemory of compute_ctl when running, in MiB");
    println!("  {:<46}{:>9}{:>9}{:>9}", "", "VmRSS", "RssAnon", "VmHWM");
    let mut largest: f64 = 0.0;
    for (what, archive, postgres) in [
        ("after an initdb-sized basebackup", &archives.initdb, &bed.server.postgres),
        ("after a basebackup of 512 MiB", &archives.large, &bed.fake),
    ] {
        bed.next_round();
        let daemon = bed.daemon(archive, postgres)?;
        daemon.reached()?;
        bed.assert_running()?;
        bed.ask_everything()?;
        pause(SETTLE);
        let [resident, anonymous, peak] =
            ["VmRSS", "RssAnon", "VmHWM"].map(|name| daemon.memory(name));
        let (resident, anonymous, peak) = (resident?, anonymous?, peak?);
        println!("  {what:<46}{resident:>9.2}{anonymous:>9.2}{peak:>9.2}");
        largest = largest.max(resident);
        daemon.stop(Signal::SIGTERM)?;
    }
    verdict("VmRSS", largest, 14.0, "MiB");
    Ok(())
}
