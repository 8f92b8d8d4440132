//! The comparison against the RFC's wording: routes are removed from consideration step by step.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

pub(super) const PLAIN: Merit = Merit {
    weight: 0,
    local_pref: 100,
    path_len: 3,
    confed_len: 0,
    med: None,
    neighbor_as: 64500,
    originator: 0,
    clusters: 0,
    origin: 0,
    blackhole: false,
    placed: false,
    long_lived_stale: false,
    through_tunnel: false,
    tunnel_lost: false,
    never_long_lived: false,
};

pub(super) fn candidate(merit: &Merit, source: u16) -> Candidate<'_> {
    Candidate {
        merit,
        kind: SourceKind::External,
        stale: false,
        router_id: u32::from(source),
        address: Ipv4Addr::from(u32::from(source)).into(),
        metric: 0,
        learned: 0,
        source,
        id: 0,
        exit: (u32::from(source), None),
    }
}

/// Next hop, AS path and neighbor AS of candidate n: the source's address, its path length, its neighboring AS.
struct Plainly<'a>(&'a [Candidate<'a>]);

impl Details for Plainly<'_> {
    fn next_hop(&self, candidate: usize) -> IpAddr {
        self.0[candidate].exit.1.unwrap_or(self.0[candidate].address)
    }
    fn peer_as(&self, candidate: usize) -> u32 {
        self.0[candidate].merit.neighbor_as
    }
    fn same_as_path(&self, a: usize, b: usize) -> bool {
        let path = |at: usize| (self.0[at].merit.neighbor_as, self.0[at].merit.path_len);
        path(a) == path(b)
    }
}

fn chosen(candidates: &[Candidate<'_>], options: &DecisionOptions) -> Choice {
    choose(candidates, options, &options.maximum_paths[0], &Plainly(candidates))
}

fn best(candidates: &[Candidate<'_>], options: DecisionOptions) -> u16 {
    candidates[chosen(candidates, &options).best.unwrap()].source
}

/// Every step decides before every later one: `better` differs from `PLAIN` in a step, `worse` in all later ones.
#[test]
fn earlier_steps_decide_before_later_ones() {
    let steps: [fn(&mut Merit); 6] = [
        |m| m.weight = 1,
        |m| m.local_pref = 200,
        |m| m.path_len = 2,
        |m| m.origin = 0,
        |m| m.med = Some(1),
        |m| m.clusters = 0,
    ];
    let base = Merit { origin: 2, med: Some(9), clusters: 2, ..PLAIN };
    for (at, step) in steps.iter().enumerate() {
        let (mut better, mut later) = (base, base);
        step(&mut better);
        steps[at + 1..].iter().for_each(|step| step(&mut later));
        // The router-id would decide before the cluster list does, so both have the same.
        let (mut first, mut second) = (candidate(&later, 1), candidate(&better, 2));
        (first.router_id, second.router_id) = (7, 7);
        assert_eq!(best(&[first, second], DecisionOptions::default()), 2, "step {at}");
    }
}

#[test]
fn our_own_route_wins_over_equals_and_external_over_internal() {
    let mut internal = candidate(&PLAIN, 1);
    internal.kind = SourceKind::Internal;
    let external = candidate(&PLAIN, 2);
    let mut own = candidate(&PLAIN, 3);
    own.kind = SourceKind::Local;
    assert_eq!(best(&[internal, external], DecisionOptions::default()), 2);
    assert_eq!(best(&[internal, external, own], DecisionOptions::default()), 3);
}

#[test]
fn between_external_equals_the_older_stays_unless_router_ids_are_compared() {
    let (mut newer, older) = (candidate(&PLAIN, 1), candidate(&PLAIN, 2));
    newer.learned = 60;
    assert_eq!(best(&[newer, older], DecisionOptions::default()), 2);
    assert_eq!(best(&[newer, older], DecisionOptions { compare_router_id: true, ..Default::default() }), 1);
}

#[test]
fn the_way_through_the_confederation_counts_when_asked_to() {
    let (far, near) = (Merit { confed_len: 3, ..PLAIN }, Merit { confed_len: 1, ..PLAIN });
    let candidates = [candidate(&far, 1), candidate(&near, 2)];
    assert_eq!(best(&candidates, DecisionOptions::default()), 1);
    assert_eq!(best(&candidates, DecisionOptions { count_confederation: true, ..Default::default() }), 2);
}

#[test]
fn paths_that_never_left_the_confederation_are_compared_by_med() {
    let of = |med| Merit { confed_len: 1, path_len: 0, neighbor_as: 0, med: Some(med), ..PLAIN };
    let (low, high) = (of(1), of(9));
    assert_eq!(best(&[candidate(&high, 1), candidate(&low, 2)], DecisionOptions::default()), 2);
}

#[test]
fn meds_of_different_neighbors_are_compared_only_when_asked_to() {
    let low = Merit { med: Some(1), neighbor_as: 1, ..PLAIN };
    let high = Merit { med: Some(9), neighbor_as: 2, ..PLAIN };
    let candidates = [candidate(&high, 1), candidate(&low, 2)];
    assert_eq!(best(&candidates, DecisionOptions::default()), 1);
    assert_eq!(best(&candidates, DecisionOptions { always_compare_med: true, ..Default::default() }), 2);
    let (none, some) = (Merit { med: None, ..PLAIN }, Merit { med: Some(5), ..PLAIN });
    let candidates = [candidate(&none, 2), candidate(&some, 1)];
    assert_eq!(best(&candidates, DecisionOptions::default()), 2);
    assert_eq!(best(&candidates, DecisionOptions { missing_med_as_worst: true, ..Default::default() }), 1);
}

#[test]
fn a_stale_path_serves_only_while_nothing_fresh_is_there() {
    let heavy = Merit { weight: 9, ..PLAIN };
    let mut stale = candidate(&heavy, 1);
    stale.stale = true;
    assert_eq!(best(&[stale, candidate(&PLAIN, 2)], DecisionOptions::default()), 2);
    assert_eq!(best(&[stale], DecisionOptions::default()), 1);
}

#[test]
fn the_alternate_avoids_both_the_peer_and_the_exit_of_the_best_if_it_can() {
    let merits = [Merit { weight: 3, ..PLAIN }, Merit { weight: 2, ..PLAIN }, Merit { weight: 1, ..PLAIN }];
    let (one, mut two, three) = (candidate(&merits[0], 1), candidate(&merits[1], 2), candidate(&merits[2], 3));
    two.exit = one.exit;
    let options = DecisionOptions::default();
    assert_eq!(chosen(&[one, two, three], &options), Choice { best: Some(0), alternate: Some(2), ..Choice::default() });
    // Another peer over the same exit survives at least the peer.
    assert_eq!(chosen(&[two, one], &options), Choice { best: Some(1), alternate: Some(0), ..Choice::default() });
    assert_eq!(chosen(&[one], &options), Choice { best: Some(0), alternate: None, ..Choice::default() });
}

/// RFC 4271 §9.1.2.2 as it is written: at each step, remove what is worse than some other.
fn by_elimination(candidates: &[Candidate<'_>], options: &DecisionOptions) -> Option<u16> {
    let mut left: Vec<&Candidate<'_>> = candidates.iter().collect();
    let mut keep_min = |key: &dyn Fn(&Candidate<'_>) -> i64, among: &dyn Fn(&Candidate<'_>, &Candidate<'_>) -> bool| {
        let all = left.clone();
        left.retain(|c| !all.iter().any(|other| among(c, other) && key(other) < key(c)));
    };
    let all = |_: &Candidate<'_>, _: &Candidate<'_>| true;
    let med = |m: &Merit| i64::from(m.med.unwrap_or(if options.missing_med_as_worst { u32::MAX } else { 0 }));
    keep_min(&|c| c.stale.into(), &all);
    keep_min(&|c| -i64::from(c.merit.weight), &all);
    keep_min(&|c| -i64::from(c.merit.local_pref), &all);
    keep_min(&|c| (c.kind != SourceKind::Local).into(), &all);
    if !options.ignore_as_path_length {
        let confed = |m: &Merit| if options.count_confederation { m.confed_len } else { 0 };
        keep_min(&|c| i64::from(c.merit.path_len) + i64::from(confed(c.merit)), &all);
    }
    keep_min(&|c| c.merit.origin.into(), &all);
    keep_min(&|c| med(c.merit), &|a, b| options.always_compare_med || a.merit.neighbor_as == b.merit.neighbor_as);
    keep_min(&|c| (c.kind == SourceKind::Internal).into(), &all);
    keep_min(&|c| c.metric.into(), &all);
    if !options.compare_router_id {
        let external = |c: &Candidate<'_>| c.kind == SourceKind::External;
        keep_min(&|c| c.learned.into(), &|a, b| external(a) && external(b));
    }
    keep_min(&|c| if c.merit.originator == 0 { c.router_id } else { c.merit.originator }.into(), &all);
    keep_min(&|c| c.merit.clusters.into(), &all);
    keep_min(&|c| c.source.into(), &all); // peer addresses follow sources here
    left.first().map(|c| c.source)
}

fn any_merit() -> impl Strategy<Value = Merit> {
    let numbers = (0u32..2, 100u32..102, 1u32..3, proptest::option::of(0u32..3), 1u32..4);
    (numbers, 0u32..3, 0u16..2, 0u8..2, 0u16..2).prop_map(
        |((weight, local_pref, path_len, med, neighbor_as), originator, clusters, origin, confed_len)| Merit {
            weight,
            local_pref,
            path_len,
            confed_len,
            med,
            neighbor_as,
            originator,
            clusters,
            origin,
            blackhole: false,
            placed: false,
            long_lived_stale: false,
            through_tunnel: false,
            tunnel_lost: false,
            never_long_lived: false,
        },
    )
}

type Circumstances = (u8, bool, u32, u32, u32);

fn any_circumstances() -> impl Strategy<Value = Circumstances> {
    (0u8..3, any::<bool>(), 0u32..3, 0u32..2, 0u32..3)
}

fn build<'a>(
    source: usize,
    merit: &'a Merit,
    (kind, stale, router_id, metric, learned): Circumstances,
) -> Candidate<'a> {
    let kind = [SourceKind::External, SourceKind::Internal, SourceKind::Local][usize::from(kind)];
    let exit = (router_id, None); // shared by some
    Candidate { kind, stale, router_id, metric, learned, exit, ..candidate(merit, source as u16) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_choice_is_what_elimination_leaves(
        paths in proptest::collection::vec((any_merit(), any_circumstances()), 0..7),
        [always, worst, router_ids, ignore, confederation] in any::<[bool; 5]>(),
    ) {
        let options = DecisionOptions {
            always_compare_med: always,
            missing_med_as_worst: worst,
            compare_router_id: router_ids,
            ignore_as_path_length: ignore,
            count_confederation: confederation,
            ..DecisionOptions::default()
        };
        let candidates: Vec<_> = paths.iter().enumerate().map(|(i, (merit, c))| build(i, merit, *c)).collect();
        let choice = chosen(&candidates, &options);
        let source = |at: usize| candidates[at].source;
        prop_assert_eq!(choice.best.map(source), by_elimination(&candidates, &options));
        let Some(best) = choice.best else { return Ok(()) };
        let others = |apart: bool| -> Vec<_> {
            let keep = |c: &&Candidate<'_>| c.source != source(best) && !(apart && c.exit == candidates[best].exit);
            candidates.iter().filter(keep).copied().collect()
        };
        let alternate = by_elimination(&others(true), &options).or_else(|| by_elimination(&others(false), &options));
        prop_assert_eq!(choice.alternate.map(source), alternate);
        // And whatever order they stand in.
        let reversed: Vec<_> = candidates.iter().rev().copied().collect();
        let turned = chosen(&reversed, &options);
        prop_assert_eq!(turned.best.map(|at| reversed[at].source), choice.best.map(source));
    }
}

/// Sources of the paths that share, the best first.
fn sharing(candidates: &[Candidate<'_>], options: DecisionOptions) -> Vec<u16> {
    let choice = chosen(candidates, &options);
    choice.best.into_iter().chain(choice.beside).map(|at| candidates[at].source).collect()
}

fn up_to(external: u8, internal: u8) -> DecisionOptions {
    let maximum = MaximumPaths { external, internal, equal_cluster_length: false };
    DecisionOptions { maximum_paths: [maximum; net_types::Family::COUNT], ..DecisionOptions::default() }
}

#[test]
fn equals_share_up_to_the_maximum_and_differences_do_not() {
    let all = [1, 2, 3, 4].map(|source| candidate(&PLAIN, source));
    assert_eq!(sharing(&all, DecisionOptions::default()), [1], "one, unless said");
    assert_eq!(sharing(&all, up_to(3, 1)), [1, 2, 3]);
    assert_eq!(sharing(&all, up_to(9, 1)), [1, 2, 3, 4]);
    let changes: [fn(&mut Merit); 6] = [
        |m| m.weight = 0,
        |m| m.local_pref = 50,
        |m| m.path_len = 4,
        |m| m.origin = 2,
        |m| m.med = Some(7),
        |m| m.blackhole = true,
    ];
    for (at, change) in changes.iter().enumerate() {
        let base = Merit { weight: 1, ..PLAIN };
        let mut other = base;
        change(&mut other);
        assert_eq!(sharing(&[candidate(&base, 1), candidate(&other, 2)], up_to(9, 9)), [1], "difference {at}");
    }
    let further = Candidate { metric: 5, ..candidate(&PLAIN, 2) };
    assert_eq!(sharing(&[all[0], further], up_to(9, 9)), [1]);
    let stale = Candidate { stale: true, ..candidate(&PLAIN, 2) };
    assert_eq!(sharing(&[all[0], stale], up_to(9, 9)), [1]);
}

#[test]
fn other_ases_share_when_that_is_relaxed_and_internal_paths_by_their_as_path() {
    let elsewhere = Merit { neighbor_as: 64501, ..PLAIN };
    let both = [candidate(&PLAIN, 1), candidate(&elsewhere, 2)];
    assert_eq!(sharing(&both, up_to(9, 9)), [1]);
    let relaxed = DecisionOptions { relax_as_path: true, ..up_to(9, 9) };
    assert_eq!(sharing(&both, relaxed), [1, 2]);
    let internal = both.map(|it| Candidate { kind: SourceKind::Internal, ..it });
    assert_eq!(sharing(&internal, up_to(9, 9)), [1]);
    assert_eq!(sharing(&internal, relaxed), [1, 2]);
    assert_eq!(sharing(&internal, DecisionOptions { relax_as_path: true, ..up_to(9, 1) }), [1], "a maximum of its own");
    let mixed = [both[0], Candidate { kind: SourceKind::Internal, ..candidate(&PLAIN, 2) }];
    assert_eq!(sharing(&mixed, relaxed), [1]);
    assert_eq!(sharing(&mixed, DecisionOptions { relax_peer_type: true, ..up_to(9, 9) }), [1, 2]);
}

#[test]
fn cluster_lists_count_where_they_are_to() {
    let reflected = Merit { clusters: 1, ..PLAIN };
    let both =
        [candidate(&PLAIN, 1), candidate(&reflected, 2)].map(|it| Candidate { kind: SourceKind::Internal, ..it });
    assert_eq!(sharing(&both, up_to(9, 9)), [1, 2]);
    let maximum = MaximumPaths { external: 9, internal: 9, equal_cluster_length: true };
    assert_eq!(
        sharing(&both, DecisionOptions { maximum_paths: [maximum; net_types::Family::COUNT], ..up_to(9, 9) }),
        [1]
    );
}

#[test]
fn one_next_hop_shares_once_and_the_alternate_stands_apart_from_all_that_share() {
    let gateway = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
    let via = |source, interface, last| Candidate { exit: (interface, gateway(last)), ..candidate(&PLAIN, source) };
    let worse = Merit { local_pref: 50, ..PLAIN };
    let all = [
        via(1, 1, 1),
        via(2, 2, 2),
        via(3, 2, 2),
        Candidate { merit: &worse, ..via(4, 2, 2) },
        Candidate { merit: &worse, ..via(5, 3, 3) },
    ];
    let choice = chosen(&all, &up_to(9, 9));
    assert_eq!((choice.best, choice.beside.as_slice(), choice.alternate), (Some(0), &[1][..], Some(4)));
}
