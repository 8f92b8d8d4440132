//! What systemd is told: ready, reloading, stopping, alive. Without systemd (no `$NOTIFY_SOCKET`) all of it does nothing.

use std::{future::Future, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

/// Tells the service manager that the daemon serves, with a line for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Changes the line of `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Tells that a reload begins; [`ready`] ends it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the service manager could not be told of the reload"),
    }
}

/// Tells that the daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says "alive" twice in each watchdog interval, as long as `check` completes.
///
/// `check` should go through what must not hang, such as a round trip to a worker thread: a daemon whose tasks run while
/// its forwarding hangs must be restarted too. Without a watchdog this returns at once.
pub async fn watchdog<F, C>(mut check: F)
where
    F: FnMut() -> C,
    C: Future<Output = ()>,
{
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        check().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager could not be told of a change");
    }
}
