//! The AS path as a peer gets it (RFC 4271 §5.1.2, RFC 5065 §4.1).

use bgp_wire::AsPath;
use net_types::Asn;

use crate::{
    decision::SourceKind,
    rib::{Alias, RemovePrivate},
};

/// All that the path towards a peer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PathRules {
    pub(crate) kind: SourceKind,
    /// Our AS towards the peer: towards those outside of a confederation, the confederation's.
    pub(crate) local_as: Asn,
    pub(crate) alias: Option<Alias>,
    pub(crate) unchanged: bool,
    pub(crate) remove_private: Option<RemovePrivate>,
    pub(crate) as_override: bool,
    /// Ours is not put in front.
    pub(crate) bare: bool,
    /// The peer's, where one of the above asks for it.
    pub(crate) remote_as: Option<Asn>,
}

impl PathRules {
    /// What is changed before policy sees the route.
    pub(crate) fn before_policy(&self, path: &mut AsPath) {
        if self.kind != SourceKind::External {
            return;
        }
        // RFC 5065 §4.1: what happened within the confederation is nobody's business outside.
        if path.segments().iter().any(|segment| segment.kind.is_confed()) {
            *path = path.without_confederation();
        }
        let front = self.front();
        let is_remote = |asn| Some(asn) == self.remote_as;
        if let Some(RemovePrivate { all, replace }) = self.remove_private
            && (all || path.asns().all(Asn::is_private))
        {
            path.map(|asn| match asn.is_private() && !is_remote(asn) {
                true => replace.then_some(front),
                false => Some(asn),
            });
        }
        if self.as_override {
            path.map(|asn| Some(if is_remote(asn) { front } else { asn }));
        }
    }

    /// What is put in front of whatever policy put there.
    pub(crate) fn finish(&self, path: &mut AsPath) {
        match self.kind {
            _ if self.bare => {}
            // A route of our own has to say where it comes from, even where nothing is changed otherwise.
            SourceKind::External if self.unchanged && !path.is_empty() => {}
            SourceKind::External => {
                if let Some(alias) = self.alias.filter(|alias| alias.asn != self.local_as) {
                    // Whoever is to see no private numbers is not to see ours behind the alias either.
                    let private = self.remove_private.is_some() && self.local_as.is_private();
                    if alias.keep_own && !private {
                        path.prepend(self.local_as, 1);
                    }
                    path.prepend(alias.asn, 1);
                } else {
                    path.prepend(self.local_as, 1);
                }
            }
            SourceKind::Confederation => path.prepend_confed(self.local_as),
            SourceKind::Internal | SourceKind::Local => {}
        }
    }

    /// The AS that the peer takes us for.
    pub(super) fn front(&self) -> Asn {
        self.alias.map_or(self.local_as, |alias| alias.asn)
    }
}

#[cfg(test)]
mod tests {
    use bgp_wire::{Segment, SegmentKind};

    use super::*;

    const fn asn(number: u32) -> Asn {
        Asn::literal(number)
    }

    const RULES: PathRules = PathRules {
        kind: SourceKind::External,
        local_as: asn(65001),
        alias: None,
        unchanged: false,
        remove_private: None,
        as_override: false,
        bare: false,
        remote_as: None,
    };

    fn sent(rules: PathRules, path: &[u32]) -> String {
        let mut path = AsPath::sequence(path.iter().map(|n| asn(*n)));
        rules.before_policy(&mut path);
        rules.finish(&mut path);
        path.to_string()
    }

    #[test]
    fn another_as_stands_for_ours() {
        let alias =
            |keep_own| PathRules { alias: Some(Alias { asn: asn(65009), prepend_received: true, keep_own }), ..RULES };
        assert_eq!(sent(RULES, &[7]), "65001 7");
        assert_eq!(sent(alias(true), &[7]), "65009 65001 7");
        assert_eq!(sent(alias(false), &[7]), "65009 7");
        assert_eq!(sent(PathRules { kind: SourceKind::Internal, ..alias(true) }, &[7]), "7");
    }

    #[test]
    fn private_numbers_go_from_private_paths_or_from_all() {
        let remove = |all, replace| PathRules {
            remove_private: Some(RemovePrivate { all, replace }),
            remote_as: Some(asn(64999)),
            ..RULES
        };
        assert_eq!(sent(remove(false, false), &[64512, 64513]), "65001");
        assert_eq!(sent(remove(false, false), &[64512, 3356]), "65001 64512 3356", "a public one protects the rest");
        assert_eq!(sent(remove(true, false), &[64512, 3356, 64513]), "65001 3356");
        assert_eq!(sent(remove(false, true), &[64512, 64513]), "65001 65001 65001");
        assert_eq!(sent(remove(true, true), &[64512, 3356]), "65001 65001 3356");
        assert_eq!(sent(remove(true, false), &[64999, 64512]), "65001 64999", "the peer's own stays");
    }

    #[test]
    fn a_private_number_of_our_own_does_not_show_behind_an_alias() {
        let alias = Some(Alias { asn: asn(500), prepend_received: true, keep_own: true });
        let remove_private = Some(RemovePrivate { all: false, replace: false });
        let rules = PathRules { alias, remove_private, local_as: asn(65000), ..RULES };
        assert_eq!(sent(rules, &[]), "500");
        assert_eq!(sent(PathRules { local_as: asn(3000), ..rules }, &[]), "500 3000");
    }

    #[test]
    fn ours_stands_for_the_peers() {
        let rules = PathRules { as_override: true, remote_as: Some(asn(64600)), ..RULES };
        assert_eq!(sent(rules, &[64600, 64600, 7]), "65001 65001 65001 7");
    }

    #[test]
    fn a_transparent_path_is_not_touched_but_our_own_routes_say_whose_they_are() {
        let rules = PathRules { unchanged: true, ..RULES };
        assert_eq!(sent(rules, &[7, 8]), "7 8");
        assert_eq!(sent(rules, &[]), "65001");
    }

    #[test]
    fn member_ases_are_seen_within_the_confederation_only() {
        let mut path = AsPath::from_segments([
            Segment { kind: SegmentKind::ConfedSequence, asns: [asn(64601)].into_iter().collect() },
            Segment { kind: SegmentKind::Sequence, asns: [asn(7)].into_iter().collect() },
        ]);
        let member = PathRules { kind: SourceKind::Confederation, local_as: asn(64602), ..RULES };
        member.before_policy(&mut path);
        member.finish(&mut path);
        assert_eq!(path.to_string(), "(64602 64601) 7");
        RULES.before_policy(&mut path);
        RULES.finish(&mut path);
        assert_eq!(path.to_string(), "65001 7");
    }
}
