//! A tunnel over a metered link that is called when no other path is left, and let go again.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{PATIENCE, Story};
use crate::capture::Capture;
use crate::edge::Binaries;
use crate::lab::Lab;
use crate::probe::Probe;
use crate::two_isp::{Armed, Fault, TwoIsp};

const SITE_A: &str = include_str!("../../../examples/dial-backup/site-a.conf");
const SITE_B: &str = include_str!("../../../examples/dial-backup/site-b.conf");
/// In the part of site B that may not use the metered link.
const BULK: [u8; 4] = [10, 2, 9, 10];
/// Long enough for several BGP connects, BFD packets and DPD probes, had anybody sent them.
const QUIET: Duration = Duration::from_secs(3);

/// The page's story, with a shorter hold time.
pub(super) fn play(lab: &Lab, binaries: &Binaries, story: &mut Story<'_>) -> Result<()> {
    let site_a = SITE_A.replace("standby-hold 60", "standby-hold 4");
    let mut scene = TwoIsp::build_with(lab, binaries, &site_a, SITE_B)?;
    scene.hb.ip(&format!("address add {}/32 dev lo", IpAddr::from(BULK)))?;
    scene.b.node.ip("route add 10.2.9.0/24 via 10.2.0.10")?;
    let captures = scene.watch_wans()?;
    let metered = Capture::start(&scene.isp2, |packet| !packet.outgoing)?;
    scene.start()?;
    egress(lab, &mut scene, "tun1")?;
    answers(lab, &scene, BULK.into())?;
    quiet(lab, &scene)?;
    nothing_went(metered)?;
    story.tell("the tunnel over the ISP is up; the one over LTE stands by, and not one packet has gone over its link");

    let probe = some_traffic(lab, &scene, None)?;
    let mut fault = Armed::new(&scene, Fault::Silent)?;
    fault.strike()?;
    story.tell("the ISP drops everything, and says nothing");
    egress(lab, &mut scene, "lte")?;
    let probe = some_traffic(lab, &scene, Some(probe))?;
    story.outage("the host's traffic, now over LTE", &probe.finish()?);
    ensure!(scene.ha.ping(BULK.into(), 1).is_err(), "what may not use the metered link does");
    // Until BGP gives the session over the ISP up, what has no other way stays in its tunnel; then it leads nowhere.
    let way = scene.a.node.egress(BULK.into());
    ensure!(way.as_deref().is_none_or(|way| way == "tun1"), "what may not use the metered link leads to {way:?}");
    story.tell("10.2.9.0/24 may not use it, and is dropped");

    let probe = some_traffic(lab, &scene, None)?;
    fault.mend()?;
    egress(lab, &mut scene, "tun1")?;
    answers(lab, &scene, BULK.into())?;
    ensure!(scene.a.tunnel_state("lte")?.starts_with("up"), "the metered tunnel does not stay for its hold time");
    story.tell("the ISP is back: traffic returns; the tunnel over LTE stays for its hold time");
    lab.wait_for("the metered tunnel to stand by", PATIENCE, || stands_by(&scene))?;
    let probe = some_traffic(lab, &scene, Some(probe))?;
    story.lossless("the return to the ISP and the end of the tunnel over LTE", &probe.finish()?)?;
    let metered = Capture::start(&scene.isp2, |packet| !packet.outgoing)?;
    quiet(lab, &scene)?;
    nothing_went(metered)?;
    story.tell("its link is silent again");

    scene.a.shell("initiate ipsec tunnel lte")?;
    lab.wait_for("the metered tunnel by hand", PATIENCE, || Ok(scene.a.tunnel_state("lte")?.starts_with("up")))?;
    lab.wait_for("its end", PATIENCE, || stands_by(&scene))?;
    story.tell("called by hand it comes up, and goes again after its hold time");

    scene.must_have_been_sealed(captures)?;
    story.tell("in all that time both links saw IKE and ESP, and nothing in the clear");
    Ok(())
}

/// Waits until the hosts' traffic goes by this tunnel at both ends.
fn egress(lab: &Lab, scene: &mut TwoIsp<'_>, tunnel: &str) -> Result<()> {
    lab.wait_for(&format!("traffic on {tunnel} at both sites"), PATIENCE, || {
        scene.must_run()?;
        let wanted = (Some(tunnel.to_owned()), Some(tunnel.to_owned()));
        ensure!(scene.egress() == wanted, "it is on {:?}", scene.egress());
        Ok(true)
    })
}

fn answers(lab: &Lab, scene: &TwoIsp<'_>, address: IpAddr) -> Result<()> {
    lab.wait_for(&format!("an answer from {address}"), PATIENCE, || scene.ha.ping(address, 2).map(|()| true))
}

/// Nobody has paid for anything. What a link says to itself (neighbour discovery, group membership) goes no further.
fn nothing_went(metered: Capture) -> Result<()> {
    let captured = metered.finish()?;
    let paid = captured.packets.iter().filter(|packet| packet.header().is_some_and(|header| header.source.is_ipv4()));
    let paid: Vec<_> = paid.map(|packet| format!("{:?}", packet.header())).collect();
    ensure!(paid.is_empty(), "on the metered link while its tunnel stands by: {paid:?}");
    Ok(())
}

fn stands_by(scene: &TwoIsp<'_>) -> Result<bool> {
    let tunnels = scene.a.json("show ipsec tunnel json")?;
    Ok(tunnels.pointer("/lte/cause").and_then(|cause| cause.as_str()) == Some("standing by for others"))
}

/// Nothing else happens for a while.
fn quiet(lab: &Lab, scene: &TwoIsp<'_>) -> Result<()> {
    lab.holds_for("the metered tunnel stands by", QUIET, || {
        ensure!(stands_by(scene)?, "{}", scene.a.shell("show failover")?);
        Ok(true)
    })
}

/// Waits for packets both ways, of the exchange that there is or of a new one.
fn some_traffic(lab: &Lab, scene: &TwoIsp<'_>, probe: Option<Probe>) -> Result<Probe> {
    let probe = match probe {
        Some(probe) => probe,
        None => scene.probe().context("probing from host to host")?,
    };
    let before = probe.counts();
    lab.wait_for("traffic both ways", PATIENCE, || {
        Ok(probe.counts().iter().zip(before).all(|(now, before)| now.1 >= before.1 + 200))
    })?;
    Ok(probe)
}
