use super::*;

/// The mask is that of this test's thread, and the signals are sent to this thread only.
fn raise(number: c_int) {
    let signal = Signal::try_from(number).unwrap();
    nix::sys::signal::raise(signal).unwrap();
}

#[tokio::test]
async fn tells_which_signal_came() {
    hold_back(false).unwrap();
    let mut signals = Signals::install().unwrap();
    for sent in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        nix::sys::signal::raise(sent).unwrap();
        assert_eq!(signals.recv().await, Received::End(sent));
    }
    raise(libc::SIGHUP);
    assert_eq!(signals.recv().await, Received::Hangup);
    for number in [libc::SIGUSR1, libc::SIGALRM, libc::SIGTSTP] {
        raise(number);
        assert_eq!(signals.recv().await, Received::Others(vec![name(number)]));
    }
    // A signal that is read together with SIGHUP is not lost.
    raise(libc::SIGUSR2);
    raise(libc::SIGHUP);
    assert_eq!(signals.recv().await, Received::Hangup);
    assert_eq!(signals.recv().await, Received::Others(vec![name(libc::SIGUSR2)]));
}

#[test]
fn every_signal_has_its_kind() {
    const END: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT];
    /// The program's own faults, and what cannot be caught.
    const FATAL: [c_int; 9] = [
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
        libc::SIGKILL,
        libc::SIGSTOP,
    ];
    /// Without effect by default, and SIGPIPE, which the standard library ignores.
    const NO_EFFECT: [c_int; 5] =
        [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGPIPE];
    let held = held_back(false);
    for number in 1..=31 {
        let kinds = [
            held.contains(Signal::try_from(number).unwrap()),
            END.contains(&number),
            FATAL.contains(&number),
            NO_EFFECT.contains(&number),
        ];
        assert_eq!(kinds.iter().filter(|it| **it).count(), 1, "{number}: {kinds:?}");
    }
    assert!(!held_back(true).contains(Signal::SIGTSTP));
}

#[test]
fn an_ignored_signal_and_a_blocked_one_are_put_right() {
    let real_time = libc::SIGRTMIN() + 3;
    // Of no other test of this process.
    let numbers = [libc::SIGVTALRM, real_time];
    for number in numbers {
        #[expect(unsafe_code, reason = "as in the module")]
        // SAFETY: there is no handler.
        unsafe {
            libc::signal(number, libc::SIG_IGN)
        };
        assert!(is_ignored(number));
    }
    SigSet::all().thread_block().unwrap();
    put_right();
    for number in numbers {
        assert!(!is_ignored(number), "{number}");
    }
    assert_eq!(SigSet::thread_get_mask().unwrap(), SigSet::empty());
    assert!(is_ignored(libc::SIGPIPE), "the standard library ignores it");
    assert_eq!(name(libc::SIGUSR1), "SIGUSR1, signal 10");
    assert_eq!(name(real_time), format!("real-time signal {real_time}"));
}
