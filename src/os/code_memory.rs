//! Gives back the memory of code that only the start needs.
//!
//! The kernel maps the program in pieces of 64 KiB as it runs, so after a start nearly all of it is
//! resident, and a running compute needs a fifth of it. Pages that are unmapped stay in the page
//! cache while memory is free, are the first to go when it is not, and come back when they are used.

use std::io;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of the program's code. Returns the bytes of address space that were given up;
/// 0 if `/proc` does not show the code as an unchanged mapping of a file.
pub(crate) fn give_back() -> io::Result<usize> {
    let here = give_back as fn() -> io::Result<usize> as usize;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let Some(code) = maps.lines().filter_map(code_of_a_file).find(|code| code.contains(&here))
    else {
        return Ok(0);
    };
    unmap(&code)?;
    Ok(code.len())
}

/// The addresses of a line of `/proc/self/maps`, if they are code of a file that this process cannot
/// have changed: private, executable, not writable.
fn code_of_a_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let (permissions, inode) = (fields.next()?, fields.nth(2)?);
    let address = |text| usize::from_str_radix(text, 16).ok();
    (permissions == "r-xp" && inode != "0").then_some(address(from)?..address(to)?)
}

#[expect(unsafe_code, reason = "the advice is unsafe for other ranges of memory")]
fn unmap(code: &Range<usize>) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(code.start);
    // SAFETY: the range is a private mapping of a file without write permission, and code has no
    // relocations, so each page is read back from the file as it was.
    unsafe { madvise(start, code.len(), Advice::LinuxDontNeed) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_code_of_a_file_counts() {
        let line = |rest: &str| format!("55d0c8a00000-55d0c9200000 {rest}");
        let code = "r-xp 002f1000 fe:00 131 /usr/bin/compute_ctl";
        assert_eq!(code_of_a_file(&line(code)), Some(0x55d0_c8a0_0000..0x55d0_c920_0000));
        for rest in [
            // Data, of which pages may have been relocated.
            "r--p 002f1000 fe:00 131 /usr/bin/compute_ctl",
            "rw-p 002f1000 fe:00 131 /usr/bin/compute_ctl",
            "rwxp 002f1000 fe:00 131 /usr/bin/compute_ctl",
            // Code without a file.
            "r-xp 00000000 00:00 0 [vdso]",
            "r-xp 00000000 00:00 0",
            "r-xp",
            "",
        ] {
            assert_eq!(code_of_a_file(&line(rest)), None, "{rest}");
        }
        assert_eq!(code_of_a_file("zz-1 r-xp 0 fe:00 131 /bin/x"), None);
        assert_eq!(code_of_a_file(""), None);
    }

    #[test]
    fn code_that_is_given_back_runs_on() {
        for _ in 0..3 {
            assert!(give_back().unwrap() > 1_000_000);
            assert_eq!(code_of_a_file("1-2 r-xp 0 0 1 x"), Some(1..2));
        }
    }
}
