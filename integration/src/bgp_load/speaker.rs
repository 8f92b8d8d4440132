//! One end of a session: sends what it is given, and counts what it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Presence;
use crate::bgp_octets::{HEADER, KEEPALIVE, MAX_MESSAGE, NOTIFICATION, OPEN, UPDATE, message, open};
use crate::node::Node;

/// Octets to read and to write at once.
const PIECE: usize = 128 * 1024;
/// Between two keepalives: a third of the shortest hold time.
const PULSE: Duration = Duration::from_secs(1);
/// Hundreds of speakers run side by side.
const STACK: usize = 512 * 1024;

/// Who speaks to whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its AS.
    pub asn: u32,
    /// Its address, and BGP identifier.
    pub address: Ipv4Addr,
    /// The speaker to dial.
    pub peer: SocketAddr,
    /// The hold time to propose.
    pub hold_seconds: u16,
}

/// An established session.
#[derive(Debug)]
pub struct Speaker {
    shared: Arc<Shared>,
    stream: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: Ipv4Addr,
    stop: AtomicBool,
    /// Whoever holds it may write whole messages.
    writer: Mutex<TcpStream>,
    have: AtomicUsize,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// How many prefixes are waited for, and when there were as many.
    target: Option<usize>,
    reached: Option<Instant>,
    /// Why the session is over.
    ended: Option<String>,
}

impl Speaker {
    /// Dials until a session is established, for at most `limit`.
    pub fn establish(node: &Node, plan: Plan, limit: Duration) -> Result<Self> {
        let deadline = Instant::now() + limit;
        loop {
            match node.enter(|| handshake(&plan))? {
                Ok(stream) => return Self::start(plan, stream),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("no session from {} to {}", plan.address, plan.peer)));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn start(plan: Plan, stream: TcpStream) -> Result<Self> {
        let shared = Arc::new(Shared {
            address: plan.address,
            stop: AtomicBool::new(false),
            writer: Mutex::new(stream.try_clone()?),
            have: AtomicUsize::new(0),
            progress: Mutex::default(),
            changed: Condvar::new(),
        });
        stream.set_read_timeout((plan.hold_seconds > 0).then(|| Duration::from_secs(plan.hold_seconds.into())))?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work)
        };
        let (reader, reading) = (Arc::clone(&shared), stream.try_clone()?);
        let pulse = Arc::clone(&shared);
        let threads = vec![
            spawn("speaker-in", Box::new(move || reader.read(reading)))?,
            spawn("speaker-pulse", Box::new(move || pulse.keep_alive()))?,
        ];
        Ok(Self { shared, stream, threads })
    }

    /// Sends whole messages; returns when the kernel has taken them.
    pub fn send(&self, messages: &[u8]) -> Result<()> {
        let mut rest = messages;
        while !rest.is_empty() {
            // Whole messages, so that a keepalive may come between.
            let mut end = 0;
            while end < PIECE.min(rest.len()) {
                end += usize::from(u16::from_be_bytes([rest[end + 16], rest[end + 17]]));
            }
            let (piece, later) = rest.split_at(end);
            self.shared.write(piece).map_err(|error| self.shared.why(error.into()))?;
            rest = later;
        }
        Ok(())
    }

    /// How many prefixes it has been told and not been taken from.
    pub fn have(&self) -> usize {
        self.shared.have.load(Ordering::Relaxed)
    }

    /// Waits until it has been told exactly so many prefixes; says when that was.
    pub fn wait(&self, target: usize, limit: Duration) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        let mut progress = self.shared.progress();
        (progress.target, progress.reached) = (Some(target), None);
        if self.have() == target {
            return Ok(Instant::now());
        }
        loop {
            if let Some(at) = progress.reached {
                return Ok(at);
            }
            if let Some(why) = &progress.ended {
                bail!("{} lost its session: {why}", self.shared.address);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "{} has {} prefixes, not {target}, after {limit:?}",
                self.shared.address,
                self.have()
            );
            progress = self.shared.changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// An error when the session is over.
    pub fn must_live(&self) -> Result<()> {
        match &self.shared.progress().ended {
            Some(why) => bail!("{} lost its session: {why}", self.shared.address),
            None => Ok(()),
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // The peer may have closed it already.
        let _closed = self.stream.shutdown(std::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a speaker's thread failed");
            }
        }
    }
}

impl Shared {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, octets: &[u8]) -> std::io::Result<()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(octets)
    }

    fn why(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.progress().ended {
            Some(why) => error.context(why.clone()),
            None => error,
        }
    }

    fn keep_alive(&self) {
        let mut progress = self.progress();
        while !self.stop.load(Ordering::Relaxed) && progress.ended.is_none() {
            progress = self.changed.wait_timeout(progress, PULSE).unwrap_or_else(PoisonError::into_inner).0;
            if progress.ended.is_none()
                && let Ok(mut writer) = self.writer.try_lock()
            {
                drop(progress);
                // Whoever holds the writer keeps the session alive; a failure is seen by the reader.
                let _failed = writer.write_all(&message(KEEPALIVE, &[]));
                drop(writer);
                progress = self.progress();
            }
        }
    }

    fn read(&self, stream: TcpStream) {
        let ended = self.count(stream);
        let why = ended.err().map_or_else(|| "closed".to_owned(), |error| format!("{error:#}"));
        self.progress().ended = Some(why);
        self.changed.notify_all();
    }

    fn count(&self, mut stream: TcpStream) -> Result<()> {
        let (mut buffer, mut filled) = (vec![0; PIECE + MAX_MESSAGE], 0);
        let mut there = Presence::default();
        while !self.stop.load(Ordering::Relaxed) {
            let count = match stream.read(&mut buffer[filled..]) {
                Ok(0) => bail!("the peer closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("nothing came within the hold time");
                }
                Err(error) => return Err(error.into()),
            };
            filled += count;
            let used = messages(&buffer[..filled], &mut there)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            self.told(there.len());
        }
        Ok(())
    }

    fn told(&self, have: usize) {
        if self.have.swap(have, Ordering::Relaxed) == have {
            return;
        }
        let mut progress = self.progress();
        if progress.target == Some(have) && progress.reached.is_none() {
            progress.reached = Some(Instant::now());
            self.changed.notify_all();
        }
    }
}

/// Takes in every whole message; how many octets those have.
fn messages(octets: &[u8], there: &mut Presence) -> Result<usize> {
    let mut rest = octets;
    while let Some(head) = rest.first_chunk::<HEADER>() {
        let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
        ensure!((HEADER..=MAX_MESSAGE).contains(&length), "a message of {length} octets");
        let Some((message, later)) = rest.split_at_checked(length) else { break };
        match head[18] {
            UPDATE => update(&message[HEADER..], there)?,
            NOTIFICATION => bail!("NOTIFICATION {:?}", &message[HEADER..]),
            _ => {}
        }
        rest = later;
    }
    Ok(octets.len() - rest.len())
}

/// Takes in one UPDATE with IPv4 prefixes (RFC 4271 §4.3).
pub(super) fn update(body: &[u8], there: &mut Presence) -> Result<()> {
    let (withdrawn, rest) = section(body).context("withdrawn routes run past the message")?;
    let (_, announced) = section(rest).context("attributes run past the message")?;
    there.list(withdrawn, false)?;
    there.list(announced, true)
}

/// A part behind its length in two octets, and what follows it.
fn section(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn handshake(plan: &Plan) -> Result<TcpStream> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(plan.address), 0))?;
    rustix::net::connect(&socket, &plan.peer)?;
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&open(plan.asn, plan.hold_seconds, plan.address))?;
    for wanted in [OPEN, KEEPALIVE] {
        let found = next(&mut stream)?;
        ensure!(found == wanted, "message type {found} came instead of {wanted}");
        if wanted == OPEN {
            stream.write_all(&message(KEEPALIVE, &[]))?;
        }
    }
    Ok(stream)
}

/// Reads one message, and says of which type it is.
fn next(stream: &mut TcpStream) -> Result<u8> {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head)?;
    let length = usize::from(u16::from_be_bytes([head[16], head[17]]));
    ensure!((HEADER..=MAX_MESSAGE).contains(&length), "a message of {length} octets");
    let mut body = vec![0; length - HEADER];
    stream.read_exact(&mut body)?;
    ensure!(head[18] != NOTIFICATION, "NOTIFICATION {body:?}");
    Ok(head[18])
}

/// How long the messages take from a sender to a counting receiver with nobody between.
pub fn ceiling(octets: &[u8]) -> Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A failure shows at the receiver, which then waits in vain for the rest.
            let _failed = octets.chunks(PIECE).try_for_each(|piece| sender.write_all(piece));
        });
        let (mut buffer, mut filled, mut left) = (vec![0; PIECE + MAX_MESSAGE], 0, octets.len());
        let mut there = Presence::default();
        while left > 0 {
            let count = match receiver.read(&mut buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read?,
            };
            ensure!(count > 0, "the sender failed");
            (filled, left) = (filled + count, left - count);
            let used = messages(&buffer[..filled], &mut there)?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
        }
        Ok(started.elapsed())
    })
}
