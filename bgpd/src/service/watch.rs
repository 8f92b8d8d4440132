//! What is watched and validated, for those who ask.

use config::command::Watch;
use rpc::Failure;

use super::{Output, routes, rpki};
use crate::state::State;

pub(super) async fn show(state: &State, what: Watch, json: bool, out: &Output) -> Result<(), Failure> {
    match what {
        Watch::Validation(family, wanted) => {
            routes::by_validation(state, family, rpki::validation(wanted), json, out).await
        }
        Watch::Rpki(view) => rpki::show(state, view, json, out).await,
    }
}
