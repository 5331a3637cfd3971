//! Decisions over traces of samples.

use proptest::prelude::*;

use super::*;

const GIB: u64 = 1 << 30;

fn summary(mean: u64, samples: usize, at: Instant) -> Summary {
    Summary { mean, samples, at }
}

fn at(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

#[test]
fn thresholds() {
    for (mib, shown) in [(7936, "6745.6"), (8092, "6878.2"), (2972, "2526.2"), (412, "350.2")] {
        assert_eq!(Mib(threshold(mib * MIB)).to_string(), shown);
    }
    assert_eq!(threshold(0), 0);
    assert_eq!(usable(100 * MIB), 0);
    assert_eq!(usable(1), 0, "never below 0");
    assert_eq!(usable(GIB), 924 * MIB);
}

/// 08 §6.2.
#[test]
fn the_mean_of_the_last_five() {
    let start = Instant::now();
    let mut window = Window::default();
    let mut push = |sample| {
        let summary = window.push(sample, start);
        (summary.mean, summary.samples)
    };
    assert_eq!(push(10), (10, 1));
    assert_eq!(push(21), (15, 2), "an integer, rounded down");
    assert_eq!((push(30).1, push(40).1), (3, 4));
    assert_eq!(push(50), (30, 5));
    assert_eq!(push(100), (48, 5), "without the first");
    let mut window = Window::default();
    window.push(u64::MAX, start);
    assert_eq!(window.push(u64::MAX, start).mean, u64::MAX);
}

/// 08 §7.4, §8.
#[test]
fn verdicts_and_their_texts() {
    let start = Instant::now();
    let used = |mib, samples| summary(mib * MIB, samples, start);
    let verdict =
        |announced, used: Summary, millis| may_shrink(usable(announced), &used, at(start, millis));
    let Verdict::Refused(text) = verdict(8 * GIB, Summary::none(start), 0) else { panic!() };
    assert_eq!(text, "haven't received enough cgroup memory stats yet");
    assert!(matches!(verdict(8 * GIB, used(1, 1), 0), Verdict::Refused(_)));
    assert!(matches!(verdict(8 * GIB, Summary::none(start), 5001), Verdict::Unknown(_)));
    assert!(matches!(verdict(8 * GIB, used(1, 5), 5001), Verdict::Unknown(_)));
    assert!(matches!(verdict(8 * GIB, used(1, 5), 5000), Verdict::Granted { .. }));

    let half = Summary { mean: 851_968_000, ..used(0, 5) };
    let Verdict::Refused(text) = verdict(GIB, half, 0) else { panic!() };
    assert_eq!(
        text,
        "calculated memory threshold too low: 785.4 MiB (new threshold) < 812.5 (current usage) \
         + 100 (downscale buffer)"
    );
    let Verdict::Refused(text) = verdict(512 * MIB, used(300, 5), 0) else { panic!() };
    assert!(text.contains("350.2 MiB (new threshold) < 300 (current usage) + 100"), "{text}");

    let Verdict::Granted { threshold } = verdict(3 * GIB, used(1200, 5), 0) else { panic!() };
    let before = super::threshold(usable(8 * GIB));
    assert_eq!(
        granted(Some(2229 * MIB), before, threshold, usable(3 * GIB)),
        "set file cache size to 2229 MiB; set cgroup memory threshold from 6878.2 MiB to 2526.2 \
         MiB, of new total 2972 MiB"
    );
    assert_eq!(
        granted(None, threshold, super::threshold(usable(2 * GIB)), usable(2 * GIB)),
        "set cgroup memory threshold from 2526.2 MiB to 1655.8 MiB, of new total 1948 MiB"
    );
}

#[test]
fn a_new_connection_keeps_the_threshold_unless_the_machine_has_shrunk() {
    let in_force = threshold(usable(8 * GIB));
    assert_eq!(kept(in_force, 8 * GIB, 8 * GIB), in_force);
    assert_eq!(kept(in_force, 4 * GIB, 8 * GIB), in_force);
    assert_eq!(kept(in_force, 8 * GIB, 4 * GIB), threshold(4 * GIB));
    assert_eq!(kept(GIB, 8 * GIB, 4 * GIB), GIB, "never more than before");
}

proptest! {
    /// Over any trace: while the use is at the threshold, a request comes with the first summary and
    /// then once per pause; below it, none comes.
    #[test]
    fn requests_keep_their_pause(
        trace in prop::collection::vec((0..2000_u64, 1..400_u64), 1..200), limit in 1..2000_u64,
    ) {
        let (start, mut now) = (Instant::now(), 0);
        let (mut asking, mut window) = (Asking::default(), Window::default());
        let mut last: Option<u64> = None;
        for (sample, step) in trace {
            now += step;
            let summary = window.push(sample, at(start, now));
            let free = last.is_none_or(|last| now - last >= 1000);
            let asked = asking.asks(&summary, limit, at(start, now));
            prop_assert_eq!(asked, summary.mean >= limit && free);
            if asked {
                last = Some(now);
            }
        }
    }

    #[test]
    fn no_grant_below_what_is_in_use(announced: u64, mean: u64, samples in 0..6_usize) {
        let now = Instant::now();
        let verdict = may_shrink(usable(announced), &summary(mean, samples, now), now);
        if let Verdict::Granted { threshold } = verdict {
            prop_assert!(samples >= 2);
            prop_assert!(threshold >= mean.saturating_add(100 * MIB));
            prop_assert!(threshold <= announced);
        }
    }

    /// A larger machine is never refused where a smaller one is granted, and more use never helps.
    #[test]
    fn grants_are_monotone(announced in 0..64 * GIB, more in 0..64 * GIB, mean in 0..64 * GIB, less in 0..GIB) {
        let now = Instant::now();
        let granted = |announced, mean| {
            matches!(may_shrink(usable(announced), &summary(mean, 5, now), now), Verdict::Granted { .. })
        };
        if granted(announced, mean) {
            prop_assert!(granted(announced + more, mean));
            prop_assert!(granted(announced, mean.saturating_sub(less)));
        }
        prop_assert!(threshold(announced) <= threshold(announced + more));
    }

    #[test]
    fn a_mean_lies_between_its_samples(samples in prop::collection::vec(any::<u64>(), 1..20)) {
        let now = Instant::now();
        let mut window = Window::default();
        let last = samples.iter().map(|it| window.push(*it, now)).last().unwrap();
        let tail = &samples[samples.len().saturating_sub(5)..];
        prop_assert_eq!(last.samples, tail.len());
        prop_assert!(last.mean >= *tail.iter().min().unwrap());
        prop_assert!(last.mean <= *tail.iter().max().unwrap());
    }
}
