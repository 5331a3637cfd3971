//! Whether the answers of the safekeepers allow a start without a full sync (01 §9.1, 06 §7.2).
//!
//! Pure: [`super::safekeepers`] collects the answers and calls this after each one. The original
//! looks only at the first quorum that answers; this waits while an agreeing quorum is still
//! possible (01 weakness 35).
//!
//! Invariant, never weaker than the document: "in sync" needs a full quorum of members that know
//! the timeline and whose `flush_lsn` and `commit_lsn` are all one and the same LSN. An answer
//! that shows a later commit refutes it, because then some quorum holds more.

use std::fmt;

use crate::spec::Lsn;

/// The answer of one safekeeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The safekeeper knows the timeline.
    Status {
        /// End of the WAL on its disk.
        flush: Lsn,
        /// End of the WAL that it knows to be on a quorum.
        commit: Lsn,
    },
    /// The safekeeper answered that it does not know the timeline.
    TimelineUnknown,
    /// No usable answer; the text says why.
    Failed(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { flush, commit } => write!(f, "flush_lsn {flush}, commit_lsn {commit}"),
            Self::TimelineUnknown => f.write_str("does not know the timeline"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

/// What the answers so far mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More answers are needed.
    Undecided,
    /// A quorum agrees on this LSN; `0/0` for a timeline that holds nothing yet.
    InSync(Lsn),
    /// A quorum answered, all know the timeline, and they differ: asking again may help, as the
    /// last messages of a former primary may still be on their way.
    Differ,
    /// A quorum answered, and fewer than a quorum know the timeline.
    Unknown,
    /// Too few answers.
    NoQuorum,
}

/// Number of members that make a majority of `total`.
pub(crate) const fn quorum(total: usize) -> usize {
    total / 2 + 1
}

/// Judges the answers received so far, in any order, from a set of `total` safekeepers.
/// `Undecided` is possible only while `answers` is shorter than `total`.
pub(crate) fn verdict<'a>(
    total: usize,
    answers: impl Iterator<Item = &'a Answer> + Clone,
) -> Verdict {
    let needed = quorum(total);
    let pending = total.saturating_sub(answers.clone().count());
    let replies = answers.clone().filter(|a| !matches!(a, Answer::Failed(_))).count();
    let statuses = answers.filter_map(|answer| match answer {
        Answer::Status { flush, commit } => Some((*flush, *commit)),
        _ => None,
    });

    let known = statuses.clone().count();
    let latest_commit = statuses.clone().map(|(_, commit)| commit).max();
    let agreeing = |lsn| statuses.clone().filter(|status| *status == (lsn, lsn)).count();

    if replies + pending < needed {
        return Verdict::NoQuorum;
    }
    // The latest commit refutes agreement on any earlier LSN.
    let best = latest_commit.map_or(0, agreeing);
    if let Some(lsn) = latest_commit
        && best >= needed
    {
        return Verdict::InSync(lsn);
    }
    // A pending answer may show a later commit, but a quorum needs more answers than that one.
    let possible = pending > 0 && (best + pending >= needed || pending >= needed);
    if replies < needed || possible {
        return Verdict::Undecided;
    }
    if known >= needed { Verdict::Differ } else { Verdict::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(flush: u64, commit: u64) -> Answer {
        Answer::Status { flush: Lsn(flush), commit: Lsn(commit) }
    }

    fn dead() -> Answer {
        Answer::Failed("dead".to_owned())
    }

    #[track_caller]
    fn check(total: usize, answers: &[Answer], expected: Verdict) {
        assert_eq!(verdict(total, answers.iter()), expected);
    }

    #[test]
    fn an_agreeing_quorum_is_enough() {
        check(3, &[at(9, 9)], Verdict::Undecided);
        check(3, &[at(9, 9), at(9, 9)], Verdict::InSync(Lsn(9)));
        check(3, &[dead(), at(9, 9), at(9, 9)], Verdict::InSync(Lsn(9)));
        check(1, &[at(0, 0)], Verdict::InSync(Lsn::INVALID));
    }

    #[test]
    fn a_first_quorum_that_differs_waits_for_the_rest() {
        check(3, &[at(9, 9), at(8, 8)], Verdict::Undecided);
        check(3, &[at(9, 9), at(8, 8), at(9, 9)], Verdict::InSync(Lsn(9)));
        check(3, &[at(9, 9), at(9, 8)], Verdict::Undecided);
        check(3, &[at(9, 9), at(9, 8), dead()], Verdict::Differ);
        check(3, &[Answer::TimelineUnknown, at(9, 9), at(9, 9)], Verdict::InSync(Lsn(9)));
    }

    #[test]
    fn a_commit_behind_the_flush_is_not_in_sync() {
        check(1, &[at(9, 8)], Verdict::Differ);
        check(3, &[at(9, 8)], Verdict::Undecided);
        check(3, &[at(9, 8), at(9, 8)], Verdict::Differ);
        check(3, &[at(9, 8), at(9, 8), at(9, 8)], Verdict::Differ);
    }

    #[test]
    fn a_later_commit_refutes_an_older_agreement() {
        check(3, &[at(9, 9), at(20, 20), at(9, 9)], Verdict::Differ);
        // A minority has more WAL that is not committed: the quorum decides.
        check(3, &[at(20, 9), at(9, 9), at(9, 9)], Verdict::InSync(Lsn(9)));
    }

    #[test]
    fn unknown_timelines_and_dead_members() {
        check(1, &[Answer::TimelineUnknown], Verdict::Unknown);
        check(3, &[Answer::TimelineUnknown, Answer::TimelineUnknown], Verdict::Unknown);
        check(3, &[dead(), dead()], Verdict::NoQuorum);
        check(3, &[at(9, 9), dead(), dead()], Verdict::NoQuorum);
        check(2, &[at(9, 9), dead()], Verdict::NoQuorum);
        check(3, &[Answer::TimelineUnknown, dead()], Verdict::Undecided);
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            4 => (0u64..3, 0u64..3).prop_map(|(flush, commit)| at(flush, commit)),
            1 => Just(Answer::TimelineUnknown),
            1 => Just(dead()),
        ]
    }

    proptest! {
        #[test]
        fn in_sync_means_an_equal_quorum(answers in proptest::collection::vec(answer(), 1..8)) {
            for seen in 0..=answers.len() {
                let seen = &answers[..seen];
                if let Verdict::InSync(lsn) = verdict(answers.len(), seen.iter()) {
                    let equal = seen.iter().filter(|a| **a == at(lsn.0, lsn.0)).count();
                    prop_assert!(equal > answers.len() / 2);
                }
            }
            prop_assert_ne!(verdict(answers.len(), answers.iter()), Verdict::Undecided);
        }

        #[test]
        fn never_gives_up_while_agreement_is_possible(
            answers in proptest::collection::vec(answer(), 1..8),
        ) {
            let last = verdict(answers.len(), answers.iter());
            if let Verdict::InSync(_) = last {
                for seen in 0..answers.len() {
                    let early = verdict(answers.len(), answers[..seen].iter());
                    prop_assert!(early == Verdict::Undecided || matches!(early, Verdict::InSync(_)));
                }
            }
        }
    }
}
