//! The thread that hears what others do to our routes and links, and reports a link that died before anything else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use fib::{Event, Monitor, PathState, Scope};
use tracing::{debug, error};

use super::neighbors::Neighbors;
use crate::{failover::Cause, fib_thread::FibHandle};

/// It sleeps nearly always, and what it hears is urgent.
const NICE: i8 = -12;
/// How soon the thread notices that it should end.
const PATIENCE: Duration = Duration::from_millis(200);
/// After a socket error, before the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts it; it ends once `open` is false.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    mut monitor: Monitor,
    fib: FibHandle,
    neighbors: Neighbors,
    open: Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("kernel-monitor".into()).spawn(move || {
        if let Err(error) = sys::sched::set_nice(NICE) {
            debug!(%error, "the kernel monitor gets no priority (CAP_SYS_NICE)");
        }
        let mut links: BTreeMap<u32, bool> = BTreeMap::new();
        while open.load(Ordering::Relaxed) {
            match monitor.wait(PATIENCE) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    let at = (Instant::now(), SystemTime::now());
                    let mut back = Vec::new();
                    for event in &events {
                        let Event::Link { ifindex, up } = event else { continue };
                        let before = links.insert(*ifindex, *up);
                        if before == Some(*up) {
                            continue;
                        }
                        if *up {
                            neighbors.path_back(*ifindex);
                            back.extend((before == Some(false)).then_some(*ifindex));
                        } else {
                            let word = (Scope::Link(*ifindex), PathState::Dead);
                            neighbors.path_lost(
                                &fib,
                                *ifindex,
                                Cause::LinkDown,
                                "the interface lost its link",
                                word,
                                at,
                            );
                        }
                    }
                    fib.kernel(events);
                    // Of sessions that have outlived the loss.
                    back.into_iter().for_each(|ifindex| neighbors.path_restored(&fib, ifindex));
                }
                Err(error) => {
                    error!(%error, "the kernel cannot be watched; reading its table instead");
                    fib.kernel(vec![Event::Overrun]);
                    std::thread::sleep(PAUSE);
                }
            }
        }
    })
}
