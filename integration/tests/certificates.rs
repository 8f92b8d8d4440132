//! Certificates from `holdfast pki` in real daemons: accepted, renewed, taken back by lists and by a responder. OpenSSL is the
//! other implementation: it judges what we issue, and answers what we ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::edge::{Binaries, Daemon, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::probe::{self, Probe};
use integration::process::Process;
use integration::{Lab, exec, packages};
use rustix::process::Signal;

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// An authority in the lab's folder, run by `holdfast pki`.
struct Authority {
    holdfast: String,
    folder: PathBuf,
}

impl Authority {
    fn new(lab: &Lab, binaries: &Binaries) -> Result<Self> {
        let folder = lab.folder().join("authority");
        let authority = Self { holdfast: binaries.path("holdfast"), folder };
        authority.run(&["ca"], &["--name", "Example Site CA", "--permit", "example.net"])?;
        Ok(authority)
    }

    fn run(&self, command: &[&str], more: &[&str]) -> Result<String> {
        let folder = self.folder.to_str().context("a path that is not UTF-8")?;
        let argv = [&[&self.holdfast, "pki"], command, &[folder], more].concat();
        exec::output(&argv)
    }

    /// A certificate for a side, and all that the side needs, in its folder. Gives the serial number.
    fn equip(&self, wan: &OneWan, side: Side) -> Result<String> {
        let (folder, name) = (wan.node(side).folder(), side.id());
        let out = folder.join("issued");
        fs::create_dir_all(&out)?;
        let to = out.to_str().context("a path that is not UTF-8")?;
        let said = self.run(&["issue"], &[name, "--out", to])?;
        // Renamed into place, as an operator should: nobody reads half a file.
        fs::rename(out.join(format!("{name}.key")), folder.join("own.key"))?;
        fs::rename(out.join(format!("{name}.pem")), folder.join("own.pem"))?;
        self.publish(folder)?;
        let serial = said.lines().next().and_then(|line| line.rsplit(' ').next());
        serial.map(str::to_owned).context("no serial number was said")
    }

    fn publish(&self, folder: &Path) -> Result<()> {
        for file in ["ca.pem", "crl.pem"] {
            let beside = folder.join(format!("{file}.new"));
            fs::copy(self.folder.join(file), &beside)?;
            fs::rename(beside, folder.join(file))?;
        }
        Ok(())
    }

    /// Takes back and makes the new list known at a side.
    fn revoke(&self, certificate: &str, wan: &OneWan, side: Side) -> Result<()> {
        self.run(&["revoke"], &[certificate])?;
        self.publish(wan.node(side).folder())
    }
}

/// The two edges, each with lines of its own in the identity.
fn edges(wan: &OneWan, binaries: &Binaries, identity: [&str; 2]) -> Result<[Edge; 2]> {
    let edge = |side: Side, identity: &str| -> Result<Edge> {
        let address = format!("ip address 169.254.1.{}/30", side.number());
        let text = Text::new(side).certificate().identity(identity).tunnel(&address);
        let mut edge = Edge::new(wan.node(side), binaries, &text.to_string())?;
        edge.start_ipsecd()?;
        Ok(edge)
    };
    Ok([edge(Side::Left, identity[0])?, edge(Side::Right, identity[1])?])
}

fn connect(lab: &Lab, wan: &OneWan, edges: &mut [Edge; 2]) -> Result<()> {
    for edge in edges {
        one_wan::wait_up(lab, edge)?;
    }
    wan.left.ip("route replace 10.2.0.0/24 dev tun1 src 10.1.0.1")?;
    wan.right.ip("route replace 10.1.0.0/24 dev tun1 src 10.2.0.1")?;
    lab.wait_for("traffic through the tunnel", SECONDS(20), || wan.ping_through(Side::Left).map(|()| true))
}

fn is_up(edge: &Edge) -> Result<bool> {
    Ok(edge.tunnel_state("tun1")?.starts_with("up"))
}

/// SPIs of the child SAs.
fn children(edge: &Edge) -> Result<String> {
    Ok(edge.json("show ipsec sa json")?.pointer("/tun1/childSas").context("no child SAs are shown")?.to_string())
}

/// Has the daemon take up its new certificate.
fn reload(lab: &Lab, edge: &mut Edge, serial: &str) -> Result<()> {
    edge.process(Daemon::Ipsecd)?.signal(Signal::HUP)?;
    lab.wait_for("the new certificate is in use", SECONDS(20), || {
        let view = edge.json("show ipsec certificate json")?;
        Ok(view.pointer("/certificates/0/serial").is_some_and(|shown| shown == serial))
    })
}

const STRICT: &str = "crl file /etc/holdfast/crl.pem\nrevocation strict";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_list_takes_a_site_back_and_nothing_goes_in_the_clear() {
    Lab::test("cert-crl", |lab| {
        packages::ensure(&["openssl"])?;
        let (wan, binaries) = (OneWan::build(lab)?, Binaries::find()?);
        let authority = Authority::new(lab, &binaries)?;
        for side in [Side::Left, Side::Right] {
            authority.equip(&wan, side)?;
        }
        let mut edges = edges(&wan, &binaries, [STRICT, STRICT])?;
        connect(lab, &wan, &mut edges)?;
        let openssl = |file: &str| {
            let [ca, crl, file] =
                ["ca.pem", "crl.pem", file].map(|name| wan.left.folder().join(name).display().to_string());
            exec::output(&["openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", &ca, "-CRLfile", &crl, &file])
        };
        openssl("own.pem").context("OpenSSL has to accept what it is issued")?;
        let view = edges[0].json("show ipsec certificate json")?;
        ensure!(view.pointer("/revocationLists/0/number") == Some(&1.into()), "the first list: {view}");
        let capture = Capture::start(&wan.isp, |_| true)?;
        authority.revoke(Side::Right.id(), &wan, Side::Left)?;
        lab.wait_for("the list is read and the tunnel closed", SECONDS(40), || Ok(!is_up(&edges[0])?))?;
        let shown = edges[0].shell("show ipsec tunnel tun1")?;
        ensure!(shown.contains("revoked"), "the cause is shown: {shown}");
        // The peer calls again, and again in vain.
        lab.holds_for("it stays closed", SECONDS(5), || Ok(!is_up(&edges[0])?))?;
        ensure!(wan.ping_through(Side::Left).is_err(), "nothing passes");
        let leaks = wan.clearness()?.findings(&capture.finish()?);
        ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        authority.publish(wan.right.folder())?;
        fs::copy(wan.right.folder().join("own.pem"), wan.left.folder().join("revoked.pem"))?;
        ensure!(openssl("revoked.pem").is_err(), "OpenSSL reads the list as we do");
        // A new certificate, and the site is back.
        let serial = authority.equip(&wan, Side::Right)?;
        reload(lab, &mut edges[1], &serial)?;
        connect(lab, &wan, &mut edges)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn certificates_and_keys_are_renewed_without_losing_a_packet() {
    Lab::test("cert-renew", |lab| {
        let (wan, binaries) = (OneWan::build(lab)?, Binaries::find()?);
        let authority = Authority::new(lab, &binaries)?;
        let mut old = Vec::new();
        for side in [Side::Left, Side::Right] {
            old.push(authority.equip(&wan, side)?);
        }
        let mut edges = edges(&wan, &binaries, [STRICT, STRICT])?;
        connect(lab, &wan, &mut edges)?;
        let before = [children(&edges[0])?, children(&edges[1])?];
        let socket = |side: Side| std::net::SocketAddr::from((side.inner(), probe::PORT));
        let traffic = Probe::start((&wan.left, socket(Side::Left)), (&wan.right, socket(Side::Right)))?;
        for (side, edge) in [Side::Left, Side::Right].into_iter().zip(&mut edges) {
            let serial = authority.equip(&wan, side)?;
            reload(lab, edge, &serial)?;
        }
        let [sent, _] = traffic.counts();
        lab.wait_for("traffic after the reload", SECONDS(20), || Ok(traffic.counts()[0].1 > sent.0 + 500))?;
        let flows = traffic.finish()?;
        let lost = [flows.forth.lost(0, i64::MAX), flows.back.lost(0, i64::MAX)];
        ensure!(lost == [0, 0], "{lost:?} packets were lost");
        let spis = |text: &str| text.split("\"spiIn\":").skip(1).map(|part| part[..12].to_owned()).collect::<Vec<_>>();
        for (edge, before) in edges.iter().zip(&before) {
            ensure!(spis(&children(edge)?) == spis(before), "the SAs are the same");
        }
        // Those from before may be taken back: who authenticates anew does so by the new one.
        for (side, serial) in [Side::Left, Side::Right].into_iter().zip(&old) {
            authority.revoke(serial, &wan, side)?;
            authority.publish(wan.node(side.other()).folder())?;
        }
        edges[0].shell("terminate ipsec tunnel tun1")?;
        lab.wait_for("it is down", SECONDS(10), || Ok(!is_up(&edges[1])?))?;
        edges[0].shell("initiate ipsec tunnel tun1")?;
        connect(lab, &wan, &mut edges)
    });
}

/// OpenSSL's responder at the ISP, for this authority.
struct Responder {
    index: PathBuf,
    process: Process,
}

impl Responder {
    const PORT: &str = "8888";

    fn start(authority: &Authority, wan: &OneWan, index: &[(char, &str)]) -> Result<Self> {
        let lines = index.iter().map(|(state, serial)| {
            let revoked = if *state == 'R' { "260101000000Z" } else { "" };
            format!("{state}\t491231235959Z\t{revoked}\t{}\tunknown\t/CN={serial}\n", serial.to_uppercase())
        });
        let index = wan.isp.write("index.txt", lines.collect::<String>())?;
        let file = |name: &str| authority.folder.join(name).display().to_string();
        let (ca, key, at) = (file("ca.pem"), file("ca.key"), index.display().to_string());
        let argv = ["openssl", "ocsp", "-port", Self::PORT, "-index", &at, "-CA", &ca, "-rsigner", &ca, "-rkey", &key];
        let process = wan.isp.spawn("ocsp", &[&argv[..], &["-ndays", "1", "-ignore_err"]].concat())?;
        Ok(Self { index, process })
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_responder_is_waited_for_where_the_policy_is_strict() {
    Lab::test("cert-ocsp", |lab| {
        packages::ensure(&["openssl"])?;
        let (wan, binaries) = (OneWan::build(lab)?, Binaries::find()?);
        let authority = Authority::new(lab, &binaries)?;
        let serials = [authority.equip(&wan, Side::Left)?, authority.equip(&wan, Side::Right)?];
        let ask = format!("ocsp http://198.51.100.1:{}/\nrevocation strict", Responder::PORT);
        // Without a responder the strict side accepts nobody, and says why; the daemon answers meanwhile.
        let mut edges = edges(&wan, &binaries, [&ask, ""])?;
        lab.wait_for("the refusal is shown", SECONDS(30), || {
            Ok(edges[0].shell("show ipsec tunnel tun1")?.contains("responder does not know it or did not answer"))
        })?;
        ensure!(!is_up(&edges[0])?);
        let mut responder = Responder::start(&authority, &wan, &[('V', &serials[0]), ('V', &serials[1])])?;
        // Its silence is believed for a minute.
        lab.wait_for("the responder has answered", SECONDS(120), || {
            let view = edges[0].json("show ipsec certificate json")?;
            Ok(view.pointer("/responders/0/answers").and_then(serde_json::Value::as_u64) >= Some(1))
        })?;
        edges[0].shell("initiate ipsec tunnel tun1")?;
        connect(lab, &wan, &mut edges)?;
        // Started again, it has nothing but what the responder says now.
        responder.process.kill()?;
        fs::remove_file(&responder.index)?;
        let _revoking = Responder::start(&authority, &wan, &[('V', &serials[0]), ('R', &serials[1])])?;
        edges[0].kill_and_restart(Daemon::Ipsecd)?;
        lab.wait_for("the revocation is shown", SECONDS(60), || {
            Ok(edges[0].shell("show ipsec tunnel tun1")?.contains("has been revoked"))
        })?;
        ensure!(!is_up(&edges[0])?);
        Ok(())
    });
}
