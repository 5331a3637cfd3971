//! Files of a cgroup in a folder, which come, change, and go.

use std::fs;

use super::*;

#[test]
fn the_sum_of_both_members() {
    for (stat, expected) in [
        ("anon 9\nactive_anon 3\nfile 7\ninactive_anon 4\n", Some(7)),
        ("active_anon 3\n", Some(3)),
        ("inactive_anon 3", Some(3)),
        ("active_anon 18446744073709551615\ninactive_anon 1\n", Some(u64::MAX)),
        ("active_anon\n", None),
        ("active_anon x\ninactive_anon 1\n", None),
        ("active_anon -1\n", None),
        ("active_anonymous 1\n", None),
        ("", None),
    ] {
        assert_eq!(anonymous(stat.as_bytes()), expected, "{stat:?}");
    }
    assert_eq!(anonymous(b"active_anon \xff\n"), None);
}

#[test]
fn names() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "/neon", "../neon", "a/../../b"] {
        let mut reader = Reader::new(dir.path(), name);
        assert!(matches!(reader.read(), Err(CgroupError::Name)), "{name}");
        assert_eq!(reader.folder(), None);
    }
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/memory.stat"), "active_anon 5\n").unwrap();
    assert_eq!(Reader::new(dir.path(), "a/b").read().unwrap(), 5);
}

/// The file is replaced, its folder removed and made again.
#[test]
fn the_newest_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("neon");
    let put = |number: u64| {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("new"), format!("inactive_anon {number}\n")).unwrap();
        fs::rename(folder.join("new"), folder.join("memory.stat")).unwrap();
    };
    let mut reader = Reader::new(dir.path(), "neon");
    assert!(reader.read().is_err());
    for number in [1, 2] {
        put(number);
        assert_eq!(reader.read().unwrap(), number);
    }
    fs::rename(&folder, dir.path().join("elsewhere")).unwrap();
    assert!(reader.read().is_err());
    put(3);
    assert_eq!(reader.read().unwrap(), 3);
    fs::write(folder.join("memory.stat"), "nothing\n").unwrap();
    let error = reader.read().unwrap_err().to_string();
    assert!(error.contains("neon/memory.stat") && error.contains("active_anon"), "{error}");
}

/// A folder that is not a cgroup file system, and no such file in it.
#[test]
fn a_machine_without_cgroup_v2_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = Reader::new(dir.path(), "neon").read().unwrap_err().to_string();
    assert!(error.starts_with("cgroups v2 not supported: "), "{error}");
}
