//! The shell as a script sees it: its output and exit status, against daemons that answer by heart.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use rpc::{Code, Execute, Failure, Limits, Server, Service, Text};

/// Daemons on threads of their own, in a run-dir.
struct Lab {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    fn start(daemons: &[&'static str]) -> Self {
        let lab = Self {
            directory: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
        };
        for daemon in daemons {
            lab.runtime.spawn({
                let _guard = lab.runtime.enter();
                serve(daemon, lab.directory.path()).run()
            });
        }
        lab
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command.arg("--run-dir").arg(self.directory.path()).args(arguments);
        command
    }
}

fn serve(daemon: &'static str, run_dir: &Path) -> Server {
    let service = Service::new(daemon).stream::<Execute, _, _>(move |_, request, sink| async move {
        match config::Command::parse(&request.line).map_err(|error| Failure::new(Code::BadRequest, error))? {
            config::Command::ShowVersion { json: true } => {
                sink.send(&Text(format!("{{\"program\": \"{daemon}\"}}\n"))).await?;
            }
            config::Command::ShowVersion { .. } => sink.send(&Text(format!("{daemon} 1.0\n"))).await?,
            config::Command::ShowRunningConfig => sink.send(&Text(format!("hostname {daemon}\n"))).await?,
            config::Command::ShowBgp { .. } => {
                for number in 0..5000 {
                    sink.send(&Text(format!("10.{}.{}.0/24 via 192.0.2.{}\n", number / 256, number % 256, number % 2)))
                        .await?;
                }
            }
            config::Command::ShowWan { .. } => sink.send(&Text("isp1 \u{1b}[2Jup\n".into())).await?,
            other => return Err(Failure::new(Code::NotFound, format!("{other:?} is not known here"))),
        }
        Ok(())
    });
    let socket = run_dir.join(format!("{daemon}.sock"));
    Server::bind(&socket, service, Limits::default()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn commands_go_to_their_daemons() {
    let lab = Lab::start(&["bgpd", "ipsecd"]);
    let output = lab.run(&["-c", "sh ver", "-c", "sh run"]);
    assert_eq!(stdout(&output), "bgpd 1.0\nipsecd 1.0\nhostname bgpd\n");
    assert_eq!(output.status.code(), Some(0));
    let object: serde_json::Value = serde_json::from_str(&stdout(&lab.run(&["-c", "show version json"]))).unwrap();
    assert_eq!(object["ipsecd"]["program"], "ipsecd");
    assert!(stdout(&lab.run(&["-c", "help"])).contains("Tab"));
}

#[test]
fn long_output_streams_through_filters() {
    let lab = Lab::start(&["bgpd"]);
    assert_eq!(stdout(&lab.run(&["-c", "show bgp ipv4 unicast"])).lines().count(), 5000);
    assert_eq!(stdout(&lab.run(&["-c", "show bgp ipv4 unicast | include \\.1$ | count"])), "2500\n");
    let output = lab.run(&["-c", "show bgp ipv4 unicast | begin 10.19.135.0"]);
    assert_eq!(stdout(&output), "10.19.135.0/24 via 192.0.2.1\n");
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let lab = Lab::start(&["bgpd"]);
    let failed = lab.run(&["-c", "show bfd peers", "-c", "show version"]);
    assert_eq!((failed.status.code(), stdout(&failed).as_str()), (Some(1), ""), "the first failure ends it");
    assert!(stderr(&failed).contains("is not known here"));
    let unknown = lab.run(&["-c", "show bgp sumary"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("did you mean \"summary\"?"), "{}", stderr(&unknown));
    assert_eq!(lab.run(&["-c", "show version | grep x"]).status.code(), Some(2));
    let absent = lab.run(&["-c", "show wan"]);
    assert_eq!(absent.status.code(), Some(3));
    assert!(stderr(&absent).contains("ipsecd does not run here"), "{}", stderr(&absent));
}

#[test]
fn the_configuration_is_shown_by_whichever_daemon_is_there() {
    assert_eq!(stdout(&Lab::start(&["ipsecd"]).run(&["-c", "show running-config"])), "hostname ipsecd\n");
    let neither = Lab::start(&[]).run(&["-c", "show running-config"]);
    assert_eq!(neither.status.code(), Some(3));
    assert!(stderr(&neither).contains("bgpd does not run") && stderr(&neither).contains("ipsecd does not run"));
}

#[test]
fn one_daemon_down_does_not_keep_the_other_from_answering() {
    let output = Lab::start(&["ipsecd"]).run(&["-c", "show version"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("ipsecd 1.0\n", Some(3)));
}

#[test]
fn output_cannot_steer_the_terminal() {
    let lab = Lab::start(&["ipsecd"]);
    assert_eq!(stdout(&lab.run(&["-c", "show wan"])), "isp1 \u{fffd}[2Jup\n");
}

#[test]
fn commands_are_read_from_a_pipe() {
    let lab = Lab::start(&["bgpd"]);
    let mut shell =
        lab.command(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"show running-config\n\nnonsense\nexit\nshow running-config\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("hostname bgpd\n", Some(2)));
}
