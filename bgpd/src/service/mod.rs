//! The RPC service: a command line comes in, text or JSON goes out by the piece.

mod neighbors;
mod routes;
mod rpki;

use std::time::SystemTime;

use config::{Command, command::Clear};
use rpc::{Code, Execute, Failure, Service, Sink, Text};

use crate::{
    show,
    state::{Control, State},
};

/// What this daemon serves.
pub fn service(state: State) -> Service {
    Service::new("bgpd").stream::<Execute, _, _>(move |_, request, sink| {
        let state = state.clone();
        async move { execute(&state, &request.line, &Output { sink }).await }
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
        Command::ShowBgpSummary { family, json } => neighbors::summary(state, family, json, out).await,
        Command::ShowBgpNeighbors { neighbor, json } => neighbors::detail(state, neighbor, json, out).await,
        Command::ShowBgp { family, destination: None, json } => routes::table(state, family, json, out).await,
        Command::ShowBgp { destination: Some(destination), json, .. } => {
            routes::destination(state, destination, json, out).await
        }
        Command::ShowBgpRpki { family, state: wanted, json } => {
            routes::by_validation(state, family, rpki::validation(wanted), json, out).await
        }
        Command::ShowRpki { what, json } => rpki::show(state, what, json, out).await,
        Command::ShowBgpNeighborRoutes { family, neighbor, which, json } => {
            routes::of_neighbor(state, family, neighbor, which, json, out).await
        }
        Command::ShowRoute { family, destination, json } => routes::kernel(state, family, destination, json, out).await,
        Command::ShowBfdPeers { json, .. } => {
            let (peers, now) = (state.bfd.snapshot().await, SystemTime::now());
            if json {
                out.json(&show::bfd::json(&peers, now)).await
            } else {
                out.text(show::bfd::text(&peers, now)).await
            }
        }
        Command::ShowFailover { json } => failover(state, json, out).await,
        Command::ShowRunningConfig => out.text(state.running().config.to_string()).await,
        Command::ShowVersion { json: true } => {
            out.json(&serde_json::json!({ "program": "bgpd", "version": env!("CARGO_PKG_VERSION") })).await
        }
        Command::ShowVersion { json: false } => out.text(format!("bgpd {}\n", env!("CARGO_PKG_VERSION"))).await,
        Command::ClearBgp { neighbor, how } => clear(state, neighbor, how, out).await,
        Command::Reload => order(state.control(Control::Reload).await, out).await,
        Command::ShowIpsecSa { .. }
        | Command::ShowIpsecTunnel { .. }
        | Command::ShowWan { .. }
        | Command::InitiateTunnel { .. }
        | Command::TerminateTunnel { .. } => Err(Failure::new(Code::BadRequest, "% ask ipsecd, whose command this is")),
        Command::Help | Command::Exit => Err(Failure::new(Code::BadRequest, "% this is a command of the shell")),
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

async fn clear(state: &State, neighbor: Option<std::net::IpAddr>, how: Clear, out: &Output) -> Result<(), Failure> {
    if let Some(address) = neighbor
        && !state.running().peers.contains_key(&address)
    {
        return Err(not_found(format!(
            "neighbor {address} is not configured; \"show bgp summary\" lists those that are"
        )));
    }
    order(state.control(|answer| Control::Clear { neighbor, how, answer }).await, out).await
}

async fn order(outcome: Result<String, String>, out: &Output) -> Result<(), Failure> {
    match outcome {
        Ok(line) if line.is_empty() => Ok(()),
        Ok(line) => out.text(line + "\n").await,
        Err(line) => Err(Failure::new(Code::Failed, line)),
    }
}
