//! `cargo xtask demo`: one fault, told as it happens; `cargo xtask demo NAME`: a design of `examples/` from beginning to end.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, builder::PossibleValuesParser};
use integration::designs::{ALL, Design};
use integration::edge::Binaries;
use integration::two_isp::{Fault, Trial, TwoIsp};
use integration::{Lab, packages, report};

use crate::{build, kernel, root};

/// What to show.
#[derive(Args)]
pub(crate) struct Options {
    /// The design, by its folder's name in examples/
    #[arg(default_value = TWO_ISP, value_parser = PossibleValuesParser::new(names()))]
    design: String,
    /// two-isp: how many prefixes site B announces
    #[arg(long, default_value_t = 100_000)]
    routes: usize,
    /// two-isp: what goes wrong: cut, silent, sa or session
    #[arg(long, default_value = "silent")]
    fault: Fault,
    /// two-isp: the last line of standard output is one JSON object; the story goes to standard error
    #[arg(long)]
    json: bool,
    /// gre-over-ipsec: play it in a guest that this program boots: PROGRAM --kernel new --timeout SECONDS -- COMMAND
    #[arg(long, value_name = "PROGRAM")]
    kernelbox: Option<PathBuf>,
    /// two-isp: draws the timeline into this file
    #[arg(long, value_name = "FILE.svg")]
    report: Option<PathBuf>,
}

const TWO_ISP: &str = "two-isp";

fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once(TWO_ISP).chain(ALL.iter().map(|design| design.name))
}

const PICTURE: &str = "
        site A                                                            site B
   AS 65001, 10.1.0.0/24                                           AS 65002, 10.2.0.0/24
                             198.51.100.0/24 · ISP 1
                        ┌────────[isp1]═══ tun1 ═══════════┐
   [ha]───lan───[a edge]┤                                  ├[b edge]───lan───[hb host, core router]
                        └────────[isp2]═══ tun2 ═══════════┘
                             203.0.113.0/24 · ISP 2
";

/// Runs the demonstration; `false` when something did not hold.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let binaries = build::daemons()?;
    packages::ensure(&packages::BASE)?;
    if options.kernelbox.is_some() {
        packages::ensure(&packages::PEERS)?;
        return kernel::again_in_guest(options.kernelbox.clone(), &binaries, &["demo", &options.design]);
    }
    root::ensure()?;
    let story = Story::new(options.json);
    if options.design != TWO_ISP {
        return play(Design::find(&options.design)?, &binaries, &story);
    }
    story.plain(PICTURE)?;
    let lab = Lab::new("demo")?;
    let mut scenario = TwoIsp::build(&lab, &binaries)?;
    story.tell("namespaces, links and keys are made")?;
    scenario.start()?;
    scenario.feed(options.routes)?;
    story.tell(&format!("daemons started; the core router announces {} prefixes to site B", options.routes))?;
    scenario.wait_converged()?;
    story.tell(&format!(
        "both tunnels and both sessions are up, site A has every route twice; traffic to {}",
        scenario.probed()
    ))?;
    let mut failed_to_tell = None;
    let trial =
        scenario.trial(options.fault, &mut |what| failed_to_tell = story.tell(what).err().or(failed_to_tell.take()))?;
    story.verdict(&trial)?;
    if let Some(path) = &options.report {
        std::fs::write(path, report::svg(&trial)).with_context(|| format!("cannot write {}", path.display()))?;
        story.tell(&format!("drawn into {}", path.display()))?;
    }
    drop(scenario);
    drop(lab);
    if options.json {
        println!("{}", serde_json::to_string(&trial.outcome)?);
    }
    Ok(trial.held())
}

/// Plays a design that has a story of its own.
fn play(design: &Design, binaries: &Binaries, story: &Story) -> Result<bool> {
    packages::ensure(&packages::PEERS)?;
    story.plain(design.picture())?;
    let lab = Lab::new(design.name)?;
    let mut failed_to_tell = None;
    let played =
        design.play(&lab, binaries, &mut |what| failed_to_tell = story.tell(what).err().or(failed_to_tell.take()));
    if let Err(error) = played {
        story.plain(&format!("\n  DID NOT HOLD: {error:#}"))?;
        return Ok(false);
    }
    failed_to_tell.map_or(Ok(true), Err)
}

/// Prints for people, with the time since the start.
struct Story {
    started: Instant,
    to_stderr: bool,
}

impl Story {
    fn new(to_stderr: bool) -> Self {
        Self { started: Instant::now(), to_stderr }
    }

    fn plain(&self, text: &str) -> Result<()> {
        let mut out: Box<dyn Write> =
            if self.to_stderr { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
        Ok(writeln!(out, "{text}")?)
    }

    fn tell(&self, what: &str) -> Result<()> {
        self.plain(&format!("{:9.3} s  {what}", self.started.elapsed().as_secs_f64()))
    }

    fn verdict(&self, trial: &Trial) -> Result<()> {
        let outcome = &trial.outcome;
        let figure = |value: Option<f64>| value.map_or("never".to_owned(), |ms| format!("{ms:.3} ms"));
        let mut text = String::from("\n  milliseconds after the fault\n");
        for moment in &trial.moments {
            text.push_str(&format!("  {:+12.3}  {}\n", moment.at_ns as f64 / 1e6, moment.text));
        }
        text.push_str(&format!(
            "\n  noticed after   {}\n  FIB switched in {}\n  outage          {:.3} ms\n  packets lost    {}\n  \
             in the clear    {}\n  restored        {} ({} packets lost)\n",
            figure(outcome.detect_ms),
            figure(outcome.fib_switch_ms),
            outcome.outage_ms,
            outcome.lost_packets,
            outcome.cleartext_packets,
            if outcome.restored { "yes" } else { "no" },
            outcome.restore_lost_packets
        ));
        for complaint in &trial.complaints {
            text.push_str(&format!("\n  DID NOT HOLD: {complaint}"));
        }
        self.plain(&text)
    }
}
