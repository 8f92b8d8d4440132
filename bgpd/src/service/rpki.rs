//! `show rpki` and `show bgp … rpki`.

use bgp_core::validation::{Roa, ValidationState};
use config::command::{RpkiState, RpkiView};
use net_types::{Asn, Prefix};
use rpc::{Failure, Text};

use super::{Output, gone};
use crate::{show::rpki as show, state::State};

/// Payloads asked of the table at a time: well below a millisecond.
const PIECE: usize = 2048;

pub(super) async fn show(state: &State, what: RpkiView, json: bool, out: &Output) -> Result<(), Failure> {
    match (what, json) {
        (RpkiView::Connections, false) => out.text(show::connections_text(&state.rpki.status().await)).await,
        (RpkiView::Connections, true) => out.json(&show::connections_json(&state.rpki.status().await)).await,
        (RpkiView::Servers, false) => out.text(show::servers_text(&state.rpki.status().await)).await,
        (RpkiView::Servers, true) => out.json(&show::servers_json(&state.rpki.status().await)).await,
        (RpkiView::Prefixes, _) => prefixes(state, json, out).await,
        (RpkiView::Prefix { prefix, asn }, _) => covering(state, prefix, asn, json, out).await,
    }
}

/// All payloads, by the piece. One that comes or goes meanwhile may be missed; none is told twice.
async fn prefixes(state: &State, json: bool, out: &Output) -> Result<(), Failure> {
    let mut buffer = if json { "{\"prefixes\":[".to_owned() } else { show::PREFIXES_HEAD.to_owned() };
    let (mut last, mut counts): (Option<Roa>, _) = (None, [0; 2]);
    loop {
        let piece = state
            .rib
            .query(move |rib, _| rib.roas().after(last.as_ref()).take(PIECE).copied().collect::<Vec<_>>())
            .await
            .map_err(gone)?;
        for roa in &piece {
            if json {
                let comma = if counts == [0; 2] { "\n" } else { ",\n" };
                buffer.push_str(comma);
                buffer.push_str(&show::prefix_json(roa).to_string());
            } else {
                buffer.push_str(&show::prefix_row(roa));
            }
            counts[show::family(roa) as usize] += 1;
            if buffer.len() >= Text::PIECE {
                out.text(std::mem::take(&mut buffer)).await?;
            }
        }
        match piece.last() {
            Some(roa) => last = Some(*roa),
            None => break,
        }
    }
    buffer.push_str(&if json { show::prefixes_json_foot(counts) } else { show::prefixes_foot(counts) });
    out.text(buffer).await
}

async fn covering(state: &State, prefix: Prefix, asn: Option<Asn>, json: bool, out: &Output) -> Result<(), Failure> {
    let (roas, verdict) = state
        .rib
        .query(move |rib, _| {
            let table = rib.roas();
            let roas: Vec<Roa> = table.covering(&prefix).take(PIECE).copied().collect();
            (roas, asn.map(|asn| (prefix, asn, table.validate_origin(&prefix, Some(asn)))))
        })
        .await
        .map_err(gone)?;
    if json {
        out.json(&show::covering_json(&roas, verdict)).await
    } else {
        out.text(show::covering_text(&roas, verdict)).await
    }
}

/// The state that a command names.
pub(super) fn validation(state: RpkiState) -> ValidationState {
    match state {
        RpkiState::Valid => ValidationState::Valid,
        RpkiState::Invalid => ValidationState::Invalid,
        RpkiState::NotFound => ValidationState::NotFound,
    }
}
