//! The faults of the scenario: armed beforehand, so that the moment they strike is known to a fraction of a millisecond.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use super::{NEIGHBORS_OF_B, TwoIsp, site_routes};
use crate::clock;
use crate::exec;

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

/// A fault ready to strike.
#[derive(Debug)]
pub struct Armed {
    fault: Fault,
    /// `ip -batch` in ISP 1, waiting for its next line: no process has to be started at the moment itself.
    batch: Option<Child>,
}

impl Armed {
    /// Prepares a fault.
    pub fn new(scenario: &TwoIsp<'_>, fault: Fault) -> Result<Self> {
        let batch = match fault {
            Fault::Cut | Fault::Silent => Some(scenario.isp1.enter(|| -> Result<Child> {
                let argv = ["ip", "-o", "-batch", "-"];
                Ok(exec::command(&argv)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
            })??),
            Fault::Sa | Fault::Session => None,
        };
        let mut armed = Self { fault, batch };
        // Once it has answered one line, the program is loaded and reads.
        if let Some(batch) = &mut armed.batch {
            write_lines(batch, "link show dev lo\n")?;
            let mut answer = String::new();
            BufReader::new(batch.stdout.take().context("no standard output")?).read_line(&mut answer)?;
            ensure!(answer.contains("lo:"), "`ip -batch` answered {answer:?}");
        }
        Ok(armed)
    }

    /// Strikes; gives back when (monotonic nanoseconds).
    pub fn strike(&mut self, scenario: &TwoIsp<'_>) -> Result<i64> {
        let at = clock::monotonic_ns();
        match self.fault {
            Fault::Cut => self.batch("link set to-a down\nlink set to-b down\n")?,
            // A rule beside the one for local addresses: forwarding ends, and no ICMP tells anyone.
            Fault::Silent => self.batch("rule add pref 0 blackhole\n")?,
            Fault::Sa => scenario.b.shell("terminate ipsec tunnel tun1").map(drop)?,
            Fault::Session => scenario.b.shell(&format!("clear bgp {}", NEIGHBORS_OF_B[0])).map(drop)?,
        }
        Ok(at)
    }

    /// Mends; gives back when.
    pub fn mend(&mut self, scenario: &TwoIsp<'_>) -> Result<i64> {
        let at = clock::monotonic_ns();
        match self.fault {
            Fault::Cut => {
                let routes = site_routes("198.51.100");
                self.batch(&format!("link set to-a up\nlink set to-b up\n{routes}"))?;
            }
            Fault::Silent => self.batch("rule del pref 0 blackhole\n")?,
            Fault::Sa => scenario.b.shell("initiate ipsec tunnel tun1").map(drop)?,
            Fault::Session => {}
        }
        Ok(at)
    }

    fn batch(&mut self, lines: &str) -> Result<()> {
        write_lines(self.batch.as_mut().context("this fault has no batch")?, lines)
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let Some(mut batch) = self.batch.take() {
            drop(batch.stdin.take());
            if let Err(error) = batch.wait() {
                eprintln!("`ip -batch` did not end: {error}");
            }
        }
    }
}

fn write_lines(batch: &mut Child, lines: &str) -> Result<()> {
    let input = batch.stdin.as_mut().context("no standard input")?;
    input.write_all(lines.as_bytes())?;
    Ok(input.flush()?)
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
