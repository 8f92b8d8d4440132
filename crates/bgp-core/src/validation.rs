//! Route origin validation: which AS may originate which prefix (RFC 6811).
//!
//! The table holds validated ROA payloads as a cache serves them (RFC 8210). A cache is trusted with what it says and not
//! with our time: a look-up probes the prefix lengths that occur, and within a prefix finds an AS by search, so that a
//! million payloads for one prefix cost as little as a million for as many.
//!
//! States are worked out when they are asked for and kept nowhere: a path costs no memory for being validated.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use bgp_wire::AsPath;
use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashSet};
use net_types::{Asn, Family, Prefix};

/// What the payloads say about the origin of a route (RFC 6811 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValidationState {
    /// Some payload covers the prefix, is for its origin AS, and allows its length.
    Valid,
    /// Payloads cover the prefix, and none of them matches.
    Invalid,
    /// No payload covers the prefix.
    NotFound,
}

impl ValidationState {
    /// As `match rpki` and `show bgp … rpki` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::NotFound => "notfound",
        }
    }
}

impl fmt::Display for ValidationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A validated ROA payload: `asn` may originate `prefix` and what it covers up to `max_bits` (RFC 6811 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roa {
    prefix: Prefix,
    asn: Option<Asn>,
    max_bits: u8,
}

/// A payload whose lengths contradict each other (RFC 8210 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("maximum length {max_bits} of {prefix} is not between {} and {} (RFC 8210 §5.6)", prefix.bits(), prefix.family().max_bits())]
pub struct RoaLength {
    /// Which prefix.
    pub prefix: Prefix,
    /// What was found.
    pub max_bits: u8,
}

impl Roa {
    /// A payload; `None` stands for AS 0, which nobody is: nobody may originate the prefix (RFC 6483 §4).
    ///
    /// # Errors
    /// When the maximum length is less than the prefix's own, or more than the family has.
    pub fn new(prefix: Prefix, max_bits: u8, asn: Option<Asn>) -> Result<Self, RoaLength> {
        if (prefix.bits()..=prefix.family().max_bits()).contains(&max_bits) {
            Ok(Self { prefix, asn, max_bits })
        } else {
            Err(RoaLength { prefix, max_bits })
        }
    }

    /// What may be originated.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// How long a covered prefix may be, in bits.
    pub fn max_bits(&self) -> u8 {
        self.max_bits
    }

    /// By whom; `None` for AS 0.
    pub fn asn(&self) -> Option<Asn> {
        self.asn
    }
}

/// Payloads that came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoaChanges {
    /// These are in from now on.
    pub announced: Vec<Roa>,
    /// These are out; one that is also announced is in.
    pub withdrawn: Vec<Roa>,
}

/// A set of prefixes that answers whether one of them covers another prefix.
///
/// A look-up takes a probe for each length that occurs, which are few: ROAs have some 20 in each family.
#[derive(Clone, Debug)]
pub(crate) struct Covering {
    /// How many payloads each prefix has.
    prefixes: HashMap<Prefix, u32, FixedState>,
    /// How many prefixes have each length, by family.
    lengths: Box<[[u32; 129]; 2]>,
}

impl Covering {
    pub(crate) fn new(seed: u64) -> Self {
        Self { prefixes: HashMap::with_hasher(FixedState::with_seed(seed)), lengths: Box::new([[0; 129]; 2]) }
    }

    fn add(&mut self, prefix: Prefix) {
        let count = self.prefixes.entry(prefix).or_default();
        *count += 1;
        if *count == 1 {
            self.lengths[prefix.family() as usize][usize::from(prefix.bits())] += 1;
        }
    }

    fn remove(&mut self, prefix: &Prefix) {
        let Some(count) = self.prefixes.get_mut(prefix) else { return };
        *count -= 1;
        if *count == 0 {
            self.prefixes.remove(prefix);
            self.lengths[prefix.family() as usize][usize::from(prefix.bits())] -= 1;
        }
    }

    /// The prefixes of the set that cover `prefix`, the longest first.
    fn covering(&self, prefix: &Prefix) -> impl Iterator<Item = Prefix> {
        // Payloads are about addresses of the Internet: they cover no prefix of a VPN (RFC 6811 §2).
        let address = prefix.address();
        let lengths = self.lengths.get(prefix.family() as usize).unwrap_or(&[0; 129]);
        (0..=prefix.bits())
            .rev()
            .filter(|bits| lengths[usize::from(*bits)] > 0)
            .filter_map(move |bits| Prefix::new(address, bits).ok())
            .filter(|prefix| self.prefixes.contains_key(prefix))
    }

    /// Whether a prefix of the set covers `prefix`.
    pub(crate) fn covers(&self, prefix: &Prefix) -> bool {
        self.covering(prefix).next().is_some()
    }

    /// Whether it has a prefix of `family`.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.lengths.get(family as usize).is_some_and(|lengths| lengths.iter().any(|count| *count > 0))
    }
}

/// Every payload in force.
#[derive(Clone, Debug)]
pub struct RoaTable {
    roas: BTreeSet<Roa>,
    covering: Covering,
}

impl RoaTable {
    /// An empty table; caches choose the keys, so `seed` should not be guessable.
    pub fn new(seed: u64) -> Self {
        Self { roas: BTreeSet::new(), covering: Covering::new(seed) }
    }

    /// Puts a payload in; whether it is new.
    pub fn insert(&mut self, roa: Roa) -> bool {
        let new = self.roas.insert(roa);
        if new {
            self.covering.add(roa.prefix);
        }
        new
    }

    /// Takes a payload out; whether it was there.
    pub fn remove(&mut self, roa: &Roa) -> bool {
        let there = self.roas.remove(roa);
        if there {
            self.covering.remove(&roa.prefix);
        }
        there
    }

    /// Payloads in force.
    pub fn len(&self) -> usize {
        self.roas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.roas.is_empty()
    }

    /// Every payload, in order of prefix.
    pub fn iter(&self) -> impl Iterator<Item = &Roa> {
        self.roas.iter()
    }

    /// The payloads after `last` in order of prefix, or from the first: for walks by the piece.
    pub fn after(&self, last: Option<&Roa>) -> impl Iterator<Item = &Roa> {
        use std::ops::Bound;
        let from = last.map_or(Bound::Unbounded, |last| Bound::Excluded(*last));
        self.roas.range((from, Bound::Unbounded))
    }

    /// The payloads that cover `prefix`, those of the longest prefix first.
    pub fn covering(&self, prefix: &Prefix) -> impl Iterator<Item = &Roa> {
        self.covering.covering(prefix).flat_map(|covering| {
            let first = Roa { prefix: covering, asn: None, max_bits: 0 };
            self.roas.range(first..).take_while(move |roa| roa.prefix == covering)
        })
    }

    /// What is to be thought of a route of `prefix` that came along `path`. `own` is the AS of this router, where a
    /// route without a path originates. A path that does not end with a sequence names no origin, and matches nothing
    /// (RFC 6811 §2).
    pub fn validate(&self, prefix: &Prefix, path: &AsPath, own: Asn) -> ValidationState {
        // A path of confederation segments alone has not left our AS either.
        let origin = if path.hop_count() == 0 { Some(own) } else { path.origin() };
        self.validate_origin(prefix, origin)
    }

    /// The same for an origin that is known; `None` matches nothing.
    pub fn validate_origin(&self, prefix: &Prefix, origin: Option<Asn>) -> ValidationState {
        let mut state = ValidationState::NotFound;
        for covering in self.covering.covering(prefix) {
            state = ValidationState::Invalid;
            let Some(origin) = origin else { return state };
            let roa = |max_bits| Roa { prefix: covering, asn: Some(origin), max_bits };
            if self.roas.range(roa(prefix.bits())..=roa(u8::MAX)).next().is_some() {
                return ValidationState::Valid;
            }
        }
        state
    }

    /// Makes changes; gives the prefixes of those that were news, for whoever has to look again at what they cover.
    pub(crate) fn apply(&mut self, changes: &RoaChanges) -> Vec<Prefix> {
        let mut touched = Vec::new();
        let announced: HashSet<&Roa, FixedState> = {
            let mut set = HashSet::with_hasher(self.covering.prefixes.hasher().clone());
            set.extend(&changes.announced);
            set
        };
        for roa in changes.withdrawn.iter().filter(|roa| !announced.contains(roa)) {
            if self.remove(roa) {
                touched.push(roa.prefix);
            }
        }
        for roa in &changes.announced {
            if self.insert(*roa) {
                touched.push(roa.prefix);
            }
        }
        touched
    }
}

/// Prefixes whose payloads changed since the routes that they cover were last looked at.
#[derive(Clone, Debug)]
pub(crate) struct Touched(pub(crate) Covering);

impl Touched {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Covering::new(seed))
    }

    pub(crate) fn extend(&mut self, prefixes: impl IntoIterator<Item = Prefix>) {
        for prefix in prefixes {
            if !self.0.prefixes.contains_key(&prefix) {
                self.0.add(prefix);
            }
        }
    }
}

/// The address of a prefix in a payload, with host bits that a cache must not set (RFC 8210 §5.6) cleared.
pub fn roa_prefix(address: IpAddr, bits: u8) -> Option<Prefix> {
    Prefix::new(address, bits).ok().filter(|prefix| prefix.address() == address)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bgp_wire::{Segment, SegmentKind};
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn roa(text: &str, max_bits: u8, asn: u32) -> Roa {
        Roa::new(prefix(text), max_bits, asn.try_into().ok()).unwrap()
    }

    fn table(roas: &[Roa]) -> RoaTable {
        let mut table = RoaTable::new(1);
        roas.iter().for_each(|roa| assert!(table.insert(*roa)));
        table
    }

    const OWN: Asn = Asn::literal(65000);

    #[test]
    fn a_route_is_valid_by_origin_and_length() {
        let table = table(&[roa("10.0.0.0/8", 16, 1), roa("10.1.0.0/16", 24, 2), roa("2001:db8::/32", 48, 1)]);
        for (text, origin, state) in [
            ("10.0.0.0/8", 1, ValidationState::Valid),
            ("10.1.0.0/16", 1, ValidationState::Valid),
            ("10.1.2.0/24", 2, ValidationState::Valid),
            ("10.1.2.0/24", 1, ValidationState::Invalid),
            ("10.1.2.0/25", 2, ValidationState::Invalid),
            ("10.0.0.0/7", 1, ValidationState::NotFound),
            ("11.0.0.0/8", 1, ValidationState::NotFound),
            ("2001:db8:1::/48", 1, ValidationState::Valid),
            ("2001:db8:1:1::/64", 1, ValidationState::Invalid),
            ("::/0", 1, ValidationState::NotFound),
        ] {
            let path = AsPath::sequence([Asn::literal(7), Asn::literal(origin)]);
            assert_eq!(table.validate(&prefix(text), &path, OWN), state, "{text} from AS{origin}");
        }
    }

    #[test]
    fn a_set_at_the_end_names_no_origin_and_an_empty_path_is_ours() {
        let table = table(&[roa("10.0.0.0/8", 8, 1), roa("11.0.0.0/8", 8, 65000)]);
        let aggregated = AsPath::from_segments([
            Segment { kind: SegmentKind::Sequence, asns: [Asn::literal(7)].into_iter().collect() },
            Segment { kind: SegmentKind::Set, asns: [Asn::literal(1)].into_iter().collect() },
        ]);
        assert_eq!(table.validate(&prefix("10.0.0.0/8"), &aggregated, OWN), ValidationState::Invalid);
        assert_eq!(table.validate(&prefix("12.0.0.0/8"), &aggregated, OWN), ValidationState::NotFound);
        assert_eq!(table.validate(&prefix("11.0.0.0/8"), &AsPath::default(), OWN), ValidationState::Valid);
    }

    #[test]
    fn nobody_is_as_zero() {
        let table = table(&[roa("10.0.0.0/8", 32, 0)]);
        assert_eq!(table.validate_origin(&prefix("10.0.0.0/8"), None), ValidationState::Invalid);
        assert_eq!(table.validate_origin(&prefix("10.0.0.0/8"), Some(Asn::literal(1))), ValidationState::Invalid);
    }

    #[test]
    fn lengths_have_to_make_sense() {
        assert!(Roa::new(prefix("10.0.0.0/8"), 7, None).is_err());
        let error = Roa::new(prefix("10.0.0.0/8"), 33, None).unwrap_err();
        assert_eq!(error.to_string(), "maximum length 33 of 10.0.0.0/8 is not between 8 and 32 (RFC 8210 §5.6)");
        assert_eq!(roa_prefix("10.0.0.1".parse().unwrap(), 8), None, "host bits are set");
    }

    #[test]
    fn only_news_touch_anything() {
        let mut table = table(&[roa("10.0.0.0/8", 8, 1)]);
        let changes = RoaChanges {
            announced: vec![roa("10.0.0.0/8", 8, 1), roa("11.0.0.0/8", 8, 1)],
            withdrawn: vec![roa("10.0.0.0/8", 8, 1), roa("12.0.0.0/8", 8, 1)],
        };
        assert_eq!(table.apply(&changes), [prefix("11.0.0.0/8")]);
        assert_eq!(table.len(), 2);
        let mut touched = Touched::new(1);
        touched.extend([prefix("11.0.0.0/8"), prefix("11.0.0.0/8")]);
        assert!(touched.0.covers(&prefix("11.5.0.0/16")) && !touched.0.covers(&prefix("10.0.0.0/8")));
    }

    fn any_roa() -> impl Strategy<Value = Roa> {
        // Few distinct bits, so that payloads nest, repeat and match.
        (0u8..4, 0u8..4, 0u8..=10, 0u8..=32, 0u32..4).prop_map(|(a, b, bits, max, asn)| {
            let prefix = Prefix::new(Ipv4Addr::new(a << 6, b << 6, 0, 0).into(), bits).unwrap();
            Roa::new(prefix, max.max(bits), asn.try_into().ok()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn look_ups_agree_with_the_definition(
            steps in proptest::collection::vec((any::<bool>(), any_roa()), 0..60),
            route in any_roa(),
        ) {
            let (mut table, mut model) = (RoaTable::new(3), BTreeSet::new());
            for (add, roa) in steps {
                if add {
                    prop_assert_eq!(table.insert(roa), model.insert(roa));
                } else {
                    prop_assert_eq!(table.remove(&roa), model.remove(&roa));
                }
            }
            let covering: Vec<&Roa> = model.iter().filter(|roa| roa.prefix.covers(&route.prefix)).collect();
            let matches = |roa: &&&Roa| roa.asn.is_some() && roa.asn == route.asn && roa.max_bits >= route.prefix.bits();
            let expected = match covering.iter().find(matches) {
                _ if covering.is_empty() => ValidationState::NotFound,
                Some(_) => ValidationState::Valid,
                None => ValidationState::Invalid,
            };
            prop_assert_eq!(table.validate_origin(&route.prefix, route.asn), expected);
            prop_assert!(table.iter().eq(&model));
        }
    }
}
