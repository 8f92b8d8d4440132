//! What is said of a neighbor's session and routes beyond the essentials.
//!
//! Nothing said is `None`, so that a neighbor takes over from its group what it does not say itself.

use std::time::Duration;

use net_types::Asn;

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$kind>,)*
        }

        impl $name {
            /// These settings, and what they leave open as `group` has it.
            pub fn or(&self, group: &Self) -> Self {
                Self { $($field: self.$field.or(group.$field),)* }
            }
        }
    };
}

settings! {
    /// Of a session.
    SessionSettings {
        /// `local-as ASN [no-prepend [replace-as]]`
        local_as: LocalAs,
        /// `enforce-first-as`: refuse paths that do not start with the neighbor's AS; off unless said.
        enforce_first_as: bool,
        /// `advertisement-interval`: least time between UPDATEs; none unless said.
        advertisement_interval: Duration,
        /// `solo`: messages are made for this neighbor alone.
        solo: bool,
        /// `sender-as-path-loop-detection`: keep back what the neighbor would take for a loop.
        sender_loop_detection: bool,
        /// `dont-capability-negotiate`
        dont_capability_negotiate: bool,
        /// `override-capability`
        override_capability: bool,
        /// `strict-capability-match`
        strict_capability_match: bool,
        /// `extended-optional-parameters` (RFC 9072)
        extended_optional_parameters: bool,
        /// `capability extended-nexthop` (RFC 8950)
        extended_next_hop: bool,
        /// `capability fqdn`: tell our host name; on unless `no` is said.
        tell_hostname: bool,
        /// `capability software-version`: tell our version; off unless said.
        tell_software_version: bool,
        /// `local-role ROLE [strict-mode]` (RFC 9234)
        role: LocalRole,
        /// `tcp-mss`
        tcp_mss: u16,
    }
}

settings! {
    /// Of the routes of one family.
    RouteSettings {
        /// `route-reflector-client` (RFC 4456)
        route_reflector_client: bool,
        /// `route-server-client` (RFC 7947)
        route_server_client: bool,
        /// `route-server-client best-path-only`: no view of its own.
        route_server_best_only: bool,
        /// `advertise-best-external` (draft-ietf-idr-best-external)
        advertise_best_external: bool,
        /// `addpath-tx-all-paths` (RFC 7911)
        addpath_tx_all_paths: bool,
        /// `addpath-tx-bestpath-per-AS`
        addpath_tx_bestpath_per_as: bool,
        /// `disable-addpath-rx`
        disable_addpath_rx: bool,
        /// `next-hop-self force`: also for routes that are reflected.
        next_hop_self_force: bool,
        /// `allowas-in`
        allow_own_as: AllowOwnAs,
        /// `remove-private-AS`
        remove_private_as: RemovePrivateAs,
        /// `as-override`
        as_override: bool,
        /// `attribute-unchanged`
        attribute_unchanged: AttributeUnchanged,
        /// `send-community standard`; on unless `no` is said.
        send_standard: bool,
        /// `send-community extended`; on unless `no` is said.
        send_extended: bool,
        /// `send-community large`; on unless `no` is said.
        send_large: bool,
    }
}

/// `local-as ASN [no-prepend [replace-as]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAs {
    /// The AS that the neighbor takes us for.
    pub asn: Asn,
    /// Do not put it in front of what the neighbor sends.
    pub no_prepend: bool,
    /// Do not show our own AS behind it.
    pub replace_as: bool,
}

/// `allowas-in [NUMBER|origin]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowOwnAs {
    /// Not at all, whatever the group says.
    No,
    /// Up to this often.
    Times(u8),
    /// If the route is ours.
    Origin,
}

/// `remove-private-AS [all] [replace-AS]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovePrivateAs {
    /// Not at all, whatever the group says.
    No,
    /// As said.
    Yes {
        /// From every path, not only from those that have no other AS.
        all: bool,
        /// Put ours in their place.
        replace: bool,
    },
}

/// `attribute-unchanged [as-path] [next-hop] [med]`; without any of them, all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeUnchanged {
    /// `as-path`
    pub as_path: bool,
    /// `next-hop`
    pub next_hop: bool,
    /// `med`
    pub med: bool,
}

/// `local-role ROLE [strict-mode]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRole {
    /// What we are to the neighbor.
    pub role: Role,
    /// Refuse a neighbor that says nothing of its role.
    pub strict: bool,
}

/// What a speaker is to its neighbor (RFC 9234 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `provider`
    Provider,
    /// `rs-server`
    RouteServer,
    /// `rs-client`
    RouteServerClient,
    /// `customer`
    Customer,
    /// `peer`
    Peer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Provider, Self::RouteServer, Self::RouteServerClient, Self::Customer, Self::Peer];

    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "rs-server",
            Self::RouteServerClient => "rs-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbor_says_more_than_its_group() {
        let group = SessionSettings { solo: Some(true), tcp_mss: Some(1400), ..SessionSettings::default() };
        let member = SessionSettings { solo: Some(false), role: None, ..SessionSettings::default() };
        let both = member.or(&group);
        assert_eq!((both.solo, both.tcp_mss), (Some(false), Some(1400)));
    }
}
