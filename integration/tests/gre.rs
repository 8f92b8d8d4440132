//! GRE over IPsec, and probes on the kernel's datapath. A kernel without ESP cannot run these: they say so and pass, unless
//! `HOLDFAST_KERNEL_FEATURES` is set, as it is by `cargo xtask test --kernel`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::designs::{Design, GRE_OVER_IPSEC};
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::{Lab, kernel, packages};

const KEY: &str = "correct horse battery staple";
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a lab where the kernel has what it takes.
fn with_kernel(name: &str, work: impl FnOnce(&Lab) -> Result<()>) {
    Lab::test(name, |lab| {
        if let Err(why) = kernel::ensure_gre(&lab.node("asks")?) {
            ensure!(!kernel::is_required(), "{why}");
            eprintln!("not run: {why}");
            return Ok(());
        }
        work(lab)
    });
}

#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn the_design_does_what_its_page_says() {
    let began = Instant::now();
    let mut tell = |what: &str| println!("{:9.3} s  {what}", began.elapsed().as_secs_f64());
    with_kernel("gre", |lab| {
        packages::ensure(&packages::PEERS)?;
        Design::find(GRE_OVER_IPSEC)?.play(lab, &Binaries::find()?, &mut tell)
    });
}

/// Two edges of ours whose tunnel is watched by a probe, with these lines more in the tunnel.
fn probes_find_who_is_silent(name: &str, lines: &str) {
    with_kernel(name, |lab| {
        let wan = OneWan::build(lab)?;
        let capture = Capture::start(&wan.isp, |packet| !packet.outgoing)?;
        let edge = |side: Side| -> Result<Edge> {
            one_wan::write_psk(wan.node(side), KEY)?;
            let (ours, theirs) = (side.number(), side.other().number());
            let mut text = Text::new(side).psk().datapath("kernel").tunnel(lines);
            text =
                text.tunnel(&format!("ip address 169.254.1.{ours}/30\nprobe 169.254.1.{theirs} interval 1 timeout 4"));
            let mut edge = Edge::new(wan.node(side), &Binaries::find()?, &text.to_string())?;
            edge.start_ipsecd()?;
            Ok(edge)
        };
        let (mut left, right) = (edge(Side::Left)?, edge(Side::Right)?);
        let up = |edge: &Edge| -> Result<bool> { Ok(edge.tunnel_state("tun1")? == "up") };
        let answers = |edge: &Edge| -> Result<bool> {
            let shown = edge.json("show ipsec tunnel json")?;
            let probe = shown.pointer("/tun1/probe").context("no probe is shown")?;
            Ok(probe["silent"] == false && probe["answered"].as_u64() > Some(0))
        };
        for edge in [&left, &right] {
            lab.wait_for("answers", PATIENCE, || Ok(up(edge)? && answers(edge)?))?;
        }
        left.must_run()?;
        // What the far end's interface does not take, nobody answers; its SAs stay.
        right.node.ip("link set tun1 down")?;
        lab.wait_for("silence to be told as down", PATIENCE, || {
            let shown = left.json("show ipsec tunnel json")?;
            let cause = shown.pointer("/tun1/cause").and_then(|cause| cause.as_str()).unwrap_or_default();
            Ok(cause.contains("169.254.1.2") && left.shell("show ipsec sa")?.contains("tun1"))
        })?;
        right.node.ip("link set tun1 up")?;
        lab.wait_for("the return", PATIENCE, || Ok(up(&left)? && answers(&left)?))?;
        let findings = wan.clearness()?.findings(&capture.finish()?);
        ensure!(findings.is_empty(), "in the clear: {findings:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn probes_through_an_xfrm_interface() {
    probes_find_who_is_silent("probe-xfrm", "replay-window 1024");
}

/// With what the design does not say: ESP in UDP without a NAT, and outer headers of its own.
#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn probes_through_a_gre_interface() {
    probes_find_who_is_silent("probe-gre", "tunnel mode gre key 7\nencapsulation always\ndscp set 46\ndf set");
}
