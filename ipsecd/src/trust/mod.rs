//! What is known of certificates: lists of those taken back, what responders say, and when our own end.
//!
//! A task of its own reads files again, fetches, and asks, so that neither a slow disk nor a dead server holds up IKE. What it
//! knows it publishes whole; the daemon's loop hands that to the engine.

mod http;
mod lists;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use config::model::{HttpUrl, ListSource};
use ike_crypto::{
    Revocations, StatusQuery,
    pki::{CertificateNames, Heard, RevocationList, StatusKey, utc},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{ike_loop::since_1970, state::State};

/// Questions that wait to be asked; the engine asks again for what found no room.
const QUESTIONS: usize = 1024;
/// Answers that are kept. Beyond it those asked for least recently go.
const MAX_ANSWERS: usize = 8192;
/// Exchanges with servers at the same time.
const MAX_EXCHANGES: usize = 16;
/// Longest answer of a responder, certificates of a delegate included.
const MAX_ANSWER_OCTETS: usize = 64 << 10;
/// A responder that did not answer is asked again after this.
const SILENCE: Duration = Duration::from_secs(60);
/// An answer that nobody asked for again for so long is not renewed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// How often certificates are looked at for their end.
const ENDS_EVERY: Duration = Duration::from_secs(12 * 3600);
/// From when on a certificate's end is warned of.
const SOON: Duration = Duration::from_secs(30 * 86_400);

use lists::ListState;
pub(crate) use lists::{name as source_name, read_list};

/// One of our certificates, or an authority that we trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The `ipsec identity`, or the `ipsec tunnel` that names it.
    pub holder: String,
    /// What it is there.
    pub role: CertificateRole,
    /// What it says.
    pub names: CertificateNames,
}

/// What a certificate is for its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateRole {
    /// Ours.
    Own,
    /// Between ours and a root.
    Intermediate,
    /// An authority that may vouch for peers.
    Authority,
}

impl CertificateRole {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Intermediate => "intermediate",
            Self::Authority => "authority",
        }
    }
}

/// What the configuration says of trust, beyond what stands in each connection.
#[derive(Clone, Debug, Default)]
pub struct Material {
    /// Certificates of identities and tunnels.
    pub held: Vec<Held>,
    /// Lists by source. Those from files have been read, and each is there.
    pub lists: BTreeMap<ListSource, Option<RevocationList>>,
}

/// What there is to show.
#[derive(Clone, Debug, Default)]
pub struct TrustView {
    /// Certificates of identities and tunnels.
    pub held: Vec<Held>,
    /// Lists and where they come from.
    pub lists: Vec<ListView>,
    /// Responders, by URL.
    pub responders: Vec<ResponderView>,
}

/// A source of lists, and the list that it last gave.
#[derive(Clone, Debug)]
pub struct ListView {
    /// Where it comes from.
    pub source: ListSource,
    /// The list in force.
    pub list: Option<RevocationList>,
    /// Why the last attempt to renew it failed.
    pub error: Option<String>,
    /// How many attempts have failed since the daemon began.
    pub failures: u64,
}

/// A responder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponderView {
    /// Its URL.
    pub url: String,
    /// Authentic answers since the daemon began.
    pub answers: u64,
    /// Questions without one.
    pub failures: u64,
    /// Why the last one failed, until one succeeds.
    pub error: Option<String>,
}

/// The daemon's end: what to keep up to date, what to ask, and what is known.
pub(crate) struct Trust {
    material: watch::Sender<Material>,
    asker: Asker,
    known: watch::Receiver<Arc<Revocations>>,
}

/// Has responders asked.
#[derive(Clone)]
pub(crate) struct Asker(mpsc::Sender<StatusQuery>);

impl Asker {
    /// If there is room.
    pub(crate) fn ask(&self, query: StatusQuery) {
        if self.0.try_send(query).is_err() {
            tracing::warn!("more certificates to ask responders about than fit; peers will call again");
        }
    }
}

impl Trust {
    /// Starts the task; it ends with this.
    pub(crate) fn start(state: State) -> Self {
        let (material, configured) = watch::channel(Material::default());
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let (publish, known) = watch::channel(Arc::default());
        let keeper = Keeper {
            state,
            publish,
            held: Vec::new(),
            lists: BTreeMap::new(),
            answers: BTreeMap::new(),
            responders: BTreeMap::new(),
            exchanges: JoinSet::new(),
            ends_at: Instant::now(),
        };
        tokio::spawn(keeper.run(configured, asked));
        Self { material, asker: Asker(questions), known }
    }

    /// From now on this is configured. Gives what is known with it at once: nobody who was taken back may be accepted while
    /// the task has not had its turn.
    pub(crate) fn configure(&self, material: Material) -> Arc<Revocations> {
        let read = material.lists.values().flatten();
        let known = self.known.borrow().clone();
        let lists = read.chain(known.lists()).cloned().collect();
        self.material.send_replace(material);
        Arc::new(known.with_lists(lists))
    }

    /// By which to have responders asked.
    pub(crate) fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Completes with all that is known, when more is.
    pub(crate) async fn changed(&mut self) -> Arc<Revocations> {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await; // the task has ended, which it does not
        }
        self.known.borrow_and_update().clone()
    }
}

/// What a responder was asked, and what it said.
struct Asked {
    query: StatusQuery,
    heard: Option<Heard>,
    /// When the engine last wanted to know.
    wanted: Instant,
    /// When to ask again.
    again: Instant,
    underway: bool,
}

/// What an exchange brought.
enum Brought {
    List(ListSource, Result<lists::Got, String>),
    Status(StatusKey, Result<ike_crypto::pki::StatusAnswer, String>),
}

/// The task.
struct Keeper {
    state: State,
    publish: watch::Sender<Arc<Revocations>>,
    held: Vec<Held>,
    lists: BTreeMap<ListSource, ListState>,
    answers: BTreeMap<StatusKey, Asked>,
    responders: BTreeMap<String, ResponderView>,
    exchanges: JoinSet<Brought>,
    ends_at: Instant,
}

impl Keeper {
    async fn run(mut self, mut configured: watch::Receiver<Material>, mut asked: mpsc::Receiver<StatusQuery>) {
        loop {
            let deadline = self.deadline();
            tokio::select! {
                changed = configured.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let material = configured.borrow_and_update().clone();
                    self.configure(material);
                }
                Some(query) = asked.recv() => self.wanted(query),
                Some(Ok(brought)) = self.exchanges.join_next() => self.brought(brought),
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.work(Instant::now());
            self.show();
        }
    }

    fn configure(&mut self, material: Material) {
        let Material { held, lists } = material;
        self.held = held;
        self.ends_at = Instant::now();
        let mut before = std::mem::take(&mut self.lists);
        for (source, read) in lists {
            let now = Instant::now();
            let mut state = before.remove(&source).unwrap_or_else(|| ListState::new(&source, now));
            if let Some(list) = read {
                state.was_read(list, now);
            }
            self.lists.insert(source, state);
        }
        self.published();
    }

    /// The engine wants to know of a certificate. What is known already it would have found: it has run out, or comes soon.
    fn wanted(&mut self, query: StatusQuery) {
        let now = Instant::now();
        let asked = Asked { query: query.clone(), heard: None, wanted: now, again: now, underway: false };
        let asked = self.answers.entry(query.key()).or_insert(asked);
        asked.query = query;
        asked.wanted = now;
        let valid = match asked.heard {
            Some(Heard::Answer(answer)) => since_1970() < answer.next_update,
            Some(Heard::Nothing { until }) => since_1970() < until,
            None => false,
        };
        if !valid {
            asked.again = now;
        }
        if self.answers.len() > MAX_ANSWERS {
            let oldest = self.answers.iter().min_by_key(|(_, asked)| asked.wanted).map(|(key, _)| *key);
            oldest.and_then(|key| self.answers.remove(&key));
        }
    }

    fn brought(&mut self, brought: Brought) {
        let now = Instant::now();
        match brought {
            Brought::List(source, outcome) => {
                let Some(state) = self.lists.get_mut(&source) else { return }; // not configured any more
                match outcome {
                    Ok(got) => {
                        if !state.got(got, since_1970(), now) {
                            return;
                        }
                    }
                    Err(error) => {
                        let source = lists::name(&source);
                        tracing::warn!(source, error, "a revocation list could not be renewed");
                        return state.failed(error, now);
                    }
                }
            }
            Brought::Status(key, outcome) => {
                let Some(asked) = self.answers.get_mut(&key) else { return };
                asked.underway = false;
                let url = asked.query.responder().to_owned();
                let responder = self.responders.entry(url.clone()).or_default();
                let unix = since_1970();
                let heard = match outcome {
                    Ok(answer) => {
                        responder.answers += 1;
                        responder.error = None;
                        // Well before it runs out, so that no handshake has to wait.
                        let left = answer.next_update.saturating_sub(unix);
                        asked.again = now + left.mul_f64(0.75).clamp(SILENCE, FORGOTTEN);
                        Heard::Answer(answer)
                    }
                    Err(error) => {
                        tracing::warn!(responder = url, error, "a responder gave no answer that can be used");
                        responder.failures += 1;
                        responder.error = Some(error);
                        asked.again = now + SILENCE;
                        match asked.heard {
                            // What it said before stands as long as it said.
                            Some(Heard::Answer(before)) if unix < before.next_update => Heard::Answer(before),
                            _ => Heard::Nothing { until: unix + SILENCE },
                        }
                    }
                };
                if asked.heard.replace(heard) == Some(heard) {
                    return;
                }
            }
        }
        self.published();
    }

    /// Begins what is due, as far as there is room.
    fn work(&mut self, now: Instant) {
        self.answers.retain(|_, asked| asked.underway || asked.wanted + FORGOTTEN > now);
        for (source, state) in &mut self.lists {
            if self.exchanges.len() < MAX_EXCHANGES && state.due().is_some_and(|due| due <= now) {
                state.begin();
                self.exchanges.spawn(lists::renew(source.clone(), state.seen()));
            }
        }
        for (key, asked) in &mut self.answers {
            if self.exchanges.len() < MAX_EXCHANGES && !asked.underway && asked.again <= now {
                asked.underway = true;
                let (key, query) = (*key, asked.query.clone());
                self.exchanges.spawn(async move { Brought::Status(key, ask(&query).await) });
            }
        }
        if self.ends_at <= now {
            self.ends_at = now + ENDS_EVERY;
            self.warn_of_ends();
        }
    }

    /// When something is due that no exchange in progress brings.
    fn deadline(&self) -> Instant {
        let lists = self.lists.values().filter_map(ListState::due);
        let answers = self.answers.values().filter(|asked| !asked.underway).map(|asked| asked.again);
        // With all exchanges taken, the end of one is what to wait for.
        let exchanges = lists.chain(answers).filter(|_| self.exchanges.len() < MAX_EXCHANGES);
        exchanges.chain([self.ends_at]).min().unwrap_or(self.ends_at)
    }

    fn published(&self) {
        let lists = self.lists.values().filter_map(|state| state.list().cloned()).collect();
        let answers = self.answers.iter().filter_map(|(key, asked)| Some((*key, asked.heard?))).collect();
        self.publish.send_replace(Arc::new(Revocations::new(lists, answers)));
    }

    fn show(&self) {
        let lists = self.lists.iter().map(|(source, state)| state.view(source.clone())).collect();
        let responders =
            self.responders.iter().map(|(url, view)| ResponderView { url: url.clone(), ..view.clone() }).collect();
        self.state.set_trust(TrustView { held: self.held.clone(), lists, responders });
    }

    fn warn_of_ends(&self) {
        let now = since_1970();
        for Held { holder, role, names } in &self.held {
            let (subject, role) = (&names.subject, role.name());
            let end = utc(names.not_after);
            if names.not_after <= now {
                tracing::error!(holder, role, %subject, end, "a certificate has expired; peers refuse it");
            } else if names.not_after <= now + SOON {
                let days = (names.not_after - now).as_secs() / 86_400;
                tracing::warn!(holder, role, %subject, end, days, "a certificate ends soon; renew it and reload");
            }
        }
    }
}

/// RFC 6960 appendix A.1.
async fn ask(query: &StatusQuery) -> Result<ike_crypto::pki::StatusAnswer, String> {
    let url: HttpUrl = query.responder().parse().map_err(|error: config::model::HttpUrlError| error.to_string())?;
    let post = http::Post { kind: "application/ocsp-request", body: query.request().to_vec() };
    let response = http::fetch(&url, Some(post), MAX_ANSWER_OCTETS).await.map_err(|error| error.to_string())?;
    query.read(&response, since_1970()).map_err(|error| error.to_string())
}
