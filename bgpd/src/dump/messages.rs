//! `dump bgp all` and `dump bgp updates`: what neighbors send, as it comes.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    time::{Instant, SystemTime},
};

use bytes::BytesMut;
use config::model::Dump;
use mrt::{Body, Record};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::{info, warn};

use super::file::named;
use crate::tap::{Happened, Seen, Tap};

/// The place of the type in a BGP message, and UPDATE's.
const TYPE: (usize, u8) = (18, 2);

/// A file that messages go to.
struct Target {
    dump: Dump,
    updates_only: bool,
    open: Option<(BufWriter<File>, Instant)>,
    /// The last trouble, so that it is said once.
    trouble: Option<String>,
}

/// Starts to write; ends when the tap's channel does.
pub(super) fn start(all: Option<Dump>, updates: Option<Dump>, tap: &Tap) -> JoinHandle<()> {
    let (messages, tap) = (tap.listen(), tap.clone());
    let target = |dump, updates_only| Target { dump, updates_only, open: None, trouble: None };
    let targets: Vec<Target> =
        all.map(|dump| target(dump, false)).into_iter().chain(updates.map(|dump| target(dump, true))).collect();
    tokio::task::spawn_blocking(move || write_all(messages, targets, &tap))
}

fn write_all(mut messages: mpsc::Receiver<Seen>, mut targets: Vec<Target>, tap: &Tap) {
    let mut record = BytesMut::new();
    while let Some(seen) = messages.blocking_recv() {
        let is_update =
            matches!(&seen.what, Happened::Received { message, .. } if message.get(TYPE.0) == Some(&TYPE.1));
        record.clear();
        emit(&seen, &mut record);
        for target in targets.iter_mut().filter(|target| is_update || !target.updates_only) {
            let written = target.write(&record);
            target.note(written);
        }
        if messages.is_empty() {
            // A quiet moment: whoever reads the file sees everything up to now.
            for target in &mut targets {
                let flushed = target.open.as_mut().map_or(Ok(()), |(file, _)| file.flush());
                target.note(flushed);
            }
            let lost = tap.take_lost();
            if lost > 0 {
                warn!(lost, "messages are not in the MRT dump: they came faster than the disk takes them");
            }
        }
    }
}

fn emit(seen: &Seen, out: &mut BytesMut) {
    let (at, session) = (seen.at, seen.session);
    let body = match &seen.what {
        Happened::Received { four_octet_as, message } => Body::Message {
            session,
            four_octet_as: *four_octet_as,
            add_path: false,
            sent: false,
            message: message.clone(),
        },
        Happened::Changed { from, to } => Body::StateChange { session, from: *from, to: *to },
    };
    Record { at, body }.emit(out);
}

impl Target {
    fn write(&mut self, record: &[u8]) -> io::Result<()> {
        let over = |begun: Instant| self.dump.interval.is_some_and(|interval| begun.elapsed() >= interval);
        if self.open.as_ref().is_none_or(|(_, begun)| over(*begun)) {
            if let Some((mut file, _)) = self.open.take() {
                file.flush()?;
            }
            let name = named(&self.dump.file, SystemTime::now());
            let file = File::options().create(true).append(true).open(&name)?;
            info!(file = %name.display(), "MRT dump of messages begun");
            self.open = Some((BufWriter::new(file), Instant::now()));
        }
        self.open.as_mut().map_or(Ok(()), |(file, _)| file.write_all(record))
    }

    fn note(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.trouble = None,
            Err(error) => {
                self.open = None;
                let text = error.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    warn!(file = %self.dump.file.display(), %error, "messages are not dumped; trying again with the next one");
                    self.trouble = Some(text);
                }
            }
        }
    }
}
