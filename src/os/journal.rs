//! Whether stderr is a stream of journald, which takes a priority from the begin of each line.

use std::os::fd::AsFd;

use rustix::fs::fstat;

/// Whether stderr is the stream that `JOURNAL_STREAM` names by device and inode. It names the one
/// of the program that set it, so a redirected stderr is another one.
pub(crate) fn is_stderr(journal_stream: Option<&str>) -> bool {
    journal_stream.is_some_and(|named| is_named(std::io::stderr(), named))
}

fn is_named(stream: impl AsFd, named: &str) -> bool {
    let Ok(stat) = fstat(stream) else { return false };
    named.split_once(':').is_some_and(|(device, inode)| {
        device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_and_inode_must_be_those_of_the_stream() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let stat = fstat(&writer).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        assert!(is_named(&writer, &format!("{device}:{inode}")));
        for other in [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            String::new(),
            format!("{inode}"),
            format!("{device}:{inode}:"),
            "a:b".to_owned(),
        ] {
            assert!(!is_named(&writer, &other), "{other}");
        }
        assert!(!is_stderr(None));
    }
}
