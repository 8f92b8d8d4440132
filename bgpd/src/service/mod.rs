//! The RPC service: a command line comes in, text or JSON goes out by the piece.

mod dampening;
mod inventory;
mod kernel;
mod neighbors;
mod peer_groups;
mod policy;
mod routes;
mod rpki;
mod vpn;
mod watch;

use std::{net::IpAddr, time::SystemTime};

use config::{
    Command,
    command::{Clear, Cleared},
};
use net_types::IfName;
use rpc::{Code, Configure, Configured, Execute, Failure, Service, Sink, Text};
use tokio::sync::oneshot;

use crate::{
    show,
    state::{Control, State},
};

/// What this daemon serves.
pub fn service(state: State) -> Service {
    let executed = state.clone();
    let service = Service::new("bgpd").stream::<Execute, _, _>(move |_, request, sink| {
        let state = executed.clone();
        async move { execute(&state, &request.line, &Output { sink }).await }
    });
    let configured = state.clone();
    service.call::<Configure, _, _>(move |_, request| {
        let state = configured.clone();
        async move {
            let outcome = state.control(|answer| Control::Configure { lines: request.lines, answer }).await;
            outcome.map(|warnings| Configured { warnings }).map_err(|why| Failure::new(Code::Failed, why))
        }
    })
}

/// Where a command's text goes.
struct Output {
    sink: Sink<Text>,
}

impl Output {
    async fn text(&self, text: impl Into<String>) -> Result<(), Failure> {
        Ok(self.sink.send(&Text(text.into())).await?)
    }

    /// A document as people like to read it.
    async fn json(&self, value: &serde_json::Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Code::Internal, error))?;
        self.text(text + "\n").await
    }
}

/// The routing table or another part has ended.
fn gone<E>(_: E) -> Failure {
    Failure::new(Code::Failed, "% bgpd is shutting down")
}

fn not_found(what: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NotFound, format!("% {what}"))
}

async fn execute(state: &State, line: &str, out: &Output) -> Result<(), Failure> {
    let command = Command::parse(line).map_err(|error| Failure::new(Code::BadRequest, format!("% {error}")))?;
    match command {
        Command::ShowBgpSummary { family, of, nesting, json } => {
            neighbors::summary(state, family, of, nesting, json, out).await
        }
        Command::ShowInterface { interface, json } => inventory::interfaces(state, interface, json, out).await,
        Command::ShowBgpRestart { neighbor, json } => neighbors::restart(state, neighbor, json, out).await,
        Command::ShowBgpNeighbors { neighbor, json } => neighbors::detail(state, neighbor, json, out).await,
        Command::ShowBgp { family, destination: None, detail, json, .. } => {
            routes::table(state, family, routes::Style { json, detail }, out).await
        }
        Command::ShowBgp { destination: Some(destination), paths, json, .. } => {
            routes::destination(state, destination, paths, json, out).await
        }
        Command::ShowBgpVpn { what, json } => vpn::show(state, what, json, out).await,
        Command::Policy { what, json } => policy::show(state, what, json, out).await,
        Command::Watch { what, json } => watch::show(state, what, json, out).await,
        Command::LoadMrt { file, next_hop } => {
            let Some(asn) = state.running().rib.as_ref().map(|rib| rib.asn) else {
                return Err(not_found("there is no table without \"router bgp\"; configure that first"));
            };
            let number = state.loads.begin(&state.rib, asn, &file, next_hop).await;
            let line = |number| format!("{} is read as mrt-{number}; \"show mrt\" says how far", file.display());
            order(number.map(line), out).await
        }
        Command::ClearMrt { number } => match state.loads.end(&state.rib, number).await.map_err(gone)? {
            0 => Err(not_found("no such file is in the table; \"show mrt\" lists those that are")),
            gone => out.text(format!("{gone} taken out\n")).await,
        },
        Command::ShowBgpAttributes => inventory::attributes(state, out).await,
        Command::ShowBgpMemory { json } => inventory::memory(state, json, out).await,
        Command::ShowBgpPeerGroups { name, json } => peer_groups::show(state, name, json, out).await,
        Command::ShowBgpVrfs { json } => inventory::vrfs(state, json, out).await,
        Command::ShowBgpNeighborRoutes { family, neighbor, which, json } => {
            routes::of_neighbor(state, family, neighbor, which, json, out).await
        }
        Command::ShowRoute { family, fib, from, destination, json } => {
            kernel::table(state, family, (fib, from), destination, json, out).await
        }
        Command::ShowBfdPeers { peer, brief, counters, json } => bfd(state, peer, brief, counters, json, out).await,
        Command::ShowFailover { json } => failover(state, json, out).await,
        Command::ClearFailoverDamping { interface } => clear_damping(state, interface, out).await,
        Command::ShowRunningConfig => out.text(state.running().config.to_string()).await,
        Command::ShowVersion { json: true } => {
            out.json(&serde_json::json!({ "program": "bgpd", "version": env!("CARGO_PKG_VERSION") })).await
        }
        Command::ShowVersion { json: false } => out.text(format!("bgpd {}\n", env!("CARGO_PKG_VERSION"))).await,
        Command::ShowDampening { family, what, json } => dampening::show(state, family, what, json, out).await,
        Command::ShowOutboundFilter { family, neighbor, json } => {
            neighbors::outbound_filter(state, family, neighbor, json, out).await
        }
        Command::ClearDampening { prefix } => dampening::clear(state, prefix, out).await,
        Command::ClearBgp { whom, how } => clear(state, whom, how, out).await,
        Command::Reload => order(state.control(Control::Reload).await, out).await,
        Command::ShowIpsecSa { .. }
        | Command::ShowIpsecTunnel { .. }
        | Command::ShowIpsecCertificates { .. }
        | Command::ShowWan { .. }
        | Command::InitiateTunnel { .. }
        | Command::TerminateTunnel { .. }
        | Command::RekeyTunnel { .. } => Err(Failure::new(Code::BadRequest, "% ask ipsecd, whose command this is")),
        Command::Help | Command::Exit | Command::Configure | Command::Write | Command::Pager => {
            Err(Failure::new(Code::BadRequest, "% this is a command of the shell"))
        }
    }
}

async fn failover(state: &State, json: bool, out: &Output) -> Result<(), Failure> {
    let lost = state.running().ipsecd_lost.clone();
    let log = state.fib.log();
    let (value, text) = {
        let log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if json { (Some(log.to_json()), String::new()) } else { (None, log.to_text()) }
    };
    match value {
        Some(mut value) => {
            value["ipsecdReachable"] = lost.is_none().into();
            out.json(&value).await
        }
        None => {
            let note = lost.map_or_else(String::new, |why| {
                format!("\nipsecd cannot be reached ({why}): tunnels are watched by BFD and BGP alone.\n")
            });
            out.text(text + &note).await
        }
    }
}

async fn clear_damping(state: &State, interface: Option<IfName>, out: &Output) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    state.fib.release(interface, move |count| {
        // Who asked may have given up.
        let _ = answer.send(count);
    });
    match answered.await.map_err(gone)? {
        0 => out.text("nothing is held down there; \"show failover\" lists what is\n").await,
        1 => out.text("1 path is held down no more\n").await,
        count => out.text(format!("{count} paths are held down no more\n")).await,
    }
}

async fn clear(state: &State, whom: Cleared, how: Clear, out: &Output) -> Result<(), Failure> {
    if let Cleared::Neighbor(name) = &whom
        && state.running().named(name).is_none()
    {
        return Err(not_found(format!("neighbor {name} is not configured; \"show bgp summary\" lists those that are")));
    }
    order(state.control(|answer| Control::Clear { whom, how, answer }).await, out).await
}

async fn bfd(
    state: &State,
    only: Option<IpAddr>,
    brief: bool,
    counters: bool,
    json: bool,
    out: &Output,
) -> Result<(), Failure> {
    let (mut peers, now) = (state.bfd.snapshot().await, SystemTime::now());
    if let Some(only) = only {
        peers.retain(|session| session.peer == only);
        if peers.is_empty() {
            return Err(not_found(format!(
                "there is no BFD session with {only}; \"show bfd peers\" lists those that are"
            )));
        }
    }
    match (json, counters, only) {
        (true, true, _) => out.json(&show::bfd::counters_json(&peers)).await,
        (true, false, Some(_)) => {
            let mut list = show::bfd::json(&peers, now);
            let first = list.as_array_mut().and_then(|list| (!list.is_empty()).then(|| list.remove(0)));
            out.json(&first.unwrap_or_default()).await
        }
        (true, false, None) => out.json(&show::bfd::json(&peers, now)).await,
        (false, true, _) => out.text(show::bfd::counters_text(&peers)).await,
        (false, false, _) if brief => out.text(show::bfd::brief(&peers)).await,
        (false, false, _) => out.text(show::bfd::text(&peers, now)).await,
    }
}

async fn order(outcome: Result<String, String>, out: &Output) -> Result<(), Failure> {
    match outcome {
        Ok(line) if line.is_empty() => Ok(()),
        Ok(line) => out.text(line + "\n").await,
        Err(line) => Err(Failure::new(Code::Failed, line)),
    }
}
