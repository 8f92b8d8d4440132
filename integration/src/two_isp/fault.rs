//! The faults of the scenario: armed beforehand, so that the moment they strike is known to a fraction of a millisecond.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use super::{NEIGHBORS_OF_B, TwoIsp, site_routes};
use crate::clock;
use crate::console::Console;
use crate::exec;
use crate::node::Node;

/// What goes wrong on the first path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Both links of the WAN go down.
    Cut,
    /// The WAN drops all packets; no link changes.
    Silent,
    /// The far ipsecd deletes the tunnel.
    Sa,
    /// The far bgpd closes the session; the tunnel lives.
    Session,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cut, Self::Silent, Self::Sa, Self::Session];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Silent => "silent",
            Self::Sa => "sa",
            Self::Session => "session",
        }
    }

    /// What happens, for people.
    pub fn story(self) -> &'static str {
        match self {
            Self::Cut => "both links of ISP 1 go down",
            Self::Silent => "ISP 1 drops every packet, its links stay up",
            Self::Sa => "site B deletes tunnel tun1",
            Self::Session => "site B closes the BGP session over tun1, the tunnel lives",
        }
    }

    /// How it is mended, for people.
    pub fn mending(self) -> &'static str {
        match self {
            Self::Cut => "the links of ISP 1 come back",
            Self::Silent => "ISP 1 forwards again",
            Self::Sa => "site B starts tunnel tun1 again",
            Self::Session => "nothing to mend: the session comes back by itself",
        }
    }

    /// Whether the first path stays unusable until the fault is mended.
    pub fn lasts(self) -> bool {
        self != Self::Session
    }
}

impl std::str::FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|fault| fault.name() == text)
            .ok_or_else(|| format!("unknown fault \"{text}\", expected cut, silent, sa or session"))
    }
}

/// Lines for `ip -batch` in ISP 1.
pub(super) const CUT: &str = "link set to-a down\nlink set to-b down\n";
/// A rule beside the one for local addresses: forwarding ends, and no ICMP tells anyone.
pub(super) const SILENCE: &str = "rule add pref 0 blackhole\n";
pub(super) const UNSILENCE: &str = "rule del pref 0 blackhole\n";

pub(super) fn uncut() -> String {
    format!("link set to-a up\nlink set to-b up\n{}", site_routes("198.51.100"))
}

/// A fault ready to strike: no process has to be started at the moment itself.
#[derive(Debug)]
pub struct Armed {
    fault: Fault,
    lever: Lever,
}

/// What the fault is done with.
#[derive(Debug)]
enum Lever {
    /// `ip -batch` in ISP 1, waiting for its next line.
    Batch(Batch),
    /// A connection with one of site B's daemons.
    Daemon(Console),
}

impl Armed {
    /// Prepares a fault.
    pub fn new(scenario: &TwoIsp<'_>, fault: Fault) -> Result<Self> {
        let lever = match fault {
            Fault::Cut | Fault::Silent => Lever::Batch(Batch::start(&scenario.isp1)?),
            Fault::Sa => Lever::Daemon(Console::of_ipsecd(&scenario.b)?),
            Fault::Session => Lever::Daemon(Console::of_bgpd(&scenario.b)?),
        };
        Ok(Self { fault, lever })
    }

    /// Strikes; gives back when (monotonic nanoseconds).
    pub fn strike(&mut self) -> Result<i64> {
        let at = clock::monotonic_ns();
        match self.fault {
            Fault::Cut => self.lever.push(CUT)?,
            Fault::Silent => self.lever.push(SILENCE)?,
            Fault::Sa => self.lever.push("terminate ipsec tunnel tun1")?,
            Fault::Session => self.lever.push(&format!("clear bgp {}", NEIGHBORS_OF_B[0]))?,
        }
        Ok(at)
    }

    /// Mends; gives back when.
    pub fn mend(&mut self) -> Result<i64> {
        let at = clock::monotonic_ns();
        match self.fault {
            Fault::Cut => self.lever.push(&uncut())?,
            Fault::Silent => self.lever.push(UNSILENCE)?,
            Fault::Sa => self.lever.push("initiate ipsec tunnel tun1")?,
            Fault::Session => {}
        }
        Ok(at)
    }
}

impl Lever {
    fn push(&mut self, words: &str) -> Result<()> {
        match self {
            Self::Batch(batch) => batch.write(words),
            Self::Daemon(console) => console.execute(words),
        }
    }
}

/// A program that does each line as it comes.
#[derive(Debug)]
pub(super) struct Batch(Child);

impl Batch {
    pub(super) fn start(node: &Node) -> Result<Self> {
        let argv = ["ip", "-o", "-batch", "-"];
        let start =
            || -> Result<Child> { Ok(exec::command(&argv)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?) };
        let mut batch = Self(node.enter(start)??);
        // Once it has answered one line, the program is loaded and reads.
        batch.write("link show dev lo\n")?;
        let mut answer = String::new();
        BufReader::new(batch.0.stdout.take().context("no standard output")?).read_line(&mut answer)?;
        ensure!(answer.contains("lo:"), "`ip -batch` answered {answer:?}");
        Ok(batch)
    }

    pub(super) fn write(&mut self, lines: &str) -> Result<()> {
        let input = self.0.stdin.as_mut().context("no standard input")?;
        input.write_all(lines.as_bytes())?;
        Ok(input.flush()?)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("`ip -batch` did not end: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("fire".parse::<Fault>().is_err());
    }
}
