//! The prompt: completion, `?`, history.

use std::{fs, io::Write, path::PathBuf};

use config::{Command, grammar::Choice};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyEvent, RepeatCount, completion::Completer, error::ReadlineError, highlight::Highlighter, hint::Hinter,
    history::FileHistory, validate::Validator,
};
use tokio::runtime::Runtime;

use crate::{
    console::Console,
    run::{Status, harmless},
};

/// Reads commands until the input ends or the operator leaves.
pub(crate) fn run(runtime: &Runtime, console: &mut Console, terminal: bool) -> Status {
    let mut editor = match editor() {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("holdfast: cannot read from this terminal: {error}");
            return Status::Failed;
        }
    };
    let history = history_file();
    if let Some(history) = history.as_ref().filter(|_| terminal) {
        // There may be none yet.
        let _ = editor.load_history(history);
    }
    let mut last = Status::Done;
    loop {
        let prompt = if terminal { prompt(console.place()) } else { String::new() };
        match editor.readline(&prompt) {
            Ok(line) => {
                let line = line.trim();
                if !line.is_empty() && terminal {
                    // Only keeps the line from being recalled.
                    let _ = editor.add_history_entry(line);
                }
                match runtime.block_on(run_until_interrupted(console, line)) {
                    Status::Leave => break,
                    status if !line.is_empty() => last = status,
                    _ => {}
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => {
                last = last.or(runtime.block_on(console.finish()));
                break;
            }
            Err(error) => {
                eprintln!("holdfast: cannot read: {error}");
                last = Status::Failed;
                break;
            }
        }
    }
    if let Some(history) = history.filter(|_| terminal) {
        // A home that cannot be written to loses the history, nothing else.
        let _ = editor.save_history(&history);
    }
    // A person who leaves is content; a script wants to know.
    if terminal { Status::Done } else { last }
}

/// Ctrl-C ends the command and not the shell.
async fn run_until_interrupted(console: &mut Console, line: &str) -> Status {
    tokio::select! {
        status = console.line(line) => status,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\n% interrupted");
            Status::Failed
        }
    }
}

fn editor() -> rustyline::Result<Editor<Assistant, FileHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(1000)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Assistant));
    editor.bind_sequence(KeyEvent::from('?'), EventHandler::Conditional(Box::new(Assistant)));
    Ok(editor)
}

fn prompt(place: Option<&str>) -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = harmless(host.trim());
    let host = if host.is_empty() { "holdfast" } else { &host };
    place.map_or_else(|| format!("{host}# "), |place| format!("{host}({place})# "))
}

fn history_file() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".holdfast_history"))
}

/// Helps at the prompt, by the grammar.
#[derive(Clone, Copy, Debug)]
struct Assistant;

impl Helper for Assistant {}
impl Highlighter for Assistant {}
impl Validator for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(complete(line.get(..pos).unwrap_or_default()))
    }
}

impl ConditionalEventHandler for Assistant {
    /// `?`: shows what may stand at the cursor and leaves the line as it is.
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let line = context.line().get(..context.pos())?;
        if line.contains('|') {
            return None; // In a pattern it is a letter.
        }
        let mut text = format!("?{}", help(line));
        text = text.replace('\n', "\r\n"); // The terminal is in raw mode.
        let mut stdout = std::io::stdout().lock();
        // A terminal that does not take it will not take the prompt either; reading will tell.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        Some(Cmd::Repaint)
    }
}

/// Where the last word of `line` begins, and the words that could stand there, each with a space behind it.
fn complete(line: &str) -> (usize, Vec<String>) {
    if line.contains('|') {
        return (line.len(), Vec::new());
    }
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let choices = Command::choices(line).into_iter().filter(|choice| choice.literal);
    (start, choices.map(|choice| format!("{} ", choice.text)).collect())
}

fn help(line: &str) -> String {
    let choices = Command::choices(line);
    if choices.is_empty() {
        return "\n  % nothing known begins like this\n".to_owned();
    }
    let width = choices.iter().map(|choice| choice.text.chars().count()).max().unwrap_or(0);
    let lines = choices.iter().map(|Choice { text, help, .. }| format!("\n  {text:width$}  {help}"));
    lines.collect::<String>() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_words_of_the_grammar() {
        assert_eq!(complete("sh b"), (3, ["bfd ", "bgp ", "bmp "].map(str::to_owned).to_vec()));
        assert_eq!(complete("show bgp sum"), (9, vec!["summary ".to_owned()]));
        assert_eq!(complete("show bgp summary | inc"), (22, vec![]));
        assert!(complete("").1.contains(&"show ".to_owned()));
    }

    #[test]
    fn a_question_mark_shows_words_values_and_the_end() {
        let text = help("show ip route ");
        assert!(text.contains("<cr>") && text.contains("A.B.C.D/M") && text.contains("json"), "{text}");
        assert!(help("show nonsense ").contains("nothing known"));
    }
}
