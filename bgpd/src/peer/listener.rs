//! Connections that neighbors open: accepted, matched with a neighbor, handed to its task.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use net_types::Prefix;
use sys::sockopt::{self, IpFamily};
use telemetry::LogLimit;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

use super::{Ao, PeerCommand, PeerSpec, ao::ListenerKeys, socket, spec::Password};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 128;

/// Who may connect. Shared by the listeners and by whoever configures neighbors.
#[derive(Clone, Debug, Default)]
pub struct Acceptors {
    inner: Arc<Mutex<BTreeMap<IpAddr, Acceptor>>>,
    doors: Arc<Mutex<Vec<Door>>>,
    /// Where those go who come through a door.
    arrivals: Option<mpsc::Sender<(TcpStream, SocketAddr)>>,
}

/// Where neighbors may come from that have no configured address (`bgp listen range`).
#[derive(Clone)]
pub struct Door {
    /// From here.
    pub range: Prefix,
    /// With this key of TCP-MD5.
    pub password: Option<Password>,
    /// Or with these of TCP-AO.
    pub ao: Option<Ao>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("range", &self.range)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("ao", &self.ao)
            .finish()
    }
}

#[derive(Clone, Debug)]
struct Acceptor {
    spec: PeerSpec,
    commands: mpsc::Sender<PeerCommand>,
}

impl Acceptors {
    /// Whoever comes through a door goes to `arrivals`.
    pub fn with_doors(arrivals: mpsc::Sender<(TcpStream, SocketAddr)>) -> Self {
        Self { arrivals: Some(arrivals), ..Self::default() }
    }

    /// These doors are open, and no others.
    pub fn open_doors(&self, doors: Vec<Door>) {
        *self.doors.lock().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    /// Hands over a connection from a range; whether it came from one.
    fn admit(&self, stream: TcpStream, remote: SocketAddr) -> Result<(), TcpStream> {
        let address = remote.ip().to_canonical();
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(arrivals) = self.arrivals.as_ref().filter(|_| doors.iter().any(|door| door.range.contains(address)))
        else {
            return Err(stream);
        };
        if arrivals.try_send((stream, remote)).is_err() {
            tracing::debug!(neighbor = %address, "too many neighbors come at once: connection closed");
        }
        Ok(())
    }

    fn door_keys(&self) -> BTreeMap<Prefix, Password> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.iter().filter_map(|door| Some((door.range, door.password.clone()?))).collect()
    }

    /// The keys of TCP-AO of all who may connect by this family.
    fn ao(&self, v4: bool) -> BTreeMap<Prefix, Ao> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<Prefix, Ao> =
            doors.iter().filter_map(|door| Some((door.range, door.ao.clone()?))).collect();
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for (address, acceptor) in inner.iter() {
            let Some(ao) = &acceptor.spec.transport.ao else { continue };
            // Who comes through a door has the keys of its chain already, and the kernel takes none twice.
            let has = |door: &Door| door.ao.as_ref().is_some_and(|door| door.chain == ao.chain);
            if !doors.iter().any(|door| door.range.contains(*address) && has(door)) {
                all.insert(Prefix::host(*address), ao.clone());
            }
        }
        all.retain(|peers, _| peers.address().is_ipv4() == v4);
        all
    }

    /// Connections from the neighbor of `spec` go to its task from now on.
    pub fn insert(&self, spec: PeerSpec, commands: mpsc::Sender<PeerCommand>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.insert(spec.address, Acceptor { spec, commands });
    }

    /// The neighbor is no longer configured.
    pub fn remove(&self, address: IpAddr) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    fn get(&self, address: IpAddr) -> Option<Acceptor> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// The shortest segment that a neighbor of this family is to be sent, in octets, where any has a limit.
    fn shortest_segment(&self, v4: bool) -> Option<u16> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = inner.iter().filter(|(address, _)| address.is_ipv4() == v4);
        limits.filter_map(|(_, acceptor)| acceptor.spec.transport.max_segment_octets).min()
    }

    fn passwords(&self) -> Vec<(IpAddr, Password)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let password = |(address, acceptor): (&IpAddr, &Acceptor)| {
            acceptor.spec.transport.password.clone().map(|password| (*address, password))
        };
        inner.iter().filter_map(password).collect()
    }
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    acceptors: Acceptors,
    /// The neighbors whose TCP-MD5 keys the socket has.
    keys: BTreeMap<IpAddr, Password>,
    /// The same for ranges.
    door_keys: BTreeMap<Prefix, Password>,
    /// The keys of TCP-AO.
    ao: ListenerKeys,
    /// The longest segment, in octets, of the connections that come in by it (`tcp-mss`).
    max_segment_octets: Option<u16>,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address cannot be used: port 179 takes CAP_NET_BIND_SERVICE.
    pub fn bind(address: SocketAddr, acceptors: Acceptors) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?; // so that 0.0.0.0 can be listened on beside it
        }
        // The kernel answers a SYN before anybody knows whose it is: a neighbor with TTL security drops an answer that
        // does not leave with 255. Each connection gets its own TTL when it is accepted.
        match IpFamily::of(address.ip()) {
            IpFamily::V4 => sockopt::set_ip_ttl(&socket, 255)?,
            IpFamily::V6 => sockopt::set_ipv6_unicast_hops(&socket, Some(255))?,
        }
        socket.bind(address)?;
        let mut listener = Self {
            socket: socket.listen(BACKLOG)?,
            acceptors,
            keys: BTreeMap::new(),
            door_keys: BTreeMap::new(),
            ao: ListenerKeys::default(),
            max_segment_octets: None,
        };
        listener.update_keys();
        Ok(listener)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the kernel reports them.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Gives the socket the keys of the neighbors, after they were configured: a segment without the right
    /// signature does not even open a connection.
    pub fn update_keys(&mut self) {
        let Ok(local) = self.socket.local_addr() else { return };
        let wanted: BTreeMap<_, _> =
            self.acceptors.passwords().into_iter().filter(|(ip, _)| ip.is_ipv4() == local.is_ipv4()).collect();
        for address in self.keys.keys().filter(|address| !wanted.contains_key(address)) {
            if let Err(error) = sockopt::set_tcp_md5(&self.socket, SocketAddr::new(*address, 0), &[]) {
                tracing::warn!(neighbor = %address, %error, "cannot take back a TCP-MD5 key");
            }
        }
        for (address, key) in &wanted {
            if self.keys.get(address) == Some(key) {
                continue;
            }
            if let Err(error) = sockopt::set_tcp_md5(&self.socket, SocketAddr::new(*address, 0), key) {
                tracing::error!(
                    neighbor = %address, %error,
                    "cannot set the TCP-MD5 key: the neighbor cannot connect to us; check that the kernel has CONFIG_TCP_MD5SIG"
                );
            }
        }
        self.keys = wanted;
        self.update_door_keys(local);
        self.ao.update(&self.socket, self.acceptors.ao(local.is_ipv4()));
        self.update_segment_size(local);
    }

    /// How long segments are is settled in the handshake, before anybody knows whose it is: the least that is configured
    /// of any neighbor holds for all that connect to us.
    fn update_segment_size(&mut self, local: SocketAddr) {
        let wanted = self.acceptors.shortest_segment(local.is_ipv4());
        if wanted == self.max_segment_octets {
            return;
        }
        match sockopt::set_tcp_max_segment(&self.socket, wanted.unwrap_or(0)) {
            Ok(()) => self.max_segment_octets = wanted,
            Err(error) => {
                tracing::warn!(%error, octets = wanted, "cannot limit the segments of connections that neighbors open");
            }
        }
    }

    fn update_door_keys(&mut self, local: SocketAddr) {
        let mut wanted = self.acceptors.door_keys();
        wanted.retain(|range, _| range.address().is_ipv4() == local.is_ipv4());
        for range in self.door_keys.keys().filter(|range| !wanted.contains_key(range)) {
            if let Err(error) = sockopt::set_tcp_md5_range(&self.socket, range, &[]) {
                tracing::warn!(%range, %error, "cannot take back a TCP-MD5 key");
            }
        }
        for (range, key) in wanted.iter().filter(|(range, key)| self.door_keys.get(range) != Some(key)) {
            if let Err(error) = sockopt::set_tcp_md5_range(&self.socket, range, key) {
                tracing::error!(%range, %error, "cannot set the TCP-MD5 key of a listen range: nobody can connect from it");
            }
        }
        self.door_keys = wanted;
    }

    /// Accepts for as long as `changed` is alive; a change notification makes it look at the neighbors' keys again.
    pub async fn run(mut self, mut changed: tokio::sync::watch::Receiver<u64>) {
        let unknown = LogLimit::new(5, Duration::from_secs(60));
        loop {
            tokio::select! {
                biased;
                change = changed.changed() => match change {
                    Ok(()) => self.update_keys(),
                    Err(_) => return,
                },
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, remote)) => self.accepted(stream, remote, &unknown),
                    Err(error) => {
                        // Out of descriptors or memory, or the connection is gone again: the next may be better, but
                        // without a pause this would spin.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    fn accepted(&self, stream: TcpStream, remote: SocketAddr, unknown: &LogLimit) {
        let address = remote.ip();
        let Some(acceptor) = self.acceptors.get(address) else {
            let Err(stream) = self.acceptors.admit(stream, remote) else { return };
            drop(stream);
            if let Some(left_out) = unknown.admit(Instant::now()) {
                tracing::info!(%remote, left_out, "connection from an address that is no neighbor: closed");
            }
            return;
        };
        if !socket::is_on_link(&stream, &acceptor.spec, remote) {
            tracing::info!(%remote, "connection from a neighbor's address over another link: closed");
            return;
        }
        if let Err(error) = socket::prepare(&stream, &acceptor.spec) {
            tracing::warn!(neighbor = %address, %error, "cannot set the options of a connection: closed");
            return;
        }
        if acceptor.commands.try_send(PeerCommand::Accepted(stream)).is_err() {
            tracing::debug!(neighbor = %address, "the neighbor's task is busy: connection closed");
        }
    }
}
