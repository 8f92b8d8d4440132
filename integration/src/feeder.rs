//! A BGP speaker that announces a table: the "core router" of a site, and the load of benchmarks.
//!
//! It is a source only: what the other side announces is read and dropped.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::bgp_octets::{HEADER, KEEPALIVE, MAX_MESSAGE, NOTIFICATION, OPEN, UPDATE, message, open};
use crate::node::Node;
use crate::prefixes::{self, Origination};

const HOLD_TIME: u16 = 180;
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
const CONNECT_RETRY: Duration = Duration::from_millis(200);

/// Who announces what to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The feeder's AS.
    pub asn: u32,
    /// Its address: BGP identifier and next hop of everything.
    pub address: Ipv4Addr,
    /// The speaker to dial.
    pub peer: SocketAddr,
    /// The table.
    pub table: Vec<Origination>,
}

/// A running feeder; it dials again whenever the session is lost.
#[derive(Debug)]
pub struct Feeder {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    announced: AtomicUsize,
    sessions: AtomicUsize,
    last_error: Mutex<String>,
}

impl Feeder {
    /// Starts the feeder in a node.
    pub fn start(node: &Node, plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let messages = updates(&plan);
        let node = node.clone();
        let worker = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("feeder".into()).spawn(move || run(&node, &plan, &messages, &shared))?
        };
        Ok(Self { shared, worker: Some(worker) })
    }

    /// How many prefixes the present session has been told; zero while there is none.
    pub fn announced(&self) -> usize {
        self.shared.announced.load(Ordering::Relaxed)
    }

    /// How many sessions have come up so far.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// Why the last attempt or session ended.
    pub fn last_error(&self) -> String {
        self.shared.last_error.lock().map(|text| text.clone()).unwrap_or_default()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            eprintln!("the feeder's thread failed");
        }
    }
}

fn run(node: &Node, plan: &Plan, messages: &[(usize, Vec<u8>)], shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let stream = node.enter(|| TcpStream::connect_timeout(&plan.peer, Duration::from_secs(2)));
        let ended = match stream {
            Ok(Ok(stream)) => Session { stream, received: Vec::new(), shared }.run(plan, messages),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot connect to {}", plan.peer)),
            Err(error) => Err(error),
        };
        shared.announced.store(0, Ordering::Relaxed);
        if let (Err(error), Ok(mut last)) = (ended, shared.last_error.lock()) {
            *last = format!("{error:#}");
        }
        std::thread::sleep(CONNECT_RETRY);
    }
}

struct Session<'a> {
    stream: TcpStream,
    received: Vec<u8>,
    shared: &'a Shared,
}

impl Session<'_> {
    fn run(mut self, plan: &Plan, messages: &[(usize, Vec<u8>)]) -> Result<()> {
        self.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        self.stream.set_nodelay(true)?;
        self.stream.write_all(&open(plan.asn, HOLD_TIME, plan.address))?;
        self.await_message(OPEN)?;
        self.stream.write_all(&message(KEEPALIVE, &[]))?;
        self.await_message(KEEPALIVE)?;
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        // The other side may stop reading while it works; a writer of its own keeps us reading meanwhile, so that two
        // full buffers never wait for each other.
        let mut writer = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let shared = self.shared;
            let writing = scope.spawn(move || -> Result<()> {
                for (total, octets) in messages {
                    writer.write_all(octets)?;
                    shared.announced.store(*total, Ordering::Relaxed);
                }
                Ok(writer.write_all(&end_of_rib())?)
            });
            let read = self.read_until_the_end(&writing);
            // Whatever ended the reading ends the writing.
            let _already_closed = self.stream.shutdown(std::net::Shutdown::Both);
            match writing.join() {
                Ok(Ok(())) => read,
                Ok(Err(error)) => read.context(error),
                Err(_) => bail!("the writing thread failed"),
            }
        })
    }

    fn read_until_the_end(&mut self, writing: &std::thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
        let mut last_keepalive = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.next_message()?;
            // While the table is being written, its messages keep the session alive (RFC 4271 §4.4).
            if writing.is_finished() && last_keepalive.elapsed() >= KEEPALIVE_TIME {
                self.stream.write_all(&message(KEEPALIVE, &[]))?;
                last_keepalive = Instant::now();
            }
        }
        Ok(())
    }

    fn await_message(&mut self, wanted: u8) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && !self.shared.stop.load(Ordering::Relaxed) {
            match self.next_message()? {
                None => {}
                Some(kind) if kind == wanted => return Ok(()),
                Some(kind) => bail!("message type {kind} came instead of {wanted}"),
            }
        }
        bail!("message type {wanted} did not come")
    }

    /// The type of the next whole message; `None` when nothing came in a while.
    fn next_message(&mut self) -> Result<Option<u8>> {
        loop {
            if let Some(head) = self.received.first_chunk::<HEADER>() {
                let (length, kind) = (usize::from(u16::from_be_bytes([head[16], head[17]])), head[18]);
                if !(HEADER..=MAX_MESSAGE).contains(&length) {
                    bail!("a message of {length} octets");
                }
                if self.received.len() >= length {
                    let body: Vec<u8> = self.received.drain(..length).skip(HEADER).collect();
                    if kind == NOTIFICATION {
                        bail!("NOTIFICATION {body:?}");
                    }
                    return Ok(Some(kind));
                }
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the peer closed the connection"),
                Ok(count) => self.received.extend(buffer.iter().take(count)),
                // A read with a timeout is not taken up again after a signal, be it one that only stopped the process a while.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The end of the initial table (RFC 4724 §2).
fn end_of_rib() -> Vec<u8> {
    message(UPDATE, &[0, 0, 0, 0])
}

/// The table as UPDATE messages, each with the number of prefixes told once it has been sent.
fn updates(plan: &Plan) -> Vec<(usize, Vec<u8>)> {
    let mut by_path: BTreeMap<Vec<u32>, Vec<Ipv4Net>> = BTreeMap::new();
    for route in &plan.table {
        by_path.entry(prefixes::path(route, plan.asn)).or_default().push(route.prefix);
    }
    let mut messages = Vec::new();
    let mut told = 0;
    for (path, prefixes) in &by_path {
        let attributes = attributes(path, plan.address);
        let mut rest = prefixes.as_slice();
        while !rest.is_empty() {
            let mut body = vec![0, 0];
            body.extend((attributes.len() as u16).to_be_bytes());
            body.extend(&attributes);
            // A prefix takes at most five octets.
            let fits = (MAX_MESSAGE - HEADER - body.len()) / 5;
            let (now, later) = rest.split_at(fits.min(rest.len()));
            for prefix in now {
                body.push(prefix.prefix_len());
                body.extend(prefix.network().octets().iter().take(usize::from(prefix.prefix_len()).div_ceil(8)));
            }
            told += now.len();
            rest = later;
            messages.push((told, message(UPDATE, &body)));
        }
    }
    messages
}

/// ORIGIN, AS_PATH and NEXT_HOP (RFC 4271 §4.3); the path is one AS_SEQUENCE of four-octet numbers.
fn attributes(path: &[u32], next_hop: Ipv4Addr) -> Vec<u8> {
    let mut octets = vec![0x40, 1, 1, 0];
    octets.extend([0x40, 2, path.len() as u8 * 4 + 2, 2, path.len() as u8]);
    octets.extend(path.iter().flat_map(|asn| asn.to_be_bytes()));
    octets.extend([0x40, 3, 4]);
    octets.extend(next_hop.octets());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(count: usize) -> Result<Plan> {
        Ok(Plan {
            asn: 65100,
            address: "10.2.0.10".parse()?,
            peer: "10.2.0.1:179".parse()?,
            table: prefixes::take(count)?,
        })
    }

    #[test]
    fn the_messages_hold_every_prefix_and_keep_to_the_limit() -> Result<()> {
        let messages = updates(&plan(20_000)?);
        assert_eq!(messages.last().map(|(told, _)| *told), Some(20_000));
        for (_, octets) in &messages {
            assert!(octets.len() <= MAX_MESSAGE);
            assert_eq!(usize::from(u16::from_be_bytes([octets[16], octets[17]])), octets.len());
        }
        Ok(())
    }

    #[test]
    fn an_update_is_what_the_rfc_says() -> Result<()> {
        let mut plan = plan(0)?;
        plan.table = vec![Origination { prefix: "192.168.128.0/17".parse()?, origin: 65100 }];
        let (_, octets) = updates(&plan).pop().context("no message")?;
        let transit = prefixes::path(&plan.table[0], 65100);
        assert_eq!(octets[HEADER..HEADER + 4], [0, 0, 0, (4 + 3 + 2 + transit.len() * 4 + 7) as u8]);
        assert_eq!(octets[octets.len() - 4..], [17, 192, 168, 128]);
        Ok(())
    }
}
