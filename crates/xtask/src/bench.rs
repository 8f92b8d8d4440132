//! `cargo xtask bench`: the figures of the README, as lines of JSON.

mod bgp_table;
mod esp;
mod failover;
mod fib;
mod ike;
mod peers;
mod steady;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use integration::bgp_load::Kind;
use integration::packages;
use integration::two_isp::Fault;

use crate::build;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The measurement
    #[arg(value_enum)]
    name: Name,
    /// How many prefixes: one run for each [default: 1000,100000,1000000; bgp-table: 1000000]
    #[arg(long, value_delimiter = ',')]
    routes: Vec<usize>,
    /// Only these speakers: holdfast, bird, frr (failover: frr over strongSwan)
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Measured))]
    subject: Vec<Measured>,
    /// Only settings with so many peers [default: 10,500]
    #[arg(long, value_delimiter = ',')]
    peers: Vec<usize>,
    /// How often each fault strikes
    #[arg(long, default_value_t = 20)]
    trials: usize,
    /// esp: only these carriers: holdfast, holdfast-kernel, strongswan-libipsec, boringtun, veth [default: all but
    /// holdfast-kernel; in the guest: holdfast-kernel, holdfast, veth]
    #[arg(long, value_delimiter = ',')]
    carrier: Vec<esp::Measured>,
    /// esp: only these cases: tcp1, udp1200, pps64, rekey100; ike: psk-x25519, psk-ecp256, ecdsa-x25519, psk-x25519-mlkem768, many
    #[arg(long, value_delimiter = ',')]
    case: Vec<String>,
    /// esp: in a guest whose kernel has ESP, as for `cargo xtask test --kernel`
    #[arg(long)]
    kernel: bool,
    /// The program that boots the guest: PROGRAM --kernel new --timeout SECONDS -- COMMAND
    #[arg(long, value_name = "PROGRAM")]
    kernelbox: Option<PathBuf>,
    /// ike and steady: how many tunnels [default: 200; many: 5000]
    #[arg(long)]
    tunnels: Option<usize>,
    /// esp: how long each case is loaded, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// steady: how often keys are replaced, in all
    #[arg(long, default_value_t = 1_000)]
    rekeys: usize,
    /// Only these faults
    #[arg(long, value_delimiter = ',', default_values_t = Fault::ALL.map(Shown))]
    fault: Vec<Shown>,
    /// Lines of JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
    /// From a fault to traffic on the other path; beside FRR over strongSwan
    Failover,
    /// One neighbor sends a table, another receives it; beside BIRD and FRR
    BgpTable,
    /// Ten neighbors with large tables, and a route server with hundreds of clients; beside BIRD
    Peers,
    /// Routes into the kernel, beside a bare netlink writer
    Fib,
    /// Tunnels that come up at once, beside strongSwan's; and thousands in one daemon
    Ike,
    /// Hundreds of tunnels with BFD at rest, through rekeys and through a full table
    Steady,
    /// One TCP stream and UDP streams through a tunnel; beside strongSwan's kernel-libipsec, boringtun and a bare veth
    Esp,
}

/// A speaker as the command line spells it.
#[derive(Clone, Copy)]
struct Measured(Kind);

impl std::fmt::Display for Measured {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for Measured {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        found.map(Self).ok_or_else(|| format!("\"{text}\" is none of holdfast, bird, frr"))
    }
}

/// A fault as the command line spells it.
#[derive(Clone, Copy)]
struct Shown(Fault);

impl std::fmt::Display for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0.name())
    }
}

impl std::str::FromStr for Shown {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

/// Runs the measurement; `false` when a trial did not hold.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(!options.kernel || options.name == Name::Esp, "only esp is measured in the guest: leave out --kernel");
    let binaries = build::daemons()?;
    packages::ensure(&packages::BASE)?;
    match options.name {
        Name::Failover => failover::run(options, &binaries),
        Name::BgpTable => bgp_table::run(options, &binaries),
        Name::Peers => peers::run(options, &binaries),
        Name::Fib => fib::run(options),
        Name::Esp if options.kernel => esp::run_in_guest(options, &binaries),
        Name::Esp => esp::run(options),
        Name::Steady => steady::run(options, &binaries),
        Name::Ike => ike::run(options, &binaries),
    }
}

impl Options {
    /// How many prefixes, or else so many.
    fn routes_or(&self, default: &[usize]) -> Vec<usize> {
        if self.routes.is_empty() { default.to_vec() } else { self.routes.clone() }
    }

    /// Who is measured.
    fn subjects(&self) -> impl Iterator<Item = Kind> {
        self.subject.iter().map(|Measured(kind)| *kind)
    }
}
