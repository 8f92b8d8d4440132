//! The keeper: a small process that holds descriptors of the tunnel devices, so that they outlive ipsecd. It also holds the
//! ports that the kernel takes ESP in UDP from, where it is the kernel that opens it.
//!
//! When the last descriptor of a TUN device closes, the kernel takes its carrier away and with it every nexthop and route
//! through it: traffic would follow the next best route, in the clear. With a second process holding the same open
//! file, the interface keeps its carrier while ipsecd is down: what is routed into the tunnel waits in its queue and is
//! dropped, and a new ipsecd takes the device up where the old one left it.
//!
//! The protocol is one message a request and one a reply on a SEQPACKET socket: `hold NAME` (with a descriptor), `adopt
//! NAME` (replied with one), `release NAME`; replies are `ok`, `none` or `error TEXT`. A name is a tunnel's, or a link's and
//! `udp4` or `udp6`. With the last release the keeper ends: the next tunnel needs a new one.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    str::FromStr,
};

use net_types::{TunnelName, WanName};
use rustix::{
    event::{PollFd, PollFlags},
    fs::Mode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use sys::sockopt::IpFamily;

/// Longest message: a verb and a name, or an error.
const MESSAGE: usize = 256;
/// More connections than ipsecd ever makes; stray ones cannot exhaust descriptors.
const MAX_CLIENTS: usize = 16;
/// More tunnels and links than anyone has; the limit of open files, which the keeper raises as far as it may, comes on top.
const MAX_HELD: usize = 65_536;

/// What a descriptor in keeping is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A tunnel's device.
    Device(TunnelName),
    /// Port 4500 of a link.
    Port {
        /// The link.
        wan: WanName,
        /// Over IPv6.
        v6: bool,
    },
}

impl Held {
    /// Port 4500 of a link.
    pub fn port(wan: &WanName, family: IpFamily) -> Self {
        Self::Port { wan: wan.clone(), v6: family == IpFamily::V6 }
    }
}

impl From<&TunnelName> for Held {
    fn from(name: &TunnelName) -> Self {
        Self::Device(name.clone())
    }
}

impl From<&Held> for Held {
    fn from(held: &Held) -> Self {
        held.clone()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(tunnel) => tunnel.fmt(f),
            Self::Port { wan, v6 } => write!(f, "{wan} {}", if *v6 { "udp6" } else { "udp4" }),
        }
    }
}

impl FromStr for Held {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((wan, port)) = text.split_once(' ') else {
            return text.parse().map(Self::Device).map_err(|invalid| format!("{invalid}"));
        };
        let v6 = match port {
            "udp4" => false,
            "udp6" => true,
            other => return Err(format!("\"{other}\" is no port")),
        };
        Ok(Self::Port { wan: wan.parse().map_err(|invalid| format!("{invalid}"))?, v6 })
    }
}

/// Holds descriptors for whoever connects to `path` with our own or root's user id, until the last is released.
///
/// # Errors
/// When the socket cannot be made, or another keeper answers there.
pub fn serve(path: &Path) -> io::Result<()> {
    let listener = listen(path)?;
    let mut keeper = Keeper::default();
    let mut clients: Vec<OwnedFd> = Vec::new();
    loop {
        let ready = wait(&listener, &clients)?;
        let mut ready = ready.into_iter();
        let incoming = ready.next() == Some(true);
        clients.retain(|client| ready.next() != Some(true) || keeper.serve(client));
        if keeper.quit {
            return fs::remove_file(path);
        }
        if incoming {
            let client = accept(&listener); // one too many is accepted and closed
            if clients.len() < MAX_CLIENTS {
                clients.extend(client);
            }
        }
    }
}

fn address(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|errno| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} cannot name a socket: {errno}", path.display()))
    })
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn listen(path: &Path) -> io::Result<OwnedFd> {
    let address = address(path)?;
    if rustix::net::connect(socket()?, &address).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("a keeper answers on {} already", path.display()),
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = socket()?;
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO); // for nobody but the owner, from the first moment
    let bound = rustix::net::bind(&listener, &address);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&listener, MAX_CLIENTS as i32)?;
    Ok(listener)
}

/// Which of the listener and the clients have something to say.
fn wait(listener: &OwnedFd, clients: &[OwnedFd]) -> io::Result<Vec<bool>> {
    let all = std::iter::once(listener).chain(clients);
    let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => return Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A connection, if its owner may have one.
fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let client = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok();
    let allowed = |client: &OwnedFd| {
        let own = rustix::process::geteuid();
        sys::sockopt::socket_peercred(client).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own)
    };
    client.filter(allowed)
}

#[derive(Default)]
struct Keeper {
    held: BTreeMap<Held, OwnedFd>,
    quit: bool,
}

impl Keeper {
    /// Serves one request; `false` when the connection is done for.
    fn serve(&mut self, client: &OwnedFd) -> bool {
        let mut buffer = [0; MESSAGE];
        match sys::fds::receive(client, &mut buffer) {
            Ok((0, _)) => false,
            Ok((length, fd)) => {
                let request = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
                let (text, fd) = match self.handle(&request, fd) {
                    Ok(Some(fd)) => ("ok".to_owned(), Some(fd)),
                    Ok(None) => ("ok".to_owned(), None),
                    Err(Refusal::None) => ("none".to_owned(), None),
                    Err(Refusal::Error(text)) => (format!("error {text:.200}"), None),
                };
                sys::fds::send(client, text.as_bytes(), fd.as_ref().map(AsFd::as_fd)).is_ok()
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    fn handle(&mut self, request: &str, fd: Option<OwnedFd>) -> Result<Option<OwnedFd>, Refusal> {
        let error = |text: &str| Refusal::Error(text.to_owned());
        let (verb, name) = request.split_once(' ').unwrap_or((request, ""));
        let name: Held = name.parse().map_err(Refusal::Error)?;
        match (verb, fd) {
            ("hold", Some(_)) if self.held.len() >= MAX_HELD => {
                Err(error(&format!("{MAX_HELD} are held, no more can be")))
            }
            ("hold", Some(fd)) => {
                self.held.insert(name, fd);
                Ok(None)
            }
            ("hold", None) => Err(error("a descriptor has to come with \"hold\"")),
            ("adopt", _) => {
                let held = self.held.get(&name).ok_or(Refusal::None)?;
                held.try_clone().map(Some).map_err(|failed| Refusal::Error(failed.to_string()))
            }
            ("release", _) => {
                let released = self.held.remove(&name).map(|_| None).ok_or(Refusal::None);
                self.quit = self.held.is_empty();
                released
            }
            _ => Err(error("unknown request")),
        }
    }
}

enum Refusal {
    None,
    Error(String),
}

/// ipsecd's end of the connection.
#[derive(Debug)]
pub struct Client(OwnedFd);

impl Client {
    /// Connects to the keeper at `path`.
    ///
    /// # Errors
    /// When none answers there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = socket()?;
        rustix::net::connect(&socket, &address(path)?)?;
        Ok(Self(socket))
    }

    /// Gives a descriptor into keeping, in place of an earlier one.
    ///
    /// # Errors
    /// When the keeper is gone or refuses.
    pub fn hold(&mut self, what: impl Into<Held>, fd: impl AsFd) -> io::Result<()> {
        match self.call(&format!("hold {}", what.into()), Some(fd.as_fd()))? {
            Reply::Ok(_) => Ok(()),
            Reply::None => Err(unexpected()),
        }
    }

    /// The descriptor of a tunnel that is in keeping, where it also stays.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn adopt(&mut self, tunnel: &TunnelName) -> io::Result<Option<OwnedFd>> {
        match self.call(&format!("adopt {tunnel}"), None)? {
            Reply::Ok(Some(fd)) => Ok(Some(fd)),
            Reply::Ok(None) => Err(unexpected()),
            Reply::None => Ok(None),
        }
    }

    /// Ends the keeping of something, if it was kept, and the keeper if it was the last.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub fn release(&mut self, what: impl Into<Held>) -> io::Result<()> {
        self.call(&format!("release {}", what.into()), None).map(|_| ())
    }

    /// Blocks until the keeper has ended.
    ///
    /// # Errors
    /// When the connection cannot be watched.
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        // Nothing is said unasked: what can be read is the end.
        loop {
            match rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn call(&mut self, request: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<Reply> {
        sys::fds::send(&self.0, request.as_bytes(), fd)?;
        let mut buffer = [0; MESSAGE];
        let (length, fd) = sys::fds::receive(&self.0, &mut buffer)?;
        match buffer.get(..length).unwrap_or_default() {
            b"" => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper of tunnel devices is gone")),
            b"ok" => Ok(Reply::Ok(fd)),
            b"none" => Ok(Reply::None),
            other => {
                Err(io::Error::other(format!("the keeper refused \"{request}\": {}", String::from_utf8_lossy(other))))
            }
        }
    }
}

enum Reply {
    Ok(Option<OwnedFd>),
    None,
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the keeper gave an answer that does not fit the question")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::fs::PermissionsExt,
        thread,
    };

    use super::*;

    fn name(text: &str) -> TunnelName {
        text.parse().unwrap()
    }

    /// Connects as soon as the keeper listens.
    fn client(path: &Path) -> Client {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match Client::connect(path) {
                Ok(client) => return client,
                Err(error) => assert!(std::time::Instant::now() < deadline, "no keeper: {error}"),
            }
            thread::yield_now();
        }
    }

    #[test]
    fn what_one_client_leaves_another_takes_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keeper.sock");
        let server = thread::spawn({
            let path = path.clone();
            move || serve(&path)
        });
        let (mut reader, writer) = io::pipe().unwrap();
        let mut first = client(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        first.hold(&name("tun1"), &writer).unwrap();
        drop((first, writer));

        let mut second = client(&path);
        assert!(second.adopt(&name("tun2")).unwrap().is_none());
        let mut adopted = fs::File::from(second.adopt(&name("tun1")).unwrap().unwrap());
        adopted.write_all(b"still open").unwrap();
        drop(adopted);
        second.hold(&name("tun3"), fs::File::open("/dev/null").unwrap()).unwrap();
        second.release(&name("tun1")).unwrap();
        assert!(second.adopt(&name("tun1")).unwrap().is_none());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap(); // ends: the keeper has closed its copy
        assert_eq!(text, "still open");

        assert_eq!(serve(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        second.release(&name("tun3")).unwrap(); // the last one
        server.join().unwrap().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn nonsense_is_refused_and_the_keeper_goes_on() {
        let mut keeper = Keeper::default();
        for request in
            ["", "hold", "hold a/b", "hold tun1", "steal tun1", "adopt  ", "hold isp udp4", "release isp tcp"]
        {
            assert!(matches!(keeper.handle(request, None), Err(Refusal::Error(_))), "{request:?}");
        }
        assert!(matches!(keeper.handle("adopt tun1", None), Err(Refusal::None)));
        assert!(!keeper.quit);
    }

    #[test]
    fn ports_and_devices_do_not_mix() {
        let mut keeper = Keeper::default();
        let fd = || Some(OwnedFd::from(fs::File::open("/dev/null").unwrap()));
        for held in ["isp", "isp udp4", "isp udp6"] {
            assert_eq!(held.parse::<Held>().unwrap().to_string(), held);
            assert!(keeper.handle(&format!("hold {held}"), fd()).is_ok());
        }
        assert_eq!(keeper.held.len(), 3);
        assert!(keeper.handle("release isp udp4", None).is_ok());
        assert!(matches!(keeper.handle("adopt isp udp4", None), Err(Refusal::None)));
        assert!(matches!(keeper.handle("adopt isp udp6", None), Ok(Some(_))));
        assert!(!keeper.quit);
    }
}
