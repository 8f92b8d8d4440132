//! Revocation lists from files and servers: when each is due, and how it is got.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use config::model::ListSource;
use ike_crypto::pki::RevocationList;
use tokio::time::Instant;

use super::{Brought, ListView, http};

/// Longest list: some 400,000 certificates.
const MAX_LIST_OCTETS: usize = 16 << 20;
/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Least and most time between two fetches of a list, whatever it says of itself.
const FETCH_APART: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(24 * 3600));
/// After a failure, doubled with each one that follows.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
const MOST_AFTER_FAILURE: Duration = Duration::from_secs(3600);

/// Which state of a file was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    modified: Option<SystemTime>,
    octets: u64,
}

/// A source and what it gave.
#[derive(Clone, Debug)]
pub(crate) struct ListState {
    is_file: bool,
    list: Option<RevocationList>,
    seen: Option<Seen>,
    error: Option<String>,
    failures: u64,
    in_a_row: u32,
    /// When to get it again; `None` while that is under way.
    due: Option<Instant>,
}

/// What getting it brought.
pub(super) struct Got {
    /// The file's state; nothing for what was fetched.
    seen: Option<Seen>,
    /// `None` for a file that is as it was.
    list: Option<RevocationList>,
}

impl ListState {
    /// Nothing is known yet of this source.
    pub(super) fn new(source: &ListSource, now: Instant) -> Self {
        let is_file = matches!(source, ListSource::File(_));
        Self { is_file, list: None, seen: None, error: None, failures: 0, in_a_row: 0, due: Some(now) }
    }

    pub(super) fn list(&self) -> Option<&RevocationList> {
        self.list.as_ref()
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.seen
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn begin(&mut self) {
        self.due = None;
    }

    /// Read together with the configuration.
    pub(super) fn was_read(&mut self, list: RevocationList, now: Instant) {
        self.list = Some(list);
        self.due = Some(now + LOOK_EVERY);
    }

    /// Says whether there is another list than before.
    pub(super) fn got(&mut self, got: Got, unix: Duration, now: Instant) -> bool {
        (self.error, self.in_a_row, self.seen) = (None, 0, got.seen);
        let changed = got.list.is_some();
        self.list = got.list.or(self.list.take());
        let left = self.list.as_ref().map_or(Duration::ZERO, |list| list.next_update().saturating_sub(unix));
        let pause = if self.is_file { LOOK_EVERY } else { left.mul_f64(0.75).clamp(FETCH_APART.0, FETCH_APART.1) };
        self.due = Some(now + pause);
        changed
    }

    /// The list that there was stays: it is still authentic, and says itself until when it is true.
    pub(super) fn failed(&mut self, error: String, now: Instant) {
        self.failures += 1;
        let pause = AFTER_FAILURE.saturating_mul(1 << self.in_a_row.min(7)).min(MOST_AFTER_FAILURE);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.due = Some(now + if self.is_file { LOOK_EVERY } else { pause });
        self.error = Some(error);
    }

    pub(super) fn view(&self, source: ListSource) -> ListView {
        ListView { source, list: self.list.clone(), error: self.error.clone(), failures: self.failures }
    }
}

/// As the configuration says it.
pub(crate) fn name(source: &ListSource) -> String {
    match source {
        ListSource::File(path) => path.display().to_string(),
        ListSource::Url(url) => url.to_string(),
    }
}

/// Gets the list anew; a file only if it is another than the one seen.
pub(super) async fn renew(source: ListSource, seen: Option<Seen>) -> Brought {
    let got = match &source {
        ListSource::Url(url) => match http::fetch(url, None, MAX_LIST_OCTETS).await {
            Ok(octets) => RevocationList::read(&octets)
                .map(|list| Got { seen: None, list: Some(list) })
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
        ListSource::File(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || read_anew(&path, seen)).await;
            read.unwrap_or_else(|panicked| Err(panicked.to_string()))
        }
    };
    Brought::List(source, got)
}

fn read_anew(path: &Path, seen: Option<Seen>) -> Result<Got, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let found = Seen { modified: metadata.modified().ok(), octets: metadata.len() };
    if seen == Some(found) {
        return Ok(Got { seen, list: None });
    }
    read_list(path).map(|list| Got { seen: Some(found), list: Some(list) })
}

/// Reads a list from a file.
///
/// # Errors
/// In words for people.
pub(crate) fn read_list(path: &Path) -> Result<RevocationList, String> {
    let octets = read(path).map_err(|error| format!("cannot be read: {error}"))?;
    RevocationList::read(&octets).map_err(|error| error.to_string())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut octets = Vec::new();
    let mut file = fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Read::by_ref(&mut file).take(MAX_LIST_OCTETS as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > MAX_LIST_OCTETS {
        return Err(io::Error::other(format!("it is longer than {MAX_LIST_OCTETS} octets")));
    }
    Ok(octets)
}
