//! Sleeps that wake the process once.
//!
//! The runtime keeps its timers in slots of 1, 64 and 4096 ms, and sorts a timer anew when its slot
//! begins: a sleep of half a second wakes the process twice. A timer of the kernel has no slots.
//! That counts only for sleeps that an idle compute repeats all the time.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

use super::pidfd;

/// A timer for one sleep at a time. It holds a descriptor.
#[derive(Debug)]
pub(crate) struct KernelTimer {
    /// `None`: there was no descriptor to be had, so the runtime's timers are used.
    fd: Option<AsyncFd<OwnedFd>>,
}

impl KernelTimer {
    /// Needs a runtime.
    pub(crate) fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags).ok();
        Self { fd: fd.and_then(pidfd::register) }
    }

    /// Sleeps at least that long. A sleep that is dropped leaves nothing behind for the next one.
    pub(crate) async fn sleep(&mut self, time: Duration) {
        if let Some(fd) = &self.fd
            && set(fd, time).is_ok()
            && passed(fd).await.is_ok()
        {
            return;
        }
        sleep(time).await;
    }
}

/// Sets the timer anew, which also takes back an earlier end that was not read.
fn set(fd: &AsyncFd<OwnedFd>, time: Duration) -> Result<(), Errno> {
    // Zero would mean that the timer never ends.
    let it_value = Timespec::try_from(time.max(Duration::from_nanos(1)));
    let it_value = it_value.map_err(|_| Errno::INVAL)?;
    let it_interval = Timespec::default();
    let timer = Itimerspec { it_interval, it_value };
    timerfd_settime(fd, TimerfdTimerFlags::empty(), &timer).map(drop)
}

async fn passed(fd: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    let mut count = [0; 8];
    loop {
        let mut ready = fd.readable().await?;
        // `Err` from `try_io` means that the readiness was of an earlier sleep.
        if let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut count[..])?)) {
            return read.map(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::time::timeout;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn sleeps_at_least_as_long_as_asked() {
        let mut timer = KernelTimer::new();
        assert!(timer.fd.is_some(), "a machine of developers has descriptors");
        for time in [SHORT, Duration::ZERO, SHORT * 2] {
            let began = Instant::now();
            timer.sleep(time).await;
            assert!(began.elapsed() >= time);
        }
    }

    /// A sleep that was dropped after its end does not shorten the next one.
    #[tokio::test]
    async fn a_dropped_sleep_leaves_nothing_behind() {
        let mut timer = KernelTimer::new();
        let given_up = timeout(Duration::ZERO, timer.sleep(SHORT)).await;
        assert!(given_up.is_err());
        sleep(SHORT * 2).await;
        let began = Instant::now();
        timer.sleep(SHORT * 3).await;
        assert!(began.elapsed() >= SHORT * 3, "{:?}", began.elapsed());
    }

    /// Without a descriptor it is a sleep like any other.
    #[tokio::test]
    async fn sleeps_without_a_descriptor() {
        let began = Instant::now();
        KernelTimer { fd: None }.sleep(SHORT).await;
        assert!(began.elapsed() >= SHORT);
    }
}
