//! What this process uses, as `/proc/self` shows it.

use nix::unistd::{SysconfVar, sysconf};

/// Resources of this process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of processor time, in user mode and in the kernel. Children do not count.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
}

/// `None` if `/proc` is not mounted.
pub(crate) fn of_this_process() -> Option<Usage> {
    let stat = std::fs::read("/proc/self/stat").ok()?;
    let number = |name, usual| sysconf(name).ok().flatten().unwrap_or(usual);
    let ticks = number(SysconfVar::CLK_TCK, 100);
    parse(&stat, ticks as f64, number(SysconfVar::PAGE_SIZE, 4096).unsigned_abs())
}

/// Open descriptors of this process; `None` if `/proc` is not mounted.
pub(crate) fn open_descriptors() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them reads the directory.
    Some((entries.count() as u64).saturating_sub(1))
}

/// The name in parentheses may hold anything: the fields, from the third on, start behind the last
/// `)`.
fn parse(stat: &[u8], ticks_per_second: f64, page_bytes: u64) -> Option<Usage> {
    let stat = String::from_utf8_lossy(stat);
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: field(14)?.saturating_add(field(15)?) as f64 / ticks_per_second,
        resident_bytes: field(24)?.saturating_mul(page_bytes),
        virtual_bytes: field(23)?,
        threads: field(20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_proc() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 90 91 0 0 150 50 9 9 20 0 3 0 12345 8192000 25 18446744073709551615";
        let expected = Usage {
            cpu_seconds: 2.0,
            resident_bytes: 25 * 4096,
            virtual_bytes: 8_192_000,
            threads: 3,
        };
        assert_eq!(parse(stat, 100.0, 4096), Some(expected));
        for broken in
            [&b""[..], b"7 (a) S 1", b"7 (a) S 1 7 7 0 -1 1 1 1 0 0 x 5 0 0 20 0 3 0 1 8 25"]
        {
            assert_eq!(parse(broken, 100.0, 4096), None);
        }
    }

    #[test]
    fn this_process_uses_something() {
        let usage = of_this_process().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.threads >= 1);
        let before = open_descriptors().unwrap();
        let _files = [(); 64].map(|()| std::fs::File::open("/dev/null").unwrap());
        // Other tests open and close files, but not so many.
        assert!(open_descriptors().unwrap() > before.saturating_sub(40) + 20);
    }
}
