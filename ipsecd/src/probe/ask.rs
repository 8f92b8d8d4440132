//! Asking: the socket of one tunnel's probe, and the task that serves it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use config::model::Probe;
use net_types::{IfName, TunnelName};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use sys::sockopt;
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};

use super::{
    Target, Told, echo,
    echo::Echo,
    judge::{Answer, Judge, Turn},
};
use crate::state::State;

/// Until another attempt to open the socket.
const PAUSE: Duration = Duration::from_secs(1);
/// Packets that are read together. A peer that floods us does not keep us from asking.
const TOGETHER: usize = 64;
/// The class of routing protocols, CS6 (RFC 4594 §3.1): what is in the way of data alone does not make a tunnel silent.
const CLASS: u8 = 0xc0;

/// Asks until it is aborted.
pub(super) async fn ask(target: Target, number: u64, state: State, tell: mpsc::Sender<Told>) {
    let tunnel = &target.tunnel;
    let mut complained = false;
    let asker = loop {
        match Asker::open(&target) {
            Ok(asker) => break asker,
            // That we cannot ask says nothing of the tunnel.
            Err(error) if !complained => {
                complained = true;
                let address = target.probe.address;
                tracing::error!(%tunnel, %address, from = %target.from, %error, "nobody can be asked; the tunnel counts as it did; trying again every second");
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut judge = Judge::new(Instant::now(), &target.probe, state.is_silent(tunnel));
    loop {
        let mut turns = [None; 2];
        tokio::select! {
            biased; // no flood keeps a question from being asked
            () = tokio::time::sleep_until(judge.deadline().into()) => {
                // What has arrived is read before it is missed.
                for _ in 0..TOGETHER {
                    match asker.receive() {
                        Ok(heard) => turns[0] = turns[0].or(take(&mut judge, heard, &state, tunnel)),
                        Err(_) => break,
                    }
                }
                let due = judge.tick(Instant::now());
                turns[1] = due.turn;
                if let Some(sequence) = due.ask
                    && let Err(error) = asker.send(sequence)
                {
                    tracing::debug!(%tunnel, %error, "a question was not sent");
                }
                state.count(tunnel, |questions| {
                    questions.asked += u64::from(due.ask.is_some());
                    questions.lost += due.lost;
                });
            }
            // An error, such as what a router on the way has to say, is no answer.
            heard = asker.socket.async_io(Interest::READABLE, || asker.receive()) => {
                turns[0] = take(&mut judge, heard.unwrap_or_default(), &state, tunnel);
            }
        }
        for turn in turns.into_iter().flatten() {
            if tell.send(Told { tunnel: tunnel.clone(), number, turn }).await.is_err() {
                return; // the daemon is about to end
            }
        }
    }
}

/// Looks at an answer, if it is one.
fn take(judge: &mut Judge, heard: Option<u16>, state: &State, tunnel: &TunnelName) -> Option<Turn> {
    let Answer { round_trip, turn } = judge.answered(Instant::now(), heard?)?;
    state.count(tunnel, |questions| {
        questions.answered += 1;
        questions.round_trip = Some(round_trip);
    });
    turn
}

/// A socket through the tunnel alone.
struct Asker {
    /// A raw socket, which is served as one of UDP is.
    socket: UdpSocket,
    address: IpAddr,
    /// Ours among all that ask.
    identifier: u16,
}

impl Asker {
    fn open(target: &Target) -> io::Result<Self> {
        let Target { tunnel, from, probe: Probe { address, .. }, .. } = target;
        let (family, protocol) = match address {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        sockopt::bind_to_device(&socket, &IfName::from(tunnel.clone()))?;
        if address.is_ipv4() {
            // Routes move with the tunnel's state, and that is what is to be found out.
            sockopt::set_dont_route(&socket)?;
            sockopt::set_ip_tos(&socket, CLASS)?;
        } else {
            sockopt::set_ipv6_tclass(&socket, CLASS.into())?;
        }
        rustix::net::bind(&socket, &SocketAddr::new(*from, 0))?;
        // From others nothing is delivered.
        rustix::net::connect(&socket, &SocketAddr::new(*address, 0))?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, address: *address, identifier: rand::random() })
    }

    fn send(&self, sequence: u16) -> io::Result<()> {
        let message = echo::request(self.address, Echo { identifier: self.identifier, sequence });
        rustix::net::send(&self.socket, &message, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The number of the next answer; `None` for a packet that is none to us.
    fn receive(&self) -> io::Result<Option<u16>> {
        // Longer than any answer, with the header of IPv4.
        let mut buffer = [0; 128];
        let (length, _, from) = rustix::net::recvfrom(&self.socket, &mut buffer, RecvFlags::empty())?;
        let from = from.and_then(|from| SocketAddr::try_from(from).ok()).map(|from| from.ip());
        if from != Some(self.address) {
            return Ok(None);
        }
        let echo = buffer.get(..length).and_then(|datagram| echo::reply(self.address, datagram));
        Ok(echo.filter(|echo| echo.identifier == self.identifier).map(|echo| echo.sequence))
    }
}
