//! MOBIKE (RFC 4555) between our ipsecd and strongSwan, both ways: the outer path moves from one WAN to the other under
//! the same SAs.
//!
//! ```text
//! left ═══ isp ──── right     left has wan1 (198.51.100.2) and wan2 (203.0.113.2); right has 198.51.100.6
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::peers::{Connection, Secret, StrongSwan};
use integration::probe::Probe;
use integration::{Lab, packages};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const KEY: &str = "correct horse battery staple";
const SECOND_WAN: &str = "203.0.113.2";

/// The lab with a second WAN on the left.
fn build(lab: &Lab) -> Result<OneWan> {
    packages::ensure(&packages::PEERS)?;
    let wan = OneWan::build(lab)?;
    lab.join((&wan.left, "wan2"), (&wan.isp, "to-left2"))?;
    wan.isp.address("to-left2", "203.0.113.1/30")?;
    wan.left.address("wan2", &format!("{SECOND_WAN}/30"))?;
    Ok(wan)
}

fn connection(side: Side, local: &str) -> Connection {
    let (own, other) = (format!("10.{}.0.0/24", side.number()), format!("10.{}.0.0/24", side.other().number()));
    Connection {
        local: local.to_owned(),
        remote: side.other().wan_address().to_owned(),
        local_id: side.id().to_owned(),
        remote_id: side.other().id().to_owned(),
        selectors: (own, other),
        ike: "aes256gcm16-prfsha384-ecp384".to_owned(),
        esp: "aes256gcm16".to_owned(),
        secret: Secret::Psk(KEY.to_owned()),
        more: "mobike = yes".to_owned(),
        more_child: String::new(),
    }
}

fn selectors(side: Side) -> String {
    format!("local-ts 10.{}.0.0/24\nremote-ts 10.{}.0.0/24", side.number(), side.other().number())
}

/// What strongSwan says of its only IKE SA: its number, and the text.
fn only_sa(swan: &StrongSwan) -> Result<(String, String)> {
    let sas = swan.sas()?;
    ensure!(sas.matches("ESTABLISHED").count() == 1, "not one IKE SA: {sas}");
    let number = sas.split_once('#').and_then(|(_, rest)| rest.split(',').next()).context("an SA without number")?;
    Ok((number.to_owned(), sas))
}

/// Which link the tunnel of an edge goes over.
fn link_of(edge: &Edge) -> Result<String> {
    let shown = edge.json("show ipsec tunnel tun1 json")?;
    Ok(shown.pointer("/tun1/wan").and_then(|wan| wan.as_str()).context("no wan")?.to_owned())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn we_move_between_two_wans_and_strongswan_follows() {
    Lab::test("we-move", |lab| {
        let wan = build(lab)?;
        one_wan::write_psk(&wan.left, KEY)?;
        let theirs = StrongSwan::start(&wan.right, &connection(Side::Right, Side::Right.wan_address()))?;
        let second = "wan second\n interface wan2\n gateway 203.0.113.1\n";
        let text = Text::new(Side::Left).psk().tunnel(&selectors(Side::Left)).tunnel("wan isp second").more(second);
        let mut ours = Edge::new(&wan.left, &Binaries::find()?, &text.to_string())?;
        ours.start_ipsecd()?;
        one_wan::wait_up(lab, &mut ours)?;
        lab.wait_for("strongSwan has installed the child", SECONDS(10), || theirs.is_up())?;
        wan.left.route("10.2.0.0/24 dev tun1 src 10.1.0.1")?;
        wan.ping_through(Side::Left)?;
        let (number, _) = only_sa(&theirs)?;
        let child = ours.json("show ipsec sa tun1 json")?.pointer("/tun1/childSas/0/spiIn").cloned();
        let port = |side: Side| SocketAddr::new(side.inner(), 7000);
        let probe = Probe::start((&wan.left, port(Side::Left)), (&wan.right, port(Side::Right)))?;

        for (up, link, address) in [(false, "second", SECOND_WAN), (true, "isp", Side::Left.wan_address())] {
            wan.left.set_link("wan1", up)?;
            if up {
                // The kernel took the route of main with the link; the tunnel's own table is ipsecd's.
                wan.left.route("default via 198.51.100.1")?;
            }
            lab.wait_for("strongSwan sends to the other address", SECONDS(15), || {
                let (now, sas) = only_sa(&theirs)?;
                ensure!(now == number, "another IKE SA: {sas}");
                Ok(sas.contains(&format!("@ {address}[")))
            })?;
            lab.wait_for("the tunnel is shown on the link", SECONDS(5), || Ok(link_of(&ours)? == link))?;
            wan.ping_through(Side::Left)?;
            wan.ping_through(Side::Right)?;
        }
        drop(probe);
        let after = ours.json("show ipsec sa tun1 json")?.pointer("/tun1/childSas/0/spiIn").cloned();
        ensure!(child.is_some() && child == after, "the child was replaced: {child:?}, {after:?}");
        let shown = ours.json("show ipsec tunnel tun1 json")?;
        let number = |what: &str| shown.pointer(&format!("/tun1/{what}")).and_then(serde_json::Value::as_u64);
        ensure!(
            number("timesUp") == Some(1) && number("moves") == Some(2),
            "it was down, or did not move twice: {shown}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn strongswan_moves_between_two_wans_and_we_follow() {
    Lab::test("they-move", |lab| {
        let wan = build(lab)?;
        one_wan::write_psk(&wan.right, KEY)?;
        // For when the first one is gone.
        wan.left.route("default via 203.0.113.1 metric 200")?;
        let text = Text::new(Side::Right).psk().tunnel(&selectors(Side::Right)).tunnel("initiate never");
        let mut ours = Edge::new(&wan.right, &Binaries::find()?, &text.to_string())?;
        ours.start_ipsecd()?;
        let theirs = StrongSwan::start(&wan.left, &connection(Side::Left, "%any"))?;
        lab.wait_for("strongSwan's tunnel", SECONDS(30), || theirs.initiate().map(|_| true))?;
        one_wan::wait_up(lab, &mut ours)?;
        wan.right.route("10.1.0.0/24 dev tun1 src 10.2.0.1")?;
        wan.ping_through(Side::Right)?;
        let (number, _) = only_sa(&theirs)?;

        wan.left.set_link("wan1", false)?;
        lab.wait_for("we send to the other address", SECONDS(20), || {
            let shown = ours.json("show ipsec sa tun1 json")?;
            let remote = shown.pointer("/tun1/ikeSa/remote").and_then(|remote| remote.as_str()).unwrap_or_default();
            Ok(remote.starts_with(SECOND_WAN))
        })?;
        lab.wait_for("traffic by the other link", SECONDS(5), || wan.ping_through(Side::Right).map(|()| true))?;
        wan.ping_through(Side::Left)?;
        ensure!(only_sa(&theirs)?.0 == number, "another IKE SA");
        let shown = ours.json("show ipsec tunnel tun1 json")?;
        let count = |what: &str| shown.pointer(&format!("/tun1/{what}")).and_then(serde_json::Value::as_u64);
        ensure!(count("timesUp") == Some(1) && count("moves") >= Some(1), "it was down, or did not move: {shown}");
        Ok(())
    });
}
