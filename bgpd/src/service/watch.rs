//! What is watched and validated, for those who ask.

use std::time::SystemTime;

use config::command::Watch;
use rpc::Failure;

use super::{Output, routes, rpki};
use crate::{show, state::State};

pub(super) async fn show(state: &State, what: Watch, json: bool, out: &Output) -> Result<(), Failure> {
    match what {
        Watch::Validation(family, wanted) => {
            routes::by_validation(state, family, rpki::validation(wanted), json, out).await
        }
        Watch::Rpki(view) => rpki::show(state, view, json, out).await,
        Watch::Events if json => out.json(&state.tap.to_json()).await,
        Watch::Events => out.text(state.tap.to_text()).await,
        Watch::Bmp if json => out.json(&show::bmp::json(&state.bmp.status())).await,
        Watch::Bmp => out.text(show::bmp::text(&state.bmp.status(), SystemTime::now())).await,
    }
}
