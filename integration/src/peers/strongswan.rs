//! strongSwan: charon with its kernel-libipsec plugin, which seals in user space on a TUN device and needs no ESP in
//! the kernel; and without it, where labs are to run on the kernel.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::kernel;
use crate::node::Node;
use crate::pki::CredentialFiles;
use crate::process::Process;

/// Where Debian puts the daemon.
const CHARON: &str = "/usr/lib/ipsec/charon";
/// Routes into tunnels are the lab's to set.
const ROUTE_BASED: &str = " install_routes = no\n";
/// kernel-netlink manages addresses and routes; kernel-libipsec is named before it and so takes SAs and policies.
const PLUGINS: [&str; 2] = [
    "random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints revocation hmac kdf gcm curve25519",
    "kernel-netlink socket-default vici updown",
];

/// How the two authenticate each other.
#[derive(Clone, Debug)]
pub enum Secret {
    /// A pre-shared key.
    Psk(String),
    /// A pre-shared key, and a postquantum one with its name.
    PskAndPpk(String, (String, String)),
    /// Certificates of a common authority.
    Certificate(CredentialFiles),
}

/// One connection with one child, as swanctl's configuration has it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Our address on the WAN (charon's).
    pub local: String,
    /// The peer's.
    pub remote: String,
    /// Our identity.
    pub local_id: String,
    /// The peer's.
    pub remote_id: String,
    /// What we put into the tunnel, and what comes out.
    pub selectors: (String, String),
    /// IKE proposals.
    pub ike: String,
    /// ESP proposals.
    pub esp: String,
    /// How to authenticate.
    pub secret: Secret,
    /// Further settings of the connection (`rekey_time = 10s`), a line each.
    pub more: String,
    /// Further settings of the child, a line each.
    pub more_child: String,
}

/// Where a charon's files lie in its node's folder, and which ports it has: two of them in one node, each with a TUN device of
/// its own, make a router with two tunnels that are interfaces.
struct Place {
    folder: &'static str,
    settings: &'static str,
    socket: &'static str,
    ports: (u16, u16),
}

const FIRST: Place =
    Place { folder: "swanctl", settings: "strongswan.conf", socket: "charon.vici", ports: (500, 4500) };
const SECOND: Place =
    Place { folder: "swanctl-2", settings: "strongswan-2.conf", socket: "charon-2.vici", ports: (510, SECOND_PORT) };
/// Where a second charon of a node is called: `local_port` and `remote_port` of its connections.
pub const SECOND_PORT: u16 = 4510;

/// A running charon; it ends with this value.
#[derive(Debug)]
pub struct StrongSwan {
    node: Node,
    folder: PathBuf,
    uri: String,
    /// The daemon.
    pub process: Process,
}

impl StrongSwan {
    /// Starts charon and loads one connection, `net`, with one child, `net`; nothing is initiated yet.
    pub fn start(node: &Node, connection: &Connection) -> Result<Self> {
        Self::start_with(node, &[("net".to_owned(), connection)], "", &FIRST)
    }

    /// As [`StrongSwan::start`], with several connections, each with a child of the same name.
    pub fn start_all(node: &Node, connections: &[(String, Connection)]) -> Result<Self> {
        let named: Vec<_> = connections.iter().map(|(name, connection)| (name.clone(), connection)).collect();
        Self::start_with(node, &named, "", &FIRST)
    }

    /// As [`StrongSwan::start`], without routes for what the child may carry: they are the lab's to set, as on a gateway
    /// whose tunnels are interfaces.
    pub fn start_route_based(node: &Node, connection: &Connection) -> Result<Self> {
        Self::start_with(node, &[("net".to_owned(), connection)], ROUTE_BASED, &FIRST)
    }

    /// As [`StrongSwan::start_route_based`], beside another one in the same node.
    pub fn start_second_route_based(node: &Node, connection: &Connection) -> Result<Self> {
        Self::start_with(node, &[("net".to_owned(), connection)], ROUTE_BASED, &SECOND)
    }

    /// As [`StrongSwan::start_route_based`], without any connection yet, and with a log that thousands of them do not drown.
    pub fn start_idle(node: &Node) -> Result<Self> {
        Self::start_with(node, &[], ROUTE_BASED, &FIRST)
    }

    /// Replaces the connections by these, each with a child of the same name. Those of which `more_child` says
    /// `start_action = start` are initiated at once.
    pub fn load(&self, connections: &[(String, Connection)]) -> Result<()> {
        let named: Vec<_> = connections.iter().map(|(name, connection)| (name.clone(), connection)).collect();
        std::fs::write(self.folder.join("swanctl.conf"), swanctl(&named))?;
        self.swanctl("--load-all").map(drop)
    }

    fn start_with(node: &Node, connections: &[(String, &Connection)], more: &str, place: &Place) -> Result<Self> {
        ensure!(Path::new(CHARON).is_file(), "{CHARON} is missing: apt-get install strongswan libcharon-extra-plugins");
        let folder = node.folder().join(place.folder);
        for part in ["x509", "x509ca", "private"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let socket = node.folder().join(place.socket);
        let (port, port_nat_t) = place.ports;
        let uri = format!("unix://{}", socket.display());
        let libipsec = if on_the_kernel() { "" } else { "kernel-libipsec" };
        let [before, after] = PLUGINS;
        let detail = if connections.is_empty() { 1 } else { 2 };
        let daemon = format!(
            "charon {{\n load = {before} {libipsec} {after}\n{more} install_virtual_ip = no\n port = {port}\n port_nat_t = {port_nat_t}\n \
             filelog {{\n  stderr {{\n   default = 1\n   ike = {detail}\n   cfg = {detail}\n   flush_line = yes\n  }}\n }}\n \
             plugins {{\n  vici {{\n   socket = {uri}\n  }}\n  openssl {{\n   fips_mode = 0\n  }}\n }}\n}}\n"
        );
        let daemon = node.write(place.settings, daemon)?;
        for (_, connection) in connections {
            let Secret::Certificate(files) = &connection.secret else { continue };
            std::fs::copy(&files.authority, folder.join("x509ca/ca.pem"))?;
            std::fs::copy(&files.certificate, folder.join("x509/own.pem"))?;
            std::fs::copy(&files.key, folder.join("private/own.pem"))?;
        }
        std::fs::write(folder.join("swanctl.conf"), swanctl(connections))?;
        let settings = daemon.to_str().context("a path that is not UTF-8")?;
        // charon's pid file has a fixed place; a private /run lets several run side by side.
        let script = format!("mount -t tmpfs tmpfs /run && exec {CHARON}");
        let argv = ["unshare", "--mount", "sh", "-c", &script];
        let process = node.spawn_with("charon", &argv, &[("STRONGSWAN_CONF", settings)])?;
        let mut swan = Self { node: node.clone(), folder, uri, process };
        swan.wait_for_socket(&socket)?;
        swan.swanctl("--load-all")?;
        Ok(swan)
    }

    /// Fails when charon's associations are not where labs are to have them: in the kernel, or with kernel-libipsec in
    /// charon itself.
    pub fn must_have_the_labs_datapath(&self) -> Result<()> {
        let states = self.node.ip("xfrm state")?;
        ensure!(states.contains("proto esp") == on_the_kernel(), "charon's associations in the kernel: {states:?}");
        Ok(())
    }

    fn wait_for_socket(&mut self, socket: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            self.process.must_run()?;
            if Instant::now() > deadline {
                bail!("charon does not open {}: {}", socket.display(), self.process.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A line for a shell that does the same as [`StrongSwan::swanctl`].
    pub fn command(&self, words: &str) -> String {
        format!("SWANCTL_DIR={} swanctl {words} --uri {}", self.folder.display(), self.uri)
    }

    /// Runs swanctl with the words of one line.
    pub fn swanctl(&self, words: &str) -> Result<String> {
        let folder = format!("SWANCTL_DIR={}", self.folder.display());
        let mut argv = vec!["env", folder.as_str(), "swanctl"];
        argv.extend(words.split(' '));
        argv.extend(["--uri", &self.uri]);
        self.node.run(&argv)
    }

    /// Initiates the child; returns when it is up or has failed.
    pub fn initiate(&self) -> Result<String> {
        self.swanctl("--initiate --child net --timeout 20")
    }

    /// Rekeys the IKE SA (`--ike net`) or the child (`--child net`).
    pub fn rekey(&self, what: &str) -> Result<String> {
        self.swanctl(&format!("--rekey {what}"))
    }

    /// What charon says about its SAs.
    pub fn sas(&self) -> Result<String> {
        self.swanctl("--list-sas")
    }

    /// Whether the child is installed.
    pub fn is_up(&self) -> Result<bool> {
        Ok(self.sas()?.contains("INSTALLED"))
    }
}

/// Whether charon's end is the kernel's, too.
fn on_the_kernel() -> bool {
    kernel::datapath().as_deref() == Some("kernel")
}

/// swanctl's configuration: connections by name, each with a child of the same name.
fn swanctl(connections: &[(String, &Connection)]) -> String {
    let (mut sections, mut secrets) = (String::new(), String::new());
    for (name, connection) in connections {
        let Connection { local, remote, local_id, remote_id, selectors, ike, esp, secret, more, more_child } =
            connection;
        let shared = |key: &str| {
            format!(" ike-{name} {{\n  id-1 = {local_id}\n  id-2 = {remote_id}\n  secret = \"{key}\"\n }}\n")
        };
        let (auth, own) = match secret {
            Secret::Psk(key) => {
                secrets.push_str(&shared(key));
                ("psk", "")
            }
            Secret::PskAndPpk(key, (id, ppk)) => {
                secrets.push_str(&shared(key));
                secrets.push_str(&format!(" ppk-{name} {{\n  id-1 = {id}\n  secret = \"{ppk}\"\n }}\n"));
                ("psk", "")
            }
            Secret::Certificate(_) => ("pubkey", "   certs = own.pem\n"),
        };
        sections.push_str(&format!(
            " {name} {{\n  version = 2\n  local_addrs = {local}\n  remote_addrs = {remote}\n  proposals = {ike}\n  \
             {more}\n  local {{\n   auth = {auth}\n   id = {local_id}\n{own}  }}\n  remote {{\n   auth = {auth}\n   id = {remote_id}\n  }}\n  \
             children {{\n   {name} {{\n    local_ts = {}\n    remote_ts = {}\n    esp_proposals = {esp}\n    {more_child}\n   }}\n  }}\n }}\n",
            selectors.0, selectors.1
        ));
    }
    format!("connections {{\n{sections}}}\nsecrets {{\n{secrets}}}\n")
}
