//! The verdict of the long run, `benches/soak`: it finds a leak, and takes nothing else for one.

#[path = "../../benches/soak/verdict.rs"]
mod verdict;

use verdict::{FEWEST, Trend, percentile};

/// KiB, the bound of memory.
const BOUND: f64 = 512.0;
/// Rounds of a run of ten minutes.
const ROUNDS: usize = 40;

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Uniform noise around 0; the same for the same seed.
fn noise(seed: u64, size: f64) -> impl Iterator<Item = f64> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || (random.f64() - 0.5) * size)
}

fn grows(samples: &[f64], bound: f64) -> bool {
    Trend::of(samples).unwrap().grows(bound)
}

fn rounds() -> impl Iterator<Item = f64> {
    (0..ROUNDS).map(number)
}

#[test]
fn a_line_is_found_exactly() {
    let samples: Vec<_> = rounds().map(|round| 7.0 + 3.0 * round).collect();
    let Trend { growth, error } = Trend::of(&samples).unwrap();
    assert!((growth - 57.0).abs() < 1e-9 && error < 1e-6, "{growth} {error}");
    assert!(!grows(&samples, 58.0) && grows(&samples, 56.0));
    let falling: Vec<_> = samples.iter().map(|value| -value).collect();
    assert!(!grows(&falling, 0.5));
}

#[test]
fn what_stays_is_flat() {
    assert!(!grows(&[31.0; ROUNDS], 0.5));
    let sawtooth: Vec<_> = rounds().map(|round| 9000.0 + 400.0 * (round % 4.0)).collect();
    assert!(!grows(&sawtooth, BOUND));
}

#[test]
fn a_start_that_fills_caches_is_not_a_leak() {
    let filled: Vec<_> = rounds().map(|round| 9000.0 + 300.0 * round.min(18.0)).collect();
    assert!(!grows(&filled, BOUND));
    // The same growth without an end is one.
    let leak: Vec<_> = rounds().map(|round| 9000.0 + 300.0 * round).collect();
    assert!(grows(&leak, BOUND));
}

#[test]
fn a_leak_is_found_in_noise() {
    for seed in 0..1000 {
        // 64 KiB per round, 2.5 KiB per reconfiguration.
        let leak: Vec<_> =
            rounds().zip(noise(seed, 600.0)).map(|(round, noise)| 64.0 * round + noise).collect();
        assert!(grows(&leak, BOUND), "seed {seed}");
    }
}

#[test]
fn noise_is_not_taken_for_a_leak() {
    // So much that the line often rises by more than the bound.
    let flat = |seed| noise(seed, 4000.0).take(ROUNDS).collect::<Vec<_>>();
    let large = |seed: &u64| Trend::of(&flat(*seed)).unwrap().growth > BOUND;
    assert!((0..1000).filter(large).count() > 200);
    let taken = (0..1000).filter(|seed| grows(&flat(*seed), BOUND)).count();
    assert!(taken <= 10, "{taken} of 1000");
}

/// One descriptor in five rounds, one at the end, and one that comes and goes.
#[test]
fn a_single_descriptor_counts() {
    let leak: Vec<_> = rounds().map(|round| 31.0 + (round / 5.0).floor()).collect();
    assert!(grows(&leak, 0.5));
    let mut late = [31.0; ROUNDS];
    late[ROUNDS - 8..].fill(32.0);
    assert!(grows(&late, 0.5));
    let flicker: Vec<_> = rounds().map(|round| 31.0 + round % 2.0).collect();
    assert!(!grows(&flicker, 0.5));
}

#[test]
fn a_few_samples_say_nothing() {
    assert_eq!(Trend::of(&[]), None);
    assert_eq!(Trend::of(&[1.0; 2 * FEWEST - 2]), None);
    assert!(Trend::of(&[1.0; 2 * FEWEST]).is_some());
}

#[test]
fn percentiles() {
    let values: Vec<_> = (0..1000).collect();
    assert_eq!([50, 99, 100].map(|percent| percentile(&values, percent)), [500, 990, 999]);
    assert_eq!(percentile(&[], 99), 0);
    // One slow answer in fifty is seen.
    let mut slow = vec![1; 980];
    slow.resize(1000, 50_000);
    assert_eq!(percentile(&slow, 99), 50_000);
}
