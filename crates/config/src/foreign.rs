//! Sections that this version does not have, passed over when lines may be unknown.
//!
//! Where such a section ends has to be known without its grammar, or its lines would be taken for those of the section
//! around it (`neighbor … activate` within `address-family l2vpn evpn`).

use crate::grammar::Word;

/// A section that is being passed over.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    /// Octets before the line that begins it.
    indent: usize,
    /// Whether a line of it is indented deeper than that: then it ends where the indentation does.
    deeper: bool,
    /// Sections within it that have not ended.
    depth: usize,
    outermost: bool,
}

/// First words of lines that begin a section in FRR.
const OPENERS: [&str; 13] = [
    "address-family",
    "bmp",
    "interface",
    "key",
    "l2vpn",
    "nexthop-group",
    "pbr-map",
    "pseudowire",
    "route-map",
    "router",
    "rpki",
    "segment-routing",
    "vrf",
];
/// First words of lines that stand outside of any section.
const OUTSIDE: [&str; 9] = ["access-list", "bfd", "interface", "ip", "ipv6", "line", "route-map", "router", "vrf"];

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is of the section.
    Within,
    /// It ends the section, and says no more.
    Ends,
    /// The section has ended before it.
    Beyond,
}

impl Foreign {
    /// The section that an unknown line begins, if it begins one.
    pub(crate) fn begun_by(words: &[Word<'_>]) -> Option<Self> {
        let first = words.first()?;
        let begins = OPENERS.contains(&first.text) && words.len() > 1 || first.text == "rpki";
        begins.then_some(Self {
            indent: first.start,
            deeper: false,
            depth: 0,
            outermost: first.text != "address-family",
        })
    }

    /// Whether a line belongs to the section.
    pub(crate) fn judge(&mut self, words: &[Word<'_>]) -> Verdict {
        let Some(first) = words.first() else { return Verdict::Within };
        if first.start > self.indent {
            self.deeper = true;
        } else if self.deeper && !first.text.starts_with("exit") {
            return Verdict::Beyond;
        }
        match first.text {
            "end" => Verdict::Beyond,
            "exit" | "quit" | "exit-address-family" | "exit-vrf" | "exit-vni" if self.depth == 0 => Verdict::Ends,
            "exit" | "quit" | "exit-address-family" | "exit-vrf" | "exit-vni" => {
                self.depth -= 1;
                Verdict::Within
            }
            // Without indentation only these are certain to stand elsewhere.
            word if first.start == 0 && self.outermost && OUTSIDE.contains(&word) => Verdict::Beyond,
            "router" | "route-map" | "interface" | "vrf" if first.start == 0 => Verdict::Beyond,
            "address-family" => {
                self.depth += usize::from(self.outermost);
                if self.outermost { Verdict::Within } else { Verdict::Beyond }
            }
            _ => Verdict::Within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::split;

    fn run(lines: &[&str]) -> Vec<Verdict> {
        let mut foreign = Foreign::begun_by(&split(lines[0])).expect("a section");
        lines[1..].iter().map(|line| foreign.judge(&split(line))).collect()
    }

    #[test]
    fn indentation_and_exits_end_a_section() {
        use Verdict::{Beyond, Ends, Within};
        assert_eq!(
            run(&[" address-family l2vpn evpn", "  neighbor 1.1.1.1 activate", " exit-address-family"]),
            [Within, Ends]
        );
        assert_eq!(
            run(&[" address-family l2vpn evpn", "  advertise-all-vni", " neighbor 1.1.1.1 bfd"]),
            [Within, Beyond]
        );
        assert_eq!(
            run(&["router bgp 1 vrf red", "address-family ipv4 unicast", "exit-address-family", "exit"]),
            [Within, Within, Ends]
        );
        assert_eq!(run(&["router ospf", "network 10.0.0.0/8 area 0", "router bgp 1"]), [Within, Beyond]);
        assert_eq!(run(&["interface eth0", " ip ospf cost 5", "ip route 10.0.0.0/8 blackhole"]), [Within, Beyond]);
    }

    #[test]
    fn a_line_that_begins_nothing_is_only_a_line() {
        assert!(Foreign::begun_by(&split("neighbor 1.1.1.1 solo")).is_none());
        assert!(Foreign::begun_by(&split("no router ospf")).is_none());
    }
}
