//! Bounds the memory that the allocator holds free, and gives it back.
//!
//! glibc returns freed memory only from the top of its heaps. After a burst of connections a few
//! blocks that still live hold all that is below them, for as long as the process lives: tens of MiB
//! for a thousand clients.

use nix::unistd::{SysconfVar, sysconf};

/// Enough for the threads that work at the same time.
const HEAPS: nix::libc::c_int = 2;

/// Has all threads share two heaps; call it before there are threads. glibc gives each thread of the pool
/// for blocking calls its own, up to eight for each processor, and keeps some MiB of each after the
/// thread has ended.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "a setting of the C library"))]
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number, and no other thread reads it yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, HEAPS);
    }
}

/// Resident memory of this process that is not part of a file, in bytes; `None` if `/proc` is not
/// mounted.
pub(crate) fn anonymous() -> Option<u64> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096).unsigned_abs();
    Some(anonymous_pages(&std::fs::read_to_string("/proc/self/statm").ok()?)?.saturating_mul(page))
}

/// The second field counts the resident pages, the third those of them that belong to files.
fn anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, of_files) = (fields.next()?.ok()?, fields.next()?.ok()?);
    resident.checked_sub(of_files)
}

/// Returns free memory to the system, wherever it is in the heaps. Takes milliseconds if there is
/// much; another thread may wait that long for memory.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "only the C library knows its free memory")
)]
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the locks of the allocator, and changes nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_is_what_is_not_of_files() {
        assert_eq!(anonymous_pages("9000 3100 2900 1800 0 1200 0\n"), Some(200));
        assert_eq!(anonymous_pages("9000 2900 3100 1800 0 1200 0\n"), None);
        for text in ["", "9000", "9000 3100", "9000 x 2900"] {
            assert_eq!(anonymous_pages(text), None, "{text:?}");
        }
        assert!(anonymous().is_some_and(|bytes| bytes > 100_000));
    }
}
