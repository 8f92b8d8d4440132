//! Traffic that measures: one small packet each millisecond, both ways between two hosts.
//!
//! Every packet carries its number and the time it was sent; the receiver notes when it came. An outage is the longest
//! time without an arrival, less the millisecond that lies between packets anyway.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock;
use crate::kernel;
use crate::node::Node;

/// The first octets of every probe; finding them on a WAN means that something went out unsealed.
pub const MAGIC: [u8; 8] = *b"hf-probe";
/// The UDP port at both ends.
pub const PORT: u16 = 7007;
/// Nanoseconds between packets where the machine can: see [`interval_ns`].
const INTERVAL_NS: i64 = 1_000_000;
/// An emulated processor spends more than a millisecond on what a packet each way costs. The senders precede everything
/// else, so nothing else would run.
const INTERVAL_NS_EMULATED: i64 = 20_000_000;

/// Nanoseconds between packets.
pub fn interval_ns() -> i64 {
    if kernel::is_emulated() { INTERVAL_NS_EMULATED } else { INTERVAL_NS }
}

/// A running exchange of probes.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    forth: Direction,
    back: Direction,
}

#[derive(Debug)]
struct Direction {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    sender: JoinHandle<Vec<i64>>,
    receiver: JoinHandle<Vec<(u64, i64)>>,
}

/// What happened to the packets of one direction.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// When each packet was sent (monotonic nanoseconds), by number.
    pub sent: Vec<i64>,
    /// When each packet arrived, by number.
    pub arrived: Vec<Option<i64>>,
}

/// Both directions of a finished exchange.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// From the first host to the second.
    pub forth: Flow,
    /// From the second host to the first.
    pub back: Flow,
}

impl Probe {
    /// Starts to send between two hosts, each named by its node and the address it uses.
    pub fn start(first: (&Node, SocketAddr), second: (&Node, SocketAddr)) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let socket = |(node, address): (&Node, SocketAddr)| -> Result<UdpSocket> {
            let socket = node.enter(|| UdpSocket::bind(address))?;
            let socket = socket.with_context(|| format!("cannot bind {address} in {}", node.name()))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            // A receiver that is not run for a while, as on an emulated processor, is not a loss of the network.
            let _as_it_was = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
            Ok(socket)
        };
        let (left, right) = (socket(first)?, socket(second)?);
        Ok(Self {
            forth: Direction::start(left.try_clone()?, second.1, right.try_clone()?, &stop)?,
            back: Direction::start(right, first.1, left, &stop)?,
            stop,
        })
    }

    /// Packets sent and received so far, forth and back.
    pub fn counts(&self) -> [(u64, u64); 2] {
        [&self.forth, &self.back]
            .map(|direction| (direction.sent.load(Ordering::Relaxed), direction.received.load(Ordering::Relaxed)))
    }

    /// Stops and gives back what happened.
    pub fn finish(self) -> Result<Flows> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(Flows { forth: self.forth.finish()?, back: self.back.finish()? })
    }
}

impl Direction {
    fn start(from: UdpSocket, to: SocketAddr, into: UdpSocket, stop: &Arc<AtomicBool>) -> Result<Self> {
        let sent = Arc::new(AtomicU64::new(0));
        let received = Arc::new(AtomicU64::new(0));
        let sender = {
            let (stop, sent) = (Arc::clone(stop), Arc::clone(&sent));
            std::thread::Builder::new().name("probe-send".into()).spawn(move || send(&from, to, &stop, &sent))?
        };
        let receiver = {
            let (stop, received) = (Arc::clone(stop), Arc::clone(&received));
            std::thread::Builder::new().name("probe-recv".into()).spawn(move || receive(&into, &stop, &received))?
        };
        Ok(Self { sent, received, sender, receiver })
    }

    fn finish(self) -> Result<Flow> {
        let sent = self.sender.join().ok().context("the sending thread failed")?;
        let arrivals = self.receiver.join().ok().context("the receiving thread failed")?;
        let mut flow = Flow { arrived: vec![None; sent.len()], sent };
        for (number, at) in arrivals {
            let slot = usize::try_from(number).ok().and_then(|number| flow.arrived.get_mut(number));
            // The first copy counts.
            if let Some(slot @ None) = slot {
                *slot = Some(at);
            }
        }
        Ok(flow)
    }
}

/// Lets the calling thread run at once when its time has come: a late sender would look like an outage.
fn hurry() {
    // Not allowed in a user namespace; then the figures include what the machine adds.
    let _measured_less_exactly = sys::sched::set_fifo(1);
}

fn send(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool, count: &AtomicU64) -> Vec<i64> {
    hurry();
    let mut sent = Vec::with_capacity(1 << 16);
    let interval = interval_ns();
    let mut next = clock::monotonic_ns();
    while !stop.load(Ordering::Relaxed) {
        next += interval;
        clock::sleep_until_ns(next);
        let now = clock::monotonic_ns();
        // No route is an outage like any other: the packet counts as sent and does not arrive.
        let _lost_if_refused = socket.send_to(&compose(sent.len() as u64, now), to);
        sent.push(now);
        count.store(sent.len() as u64, Ordering::Relaxed);
    }
    sent
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> Vec<(u64, i64)> {
    hurry();
    let mut arrivals = Vec::with_capacity(1 << 16);
    let mut buffer = [0; 64];
    let mut empty = 0;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                if let Some(number) = buffer.get(..length).and_then(number_of) {
                    arrivals.push((number, clock::monotonic_ns()));
                    count.store(arrivals.len() as u64, Ordering::Relaxed);
                }
            }
            // Only an empty queue ends the listening: what was under way when the sender stopped is not lost. On an emulated
            // processor it may be under way for longer.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                empty += u32::from(stop.load(Ordering::Relaxed));
                if empty >= kernel::slowness() {
                    return arrivals;
                }
            }
            Err(_) => {}
        }
    }
}

fn compose(number: u64, now: i64) -> [u8; 24] {
    let mut packet = [0; 24];
    packet[..8].copy_from_slice(&MAGIC);
    packet[8..16].copy_from_slice(&number.to_be_bytes());
    packet[16..].copy_from_slice(&now.to_be_bytes());
    packet
}

/// The number of a probe, from the UDP payload.
pub fn number_of(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(&MAGIC)?;
    Some(u64::from_be_bytes(*rest.first_chunk()?))
}

impl Flow {
    /// The longest time without an arrival between two moments, less the interval between packets.
    pub fn outage_ns(&self, from: i64, to: i64) -> i64 {
        let mut arrivals: Vec<i64> =
            self.arrived.iter().flatten().copied().filter(|at| (from..to).contains(at)).collect();
        arrivals.sort_unstable();
        let bounds = std::iter::once(from).chain(arrivals.iter().copied());
        let ends = arrivals.iter().copied().chain(std::iter::once(to));
        bounds.zip(ends).map(|(before, after)| after - before).max().map_or(0, |gap| (gap - interval_ns()).max(0))
    }

    /// The longest time between two packets sent one after the other: much more than the interval means that the machine
    /// stood still.
    pub fn longest_pause_ns(&self, from: i64, to: i64) -> i64 {
        let within: Vec<i64> = self.sent.iter().copied().filter(|at| (from..to).contains(at)).collect();
        within.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// How many packets sent between two moments never arrived.
    pub fn lost(&self, from: i64, to: i64) -> usize {
        let fates = self.sent.iter().zip(&self.arrived);
        fates.filter(|(sent, arrived)| (from..to).contains(*sent) && arrived.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: i64) -> i64 {
        milliseconds * 1_000_000
    }

    /// Packets 0..10, one each millisecond, of which 4, 5 and 6 are lost.
    fn three_lost() -> Flow {
        let sent: Vec<i64> = (0..10).map(ms).collect();
        let arrived = (0..10).map(|n| (!(4..7).contains(&n)).then_some(ms(n))).collect();
        Flow { sent, arrived }
    }

    #[test]
    fn an_outage_is_the_longest_gap_less_one_interval() {
        assert_eq!(three_lost().outage_ns(0, ms(10)), ms(3));
        assert_eq!(three_lost().outage_ns(0, ms(4)), 0);
    }

    #[test]
    fn an_outage_that_has_not_ended_lasts_until_the_end_of_the_window() {
        let flow = Flow { sent: vec![ms(0), ms(1)], arrived: vec![Some(ms(0)), None] };
        assert_eq!(flow.outage_ns(0, ms(50)), ms(49));
    }

    #[test]
    fn a_pause_is_what_lies_between_two_packets_sent() {
        let flow = Flow { sent: vec![ms(0), ms(1), ms(40), ms(41)], arrived: vec![None; 4] };
        assert_eq!(flow.longest_pause_ns(0, ms(50)), ms(39));
        assert_eq!(flow.longest_pause_ns(ms(40), ms(50)), ms(1));
    }

    #[test]
    fn losses_are_counted_by_the_time_of_sending() {
        assert_eq!(three_lost().lost(0, ms(10)), 3);
        assert_eq!(three_lost().lost(ms(5), ms(6)), 1);
    }

    #[test]
    fn a_probe_is_recognised_by_its_first_octets() {
        assert_eq!(number_of(&compose(77, 5)), Some(77));
        assert_eq!(number_of(b"something else entirely"), None);
    }
}
