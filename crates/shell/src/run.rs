//! One command: to its daemon, and its output through the filters to the terminal.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use config::{Command, CommandError, Owner};
use rpc::{Client, ClientError, Configure, Execute};
use tokio::time::timeout;

use crate::{daemon::Daemon, filter::Pipeline};

/// Longest silence of a daemon during a command: it answers at once or is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest line that is held back for its end; a longer one is filtered in parts.
const LONGEST_LINE: usize = 1 << 20;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    /// The daemon refused it, or it did not work.
    Failed,
    /// No such command.
    Unknown,
    /// A daemon does not answer.
    Unreachable,
    /// The reader of our output is gone.
    Deaf,
    /// The operator wants to leave.
    Leave,
    /// What follows is configuration.
    Configure,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        match status {
            Status::Done | Status::Deaf | Status::Leave | Status::Configure => Self::SUCCESS,
            Status::Failed => Self::from(1),
            Status::Unknown => Self::from(2),
            Status::Unreachable => Self::from(3),
        }
    }
}

impl Status {
    /// This one unless it is of no interest.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// Runs commands.
#[derive(Debug)]
pub(crate) struct Runner {
    run_dir: PathBuf,
}

impl Runner {
    pub(crate) fn new(run_dir: PathBuf) -> Self {
        Self { run_dir }
    }

    /// Runs one line, filters and all. What is wrong is told on standard error.
    pub(crate) async fn run(&self, line: &str) -> Status {
        let (command, pipeline) = match Pipeline::split(line) {
            Ok(parts) => parts,
            Err(error) => {
                eprintln!("% {error}");
                return Status::Unknown;
            }
        };
        if command.is_empty() {
            return Status::Done;
        }
        let (meaning, owner) = match Command::parse_with_owner(command) {
            Ok(parsed) => parsed,
            Err(error) => {
                explain(command, &error);
                return Status::Unknown;
            }
        };
        let mut output = Output::new(pipeline);
        let status = match (&meaning, owner) {
            (Command::Exit, _) => return Status::Leave,
            (Command::Configure, _) => return Status::Configure,
            (Command::Write, _) => {
                eprintln!("% {UNWRITTEN}");
                return Status::Failed;
            }
            (Command::Pager, _) => return Status::Done,
            (_, Owner::Shell) => output.write(HELP),
            (Command::ShowVersion { json: true }, _) => self.run_as_one_object(command, &mut output).await,
            (_, Owner::Either) => self.run_on_first(command, &mut output).await,
            (_, owner) => self.run_on_each(Daemon::of(owner), command, &mut output).await,
        };
        match output.finish() {
            Status::Done => status,
            deaf => deaf,
        }
    }

    /// Puts lines into the configuration that bgpd has in force.
    pub(crate) async fn configure(&self, lines: String) -> Status {
        let daemon = Daemon::Bgpd;
        let call = async {
            let client = Client::connect(&daemon.socket(&self.run_dir), "holdfast").await?;
            client.call(&Configure { lines }).await
        };
        match timeout(PATIENCE, call).await {
            Ok(Ok(configured)) => {
                if !configured.warnings.is_empty() {
                    eprintln!("{}", harmless(&configured.warnings));
                }
                Status::Done
            }
            Ok(Err(ClientError::Failed(failure))) => {
                eprintln!("% the configuration stays as it was\n{}", harmless(&failure.message));
                Status::Failed
            }
            Ok(Err(error)) => self.complain(daemon, &error),
            Err(_) => self.complain(daemon, &ClientError::Silent(daemon.socket(&self.run_dir))),
        }
    }

    /// Runs it on every one, whatever becomes of it on the others.
    async fn run_on_each(&self, daemons: &[Daemon], command: &str, output: &mut Output) -> Status {
        let mut status = Status::Done;
        for daemon in daemons {
            match self.run_on(*daemon, command, output).await {
                Ok(Status::Done) => {}
                Ok(other) => status = other,
                Err(error) => status = self.complain(*daemon, &error),
            }
        }
        status
    }

    /// Runs it on the first that is there.
    async fn run_on_first(&self, command: &str, output: &mut Output) -> Status {
        let mut absent = Vec::new();
        for daemon in Daemon::of(Owner::Either) {
            match self.run_on(*daemon, command, output).await {
                Ok(status) => return status,
                Err(error @ ClientError::Connect { .. }) => absent.push((*daemon, error)),
                Err(error) => return self.complain(*daemon, &error),
            }
        }
        for (daemon, error) in &absent {
            self.complain(*daemon, error);
        }
        Status::Unreachable
    }

    /// Runs it on both and makes one JSON object of the answers, with the daemons' names as keys.
    async fn run_as_one_object(&self, command: &str, output: &mut Output) -> Status {
        let (mut object, mut status) = (serde_json::Map::new(), Status::Done);
        for daemon in Daemon::of(Owner::Both) {
            let mut answer = Output::collecting();
            match self.run_on(*daemon, command, &mut answer).await {
                Ok(Status::Done) => match serde_json::from_str(&answer.collected) {
                    Ok(value) => drop(object.insert(daemon.name().to_owned(), value)),
                    Err(error) => {
                        eprintln!("% {} answered with something else than JSON: {error}", daemon.name());
                        status = Status::Failed;
                    }
                },
                Ok(other) => status = other,
                Err(error) => status = self.complain(*daemon, &error),
            }
        }
        match output.write(&format!("{:#}\n", serde_json::Value::Object(object))) {
            Status::Done => status,
            deaf => deaf,
        }
    }

    /// Runs it on one. An error means that the daemon could not be asked.
    async fn run_on(&self, daemon: Daemon, command: &str, output: &mut Output) -> Result<Status, ClientError> {
        let socket = daemon.socket(&self.run_dir);
        let client = Client::connect(&socket, "holdfast").await?;
        let mut stream = client.stream(&Execute { line: command.to_owned() }).await?;
        loop {
            let event = timeout(PATIENCE, stream.next()).await.map_err(|_| ClientError::Silent(socket.clone()))?;
            match event {
                None => return Ok(Status::Done),
                Some(Ok(text)) => match output.write(&text.0) {
                    Status::Done => {}
                    deaf => return Ok(deaf),
                },
                Some(Err(ClientError::Failed(failure))) => {
                    eprintln!("% {}", harmless(&failure.message));
                    return Ok(Status::Failed);
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    fn complain(&self, daemon: Daemon, error: &ClientError) -> Status {
        eprintln!("% {}", harmless(&daemon.explain(&self.run_dir, error)));
        match error {
            ClientError::Failed(_) => Status::Failed,
            _ => Status::Unreachable,
        }
    }
}

/// Shows where a line is wrong, and what could stand there.
fn explain(line: &str, error: &CommandError) {
    eprintln!("% {}", harmless(&error.message));
    let before = line.get(..error.at).unwrap_or(line);
    eprintln!("  {}\n  {:width$}^", harmless(line), "", width = before.chars().count());
    let width = error.choices.iter().map(|choice| choice.text.chars().count()).max().unwrap_or(0);
    for choice in &error.choices {
        eprintln!("  {:width$}  {}", choice.text, choice.help);
    }
}

/// Output on its way through the filters.
#[derive(Debug)]
struct Output {
    pipeline: Pipeline,
    /// The beginning of a line whose end has not come.
    partial: String,
    /// Where it goes if not to standard output.
    collected: String,
    collecting: bool,
    deaf: bool,
}

impl Output {
    fn new(pipeline: Pipeline) -> Self {
        Self { pipeline, partial: String::new(), collected: String::new(), collecting: false, deaf: false }
    }

    fn collecting() -> Self {
        Self { collecting: true, ..Self::new(Pipeline::default()) }
    }

    fn write(&mut self, text: &str) -> Status {
        if self.pipeline.is_empty() {
            return self.show(text);
        }
        self.partial.push_str(text);
        let whole: String = match self.partial.rfind('\n') {
            Some(end) => self.partial.drain(..=end).collect(),
            None if self.partial.len() > LONGEST_LINE => std::mem::take(&mut self.partial),
            None => return Status::Done,
        };
        let chosen: Vec<&str> =
            whole.split_inclusive('\n').filter(|line| self.pipeline.admits(line.trim_end_matches('\n'))).collect();
        let chosen = chosen.concat();
        self.show(&chosen)
    }

    fn finish(&mut self) -> Status {
        let mut rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() && !self.pipeline.admits(&rest) {
            rest.clear();
        }
        rest.extend(self.pipeline.finish());
        self.show(&rest)
    }

    fn show(&mut self, text: &str) -> Status {
        if self.collecting {
            self.collected.push_str(text);
            return Status::Done;
        }
        let mut stdout = io::stdout().lock();
        let text = harmless(text);
        // `| head` of the calling shell may have had enough.
        if self.deaf || stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            self.deaf = true;
            return Status::Deaf;
        }
        Status::Done
    }
}

/// Without what would steer a terminal: descriptions and host names come from remotes.
pub(crate) fn harmless(text: &str) -> String {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

const UNWRITTEN: &str = "nothing is written: the file is yours, and bgpd only reads it; put the lines of \
                         \"show running-config\" into it to have them at the next start";

const HELP: &str = "\
Type \"?\" at any place to see what may stand there, and Tab to complete it.
Words may be abbreviated as long as one meaning is left: \"sh bgp sum\".
\"configure terminal\" changes the configuration in force, \"no\" before a line takes it back, \"do\" runs a
command meanwhile and \"end\" leaves. Behind a command, \"| include PATTERN\", \"| exclude PATTERN\", \"| begin PATTERN\" and
\"| count\" choose lines of its output. Ctrl-C ends a command, \"exit\" or Ctrl-D the shell.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_does_not_hang_the_shell() {
        let directory = tempfile::tempdir().unwrap();
        let _listener = tokio::net::UnixListener::bind(Daemon::Bgpd.socket(directory.path())).unwrap();
        let runner = Runner::new(directory.path().to_owned());
        assert_eq!(runner.run("show bgp summary").await, Status::Unreachable);
    }

    #[test]
    fn a_line_without_an_end_is_not_held_back_for_ever() {
        let (_, pipeline) = Pipeline::split("x | include a").unwrap();
        let mut output = Output { collecting: true, ..Output::new(pipeline) };
        assert_eq!(output.write(&"a".repeat(LONGEST_LINE + 1)), Status::Done);
        assert_eq!((output.partial.len(), output.collected.len()), (0, LONGEST_LINE + 1));
    }

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(harmless("a\tb\n\u{1b}[2Jc\u{9b}d\r"), "a\tb\n\u{fffd}[2Jc\u{fffd}d\u{fffd}");
    }

    #[test]
    fn lines_cut_anywhere_are_filtered_whole() {
        let (_, pipeline) = Pipeline::split("x | include ab").unwrap();
        let mut output = Output { collecting: true, ..Output::new(pipeline) };
        for piece in ["a", "b\nc", "d\n", "xab", "y\nab"] {
            assert_eq!(output.write(piece), Status::Done);
        }
        assert_eq!(output.finish(), Status::Done);
        assert_eq!(output.collected, "ab\nxaby\nab");
    }
}
