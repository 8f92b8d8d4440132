//! Lines one after another: commands, and after `configure terminal` lines of configuration until they are left.
//!
//! A person's lines are put in force one by one, as in FRR; those of a script together, so that it has all of its effect or
//! none. The file that bgpd starts from is the operator's: nothing here writes it.

use config::{Moved, Place};

use crate::run::{Runner, Status};

/// Who types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typist {
    Person,
    Script,
}

/// Takes lines.
#[derive(Debug)]
pub(crate) struct Console {
    runner: Runner,
    typist: Typist,
    session: Option<Session>,
}

/// What `configure terminal` has collected.
#[derive(Debug, Default)]
struct Session {
    place: Place,
    /// Lines that are not in force yet.
    lines: String,
}

impl Console {
    pub(crate) fn new(runner: Runner, typist: Typist) -> Self {
        Self { runner, typist, session: None }
    }

    /// From here on lines are configuration.
    pub(crate) fn configure(&mut self) {
        self.session = Some(Session::default());
    }

    /// Where in a configuration the next line stands, as the prompt says it.
    pub(crate) fn place(&self) -> Option<&'static str> {
        self.session.as_ref().map(|session| session.place.prompt())
    }

    /// Takes one line.
    pub(crate) async fn line(&mut self, line: &str) -> Status {
        let Some(session) = &mut self.session else {
            let status = self.runner.run(line).await;
            if status == Status::Configure {
                self.configure();
                return Status::Done;
            }
            return status;
        };
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [] => return Status::Done,
            [first, ..] if first.starts_with(['!', '#']) => return Status::Done,
            ["configure", "terminal"] => return Status::Done,
            ["do", ..] => {
                let command = line.trim_start().strip_prefix("do").unwrap_or_default().to_owned();
                return match self.hand_over().await {
                    Status::Done => self.runner.run(command.trim()).await,
                    refused => refused,
                };
            }
            _ => {}
        }
        let before = session.place.clone();
        match session.place.take(line) {
            Moved::Out => {
                let status = self.hand_over().await;
                self.session = None;
                return status;
            }
            Moved::No if self.typist == Typist::Script => {
                session.lines.push_str(line);
                session.lines.push('\n');
                return Status::Done;
            }
            // Only left a section.
            Moved::No if matches!(words.as_slice(), ["exit" | "quit" | "exit-address-family"]) => return Status::Done,
            Moved::No => {}
        }
        session.lines = before.around().iter().map(|opener| format!("{opener}\n")).collect();
        session.lines.push_str(line);
        session.lines.push('\n');
        let status = self.hand_over().await;
        if status != Status::Done
            && let Some(session) = &mut self.session
        {
            session.place = before;
        }
        status
    }

    /// There are no more lines: what has been collected is put in force.
    pub(crate) async fn finish(&mut self) -> Status {
        let status = self.hand_over().await;
        self.session = None;
        status
    }

    async fn hand_over(&mut self) -> Status {
        let Some(session) = &mut self.session else { return Status::Done };
        let lines = std::mem::take(&mut session.lines);
        // What follows stands where these lines end.
        if self.typist == Typist::Script {
            session.lines = session.place.around().iter().map(|opener| format!("{opener}\n")).collect();
        }
        if lines.is_empty() { Status::Done } else { self.runner.configure(lines).await }
    }
}
