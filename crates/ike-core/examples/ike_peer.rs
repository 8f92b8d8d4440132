//! Speaks IKEv2 to a real peer from the command line and prints what happens: the engine with two UDP sockets.
//!
//! It installs no SA anywhere, so no traffic flows; it is for trying negotiations against other implementations:
//!
//! ```text
//! cargo run -p ike-core --example ike_peer -- local=192.0.2.1 remote=192.0.2.2 id=a.example remote-id=b.example \
//!     psk=secret role=initiate child=30 ike=70 dpd=5 seconds=120
//! ```
//!
//! With `cert=`, `key=` and `ca=` (PEM files) instead of `psk=` certificates are used. A line with a command on
//! standard input acts at once: `rekey-child`, `rekey-ike`, `terminate`, `initiate`.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, BufRead},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use ike_core::{
    ChildMode, Childless, ConnectionConfig, Doubt, Dpd, Encapsulation, EngineConfig, Ike, Input, Lifetime, Output,
    Path, Remote, Retry, Role,
};
use ike_crypto::{CertificateChain, LocalCredential, PeerCredential, PrivateKey, SecretBytes, TrustAnchors};
use ike_wire::{Encapsulated, TrafficSelector, classify, with_marker};
use net_types::{TunnelName, WanName};
use rand::{SeedableRng, rngs::StdRng};

type Arguments = BTreeMap<String, String>;

enum Happening {
    Datagram(Path, Bytes),
    Command(String),
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Arguments = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let config = connection(&arguments)?;
    let (tunnel, wan) = (config.tunnel.clone(), config.wan.clone());
    let local: IpAddr = wanted(&arguments, "local")?.parse()?;
    let settings = EngineConfig::default();
    let (happenings, queue) = mpsc::channel();
    let ike_socket = listen(&wan, SocketAddr::new(local, settings.ike_port), false, &happenings)?;
    let natt_socket = listen(&wan, SocketAddr::new(local, settings.natt_port), true, &happenings)?;
    read_commands(happenings);

    let start = Instant::now();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut ike = Ike::new(start, since_1970, settings, Box::new(StdRng::from_os_rng()));
    let mut inputs = vec![Input::Reconfigure(vec![config]), Input::Wan { wan, addresses: vec![local] }];
    let end = start + Duration::from_secs(number(&arguments, "seconds", 60)?);
    let mut ending = false;
    loop {
        let now = Instant::now();
        if now >= end && !ending {
            ending = true;
            inputs.push(Input::Shutdown);
        }
        for input in std::mem::take(&mut inputs) {
            for output in ike.handle_input(now, input) {
                perform(start, output, &ike_socket, &natt_socket);
            }
        }
        if ending && ike.is_idle() {
            return Ok(());
        }
        let wake = ike.poll_timeout().unwrap_or(now + Duration::from_secs(1));
        let wake = if ending { wake } else { wake.min(end) };
        inputs.push(match queue.recv_timeout(wake.saturating_duration_since(Instant::now())) {
            Ok(Happening::Datagram(path, bytes)) => Input::Datagram { path, bytes },
            Ok(Happening::Command(command)) => match command.trim() {
                "rekey-child" => Input::Rekey { tunnel: tunnel.clone(), ike: false },
                "rekey-ike" => Input::Rekey { tunnel: tunnel.clone(), ike: true },
                "terminate" => Input::Terminate(tunnel.clone()),
                "initiate" => Input::Initiate(tunnel.clone()),
                other => {
                    eprintln!("unknown command \"{other}\"");
                    Input::Timeout
                }
            },
            Err(_) => Input::Timeout,
        });
    }
}

fn wanted<'a>(arguments: &'a Arguments, key: &str) -> Result<&'a str, String> {
    arguments.get(key).map(String::as_str).ok_or_else(|| format!("{key}= is missing"))
}

fn number(arguments: &Arguments, key: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    Ok(arguments.get(key).map(|text| text.parse()).transpose()?.unwrap_or(default))
}

fn connection(arguments: &Arguments) -> Result<ConnectionConfig, Box<dyn Error>> {
    let (local_credential, remote_credential) = match arguments.get("psk") {
        Some(psk) => {
            let secret = || SecretBytes::new(psk.as_bytes().to_vec());
            (LocalCredential::pre_shared_key(secret())?, PeerCredential::pre_shared_key(secret())?)
        }
        None => {
            let file = |key| Ok::<_, Box<dyn Error>>(std::fs::read(wanted(arguments, key)?)?);
            let chain = CertificateChain::from_pem(&file("cert")?)?;
            let anchors = TrustAnchors::from_pem([&file("ca")?[..]])?;
            let key = PrivateKey::from_pem(&file("key")?)?;
            (LocalCredential::certificate(chain, key)?, PeerCredential::trust_anchors(anchors))
        }
    };
    let list = |key: &str, default: &str| -> Vec<String> {
        arguments.get(key).map_or(default, String::as_str).split(',').map(str::to_owned).collect()
    };
    let selectors = |key| -> Result<Vec<TrafficSelector>, Box<dyn Error>> {
        list(key, "0.0.0.0/0,::/0").iter().map(|text| Ok(TrafficSelector::from_prefix(&text.parse()?))).collect()
    };
    let dpd = Duration::from_secs(number(arguments, "dpd", 10)?);
    let tunnel: TunnelName = "tun1".parse()?;
    let wan: WanName = "wan1".parse()?;
    Ok(ConnectionConfig {
        tunnel,
        wan,
        backup_wans: Vec::new(),
        reauth: None,
        childless: Childless::Allow,
        mobike: true,
        local_address: None,
        remote: match wanted(arguments, "remote")? {
            "any" => Remote::Any,
            address => Remote::Address(address.parse()?),
        },
        local_id: wanted(arguments, "id")?.parse()?,
        local_credential: Arc::new(local_credential),
        remote_id: wanted(arguments, "remote-id")?.parse()?,
        remote_credential: Arc::new(remote_credential),
        ppk: None,
        ike_proposals: list("ike-proposal", "aes256gcm16-prfsha384-ecp384,aes128gcm16-prfsha256-x25519")
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
        esp_proposals: list("esp-proposal", "aes256gcm16-ecp384,aes128gcm16-x25519")
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
        mode: ChildMode::Tunnel,
        local_ts: selectors("local-ts")?,
        remote_ts: selectors("remote-ts")?,
        role: match arguments.get("role").map(String::as_str) {
            Some("respond") => Role::RespondOnly,
            _ => Role::Initiate,
        },
        encapsulation: Encapsulation::Always,
        dpd: Dpd { doubt: Doubt::Silence, interval: dpd, timeout: dpd * 3 },
        ike_lifetime: Lifetime::of(Duration::from_secs(number(arguments, "ike", 14_400)?)),
        child_lifetime: Lifetime::of(Duration::from_secs(number(arguments, "child", 3600)?)),
        retry: Retry::default(),
        shutdown: false,
    })
}

/// Opens a socket and hands on what comes in.
fn listen(wan: &WanName, local: SocketAddr, natt: bool, to: &mpsc::Sender<Happening>) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(local)?;
    let (reader, wan, to) = (socket.try_clone()?, wan.clone(), to.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, remote)) = reader.recv_from(&mut buffer) {
            let message = match (natt, classify(&buffer[..length])) {
                (false, _) => &buffer[..length],
                (true, Encapsulated::Ike(message)) => message,
                (true, _) => continue,
            };
            let path = Path { wan: wan.clone(), local, remote, natt };
            if to.send(Happening::Datagram(path, Bytes::copy_from_slice(message))).is_err() {
                return;
            }
        }
    });
    Ok(socket)
}

fn read_commands(to: mpsc::Sender<Happening>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if to.send(Happening::Command(line)).is_err() {
                return;
            }
        }
    });
}

fn perform(start: Instant, output: Output, ike: &UdpSocket, natt: &UdpSocket) {
    let at = start.elapsed().as_secs_f64();
    let sent = match &output {
        Output::Send { path, bytes } if path.natt => natt.send_to(&with_marker(bytes), path.remote),
        Output::Send { path, bytes } => ike.send_to(bytes, path.remote),
        Output::NatKeepalive { path } => natt.send_to(&[0xff], path.remote),
        Output::Event(event) => {
            println!("{at:8.3} {event}");
            return;
        }
        Output::TunnelDown { cause, .. } => {
            println!("{at:8.3} DOWN: {cause}");
            return;
        }
        Output::TunnelUp { path, .. } => {
            println!("{at:8.3} UP: {path}");
            return;
        }
        other => {
            println!("{at:8.3} {other:?}");
            return;
        }
    };
    if let Err(error) = sent {
        println!("{at:8.3} cannot send: {error}");
    }
}
