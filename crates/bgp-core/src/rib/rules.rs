//! What is configured about a peer's routes besides policy: whose AS is on the path, who reflects what to whom, what is
//! passed on unchanged (RFC 4456, RFC 5065, RFC 7947 §2.2, and what operators know from FRR as `local-as`, `allowas-in`,
//! `remove-private-AS`, `as-override`, `attribute-unchanged`, `send-community`).

use net_types::Asn;

/// `local-as ASN`: the peer takes us for a member of another AS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alias {
    /// The AS that it takes us for.
    pub asn: Asn,
    /// That AS is put in front of what the peer sends (unless `no-prepend`).
    pub prepend_received: bool,
    /// Our own AS stays on the path behind it (unless `replace-as`).
    pub keep_own: bool,
}

/// How often our own AS may be on a path that a peer sends: `allowas-in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllowOwnAs {
    /// This often; none is what RFC 4271 §9.1.2 asks for.
    Times(u8),
    /// As often as it likes if we originated the route (`allowas-in origin`).
    Origin,
}

impl Default for AllowOwnAs {
    fn default() -> Self {
        Self::Times(0)
    }
}

/// `remove-private-AS`: what becomes of private AS numbers (RFC 6996) on paths to an external peer. The peer's own
/// number stays, or it could not see a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RemovePrivate {
    /// On every path, not only on those that have no other (`all`).
    pub all: bool,
    /// Ours takes their place (`replace-AS`).
    pub replace: bool,
}

/// `attribute-unchanged`: what is passed to an external peer as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unchanged {
    /// AS_PATH: ours is not put in front.
    pub as_path: bool,
    /// The next hop.
    pub next_hop: bool,
    /// MULTI_EXIT_DISC.
    pub med: bool,
}

impl Unchanged {
    /// As a route server passes routes on (RFC 7947 §2.2).
    pub const TRANSPARENT: Self = Self { as_path: true, next_hop: true, med: true };
}

/// Which communities a peer does not get: `no … send-community`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Withheld {
    /// RFC 1997
    pub standard: bool,
    /// RFC 4360
    pub extended: bool,
    /// RFC 8092
    pub large: bool,
}

/// What is configured about one family of a peer; the default is what the RFCs ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// `route-reflector-client` (RFC 4456 §6)
    pub reflector_client: bool,
    /// `allowas-in`
    pub allow_own_as: AllowOwnAs,
    /// `remove-private-AS`
    pub remove_private: Option<RemovePrivate>,
    /// `as-override`: ours takes the place of the peer's own AS on paths to it.
    pub as_override: bool,
    /// `attribute-unchanged`, `route-server-client`
    pub unchanged: Unchanged,
    /// An external peer is told the best path of those that policy permits and that are not its own, rather than the best
    /// path or none (RFC 7947 §2.3.2).
    pub own_view: bool,
    /// `advertise-best-external`: where the best path may not go to this internal peer because it is an internal one, the
    /// best of those that may takes its place (draft-ietf-idr-best-external).
    pub best_external: bool,
    /// `send-community`
    pub withheld: Withheld,
}
