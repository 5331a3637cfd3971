//! The program and Postgres read a base text alike: the same settings, or both refuse it.

use compute_ctl::postgres::conf::lexer::read_text;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::server::{Vanilla, on_every_server};

const CASES: usize = 400;

/// Lines that use every rule of the scanner.
fn texts() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        16 => Just("app.x"),
        4 => Just("work_mem"),
        4 => Just(" App.X\t"),
        4 => Just("é.ß"),
        1 => Just("a.b.c"),
        1 => Just("a-b"),
        1 => Just("1a"),
        1 => Just("'q'"),
        1 => Just(""),
    ];
    let sign = prop_oneof![8 => Just("="), 2 => Just(" "), 2 => Just(" = "), 1 => Just("==")];
    let value = prop_oneof![
        "[a-z0-9.:/_+-]{1,6}",
        "[0-9.eExX+-]{1,6}",
        "'[a'\\\\\\\\ #\"0-9]{0,6}'?",
        "'(\\\\\\\\[bfnrt01234567'\\\\\\\\x]|''|[a# ]){0,4}'",
        "[a'\\\\\\\\#=.,%é -]{0,5}",
        Just("0x1g".to_owned()),
        Just("10MB".to_owned()),
        Just("1.5MB".to_owned()),
    ];
    let tail = prop_oneof![
        16 => Just(""), 4 => Just(" # it's"), 2 => Just("\r"), 1 => Just(" x"), 1 => Just("\t;"),
    ];
    (name, sign, value, tail)
        .prop_map(|(name, sign, value, tail)| format!("{name}{sign}{value}{tail}"))
}

#[tokio::test]
async fn a_base_text_means_the_same_to_both() {
    on_every_server(|server| async move {
        let vanilla = Vanilla::start(&server, &[]).await;
        let mut runner = TestRunner::default();
        let (mut read, mut refused) = (0, 0);
        for _ in 0..CASES {
            let line = texts().new_tree(&mut runner).unwrap().current();
            let text = format!("app.before = 1\n\n{line}\n# '\napp.after = 2");
            let ours = read_text(&text);
            // An escape can produce bytes that are not valid text; a session cannot receive those.
            if ours.as_ref().is_ok_and(|all| {
                all.iter().any(|(_, value)| value.contains(['\0', char::REPLACEMENT_CHARACTER]))
            }) {
                continue;
            }
            match (ours, vanilla.read_conf(&text).await) {
                (Ok(ours), Ok(seen)) => {
                    let ours: Vec<_> =
                        ours.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                    assert_eq!(ours, seen, "{line:?}");
                    read += 1;
                }
                (Err(error), Err(seen)) => {
                    assert!(seen.starts_with(&format!("line {}:", error.line)), "{error} / {seen}");
                    refused += 1;
                }
                (ours, seen) => panic!("{line:?}: {ours:?}, Postgres: {seen:?}"),
            }
        }
        assert!(read > CASES / 10 && refused > CASES / 10, "{read} {refused}");
        vanilla.stop().await;
    })
    .await;
}
