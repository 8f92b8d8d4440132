//! GRE over IPsec, with what becomes of it when a WAN is lost or has another address, and probes on the kernel's datapath. A kernel without ESP cannot run these: they say so and pass, unless
//! `HOLDFAST_KERNEL_FEATURES` is set, as it is by `cargo xtask test --kernel`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::capture::Capture;
use integration::designs::{Design, GRE_OVER_IPSEC, no_bgp};
use integration::edge::{Binaries, Edge};
use integration::one_wan::{self, OneWan, Side, Text};
use integration::two_isp::{Armed, Fault, TwoIsp};
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

/// The two sites of the example without BGP, whose tunnels are GRE interfaces here. Site A's first WAN has room for another
/// address.
fn two_sites(lab: &Lab) -> Result<TwoIsp<'_>> {
    let fast = "  transmit-interval 50\n  receive-interval 50\n";
    let text = |text: &str| {
        let text = text.replacen("\nwan ", "\nipsec datapath kernel\nwan ", 1);
        let text = text.replace("\n identity site\n", "\n identity site\n tunnel mode gre\n");
        let text = text.replace(fast, "  transmit-interval 1000\n  receive-interval 1000\n");
        text.replace("gateway 198.51.100.1\n", "gateway 198.51.100.65\n")
            .replace(" 198.51.100.2 ", &format!(" {FIRST} "))
    };
    let mut scenario = TwoIsp::build_with(lab, &Binaries::find()?, &text(no_bgp::SITE_A), &text(no_bgp::SITE_B))?;
    scenario.isp1.ip_batch(&format!("address add 198.51.100.65/26 dev to-a\nroute replace 10.1.0.0/16 via {FIRST}"))?;
    readdress(&scenario, "198.51.100.2/30", FIRST)?;
    scenario.start()?;
    goes_by(&mut scenario, "tun1")?;
    for (edge, tunnel) in [(&scenario.a, "tun1"), (&scenario.a, "tun2"), (&scenario.b, "tun1"), (&scenario.b, "tun2")] {
        let shown = edge.json("show ipsec tunnel json")?;
        ensure!(shown.pointer(&format!("/{tunnel}/mode")).is_some_and(|mode| mode == "gre"), "{shown}");
    }
    Ok(scenario)
}

/// Site A's addresses on its first WAN.
const FIRST: &str = "198.51.100.66";
const SECOND: &str = "198.51.100.67";

/// Site A has another address on its first WAN, as a lease that has run out makes it.
fn readdress(scenario: &TwoIsp<'_>, before: &str, now: &str) -> Result<()> {
    scenario.a.node.ip_batch(&format!(
        "address del {before} dev wan1\naddress add {now}/26 dev wan1\nroute replace default via 198.51.100.65 metric 100"
    ))
}

/// Waits until the hosts' traffic goes by this tunnel at both sites, and is answered.
fn goes_by(scenario: &mut TwoIsp<'_>, tunnel: &str) -> Result<()> {
    no_bgp::wait_egress(scenario, tunnel)?;
    scenario
        .lab
        .wait_for(&format!("an answer by {tunnel}"), PATIENCE, || scenario.ha.ping(scenario.probed(), 2).map(|()| true))
}

/// Whoever insists on the first tunnel while it is lost is not answered, and what it sends is not seen either.
fn nothing_passes_the_first_tunnel(scenario: &TwoIsp<'_>) -> Result<()> {
    for (edge, far) in [(&scenario.a, "169.254.1.2"), (&scenario.b, "169.254.1.1")] {
        let asked = edge.node.run(&["ping", "-n", "-c", "3", "-i", "0.2", "-w", "2", "-I", "tun1", far]);
        ensure!(asked.is_err(), "{far} answers by a tunnel that is down");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn a_lost_wan_moves_traffic_to_the_other_gre_interface_and_back() {
    with_kernel("gre-loss", |lab| {
        let mut scenario = two_sites(lab)?;
        let captures = scenario.watch_wans()?;
        // The cables of the first ISP, then the link of site A's alone.
        let mut armed = Armed::new(&scenario, Fault::Cut)?;
        armed.strike()?;
        goes_by(&mut scenario, "tun2")?;
        nothing_passes_the_first_tunnel(&scenario)?;
        armed.mend()?;
        goes_by(&mut scenario, "tun1")?;

        scenario.a.node.set_link("wan1", false)?;
        goes_by(&mut scenario, "tun2")?;
        nothing_passes_the_first_tunnel(&scenario)?;
        scenario.a.node.set_link("wan1", true)?;
        scenario.a.node.ip("route replace default via 198.51.100.65 metric 100")?;
        goes_by(&mut scenario, "tun1")?;
        // Each loss was told as one.
        let told = scenario.a.failovers()?;
        ensure!(told.len() >= 2 && told.iter().all(|event| event.fib_switched_at_unix_us.is_some()), "{told:?}");
        scenario.must_have_been_sealed(captures)
    });
}

/// The far end names our address, since its GRE interface has it: until it is told of the new one the first tunnel is lost.
#[test]
#[ignore = "needs root: cargo xtask test --kernel"]
fn another_address_of_the_wan_moves_the_gre_interface() {
    with_kernel("gre-renumbered", |lab| {
        let mut scenario = two_sites(lab)?;
        let captures = scenario.watch_wans()?;
        readdress(&scenario, &format!("{FIRST}/26"), SECOND)?;
        goes_by(&mut scenario, "tun2")?;
        nothing_passes_the_first_tunnel(&scenario)?;
        scenario.isp1.ip(&format!("route replace 10.1.0.0/16 via {SECOND}"))?;

        let text = std::fs::read_to_string(scenario.b.config_path())?;
        scenario.b.configure(&text.replace(FIRST, SECOND))?;
        scenario.b.reload()?;
        goes_by(&mut scenario, "tun1")?;
        let link = scenario.a.node.ip("-d link show dev tun1")?;
        ensure!(link.contains(&format!("local {SECOND}")), "{link}");
        let link = scenario.b.node.ip("-d link show dev tun1")?;
        ensure!(link.contains(&format!("remote {SECOND}")), "{link}");
        // Nothing holds the address that was.
        for edge in [&scenario.a, &scenario.b] {
            let kept = [edge.node.ip("xfrm policy")?, edge.node.ip("xfrm state")?];
            ensure!(!kept.iter().any(|text| text.contains(FIRST)), "{kept:?}");
        }
        scenario.must_have_been_sealed(captures)
    });
}
