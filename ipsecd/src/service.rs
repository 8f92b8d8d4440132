//! What the daemon serves on its socket: tunnels and links to follow, and the commands of the shell.
//!
//! Who may connect was decided before anything gets here. Commands are read with the grammar that the shell completes
//! them with; what changes something is logged with the user who asked.

use std::time::SystemTime;

use config::command::{Command, Owner};
use net_types::TunnelName;
use rpc::{
    Code, Execute, Failure, Heard, Service, Sink, TellSilent, Text, TunnelEvent, WanEvent, WatchTunnels, WatchWans,
    board::Change, credentials::Peer,
};
use serde_json::json;

use crate::{
    ike_loop::since_1970,
    show::{self, view},
    state::{Answer, Request, State},
};

/// Name and version, as `show version` tells them.
const PROGRAM: (&str, &str) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));

/// The service over a daemon's state.
pub fn service(state: State) -> Service {
    let told = state.clone();
    Service::new(PROGRAM.0)
        .watch::<WatchTunnels, _, _>(state.tunnels().clone(), |change| match change {
            Change::Set(_, status) => TunnelEvent::Status(status),
            Change::Removed(tunnel) => TunnelEvent::Removed(tunnel),
            Change::Synced => TunnelEvent::Synced,
        })
        .watch::<WatchWans, _, _>(state.wans().clone(), |change| match change {
            Change::Set(_, status) => WanEvent::Status(status),
            Change::Removed(wan) => WanEvent::Removed(wan),
            Change::Synced => WanEvent::Synced,
        })
        .call::<TellSilent, _, _>(move |_, request| {
            let state = told.clone();
            async move {
                let tunnels = request.tunnels.into_iter().collect();
                let heard = state.request(|answer| Request::Silent(tunnels, answer)).await;
                heard.map(|_| Heard).map_err(|why| Failure::new(Code::Failed, why))
            }
        })
        .stream::<Execute, _, _>(move |peer, request, sink| {
            let state = state.clone();
            async move {
                let output = execute(&state, peer, &request.line).await?;
                send(&sink, &output).await
            }
        })
}

/// In pieces, each when the caller wants it.
async fn send(sink: &Sink<Text>, output: &str) -> Result<(), Failure> {
    let mut rest = output;
    while !rest.is_empty() {
        let longest = rest.len().min(Text::PIECE);
        let end = (1..=longest).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        sink.send(&Text(piece.to_owned())).await?;
        rest = after;
    }
    Ok(())
}

/// Runs one command line and gives what it prints.
async fn execute(state: &State, peer: Peer, line: &str) -> Result<String, Failure> {
    let (command, owner) = Command::parse_with_owner(line).map_err(|error| Failure::new(Code::BadRequest, error))?;
    if !matches!(owner, Owner::Ipsecd | Owner::Either | Owner::Both) {
        let message = format!("\"{}\" is not a command of {}", line.trim(), PROGRAM.0);
        return Err(Failure::new(Code::BadRequest, message));
    }
    let now = SystemTime::now();
    match command {
        Command::ShowIpsecTunnel { tunnel, json } => {
            let tunnels = found("tunnel", tunnel.as_ref(), view::tunnels(state, tunnel.as_ref()))?;
            Ok(match tunnels.as_slice() {
                tunnels if json => show::pretty(&show::tunnel::json(tunnels)),
                [one] if tunnel.is_some() => show::tunnel::text(one, now),
                tunnels => show::tunnel::table(tunnels, now),
            })
        }
        Command::ShowIpsecSa { tunnel, json } => {
            let tunnels = found("tunnel", tunnel.as_ref(), view::tunnels(state, tunnel.as_ref()))?;
            Ok(if json { show::pretty(&show::sa::json(&tunnels)) } else { show::sa::text(&tunnels, now) })
        }
        Command::ShowIpsecCertificates { json } => {
            let trust = state.trust();
            Ok(match json {
                true => show::pretty(&show::certificate::json(&trust)),
                false => show::certificate::text(&trust, since_1970()),
            })
        }
        Command::ShowWan { wan, json } => {
            let wans = found("WAN", wan.as_ref(), view::wans(state, wan.as_ref()))?;
            Ok(if json { show::pretty(&show::wan::json(&wans)) } else { show::wan::text(&wans, now) })
        }
        Command::ShowRunningConfig => Ok(state.config().to_string()),
        Command::ShowVersion { json: true } => Ok(show::pretty(&json!({ PROGRAM.0: { "version": PROGRAM.1 } }))),
        Command::ShowVersion { json: false } => Ok(format!("{} {}\n", PROGRAM.0, PROGRAM.1)),
        Command::InitiateTunnel { tunnel } => {
            known(state, &tunnel)?;
            ask(state, peer, line, |answer| Request::Initiate(tunnel, answer)).await
        }
        Command::TerminateTunnel { tunnel } => {
            known(state, &tunnel)?;
            ask(state, peer, line, |answer| Request::Terminate(tunnel, answer)).await
        }
        Command::RekeyTunnel { tunnel, ike } => {
            known(state, &tunnel)?;
            ask(state, peer, line, |answer| Request::Rekey { tunnel, ike, answer }).await
        }
        Command::Reload => ask(state, peer, line, Request::Reload).await,
        // Commands of others, which `owner` has ruled out already.
        Command::ShowBgpSummary { .. }
        | Command::ShowBgp { .. }
        | Command::ShowBgpNeighbors { .. }
        | Command::ShowBgpRestart { .. }
        | Command::ShowInterface { .. }
        | Command::ShowBgpNeighborRoutes { .. }
        | Command::Policy { .. }
        | Command::Watch { .. }
        | Command::ShowBgpAttributes
        | Command::LoadMrt { .. }
        | Command::ClearMrt { .. }
        | Command::ShowBgpMemory { .. }
        | Command::ShowBgpPeerGroups { .. }
        | Command::ShowBgpVrfs { .. }
        | Command::ShowBgpVpn { .. }
        | Command::ShowRoute { .. }
        | Command::ShowBfdPeers { .. }
        | Command::ShowFailover { .. }
        | Command::ClearBgp { .. }
        | Command::ShowDampening { .. }
        | Command::ShowOutboundFilter { .. }
        | Command::ClearDampening { .. }
        | Command::ClearFailoverDamping { .. }
        | Command::Help
        | Command::Configure
        | Command::Write
        | Command::Pager
        | Command::Exit => Err(Failure::new(Code::BadRequest, format!("{} does not run this command", PROGRAM.0))),
    }
}

/// Asks the daemon's loop for a change.
async fn ask(
    state: &State,
    peer: Peer,
    line: &str,
    request: impl FnOnce(Answer) -> Request,
) -> Result<String, Failure> {
    let outcome = state.request(request).await;
    match &outcome {
        Ok(_) => tracing::info!(uid = peer.uid, command = line.trim(), "an operator's command was carried out"),
        Err(why) => tracing::warn!(uid = peer.uid, command = line.trim(), why, "an operator's command failed"),
    }
    outcome.map(with_line_end).map_err(|why| Failure::new(Code::Failed, why))
}

fn with_line_end(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn known(state: &State, tunnel: &TunnelName) -> Result<(), Failure> {
    if state.config().tunnels.contains_key(tunnel) { Ok(()) } else { Err(no_such("tunnel", tunnel)) }
}

/// What was asked for by name has to exist.
fn found<T>(what: &str, name: Option<&impl std::fmt::Display>, found: Vec<T>) -> Result<Vec<T>, Failure> {
    match name {
        Some(name) if found.is_empty() => Err(no_such(what, name)),
        _ => Ok(found),
    }
}

fn no_such(what: &str, name: &impl std::fmt::Display) -> Failure {
    let list = if what == "WAN" { "show wan" } else { "show ipsec tunnel" };
    Failure::new(Code::NotFound, format!("there is no {what} \"{name}\"; \"{list}\" lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::tests::state;

    const ROOT: Peer = Peer { uid: 0, gid: 0 };

    #[tokio::test]
    async fn commands_are_abbreviated_and_answered_as_text_or_json() {
        let (state, _requests) = state();
        let run = async |line: &str| execute(&state, ROOT, line).await.unwrap();
        assert!(run("sh ips tun").await.starts_with("Tunnel  WAN"));
        assert!(run("show ipsec tunnel tun1").await.starts_with("Tunnel tun1 over isp1: up"));
        assert!(run("show ipsec sa tun1").await.starts_with("tun1: IKE SA"));
        assert!(run("show wan").await.starts_with("WAN"));
        for line in ["show ipsec tunnel json", "show ipsec sa json", "show wan json", "show version json"] {
            let json: serde_json::Value = serde_json::from_str(&run(line).await).unwrap();
            assert!(json.is_object(), "{line}");
        }
        let version = format!("ipsecd {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run("show version").await, version);
    }

    #[tokio::test]
    async fn the_running_configuration_reads_back_as_itself() {
        let (state, _requests) = state();
        let text = execute(&state, ROOT, "show running-config").await.unwrap();
        assert_eq!(config::parse(&text).unwrap().config, *state.config());
    }

    #[tokio::test]
    async fn what_does_not_exist_or_is_not_ours_is_refused() {
        let (state, _requests) = state();
        let refused = async |line: &str| execute(&state, ROOT, line).await.unwrap_err();
        let unknown = refused("show ipsec tunnel tun9").await;
        assert_eq!(unknown.code, Code::NotFound);
        assert_eq!(unknown.message, "there is no tunnel \"tun9\"; \"show ipsec tunnel\" lists them");
        assert_eq!(refused("terminate ipsec tunnel tun9").await.code, Code::NotFound);
        assert_eq!(refused("show wan isp9").await.code, Code::NotFound);
        let others = refused("show bgp summary").await;
        assert_eq!(
            (others.code, others.message.as_str()),
            (Code::BadRequest, "\"show bgp summary\" is not a command of ipsecd")
        );
        assert_eq!(refused("show ipsec tunel").await.code, Code::BadRequest);
    }

    #[tokio::test]
    async fn changes_are_asked_of_the_daemon_and_its_answer_given_back() {
        let (state, mut requests) = state();
        let daemon = tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                match request {
                    Request::Terminate(tunnel, answer) => drop(answer.send(Ok(format!("{tunnel} is held down")))),
                    Request::Rekey { ike, answer, .. } => drop(answer.send(Ok(format!("rekeying, ike: {ike}")))),
                    Request::Reload(answer) => drop(answer.send(Err("holdfast.conf:3: no".to_owned()))),
                    _ => return, // goes without an answer
                }
            }
        });
        let run = async |line: &str| execute(&state, ROOT, line).await;
        assert_eq!(run("terminate ipsec tunnel tun1").await.unwrap(), "tun1 is held down\n");
        assert_eq!(run("rekey ipsec tunnel tun1 ike").await.unwrap(), "rekeying, ike: true\n");
        let refused = run("reload").await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (Code::Failed, "holdfast.conf:3: no"));
        assert_eq!(run("initiate ipsec tunnel tun1").await.unwrap_err().message, "the daemon is about to end");
        daemon.await.unwrap();
    }
}
