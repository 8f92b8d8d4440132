//! `cargo xtask bench esp`: packets through a tunnel between two namespaces, beside others in user space.
//!
//! Both ends run on this machine and share its processors with the load. The cases: `tcp1`, one TCP stream; `udp1200`,
//! one UDP stream of 1200 octets of payload that is handed over in segments, as QUIC does; `pps64`, IPv4 packets of 64
//! octets, each for itself; `rekey100`, as `udp1200` while the keys are replaced a hundred times. UDP goes by a window
//! (see `integration::esp_load`), so that what is lost was lost by the path.
//!
//! `holdfast-kernel` needs ESP in the kernel. Where the machine's own has none, `--kernel` measures in the guest of
//! `cargo xtask test --kernel`: its processor is emulated, so that figures compare with others of the same guest only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::edge::Binaries;
use integration::esp_load::{Carrier, EspPair, UdpLoad, UdpOutcome, UdpShape, tcp_stream};
use integration::kernel::is_emulated;
use integration::{Lab, packages};
use serde::Serialize;

use super::Options;
use crate::{build, kernel, root};

/// A carrier as the command line spells it.
#[derive(Clone, Copy)]
pub(super) struct Measured(Carrier);

impl Measured {
    /// What any machine has.
    const USUAL: [Self; 4] =
        [Self(Carrier::Holdfast), Self(Carrier::StrongSwanLibipsec), Self(Carrier::Boringtun), Self(Carrier::Veth)];
    /// What says something of the kernel.
    const IN_GUEST: [Self; 3] = [Self(Carrier::HoldfastKernel), Self(Carrier::Holdfast), Self(Carrier::Veth)];
}

impl std::fmt::Display for Measured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for Measured {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Carrier::ALL.into_iter().find(|carrier| carrier.name() == text);
        let names = Carrier::ALL.map(Carrier::name);
        found.map(Self).ok_or_else(|| format!("\"{text}\" is none of {}", names.join(", ")))
    }
}

const CASES: [&str; 4] = ["tcp1", "udp1200", "pps64", "rekey100"];
const UDP_1200: UdpShape = UdpShape { payload: 1200, segmented: true };
/// IPv4 (20), UDP (8) and 36 are 64 octets.
const UDP_64: UdpShape = UdpShape { payload: 36, segmented: false };
const REKEYS: u64 = 100;

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    bench: &'static str,
    subject: &'static str,
    case: &'static str,
    /// Payload that arrived, TCP's or UDP's.
    gbit_s: f64,
    /// Packets that arrived; not for TCP, whose packets the kernel sizes.
    mpps: Option<f64>,
    lost: Option<u64>,
    reordered: Option<u64>,
    /// How often the keys were replaced meanwhile.
    rekeys: Option<u64>,
}

/// Measures in the guest, by this same program.
pub(super) fn run_in_guest(options: &Options, binaries: &Binaries) -> Result<bool> {
    packages::ensure(&packages::BASE)?;
    let mut words = vec!["bench".to_owned(), "esp".to_owned(), format!("--seconds={}", options.seconds)];
    words.extend(options.case.iter().map(|case| format!("--case={case}")));
    words.extend(options.carrier.iter().map(|carrier| format!("--carrier={carrier}")));
    words.extend(options.json.then(|| "--json".to_owned()));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    kernel::again_in_guest(options.kernelbox.clone(), binaries, &words)
}

/// Runs each case for each carrier; `false` when we lost or reordered a packet across a rekey.
pub(super) fn run(options: &Options) -> Result<bool> {
    root::ensure()?;
    for case in &options.case {
        ensure!(CASES.contains(&case.as_str()), "\"{case}\" is none of {}", CASES.join(", "));
    }
    let asked = |case: &&&str| options.case.is_empty() || options.case.iter().any(|asked| asked == **case);
    let mut held = true;
    let usual = if is_emulated() { &Measured::IN_GUEST[..] } else { &Measured::USUAL };
    let carriers = if options.carrier.is_empty() { usual } else { &options.carrier };
    for Measured(carrier) in carriers {
        let boringtun = match carrier {
            Carrier::StrongSwanLibipsec => packages::ensure(&packages::PEERS).map(|()| None)?,
            Carrier::Boringtun => Some(boringtun()?),
            _ => None,
        };
        let lab = Lab::new("esp")?;
        let pair = EspPair::build(&lab, *carrier, boringtun.as_deref())?;
        for case in CASES.iter().filter(asked) {
            let Some(line) = measure(&lab, &pair, *carrier, case, Duration::from_secs(options.seconds))? else {
                continue;
            };
            held &= line.rekeys.is_none() || (line.lost, line.reordered) == (Some(0), Some(0));
            print(&line, options.json)?;
        }
    }
    Ok(held)
}

fn measure(lab: &Lab, pair: &EspPair, carrier: Carrier, case: &'static str, time: Duration) -> Result<Option<Line>> {
    let [from, to] = pair.ends();
    let subject = carrier.name();
    let udp = |shape: UdpShape, outcome: UdpOutcome, rekeys| Line {
        bench: "esp",
        subject,
        case,
        gbit_s: outcome.per_s * f64::from(shape.payload) * 8.0 / 1e9,
        mpps: Some(outcome.per_s / 1e6),
        lost: Some(outcome.lost),
        reordered: Some(outcome.reordered),
        rekeys,
    };
    let loaded = |shape: UdpShape| -> Result<Line> {
        let load = UdpLoad::start(from, to, shape)?;
        std::thread::sleep(time);
        Ok(udp(shape, load.finish()?, None))
    };
    Ok(Some(match case {
        "tcp1" => {
            let gbit_s = tcp_stream(from, to, time)? * 8.0 / 1e9;
            Line { bench: "esp", subject, case, gbit_s, mpps: None, lost: None, reordered: None, rekeys: None }
        }
        "udp1200" => loaded(UDP_1200)?,
        "pps64" => loaded(UDP_64)?,
        _ => {
            let Some(edge) = pair.edge() else { return Ok(None) };
            let load = UdpLoad::start(from, to, UDP_1200)?;
            let count = || -> Result<u64> {
                let tunnels = edge.json("show ipsec tunnel json")?;
                let entry = tunnels.pointer("/tun1").or_else(|| tunnels.pointer("/tunnels/0"));
                let rekeys = entry.and_then(|entry| entry.get("childRekeys")?.as_u64());
                rekeys.with_context(|| format!("no count of rekeys in {tunnels}"))
            };
            let before = count()?;
            for number in 1..=REKEYS {
                edge.shell("rekey ipsec tunnel tun1")?;
                lab.wait_for("the next rekey", Duration::from_secs(10), || Ok(count()? >= before + number))?;
            }
            let rekeys = count()? - before;
            udp(UDP_1200, load.finish()?, Some(rekeys))
        }
    }))
}

/// boringtun-cli, in `$BORINGTUN` or built from the registry into the workspace's target folder.
fn boringtun() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BORINGTUN") {
        return Ok(path.into());
    }
    let folder = build::workspace().join("target/boringtun");
    let program = folder.join("bin/boringtun-cli");
    if !program.is_file() {
        eprintln!("building boringtun-cli");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--quiet", "boringtun-cli", "--root"]).arg(&folder).current_dir(Path::new("/"));
        ensure!(cargo.status().context("cannot run cargo")?.success(), "boringtun-cli does not build");
    }
    Ok(program)
}

fn print(line: &Line, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
        return Ok(());
    }
    let or_dash = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    println!(
        "{:20} {:9} {:>7.3} Gbit/s {:>7} Mpps, lost {}, reordered {}, rekeys {}",
        line.subject,
        line.case,
        line.gbit_s,
        line.mpps.map_or_else(|| "-".to_owned(), |mpps| format!("{mpps:.3}")),
        or_dash(line.lost),
        or_dash(line.reordered),
        or_dash(line.rekeys)
    );
    Ok(())
}
