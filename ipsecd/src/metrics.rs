//! Metrics, read from the daemon's state and the packet path when they are asked for.
//!
//! Labels are names from the configuration, so their number is bounded by it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use dataplane::InboundStats;
use net_types::{Spi, TunnelName};
use rpc::{TunnelState, WanState};
use telemetry::{
    SeriesWriter,
    prometheus_client::{
        collector::Collector,
        encoding::DescriptorEncoder,
        registry::{Registry, Unit},
    },
};

use crate::{
    show::{tunnel::drops, view},
    state::State,
    trust::{Held, ListView, TrustView, source_name},
};

/// A registry with all of the daemon's metrics.
pub fn registry(state: State) -> Arc<Registry> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { state, retired: Mutex::default() }));
    Arc::new(registry)
}

struct Metrics {
    state: State,
    retired: Mutex<BTreeMap<TunnelName, Refused>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Packets that inbound associations of a tunnel refused. Associations come and go with each rekey and take their
/// counters with them; a counter must never fall, so what the gone ones had counted when last seen is kept.
#[derive(Default)]
struct Refused {
    gone: Counts,
    present: BTreeMap<Spi, Counts>,
}

/// Replayed, forged, malformed, outside the selectors, and met by congestion without ECN.
type Counts = [u64; 5];

const REFUSALS: [&str; 5] = ["replay", "integrity", "malformed", "selectors", "congestion"];

impl Refused {
    fn update(&mut self, now: BTreeMap<Spi, Counts>) -> Counts {
        for (spi, counts) in std::mem::replace(&mut self.present, now) {
            if !self.present.contains_key(&spi) {
                add(&mut self.gone, counts);
            }
        }
        let mut total = self.gone;
        self.present.values().for_each(|counts| add(&mut total, *counts));
        total
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
}

impl Metrics {
    fn refused(&self, tunnels: &[view::Tunnel]) -> Vec<(TunnelName, Counts)> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|name, _| tunnels.iter().any(|tunnel| tunnel.status.tunnel == *name));
        let count = |tunnel: &view::Tunnel| {
            let name = tunnel.status.tunnel.clone();
            let inbound = tunnel.stats.iter().flat_map(|stats| &stats.inbound);
            let refused = |sa: &InboundStats| [sa.replays, sa.forgeries, sa.malformed, sa.foreign, sa.congested];
            let now = inbound.map(|sa| (sa.spi, refused(sa))).collect();
            let total = retired.entry(name.clone()).or_default().update(now);
            (name, total)
        };
        tunnels.iter().map(count).collect()
    }
}

fn flag(set: bool) -> f64 {
    if set { 1.0 } else { 0.0 }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = SeriesWriter::new(encoder);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        out.gauge("ipsecd_build", "1, with the version", None, [([("version", version)], 1.0)].into_iter())?;
        let tunnels = view::tunnels(&self.state, None);
        tunnel_metrics(&mut out, &tunnels, &self.refused(&tunnels))?;
        wan_metrics(&mut out, &view::wans(&self.state, None))?;
        trust_metrics(&mut out, &self.state.trust())
    }
}

fn tunnel_metrics(
    out: &mut SeriesWriter<'_>,
    tunnels: &[view::Tunnel],
    refused: &[(TunnelName, Counts)],
) -> fmt::Result {
    let label = |tunnel: &view::Tunnel| ("tunnel", tunnel.status.tunnel.to_string());
    let each = |value: fn(&view::Tunnel) -> u64| tunnels.iter().map(move |tunnel| ([label(tunnel)], value(tunnel)));
    out.gauge(
        "ipsec_tunnel_up",
        "Whether packets flow through the tunnel",
        None,
        tunnels.iter().map(|tunnel| {
            let up = matches!(tunnel.status.state, TunnelState::Up { .. });
            ([label(tunnel), ("wan", tunnel.status.wan.to_string())], flag(up))
        }),
    )?;
    out.gauge(
        "ipsec_tunnel_mtu",
        "Largest inner packet of the tunnel, while it is up",
        Some(Unit::Bytes),
        tunnels.iter().filter_map(|tunnel| match tunnel.status.state {
            TunnelState::Up { mtu, .. } => Some(([label(tunnel)], f64::from(mtu))),
            TunnelState::Negotiating | TunnelState::Down { .. } => None,
        }),
    )?;
    out.counter("ipsec_tunnel_state_changes", "Changes of the tunnel's state", None, each(|t| t.status.generation))?;
    out.counter("ipsec_tunnel_established", "Times the tunnel came up", None, each(|t| t.detail.times_up))?;
    out.counter("ipsec_ike_sa_rekeys", "IKE SAs replaced", None, each(|t| t.detail.ike_rekeys))?;
    out.counter("ipsec_child_sa_rekeys", "Child SAs replaced", None, each(|t| t.detail.child_rekeys))?;
    out.counter(
        "ipsec_peer_restarts",
        "Restarts of the peer noticed by its token",
        None,
        each(|t| t.detail.peer_restarts),
    )?;
    out.counter("ipsec_ike_sa_reauthentications", "IKE SAs authenticated anew", None, each(|t| t.detail.ike_reauths))?;
    out.counter("ipsec_path_changes", "Changes of the outer path under an SA", None, each(|t| t.detail.moves))?;
    probe_metrics(out, tunnels)?;
    let stats = || tunnels.iter().filter_map(|tunnel| Some((tunnel, tunnel.stats.as_ref()?)));
    out.counter(
        "ipsec_tunnel_packets",
        "Inner packets carried",
        None,
        stats().flat_map(|(tunnel, stats)| {
            [("sent", stats.sent_packets), ("received", stats.received_packets)]
                .map(|(direction, count)| ([label(tunnel), ("direction", direction.to_owned())], count))
        }),
    )?;
    out.counter(
        "ipsec_tunnel_traffic",
        "Octets of inner packets carried",
        Some(Unit::Bytes),
        stats().flat_map(|(tunnel, stats)| {
            [("sent", stats.sent_octets), ("received", stats.received_octets)]
                .map(|(direction, count)| ([label(tunnel), ("direction", direction.to_owned())], count))
        }),
    )?;
    out.counter(
        "ipsec_tunnel_dropped_packets",
        "Packets into the tunnel or out of it that were dropped",
        None,
        stats().flat_map(|(tunnel, stats)| {
            drops(stats)
                .map(|(reason, count)| ([label(tunnel), ("reason", reason.replace(' ', "_").to_lowercase())], count))
        }),
    )?;
    out.counter(
        "ipsec_refused_packets",
        "ESP packets of the peer that were refused",
        None,
        refused.iter().flat_map(|(tunnel, counts)| {
            REFUSALS
                .into_iter()
                .zip(*counts)
                .map(|(reason, count)| ([("tunnel", tunnel.to_string()), ("reason", reason.to_owned())], count))
        }),
    )?;
    out.gauge(
        "ipsec_tunnel_idle",
        "Time since the last authentic packet from the peer",
        Some(Unit::Seconds),
        stats().filter_map(|(tunnel, stats)| Some(([label(tunnel)], stats.idle?.as_secs_f64()))),
    )
}

fn probe_metrics(out: &mut SeriesWriter<'_>, tunnels: &[view::Tunnel]) -> fmt::Result {
    let label = |tunnel: &view::Tunnel| ("tunnel", tunnel.status.tunnel.to_string());
    let probed = || tunnels.iter().filter_map(|tunnel| Some((tunnel, tunnel.probe?.1)));
    out.gauge(
        "ipsec_probe_silent",
        "Whether nobody answers the tunnel's probe",
        None,
        probed().map(|(tunnel, silent)| ([label(tunnel)], flag(silent))),
    )?;
    out.gauge(
        "ipsec_probe_round_trip",
        "How long the last answer to the tunnel's probe took",
        Some(Unit::Seconds),
        probed().filter_map(|(tunnel, _)| Some(([label(tunnel)], tunnel.detail.probe.round_trip?.as_secs_f64()))),
    )?;
    out.counter(
        "ipsec_probe_questions",
        "Questions of the tunnel's probe, by what came of them",
        None,
        probed().flat_map(|(tunnel, _)| {
            let of = |outcome: &str| [label(tunnel), ("outcome", outcome.to_owned())];
            [(of("answered"), tunnel.detail.probe.answered), (of("lost"), tunnel.detail.probe.lost)]
        }),
    )
}

fn wan_metrics(out: &mut SeriesWriter<'_>, wans: &[view::Wan]) -> fmt::Result {
    let label = |wan: &view::Wan| ("wan", wan.status.wan.to_string());
    let up = |wan: &view::Wan| ([label(wan)], flag(matches!(wan.status.state, WanState::Up { .. })));
    out.gauge("ipsec_wan_up", "Whether the WAN link can be used", None, wans.iter().map(up))?;
    let stats = || wans.iter().filter_map(|wan| Some((wan, wan.stats.as_ref()?)));
    out.counter(
        "ipsec_wan_ike_messages",
        "IKE messages received",
        None,
        stats().map(|(wan, stats)| ([label(wan)], stats.ike_received)),
    )?;
    out.counter(
        "ipsec_wan_dropped_datagrams",
        "Datagrams on the ports of IPsec that were dropped",
        None,
        stats().flat_map(|(wan, stats)| {
            [("ike_queue_full", stats.ike_dropped), ("unknown_spi", stats.unknown_spi), ("malformed", stats.malformed)]
                .map(|(reason, count)| ([label(wan), ("reason", reason.to_owned())], count))
        }),
    )
}

/// Alarms are set on what ends: `ipsec_certificate_end_seconds - time() < 30 * 86400`.
fn trust_metrics(out: &mut SeriesWriter<'_>, trust: &TrustView) -> fmt::Result {
    let serial = |held: &Held| held.names.serial.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    out.gauge(
        "ipsec_certificate_end",
        "When a certificate ends, as time since 1970",
        Some(Unit::Seconds),
        trust.held.iter().map(|held| {
            let labels = [
                ("holder", held.holder.clone()),
                ("role", held.role.name().to_owned()),
                ("subject", held.names.subject.to_string()),
                ("serial", serial(held)),
            ];
            (labels, held.names.not_after.as_secs_f64())
        }),
    )?;
    let source = |view: &ListView| ("source", source_name(&view.source));
    out.gauge(
        "ipsec_revocation_list_end",
        "When a revocation list ends, as time since 1970",
        Some(Unit::Seconds),
        trust.lists.iter().filter_map(|view| Some(([source(view)], view.list.as_ref()?.next_update().as_secs_f64()))),
    )?;
    out.counter(
        "ipsec_revocation_list_failures",
        "Attempts to renew a revocation list that failed",
        None,
        trust.lists.iter().map(|view| ([source(view)], view.failures)),
    )?;
    out.counter(
        "ipsec_responder_questions",
        "Questions to OCSP responders, by what came of them",
        None,
        trust.responders.iter().flat_map(|view| {
            let of = |outcome: &str| [("responder", view.url.clone()), ("outcome", outcome.to_owned())];
            [(of("answered"), view.answers), (of("failed"), view.failures)]
        }),
    )
}

#[cfg(test)]
mod tests {
    use telemetry::prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn every_series_has_its_labels_and_unit() {
        let (state, _requests) = crate::show::tests::state();
        let mut page = String::new();
        text::encode(&mut page, &registry(state)).unwrap();
        for line in [
            "ipsec_tunnel_up{tunnel=\"tun1\",wan=\"isp1\"} 1.0",
            "ipsec_tunnel_up{tunnel=\"tun2\",wan=\"isp2\"} 0.0",
            "ipsec_tunnel_mtu_bytes{tunnel=\"tun1\"} 1438.0",
            "ipsec_tunnel_established_total{tunnel=\"tun1\"} 1",
            "ipsec_child_sa_rekeys_total{tunnel=\"tun1\"} 2",
            "ipsec_tunnel_packets_total{tunnel=\"tun1\",direction=\"sent\"} 20",
            "ipsec_tunnel_traffic_bytes_total{tunnel=\"tun1\",direction=\"received\"} 1000",
            "ipsec_tunnel_dropped_packets_total{tunnel=\"tun1\",reason=\"without_sa\"} 3",
            "ipsec_refused_packets_total{tunnel=\"tun1\",reason=\"replay\"} 2",
            "ipsec_probe_silent{tunnel=\"tun1\"} 0.0",
            "ipsec_probe_round_trip_seconds{tunnel=\"tun1\"} 0.0125",
            "ipsec_probe_questions_total{tunnel=\"tun1\",outcome=\"lost\"} 3",
            "ipsec_tunnel_idle_seconds{tunnel=\"tun1\"} 1.5",
            "ipsec_wan_up{wan=\"isp2\"} 0.0",
            "ipsec_wan_dropped_datagrams_total{wan=\"isp1\",reason=\"unknown_spi\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in:\n{page}");
        }
        let types = page.lines().filter(|line| line.starts_with("# TYPE")).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(types.len(), page.lines().filter(|line| line.starts_with("# TYPE")).count(), "one family a name");
    }

    #[test]
    fn refusals_of_associations_that_are_gone_stay_counted() {
        let spi = |raw| Spi::try_from(raw).unwrap();
        let mut refused = Refused::default();
        assert_eq!(refused.update([(spi(300), [1, 0, 0, 0, 0])].into()), [1, 0, 0, 0, 0]);
        assert_eq!(refused.update([(spi(300), [4, 0, 0, 0, 0]), (spi(301), [1, 1, 0, 0, 0])].into()), [5, 1, 0, 0, 0]);
        assert_eq!(refused.update([(spi(301), [1, 2, 0, 0, 0])].into()), [5, 2, 0, 0, 0]);
        assert_eq!(refused.update(BTreeMap::new()), [5, 2, 0, 0, 0]);
    }
}
