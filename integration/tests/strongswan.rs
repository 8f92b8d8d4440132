//! IKEv2 and ESP with strongSwan: both as initiator and responder, by key and by certificate, with rekeying and traffic.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::peers::{Connection, Secret, StrongSwan};
use integration::pki::{Authority, KeyKind, Validity};
use integration::{Lab, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const KEY: &str = "correct horse battery staple";

#[derive(Clone, Copy, PartialEq)]
enum Initiator {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, PartialEq)]
enum Auth {
    Psk,
    Certificate(KeyKind),
}

struct Pair {
    wan: OneWan,
    ours: Edge,
    theirs: StrongSwan,
}

/// Our edge on the left, strongSwan on the right; waits until the tunnel is up at both ends.
fn connect(lab: &Lab, initiator: Initiator, auth: Auth, ours_more: &str, theirs_more: (&str, &str)) -> Result<Pair> {
    packages::ensure(&packages::PEERS)?;
    let wan = OneWan::build(lab)?;
    let mut text =
        Text::new(Side::Left).tunnel("local-ts 10.1.0.0/24").tunnel("remote-ts 10.2.0.0/24").tunnel(ours_more);
    if initiator == Initiator::Theirs {
        text = text.tunnel("initiate never");
    }
    let secret = match auth {
        Auth::Psk => {
            text = text.psk();
            one_wan::write_psk(&wan.left, KEY)?;
            Secret::Psk(KEY.to_owned())
        }
        Auth::Certificate(kind) => {
            text = text.certificate();
            let authority = Authority::new("Lab CA")?;
            authority.issue(Side::Left.id(), kind, Validity::Current)?.write(wan.left.folder(), "own", &authority)?;
            let theirs = authority.issue(Side::Right.id(), kind, Validity::Current)?;
            Secret::Certificate(theirs.write(wan.right.folder(), "own", &authority)?)
        }
    };
    let connection = Connection {
        local: Side::Right.wan_address().to_owned(),
        remote: Side::Left.wan_address().to_owned(),
        local_id: Side::Right.id().to_owned(),
        remote_id: Side::Left.id().to_owned(),
        selectors: ("10.2.0.0/24".to_owned(), "10.1.0.0/24".to_owned()),
        ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
        esp: "aes256gcm16".to_owned(),
        secret,
        more: theirs_more.0.to_owned(),
        more_child: theirs_more.1.to_owned(),
    };
    let theirs = StrongSwan::start(&wan.right, &connection)?;
    let mut ours = Edge::new(&wan.left, &Binaries::find()?, &text.to_string())?;
    ours.start_ipsecd()?;
    if initiator == Initiator::Theirs {
        lab.wait_for("strongSwan's tunnel", SECONDS(30), || theirs.initiate().map(|_| true))?;
    }
    one_wan::wait_up(lab, &mut ours)?;
    lab.wait_for("strongSwan has installed the child", SECONDS(10), || theirs.is_up())?;
    wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
    Ok(Pair { wan, ours, theirs })
}

fn interoperate(name: &str, initiator: Initiator, auth: Auth) {
    Lab::test(name, |lab| {
        let pair = connect(lab, initiator, auth, "", ("", ""))?;
        let capture = Capture::start(&pair.wan.isp, |_| true)?;
        pair.wan.ping_through(Side::Left)?;
        pair.wan.ping_through(Side::Right)?;
        let captured = capture.finish()?;
        let leaks = pair.wan.clearness()?.findings(&captured);
        ensure!(leaks.is_empty(), "in the clear: {leaks:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_a_key() {
    interoperate("ours-psk", Initiator::Ours, Auth::Psk);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_a_key() {
    interoperate("theirs-psk", Initiator::Theirs, Auth::Psk);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_ecdsa_certificates() {
    interoperate("ours-ecdsa", Initiator::Ours, Auth::Certificate(KeyKind::EcdsaP256));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_ecdsa_certificates() {
    interoperate("theirs-ecdsa", Initiator::Theirs, Auth::Certificate(KeyKind::EcdsaP384));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_initiate_with_rsa_certificates() {
    interoperate("ours-rsa", Initiator::Ours, Auth::Certificate(KeyKind::Rsa2048));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_initiate_with_ed25519_certificates() {
    interoperate("theirs-ed25519", Initiator::Theirs, Auth::Certificate(KeyKind::Ed25519));
}

/// The number that charon gives to an SA: `net: #3, ESTABLISHED` and `net: #7, reqid 1, INSTALLED`.
fn unique_id(sas: &str, state: &str) -> Result<u32> {
    let line = sas.lines().find(|line| line.contains(state)).with_context(|| format!("no SA is {state}: {sas}"))?;
    let id = line.split_once('#').and_then(|(_, rest)| rest.split(',').next());
    Ok(id.with_context(|| format!("no number in {line}"))?.parse()?)
}

/// Checks that an SA has been replaced while traffic flowed, and that traffic still does.
fn rekeyed(lab: &Lab, pair: &Pair, state: &str, rekey: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = unique_id(&pair.theirs.sas()?, state)?;
    rekey()?;
    lab.wait_for("the SA is a new one", SECONDS(120), || {
        let sas = pair.theirs.sas()?;
        let states = sas.matches(state).count();
        Ok(states == 1 && unique_id(&sas, state)? > before)
    })?;
    pair.wan.ping_through(Side::Left)?;
    pair.wan.ping_through(Side::Right)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn they_rekey_the_child_and_the_ike_sa() {
    Lab::test("theirs-rekey", |lab| {
        let pair = connect(lab, Initiator::Ours, Auth::Psk, "", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))?;
        rekeyed(lab, &pair, "ESTABLISHED", || pair.theirs.rekey("--ike net").map(drop))?;
        // And once more the child, under the new IKE SA.
        rekeyed(lab, &pair, "INSTALLED", || pair.theirs.rekey("--child net").map(drop))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_rekey_the_child_and_the_ike_sa() {
    Lab::test("ours-rekey", |lab| {
        let pair = connect(lab, Initiator::Ours, Auth::Psk, "rekey ike 60\nrekey child 30", ("", ""))?;
        pair.wan.ping_through(Side::Left)?;
        rekeyed(lab, &pair, "INSTALLED", || Ok(()))?;
        rekeyed(lab, &pair, "ESTABLISHED", || Ok(()))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_silent_peer_is_noticed_and_comes_back() {
    Lab::test("dpd", |lab| {
        let more = ("dpd_delay = 2s", "dpd_action = clear");
        let mut pair = connect(lab, Initiator::Ours, Auth::Psk, "dpd interval 1 timeout 4", more)?;
        // Requests of the peer are answered: it would give up otherwise.
        lab.holds_for("both ends stay up while they ask each other", SECONDS(6), || {
            Ok(pair.theirs.is_up()? && pair.ours.tunnel_state("tun1")?.starts_with("up"))
        })?;
        pair.wan.isp.ip("rule add pref 0 blackhole")?;
        lab.wait_for("the tunnel is down", SECONDS(30), || Ok(!pair.ours.tunnel_state("tun1")?.starts_with("up")))?;
        pair.wan.isp.ip("rule del pref 0 blackhole")?;
        one_wan::wait_up(lab, &mut pair.ours)?;
        lab.wait_for("traffic again", SECONDS(20), || pair.wan.ping_through(Side::Left).map(|()| true))
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tunnel_that_the_peer_deletes_goes_down() {
    Lab::test("delete", |lab| {
        let pair = connect(lab, Initiator::Theirs, Auth::Psk, "", ("", ""))?;
        pair.theirs.swanctl("--terminate --ike net")?;
        lab.wait_for("the tunnel is down", SECONDS(10), || Ok(!pair.ours.tunnel_state("tun1")?.starts_with("up")))
    });
}
