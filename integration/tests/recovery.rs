//! What happens to a tunnel of ours when one end crashes or moves, and how soon it is back.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::edge::{Binaries, Daemon, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::{Lab, kernel, probe::Probe};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Two of our edges; the left one calls, the right one waits.
fn caller_and_called(lab: &Lab, wan: &OneWan, more: &str) -> Result<(Edge, Edge)> {
    let binaries = Binaries::find()?;
    let edge = |side: Side| -> Result<Edge> {
        let node = wan.node(side);
        one_wan::write_psk(node, "the key of this test")?;
        let mut text = Text::new(side).psk().tunnel(&format!("ip address 169.254.1.{}/30", side.number())).tunnel(more);
        if side == Side::Right {
            text = text.tunnel("initiate never");
        }
        let mut edge = Edge::new(node, &binaries, &text.to_string())?;
        edge.start_ipsecd()?;
        Ok(edge)
    };
    let (mut right, mut left) = (edge(Side::Right)?, edge(Side::Left)?);
    one_wan::wait_up(lab, &mut left)?;
    one_wan::wait_up(lab, &mut right)?;
    wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
    wan.right.route("10.1.0.0/24 dev tun1 src 10.2.0.1")?;
    Ok((left, right))
}

/// RFC 6290: the called end is killed and cannot call; the token that its next life shows ends the old SA long before
/// dead peer detection (10 s and 30 s) would.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_called_end_that_crashed_is_back_in_a_moment() {
    Lab::test("crash", |lab| {
        let wan = OneWan::build(lab)?;
        let (left, mut right) = caller_and_called(lab, &wan, "")?;
        wan.ping_through(Side::Left)?;
        let port = |side: Side| std::net::SocketAddr::new(side.inner(), 7000);
        let probe = Probe::start((&wan.left, port(Side::Left)), (&wan.right, port(Side::Right)))?;
        // Each costs an emulated processor half a minute.
        let crashes = if kernel::is_emulated() { 1 } else { 3 };
        for crash in 1..=crashes {
            right.kill(Daemon::Ipsecd)?;
            right.start_ipsecd()?;
            one_wan::wait_up(lab, &mut right)?;
            lab.wait_for("traffic through the new SA", SECONDS(5), || wan.ping_through(Side::Left).map(|()| true))?;
            let shown = left.json("show ipsec tunnel tun1 json")?;
            let restarts = shown.pointer("/tun1/peerRestarts").and_then(serde_json::Value::as_u64);
            ensure!(restarts == Some(crash), "crash {crash}, noticed {restarts:?}: {shown}");
        }
        drop(probe);
        let secret = wan.right.folder().join("state/crash-token.secret");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(secret)?.permissions());
        ensure!(mode & 0o777 == 0o600, "the secret has mode {mode:o}");
        Ok(())
    });
}
