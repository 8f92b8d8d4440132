//! Access-lists: the older way to name prefixes. A rule covers everything within its prefix unless it says `exact-match`.

use std::net::Ipv4Addr;

use net_types::Prefix;

use super::Action;

/// What a rule of an access-list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTarget {
    /// `any`
    Any,
    /// Prefixes within this one.
    Within(Prefix),
    /// `exact-match`: this prefix.
    Exactly(Prefix),
    /// IPv4 prefixes, of any length, whose address has these bits where the wildcard has zeros.
    Wildcard {
        /// Bits to have.
        address: Ipv4Addr,
        /// Ones where they do not matter.
        wildcard: Ipv4Addr,
    },
}

impl AccessTarget {
    fn matches(&self, prefix: &Prefix) -> bool {
        match self {
            Self::Any => true,
            Self::Within(outer) => outer.covers(prefix),
            Self::Exactly(only) => only == prefix,
            Self::Wildcard { address, wildcard } => match prefix.address() {
                std::net::IpAddr::V4(found) => (u32::from(found) ^ u32::from(*address)) & !u32::from(*wildcard) == 0,
                std::net::IpAddr::V6(_) => false,
            },
        }
    }
}

/// Rules in order; the first that matches decides, and none denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    name: String,
    rules: Vec<(Action, AccessTarget)>,
}

impl AccessList {
    /// The list `name` with these rules, in this order. Without any, as if it were not defined, it denies everything.
    pub fn new(name: impl Into<String>, rules: impl IntoIterator<Item = (Action, AccessTarget)>) -> Self {
        Self { name: name.into(), rules: rules.into_iter().collect() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the first matching rule says.
    pub fn evaluate(&self, prefix: &Prefix) -> Action {
        let rule = self.rules.iter().find(|(_, target)| target.matches(prefix));
        rule.map_or(Action::Deny, |(action, _)| *action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_what_is_within_it() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        let wildcard = AccessTarget::Wildcard {
            address: Ipv4Addr::new(192, 168, 1, 0),
            wildcard: Ipv4Addr::new(0, 0, 254, 255), // odd third octets
        };
        let list = AccessList::new(
            "l",
            [
                (Action::Deny, AccessTarget::Exactly(prefix("10.1.0.0/16"))),
                (Action::Permit, AccessTarget::Within(prefix("10.0.0.0/8"))),
                (Action::Permit, wildcard),
            ],
        );
        for (text, action) in [
            ("10.0.0.0/8", Action::Permit),
            ("10.1.0.0/16", Action::Deny),
            ("10.1.0.0/17", Action::Permit),
            ("192.168.3.0/24", Action::Permit),
            ("192.168.2.0/24", Action::Deny),
            ("0.0.0.0/0", Action::Deny),
            ("2001:db8::/32", Action::Deny),
        ] {
            assert_eq!(list.evaluate(&prefix(text)), action, "{text}");
        }
        assert_eq!(
            AccessList::new("l", [(Action::Permit, AccessTarget::Any)]).evaluate(&prefix("::/0")),
            Action::Permit
        );
    }
}
